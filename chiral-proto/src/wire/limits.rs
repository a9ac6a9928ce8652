/// Bounds on what a peer may send, checked before memory is spent on it.
///
/// The defaults let every robot that we know of through (8 cameras of 1280×720 RGB-D are 51.6 MB)
/// and stop a hostile or broken peer early. Raise or lower single fields:
///
/// ```
/// use chiral_proto::wire::Limits;
///
/// let limits = Limits { frame_len: 1 << 20, ..Limits::default() };
/// assert_eq!(limits.cameras, 256);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a whole frame. Default: 256 MiB.
    pub frame_len: usize,
    /// Bytes of a frame's msgpack header. Default: 16 MiB.
    pub header_len: usize,
    /// Cameras of an observation, and camera timestamps of an action. Default: 256.
    pub cameras: usize,
    /// Proprioception streams of an observation. Default: 1024.
    pub proprios: usize,
    /// Dimensions of an array. Default: 32, numpy's old bound.
    pub rank: usize,
    /// Levels of nesting in the header, the header's own map being the first. Default: 64; values
    /// over 128 count as 128.
    pub depth: usize,
    /// Values in the header altogether: entries of maps and elements of arrays, keys included.
    /// Default: 1,048,576.
    pub values: usize,
}

impl Limits {
    /// The largest nesting depth that can be allowed.
    pub const MAX_DEPTH: usize = 128;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_len: 256 << 20,
            header_len: 16 << 20,
            cameras: 256,
            proprios: 1024,
            rank: 32,
            depth: 64,
            values: 1 << 20,
        }
    }
}
