//! Programs that speak another protocol on the same port: what is said of them.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use chiral_proto::wire::ClientMessage;
use chiral_tests::adapter::{Adapter, ClientSettings, ServerSettings};
use chiral_tests::{Opcode, Raw, RawServer, Recorder, SOON, adapters};

const ADAPTERS: [(&str, &dyn Adapter); 3] = [
    ("tokio", &adapters::tokio::ADAPTER),
    ("smol", &adapters::smol::ADAPTER),
    ("blocking", &adapters::blocking::ADAPTER),
];

/// The log of all threads.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
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

#[test]
fn a_policy_that_waits_for_the_server_to_speak_is_hinted_at() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).init();
    let mut held = Vec::new();
    for (name, adapter) in ADAPTERS {
        let serve = || {
            let robot = Arc::new(Recorder::small());
            adapter.serve("127.0.0.1:0", robot, ServerSettings::default())
        };
        let connect =
            |uri: String| Raw::complete_handshake(uri.trim_start_matches("ws://").parse().unwrap());
        let (quiet, loud) = (serve(), serve());
        let quiet_policy = connect(quiet.uri());
        let mut loud_policy = connect(loud.uri());
        loud_policy.send_message(Opcode::Binary, &ClientMessage::Metadata.encode().to_bytes());
        // The policies first, so that no server waits for their goodbye.
        held.push((name, quiet_policy, loud_policy, quiet, loud));
    }
    let hint_of = |raw: &Raw| {
        let hint = format!("{} has been connected for 5 s", raw.socket.local_addr().unwrap());
        log.text().lines().find(|line| line.contains(&hint)).map(str::to_owned)
    };
    let start = Instant::now();
    for (name, quiet, loud, _, _) in &held {
        let hint = loop {
            if let Some(hint) = hint_of(quiet) {
                break hint;
            }
            assert!(start.elapsed() < 2 * SOON, "{name}: no hint\n{}", log.text());
            thread::sleep(Duration::from_millis(10));
        };
        assert!(hint.contains("WARN") && hint.contains("openpi"), "{hint}");
        // It came before the quiet one, and has spoken.
        assert_eq!(hint_of(loud), None, "{name}");
    }
}

#[test]
fn a_server_that_speaks_first_in_msgpack_is_named() {
    for (name, adapter) in ADAPTERS {
        let server = RawServer::new();
        let uri = server.uri();
        let connecting = thread::spawn(move || adapter.connect(&uri, ClientSettings::default()));
        let mut raw = server.accept(b"");
        let policy = connecting.join().unwrap().unwrap();
        // As an openpi policy server begins.
        raw.send_message(Opcode::Binary, b"\x81\xabpolicy_name\xa3pi0");
        let (code, reason) = raw.closed();
        assert_eq!(code, 1007, "{name}");
        assert!(reason.contains("openpi"), "{name}: {reason}");
        let error = policy.error().expect("it has ended").to_string();
        assert!(error.contains("as openpi's servers send it"), "{name}: {error}");
        assert!(!error.contains("Limits"), "{name}: {error}");
    }
}
