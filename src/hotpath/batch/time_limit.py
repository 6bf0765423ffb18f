"""A limit on the time that code may take here, in the main thread, by an alarm of the kernel (setitimer(2))."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise ``TimeoutError`` in the block once it has taken ``seconds``.

    Code that does not come back from a library written in C gets it afterwards. There is no limit outside the main
    thread, which alone gets signals, nor where an alarm of somebody else's is set or there is none (Windows).
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or not hasattr(signal, "setitimer") or _is_in_use():
        yield
        return

    def ring(*_: object) -> None:
        raise TimeoutError(f"it took more than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _is_in_use() -> bool:
    """Whether an alarm is set, or waited for by a handler that cannot be put back (one of a C library)."""
    return signal.getitimer(signal.ITIMER_REAL)[0] > 0 or signal.getsignal(signal.SIGALRM) is None
