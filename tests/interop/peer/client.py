"""The policy side, as a program: `python -m peer.client --uri ws://… --scenario calls`."""

import argparse
import asyncio
import sys

from websockets.exceptions import ConnectionClosed, InvalidHandshake

from . import link
from .faults import FAULTS
from .fields import FrameError
from .policy import PolicyClient
from .report import Json, emit
from .scenarios import SCENARIOS, CheckError

NORMAL_CLOSURE = 1000
FAILURES = (CheckError, FrameError, ConnectionClosed, InvalidHandshake, OSError, TimeoutError)


async def run(options: argparse.Namespace) -> Json:
    """One connection, one scenario; the summary."""
    client = await PolicyClient.connect(options)
    connection = client.connection
    try:
        summary = await SCENARIOS[options.scenario](client, options)
    finally:
        await connection.close()
    if options.scenario != "malformed" and connection.close_code != NORMAL_CLOSURE:
        raise CheckError(f"the closing handshake went wrong: {link.closure(connection)}")
    return {"summary": options.scenario} | summary


def main() -> int:
    """Run the program."""
    options = _parser().parse_args()
    if options.scenario == "pings":
        options.ping_interval = options.ping_interval or 0.2
        options.ping_timeout = options.ping_timeout or 1.0
    failures: list[BaseException] = []
    try:
        emit(asyncio.run(run(options)))
    except* FAILURES as group:
        failures = _leaves(group)
    for failure in failures:
        print(f"{type(failure).__name__}: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    leaves: list[BaseException] = []
    for member in group.exceptions:
        leaves += _leaves(member) if isinstance(member, BaseExceptionGroup) else [member]
    return leaves


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m peer.client", description=__doc__)
    link.add_arguments(parser)
    parser.add_argument("--uri", default="ws://localhost:8765")
    parser.add_argument("--scenario", choices=sorted(SCENARIOS), required=True)
    parser.add_argument("--fault", choices=FAULTS, default=FAULTS[0], help="for malformed")
    parser.add_argument(
        "--busy-with",
        choices=["obs_request", "reset", "apply_action", "nothing"],
        default="obs_request",
        help="for pings: what keeps the robot busy",
    )
    parser.add_argument("--count", type=int, default=5, help="for calls and step")
    parser.add_argument("--hz", type=float, default=30.0, help="for stream: observations")
    parser.add_argument("--action-hz", type=float, default=50.0, help="for stream: actions")
    parser.add_argument("--seconds", type=float, default=2.0, help="for stream and pings")
    parser.add_argument("--action-size", type=int, default=7, metavar="D")
    parser.add_argument("--connect-timeout", type=float, default=5.0, metavar="SECONDS")
    parser.add_argument(
        "--timeout", type=float, default=10.0, metavar="SECONDS", help="for one answer"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
