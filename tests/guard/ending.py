"""Nobody waits for ever for what another process says."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Iterator
from typing import TypeVar

AnyStr = TypeVar("AnyStr", str, bytes)

SECONDS = 60.0


@contextlib.contextmanager
def ended(process: subprocess.Popen[AnyStr], seconds: float = SECONDS) -> Iterator[subprocess.Popen[AnyStr]]:
    """Kill a process at the end; before that where it takes too long, so that who reads from it reads its end."""
    timer = threading.Timer(seconds, process.kill)
    timer.daemon = True
    timer.start()
    try:
        yield process
    finally:
        timer.cancel()
        process.kill()
        process.communicate(timeout=SECONDS)
