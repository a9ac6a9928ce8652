"""A robot in the form in which LeRobot's loops use one: ``get_observation`` and ``send_action``, both
dicts, at a rate.

    python examples/lerobot_loop.py [ws://localhost:8765]

``ChiralRobot`` has the methods of LeRobot's robots without importing LeRobot, so it can be recorded
from and evaluated on by loops like ``record`` below.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np

import chiral


class ChiralRobot:
    """A robot behind a chiral server."""

    def __init__(self, uri: str, joints: str = "joints", fps: int = 30) -> None:
        self.client = chiral.PolicyClient(uri)
        self.joints, self.fps = joints, fps

    def connect(self) -> None:
        self.client.connect()
        observation, _ = self.client.reset()
        self.size = observation.proprios[self.joints].size
        self.client.start_obs_stream(hz=self.fps)

    @property
    def is_connected(self) -> bool:
        return self.client.is_connected

    def get_observation(self) -> dict[str, Any]:
        observation = self.client.next_obs()
        state = observation.proprios[self.joints]
        found: dict[str, Any] = {f"{self.joints}_{n}.pos": float(q) for n, q in enumerate(state)}
        # Kept longer than the next observation: copied, so that it does not keep the whole frame.
        return found | {camera.name: camera.image.copy() for camera in observation}

    def send_action(self, action: dict[str, float]) -> dict[str, float]:
        row = [action[f"{self.joints}_{n}.pos"] for n in range(self.size)]
        self.client.send_action(row)
        return action

    def disconnect(self) -> None:
        self.client.close()


def record(robot: ChiralRobot, policy: Any, frames: int) -> list[dict[str, Any]]:
    """The loop of a recording: observe, decide, act, keep."""
    episode = []
    for _ in range(frames):
        observation = robot.get_observation()
        action = policy(observation)
        robot.send_action(action)
        episode.append({"time": time.monotonic(), **observation, "action": action})
    return episode


def main(uri: str = "ws://localhost:8765", frames: int = 60) -> None:
    robot = ChiralRobot(uri)
    robot.connect()

    def stay(observation: dict[str, Any]) -> dict[str, float]:
        return {key: value for key, value in observation.items() if key.endswith(".pos")}

    try:
        episode = record(robot, stay, frames)
        spread = np.diff([frame["time"] for frame in episode])
        print(f"{len(episode)} frames at {1 / spread.mean():.1f} Hz")
    finally:
        robot.disconnect()


if __name__ == "__main__":
    main(*sys.argv[1:])
