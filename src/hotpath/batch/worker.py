"""The inside of a worker: item after item under its limits, each answered through a pipe."""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import io
import os
import re
import resource
import signal
import struct
import sys
import sysconfig
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from hotpath.errors import ItemError
from hotpath.options import human_bytes
from hotpath.pages.payload import Built
from hotpath.pages.routes import PlannedItem
from hotpath.process.fork import keep_descendants, limit_memory, status_bytes
from hotpath.text import json_bytes

Task = Callable[[PlannedItem], Built]

# What an item that ran out of memory needs to say so.
RESERVE_BYTES = 16 * 1024 * 1024

# Of what an exception says so much is a message; the rest is data.
MAX_MESSAGE = 2000

# Private and shared memory, also what was swapped out; not the pages of mapped files, which the kernel takes back.
HELD = ("RssAnon", "RssShmem", "VmSwap")

# So exactly an item's peak is told: to start afresh after every item would cost as much as a small item itself.
PEAK_STEP_BYTES = 4 * 1024 * 1024

# With this a worker ends that has no memory left to say so.
NO_MEMORY_STATUS = 119

_FRAME = re.compile(r'File "([^"\n]+)", line (\d+) in (.+)')
_NOT_THE_USERS = (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), str(Path(__file__).parents[1]), "<")
_INDEX = struct.Struct("!I")
_HEAD = struct.Struct("!II")
_FACTS = 10
_MAX_CODINGS = 8
_MAX_FACTS_BYTES = 1024 * 1024
# Each costs half a microsecond an item.
_LIMITED = ("RLIMIT_AS", "RLIMIT_CPU", "RLIMIT_DATA", "RLIMIT_FSIZE", "RLIMIT_NOFILE")
_RLIMITS = tuple(getattr(resource, name) for name in _LIMITED)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a worker sends of an item. ``is_spent`` says that it ran out of memory, ``is_last`` that the worker ends."""

    index: int
    built: Built
    problem: str | None
    where: str | None
    path: str | None
    seconds: float
    peak_bytes: int
    is_spent: bool
    is_last: bool


@dataclass(frozen=True, slots=True)
class Pipes:
    """The worker's ends: numbers of items in, answers out, prints out."""

    tasks: int
    answers: int
    output: int


def encode_indices(indices: Sequence[int]) -> bytes:
    return b"".join(map(_INDEX.pack, indices))


class Received:
    """What a worker has sent and nobody has taken yet."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._facts: list[Any] | None = None
        # A page in its codings: the parts that are whole, the lengths of those to come, and the one that has begun,
        # which gives its bytes away without a copy: a large body is in memory once.
        self._parts: list[bytes] = []
        self._lengths: deque[int] = deque()
        self._part = io.BytesIO()

    def __len__(self) -> int:
        """What it is going to hold when the answer that has begun is whole."""
        return len(self._data) + sum(map(len, self._parts)) + sum(self._lengths)

    def feed(self, data: bytes) -> None:
        self._data += data[self._fill(data) :]

    def take(self, max_bytes: int) -> Answer | None:
        """The first answer, or ``None`` while it is not whole.

        Raises ``ValueError`` for what no worker sends, for a body above ``max_bytes`` too.
        """
        if self._facts is None and not self._take_facts(max_bytes):
            return None
        if self._lengths or self._facts is None:
            return None
        (index, metrics, *others, codings), (body, *encoded) = self._facts, self._parts
        self._facts, self._parts = None, []
        built = Built(body, metrics, None if codings is None else dict(zip(codings, encoded, strict=True)))
        return Answer(index, built, *others)

    def _take_facts(self, max_bytes: int) -> bool:
        if len(self._data) < _HEAD.size:
            return False
        facts_bytes, body_bytes = _HEAD.unpack_from(self._data)
        if facts_bytes > _MAX_FACTS_BYTES or body_bytes > max_bytes:
            raise ValueError("no answer")
        start = _HEAD.size + facts_bytes
        if len(self._data) < start:
            return False
        facts = orjson.loads(self._data[_HEAD.size : start])
        if not isinstance(facts, list) or len(facts) != _FACTS or not isinstance(facts[-1], dict | None):
            raise ValueError("no answer")
        lengths = list((facts[-1] or {}).values())
        if len(lengths) > _MAX_CODINGS or any(type(one) is not int or not 0 <= one < body_bytes for one in lengths):
            raise ValueError("no answer")
        self._facts = facts
        self._lengths.extend((body_bytes, *lengths))
        del self._data[: self._fill(self._data, start)]
        return True

    def _fill(self, data: bytes | bytearray, start: int = 0) -> int:
        """Into the parts that are to come, from ``start`` on; where the next answer begins."""
        while self._lengths:
            here = self._part.tell()
            if here and len(self._part.getbuffer()) == here:
                # Room for all of it at once: a buffer that grows may have to be copied, and is in memory twice.
                self._part.seek(self._lengths[0] - 1)
                self._part.write(b"\0")
                self._part.seek(here)
            piece = data[start : start + self._lengths[0] - here]
            start += self._part.write(piece)
            if here + len(piece) < self._lengths[0]:
                break
            self._parts.append(self._part.getvalue())
            self._part = io.BytesIO()
            self._lengths.popleft()
        return start


def work(pipes: Pipes, planned: Sequence[PlannedItem], task: Task, memory_bytes: int, mark: bytes) -> None:
    """Until there are no more items, or this process has grown so much that a fresh one should go on."""
    keep_descendants()
    # Of all processes the one that the kernel should take when the machine's memory ends.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    _redirect(pipes.output)
    # Where a crash or a hang (SIGABRT) was, in what the item printed. Its memory is nobody's to find on the disk.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.enable(pipes.output, all_threads=False)
    # What the batch holds is no garbage here; a collection that walks over it would copy its pages.
    gc.freeze()
    limit_memory(memory_bytes, RESERVE_BYTES)
    base_bytes = status_bytes("self", *HELD)
    try:
        _serve(pipes, planned, task, memory_bytes, mark, base_bytes)
    except MemoryError:  # raised once more where it was dealt with
        os._exit(NO_MEMORY_STATUS)


def _serve(
    pipes: Pipes, planned: Sequence[PlannedItem], task: Task, memory_bytes: int, mark: bytes, base_bytes: int
) -> None:
    own = os.getpid()
    limits = _limits()
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    all_memory = (hard, hard)
    quiet_bytes = _reset_peak()
    while data := os.read(pipes.tasks, _INDEX.size):
        (index,) = _INDEX.unpack(data)
        started = time.monotonic()
        built, error, is_spent = _run(planned[index], task, memory_bytes, all_memory)
        seconds = time.monotonic() - started
        if os.getpid() != own:  # the function forked, and this is the child
            return
        signal.setitimer(signal.ITIMER_REAL, 0)  # an alarm that it left would ring in the next item
        is_last = is_spent or _left_processes() or not _flush() or _limits() != limits
        peak_bytes = _peak_bytes()
        if peak_bytes - base_bytes > memory_bytes // 2:
            is_last = is_last or status_bytes("self", *HELD) - base_bytes > memory_bytes // 2
        if peak_bytes > quiet_bytes + PEAK_STEP_BYTES:
            quiet_bytes = _reset_peak()
        encoded = built.encoded
        lengths = None if encoded is None else {coding: len(data) for coding, data in encoded.items()}
        facts = json_bytes((index, built.metrics, *error, seconds, peak_bytes, is_spent, is_last, lengths))
        os.write(pipes.output, mark)  # whole or not at all: so short a write to a pipe is never divided (pipe(7))
        _send(pipes.answers, (_HEAD.pack(len(facts), len(built.body)), facts, built.body, *(encoded or {}).values()))
        del built, encoded  # not held while the next item is built
        while is_last:  # until it is killed: what it started is found by its parent process, which is this one
            signal.pause()


_Error = tuple[str | None, str | None, str | None]
_NOTHING = Built(b"", None, None)


def _run(item: PlannedItem, task: Task, memory_bytes: int, all_memory: tuple[int, int]) -> tuple[Built, _Error, bool]:
    """What was built, or problem, where and path; and whether the memory is at its end."""
    where = item.route.where
    try:
        built = task(item)
    except MemoryError:
        resource.setrlimit(resource.RLIMIT_DATA, all_memory)  # first of all: nothing can be allocated before
        return _NOTHING, (out_of_memory(memory_bytes), where, None), True
    except ItemError as error:
        return _NOTHING, (_text(error.problem), _text(error.where or where), error.path and _text(error.path)), False
    except BaseException as error:  # sys.exit() and Ctrl-C too: nothing may end the run but its owner
        return _NOTHING, (_text(f"raised {type(error).__name__}: {error}"), where, None), False
    if len(built.body) > item.route.expects.max_bytes:
        allowed = human_bytes(item.route.expects.max_bytes)
        told = (
            f"the body has {human_bytes(len(built.body))}, allowed are {allowed}; make it smaller or write max_bytes="
        )
        return _NOTHING, (told, where, None), False
    return built, (None, None, None), False


def out_of_memory(memory_bytes: int) -> str:
    return f"ran out of memory (each item may use {human_bytes(memory_bytes)})"


def where_it_was(output: str) -> str | None:
    """The innermost line of the user's own code in what faulthandler wrote: ``/srv/site/pages.py:41 in rankings``."""
    _, _, traceback = output.rpartition("(most recent call first):")
    for file, line, function in _FRAME.findall(traceback):
        if file == __file__:  # further out is what the batch was at when it forked
            return None
        if not file.startswith(_NOT_THE_USERS) and "site-packages" not in file:
            return f"{file}:{line} in {function}"
    return None


def _text(said: str) -> str:
    """Fit to be sent: not without end, and without the halves of characters that UTF-8 does not have."""
    if len(said) > MAX_MESSAGE:
        said = said[:MAX_MESSAGE] + " …"
    return said.encode("utf-8", "backslashreplace").decode("utf-8")


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _reset_peak() -> int:
    """Let the peak begin at what is used now, proc(5); where that is not allowed it is that of all items so far."""
    with contextlib.suppress(OSError):
        # Opened each time: a descriptor that an item closed may be the number of a file of its own by now.
        descriptor = os.open("/proc/self/clear_refs", os.O_WRONLY)
        try:
            os.write(descriptor, b"5")
        finally:
            os.close(descriptor)
    return _peak_bytes()


def _left_processes() -> bool:
    """Whether the item left processes behind, which end with this one."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _limits() -> list[tuple[int, int]]:
    """What the kernel allows: an item that takes from it must not take from the next, and nobody may give it back."""
    return [resource.getrlimit(one) for one in _RLIMITS]


def _flush() -> bool:
    """Send what was printed; false where the item closed or replaced a stream so that the next one could not print."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
        os.fstat(1)  # a file that the next item opens would get the number, and all that is printed
        os.fstat(2)
    except Exception:
        return False
    return True


def _send(descriptor: int, parts: Sequence[bytes]) -> None:
    sent = os.writev(descriptor, parts)
    if sent == sum(map(len, parts)):
        return
    for part in parts:
        view = memoryview(part)[sent:]
        sent = max(0, sent - len(part))
        while view:
            view = view[os.write(descriptor, view) :]


_streams_before: tuple[object, ...] = ()


def _redirect(output: int) -> None:
    """What is printed goes to the batch, line by line, at most a pipe full at a time; nothing can be read."""
    # Not let go of: a stream that somebody made of descriptor 1 would close it at its end.
    global _streams_before  # noqa: PLW0603  as long as the process lives
    _streams_before = (sys.stdin, sys.stdout, sys.stderr)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.close(null)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  descriptors, for the whole process
    sys.stdout = open(1, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
