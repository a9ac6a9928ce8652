"""Connects a robot, or a simulator, with the policy that drives it.

The robot serves (:class:`PolicyServer`), the policy connects (:class:`PolicyClient`).
"""

from ._client import PolicyClient
from ._core import Token, __version__
from ._errors import (
    ActionRejected,
    ChiralError,
    ConnectFailed,
    ConnectionClosed,
    ConnectionInterrupted,
    ConnectRefused,
    ConnectTimeout,
    QueueFull,
    RequestTimeout,
    SensorError,
    TlsFailed,
    UnknownName,
)
from ._server import PolicyServer
from ._types import (
    ActionSpec,
    CameraConfig,
    CameraInfo,
    ClientStats,
    ContractChanged,
    ContractStatus,
    Disconnected,
    Ended,
    ExtType,
    HandshakeRequest,
    Latency,
    Meter,
    Observation,
    Placement,
    PlanContext,
    ProprioConfig,
    Reconnect,
    Reconnected,
    Rejection,
    ServerStats,
    Span,
    Tls,
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
    "ConnectRefused",
    "ConnectTimeout",
    "ConnectionClosed",
    "ConnectionInterrupted",
    "ContractChanged",
    "ContractStatus",
    "Disconnected",
    "Ended",
    "ExtType",
    "HandshakeRequest",
    "Latency",
    "Meter",
    "Observation",
    "Placement",
    "PlanContext",
    "PolicyClient",
    "PolicyServer",
    "ProprioConfig",
    "QueueFull",
    "Reconnect",
    "Reconnected",
    "Rejection",
    "RequestTimeout",
    "SensorError",
    "ServerStats",
    "Span",
    "Tls",
    "TlsFailed",
    "Token",
    "UnknownName",
    "__implementation__",
    "__version__",
]
