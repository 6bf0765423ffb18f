"""A backstop under the guard: the kernel refuses an allocation that would not fit, and Python raises ``MemoryError``.

``RLIMIT_DATA`` (setrlimit(2)) counts private writable memory, touched or not, so that its value says nothing by itself:
the soft limit is moved along, what is mapped now plus what may still be used. Code that does not look at what malloc
returned crashes instead; docs/explanation/guard.md says which was seen to.
"""

from __future__ import annotations

import os
import resource
import sys

_PAGE = os.sysconf("SC_PAGE_SIZE")


class HardLimit:
    """Keeps the soft limit ``reserve_bytes`` below what fits. The reserve is opened once, by the first who hits it."""

    def __init__(self, reserve_bytes: int) -> None:
        self._reserve = reserve_bytes
        self._before, self._hard = resource.getrlimit(resource.RLIMIT_DATA)
        self._statm: int | None = None
        self._soft: int | None = None
        self.reserve_used = False

    def follow(self, headroom: int) -> None:
        """Let the process allocate ``headroom`` bytes more, less the reserve while that is closed."""
        if self._statm is None:
            self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        mapped = int(os.pread(self._statm, 256, 0).split()[5]) * _PAGE
        if self._soft is not None and not self.reserve_used and mapped > self._soft - _PAGE * 64:
            # Many small objects: nobody may get the error before all others run into the limit too.
            self.reserve_used = True
        self._set(mapped + max(0, headroom - (0 if self.reserve_used else self._reserve)))

    def open_reserve(self) -> None:
        """Somebody got a ``MemoryError``: make room for those who go on."""
        if not self.reserve_used:
            self.reserve_used = True
            if self._soft is not None:
                self._set(self._soft + self._reserve)

    def close(self) -> None:
        """Set what was set before."""
        resource.setrlimit(resource.RLIMIT_DATA, (self._before, self._hard))
        if self._statm is not None:
            os.close(self._statm)
            self._statm = None

    def _set(self, soft: int) -> None:
        self._soft = soft if self._hard == resource.RLIM_INFINITY else min(soft, self._hard)
        resource.setrlimit(resource.RLIMIT_DATA, (self._soft, self._hard))


def is_memory_error(error: BaseException | None) -> bool:
    """Whether memory ran out at the bottom of it: frameworks wrap what a handler raises."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, MemoryError):
            return True
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions
        waiting += (one.__cause__, one.__context__)
    return False


def handled_memory_error() -> bool:
    """Whether the code that calls this handles a ``MemoryError``: frameworks send their 500 from where they catch."""
    return is_memory_error(sys.exception())
