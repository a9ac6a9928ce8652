//! Cameras, proprioception and free-form maps as text.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};

use chiral_proto::{ActionSpec, Array, Camera, Map, Proprio};

use super::json::to_json;
use super::value::FreeForm;
use crate::text::{Table, cut, name};

/// Characters of JSON on one line at the most.
const MAX_LINE_CHARS: usize = 100;
/// Lines of a value, and entries of a map, on a terminal at the most.
const MAX_VALUE_LINES: usize = 20;
const MAX_ENTRIES: usize = 50;
/// Elements of a proprioception vector that are shown at the most.
const MAX_ELEMENTS: usize = 16;

/// An array's dtype, shape and size.
pub(super) fn array(array: &Array) -> String {
    format!("{} {}, {} bytes", array.dtype(), array.shape(), array.bytes().len())
}

/// Each camera with its image, depth map, K and T.
pub(crate) fn cameras(cameras: &[Camera]) -> String {
    let mut text = String::new();
    for camera in cameras {
        let _ = writeln!(text, "camera {}, captured at {:?}", name(&camera.name), camera.timestamp);
        let _ = writeln!(text, "  image  {}", array(&camera.image));
        if let Some(depth) = &camera.depth {
            let _ = writeln!(text, "  depth  {}", array(depth));
        }
        let mut matrices = Table::default();
        for row in 0..4 {
            let label = |name: &str| if row == 0 { name.to_owned() } else { String::new() };
            let mut cells = vec![String::new(), label("K")];
            cells.extend((0..3).map(|column| match row {
                3 => String::new(),
                _ => element(camera.intrinsics[(row, column)]),
            }));
            cells.push(label("T"));
            cells.extend((0..4).map(|column| element(camera.extrinsics[(row, column)])));
            matrices.row(cells);
        }
        text.push_str(&matrices.to_string());
    }
    text
}

/// An element of K or T. What is left of a rotation's zeros after rounding is shown as zero.
fn element(value: f64) -> String {
    number(if value.abs() < 1e-12 { 0.0 } else { value })
}

/// To six significant digits: this is for the eye.
fn number(value: f64) -> String {
    let rounded = format!("{value:.5e}").parse().unwrap_or(value);
    let plain = format!("{rounded:?}");
    if plain.len() <= 12 { plain } else { format!("{value:.5e}") }
}

/// Each proprioception stream with its first values.
pub(crate) fn proprios(proprios: &[Proprio]) -> String {
    let mut table = Table::default();
    for Proprio { name: stream, values } in proprios {
        let elements = values.to_f64();
        let mut shown = String::new();
        for element in elements.iter().take(MAX_ELEMENTS) {
            let _ = write!(shown, "{} ", number(*element));
        }
        if elements.len() > MAX_ELEMENTS {
            shown.push('…');
        }
        let kind = format!("{} × {}", values.len(), values.dtype());
        table.row(["proprio".to_owned(), name(stream), kind, shown]);
    }
    table.to_string()
}

/// How much of a free-form map is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    Whole,
    /// What fits on a terminal.
    Abridged,
}

impl Extent {
    /// What suits standard output.
    pub(crate) fn of_stdout() -> Self {
        if io::stdout().is_terminal() { Self::Abridged } else { Self::Whole }
    }
}

/// A free-form map under a heading, an entry a line where it is short; nothing when it is empty.
pub(crate) fn free_form(heading: &str, map: &Map, extent: Extent) -> String {
    if map.is_empty() {
        return String::new();
    }
    let max_entries = if extent == Extent::Abridged { MAX_ENTRIES } else { usize::MAX };
    let mut entries = FreeForm::from(map).entries();
    let mut table = Table::default();
    for (key, value) in entries.by_ref().take(max_entries) {
        let key = match key.0.as_str() {
            Some(key) => name(key),
            None => cut(to_json(&key, false).unwrap_or_else(|error| error.to_string())),
        };
        table.row([String::new(), key, json(&value, extent)]);
    }
    let mut text = format!("{heading}\n{table}");
    let more = entries.count();
    if more > 0 {
        let _ = writeln!(text, "  … {more} more entries; --json shows all");
    }
    text
}

/// What a robot declares of its actions; nothing if it declares nothing.
pub(crate) fn contract(spec: &ActionSpec, extent: Extent) -> String {
    if spec.declaration().is_empty() {
        return String::new();
    }
    let mut text = String::from("contract\n");
    for line in spec.to_string().lines() {
        let is_cut = extent == Extent::Abridged && line.len() > MAX_LINE_CHARS;
        let shown = if is_cut { line.get(..MAX_LINE_CHARS).unwrap_or(line) } else { line };
        let _ = writeln!(text, "  {shown}{}", if is_cut { " …; --json shows all" } else { "" });
    }
    text
}

/// On one line if it is short, else indented.
fn json(value: &FreeForm, extent: Extent) -> String {
    let on_one_line = to_json(value, false).unwrap_or_else(|error| error.to_string());
    if on_one_line.len() <= MAX_LINE_CHARS {
        return on_one_line;
    }
    let indented = to_json(value, true).unwrap_or(on_one_line);
    if extent == Extent::Whole {
        return indented.replace('\n', "\n    ");
    }
    let cut = |line: &str| match line.char_indices().nth(MAX_LINE_CHARS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    };
    let mut lines: Vec<String> = indented.lines().take(MAX_VALUE_LINES).map(cut).collect();
    let more = indented.lines().count() - lines.len();
    if more > 0 {
        lines.push(format!("… {more} more lines; --json shows all"));
    }
    lines.join("\n    ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_entries_are_wrapped_over_several_lines() {
        let map = Map::new().with("robot", "arm").with("joints", 7).with("long", "x".repeat(101));
        let expected = format!(
            "info\n  \"robot\"   \"arm\"\n  \"joints\"  7\n  \"long\"    \"{}\"\n",
            "x".repeat(101)
        );
        assert_eq!(free_form("info", &map, Extent::Whole), expected);
        let numbers: chiral_proto::Value = (100..130).collect();
        let text = free_form("info", &Map::new().with("numbers", numbers), Extent::Whole);
        assert!(text.starts_with("info\n  \"numbers\"  [\n      100,\n      101,"), "{text}");
        assert_eq!(free_form("info", &Map::new(), Extent::Whole), "");
    }

    #[test]
    fn long_values_are_abridged_with_a_notice() {
        let numbers: chiral_proto::Value = (0..1000).collect();
        let mut map = Map::new().with("numbers", numbers).with("text", "x".repeat(100_000));
        for key in 0..1000 {
            map.insert(&format!("key {key}"), key);
        }
        let text = free_form("info", &map, Extent::Abridged);
        assert!(text.contains("… 982 more lines; --json shows all"), "{text}");
        assert!(text.ends_with("  … 952 more entries; --json shows all\n"), "{text}");
        assert!(text.len() < 10_000, "{}", text.len());
    }

    #[test]
    fn numbers_are_abbreviated_and_keep_their_type() {
        let shown = [600.0, 1.0 / 3.0, -0.8, 1e-9, 5e-324, f64::MAX, f64::NAN].map(number);
        let expected = ["600.0", "0.333333", "-0.8", "1e-9", "5e-324", "1.79769e308", "NaN"];
        assert_eq!(shown, expected);
    }
}
