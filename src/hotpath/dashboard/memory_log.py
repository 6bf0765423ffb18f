"""Memory over time, kept where it outlives the process: ``memory.csv`` in the store, a line a minute.

The columns are named in the first line, so that another program may write the file too (``time`` in seconds since the
epoch or as ISO 8601, ``limit`` and ``used`` in bytes), and one that a newer version wrote can be read.
"""

from __future__ import annotations

import csv
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from hotpath.dashboard.facts import MemorySample
from hotpath.log import Once
from hotpath.process import after_fork
from hotpath.process.lock import lock
from hotpath.store.disk import PRIVATE_MODE

COLUMNS: Final = ("time", "pid", "state", "limit", "used")
# A line has about 50 bytes, so a file has three weeks of one worker, and there is one older file.
MAX_BYTES: Final = 1024 * 1024
# Seconds between two lines, and between two samples that are kept in memory. A change of state is always kept.
LINE_SECONDS: Final = 60.0
SAMPLE_SECONDS: Final = 5.0
# An hour of samples in memory; more where the state changes all the time.
KEPT: Final = 800
# Changes of state that are written in one minute at most.
MAX_CHANGES: Final = 20
# Lines that wait for a disk that hangs.
MAX_WAITING: Final = 100


class MemoryLog:
    """Appends samples to ``path`` and reads them. Several processes may write, each whole lines with its pid.

    The directory has to be there; a file above ``max_bytes`` becomes ``path.1``.
    """

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self.path = path
        self._max_bytes = max_bytes

    @property
    def older(self) -> Path:
        """Where the lines before go."""
        return self.path.with_name(f"{self.path.name}.1")

    def append(self, samples: Sequence[MemorySample]) -> None:
        """Write a line for each. Raises ``OSError``."""
        lines = "".join(
            f"{sample.time:.0f},{sample.pid},{sample.state},{sample.limit},{sample.used}\n" for sample in samples
        ).encode("ascii", "replace")
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        while True:
            descriptor = os.open(self.path, flags, PRIVATE_MODE)
            try:
                # One at a time, so that no two processes move the same file away. The lock ends with the descriptor.
                lock(descriptor)
                if not self._is_still(descriptor):
                    continue
                size = os.fstat(descriptor).st_size
                if size and size + len(lines) > self._max_bytes:
                    self.path.replace(self.older)
                    continue
                os.write(descriptor, lines if size else ",".join(COLUMNS).encode("ascii") + b"\n" + lines)
                return
            finally:
                os.close(descriptor)

    def read(self) -> tuple[list[MemorySample], list[str]]:
        """All samples in the order of their times, and what could not be read."""
        samples: list[MemorySample] = []
        notes: list[str] = []
        for path in (self.older, self.path):
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
                with os.fdopen(descriptor, encoding="utf-8", errors="replace", newline="") as file:
                    content = file.read(4 * self._max_bytes)
            except FileNotFoundError:
                continue
            except OSError as error:
                notes.append(f"{path.name}: {error.strerror}")
                continue
            bad = 0
            for sample in _samples_of(content):
                if sample is None:
                    bad += 1
                else:
                    samples.append(sample)
            if bad:
                notes.append(f"{path.name}: {bad} of its lines cannot be read and are left out")
        return sorted(samples, key=lambda sample: sample.time), notes

    def _is_still(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self.path.stat())
        except FileNotFoundError:
            return False


def _samples_of(content: str) -> Iterator[MemorySample | None]:
    rows = csv.reader(content.replace("\0", "").splitlines())
    places: dict[str, int] = {}
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error:
            yield None
            continue
        if not places:
            places = {name.strip(): place for place, name in enumerate(row)}
            continue
        try:
            when, limit, used = (row[places[name]] for name in ("time", "limit", "used"))
            pid, state = (row[places[name]] if name in places else "" for name in ("pid", "state"))
            sample = MemorySample(_seconds(when), int(pid or 0), state[:20], int(limit), int(used))
        except (KeyError, IndexError, ValueError, OverflowError):
            yield None
        else:
            yield sample if 0 < sample.time < 1e11 and sample.limit > 0 and sample.used >= 0 else None


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        when = datetime.fromisoformat(text)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


class MemoryRecorder:
    """Keeps the samples of this process: the last hour in memory, a line a minute in ``log``.

    ``note`` returns at once: the file is written by a thread of its own, since who measures memory must not wait for a
    disk. A file that cannot be written is one warning in the log.
    """

    def __init__(self, log: MemoryLog | None, clock: Callable[[], float] = time.time) -> None:
        self.log = log
        self._clock = clock
        self._once = Once()
        self._set_unstarted()
        after_fork.register(self)

    def _set_unstarted(self) -> None:
        self._samples: deque[MemorySample] = deque(maxlen=KEPT)
        self._waiting: deque[MemorySample] = deque(maxlen=MAX_WAITING)
        self._lock = threading.Lock()
        self._is_writing = False
        self._written: float | None = None
        self._changes = 0

    def restart_after_fork(self) -> None:
        """What the parent measured is the parent's."""
        self._set_unstarted()

    def note(self, state: str, limit: int, used: int, pid: int | None = None) -> None:
        """Take in a sample of now, by default of this process; most are let go of."""
        now, last = self._clock(), self._samples[-1] if self._samples else None
        pid = os.getpid() if pid is None else pid
        is_change = last is None or (last.state, last.pid) != (state, pid)
        # A clock that was set back does not stop the samples until it has caught up.
        if last is not None and not is_change and 0 <= now - last.time < SAMPLE_SECONDS:
            return
        sample = MemorySample(now, pid, state, limit, used)
        self._samples.append(sample)
        if self._written is None or not 0 <= now - self._written < LINE_SECONDS:
            self._written, self._changes = now, 0
        elif is_change and self._changes < MAX_CHANGES:
            self._changes += 1
        else:
            return
        if self.log is not None:
            self._waiting.append(sample)
            self._start_writing(self.log)

    def samples(self) -> list[MemorySample]:
        """Those in memory, the oldest first."""
        return [*self._samples]

    def _start_writing(self, log: MemoryLog) -> None:
        with self._lock:
            if self._is_writing:
                return
            self._is_writing = True
        try:
            threading.Thread(target=self._write, args=(log,), name="hotpath-memory-log", daemon=True).start()
        except RuntimeError:  # no more threads now: written with the next sample
            self._is_writing = False

    def _write(self, log: MemoryLog) -> None:
        while True:
            with self._lock:
                lines = [*self._waiting]
                self._waiting.clear()
                if not lines:
                    self._is_writing = False
                    return
            try:
                if log.path.parent.is_dir():
                    log.append(lines)
            except OSError as error:
                self._once.warn(f"memory over time is not kept: {log.path}: {error.strerror}", key="memory log")


def merged(logged: Sequence[MemorySample], own: Sequence[MemorySample]) -> tuple[MemorySample, ...]:
    """Both in the order of time; of this process those in memory are nearer together, so its lines are left out."""
    if not own:
        return tuple(logged)
    first, pids = own[0].time, {sample.pid for sample in own}
    others = [sample for sample in logged if sample.pid not in pids or sample.time < first]
    return tuple(sorted([*others, *own], key=lambda sample: sample.time))
