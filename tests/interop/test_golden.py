"""The peer against the frames that the two existing implementations wrote."""

import hashlib
import json
import struct
import unittest
from pathlib import Path
from typing import Any

from peer.frame import decode, encode, split
from peer.messages import Message
from peer.report import report
from peer.values import Style

VECTORS = Path(__file__).resolve().parent.parent / "vectors"
INTEGERS_FOR_FLOATS = {"obs_int_matrices", "obs_timestamp_int0"}


def golden(folder: str) -> list[tuple[str, bytes, dict[str, Any]]]:
    """Name, frame and description of every golden frame in a folder."""
    cases = []
    for path in sorted((VECTORS / folder).glob("*.bin")):
        description = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        cases.append((path.stem, path.read_bytes(), description))
    return cases


def expected_report(description: dict[str, Any]) -> dict[str, Any]:
    """A description's expectation in the vocabulary of a report."""
    fields = {key: _expected(key, value) for key, value in description["expect"].items()}
    return {"type": description["type"]} | fields


def _expected(key: str, value: Any) -> Any:
    match key:
        case "cameras":
            return [_camera(camera) for camera in value]
        case "proprios":
            return [_proprio(proprio) for proprio in value]
        case "action":
            return _digest(value)
        case "obs_timestamps":
            return {name: _number(stamp) for name, stamp in value.items()}
        case "timestamp" | "reward":
            return _number(value)
    return _untag(value)


def _camera(camera: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": camera["name"],
        "timestamp": _number(camera["timestamp"]),
        "intrinsics": camera["intrinsics"],
        "extrinsics": camera["extrinsics"],
        "image": _digest(camera["image"]),
        "depth": camera["depth"] and _digest(camera["depth"]),
    }


def _proprio(proprio: dict[str, Any]) -> dict[str, Any]:
    return {key: proprio[key] for key in ("name", "dtype", "count", "size", "sha256")}


def _digest(array: dict[str, Any]) -> dict[str, Any]:
    return {key: array[key] for key in ("shape", "dtype", "size", "sha256")}


def _number(tagged: dict[str, Any]) -> float:
    return float(int(tagged["int"])) if "int" in tagged else _float(tagged)


def _float(tagged: dict[str, Any]) -> Any:
    (value,) = struct.unpack(">d", bytes.fromhex(tagged["bits"]))
    return tagged["float"] if isinstance(tagged["float"], str) else value


def _untag(tagged: dict[str, Any]) -> Any:
    """A free-form value; every map in the golden frames has string keys."""
    tag, value = next(iter(tagged.items()))
    match tag:
        case "map":
            return {_untag(key): _untag(item) for key, item in value}
        case "arr":
            return [_untag(item) for item in value]
        case "int":
            return int(value)
        case "float":
            return _float(tagged)
        case "bin" | "ext":
            return {tag: value}
    return value


class GoldenFrames(unittest.TestCase):
    """Every frame under `tests/vectors`."""

    def test_there_are_frames_of_both_peers(self) -> None:
        """A missing folder must not pass for success."""
        self.assertGreaterEqual(len(golden("python")), 30)
        self.assertGreaterEqual(len(golden("cpp")), 7)

    def test_decoding(self) -> None:
        """The decoder recovers what each description says."""
        for folder in ("python", "cpp"):
            for name, frame, description in golden(folder):
                with self.subTest(folder=folder, name=name):
                    digest = hashlib.sha256(frame).hexdigest()
                    self.assertEqual(digest, description["frame_sha256"])
                    header, payload = split(frame)
                    self.assertEqual(list(header), description["header_keys"])
                    self.assertEqual(len(payload), description["payload_len"])
                    self.assertEqual(report(decode(frame)), expected_report(description))

    def test_free_form_values_keep_their_kind(self) -> None:
        """JSON text tells 4 from 4.0, 0.0 from -0.0 and true from 1, where == does not."""
        for name, frame, description in golden("python"):
            with self.subTest(name=name):
                for key in {"data", "info", "extra"} & set(description["expect"]):
                    self.assertEqual(
                        json.dumps(report(decode(frame))[key]),
                        json.dumps(expected_report(description)[key]),
                    )

    def test_python_frames_encode_to_the_same_bytes(self) -> None:
        """Except those whose floats came as integers: they come back as floats."""
        for name, frame, _ in golden("python"):
            with self.subTest(name=name):
                again = encode(decode(frame), Style.PYTHON)
                if name in INTEGERS_FOR_FLOATS:
                    self.assertNotEqual(again, frame)
                    self.assert_same_message(decode(again), decode(frame))
                else:
                    self.assertEqual(again, frame)

    def test_cpp_frames_encode_to_the_same_bytes(self) -> None:
        """Key order and integers for whole floats included."""
        for name, frame, _ in golden("cpp"):
            with self.subTest(name=name):
                self.assertEqual(encode(decode(frame), Style.CPP), frame)

    def test_either_style_carries_every_message(self) -> None:
        """A style changes the bytes and not the message."""
        for folder in ("python", "cpp"):
            for name, frame, _ in golden(folder):
                message = decode(frame)
                for style in Style:
                    with self.subTest(folder=folder, name=name, style=style):
                        header, _ = split(encode(message, style))
                        self.assertEqual(set(header), set(split(frame)[0]))
                        self.assert_same_message(decode(encode(message, style)), message)

    def test_the_timing_extension_is_passed_over(self) -> None:
        """Who does not know it reads the same messages, and nothing else."""
        frames = {path.stem: path.read_bytes() for path in (VECTORS / "timing").glob("*.bin")}
        self.assertEqual(set(frames), {"apply_action", "obs_request", "obs_response"})
        for name, frame in frames.items():
            self.assertEqual(report(decode(frame))["type"], name)
        self.assertEqual(report(decode(frames["obs_request"])), {"type": "obs_request"})
        action = report(decode(frames["apply_action"]))
        self.assertEqual(set(action), {"type", "action", "obs_timestamps"})
        self.assertEqual(action["obs_timestamps"], {"wrist": 12.5})
        self.assertEqual(report(decode(frames["obs_response"]))["extra"]["chiral"]["applied"], 3)

    def assert_same_message(self, left: Message, right: Message) -> None:
        """Two messages that read the same."""
        self.assertEqual(report(left), report(right))


if __name__ == "__main__":
    unittest.main()
