//! A peer's words, made fit for an error's text or a log line.

/// `text` on one line, without control characters, no longer than `limit` characters: what a
/// terminal or a log would act on is escaped, and what is cut off is marked with `…`.
pub fn printable(text: &str, limit: usize) -> String {
    let mut characters = text.trim().chars();
    let mut shown = String::new();
    for character in characters.by_ref().take(limit) {
        match character {
            '"' | '\'' | '\\' => shown.push(character),
            // Of what does not print, `escape_debug` writes the number.
            other => shown.extend(other.escape_debug()),
        }
    }
    if characters.next().is_some() {
        shown.push('…');
    }
    shown
}

/// An error's text as the peer is told it: without the hint at this side's own setting, which the
/// peer does not have.
pub(crate) fn for_peer(text: &str) -> String {
    const HINT: &str = " (`Limits::";
    match text.split_once(HINT).and_then(|(start, hint)| Some((start, hint.split_once("`)")?.1))) {
        Some((start, end)) => format!("{start}{end}"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{for_peer, printable};

    #[test]
    fn a_peer_is_not_told_of_settings_that_it_does_not_have() {
        assert_eq!(for_peer("found 9, expected at most 8 (`Limits::depth`)"), {
            "found 9, expected at most 8"
        });
        for plain in ["", "found 9 (nine), expected 8", "x (`Limits::"] {
            assert_eq!(for_peer(plain), plain);
        }
    }

    #[test]
    fn terminal_control_characters_are_escaped() {
        assert_eq!(printable(" a \"b\"\r\nERROR\x1b[2J\u{202e}ü ", 100), {
            r#"a "b"\r\nERROR\u{1b}[2J\u{202e}ü"#
        });
    }

    #[test]
    fn long_text_is_truncated() {
        assert_eq!(printable("üüüü", 3), "üüü…");
        assert_eq!(printable("üüü", 3), "üüü");
    }
}
