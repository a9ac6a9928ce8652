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


class ConnectionInterrupted(ChiralError, ConnectionError):
    """The connection was lost, and is being made again: try later, on an observation of then.

    ``sent`` says of a request whether it had left; then it is not known whether the robot has acted on
    it. It is None for a call that was made while there was no connection.
    """

    def __init__(self, *args: object, sent: bool | None = None) -> None:
        super().__init__(*args)
        self.sent = sent


class ConnectFailed(ChiralError, ConnectionError):
    """What is at the address does not take the connection."""


class ConnectRefused(ConnectFailed):
    """A server is there, and refuses: ``status`` is its HTTP status, 401 for a wrong token."""

    def __init__(self, *args: object, status: int = 0) -> None:
        super().__init__(*args)
        self.status = status


class TlsFailed(ConnectFailed):
    """No TLS connection: the server is not the one that is trusted, does not trust this client, or does
    not speak TLS."""


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
