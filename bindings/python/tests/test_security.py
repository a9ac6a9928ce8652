"""Tokens and TLS: who is let in, and that no secret is shown."""

from __future__ import annotations

import logging
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from robots import SOON, Arm, wait_until

import chiral

SECRET = "6d1f0c8f2f6be3cf1a2a1fb0b5a5e6f7"
OTHER = "00000000000000000000000000000000"


def connect(uri, **options):
    return chiral.PolicyClient(uri, **{"connect_timeout": SOON, **options}).connect()


# ---- tokens -------------------------------------------------------------------------------------


def test_a_policy_with_the_token_is_let_in_and_others_are_told_why_not(caplog):
    caplog.set_level(logging.INFO)
    with Arm(token=SECRET) as robot:
        for token in (SECRET, chiral.Token(SECRET)):
            with connect(robot.uri, token=token) as client:
                assert client.get_metadata()["robot"] == "arm-3"
        for token in (OTHER, None):
            with pytest.raises(chiral.ConnectRefused, match="refused with 401 Unauthorized") as caught:
                connect(robot.uri, token=token)
            assert caught.value.status == 401
            assert isinstance(caught.value, (chiral.ConnectFailed, ConnectionError))
            assert SECRET not in str(caught.value) and OTHER not in str(caught.value)
        assert robot.events.count("connect") == 2, "the robot hears of those alone that are let in"
    assert SECRET not in caplog.text and OTHER not in caplog.text


def test_a_token_comes_from_a_file_or_the_environment(tmp_path, monkeypatch):
    path = tmp_path / "token"
    path.write_text(SECRET + "\n")
    monkeypatch.setenv("CHIRAL_TOKEN", SECRET)
    with Arm(token=chiral.Token.from_file(path)) as robot:
        with connect(robot.uri, token=chiral.Token.from_env()) as client:
            assert client.is_connected
    with pytest.raises(OSError, match="cannot be read from"):
        chiral.Token.from_file(tmp_path / "none")
    with pytest.raises(ValueError, match="found no token in the environment variable UNSET_TOKEN"):
        chiral.Token.from_env("UNSET_TOKEN")


def test_a_bad_token_is_told_where_it_is_given_and_no_token_is_shown():
    for side in (chiral.PolicyClient, Arm):
        with pytest.raises(ValueError, match="found a token of 9 characters, expected 16 to 1024") as e:
            side(token="too-short")
        assert "too-short" not in str(e.value)
    token = chiral.Token(SECRET)
    robot, client = Arm(token=SECRET), chiral.PolicyClient("ws://me:word@robot/?key=1", token=SECRET)
    for shown in (repr(token), str(token), repr(client), repr(vars(client)), repr(vars(robot))):
        assert SECRET not in shown
    assert repr(token) == "Token(***)" and "word" not in repr(client) and "key=1" not in repr(client)
    with pytest.raises(TypeError, match="pickle"):
        pickle.dumps(token)


def test_the_log_warns_of_a_robot_that_others_can_reach(caplog):
    # Nobody connects to it.
    with Arm("0.0.0.0"):
        wait_until(lambda: "can be reached from other computers" in caplog.text)
    assert "set `token=` (and `tls=`), or listen on 127.0.0.1" in caplog.text
    caplog.clear()
    with Arm("0.0.0.0", token=SECRET):
        wait_until(lambda: "can read the token" in caplog.text)
    assert SECRET not in caplog.text


# ---- the program's own decision -----------------------------------------------------------------


def refused(uri, **options):
    with pytest.raises(chiral.ConnectRefused) as caught:
        connect(uri, **options)
    return caught.value


def test_the_program_decides_on_each_request_whom_it_lets_in():
    seen = []

    def accept(request):
        seen.append(request)
        if request.path != "/left":
            return chiral.Rejection(404, f"there is no arm {request.path}")
        return request.headers.get("x-operator") == "ada"

    with Arm(accept=accept) as robot:
        with connect(robot.uri + "/left?arm=1", headers={"X-Operator": "ada"}) as client:
            assert client.get_metadata()["robot"] == "arm-3"
            client.get_obs()
        error = refused(robot.uri + "/right", headers={"X-Operator": "ada"})
        assert error.status == 404 and "there is no arm /right" in str(error)
        error = refused(robot.uri + "/left", headers={"X-Operator": "eve"})
        assert error.status == 403 and "the robot's program refuses this policy" in str(error)
        assert robot.events.count("connect") == 1, "the robot hears of those alone that are let in"
    first = seen[0]
    assert (first.path, first.query) == ("/left", "arm=1")
    assert first.headers["HOST"].startswith("127.0.0.1:") and "Upgrade" in set(first.headers)
    assert first.headers.get("Cookie") is None and len(first.headers) == len(list(first.headers))
    assert "ada" not in repr(first) and "arm=1" not in repr(first) and "X-Operator" in repr(first)
    with pytest.raises(AttributeError):
        first.path = "/right"


def test_an_exception_of_the_programs_decision_refuses_the_policy_and_is_logged(caplog):
    outcomes = iter([KeyError("no such operator"), None, "yes", 1, SystemExit(3)])

    def accept(request):
        outcome = next(outcomes, True)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    with Arm(accept=accept) as robot:
        for text in ("no such operator", "found a NoneType", "found a str", "found a int"):
            caplog.clear()
            error = refused(robot.uri)
            assert error.status == 500 and "failed to look at the request" in str(error)
            assert text not in str(error), "it is for the log alone"
            [record] = [it for it in caplog.records if it.name == "chiral.server"]
            assert record.getMessage() == "accept failed" and text in str(record.exc_info[1])
        assert refused(robot.uri).status == 500
        assert "in accept\n" in caplog.text and "SystemExit: 3" in caplog.text, "the traceback"
        assert robot.events == []
        with connect(robot.uri) as client:
            assert client.is_connected, "the server goes on"


def test_a_decision_that_cannot_be_asked_for_is_told_where_it_is_given():
    async def later(request):
        return True

    for accept in (later, "ada"):
        with pytest.raises(TypeError, match="expected a function that is no coroutine"):
            Arm(accept=accept)
    for status in (200, 399, 600):
        with pytest.raises(ValueError, match=f"found the status {status}, expected one from 400 to 599"):
            chiral.Rejection(status, "no")


def test_the_token_is_looked_at_before_the_program_is_asked():
    asked = []
    with Arm(token=SECRET, accept=lambda request: asked.append(request) or True) as robot:
        assert refused(robot.uri, token=OTHER).status == 401
        assert asked == []
        with connect(robot.uri, token=SECRET):
            assert len(asked) == 1


def test_web_pages_are_refused_unless_the_program_lets_them_in():
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect as open_websocket

    page, other = "https://lab.example", "https://other.example"
    with Arm() as robot, pytest.raises(InvalidStatus, match="403"):
        with open_websocket(robot.uri, origin=page):
            pass
    with Arm(accept=lambda request: request.headers.get("Origin") == page) as robot:
        with open_websocket(robot.uri, origin=page):
            wait_until(lambda: "connect" in robot.events)
        with pytest.raises(InvalidStatus, match="403"), open_websocket(robot.uri, origin=other):
            pass


def test_a_robot_can_be_shut_down_by_the_decision_itself():
    class Once(Arm):
        def __init__(self):
            super().__init__(accept=self.look)

        def look(self, request):
            self.shutdown()
            return False

    with Once() as robot:
        refused(robot.uri)
        wait_until(lambda: robot._serving is None)


# ---- TLS ----------------------------------------------------------------------------------------

CONFIG = """
[req]
prompt = no
distinguished_name = name
x509_extensions = extensions
[name]
CN = {name}
[extensions]
basicConstraints = critical, CA:FALSE
subjectAltName = IP:127.0.0.1
"""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Robot, policy and stranger, each with a certificate that it has signed itself."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not there")
    folder = tmp_path_factory.mktemp("certificates")
    made = {}
    for name in ("robot", "policy", "stranger"):
        config, cert, key = (folder / f"{name}.{end}" for end in ("cnf", "pem", "key"))
        config.write_text(CONFIG.format(name=name))
        kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        files = ["-config", config, "-out", cert, "-keyout", key]
        command = [openssl, "req", "-x509", "-nodes", *kind, *files]
        subprocess.run(command, check=True, capture_output=True)
        made[name] = chiral.Tls(cert=cert, key=key)
    return made


@pytest.fixture
def robot(certificates):
    with Arm(tls=certificates["robot"], token=SECRET) as server:
        yield server


def test_a_robot_is_known_by_its_certificate(robot, certificates):
    assert robot.uri.startswith("wss://127.0.0.1:")
    mine = certificates["robot"]
    pin = mine.fingerprint
    assert len(pin) == 64
    for trust in (chiral.Tls(pin=pin), chiral.Tls(pin=pin.upper()), chiral.Tls(ca=mine.cert)):
        with connect(robot.uri, tls=trust, token=SECRET) as client:
            client.send_action([1.0])
            assert client.get_obs()["top_cam"].image.shape == (24, 32, 3)
    assert robot.acted.wait(SOON)


def test_a_robot_with_another_certificate_is_not_talked_to(robot, certificates):
    stranger = certificates["stranger"]
    for trust, text in (
        (chiral.Tls(pin=stranger.fingerprint), "expected the pinned " + stranger.fingerprint),
        (chiral.Tls(ca=stranger.cert), "signed by nobody who is trusted here"),
        (None, "signed by nobody who is trusted here|found no authorities"),
    ):
        with pytest.raises((chiral.TlsFailed, ValueError), match=text):
            connect(robot.uri, tls=trust, token=SECRET)
    with pytest.raises(chiral.TlsFailed, match="not for the host"):
        uri = robot.uri.replace("127.0.0.1", "localhost")
        connect(uri, tls=chiral.Tls(ca=certificates["robot"].cert), token=SECRET)
    assert robot.events == []


def test_a_robot_takes_the_policies_alone_that_its_authority_has_signed(certificates):
    mine, policy, stranger = (certificates[name] for name in ("robot", "policy", "stranger"))
    with Arm(tls=chiral.Tls(cert=mine.cert, key=mine.key, ca=policy.cert)) as robot:
        known = chiral.Tls(pin=mine.fingerprint, cert=policy.cert, key=policy.key)
        with connect(robot.uri, tls=known) as client:
            assert client.get_metadata()["robot"] == "arm-3"
        for cert, key, text in (
            (None, None, "the server asks for a certificate of the client"),
            (stranger.cert, stranger.key, "does not accept the client's certificate"),
        ):
            with pytest.raises(chiral.TlsFailed, match=text):
                trust = chiral.Tls(pin=mine.fingerprint, cert=cert, key=key)
                connect(robot.uri, tls=trust)


def test_tls_and_its_absence_do_not_meet_unnoticed(robot, certificates):
    pin = chiral.Tls(pin=certificates["robot"].fingerprint)
    plain = robot.uri.replace("wss://", "ws://")
    with pytest.raises(ValueError, match="TLS is set up for this client: connect with wss://"):
        connect(plain, tls=pin)
    with pytest.raises(chiral.ConnectFailed, match="wss://|no WebSocket server"):
        connect(plain, connect_timeout=1.0)
    with Arm() as other, pytest.raises(chiral.TlsFailed, match="answers without TLS"):
        connect(other.uri.replace("ws://", "wss://"), tls=pin)
    assert chiral.PolicyClient(tls=pin).uri == "wss://localhost:8765"


def test_tls_settings_that_cannot_be_used_are_told(certificates, tmp_path):
    mine = certificates["robot"]
    for tls, text in (
        (chiral.Tls(cert=mine.cert), "found one of `cert` and `key`, expected both"),
        (chiral.Tls(), "found no `cert` and `key`, expected the robot's certificate"),
        (chiral.Tls(cert=mine.cert, key=mine.key, pin=mine.fingerprint), "found `pin`, which is for"),
        (chiral.Tls(cert=tmp_path / "none", key=mine.key), "expected certificates in PEM"),
        (chiral.Tls(cert=mine.cert, key=certificates["policy"].key), "certificate with this key"),
    ):
        with pytest.raises(ValueError, match=text):
            Arm(tls=tls).start()
    for tls, text in (
        (chiral.Tls(pin="1e55"), "64 hexadecimal digits"),
        (chiral.Tls(ca=mine.cert, pin=mine.fingerprint), "found both `ca` and `pin`"),
        (chiral.Tls(ca=tmp_path / "none"), "expected certificates in PEM"),
        (chiral.Tls(pin=mine.fingerprint, key=mine.key), "found one of `cert` and `key`"),
    ):
        with pytest.raises(ValueError, match=text):
            connect("wss://127.0.0.1:9", tls=tls)
    with pytest.raises(ValueError, match="no `cert` and `key`"):
        _ = chiral.Tls(pin=mine.fingerprint).fingerprint
    with pytest.raises(ValueError, match="`tls=` is for TCP"):
        Arm(f"unix:{tmp_path}/arm.sock", tls=mine).start()


def test_the_robot_and_the_policy_of_the_readme_meet_on_a_network(certificates, tmp_path, monkeypatch):
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", readme, re.S)
    robot_source = next(block for block in blocks if "chiral.Tls(cert=" in block)
    policy_source = next(block for block in blocks if "chiral.Tls(pin=PIN)" in block)
    mine = certificates["robot"]
    (tmp_path / "token").write_text(SECRET)
    monkeypatch.setenv("CHIRAL_TOKEN", SECRET)

    class ReadmeArm(Arm):
        def reset(self):
            self.update_proprio("joints", np.full(7, -0.5))
            return super().reset()

    monkeypatch.setitem(sys.modules, "arm", SimpleNamespace(Arm=ReadmeArm))
    for written, here in (
        ("/etc/robot/chiral-cert.pem", str(mine.cert)),
        ("/etc/robot/chiral-key.pem", str(mine.key)),
        ("/etc/robot/token", str(tmp_path / "token")),
        ('Arm("192.168.1.20"', 'Arm("127.0.0.1", 0'),
        ("arm.run()", ""),
    ):
        assert written in robot_source
        robot_source = robot_source.replace(written, here)
    names = {}
    exec(robot_source, names)
    with names["arm"] as robot:
        policy_source = policy_source.replace("wss://192.168.1.20:8765", robot.uri)
        policy_source = re.sub('PIN = ".*"', f'PIN = "{mine.fingerprint}"', policy_source)
        # What the robot has not begun when its policy goes is dropped.
        act = "    robot.send_action([-0.48] * 7)\n    acted.wait(20)\n"
        exec(policy_source + act, {"acted": robot.acted})
        assert robot.acted.wait(SOON)
    assert np.allclose(robot.actions[0], -0.48)
