use crate::Action;

/// What is sent at a tick that finds no row; between [points](crate::client::Client::interpolate), only
/// at those ticks that are for a row. After a reconnection or a stop of the robot it is nothing until a
/// row has left.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub enum Starved {
    /// Nothing. The default: what a robot does without actions is its own affair, and its watchdog
    /// notices.
    #[default]
    SendNothing,
    /// The last row again, for as long as it is not older than
    /// [`Config::max_age`](crate::client::Config::max_age): a robot that takes absolute positions
    /// stays there. It carries the observation that it was decided on, so that a robot that refuses
    /// what is too old refuses it too. Only for actions known to be
    /// [absolute](crate::ActionKind::Absolute): a delta or a velocity that is repeated keeps the robot
    /// moving.
    Repeat,
    /// This action.
    Hold(Action),
    /// What the robot [declared](crate::ActionDeclaration): its hold action; else the last row again
    /// if its actions are absolute; else nothing.
    Declared,
}
