"""Ctrl-C, exceptions, threads, forks, the interpreter's end: as Python programs expect them."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from robots import SOON, Arm, AsyncArm, wait_until

import chiral

HERE = os.path.dirname(__file__)


def program(source, **options):
    # A program that a script starts in the background ignores Ctrl-C, unless it says otherwise.
    start = (
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"sys.path.insert(0, {HERE!r})\n"
    )
    source = start + textwrap.dedent(source)
    command = [sys.executable, "-c", source]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def run(source, code=0):
    with program(source) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == code, (process.returncode, out, err)
    return out, err


# ---- Ctrl-C -------------------------------------------------------------------------------------

WAITS = {
    "connect": "chiral.PolicyClient('ws://127.0.0.1:9').connect()",
    "get_obs": "client.get_obs()",
    "reset": "client.reset()",
    "next_obs": "client.next_obs()",
    "plan_low": "client.put_action([0.0]); client.plan_low()",
    "wait_ready": "Arm().wait_ready()",
    "lock": "lock = Arm()._locks['top_cam']; lock.acquire(); lock.acquire()",
    "snapshot": "arm = Arm(); arm.images['top_cam']; arm._locks['top_cam'].acquire(); arm._make_obs()",
    "update": "arm = Arm(); arm.images['top_cam']; arm._locks['top_cam'].acquire();"
    "arm.update_image('top_cam', 1)",
    "connection event": "client.next_connection_event()",
    "run": "Arm().run()",
    "run_async": "AsyncArm().run()",
}


@pytest.mark.parametrize("wait", WAITS)
def test_ctrl_c_interrupts_every_wait_at_once(wait):
    source = f"""
        import threading, time
        import chiral
        from robots import Arm, AsyncArm
        class Slow(Arm):
            def get_obs(self):
                time.sleep(3)
                return self._make_obs()
            reset = get_obs
        server = Slow().start()
        client = chiral.PolicyClient(server.uri).connect()
        print("ready", flush=True)
        try:
            {WAITS[wait]}
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    """
    with program(source) as process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.3)
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n", process.stderr.read()
        # A server's end may take what its robot is at.
        assert time.monotonic() - start < 2
        process.communicate(timeout=60)
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("method", "then"),
    [
        ("def", "pass"),
        ("async def", "pass"),
        ("async def", "robot.shutdown()"),
        ("def", "loop.close()"),
    ],
)
def test_a_robot_in_a_loop_that_ctrl_c_has_stopped_is_told_of_the_end(method, then):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    source = f"""
        import asyncio, signal, threading, time
        from robots import Arm
        observing = threading.Event()
        class Interrupted(Arm):
            async def get_obs(self):
                observing.set()
                await asyncio.Event().wait()
            def apply_action(self, action):
                observing.wait(20)
                # Until the loop waits: Python notes a signal just before that only behind it.
                time.sleep(0.2)
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            {method} on_disconnect(self, reason):
                print("at rest", flush=True)
        loop = asyncio.new_event_loop()
        robot = Interrupted(port={port}, shutdown_timeout=0.2)
        try:
            loop.run_until_complete(robot.serve())
        except KeyboardInterrupt:
            print("interrupted", flush=True)
            {then}
    """
    with program(source) as process:
        try:
            with chiral.PolicyClient(f"ws://127.0.0.1:{port}", connect_timeout=SOON) as client:
                client.start_obs_stream(hz=100)
                client.send_action([0.0])
                out, err = process.communicate(timeout=SOON)
        finally:
            process.kill()
    assert (process.returncode, sorted(out.split("\n"))) == (0, ["", "at rest", "interrupted"]), err


# ---- exceptions ---------------------------------------------------------------------------------


class Failing(Arm):
    def apply_action(self, action):
        raise RuntimeError("joint limit")

    def get_obs(self):
        raise OSError("camera unplugged")


class AsyncFailing(AsyncArm):
    async def apply_action(self, action):
        await asyncio.sleep(0)
        raise RuntimeError("joint limit")

    async def get_obs(self):
        raise OSError("camera unplugged")


@pytest.mark.parametrize("kind", [Failing, AsyncFailing])
def test_an_exception_of_the_robot_reaches_the_policy_as_text_and_the_log_as_a_traceback(kind, caplog):
    with kind() as robot:
        with chiral.PolicyClient(robot.uri) as client:
            client.send_action([0.0])
            with pytest.raises(chiral.ConnectionClosed, match="RuntimeError: joint limit") as caught:
                client.next_obs()
            assert caught.value.code == 1011 and isinstance(caught.value, ConnectionError)
            assert "joint limit" in client.error and not client.is_connected
            for call in (client.get_metadata, client.reset, lambda: client.put_action([0.0])):
                with pytest.raises(chiral.ConnectionClosed, match="connect again"):
                    call()
        assert "apply_action failed" in caplog.text and "Traceback" in caplog.text
        # The server goes on.
        with chiral.PolicyClient(robot.uri) as client:
            with pytest.raises(chiral.ConnectionClosed, match="OSError: camera unplugged"):
                client.get_obs()


@pytest.mark.parametrize("told", ["errors", "everything"])
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("hook", ["on_connect", "on_watchdog", "on_stop"])
def test_a_robot_that_fails_to_brake_or_to_hold_ends_the_connection(hook, is_async, told, caplog):
    def fail(self, *args):
        raise RuntimeError("the brake is stuck")

    async def fail_later(self, *args):
        await asyncio.sleep(0)
        raise RuntimeError("the brake is stuck")

    class Stuck(Arm):
        on_watchdog = chiral.PolicyServer.on_watchdog

    setattr(Stuck, hook, fail_later if is_async else fail)
    watchdog = 0.05 if hook == "on_watchdog" else None
    with Stuck(watchdog=watchdog, failure_text=told) as robot:
        with chiral.PolicyClient(robot.uri, connect_timeout=SOON) as client:
            if hook == "on_stop":
                client.get_metadata()
                robot.stop_motion()
            with pytest.raises(chiral.ConnectionClosed) as caught:
                client.next_obs(timeout=5)
        assert caught.value.code == 1011
        assert ("RuntimeError: the brake is stuck" in str(caught.value)) == (told == "everything")
        assert robot.event.wait(SOON), "it is told of the end"
    assert f"{hook} failed" in caplog.text and "Traceback" in caplog.text


def test_a_robot_that_fails_to_take_note_of_dropped_actions_goes_on(caplog):
    class Forgetful(Arm):
        def on_actions_dropped(self, count, reason):
            raise RuntimeError("no paper")

    with Forgetful() as robot, chiral.PolicyClient(robot.uri) as client:
        client.send_action([float("nan")])
        wait_until(lambda: "on_actions_dropped failed" in caplog.text)
        client.send_action([1.0])
        assert robot.acted.wait(SOON) and client.is_connected


@pytest.mark.parametrize("told", ["nothing", "errors", "everything"])
def test_the_robot_says_how_much_of_its_failures_its_policies_are_told(told, caplog):
    with Failing(failure_text=told) as robot, chiral.PolicyClient(robot.uri) as client:
        with pytest.raises(chiral.ConnectionClosed) as caught:
            client.get_obs()
    text = str(caught.value)
    if told == "nothing":
        assert "its log says why" in text and "camera" not in text and "OSError" not in text
    else:
        assert "OSError: camera unplugged" in text
    assert "OSError: camera unplugged" in caplog.text and "Traceback" in caplog.text


def test_an_unknown_failure_text_is_told():
    with pytest.raises(ValueError, match='found the failure_text "all", expected "nothing", "errors" or'):
        Arm(failure_text="all").start()


def test_what_a_handler_returns_is_checked(caplog):
    cases = {
        "reset": (lambda: 5, "found a int returned by `reset`, expected a tuple"),
        "get_metadata": (lambda: [1], "found the metadata of type list, expected a dict"),
    }
    for method, (function, text) in cases.items():
        with Arm() as robot:
            setattr(robot, method, function)
            with chiral.PolicyClient(robot.uri) as client:
                with pytest.raises(chiral.ConnectionClosed, match=text):
                    getattr(client, method)()


def test_a_server_without_an_apply_action_says_so(caplog):
    class Looking(chiral.PolicyServer):
        def camera_configs(self):
            return []

    with Looking("127.0.0.1", 0) as robot, chiral.PolicyClient(robot.uri) as client:
        assert client.get_metadata() == {} and client.reset()[1] == {}
        assert client.next_obs() is not None
        client.send_action([0.0])
        with pytest.raises(chiral.ConnectionClosed, match="write `apply_action`"):
            client.next_obs()


def test_calls_without_a_connection_say_what_to_do(arm):
    client = chiral.PolicyClient(arm.uri)
    with pytest.raises(RuntimeError, match="call `connect`"):
        client.get_obs()
    with client as same:
        assert same is client and client.connect() is client
    client.close()
    with pytest.raises(RuntimeError, match="not connected"):
        _ = client.latest_obs
    with pytest.raises(RuntimeError, match="does not listen yet"):
        _ = Arm().uri


def test_addresses_that_lead_nowhere():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    start = time.monotonic()
    with pytest.raises(chiral.ConnectTimeout, match=f"no server at ws://127.0.0.1:{port}"):
        chiral.PolicyClient(f"ws://127.0.0.1:{port}", connect_timeout=0.3).connect()
    assert time.monotonic() - start < 5
    with pytest.raises(ValueError):
        chiral.PolicyClient("ws://[::1").connect()
    with pytest.raises(OSError, match="cannot be listened on"):
        Arm("192.0.2.1").start()
    with pytest.raises(RuntimeError, match="already"):
        with Arm() as robot:
            asyncio.run(robot.serve())


def test_a_request_that_takes_too_long(arm):
    class Slow(Arm):
        def get_obs(self):
            time.sleep(0.3)
            return self._make_obs()

    with Slow() as robot:
        with chiral.PolicyClient(robot.uri) as client:
            with pytest.raises(TimeoutError, match=r"no answer within 0.05 s"):
                client.get_obs(timeout=0.05)
            assert client.get_obs() is not None, "the connection goes on, and answers are not mixed up"
        with chiral.PolicyClient(robot.uri, request_timeout=0.05) as client:
            with pytest.raises(chiral.RequestTimeout, match="no obs_response after"):
                client.get_obs()


# ---- waiting for a robot ------------------------------------------------------------------------


def test_a_client_waits_for_a_robot_that_is_not_there_and_says_so_once():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    source = f"""
        import chiral
        with chiral.PolicyClient("ws://127.0.0.1:{port}") as client:
            print(client.get_metadata()["robot"])
    """
    with program(source) as process:
        notice = process.stderr.readline()
        with Arm(port=port):
            out, err = process.communicate(timeout=60)
    assert out == "arm-3\n"
    assert notice.startswith(f"waiting for a robot at ws://127.0.0.1:{port}"), notice
    # The log has a line of its own.
    others = [line for line in err.splitlines() if line.startswith("waiting for a robot at")]
    assert len(others) <= 1, err


def test_nothing_is_printed_when_all_goes_well():
    out, err = run("""
        import numpy as np
        import chiral
        from robots import Arm
        with Arm() as server, chiral.PolicyClient(server.uri) as client:
            client.reset()
            client.start_obs_stream(100)
            client.next_obs()
            client.send_action([0.0])
    """)
    assert (out, err) == ("", "")


# ---- the end ------------------------------------------------------------------------------------

ENDS = {
    "serving and streaming": "",
    "exception": "raise SystemExit(0)",
    "threads that wait": "import threading; threading.Thread(target=client.next_obs, daemon=True)"
    ".start(); client.stop_obs_stream()",
    "collected": "del server, client; import gc; gc.collect()",
    "robot that computes": "client.put_chunk(client.get_obs(), [[0.0]] * 100)",
}


@pytest.mark.parametrize("end", ENDS)
def test_the_interpreter_ends_cleanly(end):
    _, err = run(f"""
        import chiral
        from robots import Arm, AsyncArm
        server, other = Arm(action_queue="all").start(), AsyncArm(action_queue="all").start()
        client = chiral.PolicyClient(server.uri).connect()
        busy = chiral.PolicyClient(other.uri).connect()
        for it in (client, busy):
            it.start_obs_stream(200)
            it.start_action_dispatch(100)
            it.put_chunk(it.get_obs(), [[0.0]] * 50)
        {ENDS[end]}
    """)
    assert err == ""


def test_a_killed_policy_frees_the_robot(arm):
    source = f"""
        import chiral, time
        client = chiral.PolicyClient({arm.uri!r}).connect()
        print("ready", flush=True)
        time.sleep(60)
    """
    with program(source) as process:
        assert process.stdout.readline() == "ready\n"
        process.kill()
    assert arm.event.wait(SOON)
    with chiral.PolicyClient(arm.uri, connect_timeout=SOON) as client:
        assert client.get_metadata()["robot"] == "arm-3"


def test_an_observation_that_waits_for_a_frame_is_given_up_with_its_policy(caplog):
    class Waiting(AsyncArm):
        async def get_obs(self):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.given_up = True
                raise

    with Waiting() as robot:
        client = chiral.PolicyClient(robot.uri).connect()
        with pytest.raises(TimeoutError):
            client.get_obs(timeout=0.1)
        client.close()
        with chiral.PolicyClient(robot.uri, connect_timeout=SOON) as client:
            assert client.get_metadata()["robot"] == "arm-4"
        assert robot.given_up
    assert "Traceback" not in caplog.text


def test_shutdown_from_a_handler_ends_run():
    class Once(Arm):
        def apply_action(self, action):
            self.shutdown()

    robot = Once()
    thread = threading.Thread(target=robot.run)
    thread.start()
    wait_until(lambda: robot._uri)
    with chiral.PolicyClient(robot.uri) as client:
        client.send_action([0.0])
        with pytest.raises(chiral.ConnectionClosed, match="shutting down"):
            client.next_obs(timeout=SOON)
    thread.join(SOON)
    assert not thread.is_alive()


def test_serve_ends_when_it_is_cancelled():
    async def main():
        robot = AsyncArm()
        serving = asyncio.create_task(robot.serve())
        while robot._uri is None:
            await asyncio.sleep(0.005)
        with await asyncio.to_thread(chiral.PolicyClient(robot.uri).connect) as client:
            observation = await asyncio.to_thread(client.get_obs)
            assert observation.timestamp == 7.0
            serving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await serving
            assert ("disconnect" in [event[0] for event in robot.events])

    asyncio.run(main())


def test_a_server_can_serve_again(arm):
    robot = Arm()
    for _ in range(3):
        with robot, chiral.PolicyClient(robot.uri) as client:
            client.send_action([0.0])
            assert robot.acted.wait(SOON)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork")
def test_a_forked_child_can_connect_anew_and_not_use_what_it_inherited():
    out, err = run("""
        import os, warnings
        warnings.simplefilter("ignore")
        import chiral
        from robots import Arm
        server = Arm(on_second="replace").start()
        uri = server.uri
        client = chiral.PolicyClient(uri).connect()
        client.get_obs()
        pid = os.fork()
        if pid == 0:
            for call in (client.get_obs, lambda: client.latest_obs, client.stats):
                try:
                    call()
                except RuntimeError as error:
                    assert "before the process was forked" in str(error), error
                else:
                    os._exit(2)
            client.close()
            del client
            with chiral.PolicyClient(uri) as own:
                print(own.get_metadata()["robot"], flush=True)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    """)
    assert out == "arm-3\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_does_not_wait_for_the_end_of_a_server_that_it_inherited():
    run("""
        import os, signal, warnings
        warnings.simplefilter("ignore")
        import chiral
        from robots import Arm
        server = Arm().start()
        with chiral.PolicyClient(server.uri) as client:
            pid = os.fork()
            if pid == 0:
                signal.alarm(10)
                server.shutdown()
                server.__exit__(None, None, None)
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            assert client.get_metadata()["robot"] == "arm-3"
    """)


def test_connections_that_are_not_closed_are_closed_when_they_are_collected(arm):
    client = chiral.PolicyClient(arm.uri).connect()
    client.start_obs_stream(100)
    del client
    gc.collect()
    assert arm.event.wait(SOON)


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="usage is read from /proc")
def test_many_connections_leave_nothing_behind(arm):
    """`CHIRAL_CONNECTS=10000 pytest -s -k many_connections` shows it for more of them."""
    count = int(os.environ.get("CHIRAL_CONNECTS", "200"))

    def usage():
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        threads, files = (len(os.listdir(f"/proc/self/{it}")) for it in ("task", "fd"))
        return threads, files, pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def connect():
        with chiral.PolicyClient(arm.uri, connect_timeout=SOON) as client:
            client.get_obs()

    for _ in range(50):
        connect()
    before = usage()
    for _ in range(count):
        connect()
    # The thread of the last connection ends behind its close.
    wait_until(lambda: usage()[0] <= before[0])
    after = usage()
    for what, first, last in zip(("threads", "files", "MiB"), before, after, strict=True):
        print(f"{what}: {first:.1f}, after {count} connections {last:.1f}")
    assert after[1] <= before[1] + 2
    assert after[2] <= before[2] + 16, "less than what 10,000 connections would keep"


# ---- threads and the interpreter's lock ---------------------------------------------------------


def test_calls_from_many_threads_get_their_own_answers(client):
    found = []

    def ask():
        for _ in range(50):
            found.append(client.get_metadata()["robot"])
            assert client.get_obs()["top_cam"].image.shape == (24, 32, 3)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["arm-3"] * 200


def test_observations_and_actions_go_on_while_the_lock_is_held():
    """Robot and policy are two processes; the policy computes in one call that lets no other thread
    of its interpreter run."""
    with program("""
        import time
        from robots import Arm
        class Moving(Arm):
            def apply_action(self, action):
                super().apply_action(action)
        with Moving(max_obs_age=None) as robot:
            print(robot.uri, flush=True)
            while True:
                robot.update_image("wrist_cam", 1)
                time.sleep(0.01)
                if len(robot.actions) >= 100:
                    print("enough", flush=True)
                    break
            time.sleep(60)
    """) as robot:
        uri = robot.stdout.readline().strip()
        with chiral.PolicyClient(uri) as client:
            client.start_obs_stream(hz=50)
            client.start_action_dispatch(hz=50)
            client.put_chunk(client.get_obs(), np.zeros((500, 7)))
            interval = sys.getswitchinterval()
            sys.setswitchinterval(1000)
            try:
                before, start = client.stats(), time.monotonic()
                while time.monotonic() - start < 3:
                    sum(range(1000))
                after = client.stats()
            finally:
                sys.setswitchinterval(interval)
            observed = after.observations.count - before.observations.count
            acted = after.actions.count - before.actions.count
            # 150 each on a quiet machine; none at all if they needed the lock.
            assert observed > 15 and acted > 15, (observed, acted)
            assert robot.stdout.readline() == "enough\n"
        robot.kill()


def test_the_log_goes_to_logging(caplog):
    caplog.set_level(logging.INFO, "chiral")
    with Arm() as robot, chiral.PolicyClient(robot.uri) as client:
        client.get_metadata()
    wait_until(lambda: any(record.name == "chiral" for record in caplog.records))


def test_a_unix_socket(tmp_path):
    if sys.platform == "win32":
        pytest.skip("no Unix sockets")
    with Arm(f"unix:{tmp_path}/arm.sock") as robot:
        assert robot.uri.startswith("unix:")
        with chiral.PolicyClient(robot.uri) as client:
            assert client.get_metadata()["robot"] == "arm-3"
