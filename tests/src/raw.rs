//! WebSocket written by hand, for peers that break the protocol on purpose. Everything blocks, with
//! a short timeout.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use chiral_proto::ws::ServerHandshake;

use crate::SOON;

/// The opcode of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// A text message.
    Text = 1,
    /// A binary message.
    Binary = 2,
    /// A close frame.
    Close = 8,
    /// A ping.
    Ping = 9,
    /// A pong.
    Pong = 10,
}

/// The opening handshake's request, with the key of RFC 6455's example.
const REQUEST: &str = "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";
/// The key with which the RFC's example is answered.
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
/// A client's mask; its value does not matter.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// One whole message as a WebSocket frame; a client's is masked.
pub fn message(opcode: Opcode, payload: &[u8], is_masked: bool) -> Vec<u8> {
    let mask_bit = if is_masked { 0x80 } else { 0 };
    let mut frame = vec![0x80 | opcode as u8];
    match payload.len() {
        len @ 0..126 => frame.push(mask_bit + len as u8),
        len @ 126..65536 => {
            frame.push(mask_bit + 126);
            frame.extend((len as u16).to_be_bytes());
        }
        len => {
            frame.push(mask_bit + 127);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    if is_masked {
        frame.extend(MASK);
        frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    } else {
        frame.extend(payload);
    }
    frame
}

/// A peer that is just a socket.
pub struct Raw {
    /// The socket.
    pub socket: TcpStream,
    /// Bytes that were read and not parsed yet.
    received: Vec<u8>,
    /// The message of which some fragments have come.
    fragments: Option<(Opcode, Vec<u8>)>,
    is_client: bool,
}

impl Raw {
    /// A connection to a server, before any handshake.
    ///
    /// # Panics
    /// When the server does not listen.
    pub fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect_timeout(&address, SOON).expect("the server listens");
        Self::of_client(socket)
    }

    /// A client's end of a connection, before any handshake.
    pub fn of_client(socket: TcpStream) -> Self {
        Self::new(socket, true)
    }

    fn new(socket: TcpStream, is_client: bool) -> Self {
        socket.set_read_timeout(Some(SOON)).expect("it is a time");
        socket.set_write_timeout(Some(SOON)).expect("it is a time");
        socket.set_nodelay(true).expect("it is connected");
        Self { socket, received: Vec::new(), fragments: None, is_client }
    }

    /// The request of the opening handshake.
    pub fn request() -> &'static [u8] {
        REQUEST.as_bytes()
    }

    /// A connection to a server, after the opening handshake.
    ///
    /// # Panics
    /// When the server refuses it.
    pub fn complete_handshake(address: SocketAddr) -> Self {
        let mut raw = Self::connect(address);
        raw.send(Self::request());
        raw.expect_handshake_response();
        raw
    }

    /// Reads the server's part of a successful opening handshake.
    ///
    /// # Panics
    /// When the server refuses the connection.
    pub fn expect_handshake_response(&mut self) {
        let response = self.head();
        assert!(response.starts_with("HTTP/1.1 101 "), "{response}");
        assert!(response.contains(ACCEPT), "{response}");
    }

    /// Reads an HTTP head.
    ///
    /// # Panics
    /// When the peer disconnects first, or the head is not text.
    pub fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.received.windows(4).position(|end| end == b"\r\n\r\n") {
                let head = self.received.drain(..end + 4).collect();
                return String::from_utf8(head).expect("the head is text");
            }
            assert!(self.receive(), "the peer hung up in the middle of an HTTP head");
        }
    }

    /// Sends bytes as they are. Errors are ignored: the peer may have closed the connection.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.socket.write_all(bytes);
    }

    /// Sends a message.
    pub fn send_message(&mut self, opcode: Opcode, payload: &[u8]) {
        self.send(&message(opcode, payload, self.is_client));
    }

    /// Reads the next frame; `None` when the peer has disconnected.
    ///
    /// # Panics
    /// When none comes soon, or it is fragmented, or masked the wrong way round.
    pub fn frame(&mut self) -> Option<(Opcode, Vec<u8>)> {
        loop {
            while let Some((first, payload)) = self.take_frame() {
                if let Some(message) = self.join(first, payload) {
                    return Some(message);
                }
            }
            if !self.receive() {
                return None;
            }
        }
    }

    /// Reads until the peer's close frame, and returns its code and reason.
    ///
    /// # Panics
    /// When the peer disconnects without a close frame, or does not close soon.
    pub fn closed(&mut self) -> (u16, String) {
        loop {
            match self.frame() {
                Some((Opcode::Close, payload)) => {
                    let code = u16::from_be_bytes([payload[0], payload[1]]);
                    let reason = String::from_utf8(payload[2..].to_vec()).expect("it is text");
                    return (code, reason);
                }
                Some(_) => {}
                None => panic!("the peer hung up without a close frame"),
            }
        }
    }

    /// Reads until the peer disconnects, and returns everything it sent.
    ///
    /// # Panics
    /// When it does not disconnect soon.
    pub fn to_end(&mut self) -> Vec<u8> {
        while self.receive() {}
        std::mem::take(&mut self.received)
    }

    /// Whether the peer has disconnected without sending anything; does not wait.
    ///
    /// # Panics
    /// When the socket cannot be peeked.
    pub fn is_disconnected(&self) -> bool {
        self.socket.set_nonblocking(true).expect("it is open");
        let peeked = self.socket.peek(&mut [0]);
        self.socket.set_nonblocking(false).expect("it is open");
        match peeked {
            Ok(count) => count == 0,
            Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }

    /// A frame's message, if it is its last or only one; `first` is its first byte.
    fn join(&mut self, first: u8, payload: Vec<u8>) -> Option<(Opcode, Vec<u8>)> {
        let opcode = match first {
            0x00 | 0x80 => {
                let (_, message) = self.fragments.as_mut().expect("a message has begun");
                message.extend(payload);
                return if first == 0x80 { self.fragments.take() } else { None };
            }
            0x02 => {
                self.fragments = Some((Opcode::Binary, payload));
                return None;
            }
            0x81 => Opcode::Text,
            0x82 => Opcode::Binary,
            0x88 => Opcode::Close,
            0x89 => Opcode::Ping,
            0x8a => Opcode::Pong,
            odd => panic!("a frame that begins with {odd:#x}"),
        };
        Some((opcode, payload))
    }

    /// The first byte and the payload of the next frame, if it has arrived whole.
    fn take_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let (&[first, second], mut rest) = self.received.split_first_chunk()?;
        let len = match second & 0x7f {
            126 => {
                let (len, behind) = rest.split_first_chunk()?;
                rest = behind;
                u64::from(u16::from_be_bytes(*len))
            }
            127 => {
                let (len, behind) = rest.split_first_chunk()?;
                rest = behind;
                u64::from_be_bytes(*len)
            }
            len => u64::from(len),
        };
        let is_masked = second & 0x80 != 0;
        assert_eq!(is_masked, !self.is_client, "a client masks, a server does not");
        let mut mask = [0; 4];
        if is_masked {
            let (found, behind) = rest.split_first_chunk()?;
            (mask, rest) = (*found, behind);
        }
        let payload = rest.get(..len as usize)?;
        let payload: Vec<u8> =
            payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        let used = self.received.len() - rest.len() + payload.len();
        self.received.drain(..used);
        Some((first, payload))
    }

    /// Reads what has arrived; false when the peer has disconnected.
    fn receive(&mut self) -> bool {
        use std::io::ErrorKind::{TimedOut, WouldBlock};
        let mut chunk = vec![0; 64 << 10];
        match self.socket.read(&mut chunk) {
            Ok(count) => {
                self.received.extend(&chunk[..count]);
                count > 0
            }
            Err(error) if matches!(error.kind(), TimedOut | WouldBlock) => {
                panic!("the peer says nothing for {SOON:?}")
            }
            Err(_) => false,
        }
    }
}

/// A server that is just a listening socket.
pub struct RawServer(TcpListener);

impl RawServer {
    /// Listens on loopback.
    ///
    /// # Panics
    /// When that is impossible.
    #[expect(clippy::new_without_default, reason = "it binds a socket")]
    pub fn new() -> Self {
        Self::at(([127, 0, 0, 1], 0).into())
    }

    /// Listens on an address.
    ///
    /// # Panics
    /// When that is impossible.
    pub fn at(address: SocketAddr) -> Self {
        Self(TcpListener::bind(address).expect("the address is free"))
    }

    /// Where it listens.
    ///
    /// # Panics
    /// When the system cannot say.
    pub fn uri(&self) -> String {
        format!("ws://{}", self.0.local_addr().expect("it is bound"))
    }

    /// The listening socket.
    pub fn listener(&self) -> &TcpListener {
        &self.0
    }

    /// The next connection, before any handshake. Blocks until it comes.
    ///
    /// # Panics
    /// When the system cannot take it.
    pub fn socket(&self) -> Raw {
        let (socket, _) = self.0.accept().expect("a client connects");
        Raw::new(socket, false)
    }

    /// Accepts the next client and completes the opening handshake; `behind` is sent in the same
    /// packet, right after the response. Blocks until a client connects.
    ///
    /// # Panics
    /// When the handshake does not complete soon.
    pub fn accept(&self, behind: &[u8]) -> Raw {
        let mut raw = self.socket();
        let head = raw.head();
        let request = ServerHandshake::default().receive(head.as_bytes());
        let request = request.expect("a proper request").expect("a whole head");
        raw.send(&[&request.accept().response[..], behind].concat());
        raw
    }
}
