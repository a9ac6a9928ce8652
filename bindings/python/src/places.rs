//! Where the arrays of an observation lie in memory, noted before Python can write to them.
//!
//! Python writes to received arrays through pointers that [`memory::writable`] makes. From the first
//! such write on, Rust must not come to the same bytes by the handles that it has of them: not even by
//! `Bytes::as_ptr`, which makes a shared reference first. So the places are noted before an observation
//! is handed out, once for all of its copies; afterwards its handles are moved, cloned, sliced and
//! dropped, which touches no byte, and nothing else is done with them.

use std::collections::HashMap;
use std::ptr::NonNull;
use std::sync::Arc;

use chiral_blocking::proto::timeline::Stamp;
use chiral_blocking::proto::{Array, Dtype, Observation};

use crate::memory;

/// Arrays up to so many bytes are copied: to keep one must not keep a whole observation.
const COPIED: usize = 4096;

/// Who else may have the elements of an observation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It came over a connection: nobody. Rust reads no array that it has handed out, so that Python
    /// may write to it.
    Received,
    /// It is a snapshot of sensors: other snapshots, and answers that are under way. Its arrays are
    /// read-only.
    Snapshot,
}

/// What Python gets for an array.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    /// A view of the elements, which begin here. To be written through only if they are `Received`.
    Viewed(NonNull<u8>, Origin),
    /// A copy. Nobody writes to the elements, and Rust may read them at any time.
    Copied,
}

// SAFETY: a pointer to the elements of an array. Who makes an array of NumPy's over them keeps the
// observation, and NumPy's arrays are used by many threads.
unsafe impl Send for Place {}
// SAFETY: as above; shared, it is only an address.
unsafe impl Sync for Place {}

/// The places of an observation's [`arrays`], in their order.
#[derive(Clone)]
pub(crate) struct Places(Arc<[Place]>);

impl Places {
    /// Those of an observation of which no array was handed out yet, if it is `Received`.
    pub(crate) fn of(observation: &Observation, origin: Origin) -> Self {
        Self(arrays(observation).map(|array| place(array, origin)).collect())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Place> {
        self.0.iter()
    }
}

fn place(array: &Array, origin: Origin) -> Place {
    let bytes = array.bytes();
    let is_aligned = bytes.as_ptr().addr().is_multiple_of(array.dtype().size());
    // A peer's byte may be no bool.
    if bytes.len() <= COPIED || !is_aligned || array.dtype() == Dtype::Bool {
        return Place::Copied;
    }
    let data = match origin {
        // None: another transport's memory.
        Origin::Received => memory::writable(bytes),
        Origin::Snapshot => NonNull::new(bytes.as_ptr().cast_mut()),
    };
    data.map_or(Place::Copied, |data| Place::Viewed(data, origin))
}

/// Image and depth of each camera, and the values of each proprioception stream.
pub(crate) fn arrays(observation: &Observation) -> impl Iterator<Item = &Array> {
    let cameras = observation.cameras.iter();
    let pixels = cameras.flat_map(|camera| [Some(&camera.image), camera.depth.as_ref()]).flatten();
    pixels.chain(observation.proprios.iter().map(|proprio| &proprio.values))
}

/// What a client has handed out: the places of the observations that somebody still has, and the
/// object of the one that was handed out last.
pub(crate) struct HandedOut<T> {
    places: HashMap<Stamp, Places>,
    /// At so many places, those are forgotten whose observations nobody has any more.
    forget_at: usize,
    last: Option<(Stamp, T)>,
}

/// Places that are never worth a look.
const FEW: usize = 16;

impl<T> Default for HandedOut<T> {
    fn default() -> Self {
        Self { places: HashMap::new(), forget_at: FEW, last: None }
    }
}

impl<T> HandedOut<T> {
    /// The object of an observation, if that is the one that was handed out last.
    pub(crate) fn last(&self, observation: &Observation) -> Option<&T> {
        let (stamp, object) = self.last.as_ref()?;
        (*stamp == observation.stamp).then_some(object)
    }

    /// Notes the object of the observation that was handed out last, and gives the one before it.
    pub(crate) fn set_last(&mut self, last: Option<(Stamp, T)>) -> Option<(Stamp, T)> {
        std::mem::replace(&mut self.last, last)
    }

    /// The places of a received observation, which are noted at the first time.
    pub(crate) fn places(&mut self, observation: &Observation) -> Places {
        let stamp = &observation.stamp;
        // Of one whose stamp nobody else has, nothing was noted.
        if !stamp.is_unique()
            && let Some(noted) = self.places.get(stamp)
        {
            return noted.clone();
        }
        if self.places.len() >= self.forget_at {
            self.places.retain(|stamp, _| !stamp.is_unique());
            self.forget_at = FEW.max(2 * self.places.len());
        }
        let places = Places::of(observation, Origin::Received);
        self.places.insert(stamp.clone(), places.clone());
        places
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use chiral_blocking::proto::client::{self, Client};
    use chiral_blocking::proto::nalgebra::{Matrix3, Matrix4};
    use chiral_blocking::proto::pool::{ALIGNMENT, BufferPool};
    use chiral_blocking::proto::server::{self, Server};
    use chiral_blocking::proto::{Action, Camera, Map, Proprio, ResetResult};

    use super::*;

    /// A policy whose messages are received into memory that Python may write to.
    struct Policy {
        client: Client,
        server: Server,
        pool: BufferPool,
        now: Instant,
        resets: u8,
    }

    impl Policy {
        fn new() -> Self {
            let now = Instant::now();
            Self {
                client: Client::new(client::Config::default()),
                server: Server::new(now, server::Config::default()),
                pool: BufferPool::with_source(1, memory::PythonMemory),
                now,
                resets: 0,
            }
        }

        /// Resets the robot: its observation, of which the client has a copy as its latest.
        fn reset(&mut self) -> Observation {
            let now = self.now;
            self.client.request_reset(now, None).expect("the connection is there");
            let request = self.client.poll_transmit(now).expect("a request");
            self.server.handle_frame(now, &request);
            let Some(server::Event::Reset(reply)) = self.server.poll_event(now) else {
                panic!("a reset was asked for")
            };
            self.resets += 1;
            let (observation, info) = (observation(self.resets), Map::new());
            let answered = self.server.reply_reset(reply, ResetResult { observation, info });
            answered.expect("it was asked for");
            let answer = self.server.poll_transmit(now).expect("an answer");
            // Received as a connection does it: the payload begins at a boundary.
            let head = answer.len() - answer.payload().len();
            let start = head.wrapping_neg() % ALIGNMENT;
            let message = start..start + answer.len();
            let mut received = self.pool.take(message.end);
            received[message.clone()].copy_from_slice(&answer.to_bytes());
            self.client.handle_message(now, received.freeze(message));
            while let Some(event) = self.client.poll_event() {
                if let client::Event::Reset { result, .. } = event {
                    return result.observation;
                }
            }
            panic!("the answer was told")
        }

        fn latest(&self) -> Arc<Observation> {
            Arc::clone(&self.client.latest_observation().expect("one was received").observation)
        }
    }

    fn observation(value: u8) -> Observation {
        let camera = |name: &'static str| Camera {
            name: name.into(),
            timestamp: 0.0,
            intrinsics: Matrix3::identity(),
            extrinsics: Matrix4::identity(),
            image: Array::from_vec([40, 40, 3], vec![value; 4800]).expect("it fits"),
            depth: Array::from_vec([40, 60], vec![u16::from(value); 2400]).ok(),
        };
        let values = Array::vector(vec![f32::from(value); 1200]);
        Observation {
            cameras: vec![camera("left"), camera("right")],
            proprios: vec![
                Proprio { name: "joints".into(), values: Array::vector(vec![1_f32; 7]) },
                Proprio { name: "skin".into(), values },
            ],
            ..Observation::default()
        }
    }

    /// What Python does with the arrays of an observation.
    fn write(observation: &Observation, places: &Places, value: u8) {
        let mut viewed = 0;
        for (array, place) in arrays(observation).zip(places.iter()) {
            if let Place::Viewed(data, Origin::Received) = place {
                // SAFETY: so many bytes of the observation, which is there and of which nobody else
                // has an array.
                unsafe { data.write_bytes(value, array.bytes().len()) };
                viewed += 1;
            }
        }
        assert_eq!(viewed, 5, "images, depth, and the long one of the proprioception streams");
    }

    fn read(places: &Places) -> Vec<u8> {
        let first = |place: &Place| match place {
            // SAFETY: as in `write`.
            Place::Viewed(data, _) => Some(unsafe { data.read() }),
            Place::Copied => None,
        };
        places.iter().filter_map(first).collect()
    }

    // In Miri these show that Python's writes and Rust's handles do not meet.

    #[test]
    fn an_observation_is_handed_out_again_after_python_has_written_to_its_memory() {
        let mut policy = Policy::new();
        let mut handed_out = HandedOut::<()>::default();
        let answered = policy.reset();
        let latest = policy.latest();
        let first = handed_out.places(&latest);
        write(&latest, &first, 7);
        // The answer of the reset is of the same memory, and may be handed out after the latest.
        let again = handed_out.places(&answered);
        assert_eq!(read(&again), [7; 5]);
        write(&answered, &again, 8);
        // An action is decided on it.
        policy
            .client
            .put_chunk(policy.now, &latest, [Action::from([0.0; 7])])
            .expect("it is queued");
        let small = arrays(&latest).zip(first.iter());
        let small = small.filter(|(_, place)| matches!(place, Place::Copied)).map(|it| it.0);
        assert_eq!(small.map(|array| array.bytes().len()).collect::<Vec<_>>(), [28]);
        drop((answered, latest));
        // The memory goes round.
        for expected in 2..5 {
            let answered = policy.reset();
            let places = handed_out.places(&answered);
            assert_eq!(read(&places), [expected, expected, expected, expected, 0]);
            write(&answered, &places, 9);
        }
    }

    #[test]
    fn places_are_forgotten_when_nobody_has_the_observation() {
        let mut policy = Policy::new();
        let mut handed_out = HandedOut::<()>::default();
        let kept = policy.reset();
        let first = handed_out.places(&kept);
        for _ in 0..FEW {
            handed_out.places(&policy.reset());
        }
        assert_eq!(handed_out.places.len(), 2, "the first, and the last");
        write(&kept, &handed_out.places(&kept), 6);
        assert_eq!(read(&first), [6; 5]);
    }

    #[test]
    fn the_object_is_that_of_the_observation_that_was_handed_out_last() {
        let mut policy = Policy::new();
        let mut handed_out = HandedOut::default();
        let (one, other) = (policy.reset(), policy.reset());
        handed_out.set_last(Some((one.stamp.clone(), 1)));
        assert_eq!(handed_out.last(&one.clone()), Some(&1));
        assert_eq!(handed_out.last(&other), None);
        assert_eq!(handed_out.last(&Observation::default()), None);
        assert!(handed_out.set_last(None).is_some());
        assert_eq!(handed_out.last(&one), None);
    }
}
