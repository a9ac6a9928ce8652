"""Whose memory the arrays are, and for how long."""

from __future__ import annotations

import collections
import gc
import os
import threading
import time
import weakref

import numpy as np
import pytest
from robots import SOON, Arm

import chiral


class BigArm(Arm):
    def camera_configs(self):
        return [chiral.CameraConfig(f"cam{n}", 240, 320, has_depth=True) for n in range(4)]


@pytest.fixture
def big():
    with BigArm() as robot, chiral.PolicyClient(robot.uri) as client:
        yield robot, client


def address(array):
    return array.__array_interface__["data"][0]


def test_received_arrays_are_writable_aligned_views(big):
    robot, client = big
    observation = client.get_obs()
    for camera in observation:
        for array in (camera.image, camera.depth):
            assert array.flags.writeable and array.flags.aligned and array.flags.c_contiguous
            assert not array.flags.owndata and address(array) % 64 == 0
            array[:] = 3
    assert (client.latest_obs["cam0"].image == 3).all(), "the same object"
    assert (client.get_obs()["cam0"].image == 0).all()


def test_small_arrays_are_copied_so_that_they_keep_nothing(big):
    _, client = big
    observation = client.get_obs()
    joints = observation.proprios["joints"]
    assert joints.flags.owndata and joints.base is None
    assert observation["cam0"].intrinsics.flags.owndata


def test_memory_is_used_again_when_nobody_has_it_and_kept_as_long_as_somebody_has(big):
    robot, client = big
    for n in range(4):
        robot.update_image(f"cam{n}", 1)
    kept = client.get_obs()["cam2"].image
    part = kept[10:20, ::2]
    del kept
    robot.update_image("cam2", 200)
    seen = set()
    for _ in range(20):
        image = client.get_obs()["cam2"].image
        seen.add(address(image))
        image[:] = 77
    assert (part == 1).all(), "a view of a view keeps it"
    assert len(seen) < 10, "the memory goes round"


def test_a_base_is_collected_with_the_last_array(big):
    _, client = big
    observation = client.get_obs()
    image = observation["cam0"].image
    alive = weakref.ref(image)
    del image
    client.get_obs()
    del observation
    gc.collect()
    assert alive() is None


def test_made_observations_are_read_only_unless_copied(big):
    robot, _ = big
    made = robot._make_obs(timestamp=4.0)
    assert made.timestamp == 4.0 and not made["cam0"].image.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        made["cam0"].image[:] = 1
    with pytest.raises(ValueError):
        made["cam0"].image.flags.writeable = True
    copied = robot._make_obs(copy=True)
    copied["cam0"].image[:] = 1
    copied["cam0"].depth[:] = 1
    assert (robot._make_obs()["cam0"].image == 0).all()


def test_a_handler_may_return_arrays_of_every_kind(big):
    robot, _ = big
    source = np.arange(240 * 320 * 3, dtype=np.uint8).reshape(240, 320, 3)

    class Own(BigArm):
        def get_obs(self):
            made = self._make_obs()
            made["cam0"].image = source[::-1, :, ::-1]
            made["cam1"].image = source.astype(">u2")
            made["cam2"].depth = None
            made.proprios = {"new": np.arange(4, dtype=np.float64), "list": [1.5, 2.5]}
            made.extra = {"x": 1}
            return made

    with Own() as robot, chiral.PolicyClient(robot.uri) as client:
        found = client.get_obs()
        assert np.array_equal(found["cam0"].image, source[::-1, :, ::-1])
        assert np.array_equal(found["cam1"].image, source) and found["cam1"].image.dtype == np.uint16
        assert found["cam2"].depth is None and found["cam3"].depth is not None
        assert np.array_equal(found.proprios["new"], np.arange(4)) and found.extra["x"] == 1
        assert found.proprios["list"].dtype == np.float64


def test_an_observation_relayed_by_a_robot_is_copied(big):
    robot, client = big
    robot.update_image("cam0", 5)

    class Relay(BigArm):
        def get_obs(self):
            received = client.get_obs()
            self.last = received
            return received

    with Relay() as relay, chiral.PolicyClient(relay.uri) as policy:
        for n in range(10):
            robot.update_image("cam0", n)
            assert (policy.get_obs()["cam0"].image == n).all()
            relay.last["cam0"].image[:] = 99


def test_threads_that_read_write_and_let_go_of_observations_never_see_foreign_frames(big):
    """Each frame has one value all over; who finds two of them was given memory that another frame
    was received into."""
    robot, client = big
    stop = threading.Event()
    faults = []

    def publish():
        n = 0
        while not stop.is_set():
            n = (n + 1) % 200
            buffer = robot.image_buffer("cam0")
            buffer[:] = n
            robot.update_image("cam0", buffer)
            robot.update_image("cam1", n)

    def consume(seed):
        rng = np.random.default_rng(seed)
        kept = []
        for _ in range(150):
            observation = client.get_obs(timeout=SOON)
            for camera in observation.cameras[:2]:
                image = camera.image
                if image.min() != image.max():
                    faults.append(seed)
                kept.append((image, int(image[0, 0, 0])))
            if len(kept) > 6:
                image, value = kept.pop(int(rng.integers(len(kept))))
                if (image != value).any():
                    faults.append(seed)
        stop.set()

    threads = [threading.Thread(target=publish)]
    threads += [threading.Thread(target=consume, args=(seed,)) for seed in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults


def test_arrays_are_written_kept_and_let_go_in_many_threads_while_others_are_received(big):
    """For `tests/sanitize`, which sees what is done to memory that somebody else has by then. Without it
    this shows that no frame is of two, for `STRESS_SECONDS`."""
    robot, client = big
    end = time.monotonic() + float(os.environ.get("STRESS_SECONDS", "1"))
    # Who puts one more in lets the oldest go.
    kept, faults = collections.deque(maxlen=12), []

    def publish(n):
        image, depth = robot.image_buffer("cam0"), robot.depth_buffer("cam0")
        image[:], depth[:] = n, n
        robot.publish("cam0", image, depth, K=np.eye(3), T=np.eye(4))
        robot.update_image("cam1", np.full((240, 320, 3), n, np.uint8)[::-1])
        with robot._locks["cam2"]:
            robot.images["cam2"][:] = n
        robot.image_buffer("cam3")[:] = n  # It is never published.

    def write(n):
        # One that no other thread writes to, as none but this asks for it.
        observation = client.get_obs(timeout=SOON)
        for camera in observation:
            assert camera.image.min() == camera.image.max() and camera.depth.min() == camera.depth.max()
            camera.image[:], camera.depth[:] = 201, 202
        client.put_chunk(observation, np.zeros((2, 7)))
        kept.append(observation["cam0"].image[::2])

    def begin(n):
        observation, _ = client.reset(timeout=SOON)
        kept.append(observation["cam2"].image)

    def look(n):
        for observation in (client.latest_obs, client.next_obs(timeout=0.1)):
            if observation is not None:
                kept.append(observation)
                client.follow(observation, np.zeros((4, 7)), anchor="next")

    def let_go(n):
        kept.popleft()
        time.sleep(0.001)

    def show(n):
        made = robot._make_obs()
        assert made["cam0"].image.min() == made["cam0"].image.max()

    def repeat(work):
        n = 0
        while time.monotonic() < end and not faults:
            n = (n + 1) % 200
            try:
                work(n)
            except (IndexError, chiral.ActionRejected):
                pass  # Another thread has taken the last one, or has reset the robot meanwhile.
            except BaseException as error:
                faults.append(error)
                raise

    client.start_obs_stream(hz=200)
    client.start_action_dispatch(hz=200)
    work = [publish, write, begin, look, look, let_go, show]
    threads = [threading.Thread(target=repeat, args=(one,)) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults, faults
