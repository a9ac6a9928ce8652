"""A link over two Zenoh keys, with what the programs use of a WebSocket connection.

It knows nothing but the keys: no goodbye, no sign of life, nothing of who is at the other end.
"""

import asyncio
import json
from collections.abc import Awaitable, Iterable
from typing import Self

import zenoh

from .faults import WireMessage
from .frame import encode
from .messages import Metadata, MetadataResponse
from .values import Style

TO_SERVER, TO_CLIENT = "chiral/c2s", "chiral/s2c"
PROBE_PERIOD = 0.5  # seconds


def _session(mode: str, **endpoints: str) -> zenoh.Session:
    config = zenoh.Config()
    config.insert_json5("mode", json.dumps(mode))
    config.insert_json5("scouting/multicast/enabled", "false")
    for role in ("listen", "connect"):
        given = [endpoints[role]] if role in endpoints else []
        config.insert_json5(f"{role}/endpoints", json.dumps(given))
    return zenoh.open(config)


class ZenohLink:
    """One side of it."""

    def __init__(self, session: zenoh.Session, reads: str, writes: str) -> None:
        self.transport = self
        self.close_code: int | None = None
        self.close_reason: str | None = None
        self.remote_address = (writes, 0)
        self._session = session
        self._messages: asyncio.Queue[bytes] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def received(sample: zenoh.Sample) -> None:
            loop.call_soon_threadsafe(self._messages.put_nowait, sample.payload.to_bytes())

        self._subscriber = session.declare_subscriber(reads, received)
        block = zenoh.CongestionControl.BLOCK
        self._publisher = session.declare_publisher(writes, congestion_control=block)

    @classmethod
    async def serve(cls, endpoint: str) -> Self:
        """The robot's side: listens."""
        session = await asyncio.to_thread(_session, "peer", listen=endpoint)
        return cls(session, TO_SERVER, TO_CLIENT)

    @classmethod
    async def connect(cls, endpoint: str, style: Style) -> Self:
        """The policy's side: connects, and asks for metadata until it comes."""
        try:
            session = await asyncio.to_thread(_session, "client", connect=endpoint)
        except zenoh.ZError as error:
            raise OSError(str(error)) from error
        link = cls(session, TO_CLIENT, TO_SERVER)
        probe = encode(Metadata(), style)
        for _ in range(10):
            await link.send(probe)
            try:
                async with asyncio.timeout(PROBE_PERIOD):
                    await link.recv()
                return link
            except TimeoutError:
                continue
        await link.close()
        raise OSError(f"nobody answers a request for {MetadataResponse.type} at {endpoint}")

    async def send(self, message: WireMessage | Iterable[memoryview]) -> None:
        """Publish a message."""
        data = message if isinstance(message, bytes | str) else b"".join(message)
        await asyncio.to_thread(self._publisher.put, data)

    async def recv(self) -> bytes:
        """The next message."""
        return await self._messages.get()

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Leave; the other side sees for itself."""
        self.close_code, self.close_reason = code, reason
        await asyncio.to_thread(self._session.close)

    async def ping(self) -> Awaitable[float]:
        """Zenoh keeps its sessions alive by itself."""
        raise OSError("there are no pings over Zenoh")

    def abort(self) -> None:
        """Leave at once."""
        self._session.close()  # type: ignore[no-untyped-call]
