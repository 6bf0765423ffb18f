"""A line about memory every few minutes in a CSV file, for those who have no Prometheus."""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from hotpath.errors import DeclarationError
from hotpath.guard.outlook import MemoryReading
from hotpath.process.lock import lock

COLUMNS = ("time", "pid", "state", "limit", "usage", "unreclaimable", "available", "resident", "source")

# A line has about 110 bytes, so a file of this size holds a month of one worker, and three old ones a season.
MAX_BYTES = 1024 * 1024
KEEP = 3

_logger = logging.getLogger(__name__)


class MemoryLog:
    """Appends to ``path``, at most once each ``every_seconds``; sizes are in bytes, the time is UTC.

    A file above ``max_bytes`` becomes ``path.1``, that one ``path.2``, up to ``keep`` of them. Several workers may
    write to the same file: each writes whole lines with its pid.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        every_seconds: float = 300.0,
        max_bytes: int = MAX_BYTES,
        keep: int = KEEP,
        clock: Callable[[], float] = time.time,
    ) -> None:
        for name, value in (("every_seconds", every_seconds), ("max_bytes", max_bytes), ("keep", keep)):
            if value <= 0:
                raise DeclarationError(f"memory log: {name}={value} has to be more than 0")
        if not isinstance(path, str | os.PathLike):
            raise DeclarationError(f"memory log: {path!r} is no path of a file")
        self.path = Path(path)
        if self.path.exists() and not self.path.is_file():
            raise DeclarationError(f"memory log: {self.path} is there and is no file; write the path of a CSV file")
        self._every_seconds = every_seconds
        self._max_bytes = max_bytes
        self._keep = keep
        self._clock = clock
        self._last: float | None = None

    def record(self, reading: MemoryReading, state: str) -> bool:
        """Whether a line was written. A file that cannot be written is a warning in the log, tried again next time."""
        now = self._clock()
        # A clock that was set back does not stop the lines until it has caught up.
        if self._last is not None and 0 <= now - self._last < self._every_seconds:
            return False
        self._last = now
        when = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        sizes = (reading.limit, reading.usage, reading.unreclaimable, reading.available, reading.resident)
        line = ",".join(map(str, (when, os.getpid(), state, *sizes, reading.source)))
        try:
            self._append(line.encode("utf-8") + b"\n")
        except OSError as error:
            _logger.warning("memory log: %s", error)
            return False
        return True

    def _append(self, line: bytes) -> None:
        while True:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                # One at a time, so that no two workers move the same file away. The lock ends with the descriptor.
                lock(descriptor)
                size = os.fstat(descriptor).st_size
                if not self._is_still(descriptor):
                    continue
                if size + len(line) > self._max_bytes and size:
                    self._rotate()
                    continue
                os.write(descriptor, line if size else ",".join(COLUMNS).encode("ascii") + b"\n" + line)
                return
            finally:
                os.close(descriptor)

    def _is_still(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self.path.stat())
        except FileNotFoundError:
            return False

    def _rotate(self) -> None:
        names = [self.path, *(self.path.with_name(f"{self.path.name}.{number}") for number in range(1, self._keep + 1))]
        for newer, older in reversed(list(itertools.pairwise(names))):
            if newer.exists():
                newer.replace(older)
