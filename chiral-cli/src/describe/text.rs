//! Cameras, proprioception and free-form maps as text.

use std::fmt::Write as _;

use chiral_proto::{Array, Camera, Map, Proprio};

use super::json::to_json;
use super::value::Free;
use crate::text::{Table, name};

/// Characters of JSON on one line at the most.
const LONGEST_LINE: usize = 100;
/// Elements of a proprioception vector that are shown at the most.
const SHOWN_ELEMENTS: usize = 16;

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
        for element in elements.iter().take(SHOWN_ELEMENTS) {
            let _ = write!(shown, "{} ", number(*element));
        }
        if elements.len() > SHOWN_ELEMENTS {
            shown.push('…');
        }
        let kind = format!("{} × {}", values.len(), values.dtype());
        table.row(["proprio".to_owned(), name(stream), kind, shown]);
    }
    table.to_string()
}

/// A free-form map under a heading, an entry a line where it is short; nothing when it is empty.
pub(crate) fn free_form(heading: &str, map: &Map) -> String {
    if map.is_empty() {
        return String::new();
    }
    let mut table = Table::default();
    for (key, value) in Free::from(map).entries() {
        let key = match key.0.as_str() {
            Some(key) => name(key),
            None => json(&key),
        };
        table.row([String::new(), key, json(&value)]);
    }
    format!("{heading}\n{table}")
}

/// On one line if it is short, else indented.
fn json(value: &Free) -> String {
    let on_one_line = to_json(value, false).unwrap_or_else(|error| error.to_string());
    if on_one_line.len() <= LONGEST_LINE {
        return on_one_line;
    }
    to_json(value, true).map_or(on_one_line, |indented| indented.replace('\n', "\n    "))
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
        assert_eq!(free_form("info", &map), expected);
        let numbers = chiral_proto::Value::Array((100..130).map(Into::into).collect());
        let text = free_form("info", &Map::new().with("numbers", numbers));
        assert!(text.starts_with("info\n  \"numbers\"  [\n      100,\n      101,"), "{text}");
        assert_eq!(free_form("info", &Map::new()), "");
    }

    #[test]
    fn numbers_are_abbreviated_and_keep_their_type() {
        let shown = [600.0, 1.0 / 3.0, -0.8, 1e-9, 5e-324, f64::MAX, f64::NAN].map(number);
        let expected = ["600.0", "0.333333", "-0.8", "1e-9", "5e-324", "1.79769e308", "NaN"];
        assert_eq!(shown, expected);
    }
}
