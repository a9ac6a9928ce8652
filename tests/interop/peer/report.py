"""Messages as JSON, in the vocabulary of `chiral inspect`, one line each."""

import hashlib
import json
import math
import sys
from typing import Any

import msgpack

from .frame import wire_bytes
from .messages import (
    ApplyAction,
    Array,
    Camera,
    Message,
    MetadataResponse,
    Observation,
    ObsResponse,
    Proprio,
    ResetResponse,
    StepAction,
    StepResponse,
)
from .values import Pairs

Json = dict[str, Any]


def emit(line: Json) -> None:
    """Print one line on stdout, at once."""
    sys.stdout.write(json.dumps(line, allow_nan=False) + "\n")
    sys.stdout.flush()


def emit_message(message: Message) -> None:
    """Print a message."""
    emit(report(message))


def report(message: Message) -> Json:
    """A message; bulk data by digest."""
    head: Json = {"type": message.type}
    match message:
        case MetadataResponse():
            return head | {"data": plain(message.data)}
        case ApplyAction() | StepAction():
            return head | {
                "action": digest(message.action),
                "obs_timestamps": plain(message.obs_timestamps or {}),
            }
        case ObsResponse():
            return head | _observation(message.observation)
        case ResetResponse():
            return head | _observation(message.observation) | {"info": plain(message.info)}
        case StepResponse():
            return (
                head
                | _observation(message.observation)
                | {
                    "reward": plain(message.reward),
                    "terminated": message.terminated,
                    "truncated": message.truncated,
                    "info": plain(message.info),
                }
            )
    return head


def digest(array: Array) -> Json:
    """An array's description without its contents."""
    return {
        "shape": list(array.shape),
        "dtype": array.dtype.name,
        "size": array.nbytes,
        "sha256": sha256(array),
    }


def sha256(array: Array) -> str:
    """The digest of the array's bytes as they are on the wire."""
    return hashlib.sha256(wire_bytes(array)).hexdigest()


def plain(value: Any) -> Any:
    """Any msgpack value in JSON; what JSON lacks becomes a string or a tagged object."""
    match value:
        case float() if not math.isfinite(value):
            return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
        case dict():
            return {key: plain(item) for key, item in value.items()}
        case Pairs():
            return {"map": [[plain(key), plain(item)] for key, item in value.items]}
        case bytes():
            return {"bin": value.hex()}
        case msgpack.ExtType():
            return {"ext": [value.code, value.data.hex()]}
        case msgpack.Timestamp():
            return {"ext": [-1, value.to_bytes().hex()]}
        case list() | tuple():
            return [plain(item) for item in value]
    return value


def _observation(observation: Observation) -> Json:
    return {
        "timestamp": plain(observation.timestamp),
        "cameras": [_camera(camera) for camera in observation.cameras],
        "proprios": [_proprio(proprio) for proprio in observation.proprios],
        "extra": plain(observation.extra),
    }


def _camera(camera: Camera) -> Json:
    return {
        "name": camera.name,
        "timestamp": plain(camera.timestamp),
        "intrinsics": plain(camera.intrinsics.ravel().tolist()),
        "extrinsics": plain(camera.extrinsics.ravel().tolist()),
        "image": digest(camera.image),
        "depth": None if camera.depth is None else digest(camera.depth),
    }


def _proprio(proprio: Proprio) -> Json:
    return {
        "name": proprio.name,
        "dtype": proprio.values.dtype.name,
        "count": proprio.values.size,
        "size": proprio.values.nbytes,
        "sha256": sha256(proprio.values),
    }
