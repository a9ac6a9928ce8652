//! How a client comes to a server, and a server to its clients: waiting, handshakes, refusals.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chiral_proto::wire::ClientMessage;
use chiral_proto::ws::HandshakeError;
use chiral_proto::{Action, Array, Rate};
use chiral_tests::{Entry, Opcode, Raw, RawServer, Recorder, Served, message, soon};
use chiral_tokio::{ConnectError, PolicyClient, PolicyServer};
use tracing::instrument::WithSubscriber;

/// A log that a test can read.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    fn subscriber(&self) -> impl tracing::Subscriber + Send + Sync + 'static {
        let log = self.clone();
        tracing_subscriber::fmt().with_ansi(false).with_writer(move || log.clone()).finish()
    }
}

impl Write for Log {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(text)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A loopback address on which nothing listens.
fn nowhere() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn a_client_waits_for_a_server_that_comes_later() {
    let address = nowhere();
    let uri = format!("ws://{address}");
    let log = Log::default();
    let connecting =
        async move { PolicyClient::connect(&uri).await }.with_subscriber(log.subscriber());
    let connecting = tokio::spawn(connecting);
    soon(async {
        while log.text().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;

    // A port that is forwarded to where no server is yet: it accepts, and hangs up.
    let forwarded = tokio::net::TcpListener::bind(address).await.unwrap();
    let mut tries = Vec::new();
    for _ in 0..4 {
        let (mut socket, _) = soon(forwarded.accept()).await.unwrap();
        tries.push(Instant::now());
        let mut request = [0; 4096];
        tokio::io::AsyncReadExt::read(&mut socket, &mut request).await.unwrap();
    }
    drop(forwarded);
    assert!(tries[3] - tries[0] > Duration::from_millis(290), "{tries:?}");

    let server = PolicyServer::bind(&address.to_string()).await.unwrap();
    let serving = server.clone();
    tokio::spawn(async move { serving.serve(Recorder::small()).await });
    let client = soon(connecting).await.unwrap().unwrap();
    soon(client.metadata()).await.unwrap();

    let notices = log.text();
    assert_eq!(notices.lines().count(), 1, "{notices}");
    assert!(notices.contains(&format!("waiting for a server at ws://{address}")), "{notices}");
}

#[tokio::test]
async fn the_wait_for_a_server_ends_when_the_user_says_so() {
    let timeout = Duration::from_millis(250);
    let uri = format!("ws://{}", nowhere());
    let start = Instant::now();
    let connecting = PolicyClient::builder().connect_timeout(timeout).connect(&uri);
    let error = soon(connecting).await.unwrap_err();
    assert!(matches!(error, ConnectError::NoServer { .. }), "{error:?}");
    assert!(start.elapsed() + Duration::from_millis(101) > timeout, "{:?}", start.elapsed());
    assert!(error.to_string().starts_with(&format!("no server at {uri} within ")), "{error}");

    // One that takes the connection and then says nothing is no server either.
    let silent = RawServer::new().await;
    let uri = silent.uri();
    let connecting = PolicyClient::builder().connect_timeout(timeout).connect(&uri);
    let error = soon(connecting).await.unwrap_err();
    assert!(error.to_string().contains("accepted the connection and then was silent"), "{error}");
}

#[tokio::test]
async fn what_is_no_robot_is_no_reason_to_wait() {
    for (uri, why) in [
        ("robot:8765", "expected ws://host:port"),
        ("wss://localhost:8765", "open the TLS connection yourself"),
    ] {
        let error = soon(PolicyClient::connect(uri)).await.unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    let web_server = RawServer::new().await;
    let uri = web_server.uri();
    let answering = async {
        let mut socket = web_server.socket().await;
        socket.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 7\r\n\r\nno page").await;
        socket.to_end().await
    };
    let (connected, _) = soon(async { tokio::join!(PolicyClient::connect(&uri), answering) }).await;
    let error = connected.unwrap_err().to_string();
    assert!(error.contains("404 Not Found: no page"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_client_is_refused_with_a_reason_and_the_first_streams_on() {
    let Served { uri, server, robot, .. } = Served::new(Recorder::small()).await;
    let first = PolicyClient::connect(&uri).await.unwrap();
    first.start_obs_stream(Rate::hz(200.0).unwrap()).unwrap();
    first.next_obs().await.unwrap();

    for _ in 0..3 {
        let before = first.stats().observations.count();
        match soon(PolicyClient::connect(&uri)).await.unwrap_err() {
            ConnectError::Handshake {
                source: HandshakeError::Refused { status: 503, body, .. },
                ..
            } => assert_eq!(body, "this robot already has a policy; it takes one at a time"),
            other => panic!("{other:?}"),
        }
        soon(async {
            while first.stats().observations.count() < before + 5 {
                first.next_obs().await.unwrap();
            }
        })
        .await;
    }

    // The reason also arrives when the refused one has sent more than its request.
    let mut raw = Raw::connect(server.local_addr().unwrap()).await;
    raw.send(&[Raw::request(), &vec![0x82; 100_000]].concat()).await;
    let refusal = String::from_utf8(raw.to_end().await).unwrap();
    assert!(refusal.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{refusal}");
    assert!(refusal.ends_with("\r\n\r\nthis robot already has a policy; it takes one at a time"));

    assert_eq!(first.error(), None);
    assert_eq!(robot.diary(), [Entry::Connected]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_client_is_welcome_once_the_first_has_gone() {
    let served = Served::new(Recorder::small()).await;
    let Served { uri, robot, .. } = &served;

    // Each comes at once, without a second try, behind one that …
    let closed = soon(PolicyClient::connect(uri)).await.unwrap();
    closed.close().await;
    let dropped = soon(PolicyClient::connect(uri)).await.unwrap();
    drop(dropped);
    let mut cut = served.raw().await;
    cut.send_message(Opcode::Binary, &ClientMessage::Metadata.encode().to_bytes()).await;
    cut.next().await.unwrap();
    drop(cut);
    let mut rude = served.raw().await;
    rude.send_message(Opcode::Binary, b"").await;
    assert_eq!(rude.closed().await.0, 1007);
    // … does not even answer the close.
    let last = soon(PolicyClient::connect(uri)).await.unwrap();
    soon(last.metadata()).await.unwrap();

    robot.until_gone(4).await;
    let ends: Vec<String> = robot.diary().into_iter().map(|entry| format!("{entry:?}")).collect();
    for (end, how) in ends.chunks(2).zip(["ClosedByPeer", "ClosedByPeer", "Lost", "BadFrame"]) {
        assert_eq!(end[0], "Connected");
        assert!(end[1].starts_with(&format!("Disconnected({how}")), "{end:?}");
    }
    assert_eq!(ends.last().unwrap(), "Connected");
    drop(rude);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_never_finish_their_handshake_block_nobody() {
    let served = Served::new(Recorder::small()).await;
    let mut loris = Vec::new();
    for index in 0..100 {
        let mut raw = served.socket().await;
        raw.send(&Raw::request()[..index % Raw::request().len()]).await;
        loris.push(raw);
    }
    // Well before any handshake would be given up for its slowness.
    let connecting =
        tokio::time::timeout(Duration::from_secs(5), PolicyClient::connect(&served.uri));
    let client = connecting.await.expect("it need not wait for the others").unwrap();
    soon(client.metadata()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_sends_right_behind_its_handshake_is_not_lost() {
    for action_len in [7, 5_000, 50_000] {
        let served = Served::new(Recorder::small()).await;
        let values: Vec<f32> = (0..action_len).map(|n| n as f32).collect();
        let action = Action::new(Array::vector(values.clone()));
        let action = ClientMessage::ApplyAction(action).encode().to_bytes();
        let metadata = ClientMessage::Metadata.encode().to_bytes();
        let mut raw = served.socket().await;
        let all = [
            Raw::request(),
            &message(Opcode::Binary, &action, true),
            &message(Opcode::Binary, &metadata, true),
            &message(Opcode::Ping, b"still there?", true),
        ];
        raw.send(&all.concat()).await;
        raw.expect_welcome().await;
        let (mut ponged, mut answered) = (false, false);
        while !(ponged && answered) {
            match raw.next().await.unwrap() {
                (Opcode::Pong, payload) => ponged = payload == b"still there?",
                (Opcode::Binary, answer) => {
                    answered = answer.windows(17).any(|text| text == b"metadata_response");
                }
                odd => panic!("{odd:?}"),
            }
        }
        served.robot.until(1, |entry| matches!(entry, Entry::Applied(_))).await;
        assert_eq!(*served.robot.applied()[0].1.to_f32(), values);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_server_sends_right_behind_its_handshake_is_not_lost() {
    let server = RawServer::new().await;
    let uri = server.uri();
    let bytes = message(Opcode::Ping, b"early bird", false);
    let (client, mut raw) =
        soon(async { tokio::join!(PolicyClient::connect(&uri), server.accept(&bytes)) }).await;
    let client = client.unwrap();
    assert_eq!(raw.next().await.unwrap(), (Opcode::Pong, b"early bird".to_vec()));
    assert_eq!(client.error(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_websocket_handshake_is_answered_in_http() {
    let served = Served::new(Recorder::small()).await;
    let long = ["GET / HTTP/1.1\r\nHost: x\r\nCookie: ", &"x".repeat(100_000), "\r\n\r\n"].concat();
    for (request, status, why) in [
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "426 Upgrade Required", "connect to it with ws://"),
        ("POST / HTTP/1.1\r\nHost: x\r\n\r\n", "405 Method Not Allowed", "expected GET"),
        ("\u{1}\u{2}\u{3} garbage\r\n\r\n", "400 Bad Request", "found no HTTP/1.1 request"),
        (&long, "431 Request Header Fields Too Large", "found a request head over"),
    ] {
        let mut raw = served.socket().await;
        raw.send(request.as_bytes()).await;
        let response = String::from_utf8(raw.to_end().await).unwrap();
        assert!(response.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{response}");
        assert!(response.contains(why), "{response}");
    }
    let client = soon(PolicyClient::connect(&served.uri)).await.unwrap();
    soon(client.metadata()).await.unwrap();
    assert_eq!(served.robot.diary(), [Entry::Connected], "nobody but the client was let in");
}
