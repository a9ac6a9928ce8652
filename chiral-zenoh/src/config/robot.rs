use std::fmt;
use std::str::FromStr;

/// The name of a robot on a network: the part of its keys that is its own.
///
/// One to 64 letters, digits, `-`, `_` and `.`, so that it can stand in a key, a URI and a file
/// name as it is. `c2s` and `s2c` are taken: they are the keys of robots without a name.
///
/// ```
/// use chiral_zenoh::RobotName;
///
/// let name: RobotName = "arm-3".parse()?;
/// assert_eq!(name.as_str(), "arm-3");
///
/// let error = "arm/3".parse::<RobotName>().unwrap_err();
/// assert!(error.to_string().contains("found '/'"));
/// # Ok::<(), chiral_zenoh::RobotNameError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RobotName(String);

/// Bytes of the longest name.
const MAX_LEN: usize = 64;
/// What stands where a name would, for robots without one.
const TAKEN: [&str; 2] = ["c2s", "s2c"];

impl RobotName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RobotName {
    type Err = RobotNameError;

    fn from_str(text: &str) -> Result<Self, RobotNameError> {
        let fail = |found: String| Err(RobotNameError { name: text.to_owned(), found });
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if let Some(strange) = text.chars().find(|&c| !is_allowed(c)) {
            return fail(format!("{strange:?}"));
        }
        if text.is_empty() || text.len() > MAX_LEN {
            return fail(format!("{} characters", text.len()));
        }
        if TAKEN.contains(&text) {
            return fail("a key of robots without a name".to_owned());
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for RobotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no robot's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the robot name {name:?}: found {found}, expected 1 to {MAX_LEN} ASCII letters, digits, `-`, `_` or `.`"
)]
pub struct RobotNameError {
    name: String,
    found: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_robot_names_are_rejected_with_a_reason() {
        for (text, found) in [
            ("", "0 characters"),
            ("a b", "' '"),
            ("*", "'*'"),
            ("arm$", "'$'"),
            ("käfer", "'ä'"),
            ("c2s", "a key of robots"),
            (&"a".repeat(65), "65 characters"),
        ] {
            let error = text.parse::<RobotName>().expect_err(text).to_string();
            assert!(error.contains(found), "{error}");
        }
    }
}
