"""The policy's side."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal

import numpy.typing as npt

from . import _core, _lifecycle
from ._core import Token
from ._types import (
    ActionSpec,
    ClientStats,
    ConnectionEvent,
    ContractStatus,
    Observation,
    Placement,
    PlanContext,
    Reconnect,
    Tls,
)

Protocol = Literal["websocket", "zenoh"]
Merge = (
    Literal["replace", "append"]
    | tuple[Literal["keep_first", "blend", "crossfade", "ensemble"], float]
)
Anchor = Literal["observation", "next", "end"] | int

State = Literal["connected", "interrupted", "closing", "ended", "not connected"]

DEFAULT_URIS = {"websocket": "ws://localhost:8765", "zenoh": "tcp/localhost:7447"}


def check_protocol(protocol: str) -> None:
    if protocol not in DEFAULT_URIS:
        raise ValueError(f'found the protocol {protocol!r}, expected "websocket" or "zenoh"')
    if protocol == "zenoh" and not _core.has_zenoh:
        raise ValueError(
            "this build of the package has no Zenoh: install it from a clone with "
            "`pip install --config-settings build-args='--features zenoh' ./bindings/python`"
        )


def token_of(token: Token | str | None) -> Token | None:
    return Token(token) if isinstance(token, str) else token


class PolicyClient:
    """A policy's connection to a robot.

    Use it as a context manager, or call :meth:`connect` and :meth:`close`. All calls may be made from
    any thread. Observations and actions go on at their rates whatever Python is doing: a model that
    holds the interpreter's lock stops nothing.

    :param uri: ``ws://host:port``, ``wss://host:port`` (TLS), ``host:port`` or ``unix:/path``; with
        Zenoh ``tcp/host:port``.
    :param protocol: ``"websocket"`` or ``"zenoh"``.
    :param connect_timeout: seconds to wait for a robot that is not there; None for ever.
    :param request_timeout: seconds each request may take; None as long as the connection lasts.
    :param queue_capacity: how many actions may wait; None any number, with a warning at 1000.
    :param max_age: seconds after which a queued action is not sent any more.
    :param stream_window: how many requests of the observation stream may be under way.
    :param keepalive: seconds between pings, and for an answer to one; None for no pings.
    :param headers: header fields of the WebSocket's request, for a proxy for example.
    :param token: the secret that the robot asks for; a text, or :class:`Token` from a file or the
        environment. Others on the network can read it unless the URI is ``wss://``.
    :param tls: whom to take for the robot over ``wss://``; None for whom the operating system trusts.
    :param reconnect: how a connection that was lost is made again, True for the defaults of
        :class:`Reconnect`; None and False: it is not. Streams and dispatch then go on; what was queued or
        planned is dropped, and requests in flight raise :class:`ConnectionInterrupted`.
    :param on_disconnect: called with the reason when the connection is lost, and when it has ended
        without :meth:`close`, in a thread of its own.
    :param on_reconnect: called with the seconds without a connection when it is made again, likewise.
    """

    def __init__(
        self,
        uri: str | None = None,
        protocol: Protocol = "websocket",
        *,
        connect_timeout: float | None = None,
        request_timeout: float | None = None,
        queue_capacity: int | None = None,
        max_age: float | None = None,
        stream_window: int = 1,
        keepalive: float | None = 20.0,
        headers: Mapping[str, str] | None = None,
        token: Token | str | None = None,
        tls: Tls | None = None,
        reconnect: Reconnect | bool | None = None,
        on_disconnect: Callable[[str], object] | None = None,
        on_reconnect: Callable[[float], object] | None = None,
    ) -> None:
        check_protocol(protocol)
        if uri is None:
            uri = DEFAULT_URIS[protocol]
            if tls is not None and protocol == "websocket":
                uri = uri.replace("ws://", "wss://")
        self.uri = uri
        self.protocol = protocol
        self._options: dict[str, Any] = {
            "connect_timeout": connect_timeout,
            "request_timeout": request_timeout,
            "queue_capacity": queue_capacity,
            "max_age": max_age,
            "stream_window": stream_window,
            "keepalive": keepalive,
            "headers": list((headers or {}).items()),
            "token": token_of(token),
            "tls": tls,
            "reconnect": Reconnect() if reconnect is True else reconnect or None,
            "on_disconnect": on_disconnect,
            "on_reconnect": on_reconnect,
        }
        self._client: _core.Client | None = None

    @classmethod
    def supervised(
        cls, uri: str | None = None, protocol: Protocol = "websocket", **options: Any
    ) -> PolicyClient:
        """A client for a policy that is to live through a restart of its robot without knowing of it:
        with ``Reconnect(hold_calls=True)``. The other options are those of the constructor."""
        return cls(uri, protocol, **{"reconnect": Reconnect(hold_calls=True), **options})

    # ---- the connection -------------------------------------------------------------------------

    def connect(self) -> PolicyClient:
        """Connects, waits for a robot that is not there yet, and returns this client. Does nothing while
        there is a connection, or it is being made again. After its end a new one is made: streams,
        dispatch and queue are then as at the beginning."""
        if self._client is not None:
            if self._client.connection_state() != "ended":
                return self
            self.close()
        connecting = _core.Connecting(self.uri, **self._options)
        notice = _Notice(_core.redacted(self.uri))
        try:
            while (client := connecting.wait(0.1)) is None:
                notice.show(connecting.waiting())
        finally:
            notice.end()
            connecting.cancel()
        self._client = client
        _lifecycle.opened(self)
        return self

    def close(self) -> None:
        """Closes the connection, and waits until the robot knows. Closing twice does nothing."""
        client, self._client = self._client, None
        if client is not None:
            _lifecycle.closed(self)
            client.close()

    def _close_at_exit(self) -> None:
        self.close()

    def __enter__(self) -> PolicyClient:
        return self.connect()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def _core(self) -> _core.Client:
        if self._client is None:
            raise RuntimeError("the client is not connected: call `connect`, or use it in a `with` block")
        return self._client

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection now."""
        return self.connection_state == "connected"

    @property
    def connection_state(self) -> State:
        """Whether there is a connection, and what has become of it if not: ``"interrupted"`` while it is
        being made again."""
        return "not connected" if self._client is None else self._client.connection_state()

    def next_connection_event(self, timeout: float | None = None) -> ConnectionEvent | None:
        """Waits for what happens to the connection next: that it was lost, made again, that the robot
        there declares another contract, or that it has ended. None when nothing happens within
        ``timeout`` seconds, and when the end was told. The last 64 are kept."""
        return self._core.next_connection_event(timeout)

    @property
    def error(self) -> str | None:
        """Why the connection has ended, in words; None while it lasts."""
        return self._core.error()

    @property
    def is_silent(self) -> bool:
        """Whether nothing has come from the robot for 2 s although something is waited for."""
        return self._core.is_silent()

    def stats(self) -> ClientStats:
        """What was counted so far; ``print`` shows it as a table."""
        return self._core.stats()

    # ---- requests -------------------------------------------------------------------------------

    def get_metadata(self, timeout: float | None = None) -> dict[str, Any]:
        """What the robot says about itself."""
        return self._core.metadata(timeout)

    def reset(self, timeout: float | None = None) -> tuple[Observation, dict[str, Any]]:
        """Resets the robot, waits until it is done, and returns ``(observation, info)``."""
        return self._core.reset(timeout)

    def get_obs(self, timeout: float | None = None) -> Observation:
        """An observation made for this call."""
        return self._core.observe(timeout)

    def step(
        self, action: npt.ArrayLike, timeout: float | None = None
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Sends an action ``[N, D]``, or one ``[D]``, and waits for its result: ``(observation,
        reward, terminated, truncated, info)``."""
        return self._core.step(action, timeout)

    # ---- observations ---------------------------------------------------------------------------

    def start_obs_stream(self, hz: float = 30.0) -> None:
        """Asks for observations at a rate from now on; see :attr:`latest_obs`, :meth:`next_obs`."""
        self._core.start_obs_stream(hz)

    def stop_obs_stream(self) -> None:
        """Stops asking for observations."""
        self._core.stop_obs_stream()

    @property
    def latest_obs(self) -> Observation | None:
        """The newest observation, None before the first; the same object until a newer one comes."""
        return self._core.latest_obs()

    def next_obs(self, timeout: float | None = None) -> Observation | None:
        """Waits for an observation that this call has not returned yet, and returns the newest; None
        when none comes within ``timeout`` seconds."""
        return self._core.next_obs(timeout)

    # ---- actions --------------------------------------------------------------------------------

    def start_action_dispatch(self, hz: float = 10.0) -> None:
        """Sends one queued action a tick from now on."""
        self._core.start_action_dispatch(hz)

    def stop_action_dispatch(self) -> None:
        """Stops sending queued actions; they stay in the queue."""
        self._core.stop_action_dispatch()

    def put_action(self, action: npt.ArrayLike) -> None:
        """Appends an action, whatever ``np.asarray(action, np.float32)`` takes, to the queue."""
        self._core.put_action(action)

    def send_action(self, action: npt.ArrayLike) -> None:
        """Sends an action at once, ahead of everything, without waiting for a tick."""
        self._core.send_action(action)

    def put_chunk(self, obs: Observation, actions: npt.ArrayLike | Sequence[npt.ArrayLike]) -> None:
        """Appends actions ``[N, D]`` that were decided on ``obs`` to the queue, all or none."""
        self._core.put_chunk(obs, actions)

    def replace_actions(
        self, obs: Observation, actions: npt.ArrayLike | Sequence[npt.ArrayLike]
    ) -> int:
        """Puts actions in the place of those that wait, and returns how many were dropped."""
        return self._core.replace_actions(obs, actions)

    def clear_actions(self) -> int:
        """Drops the actions that wait, and returns how many there were."""
        return self._core.clear_actions()

    @property
    def queued_actions(self) -> int:
        """How many actions wait."""
        return self._core.queued_actions()

    @property
    def _action_queue(self) -> _ActionQueue:
        return _ActionQueue(self)

    # ---- the action timeline --------------------------------------------------------------------

    def follow(
        self,
        obs: Observation,
        actions: npt.ArrayLike | Sequence[npt.ArrayLike],
        *,
        anchor: Anchor = "observation",
        merge: Merge = "replace",
        average_only: Sequence[int] | None = None,
        max_delay: int | None = None,
        when_late: Literal["play", "discard"] = "play",
    ) -> Placement:
        """Puts a chunk where it belongs: row ``i`` is for the ``i``-th step after ``obs`` was taken.

        Rows whose step was sent while the policy computed are skipped; the others replace what is
        left of the old plan, or are merged with it: ``("keep_first", rows)``, ``"append"``, ``("blend",
        weight)``, ``("crossfade", steps)``, ``("ensemble", m)``, of the dimensions in ``average_only``.
        """
        return self._core.follow(
            obs,
            actions,
            anchor=anchor,
            merge=merge,
            average_only=None if average_only is None else list(average_only),
            max_delay=max_delay,
            when_late=when_late,
        )

    def plan_context(self, obs: Observation) -> PlanContext:
        """Which rows of its own chunks the robot executes after ``obs``, and how many steps the
        inference will take: for real-time chunking."""
        return self._core.plan_context(obs)

    def refill_at(self, rows: int) -> None:
        """Sets at how many rows left :meth:`plan_low` returns."""
        self._core.refill_at(rows)

    def plan_low(self, timeout: float | None = None) -> bool:
        """Waits until it is time for the next chunk; False if it is not within ``timeout`` seconds."""
        return self._core.plan_low(timeout)

    def set_starved(self, starved: Literal["repeat", "declared"] | npt.ArrayLike | None) -> None:
        """What is sent at a tick that finds the queue empty: None for nothing (the default), the last
        action again, what the robot declares, or an action."""
        self._core.set_starved(starved)

    def interpolate(self, points: int) -> None:
        """Sends ``points`` actions to each queued one, on the straight line to the next."""
        self._core.interpolate(points)

    @property
    def action_spec(self) -> ActionSpec:
        """The robot's contract, as its metadata said when it last came: ask for it with
        :meth:`get_metadata` first. From then on each action is checked before it is queued or sent:
        what the robot would refuse raises :class:`ActionRejected`, what it would clamp is clamped."""
        return self._core.action_spec()

    @property
    def contract_status(self) -> ContractStatus | None:
        """How the robot says that this policy keeps to its contract, and whether it is armed, in the
        latest observation that said it; None for a robot without a contract, or before."""
        return self._core.contract_status()

    def declare_actions(
        self,
        kind: Literal["absolute", "delta", "velocity"],
        hold: npt.ArrayLike | None = None,
    ) -> None:
        """Says what the robot's actions are, for a robot whose metadata does not."""
        self._core.declare_actions(kind, hold)

    def __repr__(self) -> str:
        return f"PolicyClient({_core.redacted(self.uri)!r}, {self.connection_state})"


class _ActionQueue:
    """What programs did with a deque of this name: prefer :meth:`PolicyClient.replace_actions`."""

    def __init__(self, client: PolicyClient) -> None:
        self._client = client

    def append(self, action: npt.ArrayLike) -> None:
        self._client.put_action(action)

    def clear(self) -> None:
        self._client.clear_actions()

    def __len__(self) -> int:
        return self._client.queued_actions


class _Notice:
    """Tells whoever waits at the terminal what for: one line, which counts on if it is a terminal."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._shown: int | None = None

    def show(self, waiting: tuple[float, str] | None) -> None:
        if waiting is None or sys.stderr is None:
            return
        seconds, found = int(waiting[0]), waiting[1]
        if sys.stderr.isatty():
            if seconds != self._shown:
                line = f"waiting for a robot at {self._uri} for {seconds} s: {found}"
                sys.stderr.write(f"\r\x1b[K{line}")
                sys.stderr.flush()
        elif self._shown is None:
            sys.stderr.write(f"waiting for a robot at {self._uri}: {found}\n")
        self._shown = seconds

    def end(self) -> None:
        if self._shown is not None and sys.stderr is not None and sys.stderr.isatty():
            sys.stderr.write("\n")
