"""The policy side of a connection."""

import argparse
import asyncio
import time
from typing import Self, TypeVar

from websockets.asyncio.client import connect
from websockets.exceptions import InvalidHandshake

from . import link
from .faults import WireMessage
from .fields import FrameError
from .frame import decode, encode
from .messages import (
    Message,
    Metadata,
    MetadataResponse,
    Observation,
    ObsRequest,
    ObsResponse,
    Request,
    Reset,
    ResetResponse,
    StepAction,
    StepResponse,
)

RETRY_PERIOD = 0.1  # seconds

Answer = TypeVar("Answer", MetadataResponse, ResetResponse, ObsResponse, StepResponse)


class PolicyClient:
    """One connection to a robot."""

    def __init__(self, connection: link.Link, options: argparse.Namespace) -> None:
        self.connection = connection
        self.latest: Observation | None = None
        self._options = options

    @classmethod
    async def connect(cls, options: argparse.Namespace) -> Self:
        """Connect to a robot that may not be up yet, or not be free yet."""
        deadline = time.monotonic() + options.connect_timeout
        while True:
            try:
                if link.is_zenoh(options.uri):
                    from .zenoh_link import ZenohLink  # only then is the package needed

                    return cls(await ZenohLink.connect(options.uri, options.style), options)
                connection = await connect(options.uri, proxy=None, **link.settings(options))
                return cls(connection, options)
            except (OSError, InvalidHandshake):
                if time.monotonic() >= deadline:
                    raise
                await asyncio.sleep(RETRY_PERIOD)

    async def metadata(self) -> MetadataResponse:
        """What the robot says of itself."""
        return await self._ask(Metadata(), MetadataResponse)

    async def reset(self) -> ResetResponse:
        """Start over."""
        response = await self._ask(Reset(), ResetResponse)
        self.latest = response.observation
        return response

    async def observe(self) -> ObsResponse:
        """What the robot sees."""
        response = await self._ask(ObsRequest(), ObsResponse)
        self.latest = response.observation
        return response

    async def step(self, action: StepAction) -> StepResponse:
        """Act and see what comes of it."""
        response = await self._ask(action, StepResponse)
        self.latest = response.observation
        return response

    async def send(self, message: Message) -> None:
        """Send a message and wait for nothing but room in the socket."""
        frame = encode(message, self._options.style)
        await link.transmit(self.connection, frame, self._options.fragment)

    async def send_raw(self, message: WireMessage) -> None:
        """Send what need not be a frame."""
        await link.transmit(self.connection, message)

    async def receive(self) -> Message:
        """The next message, within the time that the options give it."""
        async with asyncio.timeout(self._options.timeout):
            data = await self.connection.recv()
        if isinstance(data, str):
            raise FrameError("a text message, expected a binary one")
        return decode(data)

    async def _ask(self, request: Request, kind: type[Answer]) -> Answer:
        await self.send(request)
        response = await self.receive()
        if not isinstance(response, kind):
            raise FrameError(f"{response.type} in answer to {request.type}, expected {kind.type}")
        return response
