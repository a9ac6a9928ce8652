//! Cameras, proprioception and free-form maps as text.

use std::fmt::Write as _;

use chiral_proto::{Array, Camera, Map, Proprio};

use super::json::to_json;
use super::value::Free;
use crate::text::{Table, name};

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
                _ => number(camera.intrinsics[(row, column)]),
            }));
            cells.push(label("T"));
            cells.extend((0..4).map(|column| number(camera.extrinsics[(row, column)])));
            matrices.row(cells);
        }
        text.push_str(&matrices.to_string());
    }
    text
}

/// To six significant digits: K and T are for the eye here.
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

/// A free-form map under a heading; nothing when it is empty.
pub(crate) fn free_form(heading: &str, map: &Map) -> String {
    if map.is_empty() {
        return String::new();
    }
    match to_json(&Free::from(map), true) {
        Ok(json) => format!("{heading} {json}\n"),
        Err(error) => format!("{heading}: {error}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_say_what_they_are() {
        let shown = [600.0, 1.0 / 3.0, -0.8, 1e-9, 5e-324, f64::MAX, f64::NAN].map(number);
        let expected = ["600.0", "0.333333", "-0.8", "1e-9", "5e-324", "1.79769e308", "NaN"];
        assert_eq!(shown, expected);
    }
}
