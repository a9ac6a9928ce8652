"""A robot that restarts: what a client keeps, drops, and tells."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from robots import SOON, Arm, wait_until

import chiral

SOON_AGAIN = chiral.Reconnect(initial=0.02, max=0.05)
PEER = Path(__file__).parents[3] / "tests" / "interop"


@pytest.fixture
def port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def again(uri, **options):
    """A client that connects again; not for ever if it never does."""
    return chiral.PolicyClient(uri, **{"connect_timeout": SOON, "reconnect": SOON_AGAIN, **options})


class Told:
    """What a client's functions were called with."""

    def __init__(self):
        self.lost = []
        self.again = []
        self.options = {"on_disconnect": self.lost.append, "on_reconnect": self.again.append}


class SlowReset(Arm):
    def __init__(self, **options):
        super().__init__(shutdown_timeout=0.1, **options)
        self.is_resetting, self.done = threading.Event(), threading.Event()

    def reset(self):
        self.is_resetting.set()
        self.done.wait(SOON)
        return super().reset()


def test_a_client_connects_again_and_nothing_of_before_is_sent(port):
    told, failed = Told(), []
    first = SlowReset(port=port).start()
    client = again(first.uri, **told.options).connect()
    client.start_obs_stream(hz=100)
    old = client.next_obs(timeout=SOON)
    client.put_chunk(old, np.ones((500, 2)))

    def reset():
        with pytest.raises(chiral.ConnectionInterrupted) as caught:
            client.reset()
        failed.append(caught.value)

    resetting = threading.Thread(target=reset)
    resetting.start()
    assert first.is_resetting.wait(SOON)
    ending = threading.Thread(target=first.shutdown)
    ending.start()
    resetting.join(SOON)
    first.done.set()
    ending.join(SOON)

    assert failed[0].sent is True and isinstance(failed[0], ConnectionError)
    assert "whether the robot has acted on the reset is not known" in str(failed[0])
    assert client.connection_state == "interrupted" and not client.is_connected
    assert client.error is None, "it has not ended"
    assert client.queued_actions == 0 and client.latest_obs is None
    for call in (client.get_metadata, lambda: client.put_action([0.0]), lambda: client.step([0.0])):
        with pytest.raises(chiral.ConnectionInterrupted, match="being made again") as caught:
            call()
        assert caught.value.sent is None

    with Arm(port=port) as second:
        lost = client.next_connection_event(timeout=SOON)
        made_again = client.next_connection_event(timeout=SOON)
        assert isinstance(lost, chiral.Disconnected) and "shutting down" in lost.reason
        assert str(lost).startswith("the connection was interrupted: ")
        assert isinstance(made_again, chiral.Reconnected) and made_again.down_for > 0
        # The stream goes on, the plan does not.
        new = client.next_obs(timeout=SOON)
        client.start_action_dispatch(hz=200)
        with pytest.raises(chiral.ActionRejected, match="connection"):
            client.follow(old, np.ones((5, 2)))
        client.put_chunk(new, np.full((3, 2), 7.0))
        wait_until(lambda: len(second.actions) == 3)
        assert (np.array(second.actions) == 7).all()
        assert client.stats().reconnects == 1 and client.is_connected
        wait_until(lambda: told.again)
        assert told.lost == [lost.reason] and told.again == [made_again.down_for]
        client.close()
        time.sleep(0.05)
    assert len(told.lost) == 1, "a close by the program is not told"


def test_a_supervised_policy_lives_through_a_restart_without_a_line_of_its_own(port):
    robot = Arm(port=port).start()
    second = []

    def restart():
        robot.shutdown()
        time.sleep(0.2)
        second.append(Arm(port=port).start())

    with chiral.PolicyClient.supervised(robot.uri, connect_timeout=SOON) as client:
        client.start_obs_stream(hz=100)
        client.start_action_dispatch(hz=100)
        client.next_obs()
        restarting = threading.Thread(target=restart)
        restarting.start()
        discarded = 0
        while not (second and second[0].actions):
            observation = client.next_obs()
            assert client.get_metadata()["robot"] == "arm-3"
            time.sleep(0.01)
            discarded += client.follow(observation, np.ones((4, 2))).discarded
            client.plan_context(client.latest_obs or observation)
        assert client.stats().reconnects == 1
        assert client.stats().chunks_discarded == discarded
        restarting.join()
    second[0].shutdown()


def test_a_client_ends_when_the_robot_refuses_it(port):
    told = Told()
    with Arm(port=port) as robot:
        client = again(robot.uri, **told.options).connect()
    with Arm(port=port, token="sixteen-letters-or-more"):
        wait_until(lambda: client.connection_state == "ended")
        with pytest.raises(chiral.ConnectionClosed, match="401"):
            client.next_obs()
        events = list(iter(lambda: client.next_connection_event(timeout=SOON), None))
        assert [type(event) for event in events] == [chiral.Disconnected, chiral.Ended]
        assert "401" in events[1].reason and client.connection_state == "ended"
        assert client.next_connection_event() is None, "at once: there is nothing to come"
        wait_until(lambda: len(told.lost) == 2)
        assert told.lost == [event.reason for event in events] and told.again == []
        client.close()


def test_a_connection_is_given_up_after_its_time(port):
    reconnect = chiral.Reconnect(initial=0.01, max=0.02, give_up_after=0.2)
    with Arm(port=port) as robot:
        client = again(robot.uri, reconnect=reconnect).connect()
    wait_until(lambda: client.connection_state == "ended")
    with pytest.raises(chiral.ConnectionClosed, match="could not be made again"):
        client.next_obs()
    client.close()
    with pytest.raises(ValueError, match="found initial of -1 s"):
        chiral.PolicyClient(reconnect=chiral.Reconnect(initial=-1)).connect()


def test_another_contract_after_a_restart_is_told(port):
    specs = [chiral.ActionSpec(size=2, low=-1, high=1), chiral.ActionSpec(size=2, low=-2, high=2)]
    with Arm(port=port, action_spec=specs[0]) as robot:
        client = again(robot.uri).connect()
        client.get_metadata()
    with Arm(port=port, action_spec=specs[1]):
        kinds = [type(client.next_connection_event(timeout=SOON)) for _ in range(2)]
        assert kinds == [chiral.Disconnected, chiral.Reconnected]
        changed = client.next_connection_event(timeout=SOON)
        assert isinstance(changed, chiral.ContractChanged)
        assert (changed.before.high, changed.after.high) == (1, 2)
        assert client.action_spec.high == 2
        client.close()


def test_connect_makes_a_new_connection_after_the_end_and_otherwise_does_nothing(port):
    with Arm(port=port) as robot:
        client = again(robot.uri, reconnect=None).connect()
        first = client._client
        assert client.connect() is client and client._client is first
    wait_until(lambda: client.connection_state == "ended")
    with Arm(port=port) as robot:
        assert client.connect() is client and client.is_connected
        assert client.get_metadata()["robot"] == "arm-3"
        client.send_action([0.0])
        assert robot.acted.wait(SOON)
        client.close()
    with Arm(port=port) as robot:
        client = again(robot.uri).connect()
        first = client._client
    wait_until(lambda: client.connection_state == "interrupted")
    assert client.connect() is client and client._client is first
    client.close()


def test_without_reconnect_the_end_is_told_once_and_a_function_that_fails_is_logged(caplog):
    lost = []

    def fail(reason):
        lost.append(reason)
        raise RuntimeError("no lamp")

    with Arm() as robot:
        client = again(robot.uri, reconnect=None, on_disconnect=fail).connect()
    wait_until(lambda: "on_disconnect failed" in caplog.text)
    assert "RuntimeError: no lamp" in caplog.text and len(lost) == 1
    assert isinstance(client.next_connection_event(timeout=SOON), chiral.Ended)
    client.close()


def test_a_client_with_functions_is_closed_when_it_is_collected():
    told = Told()
    with Arm() as robot:
        client = again(robot.uri, reconnect=True, **told.options).connect()
        del client
        assert robot.event.wait(SOON)
    assert told.lost == []


@pytest.mark.skipif(sys.version_info < (3, 11), reason="the peer needs Python 3.11 or newer")
def test_our_client_connects_again_to_the_peer(port):
    pytest.importorskip("websockets")
    pytest.importorskip("msgpack")

    def serve():
        command = [sys.executable, "-m", "peer.server", "--port", str(port), "--cameras", "1"]
        env = os.environ | {"PYTHONPATH": str(PEER)}
        return subprocess.Popen(command, cwd=PEER, env=env, stdout=subprocess.PIPE, text=True)

    with serve() as robot:
        robot.stdout.readline()
        uri = f"ws://127.0.0.1:{port}"
        client = chiral.PolicyClient.supervised(uri, connect_timeout=SOON).connect()
        first = client.get_obs()
        robot.kill()
    with serve() as robot:
        robot.stdout.readline()
        assert client.get_obs(timeout=SOON) is not first
        client.send_action(np.ones(7))
        assert client.stats().reconnects == 1
        client.close()
        robot.kill()
