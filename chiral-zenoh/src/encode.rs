use chiral_proto::wire::Frame;
use zenoh::Session;
#[cfg(feature = "shm")]
use zenoh::Wait;
use zenoh::bytes::ZBytes;

#[cfg(feature = "shm")]
use crate::payload::SHARED_FROM;
#[cfg(feature = "shm")]
use crate::shared_memory::SharedMemory;
use crate::stats::Counts;
#[cfg(feature = "shm")]
use crate::stats::count;

/// Encodes frames as Zenoh's payloads: as lists of their buffers, so that only what goes into
/// shared memory is copied.
#[derive(Debug, Clone, Default)]
pub(crate) struct Encoder {
    /// Where large buffers go, if the peer can read it.
    #[cfg(feature = "shm")]
    pub(crate) memory: Option<SharedMemory>,
}

impl Encoder {
    /// Gives the shared memory up when no neighbour of this session can read it.
    #[cfg(feature = "shm")]
    pub(crate) fn check_shared_memory(&mut self, session: &Session) {
        let is_possible = session.info().transports().wait().any(|neighbour| neighbour.is_shm());
        if !is_possible && self.memory.take().is_some() {
            tracing::info!(
                "the policy is on another machine, or has no shared memory: observations go over \
                 the network"
            );
        }
    }

    #[cfg(not(feature = "shm"))]
    #[expect(clippy::unused_self, reason = "as with the feature `shm`")]
    pub(crate) fn check_shared_memory(&mut self, _: &Session) {}

    /// The frame's payload, and whether some of it is in shared memory.
    #[cfg(not(feature = "shm"))]
    #[expect(clippy::unused_self, reason = "as with the feature `shm`")]
    pub(crate) fn encode(&self, frame: &Frame, _: &Counts) -> (ZBytes, bool) {
        (over_network(frame), false)
    }

    /// The frame's payload, and whether some of it is in shared memory. A large buffer in shared
    /// memory is sent as it is; another one is copied there, or sent over the network when there is
    /// no room.
    #[cfg(feature = "shm")]
    pub(crate) fn encode(&self, frame: &Frame, counts: &Counts) -> (ZBytes, bool) {
        let Some(memory) = &self.memory else { return (over_network(frame), false) };
        let mut payload = ZBytes::writer();
        let mut uses_shared = false;
        for segment in frame.segments() {
            let shared = (segment.len() >= SHARED_FROM).then(|| {
                memory.find(segment).or_else(|| {
                    let copied = memory.copy(segment);
                    count(if copied.is_some() { &counts.copied } else { &counts.unshared });
                    copied
                })
            });
            uses_shared |= matches!(shared, Some(Some(_)));
            payload.append(shared.flatten().unwrap_or_else(|| segment.clone().into()));
        }
        if uses_shared {
            count(&counts.sent_shared);
        }
        (payload.finish(), uses_shared)
    }
}

fn over_network(frame: &Frame) -> ZBytes {
    let mut payload = ZBytes::writer();
    frame.segments().for_each(|segment| payload.append(segment.clone().into()));
    payload.finish()
}
