//! What is declared to Zenoh for a connection: publishers, subscribers and listeners.

use std::sync::Arc;

use zenoh::matching::MatchingListener;
use zenoh::pubsub::{Publisher, Subscriber};
use zenoh::qos::{CongestionControl, Priority};
use zenoh::sample::Sample;
use zenoh::{Session, Wait};

use crate::config::Role;
use crate::keys;

/// A publisher for what one side sends. Everything of one direction has one priority, because
/// messages of different priorities overtake one another: an action put before a reset must not
/// arrive after it.
pub(crate) fn declare_publisher(
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
pub(crate) fn watch_subscriber(
    publisher: &Publisher<'static>,
    changed: impl Fn(bool) + Send + Sync + 'static,
) -> zenoh::Result<MatchingListener<()>> {
    let listener = publisher.matching_listener();
    listener.callback(move |status| changed(status.matching())).wait()
}

/// Whether somebody subscribes to what is published, at this moment. It may be asked in Zenoh's
/// callbacks.
pub(crate) fn has_subscriber(publisher: &Publisher<'static>) -> bool {
    // Its future is ready at once; Zenoh's own `wait` would look for an executor.
    let status = futures_lite::future::block_on(publisher.matching_status().into_future());
    status.is_ok_and(|status| status.matching())
}

/// Subscribes to one side's frames and close messages.
pub(crate) fn subscribe(
    session: &Session,
    key: &str,
    on_frame: impl Fn(&Sample) + Send + Sync + 'static,
    on_close: impl Fn(&Sample) + Send + Sync + 'static,
) -> zenoh::Result<[Subscriber<()>; 2]> {
    let closes = session
        .declare_subscriber(keys::close(key))
        .callback(move |sample| on_close(&sample))
        .wait()?;
    let frames = session
        .declare_subscriber(key.to_owned())
        .callback(move |sample| on_frame(&sample))
        .wait()?;
    Ok([frames, closes])
}
