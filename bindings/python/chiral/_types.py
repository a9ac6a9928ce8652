"""What travels between robot and policy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from ._errors import UnknownName

Array = npt.NDArray[Any]
Matrix = npt.NDArray[np.float64]


@dataclass(eq=False)
class CameraConfig:
    """A camera as a robot declares it.

    Images are ``(height, width, channels)``; depth maps ``(height, width)``, in metres if ``float32``.
    ``intrinsics`` is K (3, 3) in pixels, ``extrinsics`` the pose (4, 4), camera to world, in metres.
    """

    name: str
    height: int
    width: int
    channels: int = 3
    has_depth: bool = False
    intrinsics: Matrix = field(default_factory=lambda: np.eye(3))
    extrinsics: Matrix = field(default_factory=lambda: np.eye(4))
    image_dtype: npt.DTypeLike = np.uint8
    depth_dtype: npt.DTypeLike = np.float32

    def __post_init__(self) -> None:
        self.intrinsics = np.asarray(self.intrinsics, np.float64)
        self.extrinsics = np.asarray(self.extrinsics, np.float64)


@dataclass
class ProprioConfig:
    """A proprioception stream as a robot declares it: a vector of ``size`` elements."""

    name: str
    size: int
    dtype: npt.DTypeLike = np.float32


@dataclass(eq=False)
class CameraInfo:
    """One camera of an observation: image, depth, K and pose of one moment."""

    name: str
    intrinsics: Matrix
    extrinsics: Matrix
    image: Array
    depth: Array | None = None
    timestamp: float = 0.0
    """When the image was captured, in monotonic seconds of the robot's clock."""


@dataclass(eq=False)
class Observation:
    """What a robot senses at one moment.

    ``observation["wrist_cam"]`` is the camera of that name. The image and depth arrays of a received
    observation are views of the memory in which it was received: they may be written to, and keep
    that memory for as long as one of them lives.
    """

    cameras: list[CameraInfo]
    proprios: dict[str, Array] = field(default_factory=dict)
    timestamp: float = 0.0
    extra: dict[str, Any] = field(default_factory=dict)

    # The observation as it was received, for the calls that bind actions to it. Not a field.
    _frame = None

    def __getitem__(self, name: str) -> CameraInfo:
        for camera in self.cameras:
            if camera.name == name:
                return camera
        names = ", ".join(repr(camera.name) for camera in self.cameras)
        raise UnknownName(f"no camera is called {name!r}; there are: {names or 'none'}")

    def __iter__(self) -> Iterator[CameraInfo]:
        return iter(self.cameras)

    def __len__(self) -> int:
        return len(self.cameras)

    def __bool__(self) -> bool:
        return True

    def __contains__(self, name: object) -> bool:
        return any(camera.name == name for camera in self.cameras)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        state.pop("_frame", None)
        return state


class ExtType(NamedTuple):
    """An extension value of msgpack, in metadata, ``info`` or ``extra``."""

    code: int
    data: bytes


@dataclass(eq=False)
class ActionSpec:
    """What an action must look like to reach the robot; others are dropped, counted and logged.

    ``size`` is a vector's length (``[size]`` or ``[1, size]``), ``shape`` an exact shape. ``kind`` tells
    policies what the numbers mean: ``"absolute"``, ``"delta"`` or ``"velocity"``; ``hold`` is an action
    that keeps the robot where it is.
    """

    size: int | None = None
    shape: tuple[int, ...] | None = None
    kind: Literal["absolute", "delta", "velocity"] | None = None
    hold: npt.ArrayLike | None = None
    dtypes: Literal["any", "float", "integer", "bool"] = "float"
    allow_non_finite: bool = False


@dataclass(frozen=True)
class Placement:
    """Where a chunk came to lie in the plan. Steps count the actions sent over the connection."""

    chunk: int
    """The number of the chunk, counted from 0 over the connection."""
    base: int
    """The step of row 0."""
    skipped: int
    """Rows, from row 0 on, whose steps had passed already."""
    delay: tuple[int, int] | None
    """How many steps were sent since the observation was taken, at least and at most."""
    kept: int
    blended: int
    replaced: int
    first: int | None
    """The first step at which a row of the chunk will be sent."""
    late: bool
    discarded: bool


@dataclass(frozen=True)
class Span:
    """Consecutive rows of one chunk."""

    chunk: int
    rows: slice


@dataclass(frozen=True)
class PlanContext:
    """What a policy that continues its own plan needs to know before it infers."""

    base: int
    """The step of row 0 of a chunk that is inferred from the observation."""
    spans: tuple[Span, ...]
    """What is planned from that step on, in order, as rows of the policy's own chunks."""
    delay: tuple[int, int]
    """How many steps were sent since the observation was taken, at least and at most."""
    expected_delay: int | None
    """How many steps will most likely be sent until the new chunk is placed."""


@dataclass(frozen=True)
class Meter:
    """How often something happened; rates in hertz, None before the second time."""

    count: int
    hz: float | None
    recent_hz: float | None


@dataclass(frozen=True)
class Latency:
    """Durations in seconds, to within 1/16 of each; 0 when none was measured."""

    count: int
    p50: float
    p90: float
    p99: float
    max: float


@dataclass(frozen=True)
class ClientStats:
    """What a client has counted. Printed, it is a table."""

    observations: Meter
    actions: Meter
    round_trip: Latency
    action_age: Latency
    inference: Latency
    queueing: Latency
    bytes_sent: int
    bytes_received: int
    steps: int
    starvations: int
    held: int
    stream_ticks_missed: int
    dispatch_ticks_missed: int
    actions_expired: int
    actions_dropped: int
    actions_clamped: int
    rows_skipped: int
    rows_blended: int
    chunks_late: int
    chunks_discarded: int
    requests_timed_out: int
    silences: int
    cameras_unchanged_for: dict[str, float]
    text: str = field(repr=False)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class ServerStats:
    """What a server has counted of the policy that is connected. Printed, it is a table."""

    observations: Meter
    actions: Meter
    response_time: Latency
    action_age: Latency
    bytes_sent: int
    bytes_received: int
    actions_dropped: dict[str, int]
    watchdog_alarms: int
    camera_ages: dict[str, float | None]
    text: str = field(repr=False)

    def __str__(self) -> str:
        return self.text
