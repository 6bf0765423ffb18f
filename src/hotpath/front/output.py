"""What is printed: the app's lines passed on with a prefix, the last of them kept, and the front's own lines."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import deque
from queue import Full, Queue
from typing import IO, Final

# Lines of each stream kept for the report of a crash loop: the end of a usual traceback.
KEEP_LINES: Final = 20
# A line that is longer is passed on in parts: what an app prints without an end must not fill memory.
MAX_LINE: Final = 8192
JOIN_SECONDS: Final = 1.0
# The front's own lines that wait for a reader; further ones are lost.
MAX_WAITING: Final = 1000


class Output:
    """Reads ``streams`` in a thread each and writes to the descriptor beside them.

    Whoever reads the front's output slowly slows the app's printing, as it would without a front, and nothing else.
    """

    def __init__(self, streams: list[tuple[IO[bytes], int]], prefix: bytes) -> None:
        self._prefix = prefix
        # One a stream: two threads read in no order, and a late one would push the other's traceback out.
        self._last: list[deque[bytes]] = [deque(maxlen=KEEP_LINES) for _ in streams]
        self._threads = [
            threading.Thread(target=self._pass, args=(*pair, last), name="hotpath-output", daemon=True)
            for pair, last in zip(streams, self._last, strict=True)
        ]
        for thread in self._threads:
            thread.start()

    def last_lines(self) -> list[str]:
        """The last lines of each stream, in the order of ``streams``, once the process has ended.

        Blocks for a moment if a descendant holds the pipe.
        """
        for thread in self._threads:
            thread.join(JOIN_SECONDS)
        return [line.decode("utf-8", "replace").rstrip() for last in self._last for line in [*last]]

    def _pass(self, stream: IO[bytes], to: int, last: deque[bytes]) -> None:
        with stream:
            while line := stream.readline(MAX_LINE):
                last.append(line)
                whole = self._prefix + (line if line.endswith(b"\n") else line + b"\n")
                _write(to, whole)


class LineHandler(logging.Handler):
    """Writes log records to a descriptor from a thread, so that a reader who is stuck stops nobody who logs.

    Without the locks of ``sys.stderr``, which such a thread would hold when Python ends.
    """

    def __init__(self, to: int = 2) -> None:
        super().__init__()
        self._to = to
        self._waiting: Queue[bytes] = Queue(MAX_WAITING)
        threading.Thread(target=self._run, name="hotpath-log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Take the record; it is written a moment later."""
        with contextlib.suppress(Full):
            self._waiting.put_nowait(self.format(record).encode("utf-8", "backslashreplace") + b"\n")

    def close(self) -> None:
        """Wait a moment for what is not written yet; ``logging`` calls this when Python ends."""
        until = time.monotonic() + JOIN_SECONDS
        while self._waiting.unfinished_tasks and time.monotonic() < until:
            time.sleep(0.01)
        super().close()

    def _run(self) -> None:
        while True:
            _write(self._to, self._waiting.get())
            self._waiting.task_done()


def _write(to: int, data: bytes) -> None:
    with contextlib.suppress(OSError):  # nobody reads it any more
        while data:
            data = data[os.write(to, data) :]
