//! Contact sheets: what the cameras saw at several moments, in one picture.

mod canvas;
mod font;

use thiserror::Error;

use self::canvas::Canvas;
use crate::camera::CameraFrame;
use crate::solid::Rgb;

const BACKGROUND: Rgb = [24, 26, 30];
const INK: Rgb = [226, 230, 236];
const GAP: usize = 6;
const TEXT_SCALE: usize = 2;
/// Height of a caption with the space under it.
const CAPTION: usize = 5 * TEXT_SCALE + GAP;

/// What the depth colours span, metres.
const DEPTH_RANGE: (f32, f32) = (0.1, 2.5);
/// Near to far; evenly spaced over [`DEPTH_RANGE`].
const DEPTH_COLORS: [Rgb; 6] =
    [[252, 246, 180], [250, 178, 84], [226, 92, 82], [146, 46, 116], [66, 30, 112], [16, 12, 44]];
const NO_DEPTH: Rgb = [60, 64, 70];

/// One row of a contact sheet: frames taken at the same time.
#[derive(Debug, Clone)]
pub struct Moment {
    /// A short caption; letters, digits and `. , : - _ + = /` are legible.
    pub caption: String,
    /// The cameras' names and frames, left to right.
    pub frames: Vec<(String, CameraFrame)>,
}

/// Why there is no contact sheet.
#[derive(Debug, Error)]
pub enum SheetError {
    /// No moment has a frame with pixels.
    #[error("a contact sheet needs at least one frame with pixels")]
    Empty,
    /// The picture could not be encoded.
    #[error("cannot encode the contact sheet as PNG")]
    Encoding(#[from] png::EncodingError),
}

/// Composes moments into a PNG: one row each, and in it every frame's colour image beside its
/// depth map in false colour (bright is near, dark far, grey unknown).
///
/// # Errors
/// If there is nothing to show, or the picture is too large for PNG.
pub fn contact_sheet(moments: &[Moment]) -> Result<Vec<u8>, SheetError> {
    let width = moments.iter().map(row_width).max().unwrap_or(0);
    let height = moments.iter().map(row_height).sum::<usize>();
    if !moments.iter().flat_map(|moment| &moment.frames).any(|(_, frame)| !frame.depth.is_empty()) {
        return Err(SheetError::Empty);
    }
    let mut canvas = Canvas::new(width + GAP, height + GAP, BACKGROUND);
    let mut top = GAP;
    for moment in moments {
        draw_row(&mut canvas, top, moment);
        top += row_height(moment);
    }
    encode(&canvas)
}

fn row_width(moment: &Moment) -> usize {
    moment.frames.iter().map(|(_, frame)| 2 * (GAP + frame.width)).sum()
}

/// Both captions, the tallest frame, and the gap under it.
fn row_height(moment: &Moment) -> usize {
    let tallest = moment.frames.iter().map(|(_, frame)| frame.height).max().unwrap_or(0);
    2 * CAPTION + tallest + GAP
}

fn draw_row(canvas: &mut Canvas, top: usize, moment: &Moment) {
    canvas.write((GAP, top), TEXT_SCALE, &moment.caption, INK);
    let names = top + CAPTION;
    let pictures = names + CAPTION;
    let mut left = GAP;
    for (name, frame) in &moment.frames {
        canvas.write((left, names), TEXT_SCALE, name, INK);
        let colors = frame.rgb.as_chunks::<3>().0.iter().copied();
        canvas.paste((left, pictures), frame.width, colors);
        left += frame.width + GAP;
        canvas.paste((left, pictures), frame.width, frame.depth.iter().map(|z| depth_color(*z)));
        left += frame.width + GAP;
    }
}

fn depth_color(depth: f32) -> Rgb {
    if !(depth > 0.0 && depth.is_finite()) {
        return NO_DEPTH;
    }
    let (near, far) = DEPTH_RANGE;
    let last = DEPTH_COLORS.len() - 1;
    let place = ((depth - near) / (far - near)).clamp(0.0, 1.0) * last as f32;
    let below = (place as usize).min(last - 1);
    let share = place - below as f32;
    let (from, to) = (DEPTH_COLORS[below], DEPTH_COLORS[below + 1]);
    core::array::from_fn(|i| {
        let (from, to) = (f32::from(from[i]), f32::from(to[i]));
        (from + (to - from) * share + 0.5) as u8
    })
}

fn encode(canvas: &Canvas) -> Result<Vec<u8>, SheetError> {
    let mut file = Vec::new();
    let size = |pixels: usize| u32::try_from(pixels).unwrap_or(u32::MAX);
    let mut encoder = png::Encoder::new(&mut file, size(canvas.width()), size(canvas.height()));
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(canvas.bytes())?;
    writer.finish()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::camera::Camera;
    use nalgebra::Isometry3;

    fn frame(width: usize, height: usize, color: Rgb, depth: f32) -> CameraFrame {
        let camera = Camera::new(width, height, 1.0, Isometry3::identity());
        let mut frame = CameraFrame::blank(&camera);
        frame.rgb.as_chunks_mut::<3>().0.fill(color);
        frame.depth.fill(depth);
        frame
    }

    fn decode(file: &[u8]) -> (usize, Vec<u8>) {
        let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        (info.width as usize, pixels)
    }

    #[test]
    fn every_frame_is_on_the_sheet_in_colour_and_in_depth() {
        let moment = |color, depth| Moment {
            caption: "t = 1.5 s".into(),
            frames: vec![("cam".into(), frame(20, 10, color, depth))],
        };
        let sheet = contact_sheet(&[moment([200, 10, 20], 0.1), moment([10, 200, 20], 0.0)]);
        let (width, pixels) = decode(&sheet.unwrap());
        let count = |color: Rgb| pixels.as_chunks::<3>().0.iter().filter(|p| **p == color).count();
        assert_eq!(width, 2 * 20 + 3 * GAP);
        assert_eq!(count([200, 10, 20]), 200);
        assert_eq!(count([10, 200, 20]), 200);
        assert_eq!(count(DEPTH_COLORS[0]), 200);
        assert_eq!(count(NO_DEPTH), 200);
        assert!(count(INK) > 50, "captions are written");
    }

    #[test]
    fn depth_colours_run_from_near_to_far() {
        assert_eq!(depth_color(0.01), DEPTH_COLORS[0]);
        assert_eq!(depth_color(9.0), DEPTH_COLORS[5]);
        assert_eq!(depth_color(0.1 + 2.4 / 5.0), DEPTH_COLORS[1]);
        assert_eq!(depth_color(f32::NAN), NO_DEPTH);
    }

    #[test]
    fn an_empty_contact_sheet_is_an_error() {
        assert!(matches!(contact_sheet(&[]), Err(SheetError::Empty)));
        let empty = Moment { caption: String::new(), frames: Vec::new() };
        assert!(matches!(contact_sheet(&[empty]), Err(SheetError::Empty)));
    }
}
