"""A backstop under the guard: the kernel refuses an allocation that would not fit, and Python raises ``MemoryError``.

``RLIMIT_DATA`` (setrlimit(2)) counts private writable memory, touched or not, so that its value says nothing by itself:
the soft limit is moved along, what is mapped now plus what may still be used. Code that does not look at what malloc
returned crashes instead; docs/explanation/guard.md says which was seen to.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from hotpath.errors import UnreadableMemory

_PAGE = os.sysconf("SC_PAGE_SIZE")
_STATM = Path("/proc/self/statm")

# A request with many small objects stays near the limit for some tenths of a second before it gets its error, since
# CPython asks malloc where it got no arena. After a second near the limit, an error went unreported or is ignored, and
# the reserve counts as used.
_NEAR_BYTES = 64 * _PAGE
NEAR_SECONDS = 1.0
# Memory that is released to the other requests once one has hit the limit.
RESERVE_BYTES = 32 * 1024 * 1024
# Maximum share of the limit that the reserve takes: it is sized for machines, not for small limits.
_RESERVE_SHARE = 0.15
# Memory that is left for the next request once the reserve is used: enough to refuse it.
LAST_BYTES = 1024 * 1024


class HardLimit:
    """Keeps the soft limit ``reserve_bytes`` below what fits, 15 % of the group's limit at most. This reserve is opened
    once, by the first who hits it.
    """

    def __init__(self, reserve_bytes: int = RESERVE_BYTES, clock: Callable[[], float] = time.monotonic) -> None:
        self._wanted = self._reserve = reserve_bytes
        self._clock = clock
        self._near_since: float | None = None
        self._before, self._hard = resource.getrlimit(resource.RLIMIT_DATA)
        self._statm: int | None = None
        self._soft: int | None = None
        # Made in advance: who opens the reserve may have no byte left to make it with.
        self._opened = (self._before, self._hard)
        self.reserve_used = False

    def mapped(self) -> int:
        """What the limit counts now, in bytes. Raises ``UnreadableMemory``."""
        try:
            if self._statm is None:
                self._statm = os.open(_STATM, os.O_RDONLY | os.O_CLOEXEC)
            return int(os.pread(self._statm, 256, 0).split()[5]) * _PAGE
        except OSError as error:
            raise UnreadableMemory(_STATM, error.strerror or str(error)) from error

    def follow(self, headroom: int, mapped_before: int, limit: int) -> None:
        """Let the process allocate ``headroom`` bytes more of ``limit``, less the reserve while that is closed.

        ``mapped_before`` is what ``mapped`` said before the headroom was looked at: with a later one, what a request
        allocates between the two would count as room.
        """
        self._reserve = min(self._wanted, int(limit * _RESERVE_SHARE))
        mapped = min(mapped_before, self.mapped())
        now = self._clock()
        if self._soft is None or mapped <= self._soft - _NEAR_BYTES:
            self._near_since = None
        elif self._near_since is None:
            self._near_since = now
        elif now - self._near_since >= NEAR_SECONDS:
            self.reserve_used = True
        soft = mapped + max(0, headroom - (0 if self.reserve_used else self._reserve))
        self._soft = self._bounded(soft)
        self._opened = (self._bounded(soft + (LAST_BYTES if self.reserve_used else self._reserve)), self._hard)
        resource.setrlimit(resource.RLIMIT_DATA, (self._soft, self._hard))

    def open_reserve(self) -> None:
        """Somebody got a ``MemoryError``: make room for those who go on. Allocates nothing."""
        self.reserve_used = True
        resource.setrlimit(resource.RLIMIT_DATA, self._opened)

    def close(self) -> None:
        """Set what was set before."""
        resource.setrlimit(resource.RLIMIT_DATA, (self._before, self._hard))
        if self._statm is not None:
            os.close(self._statm)
            self._statm = None

    def _bounded(self, soft: int) -> int:
        return soft if self._hard == resource.RLIM_INFINITY else min(soft, self._hard)


def is_memory_error(error: BaseException | None) -> bool:
    """Whether memory ran out at the bottom of it: frameworks wrap what a handler raises."""
    return any(isinstance(cause, MemoryError) for cause in _causes(error))


def is_thread_error(error: BaseException | None) -> bool:
    """Whether there was no thread to be had.

    Its stack counts when it is mapped, touched or not (8 MiB mostly), so forty that start between two samples have no
    room where there is some for all that they will ever touch.
    """
    return any(type(cause) is RuntimeError and cause.args == ("can't start new thread",) for cause in _causes(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and all that it comes of, each once: causes can go round in a circle."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        cause = waiting.pop()
        if cause is None or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        if isinstance(cause, BaseExceptionGroup):
            waiting += cause.exceptions
        waiting += (cause.__cause__, cause.__context__)
