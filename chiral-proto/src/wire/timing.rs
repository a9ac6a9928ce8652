//! The timing extension: one key among the free-form `extra` of an observation, and one of a
//! request for an observation. Whatever stands there that cannot be read counts as missing.

use std::time::Duration;

use rmp::encode::{write_array_len, write_f64, write_map_len, write_nil, write_str, write_uint};

use super::encode;
use super::frame::Frame;
use super::limits::Limits;
use super::reader::Reader;
use crate::types::{ActionTiming, ArmingState, ContractStatus, Map, Timing};

/// The key in `extra`.
const KEY: &str = "chiral";
const VERSION: u64 = 1;
/// The key in the header of what a policy sends.
pub(super) const SEQ: &str = "seq";

/// A request for an observation of a policy that has sent so many actions.
pub(crate) fn observe(sent: u64) -> Frame {
    encode::numbered_observe(sent)
}

/// Whether a request for an observation comes from a policy that understands the extension.
pub(crate) fn is_numbered(request: &Frame) -> bool {
    let seq = || entry(&Reader::new(request.header()), SEQ)?.whole();
    seq().is_some()
}

/// Puts a robot's timing into the `extra` of an observation, in the place of what its application
/// has under the key.
pub(crate) fn attach(timing: &Timing, extra: &mut Map) {
    if find(extra).is_some() {
        *extra = extra.iter().filter(|(key, _)| key != KEY).collect();
    }
    extra.push_encoded(KEY, &encode(timing));
}

// A `Vec` takes every write.
fn encode(timing: &Timing) -> Vec<u8> {
    let Timing { applied, snap, ages, last, contract } = timing;
    let mut out = Vec::with_capacity(128 + 9 * ages.len());
    let key = |out: &mut Vec<u8>, key: &str| {
        let _ = write_str(out, key);
    };
    let seconds = |out: &mut Vec<u8>, time: Duration| {
        let _ = write_f64(out, time.as_secs_f64());
    };
    let parts = u32::from(last.is_some()) + u32::from(contract.is_some());
    let _ = write_map_len(&mut out, 4 + parts);
    key(&mut out, "v");
    let _ = write_uint(&mut out, VERSION);
    key(&mut out, "applied");
    let _ = write_uint(&mut out, *applied);
    key(&mut out, "snap");
    seconds(&mut out, *snap);
    key(&mut out, "ages");
    let _ = write_array_len(&mut out, ages.len() as u32);
    for age in ages {
        match age {
            Some(age) => seconds(&mut out, *age),
            None => {
                let _ = write_nil(&mut out);
            }
        }
    }
    if let Some(status) = contract {
        key(&mut out, "contract");
        let counts = counts(status);
        let _ = write_map_len(&mut out, 1 + counts.len() as u32);
        key(&mut out, "state");
        key(&mut out, status.state.name());
        for (name, count) in counts {
            key(&mut out, name);
            let _ = write_uint(&mut out, count);
        }
    }
    let Some(ActionTiming { seq, age, sensor_wait, network, queue }) = *last else { return out };
    key(&mut out, "last");
    let known = [("age", age), ("sensor", sensor_wait), ("net", network), ("queue", Some(queue))];
    let known = known.into_iter().filter_map(|(key, time)| Some((key, time?)));
    let _ = write_map_len(&mut out, 1 + known.clone().count() as u32);
    key(&mut out, "seq");
    let _ = write_uint(&mut out, seq);
    for (name, time) in known {
        key(&mut out, name);
        seconds(&mut out, time);
    }
    out
}

fn counts(status: &ContractStatus) -> [(&'static str, u64); 7] {
    let ContractStatus { state: _, on_time, periods, missed, refused, clamped, not_armed, stops } =
        *status;
    [
        ("on_time", on_time.into()),
        ("periods", periods.into()),
        ("missed", missed),
        ("refused", refused),
        ("clamped", clamped),
        ("not_armed", not_armed),
        ("stops", stops),
    ]
}

/// Reads what a robot says of time, if it says it in a version that is known; the ages of at most
/// so many cameras.
pub(crate) fn read(extra: &Map, cameras: usize) -> Option<Timing> {
    let map = find_known(extra)?;
    Some(Timing {
        applied: entry(&map, "applied")?.whole()?,
        snap: entry(&map, "snap")?.seconds()?,
        ages: entry(&map, "ages").map(|ages| read_ages(ages, cameras)).unwrap_or_default(),
        last: entry(&map, "last").and_then(|last| read_last(&last)),
        contract: entry(&map, "contract").and_then(|contract| read_contract(&contract)),
    })
}

/// Of what [`read`] reads, only when the robot took the observation.
pub(crate) fn read_snap(extra: &Map) -> Option<Duration> {
    entry(&find_known(extra)?, "snap")?.seconds()
}

/// What the robot says of time, if it is of a version that is known.
fn find_known(extra: &Map) -> Option<Reader<'_>> {
    find(extra).filter(|map| entry(map, "v").and_then(|mut v| v.whole()) == Some(VERSION))
}

fn read_ages(mut array: Reader<'_>, cameras: usize) -> Vec<Option<Duration>> {
    let len = array.array_len(KEY).unwrap_or(0).min(cameras);
    let age = |_| {
        let age = array.clone().seconds();
        step_over(&mut array).map(|()| age)
    };
    (0..len).map_while(age).collect()
}

fn read_last(map: &Reader<'_>) -> Option<ActionTiming> {
    let seconds = |key| entry(map, key)?.seconds();
    Some(ActionTiming {
        seq: entry(map, "seq")?.whole()?,
        age: seconds("age"),
        sensor_wait: seconds("sensor"),
        network: seconds("net"),
        queue: seconds("queue")?,
    })
}

/// A count that is missing is 0; of a state that is not known nothing is.
fn read_contract(map: &Reader<'_>) -> Option<ContractStatus> {
    let state = ArmingState::of_name(entry(map, "state")?.try_string(KEY).ok()??)?;
    let count = |key| entry(map, key).and_then(|mut count| count.whole()).unwrap_or(0);
    let small = |key| u32::try_from(count(key)).unwrap_or(0);
    let (periods, on_time) = (small("periods"), small("on_time"));
    Some(ContractStatus {
        state,
        on_time: on_time.min(periods),
        periods,
        missed: count("missed"),
        refused: count("refused"),
        clamped: count("clamped"),
        not_armed: count("not_armed"),
        stops: count("stops"),
    })
}

fn find(extra: &Map) -> Option<Reader<'_>> {
    value_of(Reader::new(extra.encoded_entries()), extra.len(), KEY)
}

/// The value of a key of the map at which a reader stands.
fn entry<'a>(map: &Reader<'a>, key: &str) -> Option<Reader<'a>> {
    let mut entries = map.clone();
    let len = entries.map_len(KEY).ok()?;
    value_of(entries, len, key)
}

/// The value of a key among entries; of one that comes twice, the last, as in [`Map::get`].
fn value_of<'a>(mut entries: Reader<'a>, len: usize, key: &str) -> Option<Reader<'a>> {
    let mut found = None;
    for _ in 0..len {
        let is_key = entries.clone().try_string(KEY).ok()? == Some(key.as_bytes());
        step_over(&mut entries)?;
        if is_key {
            found = Some(entries.clone());
        }
        step_over(&mut entries)?;
    }
    found
}

fn step_over(reader: &mut Reader<'_>) -> Option<()> {
    reader.skip(KEY, &Limits::default(), 1, &mut usize::MAX.clone()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Value;

    fn times() -> impl Strategy<Value = Duration> {
        // Nanoseconds of a month, which a float of seconds can tell apart.
        (0_u64..1 << 51).prop_map(Duration::from_nanos)
    }

    fn timings() -> impl Strategy<Value = Timing> {
        let maybe = || proptest::option::of(times());
        let last = (any::<u64>(), maybe(), maybe(), maybe(), times()).prop_map(
            |(seq, age, sensor_wait, network, queue)| ActionTiming {
                seq,
                age,
                sensor_wait,
                network,
                queue,
            },
        );
        let ages = proptest::collection::vec(maybe(), 0..20);
        let states = vec![ArmingState::Disarmed, ArmingState::Holding, ArmingState::Stopped];
        let contract = (proptest::sample::select(states), 0_u32..101, any::<u64>()).prop_map(
            |(state, periods, count)| ContractStatus {
                state,
                on_time: periods / 2,
                periods,
                missed: count,
                refused: count / 2,
                clamped: count / 3,
                not_armed: count / 4,
                stops: count / 5,
            },
        );
        let (last, contract) = (proptest::option::of(last), proptest::option::of(contract));
        (any::<u64>(), times(), ages, last, contract).prop_map(
            |(applied, snap, ages, last, contract)| Timing { applied, snap, ages, last, contract },
        )
    }

    proptest! {
        #[test]
        fn what_is_attached_is_read(timing in timings(), others in 0_u32..20) {
            let entries = (0..others).map(|n| (format!("key{n}"), Value::from(n)));
            let before: Map = entries.collect();
            let mut extra = before.clone();
            attach(&timing, &mut extra);
            prop_assert_eq!(extra.len(), before.len() + 1);
            prop_assert_eq!(read(&extra, usize::MAX), Some(timing.clone()));
            prop_assert_eq!(read_snap(&extra), Some(timing.snap));
            prop_assert!(before.iter().all(|(key, value)| extra.get(&key) == Some(value)));
            // As any other reader sees it.
            let shown = extra.get(KEY).expect("it was attached");
            prop_assert_eq!(shown["applied"].as_u64(), Some(timing.applied));
            prop_assert_eq!(shown["v"].as_u64(), Some(VERSION));
        }

        #[test]
        fn whatever_stands_there_does_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200), cameras in 0_usize..4) {
            // Entries of a map whose structure was never checked.
            let mut entries = Vec::new();
            let _ = write_str(&mut entries, KEY);
            entries.extend_from_slice(&bytes);
            let extra = Map::from_checked(1, entries.into());
            if let Some(timing) = read(&extra, cameras) {
                prop_assert!(timing.ages.len() <= cameras);
            }
        }
    }

    #[test]
    fn the_applications_own_key_loses() {
        let timing = Timing { applied: 7, ..Timing::default() };
        let mut extra = Map::new().with("task", "fold").with(KEY, "mine");
        attach(&timing, &mut extra);
        assert_eq!(extra.len(), 2);
        assert_eq!(extra.get("task"), Some("fold".into()));
        assert_eq!(read(&extra, 0), Some(timing));
    }

    #[test]
    fn what_is_of_another_kind_or_version_is_not_there() {
        let read = |value: Value| read(&Map::new().with(KEY, value), 2);
        let map = |entries: &[(&str, Value)]| {
            let entries = entries.iter().map(|(key, value)| ((*key).into(), value.clone()));
            Value::Map(entries.collect())
        };
        let good = [("v", 1.into()), ("applied", 3.into()), ("snap", 2.into())];
        let expected = Timing { applied: 3, snap: Duration::from_secs(2), ..Timing::default() };
        assert_eq!(read(map(&good)), Some(expected.clone()));
        for (index, bad) in [
            (0, Value::from(2)),
            (0, "1".into()),
            (1, (-1).into()),
            (1, 0.5.into()),
            (2, f64::NAN.into()),
            (2, f64::INFINITY.into()),
            (2, (-1).into()),
            (2, Value::Nil),
        ] {
            let mut entries = good.clone();
            entries[index].1 = bad;
            assert_eq!(read(map(&entries)), None, "{entries:?}");
        }
        for bad in [Value::Nil, 1.into(), "x".into(), Value::Array(vec![1.into()])] {
            assert_eq!(read(bad), None);
        }
        let more = [("ages", "old".into()), ("last", 1.into()), ("new", 1.into())];
        let with_more: Vec<_> = good.iter().chain(&more).cloned().collect();
        assert_eq!(read(map(&with_more)), Some(expected));
        let ages = Value::Array(vec!["x".into(), 1.into(), 2.into()]);
        let with_ages: Vec<_> = good.iter().cloned().chain([("ages", ages)]).collect();
        let ages = read(map(&with_ages)).map(|timing| timing.ages);
        assert_eq!(ages, Some(vec![None, Some(Duration::from_secs(1))]));
    }
}
