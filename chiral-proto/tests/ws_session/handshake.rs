//! The opening handshake, by itself and with tungstenite at the other end.

use std::io::{self, Read, Write};

use chiral_proto::ws::{BadRequest, ClientHandshake, HandshakeError, ServerHandshake};
use tungstenite::handshake::derive_accept_key;

use crate::support::{BINARY, FIN, message, raw};

/// The key of RFC 6455's own example.
const NONCE: [u8; 16] = *b"the sample nonce";
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

fn client(headers: &[(&str, &str)]) -> ClientHandshake {
    ClientHandshake::new("robot:8765", "/arm?left", headers, NONCE).expect("a valid request")
}

fn accept_response(more: &str) -> String {
    let key = derive_accept_key(KEY.as_bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\nconnection: keep-alive\r\n\
         connection: foo, upgrade\r\nsec-websocket-accept: {key}\r\n{more}\r\n"
    )
}

/// What a client makes of a response: in one piece, and byte by byte.
fn answer(headers: &[(&str, &str)], response: &str) -> HandshakeError {
    let whole = client(headers).receive(response.as_bytes());
    let mut in_bytes = client(headers);
    let mut results = response.bytes().map(|byte| in_bytes.receive(&[byte]));
    let first = results.find(|result| result != &Ok(None));
    let error = whole.expect_err("the handshake fails");
    // Byte by byte the start of an answer that is nonsense is all that is known of it.
    match first.expect("the same result").expect_err("the handshake fails") {
        HandshakeError::NotWebSocket { .. } => {
            assert!(matches!(error, HandshakeError::NotWebSocket { .. }));
        }
        in_bytes => assert_eq!(in_bytes, error),
    }
    error
}

#[test]
fn the_request_conforms_to_rfc_6455() {
    let handshake = client(&[("Authorization", "Bearer x"), ("Sec-WebSocket-Protocol", "a, b")]);
    let expected = format!(
        "GET /arm?left HTTP/1.1\r\nHost: robot:8765\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\
         Authorization: Bearer x\r\nSec-WebSocket-Protocol: a, b\r\n\r\n"
    );
    assert_eq!(std::str::from_utf8(handshake.request()), Ok(&expected[..]));
}

#[test]
fn header_injection_is_rejected() {
    for (host, target, header) in [
        ("", "/", ("A", "b")),
        ("two words", "/", ("A", "b")),
        ("robot", "no-slash", ("A", "b")),
        ("robot", "/\r\nEvil: 1", ("A", "b")),
        ("robot", "/", ("", "b")),
        ("robot", "/", ("A:", "b")),
        ("robot", "/", ("A", "b\r\nEvil: 1")),
        ("robot", "/", ("HOST", "b")),
        ("robot", "/", ("sec-websocket-extensions", "permessage-deflate")),
    ] {
        let result = ClientHandshake::new(host, target, &[header], NONCE);
        let error = result.expect_err("not a valid request");
        assert!(matches!(error, HandshakeError::InvalidRequest(_)), "{error}");
    }
}

#[test]
fn the_handshake_completes_for_any_split_and_keeps_surplus_bytes() {
    for step in [1, 7, usize::MAX] {
        let mut handshake = client(&[("X-Token", "42")]);
        let mut server = ServerHandshake::default();
        // As if the client were hasty: bytes of the session come in the same read.
        let bytes = [handshake.request(), b"client surplus"].concat();
        let head = handshake.request().len();
        let mut request = None;
        for piece in bytes[..head].chunks(step.min(head)) {
            assert_eq!(request, None);
            let is_last = std::ptr::eq(piece.as_ptr_range().end, &raw const bytes[head]);
            let piece = if is_last && step == usize::MAX { &bytes[..] } else { piece };
            request = server.receive(piece).expect("a proper request");
        }
        let request = request.expect("the request is complete");
        assert_eq!((request.path(), request.host()), ("/arm?left", "robot:8765"));
        assert_eq!(request.header("x-tOKEN"), Some("42"));
        assert_eq!(request.headers().count(), 6);
        let accepted = request.accept();
        let surplus: &[u8] = if step == usize::MAX { b"client surplus" } else { b"" };
        assert_eq!(accepted.surplus, surplus);

        let head = accepted.response.len();
        let bytes = [&accepted.response[..], b"server surplus"].concat();
        let mut outcome = None;
        for piece in bytes.chunks(step.min(bytes.len())) {
            match &mut outcome {
                None => {
                    outcome = handshake.receive(piece).expect("the server accepts").map(Vec::from);
                }
                Some(surplus) => surplus.extend_from_slice(piece),
            }
        }
        assert_eq!(outcome.as_deref(), Some(&b"server surplus"[..]), "{head} bytes of response");
    }
}

#[test]
fn a_refusal_is_reported_with_its_reason() {
    let mut server = ServerHandshake::default();
    let mut handshake = client(&[]);
    let request = server.receive(handshake.request()).expect("proper").expect("complete");
    let response = request.refuse(503, "robot already has a policy");
    let text = std::str::from_utf8(&response).expect("text");
    assert!(text.starts_with("HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n"));
    let error = handshake.receive(&response).expect_err("refused");
    let expected = HandshakeError::Refused {
        status: 503,
        reason: "Service Unavailable".into(),
        location: None,
        body: "robot already has a policy".into(),
    };
    assert!(error.is_transient());
    assert_eq!(error, expected);
    assert_eq!(
        error.to_string(),
        "refused with 503 Service Unavailable: robot already has a policy"
    );
}

#[test]
fn refusals_are_read_in_every_http_body_form() {
    let refused = |status, reason: &str, body: &str| HandshakeError::Refused {
        status,
        reason: reason.to_owned(),
        location: None,
        body: body.to_owned(),
    };
    let length = "HTTP/1.1 403 Go Away\r\nContent-Length: 6\r\n\r\nno\x07\x1bpe and what follows";
    assert_eq!(answer(&[], length), refused(403, "Go Away", r"no\u{7}\u{1b}pe"));
    let chunks = "HTTP/1.1 502 \r\nTransfer-Encoding: chunked\r\n\r\n\
                  4\r\nbad \r\n7;x=y\r\ngateway\r\n0\r\n\r\n";
    assert_eq!(answer(&[], chunks), refused(502, "Bad Gateway", "bad gateway"));
    let interim = format!("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n{length}");
    assert_eq!(answer(&[], &interim), refused(403, "Go Away", r"no\u{7}\u{1b}pe"));
    let endless = format!("HTTP/1.0 500 Oh\r\n\r\n{}", "x".repeat(5000));
    let HandshakeError::Refused { body, .. } = answer(&[], &endless) else { panic!("refused") };
    assert_eq!(body, "x".repeat(300) + "…");

    let mut handshake = client(&[]);
    assert_eq!(handshake.receive(b"HTTP/1.0 500 Oh\r\n\r\nto the end"), Ok(None));
    assert_eq!(handshake.end_of_stream(), refused(500, "Oh", "to the end"));
    let mut handshake = client(&[]);
    assert_eq!(handshake.receive(b"HTTP/1."), Ok(None));
    assert_eq!(handshake.end_of_stream(), HandshakeError::Closed { received: 7 });
}

#[test]
fn non_websocket_servers_are_recognised() {
    for response in [
        "SSH-2.0-OpenSSH_9.9\r\n",
        "\x15\x03\x01\0\x02\x02F",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
    ] {
        let error = answer(&[], response);
        assert!(matches!(error, HandshakeError::NotWebSocket { .. }), "{error}");
    }
}

#[test]
fn accept_keys_extensions_and_subprotocols_are_checked() {
    let wrong = accept_response("").replace(&derive_accept_key(KEY.as_bytes()), "bm9uc2Vuc2U=");
    assert_eq!(
        answer(&[], &wrong),
        HandshakeError::WrongAcceptKey {
            found: "bm9uc2Vuc2U=".into(),
            expected: derive_accept_key(KEY.as_bytes()),
        }
    );
    let deflate = accept_response("Sec-WebSocket-Extensions: permessage-deflate\r\n");
    let error = HandshakeError::UnexpectedExtension("permessage-deflate".into());
    assert_eq!(answer(&[], &deflate), error);
    let chosen = accept_response("Sec-WebSocket-Protocol: chat\r\n");
    let error = HandshakeError::UnexpectedSubprotocol("chat".into());
    assert_eq!(answer(&[], &chosen), error);
    assert_eq!(answer(&[("Sec-WebSocket-Protocol", "a, b")], &chosen), error);
    let asked = client(&[("sec-websocket-protocol", "a, chat")]).receive(chosen.as_bytes());
    assert!(asked.is_ok_and(|surplus| surplus.is_some()));
}

#[test]
fn handshake_heads_are_bounded() {
    let line = format!("X: {}\r\n", "x".repeat(1000));
    let long = line.repeat(17);
    let response = format!("HTTP/1.1 101 OK\r\n{long}");
    assert_eq!(answer(&[], &response), HandshakeError::HeadTooLong { limit: 16384 });
    assert_eq!(bad(&format!("GET / HTTP/1.1\r\n{long}")).status(), 431);
    assert_eq!(bad(&format!("GET / HTTP/1.1\r\n{long}\r\n")).status(), 431);
    assert_eq!(bad(&format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(200))).status(), 431);
}

fn bad(request: &str) -> BadRequest {
    let whole = ServerHandshake::default().receive(request.as_bytes());
    let mut server = ServerHandshake::default();
    let mut results = request.bytes().map(|byte| server.receive(&[byte]));
    let first = results.find(|result| result != &Ok(None));
    let error = first.expect("the same result").expect_err("no proper request");
    assert_eq!(whole.expect_err("no proper request").status(), error.status());
    error
}

#[test]
fn non_websocket_requests_get_a_helpful_response() {
    let proper = String::from_utf8(client(&[]).request().to_vec()).expect("text");
    let edit = |from: &str, to: &str| {
        assert!(proper.contains(from));
        bad(&proper.replace(from, to))
    };
    let expect = |bad: &BadRequest, start: &str, end: &str| {
        let response = String::from_utf8(bad.response().to_vec()).expect("text");
        assert!(response.starts_with(&format!("HTTP/1.1 {start}\r\n")), "{response}");
        assert!(response.contains("\r\nConnection: close\r\n"), "{response}");
        assert!(response.contains(end), "{response}");
    };
    let browser = edit("Upgrade: websocket\r\n", "");
    expect(&browser, "426 Upgrade Required\r\nUpgrade: websocket", "ws://");
    expect(&browser, "426 Upgrade Required\r\nUpgrade: websocket", "Sec-WebSocket-Version: 13\r\n");
    expect(&edit("Connection: Upgrade", "Connection: close"), "426 Upgrade Required", "Upgrade");
    expect(&edit("GET", "POST"), "405 Method Not Allowed\r\nAllow: GET", "POST");
    let long = "X".repeat(101);
    let shown = format!("the method {}…, expected GET", "X".repeat(100));
    expect(&edit("GET", &long), "405 Method Not Allowed\r\nAllow: GET", &shown);
    let version = edit("Version: 13", "Version: 8");
    expect(&version, "426 Upgrade Required", "Sec-WebSocket-Version: 13\r\n");
    expect(&edit("HTTP/1.1", "HTTP/1.0"), "400 Bad Request", "HTTP/1.0");
    expect(&edit("Host", "Host: other\r\nHost"), "400 Bad Request", "more than one `Host`");
    expect(&edit(KEY, ""), "400 Bad Request", "Sec-WebSocket-Key");
    expect(&edit("Host", "Content-Length: 3\r\nHost"), "400 Bad Request", "body");
    expect(&bad("\x16\x03\x01\x02\0\x01\0\x01\u{fc}\r\n\r\n"), "400 Bad Request", "HTTP/1.1");
}

#[test]
fn harmless_handshake_deviations_are_accepted() {
    let proper = String::from_utf8(client(&[]).request().to_vec()).expect("text");
    for (from, to) in [
        // The key that RFC 6455 prints in section 4.1; its padding bits are not zero.
        (KEY, "AQIDBAUGBwgJCgsMDQ4PEC=="),
        (KEY, "short"),
        ("Host: robot:8765\r\n", ""),
        ("Version: 13", "Version: 13, 8"),
        ("GET /arm?left", "GET http://robot:8765/arm?left"),
        ("Host", "Content-Length: 0\r\nHost"),
        ("Host", "a header without a colon\r\nHost"),
        ("Upgrade: websocket", "UPGRADE:   h2c , WebSocket"),
    ] {
        assert!(proper.contains(from));
        let request = ServerHandshake::default().receive(proper.replace(from, to).as_bytes());
        let request = request.expect(to).expect("complete");
        assert_eq!((request.method(), request.path()), ("GET", "/arm?left"));
        let key = if from == KEY { to } else { KEY };
        let response = String::from_utf8(request.accept().response.to_vec()).expect("text");
        assert!(response.contains(&derive_accept_key(key.as_bytes())), "{response}");
    }
    for more in ["a header without a colon\r\n", "Empty:\r\n"] {
        let accepted = client(&[]).receive(accept_response(more).as_bytes());
        assert_eq!(accepted.map(|surplus| surplus.is_some()), Ok(true), "{more}");
    }
    // The key shows that it is a WebSocket server.
    let bare = accept_response("").replace("upgrade: WebSocket\r\n", "");
    assert_eq!(client(&[]).receive(bare.as_bytes()).map(|surplus| surplus.is_some()), Ok(true));
}

#[test]
fn a_uri_in_the_query_belongs_to_the_path() {
    let proper = String::from_utf8(client(&[]).request().to_vec()).expect("text");
    for (target, path) in [
        ("/arm?back=http://a/b", "/arm?back=http://a/b"),
        ("/http://a/b", "/http://a/b"),
        ("http://robot:8765?left", "/?left"),
        ("http://robot:8765/?back=http://a/b", "/?back=http://a/b"),
        ("http://robot:8765", "/"),
        ("*", "*"),
    ] {
        let request = proper.replace("/arm?left", target);
        let request = ServerHandshake::default().receive(request.as_bytes());
        assert_eq!(request.expect(target).expect("complete").path(), path);
    }
}

#[test]
fn clients_of_other_protocols_are_refused_by_name() {
    for (offer, text) in [
        ("foxglove.sdk.v1", "this looks like a Foxglove client"),
        ("foxglove.websocket.v1, x", "this looks like a Foxglove client"),
        ("mqtt", "found the subprotocol `mqtt` asked for, expected none"),
    ] {
        let handshake = client(&[("Sec-WebSocket-Protocol", offer)]);
        let error = ServerHandshake::default().receive(handshake.request()).expect_err("refused");
        assert_eq!(error.status(), 400);
        assert!(error.to_string().contains(text), "{error}");
        assert!(String::from_utf8_lossy(&error.response()).contains(text));
    }
}

#[test]
fn endless_interim_responses_are_an_error() {
    let mut handshake = client(&[]);
    let mut received = 0;
    let error = loop {
        let interim = b"HTTP/1.1 100 Continue\r\n\r\n";
        received += interim.len();
        assert!(received < 32 << 10, "it goes on for ever");
        if let Err(error) = handshake.receive(interim) {
            break error;
        }
    };
    assert_eq!(error, HandshakeError::HeadTooLong { limit: 16384 });
    let all_at_once = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(1000);
    assert_eq!(client(&[]).receive(&all_at_once), Err(error));
}

#[test]
fn a_redirect_error_names_its_location() {
    let moved = "HTTP/1.1 301 Moved\r\nContent-Length: 0\r\nLocation: wss://other/arm\r\n\r\n";
    let error = answer(&[], moved);
    let text = "refused with 301 Moved; connect to wss://other/arm instead";
    assert_eq!(error.to_string(), text);
    assert!(!error.is_transient());
}

#[test]
fn transient_and_final_refusals_are_distinguished() {
    for (status, is_transient) in
        [(400, false), (403, false), (404, false), (429, true), (500, false)]
            .into_iter()
            .chain([502, 503, 504].map(|status| (status, true)))
    {
        let response = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(answer(&[], &response).is_transient(), is_transient, "{status}");
    }
    assert!(client(&[]).end_of_stream().is_transient(), "nothing behind the port is up yet");
    assert!(!answer(&[], "SSH-2.0-OpenSSH_9.9\r\n").is_transient());
}

#[test]
fn peer_text_is_printed_on_one_line_without_control_characters() {
    let fake = "x\r\n2026-01-01 ERROR fake\x1b[2J";
    let body = format!("HTTP/1.1 403 No\r\nContent-Length: {}\r\n\r\n{fake}", fake.len());
    let chunks = format!(
        "HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n\
                          {:x}\r\n{fake}\r\n0\r\n\r\n",
        fake.len()
    );
    let nonsense = "hello\n\x1b[2Jyou\r\n\r\n";
    for response in [&body[..], &chunks, nonsense, &"\x07".repeat(20_000)] {
        let text = answer(&[], response).to_string();
        assert!(!text.chars().any(char::is_control), "{text:?}");
        assert!(text.len() < 2000, "{} bytes", text.len());
    }
    for request in ["GET / \x1b[2J\r\n\r\n", "G\x1bT / HTTP/1.1\r\n\r\n"] {
        let text = bad(request).to_string();
        assert!(!text.chars().any(char::is_control), "{text:?}");
    }
}

/// A stream that gives what it holds, then blocks, and keeps what is written.
#[derive(Debug, Default)]
struct Memory {
    incoming: io::Cursor<Vec<u8>>,
    written: Vec<u8>,
}

impl Read for Memory {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.incoming.read(buffer)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.written.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn our_client_handshakes_with_a_tungstenite_server() {
    let mut handshake = client(&[]);
    let memory =
        Memory { incoming: io::Cursor::new(handshake.request().to_vec()), ..Memory::default() };
    let socket = tungstenite::accept(memory).expect("a proper request");
    let response = &socket.get_ref().written;
    let frame = raw(FIN | BINARY, &message(500), None);
    let surplus = handshake.receive(&[&response[..], &frame].concat());
    assert_eq!(surplus.expect("accepted").as_deref(), Some(&frame[..]));
}

#[test]
fn a_tungstenite_client_handshakes_with_our_server() {
    let start = tungstenite::client("ws://robot:8765/arm?left", Memory::default());
    let Err(tungstenite::HandshakeError::Interrupted(mut middle)) = start else {
        panic!("it waits for the response")
    };
    let sent = &mut middle.get_mut().get_mut().written;
    let request = ServerHandshake::default().receive(sent).expect("proper").expect("complete");
    assert_eq!((request.path(), request.host()), ("/arm?left", "robot:8765"));
    let frame = raw(FIN | BINARY, &message(500), None);
    let bytes = [&request.accept().response[..], &frame].concat();
    middle.get_mut().get_mut().incoming = io::Cursor::new(bytes);
    let (mut socket, _) = middle.handshake().expect("accepted");
    let received = socket.read().expect("the frame behind the response");
    assert_eq!(received, tungstenite::Message::Binary(message(500)));
}

#[test]
fn tungstenite_understands_a_refusal() {
    let Err(tungstenite::HandshakeError::Interrupted(mut middle)) =
        tungstenite::client("ws://robot:8765/", Memory::default())
    else {
        panic!("it waits for the response")
    };
    let sent = &mut middle.get_mut().get_mut().written;
    let request = ServerHandshake::default().receive(sent).expect("proper").expect("complete");
    let response = request.refuse(503, "robot already has a policy").to_vec();
    middle.get_mut().get_mut().incoming = io::Cursor::new(response);
    let Err(tungstenite::HandshakeError::Failure(tungstenite::Error::Http(response))) =
        middle.handshake()
    else {
        panic!("it is refused")
    };
    assert_eq!(response.status().as_u16(), 503);
    assert_eq!(response.body().as_deref(), Some(&b"robot already has a policy"[..]));
}
