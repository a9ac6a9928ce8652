"""What the client program can be told to do. Each scenario returns its summary."""

import argparse
import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed

from . import link
from .faults import faulty_action
from .fields import DTYPES
from .messages import (
    ApplyAction,
    Array,
    Message,
    Observation,
    StepAction,
)
from .policy import PolicyClient
from .report import Json, emit_message

CHUNK = 8  # actions in a legacy action message
ACTION_SHAPES: tuple[tuple[int, ...], ...] = ((7,), (8, 7), (0,), ())
SPECIAL_FLOATS = (np.nan, np.inf, -np.inf, -0.0, 0.1, -2.5, 65504.0)
CLOSE_GRACE = 1.0  # seconds that a server has to close after a bad frame

Scenario = Callable[[PolicyClient, argparse.Namespace], Awaitable[Json]]


class CheckError(Exception):
    """Something that a scenario checks did not hold."""


async def calls(client: PolicyClient, options: argparse.Namespace) -> Json:
    """metadata, reset, then `--count` observations."""
    _show(await client.metadata(), options)
    reset = await client.reset()
    _show(reset, options)
    previous = reset.observation
    for _ in range(options.count):
        response = await client.observe()
        _show(response, options)
        _check_continuity(previous, response.observation)
        previous = response.observation
    return {"observations": options.count}


async def stream(client: PolicyClient, options: argparse.Namespace) -> Json:
    """Observations at `--hz`, one in flight, while actions go out at `--action-hz`."""
    tally = _Tally()
    start = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_stream_observations(client, options, tally))
        tasks.create_task(_dispatch_actions(client, options, tally))
    seconds = time.monotonic() - start
    count = len(tally.latencies)
    return {
        "seconds": seconds,
        "observations": count,
        "actions": tally.actions,
        "bytes": tally.bytes,
        "max_latency": max(tally.latencies, default=0.0),
        "mean_latency": sum(tally.latencies) / max(count, 1),
    }


async def actions(client: PolicyClient, options: argparse.Namespace) -> Json:
    """`apply_action` of every dtype in several shapes; some with timestamps, some without."""
    response = await client.observe()
    _show(response, options)
    stamps = response.observation.camera_timestamps() | {"not a camera": 4.0}
    cases = [(dtype, shape) for shape in ACTION_SHAPES for dtype in sorted(DTYPES)]
    for index, (dtype, shape) in enumerate(cases):
        message = ApplyAction(_action_of(dtype, shape), (stamps, {}, None)[index % 3])
        await client.send(message)
        _show(message, options)
    # The answer shows that the server got through all of them.
    _show(await client.metadata(), options)
    return {"actions": len(cases)}


async def step(client: PolicyClient, options: argparse.Namespace) -> Json:
    """The legacy coupled exchange, `--count` times."""
    reset = await client.reset()
    _show(reset, options)
    previous = reset.observation
    for index in range(options.count):
        chunk = np.stack([_action(index + row, options.action_size) for row in range(CHUNK)])
        message = StepAction(chunk, previous.camera_timestamps())
        response = await client.step(message)
        _show(message, options)
        _show(response, options)
        _check_continuity(previous, response.observation)
        previous = response.observation
    return {"steps": options.count}


async def pings(client: PolicyClient, options: argparse.Namespace) -> Json:
    """Ping for `--seconds` while the robot is busy with one request."""
    start = time.monotonic()
    busy = asyncio.create_task(_occupy(client, options))
    latencies = [await _ping(client, options)]
    while time.monotonic() - start < options.seconds:
        await asyncio.sleep(options.ping_interval)
        latencies.append(await _ping(client, options))
    await busy
    answered = time.monotonic() - start
    _show(await client.metadata(), options)
    return {"pings": len(latencies), "max_latency": max(latencies), "answered_after": answered}


async def malformed(client: PolicyClient, options: argparse.Namespace) -> Json:
    """One bad frame; the server has to close, or to go on answering."""
    summary: Json = {"fault": options.fault, "closed": None, "answered": False}
    try:
        await client.send_raw(faulty_action(options.fault, options.style))
        # Anything sent now could cost the close frame: unread data resets a connection.
        await _expect_silence(client)
        _show(await client.metadata(), options)
        summary["answered"] = True
    except ConnectionClosed:
        summary["closed"] = link.closure(client.connection)
    return summary


SCENARIOS: dict[str, Scenario] = {
    scenario.__name__: scenario for scenario in (calls, stream, actions, step, pings, malformed)
}


@dataclass
class _Tally:
    latencies: list[float] = field(default_factory=list)
    actions: int = 0
    bytes: int = 0


async def _stream_observations(
    client: PolicyClient, options: argparse.Namespace, tally: _Tally
) -> None:
    async for _ in _ticks(options.hz, options.seconds):
        previous, asked = client.latest, time.monotonic()
        response = await client.observe()
        tally.latencies.append(time.monotonic() - asked)
        tally.bytes += _payload_size(response.observation)
        if previous is not None:
            _check_continuity(previous, response.observation)
        await asyncio.to_thread(_show, response, options)


async def _dispatch_actions(
    client: PolicyClient, options: argparse.Namespace, tally: _Tally
) -> None:
    async for tick in _ticks(options.action_hz, options.seconds):
        stamps = client.latest.camera_timestamps() if client.latest else {}
        await client.send(ApplyAction(_action(tick, options.action_size), stamps))
        tally.actions += 1


async def _ticks(hz: float, seconds: float) -> AsyncIterator[int]:
    """A fixed grid; a tick that was missed is not made up for."""
    if hz <= 0:
        return
    start = time.monotonic()
    tick = 0
    while tick / hz < seconds:
        await asyncio.sleep(start + tick / hz - time.monotonic())
        yield tick
        tick = max(tick + 1, math.floor((time.monotonic() - start) * hz))


async def _occupy(client: PolicyClient, options: argparse.Namespace) -> None:
    match options.busy_with:
        case "obs_request":
            _show(await client.observe(), options)
        case "reset":
            _show(await client.reset(), options)
        case "apply_action":
            await client.send(ApplyAction(_action(0, options.action_size), {}))


async def _ping(client: PolicyClient, options: argparse.Namespace) -> float:
    pong = await client.connection.ping()
    try:
        async with asyncio.timeout(options.ping_timeout):
            return await pong
    except TimeoutError as error:
        raise CheckError(f"no pong within {options.ping_timeout} s") from error


async def _expect_silence(client: PolicyClient) -> None:
    try:
        async with asyncio.timeout(CLOSE_GRACE):
            data = await client.connection.recv()
    except TimeoutError:
        return
    raise CheckError(f"an answer of {len(data)} bytes to a bad frame")


def _action(index: int, size: int) -> NDArray[np.float32]:
    return (index + np.arange(size) / 8).astype(np.float32)


def _action_of(dtype: str, shape: tuple[int, ...]) -> Array:
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return np.resize(np.array(SPECIAL_FLOATS).astype(kind), shape)
    return np.resize(np.arange(-3, 4).astype(kind), shape)


def _payload_size(observation: Observation) -> int:
    images = sum(camera.image.nbytes for camera in observation.cameras)
    depths = sum(camera.depth.nbytes for camera in observation.cameras if camera.depth is not None)
    return images + depths + sum(proprio.values.nbytes for proprio in observation.proprios)


def _show(message: Message, options: argparse.Namespace) -> None:
    if not options.quiet:
        emit_message(message)


def _check_continuity(earlier: Observation, later: Observation) -> None:
    """The same sensors as before, and no camera goes back in time."""
    _check(
        _sensors(earlier) == _sensors(later),
        f"the sensors were {_sensors(earlier)} and are {_sensors(later)}",
    )
    for before, after in zip(earlier.cameras, later.cameras, strict=True):
        _check(
            before.timestamp <= after.timestamp,
            f"{before.name} went from {before.timestamp} back to {after.timestamp}",
        )


def _sensors(observation: Observation) -> list[tuple[str, tuple[int, ...], str]]:
    cameras = [(entry.name, entry.image) for entry in observation.cameras]
    proprios = [(entry.name, entry.values) for entry in observation.proprios]
    return [(name, array.shape, array.dtype.name) for name, array in cameras + proprios]


def _check(condition: bool, text: str) -> None:
    if not condition:
        raise CheckError(text)
