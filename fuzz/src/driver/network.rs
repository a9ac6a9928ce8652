//! What a client finds when it connects: the addresses of the robot, and what each of them does.

use std::cell::RefCell;
use std::future::pending;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use arbitrary::Arbitrary;

use super::runtime::sleep;
use super::stream::{Remote, Stream, stream};
use crate::machines::Time;

/// How many addresses a host has at the most.
const ADDRESSES: u8 = 3;

thread_local! {
    static NETWORK: RefCell<Network> = RefCell::default();
}

#[derive(Default)]
struct Network {
    conditions: Conditions,
    /// The robot's ends of all streams that were connected, in their order.
    remotes: Vec<Remote>,
}

/// What look-ups and connections come to that begin now.
#[derive(Debug, Clone, Default, Arbitrary)]
pub struct Conditions {
    pub look_up: LookUp,
    pub dials: [Dial; ADDRESSES as usize],
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum LookUp {
    /// So many addresses, up to [`ADDRESSES`].
    Found(u8),
    Unknown,
    TemporaryFailure,
    NoAnswer,
}

impl Default for LookUp {
    fn default() -> Self {
        Self::Found(1)
    }
}

/// What connecting to one address comes to.
#[derive(Debug, Clone, Copy, Default, Arbitrary)]
pub enum Dial {
    #[default]
    Connected,
    ConnectedAfter(Time),
    RefusedAfter(Time),
    Refused,
    Unreachable,
    /// There is no socket to be had: the process has too many.
    OutOfSockets,
    NoAnswer,
}

impl Dial {
    pub const DOWN: [Self; 3] = [Self::Refused, Self::Unreachable, Self::NoAnswer];
}

/// Starts over: one address, which takes connections, and none so far.
pub fn start() {
    NETWORK.set(Network::default());
}

pub fn set(conditions: Conditions) {
    NETWORK.with_borrow_mut(|network| network.conditions = conditions);
}

/// The robot's ends of all streams behind the first `known`.
pub fn connections(known: usize) -> Vec<Remote> {
    NETWORK.with_borrow(|network| network.remotes[known..].to_vec())
}

/// Which streams the client holds on to.
pub fn held_connections() -> Vec<usize> {
    NETWORK.with_borrow(|network| {
        let remotes = network.remotes.iter().enumerate();
        remotes.filter(|(_, remote)| !remote.is_dropped()).map(|(index, _)| index).collect()
    })
}

pub(super) async fn look_up(port: u16) -> io::Result<Vec<SocketAddr>> {
    let look_up = NETWORK.with_borrow(|network| network.conditions.look_up);
    let address = |last| SocketAddr::from((Ipv4Addr::new(10, 0, 0, last), port));
    match look_up {
        LookUp::Found(count) => Ok((0..count.min(ADDRESSES)).map(address).collect()),
        LookUp::Unknown => Err(io::Error::other("Name or service not known")),
        LookUp::TemporaryFailure => Err(io::Error::other("Temporary failure in name resolution")),
        LookUp::NoAnswer => pending().await,
    }
}

pub(super) async fn connect(address: SocketAddr) -> io::Result<Stream> {
    let SocketAddr::V4(address) = address else { panic!("an address that nobody has") };
    let index = usize::from(address.ip().octets()[3]);
    let dial = NETWORK.with_borrow(|network| network.conditions.dials[index]);
    match dial {
        Dial::Connected => {}
        Dial::ConnectedAfter(time) => sleep(Duration::from(time)).await,
        Dial::RefusedAfter(time) => {
            sleep(Duration::from(time)).await;
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        Dial::Refused => return Err(io::ErrorKind::ConnectionRefused.into()),
        Dial::Unreachable => return Err(io::ErrorKind::HostUnreachable.into()),
        Dial::OutOfSockets => return Err(io::Error::from_raw_os_error(libc::EMFILE)),
        Dial::NoAnswer => return pending().await,
    }
    let (stream, remote) = stream();
    NETWORK.with_borrow_mut(|network| network.remotes.push(remote));
    Ok(stream)
}
