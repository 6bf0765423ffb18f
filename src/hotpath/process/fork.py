"""Run code that may hang, eat all memory or kill its process, without going down with it.

The function runs in a forked child, so it needs no import of its own and sees all that the caller sees; what it
returns comes back as JSON. Meant for a batch: a process that serves requests must not fork.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from hotpath.errors import IsolatedFailure
from hotpath.options import human_bytes
from hotpath.process.reseed import reseed_shared
from hotpath.process.signals import NUMBERS

# Writers' locks that this process holds. A forked child closes its copies: it must not hold what its parent lets go.
LOCK_DESCRIPTORS: set[int] = set()


# Bytes of a child's answer that are read: an answer without an end must not fill the parent.
MAX_ANSWER_BYTES = 16 * 1024 * 1024

# prctl(2), found before any fork: the dynamic loader's lock may be held by another thread then.
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def run_isolated(function: Callable[[], Any], *, timeout_seconds: float, memory_bytes: int) -> Any:
    """What ``function`` returns, by way of JSON. Raises ``IsolatedFailure`` that says why there is nothing.

    ``timeout_seconds`` is wall time; ``memory_bytes`` is what it may allocate beyond what the process holds already
    (``RLIMIT_DATA``, setrlimit(2)).
    """
    reading, writing = os.pipe()
    child = forked(lambda: _answer(function, writing, memory_bytes))
    os.close(writing)
    try:
        data = _read(reading, timeout_seconds)
    finally:
        os.close(reading)
        # Also when it has answered: nothing of it may go on.
        status = end_process(child)
    try:
        answer = json.loads(data)
    except json.JSONDecodeError:
        raise IsolatedFailure(how_it_ended(status)) from None
    if "problem" in answer:
        raise IsolatedFailure(answer["problem"])
    return answer["value"]


def forked(work: Callable[[], object]) -> int:
    """fork(2): the id of a child that does ``work`` and ends, never back into the caller's code, and not after it.

    Of a caller that is killed nothing may go on: above all its locks, which the child has too, would not be free.
    The shared random generators are seeded anew.
    Python warns of fork beside threads since 3.12: another thread may hold a lock that the child waits for. Callers
    say why theirs does not, or give the child a timeout.
    """
    # A Ctrl-C between fork and ``try`` would raise in the child, and run each ``finally`` of the caller there.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    parent = os.getpid()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            status = 1
            try:
                die_with(parent)
                for descriptor in LOCK_DESCRIPTORS:
                    os.close(descriptor)
                for number in NUMBERS:
                    signal.signal(number, signal.SIG_DFL)
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
                os.setsid()
                reseed_shared()
                work()
                status = 0
            finally:
                os._exit(status)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return child


def die_with(parent: int) -> None:
    """Be killed when the parent is; elsewhere than on Linux a child ends when its work is done."""
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def keep_descendants() -> None:
    """What is started from here on stays below this process, where it is counted and ended: daemons too, prctl(2)."""
    if _prctl is not None:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def has_ended(child: int) -> bool:
    """Whether a child is only waiting to be asked how it ended."""
    try:
        return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def end_process(child: int) -> int:
    """Kill a forked child with its process group; what wait(2) says of it, which is how it had ended by itself."""
    # Before it is waited for: until then the number cannot have gone to another process.
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(child, signal.SIGKILL)
    try:
        return os.waitpid(child, 0)[1]
    except ChildProcessError:  # started with SIGCHLD ignored: the kernel keeps no status
        return 0


def limit_memory(memory_bytes: int, reserve_bytes: int = 0) -> None:
    """Let this process allocate so much beyond what it has; ``reserve_bytes`` more are left below the hard limit."""
    limit = status_bytes("self", "VmData") + memory_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit + reserve_bytes))


def _answer(function: Callable[[], Any], writing: int, memory_bytes: int) -> None:
    """In the child: call and send."""
    out_of_memory = _encode({"problem": f"ran out of memory (its budget is {human_bytes(memory_bytes)})"})
    limit_memory(memory_bytes)
    try:
        answer = _encode({"value": function()})
    except MemoryError:
        answer = out_of_memory
    except BaseException as error:
        answer = _encode({"problem": _describe(error)})
    view = memoryview(answer)
    while view:
        view = view[os.write(writing, view) :]


def _encode(answer: object) -> bytes:
    # Not orjson, which crashes where the limit leaves it no memory; json raises MemoryError.
    return json.dumps(answer).encode("ascii")


def _describe(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return f"raised {type(error).__name__}: {error}{where}"


def _read(descriptor: int, timeout_seconds: float) -> bytes:
    """All until the other end is closed. Raises ``IsolatedFailure`` when that takes too long or comes to too much."""
    deadline = time.monotonic() + timeout_seconds
    parts: list[bytes] = []
    length = 0
    while length <= MAX_ANSWER_BYTES:
        ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise IsolatedFailure(f"gave no answer within {timeout_seconds:g} s")
        part = os.read(descriptor, 65536)
        if not part:
            return b"".join(parts)
        parts.append(part)
        length += len(part)
    raise IsolatedFailure(f"sent more than {human_bytes(MAX_ANSWER_BYTES)}")


def how_it_ended(status: int) -> str:
    """What wait(2) says of a process that gave no answer."""
    if os.WIFSIGNALED(status):
        return f"was killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"ended its process with status {os.WEXITSTATUS(status)}"


def status_bytes(process: int | str, *fields: str) -> int:
    """The sum of these fields of ``/proc/…/status`` (proc(5)); 0 of a process that is gone."""
    total = 0
    with contextlib.suppress(OSError), open(f"/proc/{process}/status", encoding="ascii") as status:  # noqa: PTH123
        for line in status:
            name, _, value = line.partition(":")
            if name in fields:
                total += int(value.split()[0]) * 1024
    return total


def has_threads(process: int) -> bool:
    """Whether there is more than the main thread."""
    try:
        return psutil.Process(process).num_threads() > 1
    except psutil.Error:
        return False


def descendants(process: int) -> list[psutil.Process]:
    """The processes below this one; none where it is gone."""
    if _is_childless(process):
        return []
    try:
        return psutil.Process(process).children(recursive=True)
    except psutil.Error:
        return []


def _is_childless(process: int) -> bool:
    """Whether the kernel says so, proc(5): a look at one process, where psutil looks at all that there are."""
    lists = [*Path(f"/proc/{process}/task").glob("*/children")]
    try:
        return bool(lists) and not any(children.read_bytes() for children in lists)
    except OSError:
        return False  # a thread that has just ended


def own_bytes(process: psutil.Process) -> int:
    """What only this process holds, swapped out or not: what it shares since its fork(2) is its parent's too."""
    try:
        memory = process.memory_full_info()
    except psutil.Error:
        return 0
    return int(memory.uss + memory.swap)
