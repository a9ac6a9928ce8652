"""With the Python peer of ``tests/interop``, which shares no code with this package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from robots import SOON, Arm, AsyncArm, wait_until

import chiral

if sys.version_info < (3, 11):
    pytest.skip("the peer needs Python 3.11 or newer", allow_module_level=True)

PEER = Path(__file__).parents[3] / "tests" / "interop"
pytest.importorskip("websockets")
pytest.importorskip("msgpack")
TRANSPORTS = ["websocket", "zenoh"] if chiral._core.has_zenoh else ["websocket"]


def peer(*args):
    env = os.environ | {"PYTHONPATH": str(PEER)}
    return subprocess.Popen(
        [sys.executable, "-m", f"peer.{args[0]}", *args[1:]],
        cwd=PEER,
        env=env,
        stdout=subprocess.PIPE,
        text=True,
    )


def lines_of(process):
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, out
    return [json.loads(line) for line in out.splitlines()]


@pytest.mark.parametrize("style", ["python", "cpp"])
def test_our_client_drives_the_peer(style):
    options = ["--cameras", "2", "--size", "64x48", "--depth", "--proprio", "arm:7", "--style", style]
    with peer("server", "--port", "0", *options) as robot:
        port = json.loads(robot.stdout.readline())["listening"]
        with chiral.PolicyClient(f"ws://127.0.0.1:{port}") as client:
            assert isinstance(client.get_metadata(), dict)
            observation, info = client.reset()
            assert isinstance(info, dict) and len(observation.cameras) == 2
            camera = observation.cameras[0]
            assert camera.image.shape == (48, 64, 3) and camera.depth.dtype == np.float32
            assert observation.proprios["arm"].shape == (7,)
            client.start_obs_stream(hz=100)
            client.start_action_dispatch(hz=100)
            for _ in range(5):
                current = client.next_obs(timeout=SOON)
                client.put_chunk(current, np.ones((2, 7)))
            wait_until(lambda: client.queued_actions == 0)
            result = client.step(np.zeros((1, 7)))
            assert isinstance(result[1], float) and isinstance(result[4], dict)
        robot.terminate()
        out, _ = robot.communicate(timeout=30)
    actions = [json.loads(line) for line in out.splitlines() if '"apply_action"' in line]
    assert len(actions) == 10 and actions[0]["action"]["dtype"] == "float32"
    assert actions[0]["action"]["shape"] == [7] and set(actions[0]["obs_timestamps"]) == {
        c.name for c in observation.cameras
    }


@pytest.mark.parametrize("kind", [Arm, AsyncArm])
@pytest.mark.parametrize("scenario", ["calls", "stream", "actions", "step", "pings"])
def test_the_peer_drives_our_server(kind, scenario):
    options = {"stream": ["--seconds", "1"], "pings": ["--seconds", "1"]}.get(scenario, [])
    with kind() as robot:
        with peer("client", "--uri", robot.uri, "--scenario", scenario, *options) as policy:
            lines = lines_of(policy)
        assert lines[-1]["summary"] == scenario
        if scenario == "stream":
            assert lines[-1]["observations"] > 10 and len(robot.actions) > 10
        if scenario == "step":
            assert robot.actions and robot.actions[0].ndim == 1


@pytest.mark.skipif("zenoh" not in TRANSPORTS, reason="built without Zenoh")
def test_zenoh_with_ourselves():
    with Arm("127.0.0.1", 17447, protocol="zenoh") as robot:
        robot.update_image("wrist_cam", 9)
        with chiral.PolicyClient("tcp/127.0.0.1:17447", "zenoh", connect_timeout=SOON) as client:
            assert client.get_metadata()["robot"] == "arm-3"
            observation = client.get_obs()
            assert (observation["wrist_cam"].image == 9).all()
            observation["wrist_cam"].image[:] = 1
            client.send_action([1.0, 2.0])
            assert robot.acted.wait(SOON)


@pytest.mark.skipif("zenoh" not in TRANSPORTS, reason="built without Zenoh")
def test_zenoh_has_the_contract_and_no_token():
    spec = chiral.ActionSpec(size=2, low=-1, high=1, rate_hz=20)
    with Arm("127.0.0.1", 17448, protocol="zenoh", action_spec=spec) as robot:
        with chiral.PolicyClient("tcp/127.0.0.1:17448", "zenoh", connect_timeout=SOON) as client:
            client.get_metadata()
            assert client.action_spec.high == 1
            with pytest.raises(chiral.ActionRejected, match="expected -1 to 1"):
                client.send_action([2.0, 0.0])
            client.send_action([0.5, 0.0])
            wait_until(lambda: ("watchdog" in [event[0] for event in robot.events]))
            client.get_obs()
            assert client.contract_status.state == "holding"
    with pytest.raises(ValueError, match="`token=` is looked for in requests for a WebSocket"):
        Arm("127.0.0.1", 17449, protocol="zenoh", token="sixteen-letters-or-more").start()
