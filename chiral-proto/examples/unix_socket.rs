//! Robot and policy on one host, over a pair of Unix domain sockets, with threads and nothing but
//! `std`. `cargo run -p chiral-proto --example unix_socket`. (Of two processes, the robot gets its
//! socket from `UnixListener::bind(path)?.accept()?`, the policy from `UnixStream::connect(path)?`.)
//!
//! A frame goes behind its length. All that the machines ask of a transport is to keep messages
//! whole and in order, and a WebSocket has nothing to add on one host: the kernel tells at once
//! when the other process ends, the file's permissions say who may connect, no masking costs time.
//! (Over a network, or for a peer not of your making, see the example `mio`.)
#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "an application")]

#[cfg(unix)]
pub(crate) mod unix {
    use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, Write};
    use std::os::unix::net::UnixStream;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
    use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
    use std::time::{Duration, Instant};
    use std::{error::Error, net::Shutdown, thread};

    use chiral_proto::client::{self, Client};
    use chiral_proto::server::{self, Server};
    use chiral_proto::wire::{Frame, Limits};
    use chiral_proto::{CameraConfig, ConnectionError, Machine, ProprioConfig, Rate};
    use chiral_proto::{bytes::Bytes, pool::BufferPool, sensors::Sensors};

    /// A machine and its socket, for three threads: one reads, one writes, the third is yours. None
    /// waits for the socket with the machine locked: an action passes an observation half written.
    pub(crate) struct Link<M: Machine> {
        machine: Mutex<M>,
        changed: Condvar,
        socket: UnixStream,
    }

    impl<M: Machine + Send> Link<M> {
        /// Runs a machine over a socket until `work` ends, be it by a panic.
        pub(crate) fn run<T>(socket: UnixStream, machine: M, work: impl FnOnce(&Self) -> T) -> T {
            let link = Self { machine: Mutex::new(machine), changed: Condvar::new(), socket };
            thread::scope(|scope| {
                scope.spawn(|| link.read());
                scope.spawn(|| link.write());
                let result = catch_unwind(AssertUnwindSafe(|| work(&link)));
                link.call(|it, now| it.handle_disconnect(now, ConnectionError::ClosedLocally));
                result.unwrap_or_else(|panic| resume_unwind(panic))
            })
        }

        /// Calls the machine. The writing thread then looks whether there is something to send.
        pub(crate) fn call<T>(&self, call: impl FnOnce(&mut M, Instant) -> T) -> T {
            let result = call(&mut self.lock(), Instant::now());
            self.changed.notify_all();
            result
        }

        /// Waits until `ready` finds something in the machine, `Disconnected` in the end.
        pub(crate) fn wait<T>(&self, mut ready: impl FnMut(&mut M) -> Option<T>) -> T {
            let mut machine = self.lock();
            loop {
                if let Some(found) = ready(&mut machine) {
                    self.changed.notify_all();
                    return found;
                }
                machine = self.changed.wait(machine).unwrap_or_else(PoisonError::into_inner);
            }
        }

        fn lock(&self) -> MutexGuard<'_, M> {
            self.machine.lock().unwrap_or_else(PoisonError::into_inner)
        }

        fn read(&self) {
            let (mut socket, pool) = (BufReader::new(&self.socket), BufferPool::new(4));
            let closed = ConnectionError::ClosedByPeer { code: None, reason: String::new() };
            let reason = loop {
                match receive(&mut socket, &pool) {
                    Ok(Some(message)) => self.call(|it, now| it.handle_message(now, message)),
                    Ok(None) => break closed,
                    Err(error) => break error.into(),
                }
            };
            self.call(|machine, now| machine.handle_disconnect(now, reason));
        }

        fn write(&self) {
            // Who takes nothing for so long is as good as gone, and must not hold this thread.
            drop(self.socket.set_write_timeout(Some(Duration::from_secs(5))));
            let mut socket = BufWriter::new(&self.socket);
            let mut machine = self.lock();
            while machine.error().is_none() {
                let now = Instant::now();
                machine.handle_timeout(now);
                // Asked for when the socket is free, and no earlier: that keeps it fresh.
                if let Some(frame) = machine.poll_transmit(now) {
                    drop(machine);
                    let sent = send(&mut socket, &frame);
                    machine = self.lock();
                    // A peer that has hung up is found by the reading thread, behind its last words.
                    if let Some(error) = sent.err().filter(|it| it.kind() != ErrorKind::BrokenPipe)
                    {
                        machine.handle_disconnect(now, error.into());
                    }
                } else if machine.error().is_none() {
                    let next = machine.poll_timeout().unwrap_or(now + Duration::from_secs(3600));
                    let wait = next.saturating_duration_since(now);
                    let waited = self.changed.wait_timeout(machine, wait);
                    machine = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
                self.changed.notify_all(); // there may be an event
            }
            drop(self.socket.shutdown(Shutdown::Both)); // and the reading thread ends
        }
    }

    /// One message; `None` when the peer has hung up behind the last one.
    fn receive(socket: &mut impl BufRead, pool: &BufferPool) -> io::Result<Option<Bytes>> {
        if socket.fill_buf()?.is_empty() {
            return Ok(None);
        }
        let mut prefix = [0; 4];
        socket.read_exact(&mut prefix)?;
        let (len, limit) = (u32::from_le_bytes(prefix) as usize, Limits::default().frame_len);
        if len > limit {
            return Err(io::Error::other(format!("a message of {len} bytes, over {limit}")));
        }
        let mut buffer = pool.take(len); // memory of an earlier message, if that is let go
        socket.read_exact(&mut buffer[..len])?;
        Ok(Some(buffer.freeze(0..len)))
    }

    /// Images go from where the sensors put them into the socket; only what is small is buffered.
    fn send(socket: &mut impl Write, frame: &Frame) -> io::Result<()> {
        let len = u32::try_from(frame.len()).map_err(io::Error::other)?;
        socket.write_all(&len.to_le_bytes())?;
        frame.chunks().try_for_each(|chunk| socket.write_all(chunk))?;
        socket.flush()
    }

    pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

    /// The robot, until its policy goes: an axis that is where the last action says.
    pub(crate) fn robot(socket: UnixStream) -> Result<f32> {
        let camera = CameraConfig::new("wrist_cam", [480, 640, 3]).depth([480, 640]);
        let sensors = Sensors::new([camera], [ProprioConfig::new("position", 1)])?;
        let mut position = 0.0;
        Link::run(socket, Server::new(Instant::now(), server::Config::default()), |link| {
            loop {
                match link.wait(|server| server.poll_event(Instant::now())) {
                    server::Event::Action(action) => {
                        [position] = action.to_array()?;
                        sensors.update_proprio("position", &[position])?;
                    }
                    // It fails only when the policy has gone, as the next event tells.
                    server::Event::Observe(reply) => {
                        drop(link.call(|server, _| server.reply_observation(reply, &sensors)));
                    }
                    // A newer one came first, and is told instead.
                    server::Event::ActionsDropped { .. } => {}
                    server::Event::Disconnected(_) => return Ok(position),
                    other => link.call(|server, _| server.fail(format!("no use for {other:?}"))),
                }
            }
        })
    }

    /// The policy: moves the axis to 1 m, a centimetre an observation, and takes its leave.
    pub(crate) fn policy(socket: UnixStream) -> Result<()> {
        Link::run(socket, Client::new(client::Config::default()), |link| {
            let stream_at = Rate::hz(200.0)?;
            link.call(|client, now| client.start_obs_stream(now, stream_at))?;
            loop {
                let client::Event::Streamed(seen) = link.wait(Client::poll_event) else {
                    return Err("the robot has hung up".into());
                };
                let position = seen.proprio("position")?.values.to_f32()[0];
                if position >= 1.0 {
                    // The robot is there: nothing that it is still to be told is lost.
                    return Ok(());
                }
                let next = (position + 0.01).min(1.0);
                link.call(|client, now| client.send_action(now, [next].into()))?;
            }
        })
    }

    /// Both, over a pair of sockets. Returns where the axis is in the end.
    pub(crate) fn both() -> Result<f32> {
        let (ours, theirs) = UnixStream::pair()?;
        thread::scope(|scope| {
            let robot = scope.spawn(|| robot(theirs));
            policy(ours)?;
            robot.join().expect("the robot does not panic")
        })
    }
}

fn main() {
    #[cfg(unix)]
    println!("the axis is at {} m", unix::both().expect("robot and policy do their work"));
    #[cfg(not(unix))]
    println!("this system has no Unix domain sockets: see the example `mio`, over TCP");
}
