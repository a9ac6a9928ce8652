//! Messages in a queue within this process: what a transport over shared memory looks like, or over
//! any other middleware that delivers whole messages.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use bytes::Bytes;
use chiral_driver::client::{Failure, WaitForServer};
use chiral_driver::{Acceptor, BoxFuture, ConnectError, Connector, Incoming, Message, Transport};
use chiral_proto::ConnectionError;
use chiral_proto::wire::{Frame, Limits};
use chiral_proto::ws::CloseCode;
use futures_lite::future::or;

use crate::Refused;
use crate::names::{Faults, Listening, Names, expire};

/// Where connections are accepted.
pub static NAMES: Names<Queue> = Names::new();

const CLIENT: usize = 0;
const SERVER: usize = 1;

/// What is sent.
enum Item {
    /// The policy is admitted.
    Greeting,
    Frame(Vec<Bytes>),
    Close {
        code: u16,
        reason: String,
    },
}

/// One end of a connection.
pub struct Queue {
    shared: Arc<Shared>,
    side: usize,
    phase: Phase,
}

/// How far the connection is, seen from one end.
///
/// ```text
/// Arriving ──greeting──► Open ──closed by either side, or broken──► Over
///    └────────────────────────────────────────────────────────────────▲
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Arriving,
    Open,
    Over,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    flows: [Flow; 2],
    is_cut: bool,
}

#[derive(Default)]
struct Flow {
    items: VecDeque<Item>,
    /// One of its two ends is gone.
    is_ended: bool,
    is_frozen: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state for everybody.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let (result, wakers) = {
            let mut state = self.lock();
            let result = change(&mut state);
            let wakers =
                state.flows.each_mut().map(|flow| [flow.reader.take(), flow.writer.take()]);
            (result, wakers)
        };
        wakers.into_iter().flatten().flatten().for_each(Waker::wake);
        result
    }
}

impl Queue {
    fn pair() -> (Self, Self) {
        let shared = Arc::<Shared>::default();
        let end = |side| Self { shared: Arc::clone(&shared), side, phase: Phase::Arriving };
        (end(CLIENT), end(SERVER))
    }

    fn push(&self, item: Item) {
        self.shared.change(|state| state.flows[self.side].items.push_back(item));
    }

    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Result<Item, ConnectionError>> {
        let (item, writer) = {
            let mut state = self.shared.lock();
            let is_cut = state.is_cut;
            let flow = &mut state.flows[1 - self.side];
            let next = if flow.is_frozen || is_cut { None } else { flow.items.pop_front() };
            let item = match next {
                Some(item) => Ok(item),
                None if is_cut => Err(ConnectionError::Reset),
                None if flow.is_ended && !flow.is_frozen => {
                    Err(ConnectionError::EndOfStream { inside_message: false })
                }
                None => {
                    flow.reader = Some(cx.waker().clone());
                    return Poll::Pending;
                }
            };
            (item, flow.writer.take())
        };
        if let Some(writer) = writer {
            writer.wake();
        }
        if matches!(item, Err(_) | Ok(Item::Close { .. })) {
            self.phase = Phase::Over;
        }
        Poll::Ready(item)
    }

    /// Waits until the server has admitted the policy.
    async fn wait_for_greeting(&mut self) -> Result<(), ConnectionError> {
        match poll_fn(|cx| self.poll_item(cx)).await? {
            Item::Close { code, reason } => {
                Err(ConnectionError::ClosedByPeer { code: Some(code), reason })
            }
            Item::Greeting | Item::Frame(_) => {
                self.phase = Phase::Open;
                Ok(())
            }
        }
    }
}

impl Transport for Queue {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        _: Instant,
    ) -> Poll<Result<Option<Message>, ConnectionError>> {
        Poll::Ready(match ready!(self.poll_item(cx))? {
            Item::Frame(segments) => Ok(Some(Message::Segments(segments))),
            Item::Close { code, reason } => {
                Err(ConnectionError::ClosedByPeer { code: Some(code), reason })
            }
            Item::Greeting => Ok(None),
        })
    }

    /// One frame at a time.
    fn wants_frame(&self) -> bool {
        self.phase == Phase::Open && self.shared.lock().flows[self.side].items.is_empty()
    }

    fn send(&mut self, frame: Frame) {
        self.push(Item::Frame(frame.segments().cloned().collect()));
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        _: Instant,
    ) -> Poll<Result<bool, ConnectionError>> {
        // A policy that is refused is closed before anything else.
        if self.side == SERVER && self.phase == Phase::Arriving {
            self.phase = Phase::Open;
            self.push(Item::Greeting);
        }
        let mut state = self.shared.lock();
        let is_cut = state.is_cut;
        let flow = &mut state.flows[self.side];
        if (is_cut || flow.is_ended) && self.phase == Phase::Open {
            self.phase = Phase::Over;
            return Poll::Ready(Err(ConnectionError::Reset));
        }
        if flow.items.is_empty() {
            return Poll::Ready(Ok(false));
        }
        flow.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    fn close(&mut self, _: Instant, code: CloseCode, reason: &str) {
        if self.phase != Phase::Over {
            self.phase = Phase::Over;
            self.push(Item::Close { code: code.0, reason: reason.to_owned() });
        }
    }

    fn is_closed(&self) -> bool {
        self.phase == Phase::Over
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.shared.change(|state| state.flows.iter_mut().for_each(|flow| flow.is_ended = true));
    }
}

impl Faults for Shared {
    fn cut(&self) {
        self.change(|state| {
            state.is_cut = true;
            state.flows.iter_mut().for_each(|flow| flow.is_frozen = false);
        });
    }

    fn freeze(&self, client: bool, server: bool) {
        self.change(|state| {
            state.flows[CLIENT].is_frozen = client;
            state.flows[SERVER].is_frozen = server;
        });
    }
}

/// The name in a URI, `queue:name`.
fn name_of(uri: &str) -> Option<&str> {
    uri.strip_prefix("queue:")
}

/// Connects to whoever listens at the name in a URI, `queue:name`.
pub struct QueueConnector(String);

impl QueueConnector {
    /// For a URI; `None` when it is another transport's.
    pub fn new(uri: &str) -> Option<Self> {
        name_of(uri).map(|name| Self(name.to_owned()))
    }

    async fn attempt(
        &self,
        deadline: Option<Instant>,
    ) -> io::Result<Result<Queue, ConnectionError>> {
        let (mut ours, theirs) = Queue::pair();
        let shared = Arc::downgrade(&ours.shared);
        let meet = async {
            NAMES.connect(&self.0, theirs, shared, None).await?;
            Ok(ours.wait_for_greeting().await)
        };
        Ok(or(meet, expire(deadline)).await?.map(|()| ours))
    }
}

impl Connector for QueueConnector {
    fn connect(
        &self,
        _: &Limits,
        mut wait: WaitForServer,
    ) -> BoxFuture<'_, Result<Box<dyn Transport>, ConnectError>> {
        Box::pin(async move {
            let mut refused = None;
            loop {
                match self.attempt(wait.deadline()).await {
                    Ok(Ok(transport)) => return Ok(Box::new(transport) as Box<dyn Transport>),
                    Ok(Err(ConnectionError::ClosedByPeer { reason, .. })) => {
                        let refusal = Refused { reason };
                        let retry_at = wait.retry_later(&refusal.reason);
                        smol::Timer::at(retry_at.ok_or(refusal.clone())?).await;
                        refused = Some(refusal);
                    }
                    // A server that is just going does not greet; the next one may.
                    Ok(Err(_)) => {}
                    Err(late) => {
                        if let Some(refusal) = refused {
                            return Err(refusal.into());
                        }
                        return Err(Failure::Absent(late).into_error(&self.uri(), wait.waited()));
                    }
                }
            }
        })
    }

    fn uri(&self) -> String {
        format!("queue:{}", self.0)
    }
}

/// Accepts policies at the name in a URI, `queue:name`. What is received is a frame that this
/// process has made: the driver checks it against the limits.
pub struct QueueAcceptor(Listening<Queue>);

impl QueueAcceptor {
    /// Listens at a URI.
    ///
    /// # Errors
    /// When the URI is another transport's, or somebody listens at its name.
    pub fn bind(uri: &str) -> io::Result<Self> {
        let name = name_of(uri).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self(NAMES.listen(name)?))
    }
}

impl Acceptor for QueueAcceptor {
    fn accept(&self) -> BoxFuture<'_, io::Result<Incoming>> {
        Box::pin(async {
            let transport = Box::new(self.0.accept().await);
            Ok(Incoming { transport, peer: "a client of the queue".to_owned() })
        })
    }

    fn uri(&self) -> String {
        format!("queue:{}", self.0.name())
    }
}
