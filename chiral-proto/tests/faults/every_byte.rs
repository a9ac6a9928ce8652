//! Every byte of a session, in both directions: it is the last one, or another one.

use chiral_proto::ConnectionError;
use chiral_proto::testing::{Break, Faults, Link, Side};

use crate::world::{Outcome, Script, run};

fn link(from: Side, faults: Faults) -> Link {
    match from {
        Side::Client => Link::new(faults, Faults::default()),
        Side::Server => Link::new(Faults::default(), faults),
    }
}

fn intact(script: Script) -> Outcome {
    run(script, Link::new(Faults::default(), Faults::default()))
}

/// Runs the session once for each of a direction's bytes.
fn at_every_byte(
    script: Script,
    from: Side,
    faults: impl Fn(u64) -> Faults,
    mut check: impl FnMut(u64, &Outcome),
) {
    let bytes = intact(script).bytes_sent[from as usize];
    assert!(bytes > 500, "{bytes} bytes");
    for byte in 0..bytes {
        let _named = Named(from, byte);
        check(byte, &run(script, link(from, faults(byte))));
    }
}

/// Says which byte a failure is about.
struct Named(Side, u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("at byte {} of the {:?}'s", self.1, self.0);
        }
    }
}

#[test]
fn an_intact_link_carries_the_whole_session() {
    let outcome = intact(Script::SHORT);
    assert_eq!(outcome.applied, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    assert!(outcome.streamed >= 2);
    assert_eq!(outcome.policy_ended, ConnectionError::ClosedLocally);
    assert!(matches!(outcome.robot_ended, ConnectionError::ClosedByPeer { .. }));
}

#[test]
fn single_bytes_carry_the_whole_session() {
    let single = || Faults::default().pieces(1, 1).capacity(1);
    let outcome = run(Script::SHORT, Link::new(single(), single()));
    assert_eq!(outcome.applied.len(), 6);
    assert_eq!(outcome.policy_ended, ConnectionError::ClosedLocally);
}

fn breaks_at_every_byte(how: Break) {
    for from in [Side::Client, Side::Server] {
        let mut furthest = 0;
        at_every_byte(
            Script::SHORT,
            from,
            |byte| Faults::default().breaks_at(byte, how),
            |byte, outcome| {
                let ends = [&outcome.policy_ended, &outcome.robot_ended];
                // In the closing handshake, both may know already that it is over.
                let is_whole = *ends[0] == ConnectionError::ClosedLocally
                    && matches!(ends[1], ConnectionError::ClosedByPeer { .. });
                let is_told = match how {
                    Break::Reset => ends.contains(&&ConnectionError::Reset),
                    _ => ends.iter().any(|ended| ended.is_lost()),
                };
                assert!(is_told || is_whole && outcome.applied.len() == 6, "{ends:?}");
                assert!(outcome.applied.len() >= furthest, "fewer actions with more bytes, {byte}");
                furthest = outcome.applied.len();
            },
        );
        assert_eq!(furthest, 6, "the last bytes carry no action");
    }
}

#[test]
fn a_reset_at_every_byte() {
    breaks_at_every_byte(Break::Reset);
}

#[test]
fn an_end_of_the_stream_at_every_byte() {
    breaks_at_every_byte(Break::EndOfStream);
}

#[test]
fn a_direction_that_falls_silent_at_every_byte() {
    breaks_at_every_byte(Break::Silence);
}

#[test]
fn a_pulled_cable_at_every_byte() {
    breaks_at_every_byte(Break::Unplugged);
}

#[test]
fn a_flipped_bit_in_every_byte() {
    for from in [Side::Client, Side::Server] {
        let (mut noticed, mut all) = (0, 0);
        at_every_byte(
            Script::WITH_CAMERA,
            from,
            |byte| Faults::default().corrupts_byte(byte, 1 << (byte % 8)),
            |_, outcome| {
                all += 1;
                let is_whole = outcome.policy_ended == ConnectionError::ClosedLocally
                    && outcome.applied.len() == 6;
                noticed += usize::from(!is_whole);
            },
        );
        println!("{from:?}: {noticed} of {all} flipped bits end the session or an action");
        // A WebSocket has no checksum: what is within a value is a value like any other.
        assert!(noticed > 0 && noticed < all);
    }
}
