//! Servers that break the rules: each is told its fault, and all that the client waits for fails
//! with the reason.

use std::sync::Arc;

use chiral_driver::CallError;
use chiral_proto::client::RequestError;
use chiral_proto::wire::{ClientMessage, Frame, Limits, ServerMessage};
use chiral_proto::{Action, ConnectionError, Map, Observation};
use chiral_tests::{Opcode, Raw, RawServer, message};

use crate::adapter::{ClientSettings, Policy};
use crate::malformed::{assert_told, frame, map, messages, text};
use crate::pair::{Client, action, hz, values};
use crate::supervise::{Aside, aside, ask, soon};

/// A client, and the bare socket that it takes for a server.
fn connected(client: Client) -> (Arc<dyn Policy>, Raw) {
    let server = RawServer::new();
    let uri = server.uri();
    let connecting = aside(move || client.0.connect(&uri, ClientSettings::default()));
    let raw = soon(|| server.accept(b""));
    (connecting.done().expect("it is taken"), raw)
}

/// Everything that a client may wait for.
struct Calls {
    policy: Arc<dyn Policy>,
    metadata: Aside<CallError>,
    observing: Aside<CallError>,
    waiting: Aside<CallError>,
}

impl Calls {
    /// Makes the calls, and reads the requests, metadata first, so that nothing is under way to
    /// the server then.
    fn make(policy: &Arc<dyn Policy>, raw: &mut Raw) -> Self {
        let waiting = ask(policy, |policy| policy.next_obs().unwrap_err());
        let metadata = ask(policy, |policy| policy.metadata().unwrap_err());
        assert_eq!(raw.frame().expect("it asks").0, Opcode::Binary);
        let observing = ask(policy, |policy| policy.observe().unwrap_err());
        assert_eq!(raw.frame().expect("it asks").0, Opcode::Binary);
        Self { policy: Arc::clone(policy), metadata, observing, waiting }
    }

    /// Asserts that all calls fail with the same reason, and returns it.
    #[track_caller]
    fn reason(self) -> ConnectionError {
        let Self { policy, metadata, observing, waiting } = self;
        let errors = [metadata.done(), observing.done(), waiting.done()];
        let reasons = errors.map(|error| match error {
            CallError::Unanswered(RequestError::Disconnected(reason)) => reason,
            other => panic!("{other:?}"),
        });
        assert_eq!(reasons[0], reasons[1]);
        assert_eq!(reasons[0], reasons[2]);
        assert_eq!(policy.error().as_ref(), Some(&reasons[0]));
        assert!(policy.put_action(action(1)).unwrap_err().to_string().contains("connect again"));
        policy.start_obs_stream(hz(1.0)).unwrap_err();
        reasons[0].clone()
    }
}

pub(crate) fn bad_messages_close_the_connection_with_a_reason(client: Client) {
    let shape = |shape: &[u8]| {
        let camera = map(&[
            ("name", &text("cam")),
            ("intrinsics", &[&[0x99][..], &[1; 9]].concat()),
            ("extrinsics", &[&[0xdc, 0, 16][..], &[1; 16]].concat()),
            ("image_shape", shape),
            ("image_dtype", &text("uint8")),
            ("image_offset", &[0]),
            ("image_size", &[6]),
        ]);
        let cameras = [&[0x91][..], &camera].concat();
        let header =
            map(&[("type", &text("obs_response")), ("timestamp", &[1]), ("cameras", &cameras)]);
        frame(&header, &[0; 6])
    };
    let mut messages = messages();
    messages.extend([
        (ClientMessage::Metadata.encode().to_bytes().to_vec(), 1007, "metadata"),
        (shape(&[0x93, 9, 2, 1]), 1007, "cameras[0].image"),
        (shape(&[0x93, 1, 0xd0, 0x80, 1]), 1007, "cameras[0].image_shape"),
        (shape(&[0xc0]), 1007, "cameras[0].image_shape"),
        (shape(&[0x93, 1, 2, 3])[..100].to_vec(), 1007, "header"),
        // Good in itself, and not what was asked for.
        (shape(&[0x93, 1, 2, 3]), 1008, "sent obs_response where metadata_response was due"),
    ]);
    for (bad, code, why) in messages {
        let (policy, mut raw) = connected(client);
        let calls = Calls::make(&policy, &mut raw);
        raw.send_message(Opcode::Binary, &bad);
        assert_told(raw.closed(), code, why);
        let reason = calls.reason().to_string();
        assert!(reason.contains(why), "{reason}");
        drop(raw);
        soon(|| policy.close());
    }
}

pub(crate) fn websocket_violations_close_the_connection_with_a_reason(client: Client) {
    let metadata = ServerMessage::Metadata(Map::new()).encode().to_bytes();
    let gigabyte = [&[0x82, 127][..], &(1_u64 << 30).to_be_bytes()].concat();
    for (bad, code, why) in [
        (message(Opcode::Text, b"{}", false), 1003, "text message"),
        (message(Opcode::Binary, &metadata, true), 1002, "masked frame"),
        (gigabyte, 1009, "1073741824 bytes announced"),
        (vec![0xff; 14], 1002, "reserved"),
        (b"HTTP/1.1 500 Internal Server Error\r\n\r\n".to_vec(), 1002, "reserved"),
    ] {
        let (policy, mut raw) = connected(client);
        let calls = Calls::make(&policy, &mut raw);
        raw.send(&bad);
        assert_told(raw.closed(), code, why);
        let reason = calls.reason();
        assert!(matches!(&reason, ConnectionError::BadTransport(text) if text.contains(why)));
    }
}

pub(crate) fn a_server_that_disconnects_at_any_byte_fails_every_call(client: Client) {
    let observation = ServerMessage::Observation(Observation::default()).encode().to_bytes();
    let whole = message(Opcode::Binary, &observation, false);
    for sent in [0, 1, 5, whole.len() - 1] {
        let (policy, mut raw) = connected(client);
        let calls = Calls::make(&policy, &mut raw);
        raw.send(&whole[..sent]);
        drop(raw);
        let reason = calls.reason();
        assert!(matches!(&reason, ConnectionError::Lost(_)), "{reason:?}");
    }
}

pub(crate) fn a_server_that_stops_reading_blocks_no_caller_and_loses_no_action(client: Client) {
    /// Until no socket's buffer takes them, as long as each is sent at all.
    const ENOUGH: u16 = 10_000;
    let (policy, mut raw) = connected(client);
    let wide = |number: u16| Action::from(vec![f32::from(number); 2000]);
    // The number of the first that is refused: those before it wait, in the socket or before it.
    let refused = soon(|| (0..ENOUGH).find(|number| policy.send_action(wide(*number)).is_err()));
    let refused = refused.expect("what waits is bounded");
    assert!(refused >= 1024, "{refused} is less than the queue's length");
    for number in 0..refused {
        let (opcode, frame) = soon(|| raw.frame()).expect("the connection is up");
        assert_eq!(opcode, Opcode::Binary);
        let limits = Limits::default();
        let frame = Frame::parse(frame.into(), &limits).expect("it is a frame");
        match ClientMessage::decode(&frame, &limits) {
            Ok(ClientMessage::ApplyAction(action)) => {
                assert_eq!(values(&[action]), [f32::from(number)]);
            }
            other => panic!("{other:?}"),
        }
    }
    policy.send_action(action(1)).expect("there is room again");
}
