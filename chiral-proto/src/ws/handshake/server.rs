use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use httparse::Status;
use tungstenite::handshake::derive_accept_key;

use super::http::{self, MAX_HEAD, MAX_HEADERS, VERSION};

/// The server's side of the opening handshake: request bytes in, a [`Request`] out, which the
/// caller accepts or refuses.
///
/// ```
/// use std::io::{self, Read, Write};
/// use chiral_proto::ws::{Accepted, ServerHandshake};
///
/// /// Gives `None` when no session came about.
/// fn accept(socket: &mut (impl Read + Write), is_taken: bool) -> io::Result<Option<Accepted>> {
///     let mut handshake = ServerHandshake::default();
///     let mut buffer = [0; 4096];
///     loop {
///         let count = socket.read(&mut buffer)?;
///         match handshake.receive(&buffer[..count]) {
///             Ok(None) if count == 0 => return Ok(None),
///             Ok(None) => {}
///             Ok(Some(request)) if is_taken => {
///                 socket.write_all(&request.refuse(503, "robot already has a policy"))?;
///                 return Ok(None);
///             }
///             Ok(Some(request)) => {
///                 let accepted = request.accept();
///                 socket.write_all(&accepted.response)?;
///                 return Ok(Some(accepted));
///             }
///             Err(bad) => {
///                 socket.write_all(&bad.response())?;
///                 return Ok(None);
///             }
///         }
///     }
/// }
/// # let mut client = io::Cursor::new(b"GET / HTTP/1.0\r\n\r\n".to_vec());
/// # assert!(accept(&mut client, false)?.is_none());
/// # let request = client.into_inner().split_off(18);
/// # assert!(request.starts_with(b"HTTP/1.1 400 Bad Request\r\n"));
/// # Ok::<(), io::Error>(())
/// ```
#[derive(Default)]
pub struct ServerHandshake {
    received: Vec<u8>,
}

impl fmt::Debug for ServerHandshake {
    /// Shows nothing of what was received: there may be a secret in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerHandshake").finish_non_exhaustive()
    }
}

/// The first byte of a client that speaks TLS; no request begins with it.
const TLS_HANDSHAKE: u8 = 0x16;

impl ServerHandshake {
    /// Takes in bytes of the stream. `Ok(None)` when more are needed; a request is given once.
    ///
    /// # Errors
    /// When the bytes are no proper request for a WebSocket. Send [`BadRequest::response`] and
    /// close the connection.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<Option<Request>, BadRequest> {
        self.received.extend_from_slice(bytes);
        if self.received.first() == Some(&TLS_HANDSHAKE) {
            let problem =
                "found a TLS handshake, expected a request without TLS: connect with ws://";
            return Err(BadRequest::new(400, problem.to_owned()));
        }
        let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut head = httparse::Request::new(&mut fields);
        let mut parser = httparse::ParserConfig::default();
        parser.ignore_invalid_headers_in_requests(true);
        let parsed = parser.parse_request(&mut head, &self.received).map_err(|error| {
            let status = if error == httparse::Error::TooManyHeaders { 431 } else { 400 };
            BadRequest::new(status, format!("found no HTTP/1.1 request: {error}"))
        })?;
        let size = match parsed {
            Status::Complete(size) => size,
            Status::Partial => self.received.len(),
        };
        if size > MAX_HEAD {
            let problem = format!("found a request head over {MAX_HEAD} bytes");
            return Err(BadRequest::new(431, problem));
        }
        if parsed.is_partial() {
            return Ok(None);
        }
        check(&head)?;
        let request = Request {
            path: origin_form(head.path.unwrap_or_default()).into_owned(),
            headers: head
                .headers
                .iter()
                .map(|field| (field.name.to_owned(), field.value.to_vec()))
                .collect(),
            surplus: Bytes::copy_from_slice(&self.received[size..]),
        };
        self.received.clear();
        Ok(Some(request))
    }
}

/// Path and query of a target that may be a whole URI, as a request through a proxy has it
/// (RFC 9112, section 3.2.2).
fn origin_form(target: &str) -> Cow<'_, str> {
    // A path may have a URI in its query.
    let absolute = target.split_once("://").filter(|_| !target.starts_with('/'));
    let Some((_, rest)) = absolute else { return target.into() };
    match rest.find(['/', '?']).map(|start| &rest[start..]) {
        None => "/".into(),
        Some(query) if query.starts_with('?') => format!("/{query}").into(),
        Some(path) => path.into(),
    }
}

/// Refuses what no session can come of. What RFC 6455, section 4.2.1, asks for beyond that is let
/// through: the key is only sent back in another form, so whatever stands there serves; a `Host`
/// that is missing means nobody in particular.
fn check(head: &httparse::Request<'_, '_>) -> Result<(), BadRequest> {
    let fields = &*head.headers;
    let bad = |status, problem: &str| Err(BadRequest::new(status, problem.to_owned()));
    let method = head.method.unwrap_or_default();
    if method != "GET" {
        return bad(405, &format!("found the method {}, expected GET", shown(method)));
    }
    if head.version != Some(1) {
        return bad(400, "found HTTP/1.0, expected HTTP/1.1");
    }
    if http::values(fields, "Host").count() > 1 {
        return bad(400, "found more than one `Host` field, expected one");
    }
    if !matches!(http::value(fields, "Content-Length"), "" | "0")
        || http::values(fields, "Transfer-Encoding").next().is_some()
    {
        return bad(400, "found a body, expected none in a request for a WebSocket");
    }
    if !http::has_token(fields, "Upgrade", "websocket") {
        return bad(426, "this is a WebSocket server: connect to it with ws://");
    }
    if !http::has_token(fields, "Connection", "upgrade") {
        return bad(426, "found `Upgrade: websocket` without `Connection: Upgrade`");
    }
    if !http::has_token(fields, "Sec-WebSocket-Version", VERSION) {
        let version = shown(http::value(fields, "Sec-WebSocket-Version"));
        return bad(426, &format!("found WebSocket version `{version}`, expected {VERSION}"));
    }
    if http::value(fields, "Sec-WebSocket-Key").is_empty() {
        return bad(400, "found no `Sec-WebSocket-Key`, expected 16 bytes in base64");
    }
    if let Some(offered) = http::values(fields, "Sec-WebSocket-Protocol").next() {
        return bad(400, &foreign_subprotocol(offered));
    }
    Ok(())
}

/// Why a client that offers subprotocols is refused: chiral has none, so it is after another
/// server, and a robot's place is not to be taken by mistake.
fn foreign_subprotocol(offered: &str) -> String {
    let looks_like = match offered.trim() {
        offered if offered.contains("foxglove") => ": this looks like a Foxglove client",
        offered if offered.contains("rosbridge") => ": this looks like a rosbridge client",
        _ => "",
    };
    format!(
        "found the subprotocol `{}` asked for{looks_like}, expected none: this is the chiral server of a robot",
        shown(offered)
    )
}

fn shown(text: &str) -> String {
    http::shown(text.as_bytes(), 100)
}

/// A proper request for a WebSocket, to be accepted or refused.
#[derive(Clone, PartialEq, Eq)]
#[must_use = "the client waits for an answer: accept or refuse the request"]
pub struct Request {
    path: String,
    headers: Vec<(String, Vec<u8>)>,
    surplus: Bytes,
}

impl fmt::Debug for Request {
    /// Shows the names of the header fields only: their values, and what the path asks for, may be
    /// secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("Request").field("headers", &names).finish_non_exhaustive()
    }
}

impl Request {
    /// The method: `GET`, no other is let through.
    pub fn method(&self) -> &'static str {
        "GET"
    }

    /// Path and query, as in `/left?arm=1`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The `Host` field: whom the client means to speak to; empty when there is none.
    pub fn host(&self) -> &str {
        self.header("Host").unwrap_or_default()
    }

    /// The first header field of that name, in any case of letters; `None` when there is none, or
    /// when it is not UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers().find(|(found, _)| found.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(value).ok()
    }

    /// All header fields, in their order.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.headers.iter().map(|(name, value)| (&name[..], &value[..]))
    }

    /// The response with which the session begins, without subprotocol and extensions.
    pub fn accept(self) -> Accepted {
        let key = self.header("Sec-WebSocket-Key").unwrap_or_default().trim();
        let response = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n\r\n",
            derive_accept_key(key.as_bytes())
        );
        Accepted { response: response.into(), surplus: self.surplus }
    }

    /// The response that refuses the client, for example with 503 and "robot already has a
    /// policy": the reason is its body. Close the connection behind it. With 401 it says that a
    /// bearer token is what would be accepted.
    ///
    /// # Panics
    /// When `status` is not one of an error: 400 to 599.
    pub fn refuse(self, status: u16, reason: &str) -> Bytes {
        assert!((400..600).contains(&status), "a refusal has a status of 400 to 599, not {status}");
        // RFC 9110, section 11.6.1: there is to be a challenge.
        let challenge = [("WWW-Authenticate", "Bearer")];
        http::refusal(status, reason, if status == 401 { &challenge } else { &[] }).into()
    }
}

/// The server's part of a handshake that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The bytes to send.
    pub response: Bytes,
    /// What had arrived behind the request: the first bytes of the session.
    pub surplus: Bytes,
}

/// A request that is none for a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no proper WebSocket request, answered with {status}: {problem}")]
pub struct BadRequest {
    status: u16,
    problem: String,
}

impl BadRequest {
    fn new(status: u16, problem: String) -> Self {
        Self { status, problem }
    }

    /// The HTTP status of the response.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The bytes to send; close the connection behind them.
    pub fn response(&self) -> Bytes {
        let fields: &[_] = match self.status {
            405 => &[("Allow", "GET")],
            426 => &[("Upgrade", "websocket"), ("Sec-WebSocket-Version", VERSION)],
            _ => &[],
        };
        http::refusal(self.status, &self.problem, fields).into()
    }
}
