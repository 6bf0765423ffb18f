"""Run code that may hang, eat all memory or kill its process, without going down with it.

The function runs in a forked child, so it needs no import of its own and sees all that the caller sees; what it
returns comes back as JSON. Meant for a batch: a process that serves requests must not fork.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import time
import traceback
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

from hotpath.errors import IsolatedFailure
from hotpath.quantities import human_bytes

# So much of what a child sends back is read: an answer that has no end must not fill the parent either.
MAX_ANSWER_BYTES = 16 * 1024 * 1024


def run_isolated(function: Callable[[], Any], *, timeout_seconds: float, memory_bytes: int) -> Any:
    """What ``function`` returns, by way of JSON. Raises ``IsolatedFailure`` that says why there is nothing.

    ``timeout_seconds`` is wall time; ``memory_bytes`` is what it may allocate beyond what the process holds already
    (``RLIMIT_DATA``, setrlimit(2)).
    """
    reading, writing = os.pipe()
    child = forked()
    if child == 0:
        os.close(reading)
        _answer(function, writing, memory_bytes)
    os.close(writing)
    try:
        data = _read(reading, timeout_seconds)
    finally:
        os.close(reading)
        # Its own children too, and also when it has answered: nothing of it may go on.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    try:
        answer = json.loads(data)
    except json.JSONDecodeError:
        raise IsolatedFailure(how_it_ended(status)) from None
    if "problem" in answer:
        raise IsolatedFailure(answer["problem"])
    return answer["value"]


def forked() -> int:
    """fork(2): 0 in the child. Python warns of it beside threads since 3.12; see where it is called from."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _answer(function: Callable[[], Any], writing: int, memory_bytes: int) -> NoReturn:
    """In the child: call, send, end; never back into the caller's code."""
    out_of_memory = _encode({"problem": f"ran out of memory (its budget is {human_bytes(memory_bytes)})"})
    status = 1
    try:
        os.setsid()
        limit = data_bytes() + memory_bytes
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        try:
            answer = _encode({"value": function()})
        except MemoryError:
            answer = out_of_memory
        except BaseException as error:
            answer = _encode({"problem": _told(error)})
        view = memoryview(answer)
        while view:
            view = view[os.write(writing, view) :]
        status = 0
    finally:
        os._exit(status)


def _encode(answer: object) -> bytes:
    # Not orjson, which crashes where the limit leaves it no memory; json raises MemoryError.
    return json.dumps(answer).encode("ascii")


def _told(error: BaseException) -> str:
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


def data_bytes() -> int:
    """What ``RLIMIT_DATA`` counts in this process now (VmData of proc(5))."""
    with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123  nothing to join
        for line in status:
            if line.startswith("VmData:"):
                return int(line.split()[1]) * 1024
    return 0
