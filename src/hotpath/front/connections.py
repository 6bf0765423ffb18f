"""The connections that the door holds: who is idle, who is slow, and who goes first where there are too many."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Final

from hotpath.front.hits import Repeated

# Beyond half of the maximum only those go that were silent for so long; at the maximum anybody.
SPARED_SECONDS: Final = 1.0


class Connection:
    """One client. ``since`` is the time of the last progress, ``head_since`` when the half head in ``data`` began.

    ``output`` is what the kernel did not take yet; while there is some nothing is read. ``repeated`` is what its last
    request sent, which mostly comes again with another target.
    """

    __slots__ = ("closes", "data", "head_since", "output", "recv", "repeated", "send", "since", "sock")

    def __init__(self, sock: socket.socket, now: float) -> None:
        self.sock = sock
        self.recv = sock.recv
        self.send = sock.send
        self.since = now
        self.head_since: float | None = None
        self.data = b""
        self.output: list[memoryview] = []
        self.closes = False
        self.repeated: Repeated | None = None

    def flush(self) -> bool:
        """Write what waits; whether all of it is gone. Raises ``OSError`` where the client is."""
        while self.output:
            view = self.output[0]
            try:
                sent = self.send(view)
            except BlockingIOError:
                return False
            if sent < len(view):
                self.output[0] = view[sent:]
                return False
            del self.output[0]
        return True

    def close(self) -> None:
        """End it, whatever state it is in."""
        self.output.clear()
        with contextlib.suppress(OSError):
            self.sock.close()


class Connections:
    """All of them by descriptor, at most ``maximum``."""

    def __init__(self, maximum: int, head_seconds: float, idle_seconds: float) -> None:
        self.by_descriptor: dict[int, Connection] = {}
        self._maximum = maximum
        self._head_seconds = head_seconds
        self._idle_seconds = idle_seconds
        # Whom to end first last, as they were when this was made: at that time, and whether all are candidates.
        self._candidates: list[tuple[bool, float, int]] = []
        self._ranked_at = (float("-inf"), False)

    def __len__(self) -> int:
        return len(self.by_descriptor)

    def overdue(self, now: float) -> Iterator[int]:
        """Those whose head takes too long, or that are idle or take nothing for too long."""
        latest_head, latest = now - self._head_seconds, now - self._idle_seconds
        for descriptor, connection in [*self.by_descriptor.items()]:
            if connection.since < latest or (connection.head_since or now) < latest_head:
                yield descriptor

    @property
    def is_full(self) -> bool:
        """Whether one more would be too many."""
        return len(self.by_descriptor) >= self._maximum

    def surplus(self, now: float) -> int | None:
        """Whom to end so that one more may come, the longest idle; ``None`` where there is room, or nobody to end."""
        count = len(self.by_descriptor)
        if count < self._maximum // 2:
            return None
        return self.longest_idle(now, 0.0 if count >= self._maximum else SPARED_SECONDS)

    @property
    def _has_silent(self) -> bool:
        return any(connection.repeated is None for connection in self.by_descriptor.values())

    def longest_idle(self, now: float, spared_seconds: float = 0.0) -> int | None:
        """The one with the oldest progress, if that is longer ago than ``spared_seconds``.

        Where nobody is spared, those go first that never got an answer: a crowd that says nothing, and comes at once,
        ends its own connections and not those of clients that ask again and again.
        """
        spares_nobody = spared_seconds == 0.0
        if self._ranked_at[1] != spares_nobody:
            self._candidates.clear()
        for is_new in (False, True):
            if is_new:
                ranked_at = (now, spares_nobody)
                # Ranked in this turn of the loop, and all of them are gone or busy.
                if self._ranked_at == ranked_at and not self._candidates:
                    return None
                self._ranked_at = ranked_at
                ranked = [
                    (spares_nobody and connection.repeated is not None, connection.since, fd)
                    for fd, connection in self.by_descriptor.items()
                ]
                self._candidates = sorted(ranked, reverse=True)
            while self._candidates:
                is_client, since, descriptor = self._candidates[-1]
                if is_client and not is_new and self._has_silent:
                    break  # that came since
                connection = self.by_descriptor.get(descriptor)
                if connection is not None and connection.since == since:
                    return descriptor if now - since >= spared_seconds else None
                self._candidates.pop()
        return None
