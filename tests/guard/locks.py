"""Who waits for a lock on a file."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

LOCKS = Path("/proc/locks")
needs_locks = pytest.mark.skipif(not LOCKS.exists(), reason="no /proc/locks, which tells who waits")


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Have the lock of a file."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def await_waiting(path: Path, seconds: float = 10.0) -> None:
    """Return as soon as somebody waits for the lock of a file."""
    inode = f":{path.stat().st_ino} "
    until = time.monotonic() + seconds
    while not any("-> FLOCK" in line and inode in line for line in LOCKS.read_text().splitlines()):
        assert time.monotonic() < until, "nobody waits for the lock"
        time.sleep(0.005)
