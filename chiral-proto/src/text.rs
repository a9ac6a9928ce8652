//! A peer's words, made fit for an error's text or a log line.

/// `text` on one line, without control characters, no longer than `limit` characters: what a
/// terminal or a log would act on is escaped, and what is cut off is marked with `…`.
pub(crate) fn printable(text: &str, limit: usize) -> String {
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

#[cfg(test)]
mod tests {
    use super::printable;

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
