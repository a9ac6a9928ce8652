//! Tells the target's colour from others, whatever the light.

use crate::solid::Rgb;

/// How far a pixel's hue may be from the target's, degrees.
const HUE_TOLERANCE: f32 = 9.0;
/// Least ratio of chroma to value: greyer pixels have no hue worth comparing.
const MIN_SATURATION: f32 = 0.5;
/// Darker pixels are too coarsely quantized to have a hue.
const MIN_VALUE: u8 = 40;

/// Recognizes pixels of one hue.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct HueFilter {
    hue: f32,
}

impl HueFilter {
    /// Accepts the hue of `color`, which must not be grey.
    pub(super) fn new(color: Rgb) -> Self {
        Self { hue: hue(color).unwrap_or(0.0) }
    }

    pub(super) fn accepts(self, pixel: Rgb) -> bool {
        hue(pixel).is_some_and(|hue| {
            let apart = (hue - self.hue).abs();
            apart.min(360.0 - apart) <= HUE_TOLERANCE
        })
    }
}

/// The hue in degrees, 0 (red) to 360; `None` for pixels too dark or too grey to tell.
fn hue(pixel: Rgb) -> Option<f32> {
    let [r, g, b] = pixel;
    let (value, least) = (r.max(g).max(b), r.min(g).min(b));
    let chroma = f32::from(value - least);
    if value < MIN_VALUE || chroma < MIN_SATURATION * f32::from(value) {
        return None;
    }
    let [r, g, b] = pixel.map(f32::from);
    let sixth = if pixel[0] == value {
        (g - b) / chroma
    } else if pixel[1] == value {
        2.0 + (b - r) / chroma
    } else {
        4.0 + (r - g) / chroma
    };
    Some((60.0 * sixth).rem_euclid(360.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hues_of_the_colour_wheel() {
        for (pixel, degrees) in [
            ([255, 0, 0], 0.0),
            ([200, 100, 0], 30.0),
            ([0, 90, 0], 120.0),
            ([0, 0, 77], 240.0),
            ([255, 0, 255], 300.0),
        ] {
            assert!((hue(pixel).unwrap() - degrees).abs() < 1e-3, "{pixel:?}");
        }
        assert_eq!(hue([200, 190, 180]), None);
        assert_eq!(hue([30, 0, 0]), None);
    }

    #[test]
    fn hue_matching_ignores_shade_and_rejects_neighbouring_hues() {
        let filter = HueFilter::new([255, 0, 10]);
        for brightness in [0.3, 0.6, 1.0] {
            let shaded = [255.0, 0.0, 10.0].map(|channel: f32| (channel * brightness) as u8);
            assert!(filter.accepts(shaded), "{shaded:?}");
        }
        // Either side of red, where degrees wrap.
        assert!(filter.accepts([255, 0, 40]) && filter.accepts([255, 20, 0]));
        assert!(!filter.accepts([255, 0, 80]) && !filter.accepts([255, 60, 0]));
    }
}
