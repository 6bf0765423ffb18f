"""What an item prints: the first and the last part of it."""

from __future__ import annotations

from hotpath.options import human_bytes


class Printed:
    """Fed with what comes through the pipe; keeps ``keep_bytes`` in all. ``count`` is how many bytes came."""

    def __init__(self, keep_bytes: int) -> None:
        self._half = keep_bytes // 2
        self._clear()

    def _clear(self) -> None:
        self._first = b""
        self._last = b""
        self.count = 0

    def feed(self, data: bytes) -> None:
        self.count += len(data)
        room = self._half - len(self._first)
        if room > 0:
            self._first += data[:room]
            data = data[room:]
        if data:
            self._last = (self._last + data)[-self._half :]

    def take(self) -> str:
        """What came since the last time."""
        first, last = (part.decode("utf-8", "replace") for part in (self._first, self._last))
        left_out = self.count - len(self._first) - len(self._last)
        self._clear()
        return f"{first}\n… {human_bytes(left_out)} left out …\n{last}" if left_out else first + last
