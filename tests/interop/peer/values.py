"""msgpack values, written the way either existing peer writes them."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgpack

I64_MIN = -(2**63)
U64_END = 2**64


class Style(StrEnum):
    """Whose habits an encoder follows."""

    PYTHON = "python"
    CPP = "cpp"


@dataclass(frozen=True)
class Pairs:
    """A map that a dict cannot stand for: some key is not a string."""

    items: tuple[tuple[Any, Any], ...]


class Single(float):
    """A number that the C++ peer holds, and writes, as a float32."""


class Packed(bytes):
    """Bytes that are msgpack already."""


class ValueFormatError(ValueError):
    """These bytes are not one msgpack value."""


_packer = msgpack.Packer()
_single_packer = msgpack.Packer(use_single_float=True)


def pack(value: Any, style: Style) -> bytes:
    """Encode any value; map order is kept."""
    match value:
        case Packed():
            return bytes(value)
        case dict():
            return _pack_map(value.items(), len(value), style)
        case Pairs():
            return _pack_map(value.items, len(value.items), style)
        case list() | tuple() if not isinstance(value, msgpack.ExtType):
            head: bytes = _packer.pack_array_header(len(value))
            return head + b"".join(pack(item, style) for item in value)
        case float():
            return _pack_float(value, style)
        case _:
            scalar: bytes = _packer.pack(value)
            return scalar


def unpack(data: bytes) -> Any:
    """Decode exactly one value; maps whose keys are all strings become dicts."""
    try:
        return msgpack.unpackb(data, strict_map_key=False, object_pairs_hook=_map)
    except (ValueError, msgpack.UnpackException) as error:
        detail = str(error) or type(error).__name__
        raise ValueFormatError(f"{len(data)} bytes that are not one msgpack value: {detail}") from (
            error
        )


def _pack_map(pairs: Iterable[tuple[Any, Any]], count: int, style: Style) -> bytes:
    head: bytes = _packer.pack_map_header(count)
    return head + b"".join(pack(key, style) + pack(value, style) for key, value in pairs)


def _pack_float(value: float, style: Style) -> bytes:
    packer = _packer
    if style is Style.CPP:
        if value.is_integer() and I64_MIN <= value < U64_END:
            integer: bytes = _packer.pack(int(value))
            return integer
        if isinstance(value, Single):
            packer = _single_packer
    packed: bytes = packer.pack(value)
    return packed


def _map(pairs: list[tuple[Any, Any]]) -> dict[str, Any] | Pairs:
    if all(isinstance(key, str) for key, _ in pairs):
        return dict(pairs)
    return Pairs(tuple(pairs))
