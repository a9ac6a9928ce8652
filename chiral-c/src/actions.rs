//! What a policy sends.

use chiral_blocking::proto::timeline::Starved;
use chiral_blocking::proto::{Action, ActionDeclaration, ActionKind, Rate};

use crate::client::chiral_client;
use crate::error::{CHIRAL_OK, Failure, chiral_status, guard, guard_or};
use crate::memory;
use crate::observation::chiral_observation;

/// What the numbers of an action mean: 0 where nobody says, or one of `CHIRAL_ABSOLUTE`,
/// `CHIRAL_DELTA`, `CHIRAL_VELOCITY`.
pub type chiral_action_kind = i32;

/// Where to be, such as joint positions: the same action again means to stay.
pub const CHIRAL_ABSOLUTE: chiral_action_kind = 1;
/// How far to go from here: the same action again means to go as far once more.
pub const CHIRAL_DELTA: chiral_action_kind = 2;
/// How fast to move: the same action again means to go on.
pub const CHIRAL_VELOCITY: chiral_action_kind = 3;

pub(crate) fn kind_of(kind: chiral_action_kind) -> Result<Option<ActionKind>, Failure> {
    match kind {
        0 => Ok(None),
        CHIRAL_ABSOLUTE => Ok(Some(ActionKind::Absolute)),
        CHIRAL_DELTA => Ok(Some(ActionKind::Delta)),
        CHIRAL_VELOCITY => Ok(Some(ActionKind::Velocity)),
        _ => Err(Failure::misuse(format_args!("{kind} is no kind of action"))),
    }
}

/// The values of `count` actions of `width` each, one behind the other.
///
/// # Safety
/// The pointer is null, or one to so many values that stay as they are for as long as `'a`.
pub(crate) unsafe fn rows<'a>(
    values: *const f32,
    count: usize,
    width: usize,
) -> Result<&'a [f32], Failure> {
    let len = count.checked_mul(width);
    let len = len.ok_or_else(|| Failure::misuse("there cannot be so many values"))?;
    // SAFETY: the caller's promise.
    unsafe { memory::slice(values, len, "values") }
}

/// As [`rows`], as actions.
///
/// # Safety
/// As there.
pub(crate) unsafe fn actions(
    values: *const f32,
    count: usize,
    width: usize,
) -> Result<Vec<Action>, Failure> {
    // SAFETY: the caller's promise.
    let values = unsafe { rows(values, count, width)? };
    if width == 0 {
        return Ok(std::iter::repeat_n(&[][..], count).map(|row: &[f32]| row.into()).collect());
    }
    Ok(values.chunks_exact(width).map(Action::from).collect())
}

/// Sends an action of `width` values at once, without waiting for a tick. `observation` is the one
/// on which it was decided, or null for the latest.
///
/// Any thread; never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_client_send(
    client: *const chiral_client,
    observation: *const chiral_observation,
    values: *const f32,
    width: usize,
) -> chiral_status {
    guard(|| {
        // SAFETY: as the header asks of callers.
        let client = unsafe { memory::borrow(client, "client")? };
        // SAFETY: as the header asks of callers.
        let mut action = Action::from(unsafe { rows(values, 1, width)? });
        // SAFETY: as the header asks of callers.
        if let Some(observation) = unsafe { observation.as_ref() } {
            action = action.decided_on(&observation.shared);
        }
        client.0.send_action(action)?;
        Ok(CHIRAL_OK)
    })
}

/// Appends `count` actions of `width` values each to the queue, of which the dispatch sends one a
/// tick. `observation` is the one on which they were decided; null means the latest when each leaves.
///
/// Any thread; never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_client_put(
    client: *const chiral_client,
    observation: *const chiral_observation,
    values: *const f32,
    count: usize,
    width: usize,
) -> chiral_status {
    guard(|| {
        // SAFETY: as the header asks of callers.
        let client = unsafe { memory::borrow(client, "client")? };
        // SAFETY: as the header asks of callers.
        let mut actions = unsafe { actions(values, count, width)? };
        // SAFETY: as the header asks of callers.
        match (unsafe { observation.as_ref() }, actions.len()) {
            (Some(observation), _) => client.0.put_chunk(&observation.shared, actions)?,
            (None, 1) => client.0.put_action(actions.remove(0))?,
            (None, _) => {
                return Err(Failure::misuse(
                    "a chunk needs its observation: give it, or put the actions one by one",
                ));
            }
        }
        Ok(CHIRAL_OK)
    })
}

/// Drops the actions that have not left yet, and returns how many there were.
///
/// Any thread; never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_client_clear(client: *const chiral_client) -> usize {
    // SAFETY: as the header asks of callers.
    guard_or(0, || Ok(unsafe { memory::borrow(client, "client")? }.0.clear_actions()))
}

/// How many actions wait in the queue.
///
/// Any thread; never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_client_queued(client: *const chiral_client) -> usize {
    // SAFETY: as the header asks of callers.
    guard_or(0, || Ok(unsafe { memory::borrow(client, "client")? }.0.queued_actions()))
}

/// Sends one queued action a tick from now on, at a rate in hertz; stops at a rate of 0, and the
/// actions stay in the queue.
///
/// Any thread; never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_client_dispatch(
    client: *const chiral_client,
    hz: f64,
) -> chiral_status {
    guard(|| {
        // SAFETY: as the header asks of callers.
        let client = unsafe { memory::borrow(client, "client")? };
        if hz == 0.0 {
            client.0.stop_action_dispatch();
        } else {
            client.0.start_action_dispatch(Rate::hz(hz).map_err(Failure::misuse)?)?;
        }
        Ok(CHIRAL_OK)
    })
}

/// What is sent at a tick that finds no row.
pub type chiral_starved = i32;

/// Nothing: the robot's watchdog notices.
pub const CHIRAL_SEND_NOTHING: chiral_starved = 0;
/// The last row again. Only where actions are absolute.
pub const CHIRAL_REPEAT: chiral_starved = 1;
/// The action that is given with it.
pub const CHIRAL_HOLD: chiral_starved = 2;
/// What the robot has declared: its hold action; else the last row again if its actions are
/// absolute; else nothing.
pub const CHIRAL_DECLARED: chiral_starved = 3;

/// Sets what is sent at a tick that finds no row. `values` are those of `CHIRAL_HOLD`, else null.
///
/// Any thread; never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_client_set_starved(
    client: *const chiral_client,
    starved: chiral_starved,
    values: *const f32,
    width: usize,
) -> chiral_status {
    guard(|| {
        // SAFETY: as the header asks of callers.
        let client = unsafe { memory::borrow(client, "client")? };
        // SAFETY: as the header asks of callers.
        let hold = unsafe { rows(values, 1, width)? };
        let starved = match starved {
            CHIRAL_SEND_NOTHING => Starved::SendNothing,
            CHIRAL_REPEAT => Starved::Repeat,
            CHIRAL_HOLD => Starved::Hold(hold.into()),
            CHIRAL_DECLARED => Starved::Declared,
            _ => return Err(Failure::misuse(format_args!("{starved} is no `chiral_starved`"))),
        };
        client.0.set_starved(starved)?;
        Ok(CHIRAL_OK)
    })
}

/// Sends `points` actions to a row, on the straight line between the rows; 1 sends the rows alone.
///
/// Any thread; never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_client_interpolate(
    client: *const chiral_client,
    points: u32,
) -> chiral_status {
    guard(|| {
        // SAFETY: as the header asks of callers.
        unsafe { memory::borrow(client, "client")? }.0.interpolate(points)?;
        Ok(CHIRAL_OK)
    })
}

/// Says what the robot's actions are, for a robot whose metadata does not. `hold`, of `width` values,
/// makes it stay where it is, and may be null.
///
/// Any thread; never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_client_declare_actions(
    client: *const chiral_client,
    kind: chiral_action_kind,
    hold: *const f32,
    width: usize,
) -> chiral_status {
    guard(|| {
        // SAFETY: as the header asks of callers.
        let client = unsafe { memory::borrow(client, "client")? };
        let mut declared = match kind_of(kind)? {
            Some(kind) => ActionDeclaration::new(kind),
            None => ActionDeclaration::default(),
        };
        if !hold.is_null() {
            // SAFETY: as the header asks of callers.
            declared = declared.hold(unsafe { rows(hold, 1, width)? });
        }
        client.0.declare_actions(declared);
        Ok(CHIRAL_OK)
    })
}
