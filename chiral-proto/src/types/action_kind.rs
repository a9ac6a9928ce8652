use std::fmt;

use super::action::Action;
use super::value::{Map, Value};

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
    const ALL: [Self; 3] = [Self::Absolute, Self::Delta, Self::Velocity];

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

/// What a robot declares of its actions, in its metadata: `{"chiral": {"action": {"kind": …, "hold":
/// …}}}`. A robot declares it with [`ActionSpec::kind`](crate::ActionSpec::kind) and
/// [`ActionSpec::hold`](crate::ActionSpec::hold).
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct ActionDeclaration {
    /// What its actions mean.
    pub kind: Option<ActionKind>,
    /// The action that makes it stay where it is: zeros for deltas and velocities.
    pub hold: Option<Action>,
}

impl ActionDeclaration {
    /// That the robot's actions are of a kind.
    pub const fn new(kind: ActionKind) -> Self {
        Self { kind: Some(kind), hold: None }
    }

    /// The declaration with the action that makes the robot stay where it is.
    #[must_use]
    pub fn hold(mut self, action: impl Into<Action>) -> Self {
        self.hold = Some(action.into());
        self
    }

    /// What a robot's metadata declares; what cannot be read counts as not declared.
    pub fn of_metadata(metadata: &Map) -> Self {
        let Some(chiral) = metadata.get("chiral") else { return Self::default() };
        let action = &chiral["action"];
        let kind = action["kind"].as_str();
        let kind = ActionKind::ALL.into_iter().find(|known| kind == Some(known.name()));
        let numbers = action["hold"].as_array().filter(|numbers| !numbers.is_empty());
        let numbers = numbers.and_then(|numbers| numbers.iter().map(Value::as_f64).collect());
        Self { kind, hold: numbers.map(|numbers: Vec<f64>| Action::from(numbers)) }
    }

    /// Whether nothing is declared.
    pub fn is_empty(&self) -> bool {
        self.kind.is_none() && self.hold.is_none()
    }

    /// The metadata with what is declared under `chiral`, beside what stands there already.
    pub(crate) fn add_to(&self, metadata: &mut Map) {
        if self.is_empty() {
            return;
        }
        let mut chiral = match metadata.get("chiral") {
            Some(Value::Map(entries)) => entries,
            _ => Vec::new(),
        };
        chiral.retain(|(key, _)| key.as_str() != Some("action"));
        chiral.push(("action".into(), self.to_value()));
        metadata.insert("chiral", Value::Map(chiral));
    }

    fn to_value(&self) -> Value {
        let mut entries = Vec::new();
        if let Some(kind) = self.kind {
            entries.push((Value::from("kind"), Value::from(kind.name())));
        }
        if let Some(hold) = &self.hold {
            let numbers = hold.to_f32().iter().map(|&number| Value::from(number)).collect();
            entries.push((Value::from("hold"), Value::Array(numbers)));
        }
        Value::Map(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(action: Value) -> Map {
        let chiral = Value::Map(vec![(Value::from("action"), action)]);
        Map::new().with("robot", "arm-3").with("chiral", chiral)
    }

    #[test]
    fn what_is_declared_is_read_back() {
        for kind in ActionKind::ALL {
            for declared in
                [ActionDeclaration::new(kind), ActionDeclaration::new(kind).hold([0.0, 1.5])]
            {
                let read = ActionDeclaration::of_metadata(&metadata(declared.to_value()));
                assert_eq!(read, declared);
            }
        }
    }

    #[test]
    fn a_declaration_keeps_what_stands_beside_it() {
        let mut metadata = metadata(Value::from("old")).with("robot", "arm-4");
        ActionDeclaration::default().add_to(&mut metadata);
        assert_eq!(metadata.get("chiral").unwrap()["action"].as_str(), Some("old"));
        let chiral = Value::Map(vec![("version".into(), 1.into()), ("action".into(), 2.into())]);
        metadata.insert("chiral", chiral);
        ActionDeclaration::new(ActionKind::Delta).add_to(&mut metadata);
        assert_eq!(metadata.get("chiral").unwrap()["version"].as_u64(), Some(1));
        assert_eq!(ActionDeclaration::of_metadata(&metadata).kind, Some(ActionKind::Delta));
        assert_eq!(metadata.len(), 2);
    }

    #[test]
    fn what_cannot_be_read_is_not_declared() {
        let text = |text: &str| Value::from(text);
        let map = |key: &str, value| Value::Map(vec![(text(key), value)]);
        for action in [
            Value::Nil,
            text("absolute"),
            map("kind", text("relative")),
            map("kind", Value::from(7)),
            map("hold", text("zero")),
            map("hold", Value::Array(vec![])),
            map("hold", Value::Array(vec![Value::from(1), Value::Nil])),
        ] {
            assert!(ActionDeclaration::of_metadata(&metadata(action)).is_empty());
        }
        assert!(ActionDeclaration::of_metadata(&Map::new()).is_empty());
        assert!(ActionDeclaration::of_metadata(&Map::new().with("chiral", "1")).is_empty());
    }

    #[test]
    fn whole_numbers_hold_too() {
        let hold = Value::Array(vec![Value::from(0), Value::from(-1)]);
        let action = Value::Map(vec![(Value::from("hold"), hold)]);
        let read = ActionDeclaration::of_metadata(&metadata(action));
        assert_eq!(read.hold, Some(Action::from([0.0, -1.0])));
    }
}
