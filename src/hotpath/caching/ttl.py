"""A bounded cache whose entries also end after a time."""

from __future__ import annotations

import heapq
import random
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

from hotpath.caching.lru import _MISSING, DEFAULT_ENTRIES, LRUCache
from hotpath.caching.mapping import K, V
from hotpath.caching.sizing import Sizer
from hotpath.errors import DeclarationError

# Lifetimes in seconds: shorter than a call takes, and longer than three centuries, are mistakes, and floats end there.
MIN_TTL = 1e-6
MAX_TTL = 1e10

# Maximum expired entries that one call takes out.
SWEEP_ENTRIES = 16

# Hits take out expired entries once in this time; misses and writes always do.
SWEEP_SECONDS = 1.0

# Steps of a lifetime. An expired entry is freed at most one step later.
TICKS = 64


class TTLCache(LRUCache[K, V]):
    """An ``LRUCache`` whose entries end after ``ttl`` seconds too, as ``cachetools.TTLCache`` and safe for threads.

    ``jitter`` shortens each lifetime by up to that share, so that entries stored together do not end together.
    ``clock`` gives seconds and never goes back. An expired entry is never returned; reads and writes take out a few
    each. Raises ``DeclarationError``.
    """

    def __init__(
        self,
        max_entries: int | None = DEFAULT_ENTRIES,
        ttl: float = 600.0,
        max_bytes: int | None = None,
        *,
        jitter: float = 0.0,
        sizer: Sizer | None = None,
        name: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        check_ttl(ttl)
        if not 0 <= jitter < 1:
            raise DeclarationError(f"jitter={jitter!r}: write a share of the lifetime, 0.1 say")
        super().__init__(max_entries, max_bytes, sizer=sizer, name=name)
        self.ttl = ttl
        self._jitter = jitter
        self._clock = clock
        self._chance = chance
        self._data: OrderedDict[K, Any]  # key → (value, the time at which it ends, the key)
        # Keys by the tick in which they end, and a heap of those ticks: eight bytes an entry. A key that was stored
        # again or taken out meanwhile is skipped.
        self._tick = ttl / TICKS
        self._ending: dict[int, list[K]] = {}
        self._ticks: list[int] = []
        self._queued = 0
        self._sweep_at = clock() + SWEEP_SECONDS

    def __getitem__(self, key: K) -> V:
        now = self._clock()
        try:
            value, ends, stored = self._data[key]
            if ends > now:
                self._touch(stored)
                self.hits += 1
                if now > self._sweep_at:
                    self._sweep(now)
                return value  # type: ignore[no-any-return]
        except KeyError:
            pass
        self.misses += 1
        self._sweep(now)
        return self.__missing__(key)

    def get(self, key: K, default: Any = None) -> Any:
        """The value, which counts as a use; ``default`` where there is none that has not expired."""
        now = self._clock()
        try:
            value, ends, stored = self._data[key]
            if ends > now:
                self._touch(stored)
                self.hits += 1
                if now > self._sweep_at:
                    self._sweep(now)
                return value
        except KeyError:
            pass
        self.misses += 1
        self._sweep(now)
        return default

    def __contains__(self, key: object) -> bool:
        held = self._data.get(key)  # type: ignore[arg-type]  # any key may be asked for
        return held is not None and held[1] > self._clock()

    def __len__(self) -> int:
        self.expire()
        return len(self._data)

    def __iter__(self) -> Iterator[K]:
        """The keys of this moment that have not expired."""
        self.expire()
        return super().__iter__()

    def set(self, key: K, value: V, ttl: float | None = None) -> None:
        """Store with a lifetime of its own: a shorter one for a negative result, say."""
        if ttl is not None:
            check_ttl(ttl)
        self._write(key, value, ttl=ttl)

    def _write(self, key: K, value: V, *, only_new: bool = False, ttl: float | None = None) -> V:
        now = self._clock()
        self._sweep(now)
        lifetime = self.ttl if ttl is None else ttl
        if self._jitter:
            lifetime *= 1 - self._jitter * self._chance()
        ends = now + lifetime
        weight = None if self.max_bytes is None else self._weigh(key, value)
        with self._lock:
            held = self._data.get(key) if only_new else None
            if held is not None and held[1] > now:
                return held[0]  # type: ignore[no-any-return]
            gone = self._put(key, (value, ends, key), weight)
            self._queue(key, ends)
            if self._queued > 2 * len(self._data) + 64:
                gone.append(self._forget_queue())
                for _, queued_ends, queued in list(dict.values(self._data)):
                    self._queue(queued, queued_ends)
        del gone
        return value

    def _queue(self, key: K, ends: float) -> None:
        tick = int(ends / self._tick)
        keys = self._ending.get(tick)
        if keys is None:
            keys = self._ending[tick] = []
            heapq.heappush(self._ticks, tick)
        keys.append(key)
        self._queued += 1

    def _forget_queue(self) -> Any:
        """Forget which entries end when, and return it, to be freed after the lock."""
        gone = self._ending
        self._ending = {}
        self._ticks.clear()
        self._queued = 0
        return gone

    def __setitem__(self, key: K, value: V) -> None:
        self._write(key, value)

    def _value(self, held: Any) -> V:
        return held[0]  # type: ignore[no-any-return]

    def _pop(self, key: K) -> Any:
        held = super()._pop(key)
        return held if held is _MISSING else held[0] if held[1] > self._clock() else _MISSING

    def popitem(self) -> tuple[K, V]:
        """Take out the entry that was used least recently, of those that have not expired."""
        self.expire()
        return super().popitem()

    def _clear(self) -> list[Any]:
        return [self._forget_queue(), *super()._clear()]

    def expire(self, now: float | None = None) -> list[tuple[K, V]]:
        """Take out every entry that has expired by ``now``, and return them, as cachetools does."""
        now = self._clock() if now is None else now
        gone = self._sweep(now, sys.maxsize)
        with self._lock:
            for key in list(self._ending.get(int(now / self._tick), ())):
                held = self._data.get(key)
                if held is not None and held[1] <= now and (entry := self._take(key)) is not None:
                    gone.append((entry[0], held[0]))
        return gone

    def _sweep(self, now: float, most: int = SWEEP_ENTRIES) -> list[tuple[K, V]]:
        """Take out at most ``most`` entries that ended before the tick of ``now``."""
        self._sweep_at = now + SWEEP_SECONDS
        gone: list[tuple[K, V]] = []
        this = int(now / self._tick)
        if not self._ticks or self._ticks[0] >= this:
            return gone
        looked_at: list[K] = []  # freed after the lock, as whatever leaves is
        with self._lock:
            while self._ticks and (tick := self._ticks[0]) < this and len(gone) < most:
                keys = self._ending[tick]
                while keys and len(gone) < most:
                    key = keys.pop()
                    looked_at.append(key)
                    self._queued -= 1
                    held = self._data.get(key)
                    if (
                        held is not None
                        and int(held[1] / self._tick) <= tick
                        and (entry := self._take(key)) is not None
                    ):
                        gone.append((entry[0], held[0]))
                if not keys:
                    del self._ending[heapq.heappop(self._ticks)]
        return gone


def check_ttl(ttl: float) -> None:
    """Raise ``DeclarationError`` for what is no lifetime."""
    if not isinstance(ttl, int | float) or not MIN_TTL <= ttl <= MAX_TTL:
        raise DeclarationError(f"ttl={ttl!r}: write the seconds that an entry lives, {MIN_TTL:g} to {MAX_TTL:g}")
