//! What both sides need of HTTP.

use httparse::Header;
use tungstenite::http::StatusCode;

use crate::text::printable;

/// Bytes of the longest request or response head that is read.
pub(super) const MAX_HEAD: usize = 16 << 10;
/// Header fields of a head.
pub(super) const MAX_HEADERS: usize = 128;
/// The protocol's version: the only one.
pub(super) const VERSION: &str = "13";

/// The texts of all fields of that name.
pub(super) fn values<'a>(headers: &'a [Header<'_>], name: &str) -> impl Iterator<Item = &'a str> {
    headers
        .iter()
        .filter(move |header| header.name.eq_ignore_ascii_case(name))
        .map(|header| std::str::from_utf8(header.value).unwrap_or_default().trim())
}

/// The text of the first field of that name; empty when there is none.
pub(super) fn value<'a>(headers: &'a [Header<'_>], name: &str) -> &'a str {
    values(headers, name).next().unwrap_or_default()
}

/// Whether a field of that name, a comma-separated list, contains a token.
pub(super) fn has_token(headers: &[Header<'_>], name: &str, token: &str) -> bool {
    values(headers, name)
        .flat_map(|value| value.split(','))
        .any(|found| found.trim().eq_ignore_ascii_case(token))
}

/// A text from a peer, fit to be shown: on one line, escaped, of at most `limit` characters.
pub(super) fn shown(text: &[u8], limit: usize) -> String {
    // A character has four bytes at the most; more than that is not looked at.
    let start = &text[..text.len().min(4 * limit + 1)];
    printable(&String::from_utf8_lossy(start), limit)
}

pub(super) fn standard_reason(status: u16) -> &'static str {
    let status = StatusCode::from_u16(status).ok();
    status.and_then(|status| status.canonical_reason()).unwrap_or("Unknown")
}

/// A response that refuses: it closes the connection and says why in its body.
pub(super) fn refusal(status: u16, reason: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let len = reason.len().to_string();
    let mut head = format!("HTTP/1.1 {status} {}\r\n", standard_reason(status));
    put_fields(&mut head, fields);
    put_fields(
        &mut head,
        &[
            ("Connection", "close"),
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Length", &len),
        ],
    );
    (head + "\r\n" + reason).into_bytes()
}

pub(super) fn put_fields(head: &mut String, fields: &[(&str, &str)]) {
    for (name, value) in fields {
        head.extend([name, ": ", value, "\r\n"]);
    }
}
