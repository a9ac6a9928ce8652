"""Every documented name, default and behaviour of both sides."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import time

import numpy as np
import pytest
from robots import SOON, K, T, wait_until

import chiral


def parameters(function):
    found = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in found if p.name != "self"}


def test_config_dataclasses_have_the_documented_order_and_defaults():
    camera = chiral.CameraConfig("cam", 480, 640)
    assert [f.name for f in dataclasses.fields(camera)] == [
        "name",
        "height",
        "width",
        "channels",
        "has_depth",
        "intrinsics",
        "extrinsics",
        "image_dtype",
        "depth_dtype",
    ]
    assert (camera.channels, camera.has_depth) == (3, False)
    assert (camera.image_dtype, camera.depth_dtype) == (np.uint8, np.float32)
    assert np.array_equal(camera.intrinsics, np.eye(3)) and camera.intrinsics.dtype == np.float64
    assert np.array_equal(camera.extrinsics, np.eye(4)) and camera.extrinsics.dtype == np.float64
    assert chiral.ProprioConfig("joints", 7) == chiral.ProprioConfig("joints", 7, np.float32)


def test_constructors_and_calls_have_the_documented_defaults():
    client = parameters(chiral.PolicyClient.__init__)
    assert list(client)[:2] == ["uri", "protocol"] and client["protocol"] == "websocket"
    assert chiral.PolicyClient().uri == "ws://localhost:8765"
    server = parameters(chiral.PolicyServer.__init__)
    assert list(server)[:3] == ["host", "port", "protocol"]
    assert (server["host"], server["protocol"]) == ("0.0.0.0", "websocket")
    assert server["max_obs_age"] == 5.0
    assert parameters(chiral.PolicyClient.start_obs_stream) == {"hz": 30.0}
    assert parameters(chiral.PolicyClient.start_action_dispatch) == {"hz": 10.0}
    assert parameters(chiral.PolicyServer._make_obs) == {"timestamp": 0.0, "copy": False}

    class Bare(chiral.PolicyServer):
        def camera_configs(self):
            return []

    assert Bare().port == 8765
    if chiral._core.has_zenoh:
        assert Bare(protocol="zenoh").port == 7447
        assert chiral.PolicyClient(protocol="zenoh").uri == "tcp/localhost:7447"
    else:
        with pytest.raises(ValueError, match="no Zenoh"):
            Bare(protocol="zenoh")
    with pytest.raises(ValueError, match="found the protocol 'tcp'"):
        chiral.PolicyClient(protocol="tcp")
    with pytest.raises(NotImplementedError, match="camera_configs"):
        chiral.PolicyServer()
    assert chiral.__implementation__ == "chiral-rs"


def test_an_observation_is_a_real_dataclass():
    info = chiral.CameraInfo("cam", np.eye(3), np.eye(4), np.zeros((2, 2, 3), np.uint8))
    assert (info.depth, info.timestamp) == (None, 0.0)
    observation = chiral.Observation([info])
    assert (observation.proprios, observation.timestamp, observation.extra) == ({}, 0.0, {})
    assert observation["cam"] is info and list(observation) == [info] and "cam" in observation
    with pytest.raises(KeyError, match="no camera is called 'other'; there are: 'cam'"):
        observation["other"]
    changed = dataclasses.replace(observation, timestamp=2.0)
    assert changed.timestamp == 2.0 and changed.cameras is observation.cameras
    assert dataclasses.asdict(observation)["cameras"][0]["name"] == "cam"
    assert pickle.loads(pickle.dumps(observation))["cam"].image.shape == (2, 2, 3)


def test_requests_are_answered(any_arm):
    any_arm.update_image("wrist_cam", np.full((48, 64, 3), 9, np.uint8))
    with chiral.PolicyClient(any_arm.uri) as client:
        assert client.get_metadata()["robot"] in ("arm-3", "arm-4")
        observation, info = client.reset()
        assert info in ({"object": "ball"}, {"async": True})
        assert client.latest_obs is observation
        again = client.get_obs()
        assert again is not observation and client.latest_obs is again
        assert (again["wrist_cam"].image == 9).all()
        assert [camera.name for camera in again] == ["wrist_cam", "top_cam"]
        for _ in range(20):
            client.get_obs()
    assert len(getattr(any_arm, "loops", {0})) == 1, "coroutines run in one event loop"


def test_metadata_of_any_value_arrives(client):
    assert client.get_metadata() == {
        "robot": "arm-3",
        "hz": 50,
        "limits": [0.5, None, True],
        "nested": {"a": b"\x00\x01"},
    }


def test_free_form_values_keep_their_types(arm):
    values = {
        "int": -5,
        "wide": 2**64 - 1,
        "float": 2.0,
        "text": "grün",
        "tuple": (1, 2),
        "array": np.arange(3),
        "scalar": np.float32(0.5),
        "ext": chiral.ExtType(5, b"xy"),
        "map": {1: "one", "two": [None, False]},
    }
    arm.get_metadata = lambda: values
    with chiral.PolicyClient(arm.uri) as client:
        found = client.get_metadata()
    assert found == values | {"tuple": [1, 2], "array": [0, 1, 2], "scalar": 0.5}
    assert type(found["float"]) is float and type(found["int"]) is int
    for bad in ({"x": object()}, {3: 1}, {"x": 2**64}, [1]):
        with pytest.raises((TypeError, ValueError), match="found"):
            arm.set_extra(bad)
    deep = {}
    for _ in range(100):
        deep = {"deeper": deep}
    with pytest.raises(ValueError, match="nested"):
        arm.set_extra(deep)


def test_sensors_arrive_as_they_were_published(arm, client):
    rng = np.random.default_rng(1)
    image = rng.integers(0, 255, (48, 64, 3), np.uint8)
    depth = rng.random((48, 64), np.float32)
    before = time.monotonic()
    arm.update_image("wrist_cam", image)
    arm.update_depth("wrist_cam", depth)
    arm.update_intrinsics("wrist_cam", K + 1)
    arm.update_extrinsics("wrist_cam", T + 1)
    arm.update_proprio("joints", np.arange(7))
    arm.set_extra({"phase": "grasp"})
    observation = client.get_obs()
    wrist = observation["wrist_cam"]
    assert np.array_equal(wrist.image, image) and wrist.image.dtype == np.uint8
    assert np.array_equal(wrist.depth, depth) and wrist.depth.dtype == np.float32
    assert np.array_equal(wrist.intrinsics, K + 1) and np.array_equal(wrist.extrinsics, T + 1)
    assert before <= wrist.timestamp <= time.monotonic()
    assert observation["top_cam"].depth is None and observation["top_cam"].timestamp == 0.0
    assert np.array_equal(observation.proprios["joints"], np.arange(7, dtype=np.float32))
    assert observation.extra["phase"] == "grasp"
    # All of one moment, and when it was.
    arm.publish("wrist_cam", image=image + 1, depth=depth * 2, K=K, T=T, captured_at=12.5)
    wrist = client.get_obs()["wrist_cam"]
    assert np.array_equal(wrist.image, image + 1) and np.array_equal(wrist.depth, depth * 2)
    assert np.array_equal(wrist.intrinsics, K) and np.array_equal(wrist.extrinsics, T)
    assert wrist.timestamp == 12.5


def test_updates_take_what_numpy_copies_and_refuse_the_rest(arm, client):
    image = np.arange(48 * 64 * 3, dtype=np.uint8).reshape(48, 64, 3)
    arm.update_image("wrist_cam", image[..., ::-1])
    assert np.array_equal(client.get_obs()["wrist_cam"].image, image[..., ::-1])
    arm.update_image("wrist_cam", 7)
    assert (client.get_obs()["wrist_cam"].image == 7).all()
    arm.update_depth("wrist_cam", np.ones((48, 64), np.float16))
    assert (client.get_obs()["wrist_cam"].depth == 1).all()
    arm.update_image("wrist_cam", image.astype(">u1"))
    with pytest.raises(TypeError, match="cast"):
        arm.update_image("wrist_cam", image.astype(np.float32))
    with pytest.raises(ValueError, match="broadcast"):
        arm.update_image("wrist_cam", np.zeros((24, 32, 3), np.uint8))
    with pytest.raises(chiral.SensorError, match="no depth map"):
        arm.update_depth("top_cam", np.zeros((24, 32), np.float32))
    with pytest.raises(ValueError, match="intrinsics of shape"):
        arm.update_intrinsics("wrist_cam", np.eye(4))
    for update in (arm.update_image, arm.update_depth, arm.update_proprio):
        with pytest.raises(KeyError, match="is called 'left'; there are"):
            update("left", image)
    assert np.array_equal(client.get_obs()["wrist_cam"].image, image), "the last good one stays"


def test_arrays_of_every_dtype_arrive(arm):
    dtypes = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64".split()

    class Zoo(type(arm)):
        def camera_configs(self):
            return [chiral.CameraConfig(d, 40, 50, 3, image_dtype=d) for d in dtypes]

        def proprio_configs(self):
            return [chiral.ProprioConfig(d, 3, np.dtype(d)) for d in dtypes]

    with Zoo() as zoo, chiral.PolicyClient(zoo.uri) as client:
        images = {d: (np.arange(6000) % 2).reshape(40, 50, 3).astype(d) for d in dtypes}
        for dtype, image in images.items():
            zoo.update_image(dtype, image)
            zoo.update_proprio(dtype, image[0, 0])
        observation = client.get_obs()
        for dtype, image in images.items():
            found = observation[dtype].image
            assert found.dtype == dtype and np.array_equal(found, image)
            assert np.array_equal(observation.proprios[dtype], image[0, 0])


def test_the_stream_keeps_the_latest_and_next_obs_waits_for_newer_ones(arm, client):
    assert client.latest_obs is None
    assert client.next_obs(timeout=0.02) is None
    client.start_obs_stream(hz=200)
    first = client.next_obs(timeout=SOON)
    second = client.next_obs(timeout=SOON)
    assert first is not None and second is not None and first is not second
    client.stop_obs_stream()
    time.sleep(0.1)
    assert client.latest_obs is client.latest_obs
    assert client.stats().observations.count >= 2


def test_actions_are_sent_on_ticks_in_order(arm, client):
    client.start_action_dispatch(hz=100)
    for n in range(5):
        client.put_action([n, n + 0.5])
    wait_until(lambda: len(arm.actions) == 5)
    assert [list(action) for action in arm.actions] == [[n, n + 0.5] for n in range(5)]
    assert all(a.dtype == np.float32 and a.shape == (2,) for a in arm.actions)
    client.stop_action_dispatch()
    client.put_action(np.array([1, 2], np.int64))
    assert client.queued_actions == 1 and len(client._action_queue) == 1
    client._action_queue.append((3.0, 4.0))
    client._action_queue.clear()
    assert client.queued_actions == 0 and client.clear_actions() == 0


def test_chunks_and_plans(arm, client):
    observation = client.get_obs()
    rows = np.arange(14, dtype=np.float64).reshape(7, 2)
    client.put_chunk(observation, rows)
    assert client.queued_actions == 7
    assert client.replace_actions(observation, [np.array([9.0, 9.0])] * 3) == 7
    assert client.queued_actions == 3
    placed = client.follow(observation, rows)
    assert (placed.base, placed.skipped, placed.replaced, placed.first) == (0, 0, 3, 0)
    context = client.plan_context(observation)
    assert context.base == 0 and context.spans[0].rows == slice(0, 7, 1)
    assert context.spans[0].chunk == placed.chunk and context.delay == (0, 0)
    mixed = client.follow(
        observation, rows, merge=("crossfade", 3), average_only=[0], max_delay=9, when_late="discard"
    )
    assert mixed.blended == 3 and not mixed.late
    assert client.follow(observation, rows, anchor="end", merge="append").base == 7
    assert client.follow(observation, rows, anchor="next", merge=("keep_first", 2)).kept == 2
    assert client.follow(observation, rows, anchor=2).base == 2
    client.refill_at(100)
    assert client.plan_low(timeout=SOON)
    client.refill_at(0)
    assert not client.plan_low(timeout=0.02)
    with pytest.raises(ValueError, match=r"found an array of shape \[2\]"):
        client.put_chunk(observation, [1.0, 2.0])
    with pytest.raises(ValueError, match="found the anchor"):
        client.follow(observation, rows, anchor="start")
    with pytest.raises(TypeError, match="found the merge"):
        client.follow(observation, rows, merge="mix")
    # One that was made anew is bound by its cameras' timestamps, and cannot be followed.
    made = dataclasses.replace(observation, timestamp=3.0)
    client.replace_actions(made, rows)
    with pytest.raises(chiral.ActionRejected, match="did not come through this connection"):
        client.follow(made, rows)
    client.reset()
    with pytest.raises(chiral.ActionRejected, match="before the last reset"):
        client.put_chunk(observation, rows)


def test_starving_and_interpolation_need_to_know_what_actions_are(arm, client):
    with pytest.raises(chiral.ActionRejected, match="absolute"):
        client.set_starved("repeat")
    client.declare_actions("absolute", hold=[0.0, 0.0])
    client.set_starved("repeat")
    client.set_starved("declared")
    client.set_starved([1.0, 2.0])
    client.interpolate(5)
    client.interpolate(1)
    client.set_starved(None)
    with pytest.raises(ValueError, match='found "stop"'):
        client.set_starved("stop")


def test_send_action_leaves_at_once_without_a_dispatch(arm, client):
    client.send_action([1.0, 2.0, 3.0])
    assert arm.acted.wait(SOON)
    assert list(arm.actions[0]) == [1.0, 2.0, 3.0]


def test_actions_are_whatever_numpy_takes(arm, client):
    for action in (0.5, [1, 2], (1.0,), np.ones((2, 3)), np.float32(1), [[1, 2], [3, 4]]):
        client.put_action(action)
    for bad in ("north", [[1, 2], [3]], {"x": 1}, None):
        with pytest.raises((TypeError, ValueError)):
            client.put_action(bad)
    assert client.queued_actions == 6


def test_a_bounded_queue_is_full_and_an_unbounded_one_warns_once(arm, caplog):
    with chiral.PolicyClient(arm.uri, queue_capacity=3) as client:
        for _ in range(3):
            client.put_action([0.0])
        with pytest.raises(chiral.QueueFull, match="3 of 3 places"):
            client.put_action([0.0])
    with chiral.PolicyClient(arm.uri) as client:
        for _ in range(2500):
            client.put_action([0.0])
        assert client.queued_actions == 2500
        wait_until(lambda: "in the queue: they are put faster" in caplog.text)
    assert caplog.text.count("1000 actions wait in the queue: they are put faster") == 1


def test_the_coupled_step(arm, client):
    observation, reward, terminated, truncated, info = client.step([[1, 2], [3, 4]])
    assert (reward, terminated, truncated, info) == (0.0, False, False, {})
    assert observation["top_cam"].image.shape == (24, 32, 3)
    assert [list(action) for action in arm.actions] == [[1, 2], [3, 4]]

    class Stepping(type(arm)):
        def step(self, action):
            return self._make_obs(), 1.5, True, False, {"rows": len(action)}

    with Stepping() as robot, chiral.PolicyClient(robot.uri) as client:
        assert client.step([1.0, 2.0])[1:] == (1.5, True, False, {"rows": 1})


def test_arrays_taken_out_are_written_in_place(arm, client):
    assert list(arm.images) == ["wrist_cam", "top_cam"] and len(arm.depths) == 1
    arm.update_image("wrist_cam", 3, captured_at=5.0)
    assert "wrist_cam" in arm.images and "left" not in arm.images
    with arm._locks["wrist_cam"]:
        assert arm._locks["wrist_cam"].locked()
        arm.images["wrist_cam"][:] = 42
        arm.depths["wrist_cam"][:] = 0.25
    arm.intrinsics["wrist_cam"][0, 0] = 123.0
    arm.extrinsics["top_cam"][:] = T * 2
    arm.proprios["joints"][:] = 6
    wrist = client.get_obs()["wrist_cam"]
    assert (wrist.image == 42).all() and (wrist.depth == 0.25).all()
    assert wrist.timestamp == 5.0, "only an update stamps"
    assert wrist.intrinsics[0, 0] == 123.0 and wrist.intrinsics[1, 1] == 601.0
    made = arm._make_obs()
    assert np.array_equal(made["top_cam"].extrinsics, T * 2)
    assert (made.proprios["joints"] == 6).all()
    # Updates go to the same arrays.
    arm.update_image("wrist_cam", 17)
    arm.update_proprio("joints", 5)
    assert (arm.images["wrist_cam"] == 17).all() and (arm.proprios["joints"] == 5).all()
    assert client.get_obs()["wrist_cam"].timestamp > 5.0
    arm.images["wrist_cam"] = np.uint8(1)
    assert (client.get_obs()["wrist_cam"].image == 1).all()
    with pytest.raises(KeyError):
        arm.images["left"]


def test_a_camera_lock_is_a_lock(arm):
    lock = arm._locks["wrist_cam"]
    assert lock.acquire()
    assert not lock.acquire(blocking=False) and not lock.acquire(timeout=0.02)
    lock.release()
    with pytest.raises(RuntimeError, match="not held"):
        lock.release()


def test_buffers_are_filled_in_place_and_published_without_a_copy(arm, client):
    for n in range(6):
        image, depth = arm.image_buffer("wrist_cam"), arm.depth_buffer("wrist_cam")
        image[:] = n
        depth[:] = n / 2
        arm.publish("wrist_cam", image=image, depth=depth)
        assert not image.flags.writeable
        found = client.get_obs()["wrist_cam"]
        assert (found.image == n).all() and (found.depth == n / 2).all()
        made = arm._make_obs()["wrist_cam"].image
        assert made.__array_interface__["data"][0] == image.__array_interface__["data"][0]
    with pytest.raises(ValueError, match="WRITEABLE"):
        image.flags.writeable = True
    with pytest.raises(RuntimeError, match="published already"):
        arm.update_image("wrist_cam", image)
    part = arm.image_buffer("top_cam")
    part[:] = 8
    arm.update_image("top_cam", part[::-1])
    assert part.flags.writeable and (client.get_obs()["top_cam"].image == 8).all()
    with pytest.raises(chiral.SensorError, match="no depth"):
        arm.depth_buffer("top_cam")


def test_wait_ready_names_the_sensors_that_are_missing(arm):
    arm.update_image("wrist_cam", 0)
    arm.update_proprio("joints", 0)
    with pytest.raises(TimeoutError, match='from "top_cam", "gripper" within'):
        arm.wait_ready(timeout=0.05)
    arm.update_image("top_cam", 0)
    arm.update_proprio("gripper", 0)
    arm.wait_ready(timeout=SOON)
    first = arm.wait_next_frame("top_cam", timeout=SOON)
    assert first == 1 and arm.wait_next_frame("top_cam", first, timeout=0.02) is None
    with pytest.raises(KeyError, match="left"):
        arm.wait_next_frame("left")


def test_statistics(arm, client):
    assert arm.stats() is not None
    client.get_obs()
    client.send_action([0.0])
    assert arm.acted.wait(SOON)
    stats = client.stats()
    assert stats.observations.count == 1 and stats.round_trip.count == 1
    assert 0 < stats.round_trip.p50 <= stats.round_trip.max < SOON
    assert "round trip" in str(stats) and stats.actions.count == 1
    served = arm.stats()
    assert served.observations.count == 1 and served.actions.count == 1
    assert set(served.camera_ages) == {"wrist_cam", "top_cam"} and "observations" in str(served)
    assert repr(client) == f"PolicyClient({client.uri!r}, connected)"


def test_an_action_specification_keeps_other_actions_from_the_robot(caplog):
    from robots import Arm

    spec = chiral.ActionSpec(size=2, kind="velocity", hold=[0.0, 0.0])
    with Arm(action_spec=spec) as robot, chiral.PolicyClient(robot.uri) as client:
        client.send_action([1.0, 2.0, 3.0])
        client.send_action([float("nan"), 0.0])
        client.send_action([1.0, 2.0])
        assert robot.acted.wait(SOON)
        assert len(robot.actions) == 1
        wait_until(lambda: robot.stats().actions_dropped["refused"] == 2)
        # From here on the client knows what the robot takes.
        assert client.get_metadata()["chiral"]["action"]["kind"] == "velocity"
        with pytest.raises(chiral.ActionRejected, match=r"shape \[3\], expected \[2\]"):
            client.send_action([1.0, 2.0, 3.0])
        with pytest.raises(chiral.ActionRejected, match="does not take the step"):
            client.step([1.0, 2.0, 3.0])
        assert sum(robot.stats().actions_dropped.values()) == 2
    with pytest.raises(ValueError, match="found both"):
        Arm(action_spec=chiral.ActionSpec(size=2, shape=(2,))).start()


def test_the_watchdog_tells_the_robot_to_hold():
    from robots import Arm

    with Arm(watchdog=0.05) as robot, chiral.PolicyClient(robot.uri):
        wait_until(lambda: any(e[0] == "watchdog" for e in robot.events))
    kinds = [e if isinstance(e, str) else e[0] for e in robot.events]
    assert kinds[0] == "connect" and kinds[-1] == "disconnect"


def test_a_second_policy_is_refused_or_takes_over(arm, client):
    with pytest.raises(chiral.ConnectFailed, match="already has a policy"):
        chiral.PolicyClient(arm.uri, connect_timeout=0.5).connect()
    from robots import Arm

    with Arm(on_second="replace") as robot, chiral.PolicyClient(robot.uri) as first:
        with chiral.PolicyClient(robot.uri) as second:
            assert second.get_metadata()["robot"] == "arm-3"
            wait_until(lambda: not first.is_connected)
            assert "another policy has taken the robot over" in first.error


def test_bad_options_are_told(arm):
    from robots import Arm

    with pytest.raises(ValueError, match='found on_second "queue"'):
        Arm(on_second="queue").start()
    with pytest.raises(ValueError, match="found the action_queue"):
        Arm(action_queue="some").start()
    with pytest.raises(ValueError, match="expected a number of seconds"):
        Arm(watchdog=-1.0).start()
    with pytest.raises(ValueError, match="hz|rate|Hz"):
        with chiral.PolicyClient(arm.uri) as client:
            client.start_obs_stream(hz=0)


def test_observations_can_be_deeply_copied_and_pickled(arm, client):
    arm.update_image("wrist_cam", 5)
    observation = client.get_obs()
    for other in (copy.deepcopy(observation), pickle.loads(pickle.dumps(observation))):
        assert (other["wrist_cam"].image == 5).all() and other._frame is None
        other["wrist_cam"].image[:] = 0
    assert (observation["wrist_cam"].image == 5).all()
