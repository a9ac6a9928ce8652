//! Every error, read once as its reader does: with a printer that shows the causes too.

use std::collections::BTreeSet;
use std::error::Error;
use std::time::Duration;

use crate::client::{
    Misuse, NotFresh, NotQueued, NotQueuedReason, RequestError, TimeoutCause, Unfit,
};
use crate::keepalive::Unresponsive;
use crate::sensors::{Part, SensorError, StaleCamera};
use crate::server::ReplyError;
use crate::timeline::{BasisError, MergeError};
use crate::wire::{ErrorKind, MessageType, RequestKind, WireError};
use crate::{
    Action, ActionError, ActionKind, ActionSpec, Age, ArmingState, Array, ConnectionError, Dtype,
    DtypeKind, Map, Rate, Shape, UnknownName,
};

/// As `{:#}` of anyhow prints it.
fn printed(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// An error's text in print: one line, nothing twice, and an end.
#[track_caller]
fn check(error: &(dyn Error + 'static)) {
    let text = printed(error);
    assert!(!text.is_empty() && text.trim() == text, "{text:?}");
    assert!(!text.contains(['\n', '\r']) && !text.contains("  "), "{text:?}");
    assert!(!text.ends_with([':', ';', ',', '.']), "{text:?}");
    assert_eq!(text.matches('(').count(), text.matches(')').count(), "{text:?}");
    for end in [": :", "; ;", "()", ": ;", "::;"] {
        assert!(!text.contains(end), "{text:?}");
    }
    let clauses: Vec<_> = text.split(": ").flat_map(|part| part.split("; ")).collect();
    let distinct: BTreeSet<_> = clauses.iter().collect();
    assert_eq!(clauses.len(), distinct.len(), "something is printed twice: {text:?}");
    let mut source = error.source();
    while let Some(cause) = source {
        assert_eq!(text.matches(&cause.to_string()).count(), 1, "{text:?}");
        source = cause.source();
    }
}

/// Checks values of an enum, which must be of all its variants.
macro_rules! check_all {
    ($enum:ident: $($variant:ident),+ $(,)?; $values:expr) => {{
        let values: Vec<$enum> = $values.into();
        // Without a catch-all: a new variant does not compile until it is read here too.
        let name = |value: &$enum| match value {
            $($enum::$variant { .. } => stringify!($variant),)+
        };
        let seen: BTreeSet<_> = values.iter().map(name).collect();
        assert_eq!(seen, BTreeSet::from([$(stringify!($variant)),+]));
        values.iter().for_each(|value| check(value));
    }};
}

fn wire_error() -> WireError {
    WireError::at(ErrorKind::WrongType, "cameras[2].name", 17).found("nil").expected("a string")
}

fn action_error() -> ActionError {
    ActionSpec::vector(7).check(&Action::from([0.0; 6])).unwrap_err()
}

const SECONDS: Duration = Duration::from_secs(20);

fn connection_errors() -> Vec<ConnectionError> {
    let (found, text) = (MessageType::ObservationResponse, || "joint 3 is hot".to_owned());
    vec![
        wire_error().into(),
        ConnectionError::UnexpectedReply { found, expected: Some(MessageType::ResetResponse) },
        ConnectionError::UnexpectedReply { found, expected: None },
        ConnectionError::TooManyRequests { limit: 64 },
        ConnectionError::TooManyBytes { limit: 4 << 20 },
        ConnectionError::RefusedStep(action_error()),
        ConnectionError::NotArmed { state: ArmingState::Stopped },
        ConnectionError::Unanswered { request: RequestKind::Reset },
        ConnectionError::RobotFailed(text()),
        ConnectionError::ClosedLocally,
        ConnectionError::ShutDown,
        ConnectionError::TakenOver,
        ConnectionError::TransportViolation(text()),
        ConnectionError::ClosedByPeer { code: Some(1001), reason: text() },
        ConnectionError::ClosedByPeer { code: None, reason: String::new() },
        ConnectionError::ClosedByPeer { code: Some(1000), reason: String::new() },
        ConnectionError::Reset,
        ConnectionError::EndOfStream { inside_message: false },
        ConnectionError::EndOfStream { inside_message: true },
        ConnectionError::TimedOut,
        ConnectionError::Unresponsive { silence: SECONDS },
        ConnectionError::CloseTimeout { timeout: SECONDS },
        ConnectionError::Lost(text()),
        ConnectionError::NotReconnected {
            lost: Box::new(ConnectionError::Reset),
            found: "no server is there".to_owned(),
        },
    ]
}

#[test]
fn of_connections() {
    check_all!(ConnectionError: BadFrame, UnexpectedReply, TooManyRequests, TooManyBytes,
        RefusedStep, NotArmed, Unanswered, RobotFailed, ClosedLocally, ShutDown, TakenOver,
        TransportViolation, ClosedByPeer, Reset, EndOfStream, TimedOut, Unresponsive, CloseTimeout,
        Lost, NotReconnected; connection_errors());
    // As the peer reads it.
    for error in connection_errors() {
        let (code, reason) = (Some(error.close_code()), error.close_reason());
        check(&ConnectionError::ClosedByPeer { code, reason });
    }
    check(&Unresponsive { silence: SECONDS });
}

#[test]
fn of_the_timeline() {
    check_all!(BasisError: FormerEpoch, FormerConnection, Foreign; [
        BasisError::FormerEpoch,
        BasisError::FormerConnection,
        BasisError::Foreign,
    ]);
    let found = || "NaN".to_owned();
    check_all!(MergeError: Weight, Decay, Dimension, Dtype, Shape; [
        MergeError::Weight { found: found() },
        MergeError::Decay { found: found() },
        MergeError::Dimension { dimension: 7, len: 7 },
        MergeError::Dtype { found: Dtype::U8 },
        MergeError::Shape { old: [7].into(), new: [1, 7].into() },
    ]);
    for kind in [None, Some(ActionKind::Delta), Some(ActionKind::Velocity)] {
        check_all!(Unfit: Repeat, Interpolation; [
            Unfit::Repeat { kind },
            Unfit::Interpolation { kind },
        ]);
    }
    let age = Age { at_least: SECONDS, at_most: Some(SECONDS) };
    check_all!(NotFresh: Nothing, Old; [
        NotFresh::Nothing,
        NotFresh::Old { age, max_age: SECONDS },
    ]);
}

#[test]
fn of_calls() {
    for ended in connection_errors() {
        check_all!(Misuse: Disconnected, Interrupted, Unfit, Contract, TooFast, TooManyRequests; [
            Misuse::Interrupted(ended.clone()),
            Misuse::Contract(action_error()),
            Misuse::Disconnected(ended.clone()),
            Misuse::Unfit(Unfit::Repeat { kind: None }),
            Misuse::TooFast { points: 9 },
            Misuse::TooManyRequests { limit: 64 },
        ]);
        check_all!(ReplyError: Disconnected, ForeignHandle; [
            ReplyError::Disconnected(ended.clone()),
            ReplyError::ForeignHandle,
        ]);
        check_all!(NotQueuedReason: Full, Unsent, Basis, Gap, Merge, Contract, Disconnected,
            Interrupted; [
            NotQueuedReason::Interrupted(ended.clone()),
            NotQueuedReason::Contract { row: 3, error: action_error() },
            NotQueuedReason::Basis(BasisError::FormerEpoch),
            NotQueuedReason::Gap { at: 20, end: 12 },
            NotQueuedReason::Merge(MergeError::Weight { found: "NaN".to_owned() }),
            NotQueuedReason::Full { waiting: 1000, capacity: 1024 },
            NotQueuedReason::Full { waiting: 0, capacity: 1024 },
            NotQueuedReason::Unsent { waiting: 1024 },
            NotQueuedReason::Disconnected(ended.clone()),
        ]);
        for (request, sent) in RequestKind::ALL.into_iter().zip([true, false].iter().cycle()) {
            check(&RequestError::Interrupted { request, sent: *sent, error: ended.clone() });
            check(&RequestError::Interrupted { request, sent: !sent, error: ended.clone() });
        }
        check_all!(RequestError: TimedOut, Cancelled, Disconnected, Interrupted; [
            RequestError::Interrupted {
                request: RequestKind::Reset,
                sent: true,
                error: ended.clone(),
            },
            RequestError::Cancelled,
            RequestError::Disconnected(ended.clone()),
            RequestError::TimedOut {
                request: RequestKind::Reset,
                waited: SECONDS,
                cause: TimeoutCause::Silent,
            },
        ]);
        let reason = NotQueuedReason::Disconnected(ended);
        for actions in [vec![], vec![Action::from([0.0])], vec![Action::from([0.0]); 2]] {
            check(&NotQueued { actions, reason: reason.clone() });
        }
    }
    for request in RequestKind::ALL {
        for cause in [
            TimeoutCause::NotSent,
            TimeoutCause::Interrupted,
            TimeoutCause::Silent,
            TimeoutCause::Slow,
            TimeoutCause::NeverAnswered { answered: vec![], request },
            TimeoutCause::NeverAnswered { answered: RequestKind::ALL.into(), request },
        ] {
            check(&RequestError::TimedOut { request, waited: SECONDS, cause });
        }
    }
}

#[test]
fn of_sensors() {
    let (name, dtype) = (|| "wrist_cam".into(), Dtype::U8);
    let shape = || Shape::new(&[480, 640, 3]);
    for part in [Part::Image, Part::Depth, Part::Proprio] {
        check_all!(SensorError: UnknownName, TooLarge, NoMemory, NoClockForAge, Dtype, Length, Shape,
            NoDepth, NoClock; [
            SensorError::UnknownName(UnknownName::new("camera", "wrist", [name()].iter())),
            SensorError::TooLarge { part, name: name(), dtype, shape: shape() },
            SensorError::NoMemory { part, name: name(), bytes: 921_600 },
            SensorError::NoClockForAge { name: name() },
            SensorError::Dtype { part, name: name(), found: Dtype::F32, expected: dtype },
            SensorError::Length { part, name: name(), found: 7, expected: 8, shape: shape() },
            SensorError::Shape { part, name: name(), found: Shape::new(&[7]), expected: shape() },
            SensorError::NoDepth { name: name() },
            SensorError::NoClock { name: name() },
        ]);
    }
    check(&StaleCamera { name: name(), age: SECONDS, max_age: Duration::from_millis(500) });
    let names = ["wrist_cam", "front_cam"].map(Into::into);
    for existing in [&names[..], &names[..1], &[]] {
        check(&UnknownName::new("camera", "wrist", existing.iter()));
    }
}

#[test]
fn of_types() {
    let spec = |action: Action| ActionSpec::vector(1).check(&action).unwrap_err();
    let empty = || Action::new(Array::from_slice(0, &[0_f32; 0]).unwrap());
    let number = |number: f32| number.to_string();
    check_all!(ActionError: Shape, Dtype, Empty, NotFinite, OutOfBounds, TooFar, TooLong, NotMeasured; [
        ActionError::OutOfBounds { index: 3, found: number(2.5), low: number(-1.5), high: number(1.5) },
        ActionError::TooFar { index: 3, found: number(0.5), from: number(0.25), max: number(0.125) },
        ActionError::TooLong { index: 3, found: number(0.5), max: number(0.125) },
        ActionError::NotMeasured { stream: "joint_pos".into() },
        action_error(),
        spec(Array::from_slice(1, &[1_i32]).unwrap().into()),
        ActionSpec::default().check(&empty()).unwrap_err(),
        spec([f32::NAN].into()),
    ]);
    let kinds = [DtypeKind::Float, DtypeKind::Integer, DtypeKind::Bool, DtypeKind::Any];
    for expected in kinds {
        check(&ActionError::Dtype { found: Dtype::F16, expected });
    }
    check(&empty().to_array::<7>().unwrap_err());
    check(&Array::from_vec([2, 2], vec![0_f32; 3]).unwrap_err());
    check(&Array::new(Dtype::F64, [usize::MAX, 2], bytes::Bytes::new()).unwrap_err());
    for dtype in Dtype::ALL {
        let array = Array::new(dtype, [0], bytes::Bytes::new()).unwrap();
        let mismatch = match dtype {
            Dtype::F32 => array.as_slice::<u8>().unwrap_err(),
            _ => array.as_slice::<f32>().unwrap_err(),
        };
        check(&mismatch);
    }
    check(&"float128".parse::<Dtype>().unwrap_err());
    check(&Map::from_serialize(&7).unwrap_err());
    check(&Map::new().with("a", "b").deserialize::<Numbers>().unwrap_err());
    check(&Rate::hz(0).unwrap_err());
}

type Numbers = std::collections::BTreeMap<String, u8>;

#[test]
fn of_frames() {
    check(&wire_error());
    for message in MessageType::ALL {
        check(&wire_error().in_message(message));
        check(&WireError::frame(ErrorKind::NotMsgpack, 4).found("nil").expected("a map"));
    }
}

#[cfg(feature = "websocket")]
mod of_websockets {
    use super::*;
    use crate::ws::{CloseCode, Error, HandshakeError, ServerHandshake, WsUri};

    #[test]
    fn of_sessions() {
        let text = || "joint 3 is hot".to_owned();
        let errors = || -> Vec<Error> {
            vec![
                Error::Closed { code: CloseCode::NORMAL, reason: text() },
                Error::Closed { code: CloseCode::NO_STATUS, reason: String::new() },
                Error::Lost { inside_message: true },
                Error::Unresponsive { silence: SECONDS },
                Error::CloseTimeout { timeout: SECONDS },
                Error::TooLong { len: 300 << 20, limit: 256 << 20 },
                Error::Text,
                Error::ReservedBits { bits: 5 },
                Error::ReservedOpcode(7),
                Error::Unmasked,
                Error::Masked,
                Error::LengthNotMinimal(7),
                Error::LengthOverflow(1 << 63),
                Error::FragmentedControl,
                Error::LongControl(126),
                Error::UnexpectedContinuation,
                Error::ExpectedContinuation,
                Error::ShortClose,
                Error::InvalidCloseCode(7),
                Error::InvalidCloseReason { valid_up_to: 7 },
            ]
        };
        check_all!(Error: Closed, Lost, Unresponsive, CloseTimeout, TooLong, Text, ReservedBits,
            ReservedOpcode, Unmasked, Masked, LengthNotMinimal, LengthOverflow, FragmentedControl,
            LongControl, UnexpectedContinuation, ExpectedContinuation, ShortClose,
            InvalidCloseCode, InvalidCloseReason; errors());
        errors().into_iter().for_each(|error| check(&ConnectionError::from(error)));
    }

    #[test]
    fn of_handshakes() {
        let text = || "nginx".to_owned();
        let refused = |body: &str, location: Option<&str>| HandshakeError::Refused {
            status: 503,
            reason: "Service Unavailable".to_owned(),
            location: location.map(str::to_owned),
            body: body.to_owned(),
        };
        let moved = refused("", Some("ws://me:secret@other:80/arm?token=secret"));
        assert!(moved.to_string().ends_with("; connect to ws://***@other:80/arm?*** instead"));
        check_all!(HandshakeError: InvalidRequest, Refused, NotWebSocket, WrongAcceptKey,
            UnexpectedExtension, UnexpectedSubprotocol, HeadTooLong, Closed; [
            HandshakeError::InvalidRequest(text()),
            refused("this robot already has a policy; it takes one at a time", None),
            refused("", None),
            moved,
            HandshakeError::NotWebSocket { found: text() },
            HandshakeError::WrongAcceptKey { found: "a".to_owned(), expected: "b".to_owned() },
            HandshakeError::UnexpectedExtension(text()),
            HandshakeError::UnexpectedSubprotocol(text()),
            HandshakeError::HeadTooLong { limit: 16 << 10 },
            HandshakeError::Closed { received: 7 },
        ]);
        for request in ["POST / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "nonsense\r\n\r\n"] {
            let request = ServerHandshake::default().receive(request.as_bytes());
            check(&request.expect_err("it is no request for a WebSocket"));
        }
        for uri in ["", "localhost", "ftp://localhost", "ws://me:secret@localhost/"] {
            check(&uri.parse::<WsUri>().unwrap_err());
        }
    }
}
