"""Frames that break the protocol, each in one way."""

import struct
from collections.abc import Callable

import numpy as np

from .frame import Header, assemble, describe
from .messages import ApplyAction, Array, Camera, Message, Observation, ObsResponse, Proprio
from .values import Packed, Style

WireMessage = bytes | str
NESTING = 10_000


def faulty_action(fault: str, style: Style) -> WireMessage:
    """An `apply_action` of seven float32 with the named fault."""
    action = np.arange(7, dtype=np.float32)
    return _break(fault, ApplyAction(action, {"cam_0": 1.5}), style)


def faulty_observation(fault: str, style: Style) -> WireMessage:
    """An `obs_response` with one small camera and one proprio, with the named fault."""
    camera = Camera(
        name="cam_0",
        timestamp=1.5,
        intrinsics=np.eye(3),
        extrinsics=np.eye(4),
        image=np.zeros((2, 3, 3), np.uint8),
    )
    proprio = Proprio("joints", np.zeros(2, np.float32))
    return _break(fault, ObsResponse(Observation(0.5, [camera], [proprio])), style)


def _break(fault: str, message: Message, style: Style) -> WireMessage:
    header, arrays = describe(message, style)
    return _BREAKERS[fault](header, arrays, style)


def _truncated_header(header: Header, _arrays: list[Array], style: Style) -> WireMessage:
    whole = assemble(header, [], style)
    return whole[: len(whole) // 2]


def _huge_header_len(header: Header, arrays: list[Array], style: Style) -> WireMessage:
    return struct.pack("<I", 0xFFFF_FFFF) + assemble(header, arrays, style)[4:]


def _not_msgpack(_header: Header, _arrays: list[Array], _style: Style) -> WireMessage:
    never_used = b"\xc1" * 16  # the one byte to which msgpack gives no meaning
    return struct.pack("<I", len(never_used)) + never_used


def _unknown_type(header: Header, arrays: list[Array], style: Style) -> WireMessage:
    return assemble(header | {"type": "teleport"}, arrays, style)


def _text_message(header: Header, _arrays: list[Array], _style: Style) -> WireMessage:
    return f'{{"type": "{header["type"]}"}}'


def _bad_shape(header: Header, arrays: list[Array], style: Style) -> WireMessage:
    shape = header["shape"] if "shape" in header else header["cameras"][0]["image_shape"]
    shape[0] += 1
    return assemble(header, arrays, style)


def _missing_payload(header: Header, _arrays: list[Array], style: Style) -> WireMessage:
    return assemble(header, [], style)


def _empty_message(_header: Header, _arrays: list[Array], _style: Style) -> WireMessage:
    return b""


def _nested(header: Header, arrays: list[Array], style: Style) -> WireMessage:
    nest = Packed(b"\x91" * NESTING + b"\xc0")
    return assemble(header | {"extra": nest}, arrays, style)


_BREAKERS: dict[str, Callable[[Header, list[Array], Style], WireMessage]] = {
    "truncated_header": _truncated_header,
    "huge_header_len": _huge_header_len,
    "not_msgpack": _not_msgpack,
    "unknown_type": _unknown_type,
    "text_message": _text_message,
    "bad_shape": _bad_shape,
    "missing_payload": _missing_payload,
    "empty_message": _empty_message,
    f"nested_{NESTING}": _nested,
}
FAULTS = tuple(_BREAKERS)
