//! Any text as a URI to connect to, as an address to listen on, and as a text for a log: what is
//! accepted can be written and read again with the same meaning, and nothing secret is shown.
#![no_main]

use chiral_driver::address::{Scheme, StreamAddress};
use chiral_driver::client::Target;
use chiral_driver::server::ListenTarget;
use chiral_proto::ws::{ClientHandshake, HandshakeError, WsUri, redacted};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let shown = redacted(text);
    assert_eq!(redacted(&shown), shown);
    websocket(text);
    connect(text);
    listen(text);
});

fn websocket(text: &str) {
    let uri: WsUri = match text.parse() {
        Ok(uri) => uri,
        Err(error) => {
            assert!(error.to_string().contains(&redacted(text.trim())), "{error}");
            return;
        }
    };
    assert!(!uri.host().is_empty() && !uri.host().contains(['[', ']', '/', '@', ' ']));
    assert!(uri.target().starts_with('/'), "{}", uri.target());
    assert_eq!(uri.to_string().parse().as_ref(), Ok(&uri));
    match ClientHandshake::new(uri.authority(), uri.target(), &[], [0; 16]) {
        Ok(_) => {}
        Err(HandshakeError::InvalidRequest(_)) => assert!(!uri.to_string().is_ascii()),
        Err(other) => panic!("{other}"),
    }
}

fn connect(text: &str) {
    match Target::of(text) {
        Ok(Target::Socket {
            address: StreamAddress::Tcp { host, port }, authority, path, ..
        }) => {
            let uri: WsUri = text.parse().expect("it was read as a WebSocket's");
            assert!(!uri.is_secure(), "connected to in the clear");
            assert_eq!((&*host, port), (uri.host(), uri.port()));
            assert_eq!((&*authority, &*path), (uri.authority(), uri.target()));
        }
        Ok(Target::Socket { address, .. }) => round_trip(&address),
        Ok(Target::Other) => assert_eq!(Scheme::of(text), Scheme::Other),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn listen(text: &str) {
    match ListenTarget::of(text) {
        Ok(ListenTarget::Socket(address)) => round_trip(&address),
        Ok(ListenTarget::Other) => assert_eq!(Scheme::of(text), Scheme::Other),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput),
    }
}

/// An address is written as a URI with which a server listens there, and a client connects.
fn round_trip(address: &StreamAddress) {
    let _ = address.check();
    let uri = address.to_string();
    match address {
        StreamAddress::Tcp { host, .. } => {
            assert!(!host.is_empty(), "a host without a name");
            assert!(!host.contains(['[', ']', '/', '@', '?', '#', ' ']), "the host {host:?}");
        }
        // White space around a URI does not count.
        StreamAddress::Unix(_) if uri.trim() != uri || uri.contains('\u{fffd}') => return,
        _ => {}
    }
    let listening = ListenTarget::of(&uri).expect("what was written");
    assert_eq!(listening, ListenTarget::Socket(address.clone()));
    // What only looking up refuses, such as `a_b` or `::1%eth0`, is no URI everywhere.
    if let Ok(target) = Target::of(&uri) {
        let Target::Socket { address: connected, .. } = target else { panic!("{target:?}") };
        assert_eq!(connected, *address);
    }
}
