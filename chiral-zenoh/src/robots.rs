use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use chiral_proto::Map;
use chiral_proto::wire::{Frame, Limits, ServerMessage};
use zenoh::Wait;

use crate::background::Background;
use crate::config::{Config, RobotName, Role};
use crate::error::Error;
use crate::keys;

/// A robot that is on a network.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RobotInfo {
    /// Its name.
    pub name: RobotName,
    /// Its metadata; `None` when it did not answer in time.
    pub metadata: Option<Map>,
}

/// Lists the named robots on a network, by name, with their metadata: for as long as `timeout` is
/// waited for answers. Robots in compatible mode cannot be found.
///
/// ```no_run
/// use std::time::Duration;
///
/// let config = "zenoh:?connect=tcp/router:7447".parse()?;
/// for robot in chiral_zenoh::robots(config, Duration::from_secs(2)).wait()? {
///     println!("{}: {:?}", robot.name, robot.metadata);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn robots(config: Config, timeout: Duration) -> Background<Vec<RobotInfo>> {
    Background::spawn(move |_| {
        let fail = |error: zenoh::Error| Error::open(&config, &error);
        let (zenoh, _) = config.to_zenoh(Role::Client)?;
        let session = zenoh::open(zenoh).wait().map_err(fail)?;
        let mut robots = BTreeMap::new();
        let tokens = session.liveliness().get(keys::robot_token("*", "*")).timeout(timeout);
        for token in tokens.wait().map_err(fail)? {
            let Ok(token) = token.into_result() else { continue };
            robots.extend(keys::robot_of_token(token.key_expr().as_str()).map(|name| (name, None)));
        }
        if !robots.is_empty() {
            let answers = session.get(keys::metadata("*")).timeout(timeout);
            for answer in answers.wait().map_err(fail)? {
                let Ok(answer) = answer.into_result() else { continue };
                let name = keys::robot_of_token(answer.key_expr().as_str());
                let known = name.and_then(|name| robots.get_mut(&name));
                if let Some(metadata) = known {
                    let bytes = answer.payload().to_bytes().into_owned();
                    *metadata = read(bytes.into(), &config.limits);
                }
            }
        }
        let robot = |(name, metadata)| RobotInfo { name, metadata };
        Ok(robots.into_iter().map(robot).collect())
    })
}

fn read(metadata: Bytes, limits: &Limits) -> Option<Map> {
    let frame = Frame::parse(metadata, limits).ok()?;
    match ServerMessage::decode(&frame, limits) {
        Ok(ServerMessage::Metadata(metadata)) => Some(metadata),
        _ => None,
    }
}
