"""What waits for the thread that writes stored answers, and what needs no writing because it was done a moment ago."""

from __future__ import annotations

import sqlite3
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final

# The same answer again is written again after this; a use is noted again after it.
REFRESH_SECONDS: Final = 30.0
MAX_REMEMBERED: Final = 2000
MAX_REMEMBERED_OF_ONE: Final = 64


@dataclass(slots=True)
class Operation:
    """Something for the writing thread. ``url`` is what it is about, ``None`` for everything.

    ``is_removal``: must happen, if not now then later. ``slot`` is where it puts an answer of ``size`` bytes, and
    ``is_certain`` that it does so whatever is there.
    """

    run: Callable[[sqlite3.Connection], int]
    url: bytes | None
    is_removal: bool = False
    size: int = 0
    slot: Hashable = None
    is_certain: bool = False
    result: Future[int] | None = None


class Recently:
    """What was done about each URL in the last seconds, so that it is not done again for each request."""

    def __init__(self) -> None:
        self._seen: OrderedDict[bytes, dict[Hashable, tuple[object, float]]] = OrderedDict()

    def is_repeated(self, url: bytes, thing: Hashable, value: object = None) -> bool:
        """Whether it was done with this value; it counts as done from now on if not."""
        now = time.monotonic()
        things = self._seen.get(url)
        if things is None:
            things = self._seen[url] = {}
            if len(self._seen) > MAX_REMEMBERED:
                self._seen.popitem(last=False)
        known = things.get(thing)
        if known is not None and known[0] == value and now - known[1] < REFRESH_SECONDS:
            return True
        if len(things) >= MAX_REMEMBERED_OF_ONE:
            things.clear()
        things[thing] = (value, now)
        return False

    def forget(self, url: bytes, thing: Hashable = None) -> None:
        """What was done about a URL, or this thing of it, is done again."""
        if thing is None:
            self._seen.pop(url, None)
        else:
            self._seen.get(url, {}).pop(thing, None)

    def clear(self) -> None:
        """Forget everything."""
        self._seen.clear()


@dataclass
class Queue:
    """Operations in order. ``taken`` and ``finished`` count them; ``last`` is the number of the last for each URL."""

    waiting: deque[Operation] = field(default_factory=deque)
    size: int = 0
    taken: int = 0
    finished: int = 0
    last: dict[bytes | None, int] = field(default_factory=dict)
    is_hurried: bool = False
    is_closing: bool = False

    def add(self, operation: Operation) -> None:
        """One more."""
        self.waiting.append(operation)
        self.size += operation.size
        self.taken += 1
        self.last[operation.url] = self.taken
        self.is_closing = False

    def number_of(self, url: bytes) -> int:
        """The last operation that has to be finished before what is written about a URL is known."""
        return max(self.last.get(url, 0), self.last.get(None, 0))

    def take_batch(self, max_bytes: int) -> list[Operation]:
        """The next ones, for one transaction: at least one, else ``max_bytes`` at most."""
        batch: list[Operation] = []
        size = 0
        while self.waiting and (not batch or size + self.waiting[0].size <= max_bytes):
            batch.append(self.waiting.popleft())
            size += batch[-1].size
        return batch

    def finish(self, batch: list[Operation]) -> None:
        """These have ended, one way or another."""
        self.size -= sum(operation.size for operation in batch)
        self.finished += len(batch)
        if not self.waiting:
            self.last.clear()
            self.is_hurried = False


def without_overwritten(batch: list[Operation]) -> list[Operation]:
    """The batch without answers in whose place a later operation puts another, which need not be written at all."""
    kept: list[Operation] = []
    overwritten: set[Hashable] = set()
    for operation in reversed(batch):
        if operation.slot is not None:
            if operation.slot in overwritten:
                continue
            if operation.is_certain:
                overwritten.add(operation.slot)
        kept.append(operation)
    return kept[::-1]


def both(first: Operation, second: Operation) -> Operation:
    """One removal for two."""

    def run(connection: sqlite3.Connection) -> int:
        removed = first.run(connection)
        if first.result is not None and not first.result.done():
            first.result.set_result(removed)
        return second.run(connection)

    return Operation(run, second.url, is_removal=True, result=second.result)
