"""Giving memory back: caches shrink step by step, the garbage collector runs, the allocator returns what is free."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from hotpath.log import logger
from hotpath.process.malloc import trim_malloc

# Share of its maximum that a cache keeps, from the first trim to the third.
STEPS = (0.50, 0.25, 0.0)
STEP_SECONDS = 5.0
# Interval of full collections, which stop the whole process: half a second for 500 MB of dicts.
COLLECT_SECONDS = 30.0
MALLOC_SECONDS = 10.0

# The interval doubles, up to ten minutes, after a collection that took this long and gave back less than this.
SLOW_SECONDS = 0.1
POOR_BYTES = 1024 * 1024
MAX_COLLECT_SECONDS = 600.0

# Trimming helps where it gave back this share of the limit within this time.
HELPS_SECONDS = 60.0
HELPS_SHARE = 0.01

# Takes the share of its maximum that may stay, and returns the bytes that it released.
Shrink = Callable[[float], int]


@dataclass(slots=True)
class Trimmer:
    """Runs in the guard's thread. ``shrinks`` are asked with each step; ``measure`` says what is in use, in bytes.

    ``released_bytes`` were given back since the start, by method.
    """

    measure: Callable[[], int]
    shrinks: Callable[[], list[Shrink]]
    clock: Callable[[], float] = time.monotonic
    released_bytes: dict[str, int] = field(default_factory=lambda: {"caches": 0, "gc": 0, "malloc": 0})
    _step: int = 0
    _stepped: float = float("-inf")
    _collected: float = float("-inf")
    _collect_every: float = COLLECT_SECONDS
    _trimmed: float = float("-inf")
    _gained: list[tuple[float, int]] = field(default_factory=list)

    def trim(self, at: float) -> None:
        """Do what is due now."""
        if at - self._stepped >= STEP_SECONDS:
            self._stepped = at
            keep = STEPS[min(self._step, len(STEPS) - 1)]
            self._step += 1
            self._measured("caches", at, lambda: self._shrink(keep))
        if at - self._collected >= self._collect_every:
            self._collected = at
            started = self.clock()
            gained = self._measured("gc", at, gc.collect)
            poor = self.clock() - started > SLOW_SECONDS and gained < POOR_BYTES
            self._collect_every = min(2 * self._collect_every, MAX_COLLECT_SECONDS) if poor else COLLECT_SECONDS
        if at - self._trimmed >= MALLOC_SECONDS:
            self._trimmed = at
            self._measured("malloc", at, trim_malloc)

    def rest(self) -> None:
        """The pressure is gone: the next trim begins with the first step."""
        self._step = 0

    def helps(self, at: float, limit: int) -> bool:
        """Whether the trims of the last minute gave back more than a hundredth of the limit."""
        self._gained = [(when, gained) for when, gained in self._gained if at - when < HELPS_SECONDS]
        return sum(gained for _, gained in self._gained) > HELPS_SHARE * limit

    def _shrink(self, keep: float) -> int:
        freed = 0
        for shrink in self.shrinks():
            try:
                freed += shrink(keep)
            except Exception:
                logger.exception("a cache failed to shrink; the others go on")
        return freed

    def _measured(self, method: str, at: float, action: Callable[[], object]) -> int:
        """What the process gave back meanwhile. Others allocate at the same time, so it is a lower bound."""
        before = self.measure()
        action()
        gained = max(0, before - self.measure())
        self.released_bytes[method] += gained
        if gained:
            self._gained.append((at, gained))
        return gained
