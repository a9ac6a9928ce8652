//! Strangers who send without end, or come without end: whoever is connected does not notice.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chiral_driver::ConnectError;
use chiral_proto::wire::ClientMessage;
use chiral_tests::{Entry, Opcode, Raw, RawServer, Recorder, SOON};

use crate::adapter::{ClientSettings, ServerSettings};
use crate::network::address_of;
use crate::pair::{Client, Server, action};
use crate::supervise::{A_WHILE, Aside, aside, eventually, soon};

/// Strangers who go on until this is dropped.
struct Flood {
    is_over: Arc<AtomicBool>,
    strangers: Vec<Aside<()>>,
}

impl Flood {
    /// So many threads, each of which does the same again and again.
    fn of(strangers: usize, attack: impl Fn(&AtomicBool) + Clone + Send + 'static) -> Self {
        let is_over = Arc::<AtomicBool>::default();
        let strangers = (0..strangers).map(|_| {
            let (is_over, attack) = (Arc::clone(&is_over), attack.clone());
            aside(move || {
                while !is_over.load(Ordering::Relaxed) {
                    attack(&is_over);
                }
            })
        });
        Self { strangers: strangers.collect(), is_over }
    }

    fn end(self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.strangers.into_iter().for_each(Aside::done);
    }
}

/// Sends a head, and then bytes for as long as they are taken.
fn send_without_end(address: SocketAddr, head: &[u8], is_over: &AtomicBool) {
    let Ok(mut socket) = TcpStream::connect_timeout(&address, SOON) else { return };
    socket.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    if socket.write_all(head).is_ok() {
        while !is_over.load(Ordering::Relaxed) && socket.write_all(&[b'x'; 16 << 10]).is_ok() {}
    }
}

pub(crate) fn strangers_who_send_without_end_disturb_no_policy(adapter: Server) {
    for head in [&b"BAD\r\n\r\n"[..], b"GET / HTTP/1.1\r\nCookie: ", Raw::request()] {
        let mut settings = ServerSettings::default();
        settings.machine.watchdog = Some(Duration::from_millis(300));
        let served = adapter.serve_with(Recorder::small(), settings);
        let mut raw = Raw::complete_handshake(address_of(&served.uri));
        let address = address_of(&served.uri);
        let flood = Flood::of(2, move |is_over| send_without_end(address, head, is_over));
        for count in 1..=50 {
            let act = ClientMessage::ApplyAction(action(1)).encode().to_bytes();
            raw.send_message(Opcode::Binary, &act);
            served.robot.wait_for_applied(count);
        }
        // It is asked for a sign of life, for each who wants its place.
        let silent_from = served.robot.count(|entry| *entry == Entry::Watchdog);
        served.robot.until(silent_from + 1, |entry| *entry == Entry::Watchdog);
        let request = ClientMessage::Metadata.encode().to_bytes();
        raw.send_message(Opcode::Binary, &request);
        while raw.frame().expect("it is answered").0 != Opcode::Binary {}
        flood.end();
    }
}

/// A connection from an address of the loopback's own.
#[cfg(target_os = "linux")]
fn connect_from(source: [u8; 4], server: SocketAddr) -> Raw {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let SocketAddr::V4(server) = server else { panic!("{server} is not of IPv4") };
    let ours = std::net::SocketAddrV4::new(source.into(), 0);
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &ours).unwrap();
    connect(&socket, &server).unwrap();
    Raw::of_client(TcpStream::from(socket))
}

#[cfg(target_os = "linux")]
pub(crate) fn a_flood_of_handshakes_evicts_only_its_own_source(adapter: Server) {
    let served = adapter.serve(Recorder::small());
    let mut honest = connect_from([127, 0, 0, 2], address_of(&served.uri));
    let (begun, rest) = Raw::request().split_at(40);
    honest.send(begun);
    let flood: Vec<Raw> = (0..150)
        .map(|_| {
            let mut raw = Raw::connect(address_of(&served.uri));
            raw.send(begun);
            raw
        })
        .collect();
    eventually(|| flood.iter().filter(|raw| raw.is_disconnected()).count() >= 150 - 64);
    honest.send(rest);
    honest.expect_handshake_response();
    served.robot.until(1, |entry| *entry == Entry::Connected);
}

pub(crate) fn policies_that_wait_for_the_robot_make_room_for_others(adapter: Server) {
    let served = adapter.serve(Recorder::small());
    let address = address_of(&served.uri);
    // It does not say whether it is alive, so that others wait for a while.
    let _policy = Raw::complete_handshake(address);
    let wait = || {
        let mut raw = Raw::connect(address);
        raw.send(Raw::request());
        raw
    };
    let mut first = wait();
    // Until it waits for the robot: who is not done with its handshake is closed without an answer.
    std::thread::sleep(A_WHILE);
    let _others: Vec<Raw> = (0..100).map(|_| wait()).collect();
    let answer = String::from_utf8(first.to_end()).expect("it is HTTP");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.ends_with("too many others wait for this robot; try again"), "{answer}");
}

pub(crate) fn refused_connections_that_stay_are_closed(adapter: Server) {
    let served = adapter.serve(Recorder::small());
    let mut strangers: Vec<Raw> = (0..100)
        .map(|_| {
            let mut raw = Raw::connect(address_of(&served.uri));
            raw.send(b"BAD\r\n\r\n");
            raw
        })
        .collect();
    for raw in &mut strangers {
        let answer = raw.to_end();
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 400 "), "{answer:?}");
    }
    Raw::complete_handshake(address_of(&served.uri));
}

pub(crate) fn a_reset_behind_a_close_ends_the_connection_at_once(adapter: Server) {
    const ROUNDS: usize = 10;
    let served = adapter.serve(Recorder::large());
    for round in 1..=ROUNDS {
        let mut raw = Raw::complete_handshake(address_of(&served.uri));
        raw.send_message(Opcode::Binary, &ClientMessage::Observe.encode().to_bytes());
        raw.send_message(Opcode::Close, &1000_u16.to_be_bytes());
        // With the observation unread, so that this is a reset.
        drop(raw);
        served.robot.wait_for_disconnects(round);
    }
}

pub(crate) fn a_server_that_never_ends_its_handshake_is_given_up(client: Client) {
    const HEADS: [&[u8]; 2] =
        [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 101 Switching Protocols\r\nx: y\r\n"];
    for head in HEADS {
        let server = RawServer::new();
        let uri = server.uri();
        let settings = ClientSettings {
            connect_timeout: Some(Duration::from_millis(200)),
            ..ClientSettings::default()
        };
        let connecting = aside(move || client.0.connect(&uri, settings).map(drop));
        let mut raw = soon(|| server.socket());
        raw.head();
        raw.socket.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
        let sending = aside(move || {
            let heads = head.repeat(64);
            while raw.socket.write_all(&heads).is_ok() {}
        });
        let error = connecting.done().unwrap_err();
        assert!(
            matches!(error, ConnectError::Handshake { .. } | ConnectError::NoServer { .. }),
            "{error:?}"
        );
        sending.done();
    }
}
