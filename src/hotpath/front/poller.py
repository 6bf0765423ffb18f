"""Which descriptors are ready: the kernel's ``epoll``, or what ``selectors`` has elsewhere in the same words."""

from __future__ import annotations

import select
import selectors
from typing import Final, Protocol

READ: Final = 1  # EPOLLIN
WRITE: Final = 4  # EPOLLOUT
# EPOLLRDHUP: the client sends no more.
LAST: Final = 0x2000
# EPOLLET: say once what has come, until ``modify``. It saves the kernel a second look at each request; ``selectors``
# does not know it and says again what is not read.
ONCE: Final = 1 << 31


class Poller(Protocol):
    """The part of ``select.epoll`` that the door uses; other bits of a mask say that a connection is broken."""

    def register(self, fd: int, eventmask: int, /) -> None:
        """Watch a descriptor."""

    def modify(self, fd: int, eventmask: int, /) -> None:
        """Watch it for something else."""

    def unregister(self, fd: int, /) -> None:
        """Watch it no longer."""

    def poll(self, timeout: float) -> list[tuple[int, int]]:
        """Descriptors and what they are ready for, as a mask, within so many seconds."""

    def close(self) -> None:
        """Let go of what the kernel holds."""


class SelectorPoller:
    """The same with ``selectors``, where there is no ``epoll``."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def register(self, fd: int, eventmask: int, /) -> None:
        """Watch a descriptor."""
        self._selector.register(fd, _events(eventmask))

    def modify(self, fd: int, eventmask: int, /) -> None:
        """Watch it for something else."""
        self._selector.modify(fd, _events(eventmask))

    def unregister(self, fd: int, /) -> None:
        """Watch it no longer."""
        self._selector.unregister(fd)

    def poll(self, timeout: float) -> list[tuple[int, int]]:
        """Descriptors and what they are ready for, as a mask, within so many seconds."""
        return [
            (key.fd, READ * bool(events & selectors.EVENT_READ) | WRITE * bool(events & selectors.EVENT_WRITE))
            for key, events in self._selector.select(timeout)
        ]

    def close(self) -> None:
        """Let go of what the kernel holds."""
        self._selector.close()


def _events(mask: int) -> int:
    return selectors.EVENT_READ * bool(mask & READ) | selectors.EVENT_WRITE * bool(mask & WRITE)


def make_poller() -> Poller:
    """The best that this system has."""
    return select.epoll() if hasattr(select, "epoll") else SelectorPoller()
