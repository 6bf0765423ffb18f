"""SIGTERM and SIGHUP end a command as Ctrl-C does: it leaves everything in order, and says so."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# Exit code of a shell for a command that Ctrl-C ended.
INTERRUPTED = 128 + signal.SIGINT


@dataclass(slots=True)
class _Waiting:
    """How many blocks are ``uninterrupted``, and the signal that came meanwhile. Only the main thread gets signals."""

    depth: int = 0
    number: int | None = None


_waiting = _Waiting()


class Interrupted(KeyboardInterrupt):
    """Raised in the main thread by one of ``NUMBERS``; ``exit_code`` is a shell's for a command that it ended."""

    def __init__(self, number: int) -> None:
        super().__init__("interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}")
        self.exit_code = 128 + number


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise ``Interrupted`` where one of the signals comes in the block; nothing outside the main thread.

    One that is ignored stays so: that is what nohup is for. A terminal that is closed sends SIGHUP more than once, and
    a supervisor SIGTERM: only Ctrl-C ends what the first of them has begun to put in order.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, _frame: FrameType | None) -> None:
        for other in before:
            if other != signal.SIGINT:
                signal.signal(other, signal.SIG_IGN)
        if _waiting.depth:
            _waiting.number = number
        else:
            raise Interrupted(number)

    handlers = {name: signal.getsignal(name) for name in NUMBERS}
    before = {name: handler for name, handler in handlers.items() if handler not in (signal.SIG_IGN, None)}
    for name in before:
        signal.signal(name, leave)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let what ``interruptible`` raises wait until the block has ended: it is short, and half of it is worse than none.

    Not by a mask of this thread: the kernel would give the signal to another one, and Python still raise it here.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _waiting.depth += 1
    try:
        yield
    except BaseException:
        if _waiting.depth == 1:
            _waiting.number = None  # the command ends as it is
        raise
    finally:
        _waiting.depth -= 1
    if not _waiting.depth and _waiting.number is not None:
        number, _waiting.number = _waiting.number, None
        raise Interrupted(number)


def exit_code_of(interrupt: KeyboardInterrupt) -> int:
    """What a command ends with; one that nobody has named is Ctrl-C."""
    return interrupt.exit_code if isinstance(interrupt, Interrupted) else INTERRUPTED


def describe(interrupt: KeyboardInterrupt) -> str:
    """What a person reads of it."""
    return str(interrupt) or "interrupted"
