"""What starts anew in the child of a fork(2): threads do not survive it, and locks may be held for ever."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Restartable(Protocol):
    """Something that holds a thread or a lock."""

    def restart_after_fork(self) -> None:
        """Make new locks and forget threads. Runs in the child, before any other code of it."""


_restartables: weakref.WeakSet[Restartable] = weakref.WeakSet()


def register(restartable: Restartable) -> None:
    """Restart ``restartable`` in each child from now on. It is held weakly."""
    _restartables.add(restartable)


def _restart_all() -> None:
    for restartable in list(_restartables):
        restartable.restart_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_restart_all)
