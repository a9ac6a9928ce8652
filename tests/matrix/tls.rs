//! `wss://`, and who may connect: certificates and tokens.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chiral_driver::{ConnectError, TlsClient, TlsError, Token};
use chiral_proto::ConnectionError;
use chiral_tests::certificates::{Authority, Identity};
use chiral_tests::{Entry, Opcode, Raw, Recorder, adapters};

use crate::adapter::{ClientSettings, Policy, ServerSettings};
use crate::log::Log;
use crate::network::Tcp;
use crate::pair::{Client, Pair, Served, Server, actions, hz, values};
use crate::supervise::{eventually, soon};

/// Makes the tests of pairs over TLS: what they do over any transport.
macro_rules! over_tls {
    ($($pair:ident: $client:ident => $server:ident;)*) => {
        $(mod $pair {
            use crate::adapters::{self, tls::OverTls};
            use crate::network::Tcp;
            use crate::pair::{Client, Pair, Server};

            const PAIR: Pair = Pair {
                client: Client(&OverTls(&adapters::$client::ADAPTER)),
                server: Server {
                    adapter: &OverTls(&adapters::$server::ADAPTER),
                    network: &Tcp,
                },
            };
            common_cases! {}
        })*
    };
}

// Every adapter as a client and as a server.
over_tls! {
    tokio_tokio: tokio => tokio;
    smol_blocking: smol => blocking;
    blocking_smol: blocking => smol;
    async_std_tokio: async_std => tokio;
    tokio_async_std: tokio => async_std;
}

const TOKEN: &str = "5c1f0a-the-secret-of-this-robot";

fn token(text: &str) -> Token {
    Token::new(text).expect("it is a token")
}

fn with_tls(identity: &Identity) -> ServerSettings {
    ServerSettings { tls: Some(identity.server()), ..ServerSettings::default() }
}

fn trusting(tls: TlsClient) -> ClientSettings {
    ClientSettings { tls: Some(tls), ..ClientSettings::default() }
}

/// A server to try clients with.
const SERVER: Server = Server { adapter: &adapters::blocking::ADAPTER, network: &Tcp };
/// A client to try servers with.
const CLIENT: Client = Client(&adapters::blocking::ADAPTER);

#[track_caller]
fn refused(client: Client, uri: &str, settings: ClientSettings) -> ConnectError {
    client.try_connect(uri, settings).map(drop).expect_err("it is not connected")
}

#[track_caller]
fn tls_error(client: Client, uri: &str, settings: ClientSettings) -> TlsError {
    match refused(client, uri, settings) {
        ConnectError::Tls { error, .. } => error,
        other => panic!("{other}"),
    }
}

// ---- both sides -------------------------------------------------------------------------------

pub(crate) fn a_policy_drives_a_robot_over_tls(pair: Pair) {
    let identity = Identity::self_signed();
    let served = pair.server.serve_with(Recorder::diverse(), with_tls(&identity));
    assert!(served.uri.starts_with("wss://127.0.0.1:"), "{}", served.uri);
    let policy = pair.client.try_connect(&served.uri, trusting(identity.pinned()));
    let policy = policy.expect("it has the pinned certificate");
    let observation = policy.observe().expect("it answers");
    assert_eq!(observation.cameras, served.robot.sensors().snapshot(0.0).cameras);
    policy.start_obs_stream(hz(50.0)).expect("it begins");
    policy.start_action_dispatch(hz(200.0)).expect("it begins");
    policy.put_chunk(&observation, actions(0..20)).expect("there is room");
    for _ in 0..3 {
        let next = policy.next_obs().expect("it goes on");
        assert_eq!(next.cameras, observation.cameras);
    }
    served.robot.wait_for_applied(20);
    let expected: Vec<f32> = (0_u8..20).map(f32::from).collect();
    assert_eq!(values(&served.robot.applied()), expected);
    policy.close();
    let end = served.robot.wait_for_disconnects(1);
    assert!(matches!(end, ConnectionError::ClosedByPeer { .. }), "{end}");
}

pub(crate) fn certificates_of_both_sides_are_checked(pair: Pair) {
    let (lab, strangers) = (Authority::new(), Authority::new());
    let identity = lab.sign();
    let tls = identity.server().client_ca(lab.certificate()).expect("it is an authority");
    let settings = ServerSettings { tls: Some(tls), ..ServerSettings::default() };
    let served = pair.server.serve_with(Recorder::small(), settings);
    let with_certificate = |identity: &Identity| {
        lab.trusted().certificate(identity.certificate(), identity.key()).expect("they fit")
    };
    let error = tls_error(pair.client, &served.uri, trusting(lab.trusted()));
    assert!(error.to_string().contains("asks for a certificate of the client"), "{error}");
    let stranger = with_certificate(&strangers.sign());
    let error = tls_error(pair.client, &served.uri, trusting(stranger));
    assert!(error.to_string().contains("does not accept the client's certificate"), "{error}");
    assert_eq!(served.robot.history(), []);
    let member = with_certificate(&lab.sign());
    let policy = pair.client.try_connect(&served.uri, trusting(member)).expect("it is signed");
    policy.metadata().expect("it answers");
}

pub(crate) fn a_tls_stream_that_is_cut_is_told_from_an_orderly_end(pair: Pair) {
    let identity = Identity::self_signed();
    let served = pair.server.serve_with(Recorder::small(), with_tls(&identity));
    let relay = served.relay();
    let uri = format!("wss://{}", crate::network::address_of(relay.uri()));
    let connect = || pair.client.try_connect(&uri, trusting(identity.pinned())).expect("it passes");

    let policy = connect();
    policy.metadata().expect("it answers");
    relay.cut();
    let seen_by_robot = served.robot.wait_for_disconnects(1);
    eventually(|| policy.error().is_some());
    for end in [seen_by_robot, policy.error().expect("it has ended")] {
        // A cut is an end of the stream on one system, and a reset on another.
        let is_told = end.to_string().contains("the TLS stream was cut off");
        assert!(is_told || end == ConnectionError::Reset, "{end}");
        assert!(end.is_lost(), "{end}");
    }

    let policy = connect();
    policy.metadata().expect("it answers");
    served.server.shut_down();
    eventually(|| policy.error().is_some());
    let end = policy.error().expect("it has ended");
    assert!(matches!(end, ConnectionError::ClosedByPeer { code: Some(1001), .. }), "{end}");
}

pub(crate) fn a_robot_with_a_token_takes_those_who_have_it(pair: Pair) {
    let settings = ServerSettings { token: Some(token(TOKEN)), ..ServerSettings::default() };
    let served = pair.server.serve_with(Recorder::small(), settings);
    let with_token =
        |text| ClientSettings { token: Some(token(text)), ..ClientSettings::default() };
    let log = Log::default();
    log.keep(|| {
        let error = refused(pair.client, &served.uri, ClientSettings::default()).to_string();
        assert!(error.contains("401 Unauthorized: found none, expected the token"), "{error}");
        let wrong = "another-secret-than-this-robots";
        let error = refused(pair.client, &served.uri, with_token(wrong)).to_string();
        assert!(error.contains("401 Unauthorized: found another, expected the token"), "{error}");
        assert!(!error.contains(wrong) && !error.contains(TOKEN), "{error}");
        assert_eq!(served.robot.history(), []);
        let policy = pair.client.try_connect(&served.uri, with_token(TOKEN)).expect("it has it");
        policy.metadata().expect("it answers");
        policy.close();
    });
    assert!(!log.text().contains("secret"), "{}", log.text());
}

// ---- the client -------------------------------------------------------------------------------

pub(crate) fn a_client_connects_to_no_server_that_it_does_not_trust(client: Client) {
    let (identity, other) = (Identity::self_signed(), Identity::self_signed());
    let served = SERVER.serve_with(Recorder::small(), with_tls(&identity));

    let error = tls_error(client, &served.uri, trusting(other.pinned()));
    assert!(matches!(error, TlsError::WrongFingerprint { .. }), "{error}");
    assert!(error.to_string().contains(&identity.server().fingerprint()), "{error}");
    let error = tls_error(client, &served.uri, trusting(other.trusted()));
    assert!(error.to_string().contains("signed by nobody who is trusted here"), "{error}");
    let policy = client.try_connect(&served.uri, trusting(identity.trusted()));
    policy.expect("it is its own authority").close();

    let expired = Identity::expired();
    let served = SERVER.serve_with(Recorder::small(), with_tls(&expired));
    let error = tls_error(client, &served.uri, trusting(expired.trusted()));
    assert!(error.to_string().contains("has expired"), "{error}");
    let policy = client.try_connect(&served.uri, trusting(expired.pinned()));
    policy.expect("it is the pinned one").close();

    let elsewhere = Identity::of_another_host();
    let served = SERVER.serve_with(Recorder::small(), with_tls(&elsewhere));
    let error = tls_error(client, &served.uri, trusting(elsewhere.trusted()));
    assert!(error.to_string().contains("is not for the host"), "{error}");
    assert_eq!(served.robot.history(), []);
}

pub(crate) fn a_client_with_tls_is_told_of_a_server_without(client: Client) {
    let identity = Identity::self_signed();
    let served = SERVER.serve(Recorder::small());
    let uri = served.uri.replace("ws://", "wss://");
    let error = tls_error(client, &uri, trusting(identity.pinned()));
    assert_eq!(error, TlsError::PlainServer);
    let error = refused(client, &served.uri, trusting(identity.pinned()));
    assert!(matches!(error, ConnectError::WithoutTls { .. }), "{error}");
    assert_eq!(served.robot.history(), []);
}

pub(crate) fn a_server_that_is_silent_in_its_tls_handshake_is_given_up(client: Client) {
    let silent = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let uri = format!("wss://{}", silent.local_addr().expect("it is bound"));
    let settings = ClientSettings {
        connect_timeout: Some(Duration::from_millis(500)),
        ..trusting(Identity::self_signed().pinned())
    };
    let error = refused(client, &uri, settings);
    assert!(error.to_string().contains("then was silent"), "{error}");
}

// ---- the server -------------------------------------------------------------------------------

pub(crate) fn a_client_without_tls_is_told_how_to_connect(adapter: Server) {
    let identity = Identity::self_signed();
    let served = adapter.serve_with(Recorder::small(), with_tls(&identity));
    let uri = served.uri.replace("wss://", "ws://");
    let error = refused(CLIENT, &uri, ClientSettings::default()).to_string();
    assert!(error.contains("400 Bad Request: this server speaks TLS"), "{error}");
    assert!(error.contains("connect to it with wss://"), "{error}");
    assert_eq!(served.robot.history(), []);
    assert_admitted(&served, &identity);
}

/// Asserts that a policy is let in over TLS, and answered.
#[track_caller]
fn assert_admitted(served: &Served, identity: &Identity) {
    let policy = CLIENT.try_connect(&served.uri, trusting(identity.pinned()));
    let policy: Arc<dyn Policy> = policy.expect("it is let in");
    policy.metadata().expect("it answers");
    policy.close();
}

/// The beginning of a record of the TLS handshake, as long as a record can be.
const RECORD: [u8; 5] = [0x16, 3, 1, 0x40, 0];

pub(crate) fn unfinished_tls_handshakes_block_nobody(adapter: Server) {
    let identity = Identity::self_signed();
    let served = adapter.serve_with(Recorder::small(), with_tls(&identity));
    let mut strangers = Vec::new();
    for index in 0..100 {
        let mut raw = Raw::connect(served.socket());
        raw.send(&RECORD[..index % RECORD.len()]);
        strangers.push(raw);
    }
    // Of too many the oldest are given up, well before it would be for their slowness.
    eventually(|| strangers.iter().filter(|raw| raw.is_disconnected()).count() >= 100 - 64);
    assert_admitted(&served, &identity);
}

pub(crate) fn a_tls_handshake_without_end_is_given_up(adapter: Server) {
    let identity = Identity::self_signed();
    let served = adapter.serve_with(Recorder::small(), with_tls(&identity));
    // A message of the handshake that is announced as 16 MB long.
    let mut endless = Raw::connect(served.socket());
    endless.send(&RECORD);
    endless.send(&[1, 0xff, 0xff, 0xff]);
    for _ in 0..64 {
        endless.send(&[0; (16 << 10) - 4]);
        endless.send(&[&RECORD[..], &[0; 4]].concat());
    }
    // The server may have hung up by now.
    let _ = endless.socket.shutdown(std::net::Shutdown::Write);
    eventually(|| endless.is_disconnected());
    assert_admitted(&served, &identity);
}

pub(crate) fn a_slow_tls_handshake_is_given_up_in_time(adapter: Server) {
    let identity = Identity::self_signed();
    let served = adapter.serve_with(Recorder::small(), with_tls(&identity));
    let mut slow = Raw::connect(served.socket());
    slow.send(&RECORD);
    let begun = Instant::now();
    while !slow.is_disconnected() {
        soon(|| std::thread::sleep(Duration::from_millis(20)));
        slow.send(&[0]);
        assert!(begun.elapsed() < Duration::from_secs(20), "it goes on for ever");
    }
    assert!(begun.elapsed() > Duration::from_secs(8), "it had ten seconds");
    assert_admitted(&served, &identity);
}

/// A web page can make such requests, from the computer of the robot's policy.
pub(crate) fn requests_without_a_token_lock_nobody_out(adapter: Server) {
    let settings = ServerSettings { token: Some(token(TOKEN)), ..ServerSettings::default() };
    let served = adapter.serve_with(Recorder::small(), settings);
    let request = String::from_utf8(Raw::request().to_vec()).expect("text");
    let ask = |field: &str| {
        let mut raw = Raw::connect(served.socket());
        let line = format!("GET / HTTP/1.1\r\n{field}");
        raw.send(request.replace("GET / HTTP/1.1\r\n", &line).as_bytes());
        raw
    };
    for _ in 0..10 {
        for field in ["", "Authorization: Basic bWU6c2VjcmV0\r\n"] {
            let response = String::from_utf8(ask(field).to_end()).expect("it is HTTP");
            assert!(response.starts_with("HTTP/1.1 401 Unauthorized\r\n"), "{response}");
        }
    }
    ask(&format!("Authorization: Bearer {TOKEN}\r\n")).expect_handshake_response();
}

pub(crate) fn wrong_tokens_are_answered_ten_times_a_minute(adapter: Server) {
    let settings = ServerSettings { token: Some(token(TOKEN)), ..ServerSettings::default() };
    let served = adapter.serve_with(Recorder::small(), settings);
    let request = String::from_utf8(Raw::request().to_vec()).expect("text");
    let ask = |authorization: &str| {
        let mut raw = Raw::connect(served.socket());
        let line = format!("GET / HTTP/1.1\r\nAuthorization: {authorization}\r\n");
        raw.send(request.replace("GET / HTTP/1.1\r\n", &line).as_bytes());
        raw
    };
    let mut first = ask(&format!("Bearer {TOKEN}"));
    first.expect_handshake_response();
    let response = |mut raw: Raw| String::from_utf8(raw.to_end()).expect("it is HTTP");
    for _ in 0..10 {
        let response = response(ask("Bearer wrong"));
        assert!(response.starts_with("HTTP/1.1 401 Unauthorized\r\n"), "{response}");
        assert!(response.contains("\r\nWWW-Authenticate: Bearer\r\n"), "{response}");
        assert!(!response.contains(TOKEN), "{response}");
    }
    let response = response(ask(&format!("Bearer {TOKEN}")));
    assert!(response.starts_with("HTTP/1.1 429 Too Many Requests\r\n"), "{response}");
    // The policy that there is notices nothing of it.
    first.send_message(Opcode::Ping, b"still there?");
    assert_eq!(first.frame().expect("it answers"), (Opcode::Pong, b"still there?".to_vec()));
    assert_eq!(served.robot.history(), [Entry::Connected]);
}
