//! The pairs over streams and transports that users could have written (the crate
//! `chiral-outsider`), plugged into each adapter as its users would.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use chiral_driver::{Acceptor, ConnectError, Connector, PolicyServer, Runtime};
use chiral_outsider::Refused;
use chiral_outsider::framed::{FramedAcceptor, FramedConnector};
use chiral_outsider::names::{Faults, Listening, Names};
use chiral_outsider::pipe::{self, Pipe};
use chiral_outsider::queue::{self, Queue, QueueAcceptor, QueueConnector};
use chiral_proto::ConnectionError;
use chiral_proto::server::Stats;
use chiral_tests::Recorder;
use futures_channel::oneshot;
use futures_lite::future::{block_on, or};

use crate::adapter::{Adapter, ClientSettings, Policy, ServerSettings, Serving};
use crate::adapters::blocking::Blocking;
use crate::adapters::driven::{Driven, Executor};
use crate::network::{Network, Relay};
use crate::pair::{Pair, actions, hz, values};
use crate::supervise::soon;

/// Makes the tests of pairs over one plug.
macro_rules! over {
    ($($plug:ident $network:path, $over:ident: $cases:ident {
        $($pair:ident: $client:ident => $server:ident;)*
    })*) => {
        $(mod $plug {
            $(mod $pair {
                use crate::adapters;
                use crate::outsider::$over;
                use crate::pair::{Client, Pair, Server};

                const PAIR: Pair = Pair {
                    client: Client(&$over(&adapters::$client::ADAPTER)),
                    server: Server {
                        adapter: &$over(&adapters::$server::ADAPTER),
                        network: &$network,
                    },
                };
                $cases! {}
            })*
        })*
    };
}

// Every adapter as a client and as a server.
over! {
    pipes crate::outsider::PIPES, OverPipes: common_cases {
        tokio_tokio: tokio => tokio;
        smol_blocking: smol => blocking;
        blocking_smol: blocking => smol;
    }
    frames crate::network::Unix, OverFrames: connected_cases {
        tokio_blocking: tokio => blocking;
        smol_tokio: smol => tokio;
        blocking_smol: blocking => smol;
    }
    queues crate::outsider::QUEUES, OverQueues: connected_cases {
        tokio_smol: tokio => smol;
        smol_blocking: smol => blocking;
        blocking_tokio: blocking => tokio;
    }
}

/// Makes a test of each pair over pipes of which every read and write moves one byte, as a socket's may.
macro_rules! in_single_bytes {
    ($($pair:ident: $client:ident => $server:ident;)*) => {
        mod single_bytes {
            use crate::adapters;
            use crate::outsider::{OverPipes, PIPES};
            use crate::pair::{Client, Pair, Server};

            $(#[test]
            fn $pair() {
                const PAIR: Pair = Pair {
                    client: Client(&OverPipes(&adapters::$client::ADAPTER)),
                    server: Server {
                        adapter: &OverPipes(&adapters::$server::ADAPTER),
                        network: &PIPES,
                    },
                };
                crate::supervise::run(|| super::a_session_in_single_bytes(PAIR));
            })*
        }
    };
}

in_single_bytes! {
    tokio_tokio: tokio => tokio;
    smol_blocking: smol => blocking;
    blocking_smol: blocking => smol;
}

fn a_session_in_single_bytes(pair: Pair) {
    let address = format!("{}-{}", pipe::SINGLE_BYTES, pair.server.network.any_address());
    let served = pair.server.serve_at(&address, Recorder::small());
    let policy = pair.client.connect(&served.uri);
    soon(|| policy.metadata()).unwrap();
    soon(|| policy.reset()).unwrap();
    policy.start_obs_stream(hz(100.0)).unwrap();
    policy.start_action_dispatch(hz(200.0)).unwrap();
    let first = soon(|| policy.next_obs()).unwrap();
    policy.put_chunk(&first, actions(0..20)).unwrap();
    served.robot.wait_for_applied(20);
    assert_eq!(values(&served.robot.applied()), (0..20_u8).map(f32::from).collect::<Vec<_>>());
    soon(|| policy.observe()).unwrap();
    soon(|| policy.close());
    let reason = served.robot.wait_for_disconnects(1);
    assert!(matches!(reason, ConnectionError::ClosedByPeer { .. }), "{reason:?}");
}

/// What the plugs need of an adapter: the calls that its users would make.
pub(crate) trait Plugs: Sync {
    fn accept(
        &self,
        acceptor: Box<dyn Acceptor>,
        robot: Arc<Recorder>,
        settings: ServerSettings,
    ) -> Box<dyn Serving>;

    fn connect_with(
        &self,
        connector: Box<dyn Connector>,
        settings: ClientSettings,
    ) -> Result<Arc<dyn Policy>, ConnectError>;

    fn serve_pipes(
        &self,
        pipes: Listening<Pipe>,
        robot: Arc<Recorder>,
        settings: ServerSettings,
    ) -> Box<dyn Serving>;

    fn over_pipe(
        &self,
        pipe: Pipe,
        settings: ClientSettings,
    ) -> Result<Arc<dyn Policy>, ConnectError>;
}

impl<E: Executor> Plugs for Driven<E> {
    fn accept(
        &self,
        acceptor: Box<dyn Acceptor>,
        robot: Arc<Recorder>,
        settings: ServerSettings,
    ) -> Box<dyn Serving> {
        let server = PolicyServer::accepting(acceptor, self.config(&robot, settings));
        self.serve_on(server, robot)
    }

    fn connect_with(
        &self,
        connector: Box<dyn Connector>,
        settings: ClientSettings,
    ) -> Result<Arc<dyn Policy>, ConnectError> {
        Ok(self.policy(E::block_on(self.builder(settings).connect_with(connector))?))
    }

    fn serve_pipes(
        &self,
        pipes: Listening<Pipe>,
        robot: Arc<Recorder>,
        settings: ServerSettings,
    ) -> Box<dyn Serving> {
        let uri = pipe_uri(pipes.name());
        let server = PolicyServer::<E::Runtime>::unbound(self.config(&robot, settings));
        let (stop, stopped) = oneshot::channel();
        let accepting = server.clone();
        E::spawn(async move {
            let mut stopped = Box::pin(until_dropped(stopped));
            while let Some(pipe) = next(&pipes, &mut stopped).await {
                let (server, robot) = (accepting.clone(), Arc::clone(&robot));
                E::Runtime::spawn("pipe", async move {
                    // A policy that was refused has been told.
                    let _ = server.serve_stream(pipe, "a pipe", robot).await;
                });
            }
        });
        Box::new(DrivenPipes::<E> { server, uri, stop: Mutex::new(Some(stop)) })
    }

    fn over_pipe(
        &self,
        pipe: Pipe,
        settings: ClientSettings,
    ) -> Result<Arc<dyn Policy>, ConnectError> {
        Ok(self.policy(E::block_on(self.builder(settings).over_stream(pipe))?))
    }
}

impl Plugs for Blocking {
    fn accept(
        &self,
        acceptor: Box<dyn Acceptor>,
        robot: Arc<Recorder>,
        settings: ServerSettings,
    ) -> Box<dyn Serving> {
        let server = chiral_blocking::PolicyServer::accepting(acceptor, self.config(settings));
        server.spawn(robot).expect("it listens");
        Box::new(server)
    }

    fn connect_with(
        &self,
        connector: Box<dyn Connector>,
        settings: ClientSettings,
    ) -> Result<Arc<dyn Policy>, ConnectError> {
        Ok(self.policy(self.builder(settings).connect_with(connector)?))
    }

    fn serve_pipes(
        &self,
        pipes: Listening<Pipe>,
        robot: Arc<Recorder>,
        settings: ServerSettings,
    ) -> Box<dyn Serving> {
        let uri = pipe_uri(pipes.name());
        let server = chiral_blocking::PolicyServer::unbound(self.config(settings));
        let (stop, stopped) = oneshot::channel();
        let accepting = server.clone();
        std::thread::spawn(move || {
            let mut stopped = Box::pin(until_dropped(stopped));
            while let Some(pipe) = block_on(next(&pipes, &mut stopped)) {
                let (server, robot) = (accepting.clone(), Arc::clone(&robot));
                std::thread::spawn(move || {
                    // A policy that was refused has been told.
                    let _ = server.serve_stream(pipe, "a pipe", robot);
                });
            }
        });
        Box::new(BlockingPipes { server, uri, stop: Mutex::new(Some(stop)) })
    }

    fn over_pipe(
        &self,
        pipe: Pipe,
        settings: ClientSettings,
    ) -> Result<Arc<dyn Policy>, ConnectError> {
        Ok(self.policy(self.builder(settings).over_stream(pipe)?))
    }
}

/// Who holds it has the pipes accepted.
type Stop = Mutex<Option<oneshot::Sender<Infallible>>>;

/// Ends when the sender is dropped: it never sends.
async fn until_dropped(stopped: oneshot::Receiver<Infallible>) {
    let _ = stopped.await;
}

/// The next pipe; `None` when no more are to be accepted.
async fn next(
    pipes: &Listening<Pipe>,
    stopped: &mut (impl Future<Output = ()> + Unpin),
) -> Option<Pipe> {
    let stop = async {
        stopped.await;
        None
    };
    or(stop, async { Some(pipes.accept().await) }).await
}

fn stop_accepting(stop: &Stop) {
    drop(stop.lock().unwrap_or_else(PoisonError::into_inner).take());
}

struct DrivenPipes<E: Executor> {
    server: PolicyServer<E::Runtime>,
    uri: String,
    stop: Stop,
}

impl<E: Executor> Serving for DrivenPipes<E> {
    fn uri(&self) -> String {
        self.uri.clone()
    }

    fn shut_down(&self) {
        stop_accepting(&self.stop);
        E::block_on(self.server.shutdown());
    }

    fn stats(&self) -> Option<Stats> {
        self.server.stats()
    }

    fn arm(&self) -> bool {
        self.server.arm()
    }

    fn stop_motion(&self) -> bool {
        self.server.stop_motion()
    }
}

impl<E: Executor> Drop for DrivenPipes<E> {
    fn drop(&mut self) {
        // Those that serve a pipe have handles to it, too.
        self.server.stop();
    }
}

struct BlockingPipes {
    server: chiral_blocking::PolicyServer,
    uri: String,
    stop: Stop,
}

impl Serving for BlockingPipes {
    fn uri(&self) -> String {
        self.uri.clone()
    }

    fn shut_down(&self) {
        stop_accepting(&self.stop);
        self.server.shutdown();
    }

    fn stats(&self) -> Option<Stats> {
        self.server.stats()
    }

    fn arm(&self) -> bool {
        self.server.arm()
    }

    fn stop_motion(&self) -> bool {
        self.server.stop_motion()
    }
}

impl Drop for BlockingPipes {
    fn drop(&mut self) {
        self.server.stop();
    }
}

/// An adapter over in-memory pipes.
pub(crate) struct OverPipes(pub(crate) &'static dyn Plugs);

fn pipe_uri(name: &str) -> String {
    format!("pipe:{name}")
}

impl Adapter for OverPipes {
    fn serve(
        &self,
        address: &str,
        robot: Arc<Recorder>,
        settings: ServerSettings,
    ) -> Box<dyn Serving> {
        let pipes = pipe::NAMES.listen(address).expect("nobody listens there");
        self.0.serve_pipes(pipes, robot, settings)
    }

    fn connect(
        &self,
        uri: &str,
        settings: ClientSettings,
    ) -> Result<Arc<dyn Policy>, ConnectError> {
        let start = Instant::now();
        let name = uri.strip_prefix("pipe:").expect("it is a pipe's");
        let pipe = block_on(pipe::connect(name, settings.connect_timeout)).map_err(|last| {
            ConnectError::NoServer { uri: uri.to_owned(), waited: start.elapsed(), last }
        })?;
        self.0.over_pipe(pipe, settings)
    }

    fn uri(&self, address: &str) -> String {
        pipe_uri(address)
    }
}

/// An adapter over frames with their length before them.
pub(crate) struct OverFrames(pub(crate) &'static dyn Plugs);

impl Adapter for OverFrames {
    fn serve(
        &self,
        address: &str,
        robot: Arc<Recorder>,
        settings: ServerSettings,
    ) -> Box<dyn Serving> {
        let acceptor = FramedAcceptor::bind(&self.uri(address), &settings.machine.limits);
        self.0.accept(Box::new(acceptor.expect("nobody listens there")), robot, settings)
    }

    fn connect(
        &self,
        uri: &str,
        settings: ClientSettings,
    ) -> Result<Arc<dyn Policy>, ConnectError> {
        let connector = FramedConnector::new(uri).expect("it is a URI of this transport");
        self.0.connect_with(Box::new(connector), settings)
    }

    fn uri(&self, address: &str) -> String {
        format!("frames:{address}")
    }

    fn is_refusal(&self, error: &ConnectError) -> bool {
        is_refusal(error)
    }
}

/// An adapter over queues of messages.
pub(crate) struct OverQueues(pub(crate) &'static dyn Plugs);

impl Adapter for OverQueues {
    fn serve(
        &self,
        address: &str,
        robot: Arc<Recorder>,
        settings: ServerSettings,
    ) -> Box<dyn Serving> {
        let acceptor = QueueAcceptor::bind(&self.uri(address)).expect("nobody listens there");
        self.0.accept(Box::new(acceptor), robot, settings)
    }

    fn connect(
        &self,
        uri: &str,
        settings: ClientSettings,
    ) -> Result<Arc<dyn Policy>, ConnectError> {
        let connector = QueueConnector::new(uri).expect("it is a URI of this transport");
        self.0.connect_with(Box::new(connector), settings)
    }

    fn uri(&self, address: &str) -> String {
        format!("queue:{address}")
    }

    fn is_refusal(&self, error: &ConnectError) -> bool {
        is_refusal(error)
    }
}

fn is_refusal(error: &ConnectError) -> bool {
    let ConnectError::Transport(error) = error else { return false };
    let Some(Refused { reason }) = error.downcast_ref() else { return false };
    reason == "this robot already has a policy; it takes one at a time"
}

/// Names within this process.
pub(crate) struct Memory<E: 'static>(&'static Names<E>);

pub(crate) static PIPES: Memory<Pipe> = Memory(&pipe::NAMES);
pub(crate) static QUEUES: Memory<Queue> = Memory(&queue::NAMES);

impl<E: Send> Network for Memory<E> {
    fn unused_address(&self) -> String {
        static CALLS: AtomicU32 = AtomicU32::new(0);
        format!("robot-{}", CALLS.fetch_add(1, Ordering::Relaxed))
    }

    fn address_of(&self, uri: &str) -> String {
        name_of(uri).to_owned()
    }

    fn is_listening(&self, uri: &str) -> bool {
        self.0.is_listening(name_of(uri))
    }

    fn relay(&self, uri: &str) -> Box<dyn Relay> {
        Box::new(MemoryRelay { names: self.0, uri: uri.to_owned() })
    }
}

fn name_of(uri: &str) -> &str {
    uri.split_once(':').expect("it has a scheme").1
}

/// Goes between nobody: the connections themselves can be cut and stopped.
struct MemoryRelay<E: 'static> {
    names: &'static Names<E>,
    uri: String,
}

impl<E> MemoryRelay<E> {
    fn each(&self, fault: impl FnMut(Arc<dyn Faults>)) {
        self.names.connections(name_of(&self.uri)).into_iter().for_each(fault);
    }
}

impl<E: Send> Relay for MemoryRelay<E> {
    fn uri(&self) -> &str {
        &self.uri
    }

    fn cut(&self) {
        self.each(|connection| connection.cut());
    }

    fn freeze(&self) {
        self.each(|connection| connection.freeze(true, true));
    }

    fn freeze_server(&self) {
        self.each(|connection| connection.freeze(false, true));
    }

    fn thaw(&self) {
        self.each(|connection| connection.freeze(false, false));
    }
}
