//! A session and a machine together: `Session::exchange`.

use std::io::IoSlice;
use std::time::Instant;

use chiral_proto::client::{self, Client};
use chiral_proto::server::{self, Server};
use chiral_proto::ws::{Config, Role, Session};
use chiral_proto::{ConnectionError, Machine, Map};

use crate::support::{CLIENT, epoch, frame, seconds};

struct Side<M> {
    session: Session,
    machine: M,
}

impl<M: Machine> Side<M> {
    fn new(role: Role, machine: M) -> Self {
        Self { session: Session::new(epoch(), role, &Config::default(), &[]), machine }
    }

    fn exchange(&mut self, now: Instant) -> Option<Instant> {
        self.session.exchange(now, &mut self.machine)
    }

    /// Writes what there is to write to the other side. False if that is nothing.
    fn write_to(&mut self, now: Instant, other: &mut Side<impl Machine>) -> bool {
        let mut slices = [IoSlice::new(&[]); 1];
        let count = self.session.writer.transmit(&mut slices);
        let Some(chunk) = slices[..count].first() else { return false };
        let room = other.session.reader.read_buf();
        let len = chunk.len().min(room.len());
        room[..len].copy_from_slice(&chunk[..len]);
        other.session.reader.bytes_read(len);
        self.session.writer.bytes_written(now, len);
        true
    }
}

fn pair() -> (Side<Client>, Side<Server>) {
    let client = Client::new(client::Config::default());
    let server = Server::new(epoch(), server::Config::default());
    (Side::new(CLIENT, client), Side::new(Role::Server, server))
}

/// Moves everything that can be moved at `now`.
fn settle(now: Instant, policy: &mut Side<Client>, robot: &mut Side<Server>) {
    loop {
        policy.exchange(now);
        robot.exchange(now);
        let forth = policy.write_to(now, robot);
        let back = robot.write_to(now, policy);
        if !forth && !back {
            return;
        }
    }
}

#[test]
fn requests_and_replies_are_exchanged() {
    let (mut policy, mut robot) = pair();
    let now = epoch();
    let id = policy.machine.request_metadata(now, None).unwrap();
    settle(now, &mut policy, &mut robot);
    let Some(server::Event::Metadata(reply)) = robot.machine.poll_event(now) else { panic!() };
    let metadata = Map::new().with("robot", "arm");
    robot.machine.reply_metadata(reply, metadata.clone()).unwrap();
    settle(now, &mut policy, &mut robot);
    assert_eq!(policy.machine.poll_event(), Some(client::Event::Metadata { id, metadata }));
}

#[test]
fn a_frame_is_requested_only_after_the_previous_one_is_written() {
    let (mut policy, mut robot) = pair();
    let now = epoch();
    policy.machine.send_action(now, [1.0].into()).unwrap();
    policy.machine.send_action(now, [2.0].into()).unwrap();
    policy.exchange(now);
    policy.exchange(now);
    assert_eq!(policy.machine.stats(now).frames_sent, 1);
    assert!(policy.write_to(now, &mut robot));
    policy.exchange(now);
    assert_eq!(policy.machine.stats(now).frames_sent, 2);
}

#[test]
fn the_end_of_one_machine_reaches_the_other() {
    let (mut policy, mut robot) = pair();
    robot.machine.fail("the arm is not homed");
    settle(epoch(), &mut policy, &mut robot);
    let Some(ConnectionError::ClosedByPeer { code, reason }) = policy.machine.error() else {
        panic!("{:?}", policy.machine.error())
    };
    assert_eq!((*code, &reason[..]), (Some(1011), "the robot failed: the arm is not homed"));
    assert!(policy.session.writer.is_finished() && robot.session.writer.is_finished());
    assert_eq!((policy.exchange(epoch()), robot.exchange(epoch())), (None, None));
}

#[test]
fn an_unreadable_frame_ends_both_machines() {
    let (mut policy, mut robot) = pair();
    policy.session.writer.push(frame(100)).expect("nothing is being written");
    settle(epoch(), &mut policy, &mut robot);
    assert!(matches!(robot.machine.error(), Some(ConnectionError::BadFrame(_))));
    let error = policy.machine.error();
    assert!(
        matches!(error, Some(ConnectionError::ClosedByPeer { code: Some(1007), .. })),
        "{error:?}"
    );
}

#[test]
fn exchange_advances_time_for_session_and_machine() {
    let (mut policy, mut robot) = pair();
    let deadline = epoch() + seconds(3);
    policy.machine.request_reset(epoch(), Some(deadline)).unwrap();
    assert_eq!(policy.exchange(epoch()), Some(deadline), "the machine's comes first");
    policy.exchange(deadline);
    assert!(matches!(policy.machine.poll_event(), Some(client::Event::Failed { .. })));

    // Nothing arrives: it is pinged after 20 s, and given up 20 s later.
    assert_eq!(robot.exchange(epoch()), Some(epoch() + seconds(20)));
    let pinged = epoch() + seconds(20);
    assert_eq!(robot.exchange(pinged), Some(epoch() + seconds(40)));
    assert!(robot.write_to(pinged, &mut policy));
    assert_eq!(robot.exchange(epoch() + seconds(40)), None);
    assert!(matches!(robot.machine.error(), Some(ConnectionError::Unresponsive { .. })));
    assert!(robot.session.writer.is_finished());
}

#[test]
fn received_bytes_count_before_the_keepalive_deadline() {
    let (mut policy, mut robot) = pair();
    robot.exchange(epoch() + seconds(20));
    assert!(robot.write_to(epoch() + seconds(20), &mut policy));
    policy.exchange(epoch() + seconds(20));
    assert!(policy.write_to(epoch() + seconds(20), &mut robot));
    // This process slept; the pong lies there unread.
    robot.exchange(epoch() + seconds(100));
    assert_eq!(robot.machine.error(), None);
}
