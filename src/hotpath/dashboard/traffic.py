"""Requests by the minute: how many a hot page answered, how many went to the app, and how long each took."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

KEPT_MINUTES: Final = 60

# Bounds of the buckets of durations, in seconds: each is a quarter more than the one before, from 10 µs to 100 s.
BOUNDS: Final = tuple(1e-5 * 1.25**step for step in range(73))


@dataclass(slots=True)
class Minute:
    """One minute; ``hot`` and ``cold`` count requests, the others durations by bucket."""

    start: int
    hot: int = 0
    cold: int = 0
    hot_seconds: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    cold_seconds: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))

    @property
    def share(self) -> float | None:
        """The part that hot pages answered, or ``None`` without requests."""
        total = self.hot + self.cold
        return self.hot / total if total else None


def quantile(buckets: Sequence[int], share: float) -> float | None:
    """The upper bound of the bucket with this quantile, in seconds: at most a quarter too much."""
    total = sum(buckets)
    if not total:
        return None
    rank, seen = share * total, 0
    for place, count in enumerate(buckets):
        seen += count
        if seen >= rank:
            return BOUNDS[min(place, len(BOUNDS) - 1)]
    return BOUNDS[-1]


class Traffic:
    """The last hour. Any thread may add; ``clock`` gives seconds since the epoch."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._minutes: deque[Minute] = deque(maxlen=KEPT_MINUTES)

    def add(
        self, *, hot: int = 0, cold: int = 0, seconds: float | None = None, hot_seconds: Sequence[int] = ()
    ) -> None:
        """Count requests of now. ``seconds`` is how long the one took that is counted; ``hot_seconds`` are durations of
        hot ones by bucket.
        """
        with self._lock:
            minute = self._now()
            minute.hot += hot
            minute.cold += cold
            for place, count in enumerate(hot_seconds):
                minute.hot_seconds[place] += count
            if seconds is not None:
                (minute.hot_seconds if hot else minute.cold_seconds)[bisect_left(BOUNDS, seconds)] += 1

    def minutes(self) -> tuple[Minute, ...]:
        """The minutes that had requests, the oldest first."""
        with self._lock:
            return tuple(
                Minute(each.start, each.hot, each.cold, [*each.hot_seconds], [*each.cold_seconds])
                for each in self._minutes
            )

    def _now(self) -> Minute:
        start = int(self._clock()) // 60 * 60
        if not self._minutes or self._minutes[-1].start < start:
            self._minutes.append(Minute(start))
        return self._minutes[-1]
