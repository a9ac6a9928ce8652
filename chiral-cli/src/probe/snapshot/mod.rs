//! What a robot's cameras see, as PNG files.

mod picture;

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::Path;

use anyhow::Context as _;
use chiral_proto::{Array, Observation};
use serde::Serialize;

use crate::text::{self, Table, printable};
use picture::Picture;

/// Characters of a camera's name in a file name, at the most.
const LONGEST_NAME: usize = 40;

/// One image or depth map of a snapshot.
#[derive(Debug, Serialize)]
pub(super) struct Shot {
    camera: String,
    part: &'static str,
    /// Absent when no file could show it.
    file: Option<String>,
    /// What the file's values mean, or why there is no file.
    note: String,
}

/// Writes the images and depth maps of an observation to a folder, which is made if need be.
pub(super) fn write(folder: &Path, observation: &Observation) -> anyhow::Result<Vec<Shot>> {
    fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let mut shots = Vec::new();
    for (index, camera) in observation.cameras.iter().enumerate() {
        let mut shoot = |part: &'static str, made: Result<Picture<'_>, String>| {
            let name = file_name(index, &camera.name, part);
            let shot = |file, note| Shot { camera: camera.name.to_string(), part, file, note };
            match made {
                Ok(picture) => {
                    let path = folder.join(name);
                    let title = format!("{part} of {}", text::name(&camera.name));
                    encode(&path, &picture, &title)
                        .with_context(|| format!("cannot write {}", path.display()))?;
                    shots.push(shot(Some(path.display().to_string()), picture.note));
                }
                Err(why) => shots.push(shot(None, why)),
            }
            anyhow::Ok(())
        };
        shoot("image", Picture::of_image(&camera.image))?;
        if let Some(depth) = &camera.depth {
            shoot("depth", Picture::of_depth(depth))?;
        }
    }
    Ok(shots)
}

/// The number keeps names apart that look the same here, and away from names with a meaning.
fn file_name(index: usize, camera: &str, part: &str) -> String {
    let is_safe = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_');
    let safe = camera.chars().take(LONGEST_NAME).map(|c| if is_safe(c) { c } else { '_' });
    format!("{index:02}_{}_{part}.png", safe.collect::<String>())
}

fn encode(path: &Path, picture: &Picture<'_>, title: &str) -> anyhow::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    let mut encoder = png::Encoder::new(&mut file, picture.width, picture.height);
    encoder.set_color(picture.color);
    encoder.set_depth(picture.bits);
    encoder.set_compression(png::Compression::Fast);
    encoder.add_itxt_chunk("Title".to_owned(), title.to_owned())?;
    encoder.add_itxt_chunk("Description".to_owned(), picture.note.clone())?;
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&picture.samples)?;
    writer.finish()?;
    file.flush()?;
    Ok(())
}

/// The files of a snapshot, for people.
pub(super) fn to_text(shots: &[Shot]) -> String {
    if shots.is_empty() {
        return "no camera to take a picture with\n".to_owned();
    }
    let mut table = Table::default();
    for Shot { camera, part, file, note } in shots {
        let file = file.as_deref().map(printable);
        let file = file.unwrap_or_else(|| format!("no {part} of {}", text::name(camera)));
        table.row([file, note.clone()]);
    }
    table.to_string()
}

/// Rows and columns of an array, and its channels: 1 where it has no axis for them.
fn dimensions(array: &Array) -> Result<(u32, u32, usize), String> {
    let (rows, columns, channels) = match array.shape()[..] {
        [rows, columns] => (rows, columns, 1),
        [rows, columns, channels] => (rows, columns, channels),
        _ => return Err(format!("found shape {}, expected [H, W] or [H, W, C]", array.shape())),
    };
    match (u32::try_from(rows), u32::try_from(columns)) {
        (Ok(rows @ 1..), Ok(columns @ 1..)) => Ok((rows, columns, channels)),
        _ => Err(format!("found shape {}: no PNG has these sides", array.shape())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_stay_inside_the_folder_and_are_distinct() {
        for hostile in
            ["../../etc/passwd", "/abs", "..", ".", "", "a\\b", "C:x", "nul\0", "a\u{202e}b", "\n"]
        {
            let name = file_name(3, hostile, "image");
            assert_eq!(Path::new(&name).components().count(), 1, "{name}");
            assert!(name.starts_with("03_") && name.ends_with("_image.png"), "{name}");
            assert!(!name.contains(['/', '\\', ':', '\0', '\n', '\u{202e}']), "{name}");
        }
        assert_eq!(file_name(0, "手首_cam", "depth"), "00_手首_cam_depth.png");
        assert_ne!(file_name(0, "a", "image"), file_name(1, "A", "image"));
        assert!(file_name(255, &"手".repeat(1000), "image").len() < 255);
    }
}
