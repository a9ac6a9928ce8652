use chiral_proto::wire::Frame;
use zenoh::Session;
#[cfg(feature = "shm")]
use zenoh::Wait;
use zenoh::bytes::ZBytes;

#[cfg(feature = "shm")]
use crate::message::SHARED_FROM;
#[cfg(feature = "shm")]
use crate::shared_memory::SharedMemory;
use crate::stats::Counters;
#[cfg(feature = "shm")]
use crate::stats::count;

/// How frames become Zenoh's payloads: as lists of the buffers that they consist of, so that
/// nothing is copied but what goes into shared memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Layout {
    /// Where large buffers go, if the peer can be there.
    #[cfg(feature = "shm")]
    pub(crate) memory: Option<SharedMemory>,
}

impl Layout {
    /// Goes over the network when no neighbour of this session can be in shared memory with it.
    #[cfg(feature = "shm")]
    pub(crate) fn check(&mut self, session: &Session) {
        let is_possible = session.info().transports().wait().any(|neighbour| neighbour.is_shm());
        if !is_possible && self.memory.take().is_some() {
            tracing::info!(
                "the policy is on another machine, or has no shared memory: observations go over \
                 the network"
            );
        }
    }

    #[cfg(not(feature = "shm"))]
    #[expect(clippy::unused_self, reason = "there is no shared memory to look for")]
    pub(crate) fn check(&mut self, _: &Session) {}

    #[cfg(not(feature = "shm"))]
    #[expect(clippy::unused_self, reason = "there is no shared memory to look for")]
    pub(crate) fn lay_out(&self, frame: &Frame, _: &Counters) -> ZBytes {
        over_network(frame)
    }

    /// A large buffer that lies in shared memory already goes as it is; one that does not is
    /// copied there, or goes over the network when there is no room.
    #[cfg(feature = "shm")]
    pub(crate) fn lay_out(&self, frame: &Frame, counters: &Counters) -> ZBytes {
        let Some(memory) = &self.memory else { return over_network(frame) };
        let mut payload = ZBytes::writer();
        let mut is_shared = false;
        for segment in frame.segments() {
            let shared = (segment.len() >= SHARED_FROM).then(|| {
                memory.find(segment).or_else(|| {
                    let copied = memory.copy(segment);
                    count(if copied.is_some() { &counters.copied } else { &counters.unshared });
                    copied
                })
            });
            is_shared |= matches!(shared, Some(Some(_)));
            payload.append(shared.flatten().unwrap_or_else(|| segment.clone().into()));
        }
        if is_shared {
            count(&counters.sent_shared);
        }
        payload.finish()
    }
}

fn over_network(frame: &Frame) -> ZBytes {
    let mut payload = ZBytes::writer();
    frame.segments().for_each(|segment| payload.append(segment.clone().into()));
    payload.finish()
}
