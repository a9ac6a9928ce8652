"""The examples, those whose libraries are there, and the programs of the README."""

from __future__ import annotations

import importlib.util
import re
import sys
import threading
import types
from pathlib import Path

import numpy as np
import pytest
from robots import SOON, Arm, wait_until

import chiral

HERE = Path(__file__).parents[1]


def example(name):
    spec = importlib.util.spec_from_file_location(name, HERE / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_programs_of_the_readme_run_against_each_other():
    robot_source, policy_source = [
        block
        for block in re.findall(r"```python\n(.*?)```", (HERE / "README.md").read_text(), re.S)
        if "class Arm" in block or "PolicyClient(" in block
    ][:2]
    ended = threading.Event()
    said = []
    names = {
        "__name__": "__main__",
        "print": lambda *words: said.append(" ".join(map(str, words))),
        "ended": ended,
    }
    robot = robot_source.replace('"127.0.0.1"', '"127.0.0.1", 0').replace("arm.run()", "")
    assert "while True:" in robot
    exec(robot.replace("while True:", "while not ended.wait(0):"), names)

    def has_said(text):
        return any(line.startswith(text) for line in said)

    try:
        with names["arm"] as arm:
            policy = policy_source.replace("ws://localhost:8765", arm.uri).replace("(100)", "(10)")
            exec(policy, {})
            wait_until(lambda: has_said("joint targets"))
            # It holds still under a policy that says nothing.
            with chiral.PolicyClient(arm.uri, connect_timeout=SOON):
                wait_until(lambda: has_said("hold still: no action for"), timeout=5)
    finally:
        ended.set()


def test_the_lerobot_loop_records_an_episode(capsys):
    with Arm() as robot:
        example("lerobot_loop").main(robot.uri, frames=12)
        wait_until(lambda: robot.actions)
    assert "12 frames at" in capsys.readouterr().out


def test_the_jax_policy_uses_images_where_they_were_received(capsys):
    jax = pytest.importorskip("jax")

    class Camera(Arm):
        def camera_configs(self):
            return [chiral.CameraConfig("cam", 240, 320)]

    with Camera() as robot:
        robot.update_image("cam", 200)
        example("jax_policy").main(robot.uri, rounds=3)
        with chiral.PolicyClient(robot.uri) as client:
            image = client.get_obs()["cam"].image
            address = image.__array_interface__["data"][0]
            aliased = jax.numpy.from_dlpack(image)
            assert aliased.unsafe_buffer_pointer() == address
    assert "round trip" in capsys.readouterr().out


def test_the_torch_policy_takes_images_where_they_were_received(capsys):
    torch = pytest.importorskip("torch")
    with Arm() as robot:
        example("torch_policy").main(robot.uri, rounds=3)
        wait_until(lambda: robot.actions)
        with chiral.PolicyClient(robot.uri, connect_timeout=20) as client:
            image = client.get_obs()["wrist_cam"].image
            tensor = torch.from_numpy(image)  # A read-only array would give a warning.
            assert tensor.data_ptr() == image.__array_interface__["data"][0]
    assert "round trip" in capsys.readouterr().out


def test_the_torch_policy_says_what_it_needs_where_that_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(SystemExit, match="pip install torch"):
        example("torch_policy")


def test_an_opencv_camera_is_served(tmp_path):
    cv2 = pytest.importorskip("cv2")
    path = str(tmp_path / "video.avi")
    video = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"MJPG"), 30, (64, 48))
    for _ in range(3):
        video.write(np.full((48, 64, 3), (255, 0, 0), np.uint8))
    video.release()
    with example("opencv_camera").Camera(path, port=0) as camera:
        camera.wait_ready(timeout=10)
        with chiral.PolicyClient(camera.uri) as client:
            pixel = client.get_obs()["camera"].image[24, 32]
    assert pixel[2] > 200 and pixel[0] < 60, "blue, in RGB"


def test_a_frame_of_another_size_than_the_declared_one_is_not_published(monkeypatch):
    class Video:
        def __init__(self, source):
            self.frames = iter([np.full(size, 9, np.uint8) for size in ((48, 64, 3), (24, 32, 3))])

        def isOpened(self):
            return True

        def get(self, what):
            return {"height": 48.0, "width": 64.0}[what]

        def grab(self):
            self.frame = next(self.frames, None)
            return self.frame is not None

        def retrieve(self):
            return True, self.frame

    def convert(frame, code, dst):
        # As OpenCV does it: into another array where `dst` does not fit.
        converted = dst if dst.shape == frame.shape else np.empty_like(frame)
        converted[:] = frame[..., ::-1]
        return converted

    fake = types.SimpleNamespace(
        VideoCapture=Video,
        CAP_PROP_FRAME_HEIGHT="height",
        CAP_PROP_FRAME_WIDTH="width",
        COLOR_BGR2RGB=4,
        cvtColor=convert,
    )
    failed = []
    monkeypatch.setitem(sys.modules, "cv2", fake)
    monkeypatch.setattr(threading, "excepthook", lambda args: failed.append(str(args.exc_value)))
    camera = example("opencv_camera").Camera("video", port=0)
    wait_until(lambda: failed, timeout=5)
    assert failed[0].startswith("found a frame of (24, 32, 3), uint8, expected (48, 64, 3)")
    assert camera.wait_next_frame("camera", timeout=SOON) == 1
    assert camera.wait_next_frame("camera", after=1, timeout=0.02) is None


def test_a_mujoco_robot_is_solved_over_the_wire(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "egl")
    mujoco = pytest.importorskip("mujoco")
    module = example("mujoco_robot")
    model = mujoco.MjModel.from_xml_string(module.MODEL)
    try:
        mujoco.Renderer(model, 8, 8).close()
    except Exception as error:
        pytest.skip(f"no off-screen rendering: {error}")
    slide = module.Slide(port=0)
    with slide:
        assert abs(module.solve(slide.uri, seconds=120)) < 0.1
    slide.ended.set()
    slide.thread.join(10)
    assert not any(t is slide.thread for t in threading.enumerate())
