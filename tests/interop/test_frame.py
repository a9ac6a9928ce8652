"""Encoding and decoding beyond what the golden frames hold."""

import struct
import unittest
from typing import Any

import msgpack
import numpy as np

from peer.faults import FAULTS, faulty_action, faulty_observation
from peer.fields import FrameError
from peer.frame import decode, encode
from peer.messages import (
    ApplyAction,
    Message,
    MetadataResponse,
    Observation,
    ObsResponse,
    StepResponse,
)
from peer.report import report
from peer.values import Style


def frame(header: dict[Any, Any], payload: bytes = b"") -> bytes:
    """A frame with any header at all."""
    head: bytes = msgpack.packb(header)
    return struct.pack("<I", len(head)) + head + payload


class Tolerance(unittest.TestCase):
    """What a reader has to put up with."""

    def test_missing_optional_keys(self) -> None:
        """No `proprios`, no `extra`, no `obs_timestamps`."""
        message = decode(frame({"type": "obs_response", "timestamp": 3, "cameras": []}))
        self.assertEqual(
            report(message),
            {"type": "obs_response", "timestamp": 3.0, "cameras": [], "proprios": [], "extra": {}},
        )
        action = decode(frame({"dtype": "int8", "shape": [2], "type": "apply_action"}, b"\x01\xff"))
        assert isinstance(action, ApplyAction)
        self.assertIsNone(action.obs_timestamps)
        self.assertEqual(action.action.tolist(), [1, -1])

    def test_unknown_keys(self) -> None:
        """They are skipped."""
        self.assertEqual(report(decode(frame({"new": [1], "type": "reset"}))), {"type": "reset"})

    def test_maps_without_string_keys_survive(self) -> None:
        """Array and map keys, and keys that Python takes for equal, included."""
        values = {1: "one", 1.5: "float", (1, 2): "pair", b"k": None}
        message = decode(frame({"type": "metadata_response", "data": {"odd": values}}))
        assert isinstance(message, MetadataResponse)
        expected = [[1, "one"], [1.5, "float"], [[1, 2], "pair"], [{"bin": "6b"}, None]]
        self.assertEqual(report(message)["data"]["odd"], {"map": expected})
        self.assertEqual(report(decode(encode(message)))["data"]["odd"], {"map": expected})

    def test_extension_values_survive(self) -> None:
        """The timestamp extension too."""
        stamp = msgpack.Timestamp(1, 2)
        values = [msgpack.ExtType(5, b"\xab"), stamp]
        data = frame({"type": "metadata_response", "data": {"ext": values}})
        self.assertEqual(
            report(decode(data))["data"],
            {"ext": [{"ext": [5, "ab"]}, {"ext": [-1, stamp.to_bytes().hex()]}]},
        )
        self.assertEqual(encode(decode(data)), data)

    def test_numbers_that_json_lacks(self) -> None:
        """They are spelled out."""
        numbers = [float("nan"), float("inf"), float("-inf")]
        message = MetadataResponse({"numbers": numbers})
        for style in Style:
            with self.subTest(style=style):
                data = report(decode(encode(message, style)))["data"]
                self.assertEqual(data, {"numbers": ["nan", "inf", "-inf"]})

    def test_big_endian_arrays_are_turned(self) -> None:
        """Elements are little-endian on the wire."""
        values = np.arange(3, dtype=">f4")
        message = decode(encode(ApplyAction(values)))
        assert isinstance(message, ApplyAction)
        self.assertEqual(message.action.tolist(), [0.0, 1.0, 2.0])
        self.assertEqual(message.action.dtype.str, "<f4")


class CppNumbers(unittest.TestCase):
    """Which floats become integers in the C++ style."""

    def test_range(self) -> None:
        """Whole numbers within msgpack's integers, and nothing else."""
        cases: list[tuple[float, str]] = [
            (0.0, "00"),
            (-0.0, "00"),
            (-7.0, "f9"),
            (2.0**63, "cf8000000000000000"),
            (2.0**64, "cb43f0000000000000"),
            (-(2.0**63), "d38000000000000000"),
            (0.5, "cb3fe0000000000000"),
        ]
        for value, packed in cases:
            with self.subTest(value=value):
                data = encode(ObsResponse(Observation(value)), Style.CPP)
                start = data.index(b"timestamp") + len(b"timestamp")
                self.assertEqual(data[start : start + len(packed) // 2].hex(), packed)

    def test_reward_is_single(self) -> None:
        """Only in the C++ style."""
        message = StepResponse(Observation(0.0), 0.1, False, True, {})
        for style, packed in ((Style.CPP, "ca3dcccccd"), (Style.PYTHON, "cb3fb999999999999a")):
            with self.subTest(style=style):
                self.assertIn(b"\xa6reward" + bytes.fromhex(packed), encode(message, style))


class Refusals(unittest.TestCase):
    """What no reader may take."""

    def test_every_fault_is_one(self) -> None:
        """Deep nesting is one even under a key that nobody knows."""
        for build in (faulty_action, faulty_observation):
            for fault in FAULTS:
                with self.subTest(build=build.__name__, fault=fault):
                    data = build(fault, Style.PYTHON)
                    if isinstance(data, str):
                        self.assertEqual(fault, "text_message")
                        continue
                    with self.assertRaises(FrameError):
                        decode(data)

    def test_wrong_fields(self) -> None:
        """The error names the field."""
        cases: list[tuple[dict[Any, Any], bytes, str]] = [
            ({}, b"", "'type'"),
            ({1: 2}, b"", "string keys"),
            ({"type": 5}, b"", "'type' is 5"),
            ({"type": "metadata_response", "data": []}, b"", "metadata_response: 'data'"),
            ({"type": "obs_response", "timestamp": True, "cameras": []}, b"", "'timestamp'"),
            ({"type": "obs_response", "timestamp": 0, "cameras": [{}]}, b"", "cameras[0]"),
            ({"type": "action", "dtype": "float31", "shape": []}, b"", "float31"),
            ({"type": "action", "dtype": "bool", "shape": [-1]}, b"", "'shape'"),
            ({"type": "action", "dtype": "bool", "shape": [2]}, b"\x01", "takes 2 bytes, not 1"),
            ({"type": "action", "dtype": "bool", "shape": [2**63, 0]}, b"", "shape"),
            ({"type": "action", "dtype": "bool", "shape": [1] * 65}, b"\x01", "shape"),
        ]
        for header, payload, text in cases:
            with self.subTest(header=header):
                with self.assertRaises(FrameError) as raised:
                    decode(frame(header, payload))
                self.assertIn(text, str(raised.exception))

    def test_proprio_outside_the_payload(self) -> None:
        """Offset and size are checked together."""
        entry: dict[str, Any] = {"name": "q", "dtype": "float32", "offset": 4, "size": 8}
        header = {"type": "obs_response", "timestamp": 0.0, "cameras": [], "proprios": [entry]}
        message: Message = decode(frame(header, bytes(12)))
        assert isinstance(message, ObsResponse)
        self.assertEqual(message.observation.proprios[0].values.tolist(), [0.0, 0.0])
        with self.assertRaisesRegex(FrameError, r"proprios\[0\].*bytes 4..12 lie outside"):
            decode(frame(header, bytes(11)))
        entry["size"] = 7
        with self.assertRaisesRegex(FrameError, "takes 4 bytes, not 7"):
            decode(frame(header, bytes(12)))


if __name__ == "__main__":
    unittest.main()
