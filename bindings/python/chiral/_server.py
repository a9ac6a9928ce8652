"""The robot's side."""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
from collections.abc import Callable, Coroutine, Iterator, MutableMapping, Sequence
from typing import Any, Literal

import numpy.typing as npt

from . import _core, _lifecycle
from ._client import Protocol, check_protocol, token_of
from ._core import Token
from ._errors import UnknownName
from ._types import (
    ActionSpec,
    Array,
    CameraConfig,
    HandshakeRequest,
    Observation,
    ProprioConfig,
    Rejection,
    ServerStats,
    Tls,
)

DEFAULT_PORTS = {"websocket": 8765, "zenoh": 7447}
OPTIONAL = (
    "get_obs",
    "step",
    "on_connect",
    "on_disconnect",
    "on_watchdog",
    "on_stop",
    "on_actions_dropped",
)


class PolicyServer:
    """A robot, or a simulator, that one policy at a time drives. Subclass it.

    Write :meth:`camera_configs` and :meth:`apply_action`, and of the others what differs from the
    default. Every method from :meth:`get_metadata` on may be a ``def`` or an ``async def``: a ``def`` is
    called on a thread of the server, an ``async def`` runs in the event loop of :meth:`run` or
    :meth:`serve`. What moves the robot is called one at a time, in the order in which the policy sent
    it; ``get_metadata`` and ``get_obs`` run beside that.

    A method that raises ends the connection: the log has the traceback, and the next policy is let in
    after :meth:`on_disconnect`. Of ``on_disconnect`` and ``on_actions_dropped`` it is only logged.

    ``super().__init__()`` makes the sensors: after it threads may write them.

    :param host: the address to listen on; ``unix:/path`` for a Unix socket.
    :param port: 8765, with Zenoh 7447, unless given; 0 for any free one, see :attr:`uri`.
    :param protocol: ``"websocket"`` or ``"zenoh"``.
    :param watchdog: seconds without an action after which :meth:`on_watchdog` is called; None: as the
        ``action_spec`` declares with its rate, and never without one.
    :param on_second: what becomes of a second policy: ``"refuse"`` it, or let it ``"replace"`` the first.
    :param action_spec: the robot's contract: what an action must be, how often one is expected, what
        arms the robot; see :class:`ActionSpec`.
    :param action_queue: of actions that come faster than ``apply_action`` returns, ``"latest"`` applies
        the newest only, ``"all"`` each in order.
    :param max_obs_age: seconds; an action that was decided on an older observation is dropped. The age is
        that of the newest image in it; None: none is too old.
    :param keepalive: seconds between pings, and for an answer to one; None for no pings.
    :param shutdown_timeout: seconds that requests which are being answered get at the end.
    :param token: the secret that a policy must show, a text of 16 to 1024 characters or a
        :class:`Token`; others get the HTTP status 401. Not with Zenoh.
    :param tls: the robot's certificate and key: it then speaks nothing but TLS, at ``wss://``.
    :param accept: looks at the request of each policy that has shown the token, before the robot, or the
        policy that drives it, notices anything: True lets it in, False refuses it, a :class:`Rejection`
        refuses it with a status and a reason. Where it raises, or returns anything else, the policy is
        refused with 500, and the log has the traceback. A ``def``, called on the thread of that
        connection; the policy waits. Without it web pages, known by the field ``Origin``, are refused,
        and all others let in; with it, it decides about web pages too. Not with Zenoh.
    :param failure_text: what a policy is told of a method of the robot that raised: ``"errors"``, the
        exception's text, but of ``on_connect``, ``on_watchdog`` and ``on_stop`` only that they failed;
        ``"nothing"``, only that it failed; ``"everything"``, the text of those three too, and that of a
        panic, which is a fault of this package. The log has all of it in any case.
    """

    def __init__(
        self,
        host: str = "0.0.0.0",
        port: int | None = None,
        protocol: Protocol = "websocket",
        *,
        watchdog: float | None = None,
        on_second: Literal["refuse", "replace"] = "refuse",
        action_spec: ActionSpec | None = None,
        action_queue: Literal["latest", "all"] = "latest",
        max_obs_age: float | None = 5.0,
        keepalive: float | None = 20.0,
        shutdown_timeout: float = 5.0,
        token: Token | str | None = None,
        tls: Tls | None = None,
        accept: Callable[[HandshakeRequest], bool | Rejection] | None = None,
        failure_text: Literal["nothing", "errors", "everything"] = "errors",
    ) -> None:
        check_protocol(protocol)
        if accept is not None and (not callable(accept) or inspect.iscoroutinefunction(accept)):
            raise TypeError(f"found accept={accept!r}, expected a function that is no coroutine")
        self.host = host
        self.port = DEFAULT_PORTS[protocol] if port is None else port
        self.protocol = protocol
        self._options: dict[str, Any] = {
            "watchdog": watchdog,
            "on_second": on_second,
            "action_spec": action_spec,
            "action_queue": action_queue,
            "max_obs_age": max_obs_age,
            "keepalive": keepalive,
            "shutdown_timeout": shutdown_timeout,
            "token": token_of(token),
            "tls": tls,
            "accept": accept,
            "failure_text": failure_text,
        }
        #: Whether the action that :meth:`apply_action` or :meth:`step` is called with is not the one
        #: that the policy sent, but the nearest that the ``action_spec`` allows.
        self.action_clamped = False
        cameras, proprios = list(self.camera_configs()), list(self.proprio_configs())
        self._core = _core.Server(cameras, proprios)
        self._camera_indices = _indices(camera.name for camera in cameras)
        self._proprio_indices = _indices(proprio.name for proprio in proprios)
        if action_spec is not None and action_spec.measured_by is not None:
            _look_up(self._proprio_indices, "proprio", action_spec.measured_by)
        depths = {c.name: self._camera_indices[c.name] for c in cameras if c.has_depth}
        #: Arrays of the sensors that are copied into each observation. To take one out makes an array
        #: that may be written in place, under ``_locks[name]``, at the price of that copy.
        self.images = _Arrays(self._core, "image", self._camera_indices)
        self.depths = _Arrays(self._core, "depth", depths)
        self.intrinsics = _Arrays(self._core, "intrinsics", self._camera_indices)
        self.extrinsics = _Arrays(self._core, "extrinsics", self._camera_indices)
        self.proprios = _Arrays(self._core, "proprio", self._proprio_indices)
        self._locks = {name: self._core.lock(i) for name, i in self._camera_indices.items()}
        self._uri: str | None = None
        self._serving: _Serving | None = None

    # ---- to override ----------------------------------------------------------------------------

    def camera_configs(self) -> Sequence[CameraConfig]:
        """The cameras, in order."""
        raise NotImplementedError("write `camera_configs`: it returns a list of CameraConfig")

    def proprio_configs(self) -> Sequence[ProprioConfig]:
        """The proprioception streams, in order. Default: none."""
        return []

    def get_metadata(self) -> Any:
        """Describes the robot: a dict of what msgpack knows. Default: empty."""
        return {}

    def reset(self) -> Any:
        """Begins an episode, and returns ``(observation, info)``. Default: moves nothing."""
        return self._make_obs(), {}

    def get_obs(self) -> Any:
        """Makes an observation. Default: the latest of all sensors, taken when it is sent, without
        any Python. Override it to wait for a fresh frame, for example."""
        return self._make_obs()

    def apply_action(self, action: Array) -> Any:
        """Does an action, ``float32`` of the shape that was sent. Nothing is returned."""
        raise NotImplementedError("this robot takes no actions: write `apply_action`")

    def step(self, action: Array) -> Any:
        """The coupled call of older policies: does an action ``[N, D]``, and returns ``(observation,
        reward, terminated, truncated, info)``. Default: ``apply_action`` for each row, then an
        observation."""
        raise NotImplementedError

    def on_connect(self) -> Any:
        """A policy has connected: nothing else is asked before this has returned. Where it raises, the
        connection ends."""

    def on_disconnect(self, reason: str) -> Any:
        """The policy has gone, in whatever way: hold still. The next one is let in after this, also where
        it raises, which is logged."""

    def on_watchdog(self, seconds: float) -> Any:
        """No action has come for so long: hold still. Where it raises, the connection ends."""

    def on_stop(self, reason: str) -> Any:
        """The robot is stopped: hold still. No action comes until it is armed again, by what its
        ``action_spec`` says or by :meth:`arm`. Where it raises, the connection ends. Default:
        :meth:`on_watchdog`."""

    def on_actions_dropped(self, count: int, reason: str) -> Any:
        """Actions came that were not applied, and why. Where it raises, that is logged."""

    # ---- sensors --------------------------------------------------------------------------------
    # All may be called from any thread.

    def update_image(self, name: str, image: npt.ArrayLike, captured_at: float | None = None) -> None:
        """Publishes an image, captured now or at ``captured_at`` (``time.monotonic()``)."""
        self._core.publish(self._camera(name), image, captured_at=captured_at)

    def update_depth(self, name: str, depth: npt.ArrayLike) -> None:
        """Publishes a depth map."""
        self._core.publish(self._camera(name), depth=depth)

    def update_intrinsics(self, name: str, intrinsics: npt.ArrayLike) -> None:
        """Publishes K, (3, 3), in pixels."""
        self._core.publish(self._camera(name), intrinsics=intrinsics)

    def update_extrinsics(self, name: str, extrinsics: npt.ArrayLike) -> None:
        """Publishes a camera's pose, (4, 4), camera to world, in metres."""
        self._core.publish(self._camera(name), extrinsics=extrinsics)

    def update_proprio(self, name: str, values: npt.ArrayLike) -> None:
        """Publishes the values of a proprioception stream."""
        self._core.update_proprio(_look_up(self._proprio_indices, "proprio", name), values)

    def publish(
        self,
        name: str,
        image: npt.ArrayLike | None = None,
        depth: npt.ArrayLike | None = None,
        K: npt.ArrayLike | None = None,
        T: npt.ArrayLike | None = None,
        captured_at: float | None = None,
    ) -> None:
        """Publishes what belongs to one moment of a camera together: no observation shows one part
        without the others."""
        self._core.publish(self._camera(name), image, depth, K, T, captured_at)

    def image_buffer(self, name: str) -> Array:
        """An array for the next image, to be filled in place and given to :meth:`update_image` or
        :meth:`publish`: it is then not copied at all, and becomes read-only. What stands in it is an
        earlier image. Views of it must not be written to after it was published."""
        return self._core.image_buffer(self._camera(name))

    def depth_buffer(self, name: str) -> Array:
        """As :meth:`image_buffer`, for the next depth map."""
        return self._core.depth_buffer(self._camera(name))

    def set_extra(self, extra: dict[str, Any]) -> None:
        """What every observation from now on has as its ``extra``."""
        self._core.set_extra(extra)

    def wait_ready(self, timeout: float | None = None) -> None:
        """Waits until every sensor was updated once; ``TimeoutError`` names those that were not."""
        self._core.wait_ready(timeout)

    def wait_next_frame(
        self, name: str, after: int = 0, timeout: float | None = None
    ) -> int | None:
        """Waits for an image that is newer than the ``after``-th of a camera, and returns its number;
        None when none comes in time."""
        return self._core.wait_next_frame(name, after, timeout)

    def _make_obs(self, timestamp: float = 0.0, copy: bool = False) -> Observation:
        """The latest of all sensors. The arrays are read-only, as they are not copied; ``copy=True``
        copies them."""
        observation = self._core.snapshot(timestamp)
        if copy:
            for camera in observation.cameras:
                camera.image = camera.image.copy()
                camera.depth = None if camera.depth is None else camera.depth.copy()
        return observation

    def _camera(self, name: str) -> int:
        return _look_up(self._camera_indices, "camera", name)

    # ---- serving --------------------------------------------------------------------------------

    @property
    def uri(self) -> str:
        """Where a policy on this computer reaches the server; once it serves."""
        if self._uri is None:
            raise RuntimeError("the server does not listen yet: call `run`, `serve` or `start`")
        return self._uri

    def run(self) -> None:
        """Serves until Ctrl-C or :meth:`shutdown`."""
        asyncio.run(self.serve())

    async def serve(self) -> None:
        """Serves in the running event loop, until it is cancelled or :meth:`shutdown` is called."""
        serving = _Serving(asyncio.get_running_loop(), self._core)
        await self._serve(serving, lambda: None)

    def start(self) -> PolicyServer:
        """Serves in a thread of its own, and returns when the server listens. ``async def`` methods
        run in an event loop of that thread."""
        listening = threading.Event()
        failed: list[BaseException] = []

        async def serve() -> None:
            serving = _Serving(asyncio.get_running_loop(), self._core)
            await self._serve(serving, listening.set)

        def run() -> None:
            try:
                asyncio.run(serve())
            except BaseException as error:
                failed.append(error)
            finally:
                listening.set()

        threading.Thread(target=run, name="chiral-serve", daemon=True).start()
        _wait(listening)
        if failed:
            raise failed[0]
        return self

    def shutdown(self) -> None:
        """Stops listening, tells the policy, and waits until the robot is at rest; called from a
        method of the robot or in the event loop, it does not wait. An event loop that Ctrl-C has stopped
        is run for that long. In a fork of the process that serves it does nothing."""
        self._shut_down(at_exit=False)

    def arm(self) -> bool:
        """Arms the robot: lets the actions of the policy that is connected move it, after a stop too. What
        else arms it, the ``action_spec`` says; by default each new connection. False when no policy is
        connected; the next one is not armed by this."""
        return self._core.arm()

    def stop_motion(self) -> bool:
        """Stops the robot, for its own program and its operator: what waits is dropped, :meth:`on_stop`
        is called, and no action comes until the robot is armed. The policy stays connected. False when
        there is none. It is no emergency stop: that one must work without this program."""
        return self._core.stop_motion()

    def stats(self) -> ServerStats | None:
        """What was counted of the policy that is connected; None if there is none."""
        return self._core.stats()

    def _close_at_exit(self) -> None:
        self._shut_down(at_exit=True)

    def _shut_down(self, at_exit: bool) -> None:
        serving = self._serving
        if serving is None or serving.process != os.getpid():
            return
        serving.stop()
        if not _core.in_handler() and not serving.is_own_loop():
            serving.wait_for_end(at_exit)
            self._end(serving)

    def __enter__(self) -> PolicyServer:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.shutdown()

    async def _serve(self, serving: _Serving, listening: Callable[[], object]) -> None:
        if self._serving is not None:
            raise RuntimeError("the server is serving already")
        base = PolicyServer
        overridden = [
            name for name in OPTIONAL if getattr(type(self), name) is not getattr(base, name)
        ]
        self._serving = serving
        try:
            self.action_clamped = False
            self._uri = self._core.start(self, self._address(), overridden, self._options)
            _lifecycle.opened(self)
            listening()
            await serving.stopped.wait()
        finally:
            # In a loop that was closed nothing can be awaited; then `_shut_down` has ended the server.
            if not serving.loop.is_closed():
                await serving.shut_down()
            self._end(serving)
            serving.finished.set_result(None)

    def _end(self, serving: _Serving) -> None:
        if self._serving is serving:
            _lifecycle.closed(self)
            self._serving = None
            self._uri = None
        serving.ended.set()

    def _address(self) -> str:
        if self.host.startswith("unix:"):
            return self.host
        if self.protocol == "zenoh":
            return self.host if "/" in self.host else f"tcp/{self.host}:{self.port}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    # ---- called by the core ---------------------------------------------------------------------

    def _run_in_loop(
        self, name: str, coroutine: Coroutine[Any, Any, Any], reply: _core.Reply
    ) -> None:
        """Has a coroutine that a method returned run in the event loop."""
        serving = self._serving
        if serving is None:
            coroutine.close()
            raise RuntimeError("the server is shutting down")
        serving.run(coroutine, reply, waits=name in ("get_obs", "get_metadata"))

    def _cancel_waiting(self) -> None:
        serving = self._serving
        if serving is not None:
            serving.cancel_waiting()


class _Serving:
    """One time of serving: the event loop, and what runs in it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, core: _core.Server) -> None:
        self.loop = loop
        self.process = os.getpid()
        self.stopped = asyncio.Event()
        self.ended = threading.Event()
        # `ended`, for whoever runs the loop.
        self.finished: asyncio.Future[None] = loop.create_future()
        self._core = core
        self._thread = threading.current_thread()
        self._replies: dict[asyncio.Task[None], _core.Reply] = {}
        self._waiting: set[asyncio.Task[None]] = set()

    def stop(self) -> None:
        try:
            self.loop.call_soon_threadsafe(self.stopped.set)
        except RuntimeError:  # The loop was closed, perhaps under the server.
            self._end_without_loop()

    def wait_for_end(self, at_exit: bool) -> None:
        """Waits until the robot is at rest. A loop that was stopped under the server, as Ctrl-C does it,
        is run here where nobody else is to run it."""
        # In pieces: on Windows a wait without an end cannot be interrupted.
        while not self.ended.wait(0.1):
            if self.loop.is_running():
                continue
            is_left = self._thread is threading.current_thread() or not self._thread.is_alive()
            if self.loop.is_closed():
                self._end_without_loop()
            elif is_left or at_exit:
                self._run_to_end()
            if self._core.is_at_rest():
                return

    def _run_to_end(self) -> None:
        try:
            self.loop.run_until_complete(self.finished)
        except RuntimeError:  # Another thread runs it by now, or this one runs another loop.
            self._core.shutdown()

    def _end_without_loop(self) -> None:
        """Ends the server when its loop was closed: no coroutine goes on."""
        for reply in list(self._replies.values()):
            reply.fail(RuntimeError("the event loop was closed"))
        self._core.shutdown()

    def is_own_loop(self) -> bool:
        try:
            return asyncio.get_running_loop() is self.loop
        except RuntimeError:
            return False

    def run(self, coroutine: Coroutine[Any, Any, Any], reply: _core.Reply, waits: bool) -> None:
        def start() -> None:
            task = self.loop.create_task(_answer(coroutine, reply))
            self._replies[task] = reply
            task.add_done_callback(self._replies.pop)
            if waits:
                self._waiting.add(task)
                task.add_done_callback(self._waiting.discard)

        try:
            self.loop.call_soon_threadsafe(start)
        except RuntimeError:
            coroutine.close()
            raise

    def cancel_waiting(self) -> None:
        def cancel() -> None:
            for task in list(self._waiting):
                task.cancel()

        try:
            self.loop.call_soon_threadsafe(cancel)
        except RuntimeError:
            pass  # The loop was closed: nothing runs in it.

    async def shut_down(self) -> None:
        """Waits for the server's end while the loop goes on: the robot's methods may need it."""
        self._core.shutdown()
        # Polled, since the interpreter might end under a thread that calls Python.
        while not self._core.is_at_rest():
            try:
                await asyncio.sleep(0.005)
            except asyncio.CancelledError:
                continue


async def _answer(coroutine: Coroutine[Any, Any, Any], reply: _core.Reply) -> None:
    try:
        result = await coroutine
    except BaseException as error:
        reply.fail(error)
        if not isinstance(error, Exception):
            raise
    else:
        reply.put(result)


def _wait(event: threading.Event) -> None:
    # In pieces: on Windows a wait without an end cannot be interrupted.
    while not event.wait(0.1):
        pass


class _Arrays(MutableMapping[str, Array]):
    """Names to arrays. Names cost nothing; to take an array out has each observation copy it."""

    def __init__(self, core: _core.Server, part: str, indices: dict[str, int]) -> None:
        self._core = core
        self._part = part
        self._indices = indices

    def __getitem__(self, name: str) -> Array:
        return self._core.take(self._part, self._indices[name])

    def __setitem__(self, name: str, value: npt.ArrayLike) -> None:
        self[name][...] = value

    def __delitem__(self, name: str) -> None:
        raise TypeError("a declared sensor cannot be removed")

    def __iter__(self) -> Iterator[str]:
        return iter(self._indices)

    def __len__(self) -> int:
        return len(self._indices)

    def __contains__(self, name: object) -> bool:
        return name in self._indices

    def __repr__(self) -> str:
        return f"<{self._part} arrays of {', '.join(map(repr, self._indices))}>"


def _indices(names: Iterator[str] | Any) -> dict[str, int]:
    indices: dict[str, int] = {}
    for index, name in enumerate(names):
        indices.setdefault(name, index)
    return indices


def _look_up(indices: dict[str, int], what: str, name: str) -> int:
    try:
        return indices[name]
    except KeyError:
        names = ", ".join(map(repr, indices)) or "none"
        raise UnknownName(f"no {what} is called {name!r}; there are: {names}") from None
