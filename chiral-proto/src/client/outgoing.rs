use crate::{Action, Array, Dtype};

/// The action as `float32`, the one dtype that every existing robot server reads.
pub(super) fn as_float32(action: Action) -> Action {
    if action.values.dtype() == Dtype::F32 {
        return action;
    }
    let values = action.values.to_f32().into_owned();
    let shape = action.values.shape().clone();
    let values = Array::from_vec(shape, values).expect("as many elements as before");
    Action { values, ..action }
}

/// The action of a legacy step, which is `[N, D]`: of a vector the one row.
pub(super) fn as_rows(action: Action) -> Action {
    let shape = match **action.values.shape() {
        [] => [1, 1],
        [len] => [1, len],
        _ => return action,
    };
    let values = Array::new(action.values.dtype(), shape, action.values.bytes().clone());
    Action { values: values.expect("as many elements as before"), ..action }
}
