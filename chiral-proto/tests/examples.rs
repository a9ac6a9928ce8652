//! The examples do what they say. (The one on `mio` is driven over real sockets in the workspace's
//! end-to-end tests.)

#[path = "../examples/simulator.rs"]
#[expect(dead_code, reason = "its `main` is for a terminal")]
mod simulator;

#[cfg(unix)]
#[path = "../examples/unix_socket.rs"]
#[expect(dead_code, reason = "its `main` is for a terminal")]
mod unix_socket;

use std::time::Duration;

#[test]
fn the_simulation_is_deterministic() {
    let minutes = Duration::from_secs(120);
    let (robot, stats) = simulator::run(minutes).expect("it runs to its end");
    let (again, stats_again) = simulator::run(minutes).expect("it runs to its end");
    assert_eq!(robot.reached, again.reached);
    assert_eq!(robot.age, again.age);
    assert_eq!(stats.to_string(), stats_again.to_string());

    // About one target in three seconds; each is confirmed by a reset, which is an observation too.
    assert!((30..60).contains(&robot.reached), "{}", robot.reached);
    let streamed = stats.observations.count() - u64::from(robot.reached);
    assert_eq!(streamed, 120 * 30);
    assert_eq!((stats.stream_ticks_missed, stats.dispatch_ticks_missed), (0, 0));
    assert_eq!(stats.actions.count() + stats.starvations, 120 * 50);
    // The image waits for the next tick, twice for the network, and is thought about.
    assert!(robot.age.quantile(0.0) >= Duration::from_millis(170), "{}", robot.age);
    assert!(robot.age.max() < Duration::from_millis(400), "{}", robot.age);
}

#[cfg(unix)]
#[expect(clippy::disallowed_methods, reason = "a peer of threads")]
mod over_a_unix_socket {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::thread::JoinHandle;

    use chiral_proto::client::{Client, Config};
    use chiral_proto::wire::{ClientMessage, Frame, Limits, ServerMessage};

    use crate::unix_socket::unix;

    /// The example's robot, and the socket of a policy that is written by hand.
    fn robot() -> (UnixStream, JoinHandle<unix::Result<f32>>) {
        let (ours, theirs) = UnixStream::pair().expect("sockets");
        (ours, std::thread::spawn(|| unix::robot(theirs)))
    }

    fn framed(message: &ClientMessage) -> Vec<u8> {
        let frame = message.encode().to_bytes();
        [&(frame.len() as u32).to_le_bytes(), &frame[..]].concat()
    }

    fn action(position: f32) -> Vec<u8> {
        framed(&ClientMessage::ApplyAction([position].into()))
    }

    fn receive(mut socket: &UnixStream) -> f32 {
        let mut len = [0; 4];
        socket.read_exact(&mut len).unwrap();
        let mut frame = vec![0; u32::from_le_bytes(len) as usize];
        socket.read_exact(&mut frame).unwrap();
        let limits = Limits::default();
        let frame = Frame::parse(frame.into(), &limits).unwrap();
        match ServerMessage::decode(&frame, &limits).unwrap() {
            ServerMessage::Observation(seen) => {
                seen.proprio("position").unwrap().values.to_f32()[0]
            }
            other => panic!("{other:?}"),
        }
    }

    /// Looks until the robot has done what it was told last.
    fn wait_for(mut socket: &UnixStream, position: f32) {
        loop {
            socket.write_all(&framed(&ClientMessage::Observe)).unwrap();
            if (receive(socket) - position).abs() < f32::EPSILON {
                return;
            }
        }
    }

    #[test]
    fn the_policy_moves_the_axis() {
        let position = unix::both().expect("robot and policy part in peace");
        assert!((position - 1.0).abs() < f32::EPSILON, "{position}");
    }

    #[test]
    fn an_action_is_applied_while_the_observation_is_unread() {
        let (mut socket, robot) = robot();
        socket.write_all(&framed(&ClientMessage::Observe)).unwrap();
        let mut beginning = [0; 100];
        socket.read_exact(&mut beginning).unwrap(); // it is being written, and does not fit
        socket.write_all(&action(0.5)).unwrap();
        let len = u32::from_le_bytes(beginning[..4].try_into().unwrap()) as usize;
        socket.read_exact(&mut vec![0; 4 + len - beginning.len()]).unwrap();
        wait_for(&socket, 0.5);
        drop(socket);
        assert!((robot.join().unwrap().unwrap() - 0.5).abs() < f32::EPSILON);
    }

    #[test]
    fn the_robot_terminates_for_any_input() {
        let whole = action(0.5);
        let endless = u32::MAX.to_le_bytes().to_vec();
        let nonsense = [&8_u32.to_le_bytes()[..], b"nonsense"].concat();
        for bad in [&whole[..2], &whole[..whole.len() - 1], &endless, &nonsense] {
            let (mut socket, robot) = robot();
            socket.write_all(&action(0.25)).unwrap();
            wait_for(&socket, 0.25);
            socket.write_all(bad).unwrap();
            socket.shutdown(std::net::Shutdown::Write).unwrap();
            socket.read_to_end(&mut Vec::new()).unwrap();
            assert!((robot.join().unwrap().unwrap() - 0.25).abs() < f32::EPSILON);
        }
    }

    #[test]
    fn a_panic_ends_the_threads_and_is_propagated() {
        let (ours, theirs) = UnixStream::pair().expect("sockets");
        let client = Client::new(Config::default());
        let work = |_: &_| panic!("in the middle of the work");
        let linked = std::thread::spawn(move || unix::Link::run(ours, client, work));
        linked.join().unwrap_err();
        (&theirs).read_to_end(&mut Vec::new()).expect("it is closed");
    }
}
