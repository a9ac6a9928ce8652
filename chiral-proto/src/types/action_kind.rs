use std::fmt;

/// What the numbers of an action mean for the robot, as far as it matters for sending one again or
/// sending one between two others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ActionKind {
    /// Where to be, such as joint positions: the same action again means to stay.
    Absolute,
    /// How far to go from here: the same action again means to go as far once more.
    Delta,
    /// How fast to move: the same action again means to go on.
    Velocity,
}

impl ActionKind {
    pub(super) const ALL: [Self; 3] = [Self::Absolute, Self::Delta, Self::Velocity];

    /// The name in the metadata.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Absolute => "absolute",
            Self::Delta => "delta",
            Self::Velocity => "velocity",
        }
    }
}

impl fmt::Display for ActionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
