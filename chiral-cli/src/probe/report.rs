//! What was found out about a robot.

use chiral_proto::ws::redacted;
use chiral_proto::{ActionSpec, Map, Observation};
use serde::{Serialize, Serializer};

use super::live::Live;
use super::snapshot::SnapshotFile;
use crate::describe::{self, Camera, Digests, Extent, FreeForm, Proprio};
use crate::text::printable;

/// What was found out about a robot, for programs.
#[derive(Serialize)]
pub(super) struct Report {
    uri: String,
    #[serde(serialize_with = "free_form")]
    metadata: Map,
    cameras: Vec<Camera>,
    proprios: Vec<Proprio>,
    #[serde(serialize_with = "free_form")]
    extra: Map,
    /// Absent when it was not measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) live: Option<Live>,
    /// Absent when none was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) snapshot: Option<Vec<SnapshotFile>>,
}

impl Report {
    pub(super) fn new(uri: &str, metadata: Map, observation: &Observation) -> Self {
        let Observation { cameras, proprios, extra, .. } = observation;
        Self {
            uri: redacted(uri),
            metadata,
            cameras: cameras.iter().map(|camera| Camera::new(camera, Digests::No)).collect(),
            proprios: proprios.iter().map(|stream| Proprio::new(stream, Digests::No)).collect(),
            extra: extra.clone(),
            live: None,
            snapshot: None,
        }
    }

    /// What the robot says and has, for people.
    pub(super) fn sensors_text(&self, observation: &Observation) -> String {
        let extent = Extent::of_stdout();
        let mut text = format!("robot at {}\n", printable(&self.uri));
        text.push_str(&describe::free_form("metadata", &self.metadata, extent));
        text.push_str(&describe::contract(&ActionSpec::of_metadata(&self.metadata), extent));
        text.push_str(&describe::cameras(&observation.cameras));
        text.push_str(&describe::proprios(&observation.proprios));
        text.push_str(&describe::free_form("extra", &observation.extra, extent));
        text
    }
}

fn free_form<S: Serializer>(map: &Map, serializer: S) -> Result<S::Ok, S::Error> {
    FreeForm::from(map).serialize(serializer)
}
