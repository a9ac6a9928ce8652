//! An RGB picture to draw on.

use super::font::{GLYPH, glyph};
use crate::solid::Rgb;

/// A picture of one background colour to begin with. What is drawn beyond its edges is cut off.
pub(super) struct Canvas {
    width: usize,
    pixels: Vec<Rgb>,
}

impl Canvas {
    pub(super) fn new(width: usize, height: usize, background: Rgb) -> Self {
        Self { width, pixels: vec![background; width * height] }
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    pub(super) fn height(&self) -> usize {
        self.pixels.len() / self.width
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.pixels.as_flattened()
    }

    /// Copies a picture of `width` pixels a row, its corner at `(x, y)`.
    pub(super) fn paste(
        &mut self,
        (x, y): (usize, usize),
        width: usize,
        pixels: impl Iterator<Item = Rgb>,
    ) {
        for (index, color) in pixels.enumerate() {
            self.set(x + index % width, y + index / width, color);
        }
    }

    /// Writes one line of text, its corner at `(x, y)`, every font pixel `scale` pixels large.
    pub(super) fn write(&mut self, (x, y): (usize, usize), scale: usize, text: &str, color: Rgb) {
        for (place, character) in text.chars().enumerate() {
            let left = x + place * (GLYPH.0 + 1) * scale;
            for (row, bits) in glyph(character).into_iter().enumerate() {
                for column in (0..GLYPH.0).filter(|column| bits >> (GLYPH.0 - 1 - column) & 1 == 1)
                {
                    let corner = (left + column * scale, y + row * scale);
                    self.paste(corner, scale, core::iter::repeat_n(color, scale * scale));
                }
            }
        }
    }

    fn set(&mut self, x: usize, y: usize, color: Rgb) {
        if x < self.width
            && let Some(pixel) = self.pixels.get_mut(y * self.width + x)
        {
            *pixel = color;
        }
    }
}
