"""What the app prints: passed through line by line with a prefix, and the last lines kept."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from typing import IO, Final

# Lines kept for the report of a crash loop: the end of a usual traceback.
KEEP_LINES: Final = 20
# A line that is longer is passed on in parts: what an app prints without an end must not fill memory.
MAX_LINE: Final = 8192
JOIN_SECONDS: Final = 1.0


class Output:
    """Reads ``streams`` in a thread each and writes to the descriptor beside them.

    Whoever reads the front's output slowly slows the app's printing, as it would without a front, and nothing else.
    """

    def __init__(self, streams: list[tuple[IO[bytes], int]], prefix: bytes) -> None:
        self._prefix = prefix
        self._last: deque[bytes] = deque(maxlen=KEEP_LINES)
        self._threads = [
            threading.Thread(target=self._pass, args=pair, name="hotpath-output", daemon=True) for pair in streams
        ]
        for thread in self._threads:
            thread.start()

    def last_lines(self) -> list[str]:
        """What was printed last, once the process has ended. Blocks for a moment if a descendant holds the pipe."""
        for thread in self._threads:
            thread.join(JOIN_SECONDS)
        return [line.decode("utf-8", "replace").rstrip() for line in [*self._last]]

    def _pass(self, stream: IO[bytes], to: int) -> None:
        with stream:
            while line := stream.readline(MAX_LINE):
                self._last.append(line)
                whole = self._prefix + (line if line.endswith(b"\n") else line + b"\n")
                with contextlib.suppress(OSError):  # nobody reads the front's output any more
                    while whole:
                        whole = whole[os.write(to, whole) :]
