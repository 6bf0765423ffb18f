"""Who waits for a lock on a file."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

# Beside a test a lock is waited for as long as it takes: a busy machine may stop the one that has it.
PATIENT_SECONDS = 60.0


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Have the lock of a file."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def patient() -> Iterator[threading.Event]:
    """An event that is set as soon as somebody in this process waits for a lock."""
    waits = threading.Event()

    def nap(seconds: float) -> None:
        waits.set()
        time.sleep(seconds)

    with (
        mock.patch("hotpath.process.lock.LOCK_SECONDS", PATIENT_SECONDS),
        mock.patch("hotpath.process.lock.sleep", nap),
    ):
        yield waits
