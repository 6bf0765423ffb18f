"""A guard over readings that a test says."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hotpath.errors import UnreadableMemory
from hotpath.guard.alarms import Alarm
from hotpath.guard.guard import MemoryGuard
from hotpath.guard.memory import MemoryReader
from hotpath.guard.outlook import MemoryReading
from hotpath.guard.states import State
from hotpath.testing import FakeClock
from tests.guard.waiting import wait_until

MIB = 1024 * 1024
LIMIT = 1000 * MIB


class FakeReader(MemoryReader):
    """Says ``used`` of ``limit``, in bytes; ``None`` cannot be read."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock=clock)
        self.clock = clock
        self.used: int | None = 300 * MIB
        self.limit = LIMIT
        self.resident = 50 * MIB
        # What this process holds of it; ``None``: all.
        self.own: int | None = None

    def read(self) -> MemoryReading:
        if self.used is None:
            raise UnreadableMemory(Path("/planted"), "cannot be read")
        own = self.used if self.own is None else self.own
        return MemoryReading(self.clock(), self.limit, self.used, self.used, 8 * LIMIT, self.resident, own, "cgroup2")

    def unique_bytes(self) -> int:
        return self.resident

    def oom_kills(self) -> int | None:
        return 0

    def host_total(self) -> int:
        return 8 * LIMIT


class FakeGuard(MemoryGuard):
    """A guard over another reader, clock and chance."""

    def __init__(
        self,
        reader: MemoryReader,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
        **options: Any,
    ) -> None:
        self._given = reader
        self.clock, self.chance = clock, chance
        super().__init__(**options)

    def make_reader(self, budget: int | None) -> MemoryReader:
        assert budget is None, "limit= is for the guard's own reader"
        return self._given


class Rigged:
    """A guard with a clock, a reader and a chance that a test sets; ``alarms`` are what it called."""

    def __init__(self, **options: Any) -> None:
        self.clock = FakeClock(1000.0)
        self.reader = FakeReader(self.clock)
        self._sent: list[Alarm] = []
        self.chance = 0.5
        self.guard = FakeGuard(self.reader, self.clock, lambda: self.chance, **{"alarm": self._sent.append, **options})

    @property
    def alarms(self) -> list[Alarm]:
        """All that were sent, also those that a thread is about to send."""
        wait_until(lambda: not self.guard.alarms.is_sending, 30, "alarms are not sent")
        return self._sent

    def see(self, share: float | None, *, samples: int = 1, seconds: float = 1.0) -> None:
        """Some samples with this share of the limit in use, so many seconds apart."""
        for _ in range(samples):
            self.reader.used = None if share is None else int(share * self.reader.limit)
            self.guard.sample()
            self.clock.advance(seconds)


def state_of(guard: MemoryGuard) -> State:
    """The same as ``guard.state``, which mypy takes for what it was when it was last compared."""
    return guard.state


def http(path: str = "/cold", method: str = "GET", *headers: tuple[bytes, bytes], **fields: Any) -> dict[str, Any]:
    """The scope of a request."""
    return {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": list(headers),
        **fields,
    }
