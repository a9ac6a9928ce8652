//! What the fuzz targets share: for the wire format here, for the machines in [`machines`], for the
//! driver in [`driver`], for robots that are served in [`motion`].

pub mod driver;
pub mod machines;
pub mod motion;

use bytes::Bytes;
use chiral_proto::wire::{Frame, Limits, WireError};
use chiral_proto::{Action, Array, Map, Observation};

/// Decodes one frame, whole and in segments that the input itself determines: both must give the
/// same message, or the same error.
///
/// Messages are compared by their encoding, because a NaN does not equal itself.
///
/// # Panics
/// When the two differ: that is a finding.
pub fn decode_whole_and_cut<M>(
    data: &[u8],
    decode: impl Fn(&Frame, &Limits) -> Result<M, WireError>,
    encode: impl Fn(&M) -> Frame,
) -> Option<M> {
    let limits = Limits::default();
    let data = Bytes::copy_from_slice(data);
    let whole = Frame::parse(data.clone(), &limits).and_then(|frame| decode(&frame, &limits));
    let cut =
        Frame::parse_segments(segments(&data), &limits).and_then(|frame| decode(&frame, &limits));
    match (whole, cut) {
        (Ok(whole), Ok(cut)) => {
            assert_eq!(encode(&whole), encode(&cut));
            Some(whole)
        }
        (whole, cut) => {
            let (error, same) = (whole.err(), cut.err());
            assert_eq!(error, same);
            let error = error.expect("one of them is an error");
            assert!(error.offset() <= data.len() && error.to_string().len() < 600, "{error}");
            None
        }
    }
}

/// The input in three segments. Every mutation moves the boundaries.
fn segments(data: &Bytes) -> [Bytes; 3] {
    let sum: usize = data.iter().copied().map(usize::from).sum();
    let end = data.len();
    let second = sum % (end + 1);
    let first = sum / 7 % (second + 1);
    [data.slice(..first), data.slice(first..second), data.slice(second..)]
}

/// Calls every accessor of an observation.
///
/// # Panics
/// When a view contradicts another: that is a finding.
pub fn look_at_observation(observation: &Observation) {
    for camera in &observation.cameras {
        assert!(observation.camera(&camera.name).is_ok());
        look_at_array(&camera.image);
        camera.depth.iter().for_each(look_at_array);
    }
    for proprio in &observation.proprios {
        assert_eq!(proprio.values.shape().len(), 1);
        look_at_array(&proprio.values);
    }
    let timestamps = observation.camera_timestamps();
    assert!(timestamps.len() <= observation.cameras.len());
    look_at_map(&observation.extra);
    let _ = format!("{observation:?}");
}

/// Calls every accessor of an action.
pub fn look_at_action(action: &Action) {
    look_at_array(&action.values);
    for (name, timestamp) in action.obs_timestamps.iter().flat_map(|all| all.iter()) {
        let found = action.obs_timestamps.as_ref().and_then(|all| all.get(name));
        assert_eq!(found.map(f64::to_bits), Some(timestamp.to_bits()));
    }
    let _ = format!("{action:?}");
}

/// Calls every accessor of a free-form map.
pub fn look_at_map(map: &Map) {
    let entries: Vec<_> = map.iter().collect();
    assert!(entries.len() <= map.len(), "keys that are no strings are left out");
    for (key, _) in &entries {
        assert!(map.get(key).is_some());
    }
    let _ = format!("{map:?}");
}

fn look_at_array(array: &Array) {
    assert_eq!(array.len() * array.dtype().size(), array.bytes().len());
    assert_eq!(array.to_f32().len(), array.len());
    assert_eq!(array.to_f64().len(), array.len());
    assert_eq!(array.as_slice::<f32>().is_ok(), array.dtype().name() == "float32");
}
