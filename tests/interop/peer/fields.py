"""Checked access to the fields of a header map."""

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .messages import Array, FreeForm

DTYPES = frozenset(
    ["bool", "float16", "float32", "float64"]
    + [f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)]
)


class FrameError(ValueError):
    """A frame that breaks the protocol."""


class Fields:
    """A map from a header; errors name the field by its path."""

    def __init__(self, values: Mapping[str, Any], path: str) -> None:
        self._values = values
        self._path = path

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def text(self, key: str) -> str:
        """A string."""
        value: str = self._checked(key, "a string", lambda value: isinstance(value, str))
        return value

    def flag(self, key: str) -> bool:
        """A boolean."""
        value: bool = self._checked(key, "a boolean", lambda value: isinstance(value, bool))
        return value

    def number(self, key: str) -> float:
        """A number; an integer counts as one."""
        return float(self._checked(key, "a number", _is_number))

    def count(self, key: str) -> int:
        """A number of bytes, or an offset."""
        value: int = self._checked(key, "an integer of at least 0", _is_count)
        return value

    def shape(self, key: str) -> tuple[int, ...]:
        """The dimensions of an array, of any rank."""
        return tuple(
            self._checked(
                key,
                "an array of integers of at least 0",
                lambda value: isinstance(value, list) and all(map(_is_count, value)),
            )
        )

    def matrix(self, key: str, side: int) -> NDArray[np.float64]:
        """A square matrix, row-major."""
        values = self._checked(
            key,
            f"an array of {side * side} numbers",
            lambda value: (
                isinstance(value, list)
                and len(value) == side * side
                and all(map(_is_number, value))
            ),
        )
        return np.array(values, dtype=np.float64).reshape(side, side)

    def free_form(self, key: str) -> FreeForm:
        """A map of anything; empty when it is missing."""
        return self._checked(key, "a map with string keys", _is_map) if key in self else {}

    def number_map(self, key: str) -> dict[str, float]:
        """A map from names to numbers."""
        values = self._checked(
            key,
            "a map of numbers",
            lambda value: _is_map(value) and all(map(_is_number, value.values())),
        )
        return {name: float(value) for name, value in values.items()}

    def entries(self, key: str) -> list["Fields"]:
        """An array of maps."""
        values = self._checked(
            key,
            "an array of maps",
            lambda value: isinstance(value, list) and all(map(_is_map, value)),
        )
        return [Fields(value, f"{self._path}.{key}[{index}]") for index, value in enumerate(values)]

    def dtype(self, key: str) -> np.dtype[Any]:
        """An element type, little-endian whatever this machine is."""
        name: str = self._checked(
            key, "a dtype of numpy's", lambda value: isinstance(value, str) and value in DTYPES
        )
        dtype: np.dtype[Any] = np.dtype(name).newbyteorder("<")
        return dtype

    def array(
        self,
        payload: memoryview,
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
        offset: int,
        size: int,
    ) -> Array:
        """A view of `size` bytes of the payload, which must be what the shape needs."""
        expected = prod(shape) * dtype.itemsize
        if size != expected:
            raise self.error(
                f"shape {list(shape)} of {dtype.name} takes {expected} bytes, not {size}"
            )
        if offset + size > len(payload):
            raise self.error(
                f"bytes {offset}..{offset + size} lie outside a payload of {len(payload)} bytes"
            )
        try:
            return np.ndarray(shape, dtype, payload[offset : offset + size])
        except (ValueError, OverflowError) as error:
            raise self.error(f"shape {list(shape)}: {error}") from error

    def error(self, text: str) -> FrameError:
        """An error about this map."""
        return FrameError(f"{self._path}: {text}")

    def _checked(self, key: str, expected: str, check: Callable[[Any], bool]) -> Any:
        if key not in self._values:
            raise self.error(f"no {key!r}, expected {expected}")
        value = self._values[key]
        if not check(value):
            raise self.error(f"{key!r} is {value!r:.80}, expected {expected}")
        return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_map(value: Any) -> bool:
    return isinstance(value, dict)
