//! What robots and policies exchange: arrays, cameras, observations, actions, free-form maps.

mod action;
mod action_declaration;
mod action_error;
mod action_from;
mod action_kind;
mod action_limits;
mod action_spec;
mod array;
mod camera;
mod contract;
mod dtype;
mod map;
mod name;
mod observation;
mod proprio;
mod shape;
mod timing;
mod value;
mod value_from;
mod views;

pub use action::{Action, ActionShapeError, ResetResult, StepResult};
pub use action_declaration::ActionDeclaration;
pub use action_error::ActionError;
pub use action_kind::ActionKind;
pub use action_limits::{Bounds, PerDimension};
pub use action_spec::{ActionSpec, BadLimits, DtypeKind};
pub use array::{Array, DtypeMismatch, SizeMismatch};
pub use camera::{Camera, CameraConfig, WhenStale};
pub use contract::{Arming, ArmingState, ContractStatus, OnViolation, StopReason};
pub use dtype::{Dtype, Element, UnknownDtype};
pub use map::{Map, ValueError};
pub use name::{Name, UnknownName};
pub use observation::{Observation, Timestamps};
pub use proprio::{Proprio, ProprioConfig};
pub use shape::Shape;
pub use timing::{ActionTiming, Age, Arrival, Sent, Timing};
pub use value::Value;
#[cfg(feature = "image")]
pub use views::{Picture, PictureError};

pub(crate) use action_limits::ChangeFrom;
pub(crate) use array::byte_len;
