"""The robot side, as a program: `python -m peer.server --port 0`."""

import argparse
import asyncio
import re
from http import HTTPStatus

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request as HttpRequest
from websockets.http11 import Response as HttpResponse

from . import link
from .faults import FAULTS, WireMessage, faulty_observation
from .fields import FrameError
from .frame import decode, encode
from .messages import (
    ApplyAction,
    Message,
    Metadata,
    ObsRequest,
    Request,
    Reset,
    StepAction,
)
from .report import emit, emit_message
from .scene import Layout, Robot

INVALID_PAYLOAD = 1007
TRY_AGAIN_LATER = 1013
REASON_LIMIT = 120  # characters; a close frame has room for 123 bytes


class RobotServer:
    """Serves one client at a time."""

    def __init__(self, robot: Robot, options: argparse.Namespace) -> None:
        self._robot = robot
        self._options = options
        self._fault: str | None = options.malformed
        self._busy = False

    async def run(self) -> None:
        """Listen until cancelled."""
        options = self._options
        if options.zenoh:
            from .zenoh_link import ZenohLink  # only then is the package needed

            connection = await ZenohLink.serve(options.zenoh)
            emit({"listening": options.zenoh})
            await self._converse(connection)
            return
        async with serve(
            self._handle,
            options.host,
            options.port,
            process_request=self._admit,
            **link.settings(options),
        ) as server:
            emit({"listening": server.sockets[0].getsockname()[1]})
            await server.serve_forever()

    def _admit(self, connection: ServerConnection, _request: HttpRequest) -> HttpResponse | None:
        if self._busy:
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "another client is here\n")
        return None

    async def _handle(self, connection: ServerConnection) -> None:
        if self._busy:  # it connected while this one's handshake was under way
            await connection.close(TRY_AGAIN_LATER, "another client is here")
            return
        self._busy = True
        emit({"connected": list(connection.remote_address[:2])})
        try:
            await self._converse(connection)
        finally:
            self._busy = False

    async def _converse(self, connection: link.Link) -> None:
        requests: asyncio.Queue[Request] = asyncio.Queue()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._receive(connection, requests))
                tasks.create_task(self._answer(connection, requests))
        except* ConnectionClosed:
            emit({"disconnected": link.closure(connection)})

    async def _receive(self, connection: link.Link, requests: asyncio.Queue[Request]) -> None:
        while True:
            await self._take(connection, await connection.recv(), requests)

    async def _take(
        self, connection: link.Link, data: WireMessage, requests: asyncio.Queue[Request]
    ) -> None:
        """Actions count at once, however long an answer takes."""
        try:
            message = _from_client(data)
        except FrameError as error:
            emit({"refused": str(error)})
            await connection.close(INVALID_PAYLOAD, str(error)[:REASON_LIMIT])
            return
        if not self._options.quiet:
            emit_message(message)
        if isinstance(message, ApplyAction):
            self._robot.apply_action()
        else:
            requests.put_nowait(message)

    async def _answer(self, connection: link.Link, requests: asyncio.Queue[Request]) -> None:
        observations = 0
        while True:
            request = await requests.get()
            if isinstance(request, ObsRequest):
                await asyncio.sleep(self._options.delay_obs)
            await self._send(connection, request)
            observations += isinstance(request, ObsRequest)
            if observations and observations == self._options.close_after:
                await self._hang_up(connection)
                return

    async def _send(self, connection: link.Link, request: Request) -> None:
        fault, style = self._fault, self._options.style
        if fault and isinstance(request, ObsRequest):
            self._fault = None
            emit({"fault": fault})
            await link.transmit(connection, faulty_observation(fault, style))
            return
        response = self._robot.answer(request)
        if not self._options.quiet:
            await asyncio.to_thread(emit_message, response)
        await link.transmit(connection, encode(response, style), self._options.fragment)

    async def _hang_up(self, connection: link.Link) -> None:
        if self._options.abort:
            connection.transport.abort()
        else:
            await connection.close(reason="that was the last observation")


def _from_client(data: WireMessage) -> Request | ApplyAction:
    if isinstance(data, str):
        raise FrameError("a text message, expected a binary one")
    message: Message = decode(data)
    match message:
        case Metadata() | Reset() | ObsRequest() | StepAction() | ApplyAction():
            return message
    raise FrameError(f"{message.type}: only a server sends that")


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT")
    return int(match[1]), int(match[2])


def _proprio(text: str) -> tuple[str, int]:
    name, colon, size = text.rpartition(":")
    if not colon or not size.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME:SIZE")
    return name, int(size)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m peer.server", description=__doc__)
    link.add_arguments(parser)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8765, help="0: any free one")
    parser.add_argument("--zenoh", metavar="ENDPOINT", help="serve over Zenoh, and not --port")
    parser.add_argument("--cameras", type=int, default=1, metavar="N")
    parser.add_argument("--size", type=_size, default=(64, 48), metavar="WxH")
    parser.add_argument("--depth", action="store_true", help="every camera has depth")
    parser.add_argument(
        "--proprio", type=_proprio, nargs="+", action="extend", default=[], metavar="NAME:SIZE"
    )
    parser.add_argument(
        "--delay-obs", type=float, default=0.0, metavar="SECONDS", help="before each observation"
    )
    parser.add_argument(
        "--close-after", type=int, default=0, metavar="N", help="end a connection after N of them"
    )
    parser.add_argument("--abort", action="store_true", help="end it without a closing handshake")
    parser.add_argument("--malformed", choices=FAULTS, help="break the first observation")
    return parser


def main() -> None:
    """Run the program."""
    options = _parser().parse_args()
    width, height = options.size
    layout = Layout(options.cameras, width, height, options.depth, tuple(options.proprio))
    server = RobotServer(Robot(layout, options.style), options)
    try:
        asyncio.run(server.run())
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
