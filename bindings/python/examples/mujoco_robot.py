"""A robot in MuJoCo, with a camera that is rendered off screen, and a policy that solves its task over
the wire: a slide that is to bring a red ball under a mark, seen by the camera alone.

    MUJOCO_GL=egl python examples/mujoco_robot.py          robot and policy
    MUJOCO_GL=egl python examples/mujoco_robot.py serve    the robot, at ws://localhost:8765
"""

from __future__ import annotations

import sys
import threading
import time

import mujoco
import numpy as np

import chiral

MODEL = """
<mujoco>
  <option timestep="0.005"/>
  <visual><global offwidth="160" offheight="120"/></visual>
  <worldbody>
    <light pos="0 -1 3"/>
    <camera name="front" pos="0 -3 0.5" xyaxes="1 0 0 0 0 1" fovy="50"/>
    <geom type="plane" size="3 3 0.1" rgba="0.2 0.3 0.4 1"/>
    <body pos="0 0 0.3">
      <joint name="slide" type="slide" axis="1 0 0" damping="4" range="-1 1"/>
      <geom type="sphere" size="0.15" mass="1" rgba="1 0 0 1"/>
    </body>
  </worldbody>
  <actuator><velocity joint="slide" kv="20" ctrlrange="-2 2"/></actuator>
</mujoco>
"""


class Slide(chiral.PolicyServer):
    def __init__(self, port: int | None = None) -> None:
        self.model = mujoco.MjModel.from_xml_string(MODEL)
        self.data = mujoco.MjData(self.model)
        self.lock = threading.Lock()
        self.ended = threading.Event()
        limits = {"low": -2.0, "high": 2.0, "on_violation": "clamp"}
        spec = chiral.ActionSpec(size=1, kind="velocity", hold=[0.0], **limits)
        super().__init__("127.0.0.1", port, watchdog=0.5, action_spec=spec)
        self.thread = threading.Thread(target=self.simulate, daemon=True)
        self.thread.start()

    def camera_configs(self):
        return [chiral.CameraConfig("front", 120, 160)]

    def proprio_configs(self):
        return [chiral.ProprioConfig("slide", 1)]

    def reset(self):
        with self.lock:
            mujoco.mj_resetData(self.model, self.data)
            self.data.qpos[0] = np.random.default_rng().choice([-0.8, 0.8])
            mujoco.mj_forward(self.model, self.data)
        number = self.wait_next_frame("front", timeout=5) or 0
        self.wait_next_frame("front", number + 1, timeout=5)
        return self._make_obs(), {}

    def apply_action(self, action):
        with self.lock:
            self.data.ctrl[0] = action.reshape(-1)[0]

    def hold(self, *_):
        with self.lock:
            self.data.ctrl[0] = 0.0

    on_watchdog = on_disconnect = hold

    def simulate(self):
        """Steps in real time and renders 50 frames a second; OpenGL belongs to this thread."""
        with mujoco.Renderer(self.model, 120, 160) as renderer:
            due = time.monotonic()
            while not self.ended.is_set():
                with self.lock:
                    for _ in range(4):
                        mujoco.mj_step(self.model, self.data)
                    renderer.update_scene(self.data, camera="front")
                    position = self.data.qpos.copy()
                image = self.image_buffer("front")
                renderer.render(out=image)
                self.update_image("front", image)
                self.update_proprio("slide", position)
                due += 0.02
                time.sleep(max(0.0, due - time.monotonic()))


def solve(uri: str, seconds: float = 10.0) -> float:
    """Brings the red ball to the middle of the picture; the final position of the slide."""
    with chiral.PolicyClient(uri) as robot:
        robot.reset()
        robot.start_obs_stream(hz=50)
        end = time.monotonic() + seconds
        centred = 0
        while time.monotonic() < end and centred < 20:
            observation = robot.next_obs()
            image = observation["front"].image.astype(np.int16)
            red = (image[..., 0] > 120) & (image[..., 1] < 80)
            column = np.nonzero(red)[1].mean() if red.any() else 79.5
            error = (79.5 - column) / 80
            centred = centred + 1 if abs(error) < 0.03 else 0
            robot.send_action([4 * error])  # clamped, as the robot declares
        robot.send_action([0.0])
        return float(robot.get_obs().proprios["slide"][0])


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        Slide().run()
    else:
        with Slide(port=0) as slide:
            print(f"the slide came to rest at {solve(slide.uri):+.3f} m")
            slide.ended.set()
            slide.thread.join()
