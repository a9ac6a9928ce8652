//! What the user says to a request for a WebSocket, before the robot is asked for.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use chiral_proto::printable;
use chiral_proto::ws::Request;

use crate::panic::panic_message;

/// Characters of a web page's origin that are shown.
const LONGEST_ORIGIN: usize = 120;

type Check = dyn Fn(&Request) -> Result<(), Rejection> + Send + Sync;

/// Looks at requests; by default all are accepted but those of web pages.
#[derive(Clone, Default)]
pub struct Accept(Option<Arc<Check>>);

impl Accept {
    /// Has a function look at each request.
    pub fn new(look: impl Fn(&Request) -> Result<(), Rejection> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(look)))
    }

    /// Whether there is a function that looks at requests.
    pub fn is_set(&self) -> bool {
        self.0.is_some()
    }

    /// Looks at a request.
    ///
    /// # Errors
    /// When it is rejected.
    pub fn check(&self, request: &Request) -> Result<(), Rejection> {
        let Some(look) = &self.0 else { return refuse_web_pages(request) };
        catch_unwind(AssertUnwindSafe(|| look(request))).unwrap_or_else(|panic| {
            tracing::error!("`accept` panicked: {}", panic_message(&*panic));
            Err(Rejection::new(500, "the server failed to look at the request"))
        })
    }
}

/// Any page that a browser shows may open a WebSocket to any computer that the browser's reaches,
/// loopback included. The browser says from where the page is.
fn refuse_web_pages(request: &Request) -> Result<(), Rejection> {
    match request.header("Origin") {
        // Some libraries for programs make up an origin of the WebSocket's own scheme.
        Some(origin) if !origin.starts_with("ws://") && !origin.starts_with("wss://") => {
            let reason = format!(
                "the web page at {} may not drive this robot, unless its program accepts it",
                printable(origin, LONGEST_ORIGIN)
            );
            Err(Rejection::new(403, reason))
        }
        _ => Ok(()),
    }
}

impl fmt::Debug for Accept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_set() { "Accept(a function)" } else { "Accept(programs)" })
    }
}

/// Why a request is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{status}: {reason}")]
pub struct Rejection {
    status: u16,
    reason: String,
}

impl Rejection {
    /// With an HTTP status, 400 to 599, such as 401 or 403, and a reason for whoever sits at the
    /// other end. A status outside of that range becomes 403.
    ///
    /// A client of this crate takes it for final, except for 429, 502, 503 and 504: then it tries
    /// again.
    pub fn new(status: u16, reason: impl Into<String>) -> Self {
        let status = if (400..600).contains(&status) { status } else { 403 };
        Self { status, reason: reason.into() }
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The reason.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

#[cfg(test)]
mod tests {
    use chiral_proto::ws::{ClientHandshake, ServerHandshake};

    use super::*;

    fn request(headers: &[(&str, &str)]) -> Request {
        let client = ClientHandshake::new("robot:8765", "/left", headers, [7; 16]).expect("proper");
        let request = ServerHandshake::default().receive(client.request()).expect("proper");
        request.expect("it is whole")
    }

    #[test]
    fn the_function_sees_the_whole_request() {
        let accept = Accept::new(|request| {
            assert_eq!((request.method(), request.path()), ("GET", "/left"));
            assert_eq!((request.host(), request.header("ORIGIN")), ("robot:8765", Some("null")));
            Err(Rejection::new(403, "not from there"))
        });
        let rejection = accept.check(&request(&[("Origin", "null")])).expect_err("it is rejected");
        assert_eq!((rejection.status(), rejection.reason()), (403, "not from there"));
    }

    #[test]
    fn without_a_function_only_web_pages_are_refused() {
        let check = |headers: &[_]| Accept::default().check(&request(headers));
        for page in ["http://localhost:8000", "https://example.com", "null", "file://", ""] {
            let rejection = check(&[("Origin", page)]).expect_err("it is a web page");
            assert_eq!(rejection.status(), 403, "{page}");
        }
        let long = format!("http://{}\u{202e}.com", "x".repeat(10_000));
        let rejection = check(&[("Origin", &long)]).expect_err("it is a web page");
        assert!(rejection.reason().len() < 250 && rejection.reason().contains("xx… may not"));
        check(&[]).expect("a program");
        check(&[("Origin", "ws://robot:8765")]).expect("a program that makes an origin up");
        Accept::new(|_| Ok(())).check(&request(&[("Origin", "null")])).expect("it is accepted");
    }

    #[test]
    fn a_panic_or_a_status_that_is_no_errors_refuses_the_request() {
        let accept = Accept::new(|_| panic!("no such token"));
        assert_eq!(accept.check(&request(&[])).map_err(|rejection| rejection.status()), Err(500));
        assert_eq!(Rejection::new(200, "").status(), 403);
    }
}
