"""What the client and the server ask of what carries their messages."""

import argparse
from typing import TYPE_CHECKING, Any, TypeAlias, Union

from websockets.asyncio.connection import Connection

from .faults import WireMessage
from .report import Json
from .values import Style

if TYPE_CHECKING:
    from .zenoh_link import ZenohLink

Link: TypeAlias = Union[Connection, "ZenohLink"]


def is_zenoh(uri: str) -> bool:
    """Whether a URI is an endpoint of Zenoh's, and not of a WebSocket."""
    return uri.startswith("tcp/")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that both programs have."""
    parser.add_argument("--style", type=Style, choices=list(Style), default=Style.PYTHON)
    parser.add_argument("--ping-interval", type=float, metavar="SECONDS", help="0: never ping")
    parser.add_argument("--ping-timeout", type=float, metavar="SECONDS")
    parser.add_argument(
        "--fragment", type=int, default=0, metavar="BYTES", help="send in fragments of this size"
    )
    parser.add_argument("--quiet", action="store_true", help="print and hash no messages")


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """Keyword arguments for `connect` and `serve`: no limits, no compression, the usual pings."""
    settings: dict[str, Any] = {"compression": None, "max_size": None}
    if options.ping_interval is not None:
        settings["ping_interval"] = options.ping_interval or None
    if options.ping_timeout is not None:
        settings["ping_timeout"] = options.ping_timeout
    return settings


async def transmit(link: Link, message: WireMessage, fragment: int = 0) -> None:
    """Send one message, in fragments if `fragment` is not 0."""
    if not fragment or isinstance(message, str) or len(message) <= fragment:
        await link.send(message)
        return
    view = memoryview(message)
    await link.send(view[start : start + fragment] for start in range(0, len(view), fragment))


def closure(closed: Link) -> Json:
    """How the other side ended a connection; 1006 if it did not say."""
    return {"code": closed.close_code, "reason": closed.close_reason}
