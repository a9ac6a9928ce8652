"""Frames: one message as bytes, `u32 header length | msgpack header | payload`."""

import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from .fields import Fields, FrameError
from .messages import (
    ApplyAction,
    Array,
    Camera,
    Message,
    Metadata,
    MetadataResponse,
    Observation,
    ObsRequest,
    ObsResponse,
    Proprio,
    Reset,
    ResetResponse,
    StepAction,
    StepResponse,
)
from .values import Single, Style, ValueFormatError, pack, unpack

Header = dict[str, Any]

_LENGTH = struct.Struct("<I")


def encode(message: Message, style: Style = Style.PYTHON) -> bytes:
    """One frame."""
    header, arrays = describe(message, style)
    return assemble(header, arrays, style)


def assemble(header: Header, arrays: list[Array], style: Style) -> bytes:
    """One frame of a header and the arrays that make up its payload."""
    head = pack(header, style)
    return b"".join([_LENGTH.pack(len(head)), head, *map(wire_bytes, arrays)])


def wire_bytes(array: Array) -> memoryview:
    """An array's elements as they go over the wire: row-major, little-endian."""
    dense = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return dense.reshape(-1).view(np.uint8).data


def describe(message: Message, style: Style) -> tuple[Header, list[Array]]:
    """A message's header in the key order of a peer, and its payload's arrays in order."""
    header: Header = {"type": message.type}
    match message:
        case Metadata() | Reset() | ObsRequest():
            return header, []
        case MetadataResponse():
            return header | {"data": message.data}, []
        case ApplyAction() | StepAction():
            return header | _action_keys(message), [message.action]
    observation, arrays = _observation_keys(message.observation, style)
    return header | observation | _outcome_keys(message), arrays


def decode(frame: bytes) -> Message:
    """The message in a frame; its arrays are views of the frame's bytes."""
    header, payload = split(frame)
    kind = Fields(header, "header").text("type")
    decoder = _DECODERS.get(kind)
    if decoder is None:
        raise FrameError(f"unknown message type {kind!r}, expected one of {sorted(_DECODERS)}")
    return decoder(Fields(header, kind), payload)


def split(frame: bytes) -> tuple[Header, memoryview]:
    """A frame's header and payload."""
    if len(frame) < _LENGTH.size:
        raise FrameError(f"a frame of {len(frame)} bytes has no room for its header length")
    (length,) = _LENGTH.unpack_from(frame)
    end = _LENGTH.size + length
    if end > len(frame):
        raise FrameError(
            f"a header of {length} bytes announced, "
            f"{len(frame) - _LENGTH.size} bytes are left in the frame"
        )
    try:
        header = unpack(frame[_LENGTH.size : end])
    except ValueFormatError as error:
        raise FrameError(f"header: {error}") from error
    if not isinstance(header, dict):
        raise FrameError(f"header: {type(header).__name__}, expected a map with string keys")
    return header, memoryview(frame)[end:]


def _action_keys(message: ApplyAction | StepAction) -> Header:
    keys: Header = {"shape": list(message.action.shape), "dtype": message.action.dtype.name}
    if message.obs_timestamps is not None:
        keys["obs_timestamps"] = dict(message.obs_timestamps)
    return keys


def _outcome_keys(message: ResetResponse | ObsResponse | StepResponse) -> Header:
    match message:
        case ObsResponse():
            return {}
        case ResetResponse():
            return {"info": message.info}
    return {
        "reward": Single(message.reward),
        "terminated": message.terminated,
        "truncated": message.truncated,
        "info": message.info,
    }


def _observation_keys(observation: Observation, style: Style) -> tuple[Header, list[Array]]:
    layout = _Layout()
    cameras = [_camera_keys(camera, layout) for camera in observation.cameras]
    proprios = [_proprio_keys(proprio, layout) for proprio in observation.proprios]
    keys: Header = {"timestamp": observation.timestamp}
    sensors: Header = {"cameras": cameras, "proprios": proprios}
    extra: Header = {"extra": observation.extra}
    keys |= extra | sensors if style is Style.CPP else sensors | extra
    return keys, layout.arrays


class _Layout:
    """Arrays one after the other, nothing between them."""

    def __init__(self) -> None:
        self.arrays: list[Array] = []
        self._end = 0

    def append(self, array: Array) -> tuple[int, int]:
        """Offset and size, in bytes."""
        offset = self._end
        self.arrays.append(array)
        self._end += array.nbytes
        return offset, array.nbytes


def _camera_keys(camera: Camera, layout: _Layout) -> Header:
    keys: Header = {
        "name": camera.name,
        "timestamp": camera.timestamp,
        "intrinsics": camera.intrinsics.ravel().tolist(),
        "extrinsics": camera.extrinsics.ravel().tolist(),
    }
    keys |= _array_keys("image", camera.image, layout)
    if camera.depth is not None:
        keys |= _array_keys("depth", camera.depth, layout)
    return keys


def _array_keys(prefix: str, array: Array, layout: _Layout) -> Header:
    offset, size = layout.append(array)
    return {
        f"{prefix}_shape": list(array.shape),
        f"{prefix}_dtype": array.dtype.name,
        f"{prefix}_offset": offset,
        f"{prefix}_size": size,
    }


def _proprio_keys(proprio: Proprio, layout: _Layout) -> Header:
    offset, size = layout.append(proprio.values)
    return {
        "name": proprio.name,
        "dtype": proprio.values.dtype.name,
        "offset": offset,
        "size": size,
    }


def _decode_action(fields: Fields, payload: memoryview) -> tuple[Array, dict[str, float] | None]:
    action = fields.array(payload, fields.dtype("dtype"), fields.shape("shape"), 0, len(payload))
    stamped = "obs_timestamps" in fields
    return action, fields.number_map("obs_timestamps") if stamped else None


def _decode_observation(fields: Fields, payload: memoryview) -> Observation:
    proprios = fields.entries("proprios") if "proprios" in fields else []
    return Observation(
        timestamp=fields.number("timestamp"),
        cameras=[_decode_camera(entry, payload) for entry in fields.entries("cameras")],
        proprios=[_decode_proprio(entry, payload) for entry in proprios],
        extra=fields.free_form("extra"),
    )


def _decode_camera(fields: Fields, payload: memoryview) -> Camera:
    return Camera(
        name=fields.text("name"),
        timestamp=fields.number("timestamp") if "timestamp" in fields else 0.0,
        intrinsics=fields.matrix("intrinsics", 3),
        extrinsics=fields.matrix("extrinsics", 4),
        image=_decode_array("image", fields, payload),
        depth=_decode_array("depth", fields, payload) if "depth_shape" in fields else None,
    )


def _decode_array(prefix: str, fields: Fields, payload: memoryview) -> Array:
    return fields.array(
        payload,
        fields.dtype(f"{prefix}_dtype"),
        fields.shape(f"{prefix}_shape"),
        fields.count(f"{prefix}_offset"),
        fields.count(f"{prefix}_size"),
    )


def _decode_proprio(fields: Fields, payload: memoryview) -> Proprio:
    dtype, size = fields.dtype("dtype"), fields.count("size")
    shape = (size // dtype.itemsize,)
    return Proprio(
        fields.text("name"), fields.array(payload, dtype, shape, fields.count("offset"), size)
    )


_DECODERS: dict[str, Callable[[Fields, memoryview], Message]] = {
    Metadata.type: lambda _fields, _payload: Metadata(),
    Reset.type: lambda _fields, _payload: Reset(),
    ObsRequest.type: lambda _fields, _payload: ObsRequest(),
    ApplyAction.type: lambda fields, payload: ApplyAction(*_decode_action(fields, payload)),
    StepAction.type: lambda fields, payload: StepAction(*_decode_action(fields, payload)),
    MetadataResponse.type: lambda fields, _payload: MetadataResponse(fields.free_form("data")),
    ResetResponse.type: lambda fields, payload: ResetResponse(
        _decode_observation(fields, payload), fields.free_form("info")
    ),
    ObsResponse.type: lambda fields, payload: ObsResponse(_decode_observation(fields, payload)),
    StepResponse.type: lambda fields, payload: StepResponse(
        _decode_observation(fields, payload),
        fields.number("reward"),
        fields.flag("terminated"),
        fields.flag("truncated"),
        fields.free_form("info"),
    ),
}
