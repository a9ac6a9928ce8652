"""The robot's contract: what it refuses, clamps and waits for, and what arms it."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from robots import SOON, Arm, wait_until

import chiral

LOW = [-2.9, -1.8, -3.0]
HIGH = [2.9, 1.8, -0.1]


class Declared(Arm):
    """Notes which actions were clamped, and why it was stopped."""

    def __init__(self, **spec):
        options = {name: spec.pop(name) for name in ("watchdog", "max_obs_age") if name in spec}
        super().__init__(action_spec=chiral.ActionSpec(size=3, **spec), **options)
        self.clamped = []
        self.stopped = threading.Event()
        self.dropped = []

    def apply_action(self, action):
        self.clamped.append(self.action_clamped)
        super().apply_action(action)

    def on_stop(self, reason):
        self.events.append(("stop", reason))
        self.stopped.set()

    def on_actions_dropped(self, count, reason):
        self.dropped.append(reason)

    def kinds(self):
        return [event if isinstance(event, str) else event[0] for event in self.events]


def state_of(robot):
    return robot.stats().contract.state


def test_a_robot_refuses_what_is_out_of_bounds_and_a_client_that_knows_them_does_not_send_it():
    with Declared(low=LOW, high=HIGH) as robot, chiral.PolicyClient(robot.uri) as client:
        client.send_action([0.0, 0.0, 2.5])
        client.send_action([0.0, 0.0, -1.0])
        assert robot.acted.wait(SOON)
        assert [list(action) for action in robot.actions] == [[0.0, 0.0, -1.0]]
        assert robot.stats().contract.refused == 1
        assert robot.stats().actions_dropped["refused"] == 1
        wait_until(lambda: robot.dropped)
        assert "element 2 of the action is 2.5, expected -3 to -0.1" in robot.dropped[0]
        client.get_metadata()
        refused = "does not take action 1 of them: element 2 of the action is 2.5, expected -3 to -0.1"
        with pytest.raises(chiral.ActionRejected, match=refused):
            client.put_chunk(client.get_obs(), [[0.0, 0.0, -1.0], [0.0, 0.0, 2.5]])
        assert client.queued_actions == 0
        assert robot.stats().contract.refused == 1


def test_a_robot_clamps_and_is_told_which_actions_are_not_the_policys():
    with Declared(low=LOW, high=HIGH, on_violation="clamp") as robot:
        with chiral.PolicyClient(robot.uri) as client:
            for value in (2.5, -1.0):
                client.send_action([0.0, 9.0 if value > 0 else 0.0, value])
                assert robot.acted.wait(SOON)
                robot.acted.clear()
            assert np.allclose(robot.actions[0], [0.0, 1.8, -0.1]) and robot.clamped == [True, False]
            assert robot.stats().contract.clamped == 1
            client.get_metadata()
            client.put_action([0.0, 0.0, 7.0])
            assert client.stats().actions_clamped == 1


def test_a_robot_that_serves_again_begins_with_an_action_that_is_not_clamped():
    robot = Declared(low=LOW, high=HIGH, on_violation="clamp")
    for value in (2.5, -1.0):
        robot.acted.clear()
        with robot, chiral.PolicyClient(robot.uri) as client:
            client.send_action([0.0, 0.0, value])
            assert robot.acted.wait(SOON)
    assert robot.clamped == [True, False]


@pytest.mark.parametrize(("options", "limit"), [({}, 5.0), ({"max_obs_age": None}, None)])
def test_an_action_on_an_observation_of_long_ago_is_dropped_unless_age_does_not_matter(options, limit):
    with Declared(**options) as robot, chiral.PolicyClient(robot.uri) as client:
        robot.update_image("wrist_cam", 0, captured_at=100.0)
        observation = client.get_obs()
        robot.update_image("wrist_cam", 1, captured_at=110.0)
        client.start_action_dispatch(hz=200)
        client.put_chunk(observation, [[0.0, 0.0, 0.0]])
        wait_until(lambda: robot.actions or robot.dropped)
        assert bool(robot.actions) == (limit is None)
        assert robot.stats().actions_dropped["stale_observation"] == (0 if limit is None else 1)
        client.get_metadata()
        assert client.action_spec.max_obs_age == limit


def test_a_step_is_measured_from_the_last_action_and_the_first_from_where_the_robot_is():
    spec = {"kind": "absolute", "max_step": 0.5, "measured_by": "place"}

    class Moving(Declared):
        def proprio_configs(self):
            return [chiral.ProprioConfig("place", 3)]

    with Moving(**spec) as robot, chiral.PolicyClient(robot.uri) as client:
        client.send_action([1.0, 1.0, 1.0])
        wait_until(lambda: robot.stats().contract.refused == 1)
        wait_until(lambda: robot.dropped)
        assert '"place" has delivered nothing' in robot.dropped[0]
        robot.update_proprio("place", [1.0, 1.0, 1.0])
        for action in ([0.0, 1.0, 1.0], [1.4, 1.0, 1.0], [1.8, 1.0, 1.0], [9.0, 1.0, 1.0]):
            client.send_action(action)
        wait_until(lambda: robot.stats().contract.refused == 3)
        assert np.allclose([action[0] for action in robot.actions], [1.4, 1.8])
    with pytest.raises(chiral.UnknownName, match="no proprio is called 'left'; there are"):
        Declared(max_step=0.1, measured_by="left")


def test_missed_periods_hold_and_then_stop_the_robot_until_it_is_armed():
    spec = {"rate_hz": 50, "stop_after": 10, "arming": "manual"}
    with Declared(**spec) as robot, chiral.PolicyClient(robot.uri) as client:
        assert state_of(robot) == "disarmed"
        client.send_action([0.0, 0.0, 0.0])
        wait_until(lambda: robot.stats().contract.not_armed == 1)
        assert robot.arm() and state_of(robot) == "armed"
        client.send_action([1.0, 0.0, 0.0])
        assert robot.stopped.wait(SOON)
        assert robot.kinds() == ["connect", "watchdog", "stop"]
        assert robot.events[-1][1].startswith("no action has come for ")
        assert state_of(robot) == "stopped" and robot.stats().contract.stops == 1
        client.get_obs()
        status = client.contract_status
        assert status.state == "stopped" and not status.takes_actions and status.missed >= 10
        assert status.success_rate is not None and status.success_rate < 1
        assert str(status).startswith("stopped; ")
        client.send_action([2.0, 0.0, 0.0])
        wait_until(lambda: robot.stats().contract.not_armed == 2)
        client.reset()
        assert state_of(robot) == "stopped", "only its own program arms it"
        assert robot.arm()
        client.get_obs()
        robot.acted.clear()
        client.send_action([3.0, 0.0, 0.0])
        assert robot.acted.wait(SOON)
        assert [action[0] for action in robot.actions] == [1.0, 3.0]
    assert not robot.arm() and not robot.stop_motion()


def test_a_reset_arms_a_robot_that_says_so_and_a_connection_one_that_says_nothing():
    with Declared(arming="reset") as robot, chiral.PolicyClient(robot.uri) as client:
        assert state_of(robot) == "disarmed"
        client.reset()
        assert state_of(robot) == "armed"
    with Declared() as robot, chiral.PolicyClient(robot.uri) as client:
        client.get_metadata()
        assert state_of(robot) == "armed"


def test_the_robots_own_program_stops_its_motion():
    with Declared() as robot, chiral.PolicyClient(robot.uri) as client:
        client.send_action([1.0, 0.0, 0.0])
        assert robot.acted.wait(SOON)
        assert robot.stop_motion() and robot.stopped.wait(SOON)
        assert robot.events[-1] == ("stop", "its own program stopped it")
        assert client.is_connected and state_of(robot) == "stopped"

    # Without an `on_stop` it is the watchdog's to hold still.
    with Arm() as robot, chiral.PolicyClient(robot.uri) as client:
        client.get_metadata()
        robot.stop_motion()
        assert robot.event.wait(SOON) and robot.events[-1] == ("watchdog", 0.0)


def test_a_declared_rate_sets_the_watchdog_unless_it_is_to_be_never():
    with Declared(rate_hz=100) as robot, chiral.PolicyClient(robot.uri) as client:
        client.send_action([0.0, 0.0, 0.0])
        wait_until(lambda: "watchdog" in robot.kinds())
    with Declared(rate_hz=100, hold_after=0) as robot, chiral.PolicyClient(robot.uri) as client:
        client.send_action([0.0, 0.0, 0.0])
        # Time passes a robot with each request.
        wait_until(lambda: client.get_obs() and robot.stats().contract.missed > 5)
        assert "watchdog" not in robot.kinds()


def test_a_client_sees_the_whole_contract():
    declared = chiral.ActionSpec(
        shape=(2, 3),
        kind="velocity",
        hold=np.zeros(6),
        low=-1,
        high=[1, 2, 3, 4, 5, 6],
        max_step=0.25,
        on_violation="clamp",
        rate_hz=20,
        hold_after=3,
        stop_after=9,
        arming="reset",
        dtypes="any",
        allow_non_finite=True,
    )
    with Arm(action_spec=declared, watchdog=5.0, max_obs_age=2.0) as robot:
        with chiral.PolicyClient(robot.uri) as client:
            before = client.action_spec
            assert before.shape is None and before.allow_non_finite and before.dtypes == "any"
            client.get_metadata()
            told = client.action_spec
    assert isinstance(told, chiral.ActionSpec)
    assert (told.size, told.shape, told.kind, told.low, told.max_step) == (None, (2, 3), "velocity", -1, 0.25)
    assert np.array_equal(told.high, declared.high) and np.array_equal(told.hold, declared.hold)
    assert (told.on_violation, told.rate_hz, told.hold_after, told.stop_after) == ("clamp", 20, 3, 9)
    assert (told.arming, told.dtypes, told.allow_non_finite) == ("reset", "any", True)
    assert (told.watchdog, told.max_obs_age) == (5.0, 2.0)
    for words in ("shape [2, 3]", "velocity", "steps of at most 0.25", "armed by a reset"):
        assert words in str(told) and words in str(declared)
    assert chiral.ActionSpec(size=7).size == 7


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({"size": 2, "shape": (2,)}, "found both `size` and `shape`"),
        ({"size": 2, "low": 0}, "found one of `low` and `high`"),
        ({"size": 2, "low": [0, 0, 0], "high": 1}, "found 3 lower bounds, expected 2 or a single one"),
        ({"size": 2, "low": 1, "high": 0}, "dimension 0 has bounds from 1 to 0"),
        ({"size": 2, "low": float("nan"), "high": 0}, "expected two finite numbers"),
        ({"size": 2, "max_step": -1}, "dimension 0 has -1 for its largest step"),
        ({"max_step": 1}, "the largest step: expected actions of a declared shape"),
        ({"size": 2, "rate_hz": 0}, "rate"),
        ({"size": 2, "stop_after": 3}, "found `stop_after` without `rate_hz`"),
        ({"size": 2, "on_violation": "warn"}, 'found on_violation "warn", expected "refuse" or "clamp"'),
        ({"size": 2, "arming": "never"}, 'found arming "never", expected "connect", "reset" or "manual"'),
        ({"size": 2, "kind": "relative"}, 'found the kind "relative"'),
        ({"size": 2, "dtypes": "double"}, 'found dtypes "double"'),
    ],
)
def test_a_contract_that_cannot_be_meant_is_refused_where_it_is_written(spec, text):
    with pytest.raises(ValueError, match=text):
        chiral.ActionSpec(**spec)
