use std::borrow::Cow;

use anyhow::{Context as _, bail};
use chiral_proto::{Camera, Observation};
use chiral_sim::camera::{CameraFrame, View};

/// What a camera of an observation saw, as the policy and the contact sheet take it.
pub(super) struct Picture<'a> {
    camera: &'a Camera,
    width: usize,
    height: usize,
    rgb: Cow<'a, [u8]>,
    depth: Cow<'a, [f32]>,
}

impl<'a> Picture<'a> {
    /// What every camera of an observation saw. No pixel is copied unless it must be.
    ///
    /// # Errors
    /// When a camera delivers anything else than 8-bit RGB and `float32` depth.
    pub(super) fn all(observation: &'a Observation) -> anyhow::Result<Vec<Self>> {
        let picture = |camera: &'a Camera| {
            Self::new(camera).with_context(|| format!("the pictures of {:?}", camera.name))
        };
        observation.cameras.iter().map(picture).collect()
    }

    fn new(camera: &'a Camera) -> anyhow::Result<Self> {
        let [height, width, 3] = camera.image.shape()[..] else {
            bail!("an image of shape {}: expected [H, W, 3]", camera.image.shape());
        };
        let depth = camera.depth.as_ref().context("no depth map: expected one")?;
        Ok(Self { camera, width, height, rgb: camera.image.as_slice()?, depth: depth.as_slice()? })
    }

    /// The picture for the policy.
    ///
    /// # Errors
    /// When image and depth map are of different sizes.
    pub(super) fn view(&self) -> anyhow::Result<View<'_>> {
        let Camera { intrinsics, extrinsics, .. } = self.camera;
        Ok(View::new(self.width, self.height, &self.rgb, &self.depth, *intrinsics, *extrinsics)?)
    }

    /// The camera's name, and a copy of the picture.
    pub(super) fn to_frame(&self) -> (String, CameraFrame) {
        let frame = CameraFrame {
            width: self.width,
            height: self.height,
            rgb: self.rgb.to_vec(),
            depth: self.depth.to_vec(),
            intrinsics: self.camera.intrinsics,
            camera_to_world: self.camera.extrinsics,
        };
        (self.camera.name.to_string(), frame)
    }
}
