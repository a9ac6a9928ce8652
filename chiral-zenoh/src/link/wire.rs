use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use zenoh::bytes::ZBytes;
use zenoh::matching::MatchingListener;
use zenoh::pubsub::{Publisher, Subscriber};
use zenoh::qos::{CongestionControl, Priority};
use zenoh::{Session, Wait};

use super::goodbye::Goodbye;
use super::shared::{Shared, Task};
use crate::config::Role;
use crate::keys;
use crate::layout::Layout;
use crate::stats::count;

/// How long a peer that has just connected may take to be seen by Zenoh.
const APPEAR: Duration = Duration::from_secs(5);

/// What a link writes to. The writer thread has it, and drops it: taking declarations back and
/// closing a session block.
pub(crate) struct Wire {
    pub(crate) publisher: Arc<Publisher<'static>>,
    pub(crate) farewells: Arc<Publisher<'static>>,
    pub(crate) layout: Layout,
    /// What must live as long as the link does: subscribers, tokens.
    pub(crate) keep: Box<dyn Any + Send>,
    pub(crate) session: Session,
}

impl Wire {
    /// The writer thread: gives frames to Zenoh until the link ends.
    pub(super) fn carry(mut self, shared: &Shared) {
        let mut ask_at = Instant::now();
        let appear_by = ask_at + APPEAR;
        let mut is_first = true;
        loop {
            match shared.next_task(appear_by, &mut ask_at) {
                Task::AskPresence => shared.presence_answered(is_matched(&self.publisher)),
                Task::Write(frame) => {
                    if std::mem::take(&mut is_first) {
                        // Only now the peer is known to be there.
                        self.layout.check(&self.session);
                    }
                    let payload = self.layout.lay_out(&frame, &shared.counters);
                    drop(frame);
                    match self.publisher.put(payload).wait() {
                        Ok(()) => count(&shared.counters.sent),
                        Err(error) => shared.lose(&format!("Zenoh does not send: {error}")),
                    }
                    shared.wrote();
                }
                Task::Close(goodbye) => self.say(&goodbye, shared),
                Task::Stop => break,
            }
        }
        // In this order: what listens to a publisher goes before it, and all that is declared is
        // taken back while its session is there.
        let Self { publisher, farewells, layout: _, keep, session } = self;
        drop(keep);
        drop((publisher, farewells));
        drop(session);
    }

    fn say(&self, goodbye: &Goodbye, shared: &Shared) {
        let said =
            is_matched(&self.farewells) && self.farewells.put(goodbye.encode()).wait().is_ok();
        shared.said_goodbye(said);
    }
}

/// A publisher for a side's frames. Everything of one direction has one priority, because
/// messages of different priorities overtake one another: an action put before a reset must not
/// arrive after it.
pub(crate) fn declare(
    session: &Session,
    key: &str,
    role: Role,
) -> zenoh::Result<Arc<Publisher<'static>>> {
    let publisher = session
        .declare_publisher(key.to_owned())
        // Waits for a congested network instead of dropping what does not fit.
        .congestion_control(CongestionControl::Block);
    let publisher = match role {
        // Actions: ahead of everything, and not held back to fill a batch.
        Role::Client => publisher.priority(Priority::RealTime).express(true),
        Role::Server => publisher.priority(Priority::Data),
    };
    publisher.wait().map(Arc::new)
}

/// Calls `changed` when somebody subscribes to what is published, and when nobody does any more.
/// Zenoh makes the first call by itself if somebody subscribes already.
pub(crate) fn watch(
    publisher: &Publisher<'static>,
    changed: impl Fn(bool) + Send + Sync + 'static,
) -> zenoh::Result<MatchingListener<()>> {
    let listener = publisher.matching_listener();
    listener.callback(move |status| changed(status.matching())).wait()
}

/// Whether somebody subscribes to what is published, at this moment. It may be asked in Zenoh's
/// callbacks.
pub(crate) fn is_matched(publisher: &Publisher<'static>) -> bool {
    // Its future is ready at once; Zenoh's own `wait` would look for an executor.
    let status = futures_lite::future::block_on(publisher.matching_status().into_future());
    status.is_ok_and(|status| status.matching())
}

/// Subscribes to a side's frames and farewells.
pub(crate) fn receive(
    session: &Session,
    key: &str,
    frame: impl Fn(&ZBytes) + Send + Sync + 'static,
    farewell: impl Fn(&ZBytes) + Send + Sync + 'static,
) -> zenoh::Result<[Subscriber<()>; 2]> {
    let farewells = session
        .declare_subscriber(keys::close(key))
        .callback(move |sample| farewell(sample.payload()))
        .wait()?;
    let frames = session
        .declare_subscriber(key.to_owned())
        .callback(move |sample| frame(sample.payload()))
        .wait()?;
    Ok([frames, farewells])
}
