"""Robots that the tests serve."""

from __future__ import annotations

import asyncio
import threading
import time

import numpy as np

import chiral

K = np.array([[600.0, 0.0, 320.0], [0.0, 601.0, 240.0], [0.0, 0.0, 1.0]])
T = np.arange(16.0).reshape(4, 4)
SOON = 20.0


class Arm(chiral.PolicyServer):
    """Two cameras, one with depth, and joints; methods are plain functions."""

    def __init__(self, host="127.0.0.1", port=0, **options):
        # None is left out, however slow the machine is.
        options.setdefault("action_queue", "all")
        super().__init__(host, port, **options)
        self.actions = []
        self.events = []
        self.acted = threading.Event()
        self.event = threading.Event()

    def camera_configs(self):
        return [
            chiral.CameraConfig("wrist_cam", 48, 64, 3, True, K, T),
            chiral.CameraConfig("top_cam", 24, 32),
        ]

    def proprio_configs(self):
        return [chiral.ProprioConfig("joints", 7), chiral.ProprioConfig("gripper", 1)]

    def get_metadata(self):
        return {"robot": "arm-3", "hz": 50, "limits": [0.5, None, True], "nested": {"a": b"\x00\x01"}}

    def reset(self):
        return self._make_obs(timestamp=1.5), {"object": "ball"}

    def apply_action(self, action):
        self.actions.append(action)
        self.acted.set()

    def on_connect(self):
        self.events.append("connect")

    def on_disconnect(self, reason):
        self.events.append(("disconnect", reason))
        self.event.set()

    def on_watchdog(self, seconds):
        self.events.append(("watchdog", seconds))
        self.event.set()


class AsyncArm(Arm):
    """The same with coroutines, and observations that wait for a frame."""

    def __init__(self, **options):
        super().__init__(**options)
        self.loops = set()

    async def get_metadata(self):
        await asyncio.sleep(0)
        self.loops.add(id(asyncio.get_running_loop()))
        return {"robot": "arm-4"}

    async def reset(self):
        await asyncio.sleep(0.01)
        return self._make_obs(), {"async": True}

    async def get_obs(self):
        await asyncio.sleep(0.01)
        self.loops.add(id(asyncio.get_running_loop()))
        return self._make_obs(timestamp=7.0)

    async def apply_action(self, action):
        await asyncio.sleep(0)
        super().apply_action(action)


def wait_until(condition, timeout=SOON):
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)
