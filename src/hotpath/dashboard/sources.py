"""Where the figures come from, put together. Read at most once a second, however many look."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from hotpath.dashboard.facts import AppFacts, LiveFacts, MemorySample, StatusFacts
from hotpath.dashboard.live import guard_facts, live_facts
from hotpath.dashboard.memory_log import MemoryLog, MemoryRecorder, merged
from hotpath.dashboard.redaction import Redaction
from hotpath.dashboard.store_reader import StoreReader
from hotpath.dashboard.traffic import Traffic
from hotpath.guard.guard import MemoryGuard
from hotpath.site import Hotpath

if TYPE_CHECKING:
    from hotpath.ops.traffic.report import LogReport

# Age of figures that are shown again: of everything, and of what is more work.
FRESH_SECONDS: Final = 1.0
SLOW_SECONDS: Final = 5.0


class Sources:
    """The store of ``hot``, the memory log, this process where it serves ``hot``, its ``guard``, and what a front sets.

    ``app`` says how the app behind a front is; ``log`` gives the report of the access log and, while there is none,
    why. ``target`` is what commands call the site.
    """

    def __init__(
        self,
        hot: Hotpath,
        guard: MemoryGuard | None = None,
        *,
        memory_log: MemoryLog | None = None,
        target: str | None = None,
        redact: Redaction | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.hot = hot
        self.guard = guard
        self.target = target
        self.app: Callable[[], AppFacts] | None = None
        self.log: Callable[[], tuple[LogReport | None, str | None]] | None = None
        self.traffic = Traffic(clock)
        self.recorder = MemoryRecorder(memory_log or MemoryLog(hot.store.root / "memory.csv"), clock)
        self._clock = clock
        self._store = StoreReader(hot.store, redact or Redaction())
        self._lock = threading.Lock()
        self._facts: StatusFacts | None = None
        self._facts_at = float("-inf")
        self._slow: tuple[float, LiveFacts | None, tuple[MemorySample, ...], list[str]] | None = None

    def facts(self) -> StatusFacts:
        """Everything, at most a second old. Blocks, so not for a loop."""
        with self._lock:
            now = time.monotonic()
            if self._facts is None or now >= self._facts_at + FRESH_SECONDS:
                self._facts = self._read(now)
                self._facts_at = time.monotonic()
            return self._facts

    def _read(self, now: float) -> StatusFacts:
        if self._slow is None or now >= self._slow[0] + SLOW_SECONDS:
            logged, notes = self.recorder.log.read() if self.recorder.log is not None else ([], [])
            self._slow = now, live_facts(self.hot), tuple(logged), notes
        _, live, logged_samples, memory_notes = self._slow
        report, log_note = self.log() if self.log is not None else (None, None)
        return StatusFacts(
            at=self._clock(),
            target=self.target or self.hot.target or str(self.hot.store.root),
            store=self._store.read(),
            live=live,
            guard=guard_facts(self.guard) if self.guard is not None else None,
            app=self.app() if self.app is not None else None,
            memory=merged(logged_samples, self.recorder.samples()),
            minutes=self.traffic.minutes(),
            log=report,
            notes=(*memory_notes, *([log_note] if log_note else [])),
        )
