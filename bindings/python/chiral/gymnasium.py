"""A robot as a Gymnasium environment, and a Gymnasium environment as a robot.

``RobotEnv(uri)`` is an environment over a robot that any chiral server serves. ``python -m
chiral.gymnasium serve CartPole-v1 --camera`` serves an environment to a policy.
"""

from __future__ import annotations

import argparse
import threading
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from ._client import PolicyClient
from ._server import PolicyServer
from ._types import ActionSpec, Array, CameraConfig, Observation, ProprioConfig

#: Under this key of the metadata a served environment describes itself.
KEY = "gymnasium"
STATE = "state"
CAMERA = "render"


class RobotEnv(gymnasium.Env[dict[str, Array], Array]):
    """An environment over a robot: ``reset`` and ``step`` are the robot's.

    Observations are dicts: each proprioception stream by its name, each camera's image by its name,
    each depth map by its name with ``_depth`` behind it. The action space is what a served environment
    describes; for another robot give it, or ``action_size`` for any vector of that length.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}

    def __init__(
        self,
        uri: str | None = None,
        *,
        action_space: spaces.Space[Any] | None = None,
        action_size: int | None = None,
        render_mode: str | None = None,
        **options: Any,
    ) -> None:
        self.client = PolicyClient(uri, **options).connect()
        self.render_mode = render_mode
        described = self.client.get_metadata().get(KEY, {})
        self._latest = self.client.get_obs()
        boxes: dict[str, spaces.Space[Any]] = {
            name: _space_of(array) for name, array in _arrays(self._latest).items()
        }
        self.observation_space: Any = spaces.Dict(boxes)
        if action_space is not None:
            self.action_space = action_space
        elif "action" in described:
            self.action_space = _space_from(described["action"])
        elif action_size is not None:
            self.action_space = spaces.Box(-np.inf, np.inf, (action_size,), np.float32)
        else:
            raise ValueError(
                "the robot does not describe its actions: give `action_space`, or `action_size`"
            )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Array], dict[str, Any]]:
        super().reset(seed=seed)
        self._latest, info = self.client.reset()
        return _arrays(self._latest), info

    def step(self, action: Any) -> tuple[dict[str, Array], float, bool, bool, dict[str, Any]]:
        row = np.asarray(action, np.float32).reshape(1, -1)
        self._latest, reward, terminated, truncated, info = self.client.step(row)
        return _arrays(self._latest), reward, terminated, truncated, info

    def render(self) -> Any:
        """The first camera's latest image."""
        cameras = self._latest.cameras
        return cameras[0].image if self.render_mode == "rgb_array" and cameras else None

    def close(self) -> None:
        self.client.close()


def _arrays(observation: Observation) -> dict[str, Array]:
    arrays = dict(observation.proprios)
    for camera in observation:
        arrays[camera.name] = camera.image
        if camera.depth is not None:
            arrays[f"{camera.name}_depth"] = camera.depth
    return arrays


def _space_of(array: Array) -> spaces.Box:
    dtype = array.dtype
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return spaces.Box(limits.min, limits.max, array.shape, dtype.type)
    return spaces.Box(-np.inf, np.inf, array.shape, dtype.type)


def _space_from(described: dict[str, Any]) -> spaces.Space[Any]:
    if described["kind"] == "discrete":
        return spaces.Discrete(described["n"], start=described["start"])
    shape = tuple(described["shape"])
    low = np.array(described["low"], np.float32).reshape(shape)
    high = np.array(described["high"], np.float32).reshape(shape)
    return spaces.Box(low, high, shape, np.float32)


class EnvServer(PolicyServer):
    """Serves a Gymnasium environment: its observation is the proprioception stream ``state``, what it
    renders the camera ``render``.

    ``step`` steps the environment. So does ``apply_action``, for policies that stream their actions; the
    reward, and whether the episode is over, is then in the ``extra`` of the observations.
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        host: str = "127.0.0.1",
        port: int | None = None,
        *,
        camera: bool = False,
        seed: int | None = None,
        **options: Any,
    ) -> None:
        self.env = env
        self._discrete = isinstance(env.action_space, spaces.Discrete)
        if not self._discrete and not isinstance(env.action_space, spaces.Box):
            raise ValueError(
                f"found the action space {env.action_space}, expected a Discrete or a Box"
            )
        self._seed = seed
        # Requests and actions come on two threads, and an environment is made for one.
        self._lock = threading.RLock()
        observation, _ = env.reset(seed=seed)
        self._state_size = _flat(env, observation).size
        self._frame: Array | None = np.asarray(env.render()) if camera else None
        if camera and (self._frame is None or self._frame.ndim != 3):
            raise ValueError('the environment renders no images: make it with render_mode="rgb_array"')
        size = 1 if self._discrete else int(np.prod(env.action_space.shape or (1,)))
        options.setdefault("action_spec", ActionSpec(size=size))
        # Each action is a step: none may be left out.
        options.setdefault("action_queue", "all")
        # Between two steps time stands still: the last image is as good as new.
        options.setdefault("max_obs_age", None)
        super().__init__(host, port, **options)
        self._show(observation)

    def camera_configs(self) -> list[CameraConfig]:
        if self._frame is None:
            return []
        height, width, channels = self._frame.shape
        return [CameraConfig(CAMERA, height, width, channels, image_dtype=self._frame.dtype)]

    def proprio_configs(self) -> list[ProprioConfig]:
        return [ProprioConfig(STATE, self._state_size)]

    def get_metadata(self) -> dict[str, Any]:
        name = self.env.spec.id if self.env.spec else type(self.env.unwrapped).__name__
        return {"robot": name, KEY: {"id": name, "action": _describe(self.env.action_space)}}

    def reset(self) -> tuple[Observation, dict[str, Any]]:
        with self._lock:
            observation, info = self.env.reset(seed=self._seed)
            self._seed = None
            self._show(observation)
            return self._make_obs(), _plain(info)

    def step(self, action: Array) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        total = 0.0
        with self._lock:
            for row in action.reshape(-1, action.shape[-1]):
                observation, reward, terminated, truncated, info = self.env.step(self._action(row))
                total += float(reward)
                if terminated or truncated:
                    break
            self._show(observation)
            return self._make_obs(), total, bool(terminated), bool(truncated), _plain(info)

    def apply_action(self, action: Array) -> None:
        with self._lock:
            observation, reward, terminated, truncated, _ = self.env.step(self._action(action))
            over = {"terminated": bool(terminated), "truncated": bool(truncated)}
            self.set_extra({"reward": float(reward), **over})
            self._show(observation)

    def _action(self, row: Array) -> Any:
        space = self.env.action_space
        if isinstance(space, spaces.Discrete):
            return int(np.rint(row.reshape(-1)[0]))
        assert isinstance(space, spaces.Box)
        return np.clip(row.reshape(space.shape), space.low, space.high).astype(space.dtype)

    def _show(self, observation: Any) -> None:
        self.update_proprio(STATE, _flat(self.env, observation))
        if self._frame is not None:
            self.update_image(CAMERA, np.asarray(self.env.render()))


def _flat(env: gymnasium.Env[Any, Any], observation: Any) -> Array:
    return np.asarray(spaces.flatten(env.observation_space, observation), np.float32)


def _describe(space: spaces.Space[Any]) -> dict[str, Any]:
    if isinstance(space, spaces.Discrete):
        return {"kind": "discrete", "n": int(space.n), "start": int(space.start)}
    assert isinstance(space, spaces.Box)
    low, high = space.low.reshape(-1).tolist(), space.high.reshape(-1).tolist()
    return {"kind": "box", "shape": list(space.shape), "low": low, "high": high}


def _plain(info: dict[str, Any]) -> dict[str, Any]:
    """What msgpack knows of an environment's info."""
    kinds = (bool, int, float, str, bytes, list, tuple, dict, np.ndarray, np.generic, type(None))
    return {str(key): value for key, value in info.items() if isinstance(value, kinds)}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m chiral.gymnasium", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="serve an environment to a policy")
    serve.add_argument("env", help="the environment's id, such as CartPole-v1")
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=int, default=None)
    serve.add_argument("--camera", action="store_true", help="serve what the environment renders")
    serve.add_argument("--seed", type=int, default=None)
    args = parser.parse_args(argv)
    env = gymnasium.make(args.env, render_mode="rgb_array" if args.camera else None)
    server = EnvServer(env, args.host, args.port, camera=args.camera, seed=args.seed)
    print(f"serving {args.env} at {args.host}:{server.port}; end with Ctrl-C", flush=True)
    try:
        server.run()
    except KeyboardInterrupt:
        pass
    finally:
        env.close()


if __name__ == "__main__":
    main()
