"""Closes what is open when the interpreter ends, and tells the core of forks."""

from __future__ import annotations

import atexit
import os
import weakref
from typing import Protocol

from . import _core


class Closable(Protocol):
    def _close_at_exit(self) -> None: ...


_open: weakref.WeakSet[Closable] = weakref.WeakSet()


def opened(it: Closable) -> None:
    _open.add(it)


def closed(it: Closable) -> None:
    _open.discard(it)


def _close_all() -> None:
    for it in list(_open):
        it._close_at_exit()


def _after_fork_in_child() -> None:
    _core.note_fork()
    _open.clear()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
