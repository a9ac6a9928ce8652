use std::io::{self, IoSlice, Read as _, Write as _};

use rustls::Connection;

use super::TlsError;
use super::error::Side;

/// The most plaintext that is encrypted at once.
const WRITE_STEP: usize = 128 << 10;
/// The most that is read at once: little until the handshake is over, for a peer may be anybody.
const READ_STEP: usize = 64 << 10;
const HANDSHAKE_READ_STEP: usize = 4 << 10;

/// How a server that expects TLS answers one who speaks HTTP without it.
const PLAIN_RESPONSE: &[u8] = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 61\r\n\r\n\
    this server speaks TLS: connect to it with wss://, not ws://\n";
/// The first byte of a TLS stream: a record of the handshake, or of an alert.
const HANDSHAKE_RECORD: u8 = 0x16;
const ALERT_RECORD: u8 = 0x15;

/// One TLS connection without a socket, handshake included: what the socket gave goes in through a
/// [`Received`], what it is to be given comes out through a [`Pending`].
///
/// Both are the caller's, so that two threads can read and write the socket at once and hold the
/// session only while something is decrypted or encrypted. Plaintext that is written before the
/// handshake is over leaves behind it.
///
/// Its memory is bounded: rustls joins a peer's handshake messages up to 64 KiB, one record of
/// 16 KiB waits to be complete, and nothing more is decrypted or encrypted than the caller takes.
#[derive(Debug)]
pub struct TlsSession {
    connection: Connection,
    side: Side,
    /// Whether the peer's first byte was looked at.
    has_begun: bool,
    failure: Option<TlsError>,
    /// What a peer without TLS is to be told.
    plain_response: Option<&'static [u8]>,
}

impl TlsSession {
    pub(super) fn new(mut connection: Connection, side: Side) -> Self {
        connection.set_buffer_limit(Some(WRITE_STEP));
        Self { connection, side, has_begun: false, failure: None, plain_response: None }
    }

    /// Decrypts what was received, as far as there is room. `Some(0)`: the peer has closed the
    /// connection in an orderly way. `None`: more must be received. Either way there may be
    /// [messages](Self::take_messages) to send.
    ///
    /// # Errors
    /// When the connection has failed, or was cut off. The alert that tells the peer is among the
    /// messages.
    pub fn read(
        &mut self,
        received: &mut Received,
        plaintext: &mut [u8],
    ) -> Result<Option<usize>, TlsError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let read = self.decrypt(received, plaintext);
        self.failure = read.as_ref().err().cloned();
        received.step =
            if self.connection.is_handshaking() { HANDSHAKE_READ_STEP } else { READ_STEP };
        read
    }

    fn decrypt(
        &mut self,
        received: &mut Received,
        plaintext: &mut [u8],
    ) -> Result<Option<usize>, TlsError> {
        let mut filled = 0;
        while filled < plaintext.len() {
            match self.connection.reader().read(&mut plaintext[filled..]) {
                Ok(0) => return Ok(Some(filled)),
                Ok(count) => {
                    filled += count;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) if filled > 0 => break,
                Err(_) if self.connection.is_handshaking() => return Err(TlsError::EndOfHandshake),
                Err(_) => return Err(TlsError::Truncated),
            }
            if received.rest().is_empty() && !received.has_ended {
                break;
            }
            if let (false, Some(first)) = (self.has_begun, received.rest().first()) {
                self.check_first_byte(*first)?;
            }
            let mut rest = received.rest();
            let before = rest.len();
            // At the end of the stream it reads nothing, and so takes note of the end.
            let read = self.connection.read_tls(&mut rest);
            let left = rest.len();
            received.consume(before - left);
            read.map_err(|error| TlsError::Protocol(error.to_string()))?;
            self.connection
                .process_new_packets()
                .map_err(|error| TlsError::of(&error, self.side))?;
        }
        Ok((filled > 0).then_some(filled))
    }

    /// Tells a peer that does not speak TLS from one that makes a mistake in it.
    fn check_first_byte(&mut self, first: u8) -> Result<(), TlsError> {
        self.has_begun = true;
        match (self.side, first) {
            (_, HANDSHAKE_RECORD) | (Side::Client, ALERT_RECORD) => Ok(()),
            (Side::Client, _) => Err(TlsError::PlainServer),
            (Side::Server, _) => {
                self.plain_response = Some(PLAIN_RESPONSE);
                Err(TlsError::PlainClient)
            }
        }
    }

    /// Encrypts some of the plaintext, up to 128 KiB, and returns how much.
    ///
    /// # Errors
    /// When the connection has failed.
    pub fn write(
        &mut self,
        plaintext: &[IoSlice<'_>],
        pending: &mut Pending,
    ) -> Result<usize, TlsError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let count = self
            .connection
            .writer()
            .write_vectored(plaintext)
            .map_err(|error| TlsError::Protocol(error.to_string()))?;
        self.take_messages(pending);
        Ok(count)
    }

    /// Takes what TLS itself has to say: handshake, keys, alerts.
    pub fn take_messages(&mut self, pending: &mut Pending) {
        if let Some(response) = self.plain_response.take() {
            pending.bytes.extend_from_slice(response);
        }
        let is_plain = matches!(self.failure, Some(TlsError::PlainClient | TlsError::PlainServer));
        while !is_plain && self.connection.wants_write() {
            // Memory takes everything.
            if self.connection.write_tls(&mut pending.bytes).is_err() {
                break;
            }
        }
    }

    /// Whether there are [messages](Self::take_messages).
    pub fn has_messages(&self) -> bool {
        self.plain_response.is_some() || self.connection.wants_write()
    }

    /// Ends this side's direction in an orderly way: behind all that was written, the peer is told
    /// that nothing more comes.
    pub fn close(&mut self, pending: &mut Pending) {
        if self.failure.is_none() {
            self.connection.send_close_notify();
            self.take_messages(pending);
        }
    }

    /// Whether it has failed: what is received means nothing any more.
    pub fn has_failed(&self) -> bool {
        self.failure.is_some()
    }
}

/// What was received and is not decrypted yet.
#[derive(Debug)]
pub struct Received {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    step: usize,
    has_ended: bool,
}

impl Default for Received {
    fn default() -> Self {
        Self { bytes: Vec::new(), start: 0, end: 0, step: HANDSHAKE_READ_STEP, has_ended: false }
    }
}

impl Received {
    /// Where the next bytes of the stream go. To be asked for when all was decrypted that was
    /// there.
    pub fn read_buf(&mut self) -> &mut [u8] {
        debug_assert_eq!(self.start, self.end, "something was received and not decrypted");
        (self.start, self.end) = (0, 0);
        if self.bytes.len() < self.step {
            self.bytes.resize(self.step, 0);
        }
        &mut self.bytes
    }

    /// The stream gave so many bytes; 0 when it has ended.
    pub fn bytes_read(&mut self, count: usize) {
        self.end = count;
        self.has_ended = count == 0;
    }

    fn rest(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    fn consume(&mut self, count: usize) {
        self.start += count;
    }
}

/// What is to be sent.
#[derive(Debug, Default)]
pub struct Pending {
    bytes: Vec<u8>,
    written: usize,
}

impl Pending {
    /// The next bytes for the stream; empty when there are none.
    pub fn transmit(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    /// The stream took the first so many of them.
    pub fn bytes_written(&mut self, count: usize) {
        self.written += count;
        if self.written == self.bytes.len() {
            self.bytes.clear();
            self.written = 0;
        }
    }
}
