"""flock(2) that does not wait for ever.

Locks between workers are held for microseconds. A process that holds one for longer was stopped in the middle (SIGSTOP,
a debugger), and must not stop the processes that wait for it.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from time import monotonic, sleep

LOCK_SECONDS = 1.0
_LOOK_SECONDS = 0.002


def lock(descriptor: int, *, within_seconds: float | None = None) -> None:
    """Take the lock of an open file; it ends with ``unlock`` or the descriptor.

    Raises ``TimeoutError`` where another process has it for longer than ``within_seconds`` (``LOCK_SECONDS`` where that
    is not given), or another ``OSError``.
    """
    until = monotonic() + (LOCK_SECONDS if within_seconds is None else within_seconds)
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if monotonic() >= until:
                raise TimeoutError(errno.ETIMEDOUT, "another process has had the lock for too long") from None
            sleep(_LOOK_SECONDS)
        else:
            return


def is_held(path: Path) -> bool:
    """Whether somebody has the lock of a file at this moment. Raises ``OSError``."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def unlock(descriptor: int) -> None:
    """Give it back."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)
