//! Bare Zenoh: what moving the same bytes with it takes, without anything of ours. 32 bytes put
//! there, the observation's bytes put back, in sessions of their own that share no memory.

#[cfg(feature = "zenoh")]
mod exchange {
    use std::net::TcpListener;
    use std::sync::mpsc::{Receiver, channel};
    use std::time::{Duration, Instant};

    use anyhow::{anyhow, ensure};
    use zenoh::bytes::ZBytes;
    use zenoh::pubsub::{Publisher, Subscriber};
    use zenoh::qos::CongestionControl;
    use zenoh::{Session, Wait};

    const ASK: &str = "bare/ask";
    const ANSWER: &str = "bare/answer";
    const REQUEST: [u8; 32] = [0; 32];
    /// How long the other side may take to be there, and then to answer.
    const PATIENCE: Duration = Duration::from_secs(10);

    /// The answering side. Dropped, it stops.
    pub(crate) struct Server {
        endpoint: String,
        _subscriber: Subscriber<()>,
        _session: Session,
    }

    impl Server {
        pub(crate) fn start(bytes: usize) -> anyhow::Result<Self> {
            // Zenoh would choose a port as well, but not tell which.
            let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            let endpoint = format!("tcp/127.0.0.1:{port}");
            let session = open("peer", "listen", &endpoint)?;
            // Written once, so that it is memory of its own and not the system's page of zeros.
            let buffer: Vec<u8> = (0..bytes).map(|index| index as u8).collect();
            let buffer = ZBytes::from(buffer);
            let answers = publisher(&session, ANSWER)?;
            let (asked, questions) = channel();
            // Zenoh's own threads are not to be blocked.
            std::thread::Builder::new().name("bare".to_owned()).spawn(move || {
                while questions.recv().is_ok() {
                    if answers.put(buffer.clone()).wait().is_err() {
                        return;
                    }
                }
            })?;
            let subscriber = session.declare_subscriber(ASK).callback(move |_| {
                // Nobody answers any more when the session has ended.
                let _ = asked.send(());
            });
            let subscriber = subscriber.wait().map_err(failed)?;
            Ok(Self { endpoint, _subscriber: subscriber, _session: session })
        }

        pub(crate) fn endpoint(&self) -> &str {
            &self.endpoint
        }
    }

    /// The asking side.
    pub(crate) struct Client {
        questions: Publisher<'static>,
        answers: Receiver<ZBytes>,
        bytes: usize,
        _subscriber: Subscriber<()>,
        _session: Session,
    }

    impl Client {
        pub(crate) fn connect(endpoint: &str, bytes: usize) -> anyhow::Result<Self> {
            let session = open("client", "connect", endpoint)?;
            let (came, answers) = channel();
            let subscriber = session.declare_subscriber(ANSWER).callback(move |sample| {
                // Nobody waits for it any more.
                let _ = came.send(sample.payload().clone());
            });
            let subscriber = subscriber.wait().map_err(failed)?;
            let questions = publisher(&session, ASK)?;
            let client =
                Self { questions, answers, bytes, _subscriber: subscriber, _session: session };
            client.wait_for_answers()?;
            Ok(client)
        }

        /// The two sides have found each other when a question is answered.
        fn wait_for_answers(&self) -> anyhow::Result<()> {
            let deadline = Instant::now() + PATIENCE;
            while Instant::now() < deadline {
                self.questions.put(REQUEST).wait().map_err(failed)?;
                if self.answers.recv_timeout(PATIENCE / 10).is_ok() {
                    // What the earlier questions are answered with comes late.
                    while self.answers.recv_timeout(PATIENCE / 100).is_ok() {}
                    return Ok(());
                }
            }
            Err(anyhow!("bare Zenoh gave no answer within {PATIENCE:?}"))
        }

        /// One exchange, and how long it took.
        pub(crate) fn exchange(&mut self) -> anyhow::Result<Duration> {
            let start = Instant::now();
            self.questions.put(REQUEST).wait().map_err(failed)?;
            let answer = self.answers.recv_timeout(PATIENCE)?;
            let took = start.elapsed();
            ensure!(answer.len() == self.bytes, "bare Zenoh gave another answer than was expected");
            Ok(took)
        }
    }

    fn publisher(session: &Session, key: &'static str) -> anyhow::Result<Publisher<'static>> {
        let publisher = session.declare_publisher(key);
        publisher.congestion_control(CongestionControl::Block).wait().map_err(failed)
    }

    /// A session with Zenoh's own settings, but that it looks for nobody else.
    fn open(mode: &str, role: &str, endpoint: &str) -> anyhow::Result<Session> {
        let mut config = zenoh::Config::default();
        for (key, value) in [
            ("mode", format!("{mode:?}")),
            ("scouting/multicast/enabled", "false".to_owned()),
            ("scouting/gossip/enabled", "false".to_owned()),
            ("transport/shared_memory/enabled", "false".to_owned()),
            ("listen/endpoints", "[]".to_owned()),
            (&format!("{role}/endpoints"), format!("[{endpoint:?}]")),
        ] {
            config.insert_json5(key, &value).map_err(failed)?;
        }
        zenoh::open(config).wait().map_err(failed)
    }

    #[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` gives")]
    fn failed(error: zenoh::Error) -> anyhow::Error {
        anyhow!("bare Zenoh: {error}")
    }
}

/// Without Zenoh there is nothing to measure, and nothing of these is ever made.
#[cfg(not(feature = "zenoh"))]
mod exchange {
    use std::convert::Infallible;
    use std::time::Duration;

    pub(crate) struct Server(Infallible);

    impl Server {
        pub(crate) fn start(_: usize) -> anyhow::Result<Self> {
            anyhow::bail!("there is no Zenoh in this program")
        }

        pub(crate) fn endpoint(&self) -> &str {
            match self.0 {}
        }
    }

    pub(crate) struct Client(Infallible);

    impl Client {
        pub(crate) fn connect(_: &str, _: usize) -> anyhow::Result<Self> {
            anyhow::bail!("there is no Zenoh in this program")
        }

        pub(crate) fn exchange(&mut self) -> anyhow::Result<Duration> {
            match self.0 {}
        }
    }
}

pub(crate) use exchange::{Client, Server};
