//! Keepalive on virtual time.

use std::io::IoSlice;
use std::time::{Duration, Instant};

use chiral_proto::ws::{CloseCode, Config, Error, Incoming, Keepalive, Role, session};

use crate::support::{
    BINARY, CLIENT, CLOSE, CONTINUE, FIN, OBSERVATION, Ours, PING, PONG, close_payload, epoch,
    frame, parse_raw, raw, seconds,
};

const DEAD: Error = Error::Unresponsive { silence: Duration::from_secs(10) };

fn client() -> Ours {
    let keepalive = Keepalive { interval: seconds(20), timeout: seconds(10) };
    Ours::new(CLIENT, &Config { keepalive: Some(keepalive), ..Config::default() })
}

/// Lets time pass, handling what is due.
fn pass_until(ours: &mut Ours, end: Instant) -> Result<(), Error> {
    while let Some(due) = ours.session.writer.poll_timeout().filter(|due| *due <= end) {
        ours.now = ours.now.max(due);
        ours.session.writer.handle_timeout(ours.now)?;
        ours.write();
    }
    ours.now = end;
    Ok(())
}

#[test]
fn an_idle_peer_is_pinged_at_every_interval() {
    let mut ours = client();
    let mut pings = 0;
    for second in 1..=3600 {
        assert_eq!(pass_until(&mut ours, epoch() + seconds(second)), Ok(()));
        for (first, payload) in ours.written() {
            assert_eq!((first, payload), (PING, Vec::new()));
            pings += 1;
            ours.receive(&raw(PONG, b"", None));
        }
    }
    assert_eq!(pings, 180);
}

#[test]
fn a_silent_peer_times_out_once() {
    let mut ours = client();
    assert_eq!(pass_until(&mut ours, epoch() + seconds(100)), Err(DEAD));
    assert_eq!(ours.now, epoch() + seconds(30));
    assert!(ours.session.writer.is_finished() && !ours.session.writer.wants_message());
    assert_eq!(ours.session.writer.poll_timeout(), None);
    assert_eq!(ours.session.writer.handle_timeout(ours.now), Ok(()));
    ours.session.writer.close(ours.now, CloseCode::NORMAL, "");
    let close = (CLOSE, close_payload(1011, "no sign of life for 10s after a ping"));
    assert_eq!(ours.written(), [(PING, Vec::new()), close], "a last word, with luck");
    assert_eq!(ours.session.writer.transmit(&mut [IoSlice::new(&[]); 1]), 0);
}

#[test]
fn a_peer_that_times_out_during_a_frame_gets_no_close() {
    let mut ours = client();
    ours.session.writer.push(frame(1000)).expect("nothing is being written");
    ours.write_some(10);
    assert_eq!(ours.session.writer.handle_timeout(ours.now + seconds(20)), Ok(()));
    assert_eq!(ours.session.writer.handle_timeout(ours.now + seconds(30)), Err(DEAD));
    assert!(!ours.session.writer.wants_write(), "it would not know the rest for a frame");
}

#[test]
fn a_probe_pings_at_once() {
    for keepalive in [None, Some(Keepalive::default())] {
        let config = Config { keepalive, ..Config::default() };
        let mut ours = Ours::new(CLIENT, &config);
        ours.now = epoch() + seconds(3);
        ours.session.writer.probe(ours.now, seconds(1));
        assert_eq!(ours.written(), [(PING, Vec::new())]);
        assert!(ours.session.writer.awaits_sign_of_life());
        ours.receive(&raw(PONG, b"", None));
        assert!(!ours.session.writer.awaits_sign_of_life());
        assert_eq!(ours.session.writer.handle_timeout(epoch() + seconds(4)), Ok(()));

        ours.session.writer.probe(ours.now, seconds(1));
        ours.write();
        let silent = Error::Unresponsive { silence: seconds(1) };
        assert_eq!(ours.session.writer.poll_timeout(), Some(epoch() + seconds(4)));
        assert_eq!(ours.session.writer.handle_timeout(epoch() + seconds(4)), Err(silent));
    }
}

#[test]
fn a_slowly_arriving_message_counts_as_a_sign_of_life() {
    let mut ours = client();
    ours.receive(&raw(BINARY, &vec![1; 20_000], None));
    let trickle = raw(FIN | CONTINUE, &vec![2; OBSERVATION], None);
    for (index, byte) in trickle.iter().take(600).enumerate() {
        assert_eq!(pass_until(&mut ours, epoch() + seconds(9) * index as u32), Ok(()));
        ours.receive(&[*byte]);
    }
    assert!(ours.messages.is_empty());
    let end = ours.now + seconds(31);
    assert_eq!(pass_until(&mut ours, end), Err(DEAD));
}

#[test]
fn write_progress_counts_as_a_sign_of_life_until_the_ping_is_sent() {
    let mut ours = client();
    ours.session.writer.push(frame(1000)).expect("nothing is being written");
    for step in 0..100 {
        let now = epoch() + seconds(9) * step;
        while let Some(due) = ours.session.writer.poll_timeout().filter(|due| *due <= now) {
            assert_eq!(ours.session.writer.handle_timeout(due), Ok(()));
        }
        ours.now = now;
        ours.write_some(5);
    }
    // The socket takes no more.
    assert_eq!(ours.session.writer.handle_timeout(ours.now + seconds(9)), Ok(()));
    assert_eq!(ours.session.writer.handle_timeout(ours.now + seconds(10)), Err(DEAD));
}

#[test]
fn without_keepalive_there_is_no_timeout() {
    let mut ours = Ours::new(CLIENT, &Config { keepalive: None, ..Config::default() });
    assert_eq!(ours.session.writer.poll_timeout(), None);
    assert_eq!(ours.session.writer.handle_timeout(epoch() + seconds(10_000)), Ok(()));
    assert!(ours.written().is_empty() && !ours.session.writer.is_finished());
}

#[test]
fn a_closing_session_is_not_pinged() {
    let mut ours = client();
    ours.now = epoch() + seconds(19);
    ours.session.writer.close(ours.now, CloseCode::NORMAL, "");
    ours.write();
    assert_eq!(ours.session.writer.poll_timeout(), Some(epoch() + seconds(24)));
    assert_eq!(ours.session.writer.handle_timeout(epoch() + seconds(21)), Ok(()));
    assert_eq!(ours.written().len(), 1, "the close frame alone");
}

#[test]
fn every_read_notifies_the_writer_of_a_sign_of_life() {
    let (mut reader, _) = session(epoch(), Role::Server, &Config::default(), b"");
    let key = Some([1; 4]);
    let bytes = [raw(FIN | BINARY, &vec![0; 40_000], key), raw(PING, b"", key)].concat();
    for piece in bytes.chunks(777) {
        let mut rest = piece;
        while !rest.is_empty() {
            let room = reader.read_buf();
            let count = room.len().min(rest.len());
            room[..count].copy_from_slice(&rest[..count]);
            rest = &rest[count..];
            reader.bytes_read(count);
            let found: Vec<_> = std::iter::from_fn(|| reader.poll()).collect();
            let controls = found.iter().filter(|one| matches!(one, Incoming::Control(_)));
            assert_eq!(controls.count(), 1, "{found:?}");
        }
    }
}

#[test]
fn merged_controls_keep_the_latest_ping_and_the_first_end() {
    let (mut reader, mut writer) = session(
        epoch(),
        CLIENT,
        &Config::default(),
        &[
            raw(PING, b"1", None),
            raw(FIN | BINARY, b"message", None),
            raw(PING, b"2", None),
            raw(PONG, b"3", None),
            raw(CLOSE, b"", None),
        ]
        .concat(),
    );
    let mut mailbox = chiral_proto::ws::Control::default();
    let mut messages = 0;
    loop {
        match reader.poll().expect("the session ends") {
            Incoming::Message(_) => messages += 1,
            Incoming::Control(control) => mailbox.merge(control),
            Incoming::End(error) => break assert!(error.is_orderly()),
        }
    }
    assert_eq!((messages, reader.poll()), (1, None));
    writer.handle(epoch(), mailbox);
    assert!(!writer.is_finished());
    let mut slices = [IoSlice::new(&[]); 4];
    let count = writer.transmit(&mut slices);
    let bytes: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
    assert_eq!(parse_raw(&bytes), [(PONG, b"2".to_vec()), (CLOSE, Vec::new())]);
    writer.bytes_written(epoch(), bytes.len());
    assert!(writer.is_finished());
}
