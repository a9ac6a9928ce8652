//! `chiral send`: one action, or a few, by hand.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chiral_proto::{Action, ActionError, ActionSpec, Array, Map, OnViolation, Rate, Value};
use clap::Args;

use crate::access::ClientAccess;
use crate::ticks::Ticks;
use crate::usage::{UsageError, ensure_usage};
use crate::{args, client, output};

#[derive(Args)]
pub(crate) struct Options {
    /// Where the robot is: HOST:PORT, or a URI.
    uri: String,

    /// An action: its values, separated by commas, as in 0,-0.5,1. Several, each with an --action
    /// of its own, are sent one after the other.
    #[arg(
        short,
        long = "action",
        required = true,
        value_name = "VALUES",
        allow_hyphen_values = true,
        value_parser = values
    )]
    actions: Vec<Values>,

    /// How often an action is sent.
    #[arg(long, value_name = "HZ", default_value = "10", value_parser = args::rate)]
    rate: Rate,

    /// How long to stay connected after the last action: a robot holds still when its policy goes.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = args::seconds)]
    stay: Duration,

    /// How long to send the last action again and again, at the rate: for an action that the robot
    /// follows only while it comes, such as a velocity, or one that takes longer than its watchdog
    /// allows.
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = args::seconds)]
    hold: Duration,

    /// Show and check what would be sent, and send nothing.
    #[arg(long)]
    dry_run: bool,

    /// How long to wait for the robot, and then for each of its answers.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = args::seconds)]
    timeout: Duration,

    #[command(flatten)]
    access: ClientAccess,
}

/// The elements of an action.
#[derive(Debug, Clone, PartialEq)]
struct Values(Vec<f32>);

fn values(text: &str) -> Result<Values, String> {
    let value = |text: &str| {
        let value = text.trim().parse::<f32>().ok().filter(|value| value.is_finite());
        value.ok_or_else(|| format!("found {text:?}, expected a finite number, as in 0,-0.5,1"))
    };
    text.split(',').map(value).collect::<Result<_, _>>().map(Values)
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let robot = client::connect(&args::uri(&options.uri), options.timeout, &options.access)?;
    let metadata = robot.metadata().context("the robot did not describe itself")?;
    let shape = shape_in(&metadata);
    let actions = options.actions.iter().map(|values| action(values, shape.as_deref()));
    let actions = actions.collect::<anyhow::Result<Vec<Action>>>()?;
    if shape.is_none() {
        output::note("the robot does not say what shape its actions have: they are not checked");
    }
    let contract = robot.contract();
    for (index, action) in actions.iter().enumerate() {
        judge(&contract, index, action)?;
    }
    let mut ticks = Ticks::starting(Instant::now(), options.rate);
    let mut wait_for_tick = move || {
        let now = Instant::now();
        thread::sleep(ticks.next(now).duration_since(now));
    };
    for (index, action) in actions.iter().enumerate() {
        if index > 0 && !options.dry_run {
            wait_for_tick();
        }
        let verb = if options.dry_run { "would send" } else { "sent" };
        if !options.dry_run {
            robot.send_action(action.clone())?;
        }
        let shape = action.values.shape();
        output::print(&format!("{verb} float32 {shape}: {:?}\n", action.to_f32()))?;
    }
    if !options.dry_run {
        if let Some(last) = actions.last() {
            let end = Instant::now().checked_add(options.hold);
            while end.is_none_or(|end| Instant::now() + options.rate.period() <= end) {
                wait_for_tick();
                robot.send_action(last.clone())?;
            }
        }
        thread::sleep(options.stay);
        // If the robot refused an action, it has closed the connection by now.
        robot.metadata().context("the robot did not take the actions")?;
    }
    client::close(robot)
}

/// Refuses an action that the robot would refuse, and tells of one that it would clamp.
fn judge(contract: &ActionSpec, index: usize, action: &Action) -> anyhow::Result<()> {
    let Err(error) = contract.check(action) else { return Ok(()) };
    let is_clamped = contract.declaration().on_violation == OnViolation::Clamp
        && matches!(error, ActionError::OutOfBounds { .. } | ActionError::TooLong { .. });
    ensure_usage!(is_clamped, "action {index}: {error}");
    output::note(&format!("action {index} is clamped: {error}"));
    Ok(())
}

/// The shape of an action, where the metadata has one: `action: {shape: […]}`, as robots of this
/// program say it, or `action_shape: […]`.
fn shape_in(metadata: &Map) -> Option<Vec<usize>> {
    let of_action = metadata.get("action").map(|action| action["shape"].clone());
    let Value::Array(sides) = of_action.or_else(|| metadata.get("action_shape"))? else {
        return None;
    };
    sides.iter().map(|side| side.as_u64().and_then(|side| side.try_into().ok())).collect()
}

/// An action of these values, in the robot's shape if it says one.
fn action(Values(values): &Values, shape: Option<&[usize]>) -> anyhow::Result<Action> {
    let found = values.len();
    let own_shape = [found];
    let shape = shape.unwrap_or(&own_shape);
    let expected = shape.iter().try_fold(1_usize, |product, &side| product.checked_mul(side));
    ensure_usage!(
        expected == Some(found),
        "found an action of {found} values, expected the robot's shape {shape:?}"
    );
    Ok(Array::from_vec(shape, values.clone()).map_err(UsageError::new)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use chiral_proto::map;

    #[test]
    fn values_are_finite_numbers() {
        assert_eq!(values("0, -0.5,1e-3"), Ok(Values(vec![0.0, -0.5, 1e-3])));
        for text in ["", "1,", "x", "nan", "1,inf", "1e99", "1;2"] {
            assert!(values(text).unwrap_err().contains("as in 0,-0.5,1"), "{text}");
        }
    }

    #[test]
    fn the_shape_is_found_in_either_place() {
        let shape = || Value::from([1, 7]);
        let nested = map! { "shape" => shape() };
        assert_eq!(shape_in(&Map::new().with("action", nested)), Some(vec![1, 7]));
        assert_eq!(shape_in(&Map::new().with("action_shape", shape())), Some(vec![1, 7]));
        for other in [Value::Nil, "7".into(), [-1].into()] {
            assert_eq!(shape_in(&Map::new().with("action_shape", other.clone())), None);
            assert_eq!(shape_in(&Map::new().with("action", other)), None);
        }
    }

    #[test]
    fn an_action_has_the_robots_shape_or_is_refused() {
        let values = Values(vec![0.5; 7]);
        assert_eq!(*action(&values, None).unwrap().values.shape(), [7]);
        assert_eq!(*action(&values, Some(&[1, 7])).unwrap().values.shape(), [1, 7]);
        for shape in [&[6][..], &[0], &[usize::MAX, 2], &[2, 7]] {
            let error = action(&values, Some(shape)).unwrap_err();
            assert!(UsageError::is_behind(&error), "{error}");
        }
    }
}
