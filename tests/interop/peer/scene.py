"""A robot whose sensor data is a formula.

All counting starts at 0. Observation `k` counts every observation that the
robot has made since the program started, those of resets and steps included;
`observation.timestamp` is `k / 32`. With

    shift(c, k) = (4099 * c + k) mod 65536

the data of camera `c` (named `cam_<c>`) are, at flat row-major index `p`,

    image[p] = ((p + shift) * 2654435761 mod 2**32) >> 24              uint8, H x W x 3
    depth[p] = 0.5 + ((p + shift) mod 65536) / 1024                    float32, H x W, metres

and element `j` of proprio `i` is `j + 1000 * i + k / 64` (float32). All of these are exact.
Camera timestamps are the robot's monotonic clock.
"""

import time
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from .messages import (
    Array,
    Camera,
    MetadataResponse,
    Observation,
    ObsRequest,
    ObsResponse,
    Proprio,
    Request,
    Reset,
    ResetResponse,
    Response,
    StepAction,
    StepResponse,
)
from .values import Style

SHIFT_PER_CAMERA = 4099
SHIFTS = 65536
HASH_FACTOR = 2_654_435_761


@dataclass(frozen=True)
class Layout:
    """Which sensors the robot has."""

    cameras: int = 1
    width: int = 64
    height: int = 48
    depth: bool = False
    proprios: tuple[tuple[str, int], ...] = ()


class Robot:
    """Answers requests; pixels are slices of tables made once."""

    def __init__(self, layout: Layout, style: Style) -> None:
        self._layout = layout
        self._style = style
        self._observations = 0
        self._steps = 0
        self._actions = 0
        pixels = layout.width * layout.height
        self._colours = _colour_table(3 * pixels)
        self._depths = _depth_table(pixels) if layout.depth else None

    def answer(self, request: Request) -> Response:
        """The response to any request."""
        match request:
            case StepAction():
                return self._step()
            case ObsRequest():
                return ObsResponse(self._observe())
            case Reset():
                self._steps = 0
                observation = self._observe()
                return ResetResponse(observation, self._free_form({"actions": self._actions}))
        return MetadataResponse(self._free_form(self._metadata()))

    def apply_action(self) -> None:
        """Count an action; `info` of the next reset or step tells how many there were."""
        self._actions += 1

    def _step(self) -> StepResponse:
        self._steps += 1
        return StepResponse(
            self._observe(),
            reward=self._steps / 4,
            terminated=self._steps % 3 == 0,
            truncated=self._steps % 5 == 0,
            info=self._free_form({"step": self._steps, "actions": self._actions}),
        )

    def _observe(self) -> Observation:
        frame = self._observations
        self._observations += 1
        return Observation(
            timestamp=frame / 32,
            cameras=[self._camera(index, frame) for index in range(self._layout.cameras)],
            proprios=[
                Proprio(name, _proprio_values(index, size, frame))
                for index, (name, size) in enumerate(self._layout.proprios)
            ],
            extra=self._free_form({"frame": frame}),
        )

    def _camera(self, index: int, frame: int) -> Camera:
        width, height = self._layout.width, self._layout.height
        start = (SHIFT_PER_CAMERA * index + frame) % SHIFTS
        image = _window(self._colours, start, (height, width, 3))
        depth = None if self._depths is None else _window(self._depths, start, (height, width))
        return Camera(
            name=f"cam_{index}",
            timestamp=time.monotonic(),
            intrinsics=_intrinsics(width, height),
            extrinsics=_extrinsics(index),
            image=image,
            depth=depth,
        )

    def _metadata(self) -> dict[str, Any]:
        return {
            "peer": "python",
            "cameras": [f"cam_{index}" for index in range(self._layout.cameras)],
            "proprios": dict(self._layout.proprios),
            "action_shape": [1, 7],
            "control_hz": 50.0,
            "odd": {
                "u64": 2**64 - 1,
                "nan": float("nan"),
                "nil": None,
                "bytes": b"\x00\xff",
                "ext": msgpack.ExtType(5, b"\xab\xcd"),
            },
        }

    def _free_form(self, values: dict[str, Any]) -> dict[str, Any]:
        if self._style is Style.PYTHON:
            return values
        return {key: str(value) for key, value in values.items()}


def _colour_table(size: int) -> NDArray[np.uint8]:
    positions = np.arange(size + SHIFTS, dtype=np.uint64)
    return ((positions * HASH_FACTOR % 2**32) >> 24).astype(np.uint8)


def _depth_table(size: int) -> NDArray[np.float32]:
    positions = np.arange(size + SHIFTS, dtype=np.uint32) % SHIFTS
    return (0.5 + positions / 1024).astype(np.float32)


def _window(table: Array, start: int, shape: tuple[int, ...]) -> Array:
    size = int(np.prod(shape))
    return table[start : start + size].reshape(shape)


def _proprio_values(index: int, size: int, frame: int) -> NDArray[np.float32]:
    return (np.arange(size) + 1000 * index + frame / 64).astype(np.float32)


def _intrinsics(width: int, height: int) -> NDArray[np.float64]:
    focal = width + 0.5
    return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])


def _extrinsics(index: int) -> NDArray[np.float64]:
    pose = np.eye(4)
    pose[:3, 3] = (0.1 * index, -1.0, 0.25)
    return pose
