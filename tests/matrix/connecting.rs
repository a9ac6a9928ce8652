//! How a client comes to its server: waiting, giving up, what is no robot.

use std::cell::RefCell;
use std::io::Write;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use chiral_driver::ConnectError;
use chiral_proto::Map;
use chiral_proto::wire::{ClientMessage, ServerMessage};
use chiral_tests::{Opcode, RawServer, message};

use crate::adapter::ClientSettings;
use crate::network::nowhere;
use crate::pair::Client;
use crate::supervise::{aside, ask, eventually, soon};

/// A log that a test can read.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

thread_local! {
    /// Where the thread's events go; of most threads, nowhere.
    static LOG: RefCell<Option<Log>> = const { RefCell::new(None) };
}

/// Has the events of each thread written to its log. One subscriber for all threads: with one of
/// its own only, an event is lost when a thread without any is the first to come by its place.
static SUBSCRIBED: LazyLock<()> = LazyLock::new(|| {
    let writer = || LOG.with_borrow(|log| log.clone().unwrap_or_default());
    tracing_subscriber::fmt().with_ansi(false).with_writer(writer).init();
    // For the places that were come by meanwhile.
    tracing::callsite::rebuild_interest_cache();
});

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// Runs something in this thread, and keeps what it logs.
    fn keep<T>(&self, of: impl FnOnce() -> T) -> T {
        LazyLock::force(&SUBSCRIBED);
        LOG.set(Some(self.clone()));
        let result = of();
        LOG.set(None);
        result
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

/// How connecting fails.
#[track_caller]
fn failure(client: Client, uri: &str, timeout: impl Into<Option<Duration>>) -> ConnectError {
    let settings = ClientSettings { connect_timeout: timeout.into(), ..ClientSettings::default() };
    client.try_connect(uri, settings).map(drop).unwrap_err()
}

pub(crate) fn connecting_retries_until_the_server_is_up_and_logs_once(client: Client) {
    let address = nowhere();
    let uri = format!("ws://{address}");
    let log = Log::default();
    let (theirs, goal) = (log.clone(), uri.clone());
    let connecting =
        aside(move || theirs.keep(|| client.0.connect(&goal, ClientSettings::default())));
    eventually(|| !log.text().is_empty());

    // A port that is forwarded to where no server is yet: it accepts, and hangs up.
    let server = RawServer::at(address);
    let mut tries = Vec::new();
    for _ in 0..4 {
        let mut raw = soon(|| server.socket());
        tries.push(Instant::now());
        raw.head();
    }
    assert!(tries[3] - tries[0] > Duration::from_millis(290), "{tries:?}");
    let mut raw = soon(|| server.accept(b""));
    let policy = connecting.done().expect("it was waited for");
    let asking = ask(&policy, |policy| policy.metadata());
    assert_eq!(
        raw.frame().unwrap(),
        (Opcode::Binary, ClientMessage::Metadata.encode().to_bytes().to_vec())
    );
    let answer = ServerMessage::Metadata(Map::new().with("robot", "late"));
    raw.send_message(Opcode::Binary, &answer.encode().to_bytes());
    assert_eq!(asking.done().unwrap().get("robot"), Some("late".into()));
    // A client that closes waits for its server's answer.
    drop(raw);

    let notices = log.text();
    assert_eq!(notices.lines().count(), 1, "{notices}");
    assert!(notices.contains(&format!("waiting for a server at {uri}")), "{notices}");
}

pub(crate) fn connecting_stops_at_the_timeout(client: Client) {
    let timeout = Duration::from_millis(250);
    let uri = format!("ws://{}", nowhere());
    let start = Instant::now();
    let error = failure(client, &uri, timeout);
    assert!(matches!(error, ConnectError::NoServer { .. }), "{error:?}");
    // It does not wait for a try that would come too late.
    assert!(start.elapsed() + Duration::from_millis(101) > timeout, "{:?}", start.elapsed());
    assert!(error.to_string().starts_with(&format!("no server at {uri} within ")), "{error}");
}

pub(crate) fn connecting_to_a_silent_server_times_out(client: Client) {
    let silent = RawServer::new();
    let error = failure(client, &silent.uri(), Duration::from_millis(100)).to_string();
    assert!(error.contains("accepted the connection and then was silent"), "{error}");
}

pub(crate) fn connecting_to_another_kind_of_server_fails_at_once(client: Client) {
    for (uri, why) in [
        ("robot:8765", "expected ws://host:port"),
        ("wss://localhost:8765", "open the TLS connection yourself"),
    ] {
        let error = failure(client, uri, None).to_string();
        assert!(error.contains(why), "{error}");
    }
    let web_server = RawServer::new();
    let uri = web_server.uri();
    let connecting = aside(move || client.0.connect(&uri, ClientSettings::default()).map(drop));
    let mut raw = soon(|| web_server.socket());
    raw.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 7\r\n\r\nno page");
    let error = connecting.done().unwrap_err().to_string();
    assert!(error.contains("404 Not Found: no page"), "{error}");
}

pub(crate) fn frames_sent_right_after_the_handshake_are_not_lost(client: Client) {
    let server = RawServer::new();
    let uri = server.uri();
    let connecting = aside(move || client.0.connect(&uri, ClientSettings::default()));
    let mut raw = soon(|| server.accept(&message(Opcode::Ping, b"early bird", false)));
    let policy = connecting.done().expect("it is taken");
    assert_eq!(raw.frame().unwrap(), (Opcode::Pong, b"early bird".to_vec()));
    assert_eq!(policy.error(), None);
    drop(raw);
}
