"""A world with a clock of its own: code that waits in it takes no time, and an origin that is in memory."""

from __future__ import annotations

import hashlib
import heapq
import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import greenlet

from hotpath.errors import OriginConflict
from hotpath.store.origin.objects import UNCHANGED, Entry, Object, Unchanged


class World:
    """Runs functions that wait by ``sleep`` or by an ``Event`` of this world, in the order of their times."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now
        self._order = itertools.count()
        self._due: list[tuple[float, int, greenlet.greenlet, object]] = []
        self._hub: greenlet.greenlet | None = None

    def clock(self) -> float:
        return self.now

    def start(self, function: Callable[[], object], after: float = 0.0) -> greenlet.greenlet:
        """Call ``function`` in ``after`` seconds."""
        task = greenlet.greenlet(function)
        self.wake(task, after)
        return task

    def wake(self, task: greenlet.greenlet, after: float = 0.0, ticket: object = None) -> None:
        """Let a task go on in ``after`` seconds, which waits with ``ticket`` or has not begun."""
        heapq.heappush(self._due, (self.now + after, next(self._order), task, ticket))

    def wait(self, ticket: object) -> None:
        """Wait until this task is woken with ``ticket``. Other tickets are of waits that ended earlier."""
        assert self._hub is not None
        while self._hub.switch() is not ticket:
            pass

    def sleep(self, seconds: float) -> None:
        ticket = object()
        self.wake(greenlet.getcurrent(), seconds, ticket)
        self.wait(ticket)

    def run(self, seconds: float) -> None:
        """Let ``seconds`` pass."""
        until = self.now + seconds
        self._hub = greenlet.getcurrent()
        while self._due and self._due[0][0] <= until:
            self.now, _, task, ticket = heapq.heappop(self._due)
            if not task.dead:
                task.switch() if not task else task.switch(ticket)
        self.now = until


class Event(threading.Event):
    """An event whose ``wait`` takes time of the world."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world
        self._waiting: dict[object, greenlet.greenlet] = {}

    def set(self) -> None:
        super().set()
        for ticket, task in self._waiting.items():
            self._world.wake(task, ticket=ticket)
        self._waiting.clear()

    def wait(self, timeout: float | None = None) -> bool:
        if not self.is_set():
            ticket, task = object(), greenlet.getcurrent()
            self._waiting[ticket] = task
            if timeout is not None:
                self._world.wake(task, timeout, ticket)
            self._world.wait(ticket)
            self._waiting.pop(ticket, None)
        return self.is_set()


@dataclass(slots=True)
class Origin:
    """The objects of an origin, and every request of everybody, by its kind: ``GET``, ``304``, ``PUT``, ``LIST``."""

    world: World
    objects: dict[str, bytes] = field(default_factory=dict)
    requests: Counter[str] = field(default_factory=Counter)
    sent_bytes: int = 0
    seconds: Counter[int] = field(default_factory=Counter)

    def count(self, kind: str, sent: int = 0) -> None:
        self.requests[kind] += 1
        self.sent_bytes += sent
        self.seconds[int(self.world.now)] += 1

    def forget(self) -> None:
        """Count anew."""
        self.requests.clear()
        self.seconds.clear()
        self.sent_bytes = 0


def _etag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


class Requests:
    """One machine's way to the origin: ``Objects``, each request of which takes ``latency`` seconds of the world."""

    url = "memory://origin"

    def __init__(self, origin: Origin, latency: Callable[[], float]) -> None:
        self._origin = origin
        self._latency = latency

    def get(self, key: str) -> Object | None:
        self._take_time()
        data = self._origin.objects.get(key)
        self._origin.count("GET", len(data or b""))
        return None if data is None else Object(data, _etag(data))

    def get_if_changed(self, key: str, etag: str) -> Object | Unchanged | None:
        self._take_time()
        data = self._origin.objects.get(key)
        if data is not None and _etag(data) == etag:
            self._origin.count("304")
            return UNCHANGED
        self._origin.count("GET", len(data or b""))
        return None if data is None else Object(data, _etag(data))

    def put_new(self, key: str, data: bytes) -> str:
        self._take_time()
        if key in self._origin.objects:
            raise self._conflict(key)
        return self._put(key, data)

    def put_if(self, key: str, data: bytes, etag: str) -> str:
        self._take_time()
        there = self._origin.objects.get(key)
        if there is None or _etag(there) != etag:
            raise self._conflict(key)
        return self._put(key, data)

    def put(self, key: str, data: bytes, fields: Mapping[str, str] | None = None) -> None:
        self._take_time()
        self._put(key, data)

    def list(self, prefix: str) -> Iterator[Entry]:
        self._origin.count("LIST")
        for key, data in sorted(self._origin.objects.items()):
            if key.startswith(prefix):
                yield Entry(key, len(data), self._origin.world.now)

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._origin.objects.pop(key, None)

    def _take_time(self) -> None:
        self._origin.world.sleep(self._latency())

    def _put(self, key: str, data: bytes) -> str:
        self._origin.objects[key] = data
        self._origin.count("PUT")
        return _etag(data)

    def _conflict(self, key: str) -> OriginConflict:
        self._origin.count("PUT")
        return OriginConflict("another was first", url=self.url, operation="replacing", key=key)
