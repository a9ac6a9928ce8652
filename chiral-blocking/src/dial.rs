//! Looking up a host and connecting to it. Both calls block and cannot be given up, so each has a
//! thread of its own, which ends by itself when the time for connecting is over.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Instant;

use chiral_driver::client::{Failure, Race, Stage, WaitForServer};

/// Connects to a host, over whichever of its addresses answers first.
pub(crate) fn connect(
    host: &str,
    port: u16,
    deadline: Instant,
    wait: &mut WaitForServer,
) -> Result<TcpStream, Failure> {
    let addresses = match host.parse::<IpAddr>() {
        Ok(ip) => vec![SocketAddr::new(ip, port)],
        Err(_) => look_up(host, port, deadline, wait)?,
    };
    connect_first(addresses, deadline, wait)
}

fn look_up(
    host: &str,
    port: u16,
    deadline: Instant,
    wait: &mut WaitForServer,
) -> Result<Vec<SocketAddr>, Failure> {
    let (found, results) = channel();
    let host = host.to_owned();
    spawn("chiral-look-up", move || {
        // Whoever waited may have given up.
        let _ = found.send((&*host, port).to_socket_addrs().map(Vec::from_iter));
    })?;
    let result = receive(&results, deadline, wait, Stage::LookUp);
    result.ok_or_else(|| Stage::LookUp.timed_out())?.map_err(Failure::of_look_up)
}

fn connect_first(
    addresses: Vec<SocketAddr>,
    deadline: Instant,
    wait: &mut WaitForServer,
) -> Result<TcpStream, Failure> {
    let mut race = Race::new(addresses);
    let (connected, results) = channel();
    loop {
        let now = Instant::now();
        if deadline <= now || wait.check_cancelled().is_err() {
            return Err(Stage::Connect.timed_out());
        }
        if let Some(address) = race.start_next(now) {
            let connected = connected.clone();
            spawn("chiral-connect", move || {
                let result = TcpStream::connect_timeout(&address, deadline - now);
                // Another address may have been faster.
                let _ = connected.send((address, result));
            })?;
        }
        if let Some(error) = race.error() {
            return Err(Failure::Absent(error));
        }
        let until = race.next_start().map_or(deadline, |at| at.min(deadline));
        match receive(&results, until, wait, Stage::Connect) {
            Some((_, Ok(stream))) => return Ok(stream),
            Some((address, Err(error))) => race.fail(Instant::now(), address, error),
            None => {}
        }
    }
}

/// What a thread has found, if it does until then; tells meanwhile what is waited for.
fn receive<T>(
    results: &Receiver<T>,
    until: Instant,
    wait: &mut WaitForServer,
    stage: Stage,
) -> Option<T> {
    loop {
        let left = until.min(wait.wake_at()).saturating_duration_since(Instant::now());
        match results.recv_timeout(left) {
            Ok(result) => return Some(result),
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) => wait.notice(stage.when_slow()),
        }
        if until <= Instant::now() || wait.check_cancelled().is_err() {
            return None;
        }
    }
}

fn spawn(name: &'static str, work: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let thread = thread::Builder::new().name(name.to_owned()).spawn(work);
    thread.map(drop).map_err(|error| Failure::Absent(io::Error::new(error.kind(), error)))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Duration;

    use chiral_driver::client::ClientSettings;

    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn an_address_that_answers_nothing_does_not_keep_the_next_from_being_tried() {
        let full = TcpListener::bind("127.0.0.3:0").expect("loopback");
        rustix::net::listen(&full, 0).expect("it listens");
        let silent = full.local_addr().expect("it is bound");
        let mut kept = Vec::new();
        // When the queue of those that wait to be accepted is full, the system drops what comes.
        while let Ok(stream) = TcpStream::connect_timeout(&silent, Duration::from_millis(300)) {
            kept.push(stream);
        }
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let there = listener.local_addr().expect("it is bound");
        let mut wait = WaitForServer::new("ws://robot", &ClientSettings::default());
        let deadline = Instant::now() + Duration::from_secs(8);
        let stream = connect_first(vec![silent, there], deadline, &mut wait).expect("one is there");
        assert_eq!(stream.peer_addr().expect("it is connected"), there);
        let deadline = Instant::now() + Duration::from_millis(500);
        let failure =
            connect_first(vec![silent], deadline, &mut wait).expect_err("it answers nothing");
        let Failure::Absent(error) = failure else { panic!("{failure:?}") };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn the_first_address_that_answers_is_connected_to() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let there = listener.local_addr().expect("it is bound");
        let refused = TcpListener::bind("127.0.0.2:0").expect("loopback");
        let nobody = refused.local_addr().expect("it was bound");
        drop(refused);
        let mut wait = WaitForServer::new("ws://robot", &ClientSettings::default());
        let deadline = Instant::now() + Duration::from_secs(10);
        let stream = connect_first(vec![nobody, there], deadline, &mut wait).expect("one is there");
        assert_eq!(stream.peer_addr().expect("it is connected"), there);
        let error = connect_first(vec![nobody], deadline, &mut wait).expect_err("nobody is there");
        let Failure::Absent(error) = error else { panic!("{error:?}") };
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
