"""Gymnasium environments as robots, and robots as environments."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from robots import SOON, Arm, wait_until

import chiral

gymnasium = pytest.importorskip("gymnasium")
from chiral.gymnasium import EnvServer, RobotEnv  # noqa: E402


class Slope(gymnasium.Env):
    """A ball on a line, drawn as a bright column; an action of one float moves it."""

    metadata = {"render_modes": ["rgb_array"]}
    observation_space = gymnasium.spaces.Box(-10, 10, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    render_mode = "rgb_array"

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = float(self.np_random.uniform(2, 3))
        return self._state(), {"start": self.at}

    def _state(self):
        return np.array([self.at, 1.0], np.float32)

    def step(self, action):
        self.at += float(action[0])
        return self._state(), -abs(self.at), abs(self.at) < 0.1, False, {"at": self.at}

    def render(self):
        image = np.zeros((32, 64, 3), np.uint8)
        image[:, int(np.clip(32 + 8 * self.at, 0, 63))] = 255
        return image


def test_a_rendered_environment_is_solved_over_the_wire_by_its_picture():
    with EnvServer(Slope(), port=0, camera=True, seed=3) as server:
        env = RobotEnv(server.uri, render_mode="rgb_array")
        observation, info = env.reset()
        assert env.observation_space.contains(observation)
        assert env.action_space == Slope.action_space
        assert observation["state"][0] == pytest.approx(info["start"])
        terminated, total = False, 0.0
        for _ in range(50):
            column = int(env.render()[0, :, 0].argmax())
            action = np.clip([(32 - column) / 8 - 0.05], -1, 1)
            observation, reward, terminated, truncated, info = env.step(action)
            total += reward
            if terminated:
                break
        assert terminated and abs(observation["state"][0]) < 0.1 and total < 0
        env.close()


def test_actions_that_are_streamed_step_the_environment():
    with EnvServer(Slope(), port=0, seed=3) as server, chiral.PolicyClient(server.uri) as client:
        start = client.reset()[0].proprios["state"][0]
        client.start_action_dispatch(hz=200)
        client.put_chunk(client.get_obs(), np.full((10, 1), 0.1))
        wait_until(lambda: client.get_obs().proprios["state"][0] > start + 0.95)
        extra = client.get_obs().extra
        assert extra["terminated"] is False and extra["reward"] < 0
        # The picture stays as it is until the next action, however long a policy takes.
        client.get_metadata()
        assert client.action_spec.max_obs_age is None


def test_a_real_environment_with_discrete_actions():
    env = gymnasium.make("CartPole-v1")
    with EnvServer(env, port=0, seed=1) as server:
        robot = RobotEnv(server.uri)
        assert robot.action_space == env.action_space
        state = robot.reset()[0]["state"]
        steps = 0
        for _ in range(60):
            # Under the pole, where it falls to.
            state, reward, terminated, truncated, _ = robot.step(int(state[2] + state[3] > 0))
            state = state["state"]
            steps += reward
            if terminated:
                break
        robot.close()
        assert steps > 40
    env.close()


def test_a_robot_that_describes_no_actions_needs_them_described(arm):
    with pytest.raises(ValueError, match="give `action_space`"):
        RobotEnv(arm.uri)
    with Arm() as robot:
        env = RobotEnv(robot.uri, action_size=7)
        observation, _ = env.reset()
        assert observation["wrist_cam_depth"].shape == (48, 64) and env.action_space.shape == (7,)
        assert env.observation_space.contains(observation)
        env.close()


def test_the_command_serves_an_environment():
    command = [sys.executable, "-m", "chiral.gymnasium", "serve", "CartPole-v1", "--port", "18799"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert "serving CartPole-v1" in process.stdout.readline()
        with chiral.PolicyClient("ws://127.0.0.1:18799", connect_timeout=SOON) as client:
            assert client.get_metadata()["gymnasium"]["id"] == "CartPole-v1"
        process.terminate()
