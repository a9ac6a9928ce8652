//! The opening handshakes of both sides: any bytes, in any pieces, give the same result as in one,
//! nothing that tungstenite accepts is refused without a known reason, and a request that a client
//! writes is read as what it was written from.
//!
//! The input's first byte is the side, the second how many bytes come at once; the rest is what the
//! peer sends, or the lines of host, target, and a header field's name and value.
#![no_main]

use chiral_proto::ws::{BadRequest, ClientHandshake, HandshakeError, Request, ServerHandshake};
use tungstenite::handshake::machine::TryParse;
use tungstenite::handshake::{client, server};

/// The nonce of RFC 6455's example, so that the right answer can stand in the corpus.
const NONCE: [u8; 16] = *b"the sample nonce";
/// Longer inputs meet the limits of heads and bodies, where pieces and the whole differ.
const LONGEST: usize = 4000;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let [side, step, bytes @ ..] = data else { return };
    let (step, bytes) = (usize::from(*step).max(1), &bytes[..bytes.len().min(LONGEST)]);
    match side % 3 {
        0 => server_reads(bytes, step),
        1 => client_reads(bytes, step),
        _ => client_writes(bytes, step),
    }
});

fn server_reads(bytes: &[u8], step: usize) {
    let whole = ServerHandshake::default().receive(bytes);
    match (whole, received(bytes, step)) {
        (Ok(None), Ok(None)) => {}
        (Ok(Some(whole)), Ok(Some((pieces, surplus)))) => {
            assert_eq!(whole.path(), pieces.path());
            assert!(whole.headers().eq(pieces.headers()));
            assert!(bytes.ends_with(&surplus));
            assert_eq!(whole.clone().accept().surplus, surplus);
            compare_request(bytes, &whole);
            check_responses(whole);
        }
        (Err(whole), Err(pieces)) => {
            assert_eq!(whole.status(), pieces.status());
            check_refusal(&whole.response());
            check_strictness(bytes, &whole);
        }
        (whole, pieces) => panic!("{whole:?}, in pieces {pieces:?}"),
    }
}

/// What a server makes of bytes that come a few at a time: the request, and what follows it.
fn received(bytes: &[u8], step: usize) -> Result<Option<(Request, Vec<u8>)>, BadRequest> {
    let mut handshake = ServerHandshake::default();
    let mut pieces = bytes.chunks(step);
    while let Some(piece) = pieces.next() {
        if let Some(request) = handshake.receive(piece)? {
            let mut surplus = request.clone().accept().surplus.to_vec();
            pieces.for_each(|piece| surplus.extend_from_slice(piece));
            return Ok(Some((request, surplus)));
        }
    }
    Ok(None)
}

/// Both that read the request read the same.
fn compare_request(bytes: &[u8], ours: &Request) {
    let Ok(Some((size, theirs))) = server::Request::try_parse(bytes) else { return };
    assert_eq!(ours.clone().accept().surplus, bytes[size..]);
    if let Some(target) = theirs.uri().path_and_query() {
        // Tungstenite leaves out a fragment, which no request has, and a missing path's slash.
        let ours = ours.path().split('#').next().unwrap_or_default();
        assert_eq!(ours.trim_start_matches('/'), target.as_str().trim_start_matches('/'));
    }
    let host = theirs.headers().get("host").and_then(|host| host.to_str().ok());
    assert!(host.is_none_or(|host| host == ours.host()));
    if let Ok(response) = server::create_response(&theirs) {
        let accepted = ours.clone().accept().response;
        let (_, ours) = client::Response::try_parse(&accepted).expect("a response").expect("whole");
        let key = "sec-websocket-accept";
        assert_eq!(ours.headers().get(key), response.headers().get(key));
    }
}

/// What tungstenite accepts, we refuse only for what it does not look at.
fn check_strictness(bytes: &[u8], refusal: &BadRequest) {
    let Ok(Some((_, theirs))) = server::Request::try_parse(bytes) else { return };
    if server::create_response(&theirs).is_ok() {
        let headers = theirs.headers();
        // It takes spaces between tokens for commas.
        let connection = headers.get("connection").and_then(|tokens| tokens.to_str().ok());
        let mut tokens = connection.unwrap_or_default().split(',');
        let is_asked = tokens.any(|token| token.trim().eq_ignore_ascii_case("upgrade"));
        let known = !is_asked
            || headers.get_all("host").iter().count() > 1
            || headers.contains_key("content-length")
            || headers.contains_key("transfer-encoding")
            || headers.contains_key("sec-websocket-protocol");
        assert!(known, "only we refuse it: {refusal}");
    }
}

fn check_responses(request: Request) {
    let accepted = request.clone().accept().response;
    let parsed = client::Response::try_parse(&accepted).expect("a response").expect("whole");
    assert_eq!((parsed.0, parsed.1.status().as_u16()), (accepted.len(), 101));
    check_refusal(&request.refuse(503, "robot already has a policy"));
}

/// A refusal is a whole response, and our client reads its words.
fn check_refusal(response: &[u8]) {
    let (head, parsed) = client::Response::try_parse(response).expect("a response").expect("whole");
    let length = parsed.headers().get("content-length").and_then(|length| length.to_str().ok());
    assert_eq!(length, Some(&*(response.len() - head).to_string()));
    let mut handshake = ClientHandshake::new("robot", "/", &[], NONCE).expect("a valid request");
    match handshake.receive(response) {
        Err(HandshakeError::Refused { status, .. }) => assert_eq!(status, parsed.status().as_u16()),
        other => panic!("{other:?}"),
    }
}

fn client_reads(bytes: &[u8], step: usize) {
    let client = || ClientHandshake::new("robot", "/", &[("Sec-WebSocket-Protocol", "a")], NONCE);
    let mut whole = client().expect("a valid request");
    let mut pieces = client().expect("a valid request");
    let found = whole.receive(bytes);
    let mut found_in_pieces = Ok(None);
    let mut rest = bytes.chunks(step);
    for piece in rest.by_ref() {
        found_in_pieces = pieces.receive(piece).map(|surplus| surplus.map(Vec::from));
        if !matches!(found_in_pieces, Ok(None)) {
            break;
        }
    }
    match (found, found_in_pieces) {
        (Ok(None), Ok(None)) => assert_eq!(whole.end_of_stream(), pieces.end_of_stream()),
        (Ok(Some(surplus)), Ok(Some(mut surplus_in_pieces))) => {
            rest.for_each(|piece| surplus_in_pieces.extend_from_slice(piece));
            assert_eq!(surplus, surplus_in_pieces);
            assert!(bytes.ends_with(&surplus));
        }
        // The start of an answer that is nonsense is all that is known of it.
        (Err(HandshakeError::NotWebSocket { .. }), Err(HandshakeError::NotWebSocket { .. })) => {}
        (Err(error), Err(error_in_pieces)) => {
            assert_eq!(error, error_in_pieces);
            assert!(
                error.to_string().len() < 2000 && !error.to_string().contains(['\n', '\u{1b}'])
            );
        }
        (whole, pieces) => panic!("{whole:?}, in pieces {pieces:?}"),
    }
}

fn client_writes(bytes: &[u8], step: usize) {
    let mut parts = bytes.splitn(4, |byte| *byte == b'\n').map(std::str::from_utf8);
    let mut part = || parts.next().unwrap_or(Ok("")).ok();
    let (Some(host), Some(target), Some(name), Some(value)) = (part(), part(), part(), part())
    else {
        return;
    };
    let Ok(handshake) = ClientHandshake::new(host, target, &[(name, value)], NONCE) else { return };
    match received(handshake.request(), step) {
        Ok(Some((request, surplus))) => {
            assert!(surplus.is_empty(), "a request within the request");
            assert_eq!((request.host(), request.path()), (host, target));
            assert_eq!(request.headers().count(), 6);
            assert_eq!(request.header(name).map(str::trim), Some(value.trim()));
        }
        Ok(None) => panic!("the request is not complete"),
        // A subprotocol means another server.
        Err(bad) => {
            assert!(name.eq_ignore_ascii_case("sec-websocket-protocol"), "{bad}");
        }
    }
}
