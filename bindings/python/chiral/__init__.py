"""Connects a robot, or a simulator, with the policy that drives it.

The robot serves (:class:`PolicyServer`), the policy connects (:class:`PolicyClient`).
"""

from ._client import PolicyClient
from ._core import __version__
from ._errors import (
    ActionRejected,
    ChiralError,
    ConnectFailed,
    ConnectionClosed,
    ConnectTimeout,
    QueueFull,
    RequestTimeout,
    SensorError,
    UnknownName,
)
from ._server import PolicyServer
from ._types import (
    ActionSpec,
    CameraConfig,
    CameraInfo,
    ClientStats,
    ExtType,
    Latency,
    Meter,
    Observation,
    Placement,
    PlanContext,
    ProprioConfig,
    ServerStats,
    Span,
)

#: Other packages install a folder of this name, too; a program that needs this one can check.
__implementation__ = "chiral-rs"

__all__ = [
    "ActionRejected",
    "ActionSpec",
    "CameraConfig",
    "CameraInfo",
    "ChiralError",
    "ClientStats",
    "ConnectFailed",
    "ConnectTimeout",
    "ConnectionClosed",
    "ExtType",
    "Latency",
    "Meter",
    "Observation",
    "Placement",
    "PlanContext",
    "PolicyClient",
    "PolicyServer",
    "ProprioConfig",
    "QueueFull",
    "RequestTimeout",
    "SensorError",
    "ServerStats",
    "Span",
    "UnknownName",
    "__implementation__",
    "__version__",
]
