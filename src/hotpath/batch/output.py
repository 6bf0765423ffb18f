"""What the items of a worker print, told apart by a mark that the worker writes after each."""

from __future__ import annotations

from collections import deque

from hotpath.options import human_bytes


class Printed:
    """Fed with what comes through the pipe; keeps of each item the first and the last part, ``keep_bytes`` in all."""

    def __init__(self, mark: bytes, keep_bytes: int) -> None:
        self._mark = mark
        self._half = keep_bytes // 2
        self._texts: deque[str] = deque()
        self._carry = b""
        self._clear()

    def _clear(self) -> None:
        self._first = b""
        self._last = b""
        self.count = 0  # bytes since the last mark

    def feed(self, data: bytes) -> None:
        data = self._carry + data
        while (at := data.find(self._mark)) >= 0:
            self._add(data[:at])
            self._texts.append(self._text())
            self._clear()
            data = data[at + len(self._mark) :]
        # The beginning of a mark may be the end of what has come so far.
        split = max(0, len(data) - len(self._mark) + 1)
        self._add(data[:split])
        self._carry = data[split:]

    def take(self) -> str | None:
        """What the first item printed that is not taken yet; ``None`` before its mark has come."""
        return self._texts.popleft() if self._texts else None

    def rest(self) -> str:
        """What came since the last mark, where no other will come."""
        self._add(self._carry)
        self._carry = b""
        return self._text()

    def _add(self, data: bytes) -> None:
        self.count += len(data)
        room = self._half - len(self._first)
        if room > 0:
            self._first += data[:room]
            data = data[room:]
        if data:
            self._last = (self._last + data)[-self._half :]

    def _text(self) -> str:
        first, last = (part.decode("utf-8", "replace") for part in (self._first, self._last))
        left_out = self.count - len(self._first) - len(self._last)
        return f"{first}\n… {human_bytes(left_out)} left out …\n{last}" if left_out else first + last
