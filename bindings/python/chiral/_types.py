"""What travels between robot and policy."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from . import _core
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
    """A robot's contract with its policies: what an action must be to reach the robot, how often one is
    expected, and what arms the robot.

    The server checks each action, and tells the contract to the policies, whose clients check too and
    give back what the robot would refuse. What breaks it is not applied, or clamped; it is counted and
    logged. Without any contract NaN, infinities and empty actions are refused.

    It is no safety function: keep the emergency stop, and the limits of the robot's own controller.
    """

    size: int | None = None
    """The length of a vector: an action is ``[size]`` or ``[1, size]``."""
    shape: tuple[int, ...] | None = None
    """An exact shape, instead of ``size``."""
    kind: Literal["absolute", "delta", "velocity"] | None = None
    """What the numbers mean: where to be, how far to go from here, or how fast to move."""
    hold: npt.ArrayLike | None = None
    """An action that keeps the robot where it is, such as zeros for velocities."""
    low: npt.ArrayLike | None = None
    """The smallest number allowed: one for all dimensions, or one for each."""
    high: npt.ArrayLike | None = None
    """The largest number allowed, likewise."""
    max_step: npt.ArrayLike | None = None
    """The largest change, one for all dimensions or one for each, from the last action that the robot
    was given; of a delta its size. It needs ``size`` or ``shape``."""
    measured_by: str | None = None
    """The proprioception stream that says where the robot is, in the unit and order of an absolute
    action: from there the first step is measured. Without it, the first absolute action after arming or
    a reset may be anything within the bounds. Policies are not told it."""
    on_violation: Literal["refuse", "clamp"] = "refuse"
    """What becomes of an action that is out of bounds or too large a step: it is refused, or brought
    within them (``action_clamped`` of the server is then true)."""
    rate_hz: float | None = None
    """How often an action is expected."""
    hold_after: int = 1
    """After how many missed periods in a row ``on_watchdog`` is called; 0 for never. The ``n``-th is
    missed ``n`` and a half periods after the last action. The next action moves the robot again."""
    stop_after: int | None = None
    """After how many missed periods in a row the robot is stopped, until it is armed again; None and 0
    for never."""
    arming: Literal["connect", "reset", "manual"] = "connect"
    """What arms the robot, so that actions move it: a new connection, a reset that the robot has done,
    or only its own program with :meth:`PolicyServer.arm`, which can do it in any case."""
    dtypes: Literal["any", "float", "integer", "bool"] = "float"
    """What the elements may be."""
    allow_empty: bool = False
    """Whether actions without elements reach the robot."""
    allow_non_finite: bool = False
    """Whether NaN, infinities and numbers beyond ``float32`` reach the robot."""
    watchdog: float | None = field(default=None, init=False)
    """Of a robot's contract that a client has: the server's ``watchdog``, in seconds."""
    max_obs_age: float | None = field(default=None, init=False)
    """Of a robot's contract that a client has: the server's ``max_obs_age``, in seconds."""

    def __post_init__(self) -> None:
        _core.check_action_spec(self)

    # What the core says of a contract that a robot told. Not a field.
    _text: ClassVar[str | None] = None

    def __str__(self) -> str:
        return self._text or _core.describe_action_spec(self)

    @classmethod
    def _told(cls, told: dict[str, Any], text: str) -> ActionSpec:
        """What a robot's metadata says, which may be more than this package would declare."""

        def numbers(key: str) -> Any:
            found = told.get(key)
            if found is None or len(found) == 1:
                return found and found[0]
            return np.array(found, np.float32)

        shape = told.get("shape")
        is_vector = shape is not None and len(shape) == 1
        hold = told.get("hold")
        # A robot that declares nothing is sent everything.
        is_unknown = "v" not in told
        spec = cls(
            size=shape[0] if shape is not None and is_vector else None,
            shape=None if shape is None or is_vector else tuple(shape),
            kind=told.get("kind"),
            hold=None if hold is None else np.array(hold, np.float32),
            on_violation=told.get("on_violation", "refuse"),
            rate_hz=told.get("rate"),
            hold_after=told.get("hold_after", 1),
            stop_after=told.get("stop_after"),
            arming=told.get("arming", "connect"),
            dtypes=told.get("dtype", "any"),
            allow_empty=told.get("empty", is_unknown),
            allow_non_finite=told.get("non_finite", is_unknown),
        )
        spec.low, spec.high, spec.max_step = map(numbers, ("low", "high", "max_step"))
        spec.watchdog = told.get("watchdog")
        spec.max_obs_age = told.get("max_obs_age")
        spec.__dict__["_text"] = text
        return spec


ArmingState = Literal["disarmed", "armed", "moving", "holding", "stopped"]


@dataclass(frozen=True)
class ContractStatus:
    """How a connection keeps to the robot's contract. Printed, it is one line."""

    state: ArmingState
    """Whether actions move the robot: ``"armed"`` and ``"moving"`` as they come, ``"holding"`` from the
    next one on; ``"disarmed"`` and, after it moved, ``"stopped"`` not until it is armed."""
    on_time: int
    """Of the last ``periods``, those in which an action came on time."""
    periods: int
    """The last periods while actions moved the robot, 100 at most; 0 if no rate is declared."""
    missed: int
    """All periods that were missed."""
    refused: int
    """Actions that were refused: not of the declared form, out of bounds, or too large a step."""
    clamped: int
    not_armed: int
    """Actions that came while the robot was disarmed or stopped."""
    stops: int
    text: str = field(repr=False)

    @property
    def success_rate(self) -> float | None:
        """The share of the last periods in which an action came on time; None before the first."""
        return self.on_time / self.periods if self.periods else None

    @property
    def takes_actions(self) -> bool:
        """Whether the next action moves the robot, if the contract allows it."""
        return self.state in ("armed", "moving", "holding")

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Tls:
    """TLS for a connection over a network: whom to trust, and who this side is. All files are PEM.

    A policy connects with ``wss://`` and says whom it takes for the robot: ``pin``, or ``ca``, or neither
    for the authorities that the operating system trusts. ``cert`` and ``key`` show the robot who it is,
    where it asks for that. A robot needs ``cert`` and ``key``; with ``ca`` it takes those policies alone
    whose certificates one of these authorities has signed. ``chiral cert`` makes a certificate.
    """

    cert: str | os.PathLike[str] | None = None
    """This side's own certificate, before those of the authorities between."""
    key: str | os.PathLike[str] | None = None
    """The private key of ``cert``."""
    ca: str | os.PathLike[str] | None = None
    """The authorities that sign the other side's certificate; for a policy, the robot's own certificate
    may be its authority, and it must be for the host in the URI."""
    pin: str | None = None
    """The SHA-256 fingerprint of the robot's certificate, whatever its name: 64 hexadecimal digits."""

    @property
    def fingerprint(self) -> str:
        """The SHA-256 fingerprint of ``cert``, for policies to ``pin``."""
        if self.cert is None or self.key is None:
            raise ValueError("there is no `cert` and `key` whose fingerprint could be given")
        return _core.fingerprint(self.cert, self.key)


class _Headers(Mapping[str, str]):
    """Header fields: names in any case of letters; of several fields of a name, the first."""

    def __init__(self, fields: Iterable[tuple[str, str]]) -> None:
        self._fields: dict[str, tuple[str, str]] = {}
        for name, value in fields:
            self._fields.setdefault(name.lower(), (name, value))

    def __getitem__(self, name: str) -> str:
        return self._fields[name.lower()][1]

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self._fields.values())

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        # Values may be secrets.
        return f"<header fields {', '.join(self)}>"


@dataclass(frozen=True)
class HandshakeRequest:
    """What a policy asks for a connection with, for the ``accept`` of :class:`PolicyServer`. Its ``repr``
    shows nothing that may be secret."""

    path: str = field(repr=False)
    """As in ``/left``."""
    query: str = field(repr=False)
    """What follows the path behind a question mark, as in ``arm=1``; often empty."""
    headers: Mapping[str, str]
    """The header fields: ``headers.get("Origin")``, in any case of letters; of several fields of a name,
    the first. What is not UTF-8 has surrogate escapes."""

    @classmethod
    def _of(cls, path: str, query: str, fields: Iterable[tuple[str, bytes]]) -> HandshakeRequest:
        decoded = ((name, value.decode("utf-8", "surrogateescape")) for name, value in fields)
        return cls(path, query, _Headers(decoded))


@dataclass(frozen=True)
class Rejection:
    """Why a policy is not let in, as :class:`ConnectRefused` tells it."""

    status: int
    """An HTTP status, 400 to 599, such as 401 or 403. A client takes it for final, except for 429, 502,
    503 and 504: then it tries again."""
    reason: str
    """For whoever sits at the other end."""

    def __post_init__(self) -> None:
        if not 400 <= self.status <= 599:
            raise ValueError(f"found the status {self.status}, expected one from 400 to 599")


@dataclass(frozen=True)
class Reconnect:
    """How a connection that was lost is made again.

    The pauses between the tries double, and are shortened by chance by up to a half. While there is no
    connection calls raise :class:`ConnectionInterrupted`, and no action is kept for later. With
    ``hold_calls`` those that only ask (``get_metadata``, ``get_obs``, ``next_obs``, ``plan_low``) wait for
    it, and :meth:`PolicyClient.follow` discards a chunk that was decided on an observation of before.
    """

    initial: float = 0.1
    """The first pause, in seconds."""
    max: float = 5.0
    """The longest pause, in seconds."""
    give_up_after: float | None = None
    """After how many seconds without a connection the client ends; None for never."""
    hold_calls: bool = False


@dataclass(frozen=True)
class Disconnected:
    """The connection was lost, and is being made again."""

    reason: str
    text: str = field(repr=False)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Reconnected:
    """The connection was made again."""

    attempts: int
    """How often that was tried, the last time included."""
    down_for: float
    """For how many seconds there was none."""
    text: str = field(repr=False)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, eq=False)
class ContractChanged:
    """The robot that is there now declares another contract than the one before."""

    before: ActionSpec
    after: ActionSpec
    text: str = field(repr=False)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Ended:
    """The connection has ended, for good. Nothing comes after this."""

    reason: str
    text: str = field(repr=False)

    def __str__(self) -> str:
        return self.text


ConnectionEvent = Disconnected | Reconnected | ContractChanged | Ended


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
    reconnects: int
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
    contract: ContractStatus
    watchdog_alarms: int
    camera_ages: dict[str, float | None]
    text: str = field(repr=False)

    def __str__(self) -> str:
        return self.text
