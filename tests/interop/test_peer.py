"""The two programs against each other, over loopback."""

import hashlib
import json
import socket
import subprocess
import sys
import unittest
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from peer.faults import FAULTS
from peer.values import Style

HERE = Path(__file__).resolve().parent
SERVER_TYPES = {"metadata_response", "reset_response", "obs_response", "step_response"}
SENSORS = ["--cameras", "2", "--size", "32x24", "--depth", "--proprio", "arm:7", "gripper:1"]
DEADLINE = 60  # seconds for any child process

Line = dict[str, Any]


class Finished(NamedTuple):
    """What became of a program."""

    returncode: int
    stdout: str
    stderr: str


class Server:
    """The server program, from its first line to its end."""

    def __init__(self, *arguments: str, port: int = 0) -> None:
        command: list[str] = [sys.executable, "-m", "peer.server", "--port", str(port), *arguments]
        self._process = subprocess.Popen(command, cwd=HERE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port: int = json.loads(self._process.stdout.readline())["listening"]
        self.lines: list[Line] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        """Stop it; what it printed is in `lines` from here on."""
        self._process.terminate()
        output, _ = self._process.communicate(timeout=DEADLINE)
        self.lines = parse(output)

    def sent(self) -> list[Line]:
        """The messages that it sent."""
        return [line for line in self.lines if line.get("type") in SERVER_TYPES]

    def received(self, *types: str) -> list[Line]:
        """The messages of these types that it received."""
        return [line for line in self.lines if line.get("type") in types]

    def noted(self, event: str) -> list[Any]:
        """What it said of something that is not a message."""
        return [line[event] for line in self.lines if event in line]


def parse(output: str) -> list[Line]:
    """Every line as JSON."""
    return [json.loads(line) for line in output.splitlines()]


def start_client(port: int, *arguments: str) -> subprocess.Popen[str]:
    """The client program, running."""
    uri = f"ws://127.0.0.1:{port}"
    command = [sys.executable, "-m", "peer.client", "--uri", uri, *arguments]
    return subprocess.Popen(
        command, cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(client: subprocess.Popen[str]) -> Finished:
    """Wait for a client."""
    stdout, stderr = client.communicate(timeout=DEADLINE)
    return Finished(client.returncode, stdout, stderr)


def run_client(port: int, *arguments: str) -> Finished:
    """The client program, to its end."""
    return finish(start_client(port, *arguments))


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def of_type(lines: list[Line], *types: str) -> list[Line]:
    """The messages of these types."""
    return [line for line in lines if line.get("type") in types]


class Loopback(unittest.TestCase):
    """Each scenario, in every pairing of styles where the style matters."""

    def succeed(self, server: Server, *arguments: str) -> tuple[list[Line], Line]:
        """Messages and summary of a client that must succeed."""
        client = run_client(server.port, *arguments)
        self.assertEqual((client.returncode, client.stderr), (0, ""))
        *messages, summary = parse(client.stdout)
        self.assertIn("summary", summary)
        return messages, summary

    def test_calls(self) -> None:
        """The client reads exactly what the server says that it sent."""
        for server_style, client_style in product(Style, Style):
            with self.subTest(server=server_style, client=client_style):
                with Server("--style", server_style, *SENSORS) as server:
                    messages, summary = self.succeed(
                        server, "--scenario", "calls", "--count", "3", "--style", client_style
                    )
                kinds = ["metadata_response", "reset_response"] + ["obs_response"] * 3
                self.assertEqual([message["type"] for message in messages], kinds)
                self.assertEqual(messages, server.sent())
                self.assertEqual(summary, {"summary": "calls", "observations": 3})
                self.assertEqual(server.noted("disconnected"), [{"code": 1000, "reason": ""}])

    def test_sensor_data_follow_the_formula(self) -> None:
        """As the documentation of `peer.scene` gives it."""
        with Server(*SENSORS) as server:
            messages, _ = self.succeed(server, "--scenario", "calls", "--count", "2")
        frame = 2  # the reset made observation 0
        observation = messages[-1]
        self.assertEqual(observation["timestamp"], frame / 32)
        for index, camera in enumerate(observation["cameras"]):
            shift = 4099 * index + frame
            colours = [((p + shift) * 2654435761 % 2**32) >> 24 for p in range(24 * 32 * 3)]
            depths = [0.5 + ((p + shift) % 65536) / 1024 for p in range(24 * 32)]
            self.assertEqual(camera["image"]["sha256"], digest(colours, "<u1"))
            self.assertEqual(camera["depth"]["sha256"], digest(depths, "<f4"))
            self.assertEqual(camera["depth"]["shape"], [24, 32])
        for index, proprio in enumerate(observation["proprios"]):
            values = [j + 1000 * index + frame / 64 for j in range(proprio["count"])]
            self.assertEqual(proprio["sha256"], digest(values, "<f4"))

    def test_stream(self) -> None:
        """Observations and actions both keep their rates, roughly, on any machine."""
        arguments = ["--scenario", "stream", "--hz", "20", "--action-hz", "40", "--seconds", "1"]
        for style in Style:
            with self.subTest(style=style):
                with Server("--style", style, *SENSORS) as server:
                    messages, summary = self.succeed(server, *arguments, "--style", style)
                self.assertEqual(messages, of_type(server.sent(), "obs_response"))
                self.assertEqual(summary["observations"], len(messages))
                self.assertEqual(summary["actions"], len(server.received("apply_action")))
                self.assertTrue(5 <= summary["observations"] <= 21, summary)
                self.assertTrue(10 <= summary["actions"] <= 41, summary)
                size = 2 * 24 * 32 * (3 + 4) + 4 * 8
                self.assertEqual(summary["bytes"], size * summary["observations"])
                stamped = server.received("apply_action")[-1]["obs_timestamps"]
                self.assertEqual(sorted(stamped), ["cam_0", "cam_1"])

    def test_a_slow_robot_still_takes_actions(self) -> None:
        """Two observations at most, and the actions between them."""
        with Server("--delay-obs", "0.5") as server:
            _, summary = self.succeed(server, "--scenario", "stream", "--seconds", "0.9")
        self.assertLessEqual(summary["observations"], 2)
        self.assertGreaterEqual(summary["max_latency"], 0.5)
        between = [line["type"] for line in server.lines if "type" in line]
        first = between.index("obs_request")
        self.assertIn("apply_action", between[first : between.index("obs_response", first)])

    def test_actions(self) -> None:
        """Shapes, element types and timestamps arrive as they left."""
        for style in Style:
            with self.subTest(style=style):
                with Server("--style", style) as server:
                    messages, summary = self.succeed(
                        server, "--scenario", "actions", "--style", style
                    )
                sent = of_type(messages, "apply_action")
                self.assertEqual(sent, server.received("apply_action"))
                self.assertEqual(summary["actions"], len(sent))
                shapes = {tuple(message["action"]["shape"]) for message in sent}
                self.assertEqual(shapes, {(7,), (8, 7), (0,), ()})
                self.assertEqual(len({message["action"]["dtype"] for message in sent}), 12)

    def test_step(self) -> None:
        """Every action has its step."""
        for style in Style:
            with self.subTest(style=style):
                with Server("--style", style) as server:
                    messages, _ = self.succeed(
                        server, "--scenario", "step", "--count", "5", "--style", style
                    )
                self.assertEqual(of_type(messages, "action"), server.received("action"))
                steps = of_type(messages, "step_response")
                self.assertEqual(steps, of_type(server.sent(), "step_response"))
                self.assertEqual([s["reward"] for s in steps], [0.25, 0.5, 0.75, 1.0, 1.25])
                self.assertEqual([s["terminated"] for s in steps].index(True), 2)
                self.assertEqual([s["truncated"] for s in steps].index(True), 4)

    def test_pings(self) -> None:
        """Pongs come while the robot is busy."""
        with Server("--delay-obs", "1.2") as server:
            messages, summary = self.succeed(server, "--scenario", "pings", "--seconds", "1")
        self.assertGreaterEqual(summary["pings"], 2)
        self.assertGreaterEqual(summary["answered_after"], 1.2)
        self.assertEqual(messages, server.sent())

    def test_malformed_actions(self) -> None:
        """The server closes, says why, and takes the next client."""
        with Server() as server:
            for fault in FAULTS:
                with self.subTest(fault=fault):
                    _, summary = self.succeed(server, "--scenario", "malformed", "--fault", fault)
                    self.assertEqual(summary["closed"]["code"], 1007)
                    self.assertNotEqual(summary["closed"]["reason"], "")
        self.assertEqual(len(server.noted("refused")), len(FAULTS))

    def test_malformed_observations(self) -> None:
        """The client notices, whatever it is."""
        for fault in FAULTS:
            with self.subTest(fault=fault):
                with Server("--malformed", fault) as server:
                    client = run_client(server.port, "--scenario", "calls")
                self.assertEqual(client.returncode, 1)
                self.assertRegex(client.stderr, "^FrameError: .")
                self.assertEqual(server.noted("fault"), [fault])

    def test_the_server_hangs_up(self) -> None:
        """With a closing handshake, or without one."""
        for extra, code in (([], "1000"), (["--abort"], "no close frame")):
            with self.subTest(extra=extra):
                with Server("--close-after", "2", *extra) as server:
                    client = run_client(server.port, "--scenario", "calls")
                self.assertEqual(client.returncode, 1)
                self.assertRegex(client.stderr, f"ConnectionClosed.*: .*{code}")
                self.assertEqual(len(of_type(server.sent(), "obs_response")), 2)

    def test_a_second_client_is_refused(self) -> None:
        """And the first one does not notice."""
        with Server("--delay-obs", "2") as server:
            first = start_client(server.port, "--scenario", "calls", "--count", "1")
            assert first.stdout is not None
            first.stdout.readline()
            second = run_client(server.port, "--scenario", "calls", "--connect-timeout", "0")
            self.assertEqual(finish(first).returncode, 0)
        self.assertEqual(second.returncode, 1)
        self.assertRegex(second.stderr, "^InvalidStatus: .*503")

    def test_fragments(self) -> None:
        """A message in many WebSocket frames is still one message."""
        with Server(*SENSORS, "--fragment", "1000") as server:
            messages, _ = self.succeed(server, "--scenario", "calls", "--fragment", "5")
        self.assertEqual(messages, server.sent())

    def test_observations_of_full_size(self) -> None:
        """Eight cameras of 640x480 with depth: beyond every library's default limit."""
        with Server("--cameras", "8", "--size", "640x480", "--depth") as server:
            messages, _ = self.succeed(server, "--scenario", "calls", "--count", "2")
        self.assertEqual(messages, server.sent())

    def test_a_server_that_comes_later(self) -> None:
        """The client keeps trying."""
        port = free_port()
        client = start_client(port, "--scenario", "calls", "--connect-timeout", "30")
        with self.assertRaises(subprocess.TimeoutExpired):
            client.wait(timeout=1)
        with Server(port=port) as server:
            finished = finish(client)
        self.assertEqual((finished.returncode, finished.stderr), (0, ""))
        self.assertEqual(len(of_type(server.sent(), "obs_response")), 5)

    def test_a_server_that_never_comes(self) -> None:
        """The client gives up at its deadline."""
        client = run_client(free_port(), "--scenario", "calls", "--connect-timeout", "0.3")
        self.assertEqual(client.returncode, 1)
        self.assertRegex(client.stderr, "^ConnectionRefusedError: ")


def digest(values: list[int] | list[float], dtype: str) -> str:
    """The digest of values as an array."""
    return hashlib.sha256(np.array(values).astype(dtype).tobytes()).hexdigest()


if __name__ == "__main__":
    unittest.main()
