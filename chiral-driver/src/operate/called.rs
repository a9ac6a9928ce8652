use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use chiral_proto::server::Event;
use futures_lite::FutureExt;
use futures_lite::future::or;

use super::{ServerSide, said};
use crate::robot::{Robot, RobotError};
use crate::runtime::Runtime;
use crate::shared::{Shared, Side};
use crate::turn::Turn;

/// Operates a robot by calling it, for as long as a policy has its turn.
pub(crate) fn call_robot<R: Runtime>(turn: Turn, robot: Arc<impl Robot>) {
    let apart = turn.wants_threads();
    let shared = Arc::clone(&turn.shared);
    let operating = run::<R>(apart, "chiral-requests", async move {
        let shared = Arc::clone(&turn.shared);
        turn.has_come().await;
        begin(&shared, &*robot).await;
        let moving = move_robot(Arc::clone(&shared), Arc::clone(&robot));
        let (done, moved) = futures_channel::oneshot::channel::<()>();
        let moving = run::<R>(apart, "chiral-motion", async move {
            moving.await;
            drop(done);
        });
        check_started(&shared, moving);
        answer_requests(shared, robot).await;
        let _ = moved.await;
        drop(turn);
    });
    check_started(&shared, operating);
}

/// Runs a task of the robot's code, as the settings say.
fn run<R: Runtime>(
    apart: bool,
    name: &'static str,
    task: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    if apart {
        return R::spawn_apart(name, task);
    }
    R::spawn(name, task);
    Ok(())
}

/// Ends the connection when the robot's part of it could not be started.
fn check_started(shared: &Shared<ServerSide>, started: io::Result<()>) {
    if let Err(error) = started {
        let why = format!("the system has no thread for it: {error}");
        tracing::error!("the robot failed: {why}");
        shared.call(|side, _| side.machine.fail(why));
    }
}

/// Tells the robot of its new policy.
async fn begin(shared: &Shared<ServerSide>, robot: &impl Robot) {
    attempt(shared, "on connecting", async {
        robot.on_connect().await;
        Ok(())
    })
    .await;
}

/// Applies actions and watches over the robot, until the connection ends.
async fn move_robot(shared: Arc<Shared<ServerSide>>, robot: Arc<impl Robot>) {
    loop {
        let event = next(
            &shared,
            |side| &side.motion,
            |side| {
                if side.moving || side.next_is_request {
                    return None;
                }
                let event = side.machine.poll_motion();
                side.moving |= event.is_some();
                event
            },
        )
        .await;
        let ended = matches!(event, Event::Disconnected(_));
        let moving = async {
            match event {
                Event::Action(action) => robot.apply_action(action).await?,
                Event::Watchdog { silent_for } => robot.on_watchdog(silent_for).await,
                Event::Disconnected(reason) => robot.on_disconnect(&reason).await,
                _ => unreachable!("a request is no motion"),
            }
            Ok(())
        };
        attempt(&shared, "moving", moving).await;
        rest(&shared);
        if ended {
            return;
        }
    }
}

/// Answers requests, until the connection ends.
async fn answer_requests(shared: Arc<Shared<ServerSide>>, robot: Arc<impl Robot>) {
    loop {
        let request = next(
            &shared,
            |side| &side.requests,
            |side| match side.machine.poll_request() {
                Some(request) => {
                    side.next_is_request = matches!(request, Event::Reset(_) | Event::Step(..));
                    Some(Some(request))
                }
                None => side.machine.error().is_some().then_some(None),
            },
        )
        .await;
        let Some(request) = request else { return };
        match request {
            Event::Reset(_) | Event::Step(..) => answer(&shared, &*robot, request).await,
            // What moves nothing is let go when nobody waits for it any more.
            _ => or(answer(&shared, &*robot, request), until_ended(&shared)).await,
        }
    }
}

// That nobody waits for the answer any more is no fault of the robot's: such an error of a reply
// is dropped.
async fn answer(shared: &Shared<ServerSide>, robot: &impl Robot, request: Event) {
    match request {
        Event::Metadata(reply) => {
            if let Some(data) =
                attempt(shared, "describing itself", async { robot.metadata().await }).await
            {
                let _ = shared.call(|side, _| side.machine.reply_metadata(reply, data));
            }
        }
        Event::Observe(reply) => {
            if let Some(answer) =
                attempt(shared, "observing", async { robot.observe().await }).await
            {
                let _ = shared.call(|side, _| side.machine.reply_observation(reply, answer));
            }
        }
        Event::Reset(reply) => {
            if !hold(shared).await {
                return;
            }
            if let Some(result) = attempt(shared, "resetting", async { robot.reset().await }).await
            {
                let _ = shared.call(|side, _| side.machine.reply_reset(reply, result));
            }
            rest(shared);
        }
        Event::Step(action, reply) => {
            if !hold(shared).await {
                return;
            }
            if let Some(result) =
                attempt(shared, "stepping", async { robot.step(action).await }).await
            {
                let _ = shared.call(|side, _| side.machine.reply_step(reply, result));
            }
            rest(shared);
        }
        _ => unreachable!("a motion is no request"),
    }
}

async fn until_ended(shared: &Shared<ServerSide>) {
    let ended = |side: &mut ServerSide| side.machine.error().is_some().then_some(());
    next(shared, |side| &side.requests, ended).await;
}

/// Waits until nothing moves the robot, and sees to it that nothing else does. False when the
/// connection ended first: a robot that was told to hold still is not moved any more.
async fn hold(shared: &Shared<ServerSide>) -> bool {
    let take = |side: &mut ServerSide| {
        let ended = side.machine.error().is_some();
        if side.moving && !ended {
            return None;
        }
        side.next_is_request = false;
        side.moving |= !ended;
        Some(!ended)
    };
    let held = next(shared, |side| &side.requests, take).await;
    if !held {
        shared.lock().tell();
    }
    held
}

/// The robot may be moved by others again.
fn rest(shared: &Shared<ServerSide>) {
    let mut side = shared.lock();
    side.moving = false;
    side.tell();
    // A reset or a step may be waiting for just this.
    side.requests.notify(usize::MAX);
}

/// Waits until `take` finds something; it looks again whenever `news` is notified.
async fn next<T>(
    shared: &Shared<ServerSide>,
    news: impl Fn(&ServerSide) -> &event_listener::Event,
    mut take: impl FnMut(&mut ServerSide) -> Option<T>,
) -> T {
    loop {
        let work = {
            let mut side = shared.lock();
            if let Some(taken) = take(&mut side) {
                return taken;
            }
            news(&side).listen()
        };
        work.await;
    }
}

/// Lets the robot do something; when it fails, or panics, the connection ends and the policy is
/// told.
async fn attempt<T>(
    shared: &Shared<ServerSide>,
    what: &str,
    doing: impl Future<Output = Result<T, RobotError>>,
) -> Option<T> {
    let why = match AssertUnwindSafe(doing).catch_unwind().await {
        Ok(Ok(done)) => return Some(done),
        Ok(Err(error)) => format!("{what}: {error}"),
        Err(panic) => format!("{what}: {}", said(&*panic)),
    };
    tracing::error!("the robot failed {why}");
    shared.call(|side, _| side.machine.fail(why));
    None
}
