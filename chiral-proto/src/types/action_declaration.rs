use std::time::Duration;

use super::action::Action;
use super::action_kind::ActionKind;
use super::action_limits::{self, Bounds, PerDimension};
use super::action_spec::{ActionSpec, BadLimits};
use super::contract::{Arming, OnViolation};
use super::map::Map;
use super::value::Value;
use crate::Rate;

/// The version of what stands under `action`.
const VERSION: u64 = 1;

/// What a robot declares of its actions, in its metadata: `{"chiral": {"action": {"kind": …, "hold":
/// …}}}`. A robot declares it with the methods of [`ActionSpec`].
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct ActionDeclaration {
    /// What its actions mean.
    pub kind: Option<ActionKind>,
    /// The action that makes it stay where it is: zeros for deltas and velocities.
    pub hold: Option<Action>,
    /// The smallest and the largest number of each dimension.
    pub bounds: Option<Bounds>,
    /// The largest step of each dimension; see [`ActionSpec::max_step`].
    pub max_step: Option<PerDimension>,
    /// How often an action is expected.
    pub rate: Option<Rate>,
    /// After how many missed periods it holds; `None` for never, or without a rate.
    pub hold_after: Option<u32>,
    /// After how many missed periods it stops; `None` for never, or without a rate.
    pub stop_after: Option<u32>,
    /// What becomes of an action that is out of bounds or too large a step.
    pub on_violation: OnViolation,
    /// What arms it.
    pub arming: Arming,
    /// After what time without an action it holds, where that is said as a time:
    /// [`Config::watchdog`](crate::server::Config::watchdog). It goes before `hold_after`.
    pub watchdog: Option<Duration>,
    /// How old the observation may be on which an action was decided:
    /// [`Config::max_obs_age`](crate::server::Config::max_obs_age).
    pub max_obs_age: Option<Duration>,
}

impl ActionDeclaration {
    /// That the robot's actions are of a kind.
    pub fn new(kind: ActionKind) -> Self {
        Self { kind: Some(kind), ..Self::nothing() }
    }

    pub(super) const fn nothing() -> Self {
        Self {
            kind: None,
            hold: None,
            bounds: None,
            max_step: None,
            rate: None,
            hold_after: None,
            stop_after: None,
            on_violation: OnViolation::Refuse,
            arming: Arming::OnConnect,
            watchdog: None,
            max_obs_age: None,
        }
    }

    /// The declaration with the action that makes the robot stay where it is.
    #[must_use]
    pub fn hold(mut self, action: impl Into<Action>) -> Self {
        self.hold = Some(action.into());
        self
    }

    /// What a robot's metadata declares; what cannot be read counts as not declared.
    /// [`ActionSpec::of_metadata`] reads the shape and the dtype too.
    pub fn of_metadata(metadata: &Map) -> Self {
        find(metadata).map(|action| Self::read(&action, None)).unwrap_or_default()
    }

    /// What stands under `action`, of actions with so many elements.
    pub(super) fn read(action: &Value, len: Option<usize>) -> Self {
        let kind = action["kind"].as_str();
        let kind = ActionKind::ALL.into_iter().find(|known| kind == Some(known.name()));
        let hold = numbers(&action["hold"]).map(Action::from);
        let list = |key: &str| numbers(&action[key]).map(PerDimension::from);
        let bounds = list("low").zip(list("high"));
        let bounds = bounds.and_then(|(low, high)| {
            let len = len.or(Some(low.as_slice().len().max(high.as_slice().len())));
            Bounds::new(low, high, len).ok()
        });
        let max_step = list("max_step").and_then(|step| {
            let len = len.or(Some(step.as_slice().len()));
            action_limits::max_step(step, len).ok()
        });
        let periods = |key: &str| action[key].as_u64().and_then(|count| u32::try_from(count).ok());
        let seconds = |key: &str| Duration::try_from_secs_f64(action[key].as_f64()?).ok();
        let on_violation = action["on_violation"].as_str();
        let arming = action["arming"].as_str();
        Self {
            kind,
            hold,
            bounds,
            max_step,
            rate: action["rate"].as_f64().and_then(|hz| Rate::hz(hz).ok()),
            hold_after: periods("hold_after"),
            stop_after: periods("stop_after"),
            on_violation: OnViolation::ALL
                .into_iter()
                .find(|known| on_violation == Some(known.name()))
                .unwrap_or_default(),
            arming: Arming::ALL
                .into_iter()
                .find(|known| arming == Some(known.name()))
                .unwrap_or_default(),
            watchdog: seconds("watchdog"),
            max_obs_age: seconds("max_obs_age"),
        }
    }

    /// Checks the limits, which anybody may have written.
    pub(crate) fn check_limits(&self) -> Result<(), BadLimits> {
        if let Some(Bounds { low, high, .. }) = &self.bounds {
            let len = low.as_slice().len().max(high.as_slice().len());
            Bounds::new(low.clone(), high.clone(), Some(len)).map_err(BadLimits::Bounds)?;
        }
        if let Some(step) = &self.max_step {
            let len = step.as_slice().len();
            action_limits::max_step(step.clone(), Some(len)).map_err(BadLimits::MaxStep)?;
        }
        Ok(())
    }

    /// Whether nothing is declared.
    pub fn is_empty(&self) -> bool {
        *self == Self::nothing()
    }

    /// Whether the robot judges the policy by it.
    pub(crate) fn is_enforced(&self) -> bool {
        let Self { bounds, max_step, rate, arming, .. } = self;
        let has_limits = bounds.is_some() || max_step.is_some() || rate.is_some();
        has_limits || *arming != Arming::OnConnect
    }

    /// Whether nothing is declared of which a policy would be told.
    fn is_silent(&self) -> bool {
        let [hold_after, stop_after] = [self.hold_after, self.stop_after].map(|n| self.rate.and(n));
        Self { watchdog: None, max_obs_age: None, hold_after, stop_after, ..self.clone() }
            .is_empty()
    }

    fn entries(&self) -> Vec<(Value, Value)> {
        let mut entries = Vec::new();
        let mut add = |key: &str, value: Option<Value>| {
            entries.extend(value.map(|value| (Value::from(key), value)));
        };
        let list = |numbers: &[f32]| {
            Value::Array(numbers.iter().map(|&number| Value::from(number)).collect())
        };
        let seconds = |time: Duration| Value::from(time.as_secs_f64());
        add("kind", self.kind.map(|kind| kind.name().into()));
        add("hold", self.hold.as_ref().map(|hold| list(&hold.to_f32())));
        add("low", self.bounds.as_ref().map(|bounds| list(bounds.low.as_slice())));
        add("high", self.bounds.as_ref().map(|bounds| list(bounds.high.as_slice())));
        add("max_step", self.max_step.as_ref().map(|step| list(step.as_slice())));
        if self.bounds.is_some() || self.max_step.is_some() {
            add("on_violation", Some(self.on_violation.name().into()));
        }
        add("rate", self.rate.map(|rate| rate.as_hz().into()));
        add("hold_after", self.rate.and(self.hold_after).map(Value::from));
        add("stop_after", self.rate.and(self.stop_after).map(Value::from));
        add("arming", Some(self.arming.name().into()));
        add("watchdog", self.watchdog.map(seconds));
        add("max_obs_age", self.max_obs_age.map(seconds));
        entries
    }
}

impl ActionSpec {
    /// What a robot's metadata declares of its actions; what cannot be read counts as not declared,
    /// and so does everything that is of another version. For a robot that declares no contract it is
    /// [`ActionSpec::any`], which lets NaN, infinities and empty actions through: what they mean to it
    /// is not known.
    pub fn of_metadata(metadata: &Map) -> Self {
        let unknown = Self::any().allow_empty().allow_non_finite();
        let Some(action) = find(metadata) else { return unknown };
        let is_contract = !action["v"].is_nil();
        Self::read(&action, if is_contract { Self::any() } else { unknown })
    }

    /// What a server with this specification adds to its metadata, and
    /// [`of_metadata`](Self::of_metadata) reads: for a program that shows it in a form of its own. Empty
    /// where nothing is declared.
    ///
    /// ```
    /// use chiral_proto::ActionSpec;
    ///
    /// let told = ActionSpec::vector(7).bounds(-1.0, 1.0).to_metadata();
    /// assert_eq!(told.get("chiral").unwrap()["action"]["high"][0].as_f64(), Some(1.0));
    /// ```
    pub fn to_metadata(&self) -> Map {
        let mut metadata = Map::new();
        self.add_to(&mut metadata);
        metadata
    }

    /// The metadata with what is declared under `chiral`, beside what stands there already.
    pub(crate) fn add_to(&self, metadata: &mut Map) {
        let declared = self.declaration();
        let form = self.form();
        if declared.is_silent() && form.is_empty() {
            return;
        }
        let mut chiral = match metadata.get("chiral") {
            Some(Value::Map(entries)) => entries,
            _ => Vec::new(),
        };
        chiral.retain(|(key, _)| key.as_str() != Some("action"));
        let mut entries = vec![(Value::from("v"), Value::from(VERSION))];
        entries.extend(form);
        entries.extend(self.exceptions());
        entries.extend(declared.entries());
        chiral.push(("action".into(), Value::Map(entries)));
        metadata.insert("chiral", Value::Map(chiral));
    }
}

/// What stands under `action`, if it is of the version that is known; it began without one.
fn find(metadata: &Map) -> Option<Value> {
    let chiral = metadata.get("chiral")?;
    let action = &chiral["action"];
    let is_known = match &action["v"] {
        Value::Nil => true,
        version => version.as_u64() == Some(VERSION),
    };
    is_known.then(|| action.clone())
}

/// A list of numbers, not empty.
fn numbers(value: &Value) -> Option<Vec<f64>> {
    let numbers = value.as_array().filter(|numbers| !numbers.is_empty())?;
    numbers.iter().map(Value::as_f64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(action: Value) -> Map {
        let chiral = Value::Map(vec![(Value::from("action"), action)]);
        Map::new().with("robot", "arm-3").with("chiral", chiral)
    }

    /// The metadata of a robot that declares this.
    fn told(spec: &ActionSpec) -> Map {
        let mut metadata = Map::new().with("robot", "arm-3");
        spec.add_to(&mut metadata);
        metadata
    }

    fn spec_of(declared: &ActionDeclaration) -> ActionSpec {
        let mut spec = ActionSpec::any();
        *spec.declaration_mut() = declared.clone();
        spec
    }

    #[test]
    fn a_whole_contract_is_read_back() {
        let contract = ActionSpec::vector(2)
            .kind(ActionKind::Absolute)
            .hold([0.0, 0.5])
            .bounds([-1.0, -0.5], 1.0)
            .max_step(0.1)
            .rate(Rate::hz(50).unwrap())
            .hold_after(2)
            .stop_after(20)
            .on_violation(OnViolation::Clamp)
            .arming(Arming::OnReset);
        let exact = ActionSpec::shape([2, 3]).dtypes(crate::DtypeKind::Integer).bounds(0.0, 7.5);
        let loose = ActionSpec::vector(7).allow_empty().allow_non_finite();
        for mut spec in [contract, exact, loose, ActionSpec::vector(7)] {
            spec.declaration_mut().max_obs_age = Some(Duration::from_millis(1500));
            spec.declaration_mut().watchdog = Some(Duration::from_millis(250));
            assert_eq!(ActionSpec::of_metadata(&told(&spec)), spec);
            assert_eq!(ActionSpec::of_metadata(&spec.to_metadata()), spec);
            assert_eq!(ActionDeclaration::of_metadata(&told(&spec)), *spec.declaration());
        }
    }

    #[test]
    fn a_robot_that_declares_nothing_adds_nothing_and_is_sent_anything() {
        // Periods mean nothing without a rate.
        let mut silent = ActionSpec::any().hold_after(0).stop_after(9);
        silent.declaration_mut().max_obs_age = Some(Duration::from_secs(5));
        assert_eq!(told(&silent), Map::new().with("robot", "arm-3"));
        let unknown = ActionSpec::of_metadata(&told(&silent));
        assert!(unknown.declaration().is_empty());
        assert_eq!(unknown.check(&Action::from([f32::NAN])), Ok(()));
    }

    #[test]
    fn a_declaration_of_another_version_is_not_read() {
        let version = |version: Value| {
            let entries = [("v", version), ("kind", "delta".into()), ("later", 1.into())];
            let entries = entries.map(|(key, value)| (Value::from(key), value));
            ActionDeclaration::of_metadata(&metadata(Value::Map(entries.into())))
        };
        assert_eq!(version(1.into()).kind, Some(ActionKind::Delta));
        for other in [Value::from(2), "1".into(), Value::from(true)] {
            assert!(version(other).is_empty());
        }
    }

    #[test]
    fn what_is_declared_is_read_back() {
        for kind in ActionKind::ALL {
            for declared in
                [ActionDeclaration::new(kind), ActionDeclaration::new(kind).hold([0.0, 1.5])]
            {
                let read = ActionDeclaration::of_metadata(&told(&spec_of(&declared)));
                assert_eq!(read, declared);
            }
        }
    }

    #[test]
    fn a_declaration_keeps_what_stands_beside_it() {
        let mut metadata = metadata(Value::from("old")).with("robot", "arm-4");
        ActionSpec::any().add_to(&mut metadata);
        assert_eq!(metadata.get("chiral").unwrap()["action"].as_str(), Some("old"));
        let chiral = Value::Map(vec![("version".into(), 1.into()), ("action".into(), 2.into())]);
        metadata.insert("chiral", chiral);
        ActionSpec::any().kind(ActionKind::Delta).add_to(&mut metadata);
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
            map("low", Value::Array(vec![Value::from(1)])),
            map("max_step", Value::Array(vec![Value::from(-1)])),
            map("rate", Value::from(0)),
            map("stop_after", Value::from(-1)),
            map("arming", text("never")),
            map("max_obs_age", Value::from(f64::NAN)),
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
