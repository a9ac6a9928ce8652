"""The nine messages and what they carry."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
FreeForm = Mapping[str, Any]


@dataclass(eq=False)
class Camera:
    """One camera's part of an observation."""

    name: str
    timestamp: float  # monotonic seconds
    intrinsics: NDArray[np.float64]  # 3x3
    extrinsics: NDArray[np.float64]  # 4x4, camera to world
    image: Array
    depth: Array | None = None


@dataclass(eq=False)
class Proprio:
    """One 1-D vector of proprioception."""

    name: str
    values: Array


@dataclass(eq=False)
class Observation:
    """Everything the robot senses at one moment."""

    timestamp: float
    cameras: list[Camera] = field(default_factory=list)
    proprios: list[Proprio] = field(default_factory=list)
    extra: FreeForm = field(default_factory=dict)

    def camera_timestamps(self) -> dict[str, float]:
        """Every camera's timestamp; of two cameras with one name, the first one's."""
        return {camera.name: camera.timestamp for camera in reversed(self.cameras)}


@dataclass(eq=False)
class Metadata:
    """Client: what are you?"""

    type: ClassVar[str] = "metadata"


@dataclass(eq=False)
class Reset:
    """Client: start over."""

    type: ClassVar[str] = "reset"


@dataclass(eq=False)
class ObsRequest:
    """Client: what do you see?"""

    type: ClassVar[str] = "obs_request"


@dataclass(eq=False)
class ApplyAction:
    """Client: do this. There is no answer."""

    type: ClassVar[str] = "apply_action"
    action: Array
    obs_timestamps: Mapping[str, float] | None = None  # None leaves the key out


@dataclass(eq=False)
class StepAction:
    """Client, legacy: do this and tell me what came of it."""

    type: ClassVar[str] = "action"
    action: Array
    obs_timestamps: Mapping[str, float] | None = None


@dataclass(eq=False)
class MetadataResponse:
    """Server: what it is."""

    type: ClassVar[str] = "metadata_response"
    data: FreeForm


@dataclass(eq=False)
class ResetResponse:
    """Server: the first observation after a reset."""

    type: ClassVar[str] = "reset_response"
    observation: Observation
    info: FreeForm


@dataclass(eq=False)
class ObsResponse:
    """Server: what it sees."""

    type: ClassVar[str] = "obs_response"
    observation: Observation


@dataclass(eq=False)
class StepResponse:
    """Server, legacy: what came of an action."""

    type: ClassVar[str] = "step_response"
    observation: Observation
    reward: float
    terminated: bool
    truncated: bool
    info: FreeForm


Request = Metadata | Reset | ObsRequest | StepAction
Response = MetadataResponse | ResetResponse | ObsResponse | StepResponse
Message = Request | ApplyAction | Response
