"""Exceptions. Each one's text says what was found, what was expected and what to do."""

from __future__ import annotations


class ChiralError(Exception):
    """What this package raises, beside ``TypeError`` and ``ValueError`` for bad arguments."""


class ConnectionClosed(ChiralError, ConnectionError):
    """The connection has ended. Connect again to go on.

    ``code`` is the WebSocket close code, if there was one; ``reason`` what the other side said.
    """

    def __init__(self, *args: object, code: int | None = None, reason: str = "") -> None:
        super().__init__(*args)
        self.code = code
        self.reason = reason


class ConnectFailed(ChiralError, ConnectionError):
    """What is at the address does not take the connection."""


class ConnectTimeout(ConnectFailed, TimeoutError):
    """Nobody was at the address in time."""


class RequestTimeout(ChiralError, TimeoutError):
    """No answer came in time. The connection goes on, and the robot may still be at it."""


class QueueFull(ChiralError):
    """The queue of actions is full, or the network takes no more."""


class ActionRejected(ChiralError, ValueError):
    """An action, a chunk or a setting that does not fit the plan or the robot's actions."""


class SensorError(ChiralError, ValueError):
    """A sensor is not what was declared. Its latest good frame stays."""


class UnknownName(ChiralError, KeyError):
    """No sensor has this name; the text lists those that exist."""

    def __str__(self) -> str:  # A KeyError would show the text in quotes.
        return Exception.__str__(self)
