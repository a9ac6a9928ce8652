//! Text for people: tables, and words of a peer made fit for a terminal.

use std::fmt;

/// Characters of a peer's name that are shown at the most.
const MAX_NAME_CHARS: usize = 64;

/// Whether a terminal shows a character as itself: it controls nothing, turns no text around and
/// is not invisible.
pub(crate) fn is_plain(character: char) -> bool {
    match character {
        ' '..='~' => true,
        _ => character.escape_debug().eq([character]),
    }
}

/// A text on one line, with everything escaped that is not plain.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if is_plain(character) {
            shown.push(character);
        } else {
            shown.extend(character.escape_debug());
        }
    }
    shown
}

/// A name that a peer chose: quoted, escaped, and cut where it is very long.
pub(crate) fn name(name: &str) -> String {
    match name.char_indices().nth(MAX_NAME_CHARS) {
        Some((end, _)) => format!("{:?}…", &name[..end]),
        None => format!("{name:?}"),
    }
}

/// A text that stands in the place of a name: cut where it is very long.
pub(crate) fn cut(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(MAX_NAME_CHARS) {
        text.replace_range(end.., "…");
    }
    text
}

/// Rows of cells whose columns line up.
#[derive(Debug, Default)]
pub(crate) struct Table(Vec<Vec<String>>);

impl Table {
    pub(crate) fn row<C: Into<String>>(&mut self, cells: impl IntoIterator<Item = C>) {
        self.0.push(cells.into_iter().map(Into::into).collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let len = |cell: &String| cell.chars().count();
        let columns = self.0.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column| self.0.iter().filter_map(|row| row.get(column)).map(len).max();
        let widths: Vec<usize> = (0..columns).filter_map(width).collect();
        for row in &self.0 {
            let mut line = String::new();
            for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
                line.push_str(cell);
                if index + 1 < row.len() {
                    line.extend(std::iter::repeat_n(' ', width - len(cell) + 2));
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        let hostile = "a\u{1b}[2Jb\u{9b}31mc\u{7f}d\re\u{202e}f\n";
        let shown = printable(hostile);
        assert_eq!(shown, r"a\u{1b}[2Jb\u{9b}31mc\u{7f}d\re\u{202e}f\n");
        assert_eq!(name(hostile), format!("\"{shown}\""));
        assert_eq!(printable("手首 \"é\" \\"), "手首 \"é\" \\");
    }

    #[test]
    fn long_names_are_truncated_at_a_character_boundary() {
        assert_eq!(name(&"é".repeat(64)), format!("\"{}\"", "é".repeat(64)));
        assert_eq!(name(&"é".repeat(9999)), format!("\"{}\"…", "é".repeat(64)));
        assert_eq!(cut("é".repeat(9999)), format!("{}…", "é".repeat(64)));
        assert_eq!(cut("[1, 2]".to_owned()), "[1, 2]");
    }

    #[test]
    fn table_columns_are_aligned() {
        let mut table = Table::default();
        table.row(["a", "bb", "c"]);
        table.row(["aaa", "b"]);
        assert_eq!(table.to_string(), "a    bb  c\naaa  b\n");
    }
}
