use bytes::Bytes;
use std::fmt;

use data_encoding::BASE64;
use httparse::{Header, Status};
use tungstenite::handshake::derive_accept_key;

use super::http::{self, MAX_HEAD, MAX_HEADERS, VERSION};
use crate::ws::redacted;

/// Bytes of a refusal's body that are read, and characters of it that are repeated.
const MAX_BODY: usize = 4 << 10;
const MAX_BODY_SHOWN: usize = 300;
/// Characters of a peer's odd answer that are repeated.
const MAX_SHOWN: usize = 100;

/// The client's side of the opening handshake: request bytes out, response bytes in.
///
/// ```
/// use std::io::{self, Read, Write};
/// use bytes::Bytes;
/// use chiral_proto::ws::{ClientHandshake, WsUri};
///
/// /// Gives the first bytes of the session.
/// fn open(socket: &mut (impl Read + Write), uri: &WsUri, nonce: [u8; 16]) -> io::Result<Bytes> {
///     let mut handshake = ClientHandshake::new(uri.authority(), uri.target(), &[], nonce)
///         .map_err(io::Error::other)?;
///     socket.write_all(handshake.request())?;
///     let mut buffer = [0; 4096];
///     loop {
///         let count = socket.read(&mut buffer)?;
///         if count == 0 {
///             return Err(io::Error::other(handshake.end_of_stream()));
///         }
///         if let Some(surplus) = handshake.receive(&buffer[..count]).map_err(io::Error::other)? {
///             return Ok(surplus);
///         }
///     }
/// }
/// ```
pub struct ClientHandshake {
    request: Vec<u8>,
    accept_key: String,
    subprotocols: Vec<String>,
    received: Vec<u8>,
    /// Bytes of the interim responses (1xx) that came before: they count as one head, so that a
    /// server cannot send them without end.
    interim: usize,
    refusal: Option<Refusal>,
}

impl fmt::Debug for ClientHandshake {
    /// Shows nothing of the request: there may be a secret in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientHandshake").finish_non_exhaustive()
    }
}

/// A response that is a refusal, while its body arrives.
#[derive(Debug)]
struct Refusal {
    status: u16,
    reason: String,
    location: Option<String>,
    body: Body,
}

/// How a body's end is known.
#[derive(Debug, Clone, Copy)]
enum Body {
    Length(usize),
    Chunks,
    EndOfStream,
}

impl ClientHandshake {
    /// Prepares a request for `target` (path and query, as in `/`) of `host` (with its port, as
    /// in `localhost:8765`), with header fields of the caller's own. `nonce` are random bytes
    /// from the operating system.
    ///
    /// # Errors
    /// [`HandshakeError::InvalidRequest`] when an argument has characters that do not fit into a
    /// request, or a field is one that the handshake writes itself.
    pub fn new(
        host: &str,
        target: &str,
        headers: &[(&str, &str)],
        nonce: [u8; 16],
    ) -> Result<Self, HandshakeError> {
        check_request(host, target, headers)?;
        let key = BASE64.encode(&nonce);
        let mut request = format!(
            "GET {target} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: {VERSION}\r\n"
        );
        http::put_fields(&mut request, headers);
        request += "\r\n";
        let subprotocols = headers
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case("Sec-WebSocket-Protocol"))
            .flat_map(|(_, value)| value.split(','))
            .map(|subprotocol| subprotocol.trim().to_owned())
            .collect();
        Ok(Self {
            request: request.into_bytes(),
            accept_key: derive_accept_key(key.as_bytes()),
            subprotocols,
            received: Vec::new(),
            interim: 0,
            refusal: None,
        })
    }

    /// The bytes to send.
    pub fn request(&self) -> &[u8] {
        &self.request
    }

    /// Takes in bytes of the stream. `Ok(None)` when more are needed; otherwise the handshake is
    /// complete, and what it gives are the first bytes of the session, which came with it.
    ///
    /// # Errors
    /// When the server refuses, or is none: close the connection.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<Option<Bytes>, HandshakeError> {
        self.received.extend_from_slice(bytes);
        while self.refusal.is_none() {
            match self.read_head()? {
                Found::Nothing => return Ok(None),
                Found::Interim { size } => self.interim += size,
                Found::Accepted => return Ok(Some(std::mem::take(&mut self.received).into())),
                Found::Refused(refusal) => self.refusal = Some(refusal),
            }
        }
        match self.refusal.take_if(|refusal| refusal.body.is_complete(&self.received)) {
            Some(refusal) => Err(refusal.error(&self.received)),
            None => Ok(None),
        }
    }

    /// What it means that the stream ended, or that the caller waits no longer, before the
    /// handshake was complete.
    pub fn end_of_stream(&mut self) -> HandshakeError {
        match self.refusal.take() {
            Some(refusal) => refusal.error(&self.received),
            None => HandshakeError::Closed { received: self.received.len() },
        }
    }

    /// Reads a response's head and takes it off what was received.
    fn read_head(&mut self) -> Result<Found, HandshakeError> {
        let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut head = httparse::Response::new(&mut fields);
        let mut parser = httparse::ParserConfig::default();
        parser.ignore_invalid_headers_in_responses(true);
        let parsed = parser.parse_response(&mut head, &self.received).map_err(|error| {
            let start = http::shown(&self.received, MAX_SHOWN);
            HandshakeError::NotWebSocket { found: format!("`{start}` ({error})") }
        })?;
        let size = match parsed {
            Status::Complete(size) => size,
            Status::Partial => self.received.len(),
        };
        if self.interim + size > MAX_HEAD {
            return Err(HandshakeError::HeadTooLong { limit: MAX_HEAD });
        }
        if parsed.is_partial() {
            return Ok(Found::Nothing);
        }
        let found = self.judge(&head, size)?;
        self.received.drain(..size);
        Ok(found)
    }

    fn judge(
        &self,
        head: &httparse::Response<'_, '_>,
        size: usize,
    ) -> Result<Found, HandshakeError> {
        let status = head.code.unwrap_or_default();
        let fields = &*head.headers;
        let reason = match head.reason.unwrap_or_default() {
            "" => http::standard_reason(status).to_owned(),
            reason => http::shown(reason.as_bytes(), MAX_SHOWN),
        };
        match status {
            101 => self.verify(fields).map(|()| Found::Accepted),
            100..=199 => Ok(Found::Interim { size }),
            200..=299 => Err(HandshakeError::NotWebSocket {
                found: format!("a web server's answer, {status} {reason}"),
            }),
            _ => {
                let location = http::values(fields, "Location").next();
                let location = location.map(|text| http::shown(text.as_bytes(), MAX_SHOWN));
                let body = Body::of(fields);
                Ok(Found::Refused(Refusal { status, reason, location, body }))
            }
        }
    }

    fn verify(&self, fields: &[Header<'_>]) -> Result<(), HandshakeError> {
        let shown = |text: &str| http::shown(text.as_bytes(), MAX_SHOWN);
        let accept_key = http::value(fields, "Sec-WebSocket-Accept");
        // The right key shows that the server has understood; RFC 6455, section 4.1, asks for two
        // fields more, which some servers and proxies leave out.
        if accept_key != self.accept_key {
            for (name, token) in [("Upgrade", "websocket"), ("Connection", "upgrade")] {
                if !http::has_token(fields, name, token) {
                    let found = format!("a 101 response without `{name}: {token}`");
                    return Err(HandshakeError::NotWebSocket { found });
                }
            }
            let (found, expected) = (shown(accept_key), self.accept_key.clone());
            return Err(HandshakeError::WrongAcceptKey { found, expected });
        }
        if let Some(extension) = http::values(fields, "Sec-WebSocket-Extensions").next() {
            return Err(HandshakeError::UnexpectedExtension(shown(extension)));
        }
        match http::values(fields, "Sec-WebSocket-Protocol").next() {
            Some(subprotocol) if !self.subprotocols.iter().any(|asked| asked == subprotocol) => {
                Err(HandshakeError::UnexpectedSubprotocol(shown(subprotocol)))
            }
            _ => Ok(()),
        }
    }
}

/// What the received bytes begin with.
enum Found {
    Nothing,
    /// A response before the final one, and the bytes of its head.
    Interim {
        size: usize,
    },
    Accepted,
    Refused(Refusal),
}

fn check_request(host: &str, target: &str, headers: &[(&str, &str)]) -> Result<(), HandshakeError> {
    const OWN: [&str; 8] = [
        "Host",
        "Upgrade",
        "Connection",
        "Sec-WebSocket-Key",
        "Sec-WebSocket-Version",
        "Sec-WebSocket-Extensions",
        "Content-Length",
        "Transfer-Encoding",
    ];
    let invalid = |problem| Err(HandshakeError::InvalidRequest(problem));
    let is_word = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_word(host) {
        return invalid(format!("found the host {host:?}, expected ASCII without spaces"));
    }
    if !is_word(target) || !target.starts_with('/') {
        return invalid(format!("found the target {target:?}, expected a path, ASCII only"));
    }
    for (name, value) in headers {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_!#$%&'*+.^`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_name) {
            return invalid(format!("found {name:?}, expected a header field's name"));
        }
        if OWN.iter().any(|own| own.eq_ignore_ascii_case(name)) {
            return invalid(format!("the field `{name}` is written by the handshake itself"));
        }
        if value.bytes().any(|byte| byte.is_ascii_control()) {
            return invalid(format!("found control characters in the field `{name}`"));
        }
    }
    Ok(())
}

impl Body {
    fn of(fields: &[Header<'_>]) -> Self {
        if http::has_token(fields, "Transfer-Encoding", "chunked") {
            return Self::Chunks;
        }
        http::value(fields, "Content-Length").parse().map_or(Self::EndOfStream, Self::Length)
    }

    fn is_complete(self, received: &[u8]) -> bool {
        received.len() >= MAX_BODY
            || match self {
                Self::Length(length) => received.len() >= length,
                Self::Chunks => chunks(received).1,
                Self::EndOfStream => false,
            }
    }

    fn text(self, received: &[u8]) -> String {
        match self {
            Self::Length(length) => {
                http::shown(&received[..length.min(received.len())], MAX_BODY_SHOWN)
            }
            Self::Chunks => http::shown(&chunks(received).0, MAX_BODY_SHOWN),
            Self::EndOfStream => http::shown(received, MAX_BODY_SHOWN),
        }
    }
}

/// The contents of a body in chunks as far as it is there, and whether it ends there.
fn chunks(mut body: &[u8]) -> (Vec<u8>, bool) {
    let mut contents = Vec::new();
    loop {
        let (start, len) = match httparse::parse_chunk_size(body) {
            Ok(Status::Complete((start, len))) => (start, len),
            Ok(Status::Partial) => return (contents, false),
            Err(_) => return (contents, true), // nothing more can be made of it
        };
        if len == 0 {
            return (contents, true);
        }
        body = &body[start..];
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        contents.extend_from_slice(&body[..len.min(body.len())]);
        body = body.get(len.saturating_add(2)..).unwrap_or_default();
    }
}

impl Refusal {
    fn error(self, received: &[u8]) -> HandshakeError {
        let Self { status, reason, location, body } = self;
        HandshakeError::Refused { status, reason, location, body: body.text(received) }
    }
}

/// Why an opening handshake failed on the client's side.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The request could not be written as wished.
    #[error("no valid request: {0}")]
    InvalidRequest(String),
    /// The server answered with another status than 101.
    #[error("refused with {status} {reason}{}{body}{}",
        if body.is_empty() { "" } else { ": " }, redirection(location.as_deref()))]
    Refused {
        /// The status, as in 503.
        status: u16,
        /// The reason phrase, as in "Service Unavailable".
        reason: String,
        /// Where a redirection points. It is not followed.
        location: Option<String>,
        /// The body, as in "robot already has a policy": at most 300 characters on one line, with
        /// control characters escaped.
        body: String,
    },
    /// What answers does not speak WebSocket.
    #[error(
        "no WebSocket server: found {found}, expected an HTTP 101 response; check host, port and path"
    )]
    NotWebSocket {
        /// The answer, or its start.
        found: String,
    },
    /// The server did not answer this request.
    #[error(
        "wrong `Sec-WebSocket-Accept`: found `{found}`, expected `{expected}`; a proxy may have cached the response"
    )]
    WrongAcceptKey {
        /// The key that came.
        found: String,
        /// The key that answers this request.
        expected: String,
    },
    /// The server uses an extension that was not asked for; none ever is.
    #[error("found the extension `{0}` in use, expected none")]
    UnexpectedExtension(String),
    /// The server chose a subprotocol that was not asked for.
    #[error("found the subprotocol `{0}` chosen, expected one of those asked for, or none")]
    UnexpectedSubprotocol(String),
    /// The response's head is too long, interim responses counted in.
    #[error("found over {limit} bytes of response head, expected less")]
    HeadTooLong {
        /// Bytes allowed.
        limit: usize,
    },
    /// The stream ended before the response's head was complete.
    #[error("the server closed the connection after {received} bytes of the opening handshake")]
    Closed {
        /// Bytes that had arrived.
        received: usize,
    },
}

fn redirection(location: Option<&str>) -> String {
    location
        .map_or_else(String::new, |location| format!("; connect to {} instead", redacted(location)))
}

impl HandshakeError {
    /// Whether trying again later makes sense: the server is starting or busy (502, 503, 504 or
    /// 429, from itself or a proxy before it), its robot has another policy (503), or it closed
    /// the connection without a word.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Refused { status: 429 | 502 | 503 | 504, .. } | Self::Closed { received: 0 }
        )
    }
}
