//! A policy over WebSocket without an adapter: one thread, one `std` socket, and two machines that
//! touch neither. `Session` turns bytes into frames, `Client` frames into events, and back.
//! `cargo run -p chiral-proto --features websocket --example websocket_client`, with any of the
//! example servers in another terminal. For the robot's side see the example `mio`.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "an application"
)]

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chiral_proto::bytes::Bytes;
use chiral_proto::client::{Client, Config, Event, Stats};
use chiral_proto::ws::{self, ClientHandshake, Role, Session, WsUri};
use chiral_proto::{Action, Rate};

/// How long connecting and the handshake may take, each.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the last actions may take to leave.
const LAST_ACTIONS_TIMEOUT: Duration = Duration::from_secs(1);
/// A socket takes no timeout of zero.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

struct Connection {
    socket: TcpStream,
    session: Session,
    client: Client,
}

impl Connection {
    fn open(uri: &WsUri) -> anyhow::Result<Self> {
        let addresses = (uri.host(), uri.port()).to_socket_addrs()?;
        let address = addresses.into_iter().next().context("the host has no address")?;
        let mut socket = TcpStream::connect_timeout(&address, PATIENCE)?;
        socket.set_nodelay(true)?; // an action must not wait for more to fill a packet
        let surplus = shake_hands(&mut socket, uri)?;
        let (config, now) = (Config::default(), Instant::now());
        let settings = ws::Config { limits: config.limits.clone(), ..ws::Config::default() };
        let role = Role::Client { seed: random()? };
        let session = Session::new(now, role, &settings, &surplus);
        Ok(Self { socket, session, client: Client::new(config) })
    }

    /// The next event; everything else happens while it is waited for.
    fn next_event(&mut self) -> anyhow::Result<Event> {
        loop {
            let now = Instant::now();
            let wake_up = self.session.exchange(now, &mut self.client);
            self.write()?;
            if let Some(event) = self.client.poll_event() {
                return Ok(event);
            }
            self.read(wake_up.map(|instant| instant.saturating_duration_since(now)))?;
        }
    }

    /// Writes all that there is to write. A policy sends little, so the socket rarely makes it
    /// wait; a policy that must never wait for the socket reads and writes in turns, as `mio` does.
    fn write(&mut self) -> io::Result<()> {
        loop {
            let mut slices = [IoSlice::new(&[]); 16];
            let count = self.session.writer.transmit(&mut slices);
            if count == 0 {
                return Ok(());
            }
            let written = self.socket.write_vectored(&slices[..count])?;
            self.session.writer.bytes_written(Instant::now(), written);
            self.session.exchange(Instant::now(), &mut self.client); // for the next frame
        }
    }

    /// Reads once, for as long as nothing is due.
    fn read(&mut self, wait: Option<Duration>) -> io::Result<()> {
        self.socket.set_read_timeout(wait.map(|wait| wait.max(SHORTEST_WAIT)))?;
        match self.socket.read(self.session.reader.read_buf()) {
            Ok(count) => self.session.reader.bytes_read(count), // of an end the client tells
            Err(error) if is_wait(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Sends what waits, tells the robot that the policy goes, and waits for its answer.
    fn close(mut self) -> io::Result<Stats> {
        let now = Instant::now();
        self.client.shut_down(now, now + LAST_ACTIONS_TIMEOUT);
        while !self.session.writer.is_finished() {
            let now = Instant::now();
            let wake_up = self.session.exchange(now, &mut self.client);
            self.write()?;
            self.read(wake_up.map(|instant| instant.saturating_duration_since(now)))?;
        }
        Ok(self.client.stats(Instant::now()))
    }
}

fn is_wait(error: &io::Error) -> bool {
    // What a timeout is called depends on the system.
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

/// Opens the WebSocket. What the server sent behind its response is the session's.
fn shake_hands(socket: &mut TcpStream, uri: &WsUri) -> anyhow::Result<Bytes> {
    let mut handshake = ClientHandshake::new(uri.authority(), uri.target(), &[], random()?)?;
    socket.write_all(handshake.request())?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut buffer = [0; 4096];
    loop {
        let count = socket.read(&mut buffer).context("waiting for the handshake's answer")?;
        if count == 0 {
            return Err(handshake.end_of_stream().into());
        }
        if let Some(surplus) = handshake.receive(&buffer[..count])? {
            return Ok(surplus);
        }
    }
}

fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).context("the operating system gave no random bytes")?;
    Ok(bytes)
}

/// Looks a second long, and answers each observation with an action.
pub(crate) fn run(uri: &str) -> anyhow::Result<Stats> {
    let mut connection = Connection::open(&uri.parse()?).with_context(|| uri.to_owned())?;
    let now = Instant::now();
    connection.client.request_metadata(now, None)?;
    connection.client.start_obs_stream(now, Rate::hz(30)?)?;
    let mut seen = 0;
    while seen < 30 {
        match connection.next_event()? {
            Event::Metadata { metadata, .. } => println!("metadata: {metadata:?}"),
            Event::Streamed(observation) => {
                seen += 1;
                let first =
                    observation.cameras.first().and_then(|camera| camera.image.bytes().first());
                let target = first.map_or(0.0, |&pixel| f32::from(pixel) / 255.0);
                connection.client.send_action(Instant::now(), Action::from([target; 7]))?;
            }
            Event::Failed { error, .. } => println!("{error}"),
            Event::Disconnected(error) => return Err(error.into()),
            other => println!("{other:?}"),
        }
    }
    Ok(connection.close()?)
}

fn main() -> anyhow::Result<()> {
    let uri = std::env::args().nth(1).unwrap_or("ws://localhost:8765".to_owned());
    println!("{}", run(&uri)?);
    Ok(())
}
