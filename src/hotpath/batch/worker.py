"""The inside of a worker: item after item under its limits.

A result goes through a pipe, and the page it is about through a file without a name (memfd_create(2)): the pipe takes
all of a result at once, so the worker never waits for a batch that is busy, and a large page is in memory once.
"""

from __future__ import annotations

import contextlib
import contextvars
import faulthandler
import gc
import os
import re
import resource
import signal
import struct
import sys
import sysconfig
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import orjson

from hotpath.batch.hooks import run_hooks
from hotpath.errors import ItemError
from hotpath.options import human_bytes, json_bytes
from hotpath.pages.payload import Built
from hotpath.pages.routes import PlannedItem
from hotpath.process.fork import descendants, keep_descendants, limit_memory, status_bytes
from hotpath.process.reseed import reseed_modules

Task = Callable[[PlannedItem], Built]

# What an item that ran out of memory needs to say so.
RESERVE_BYTES = 16 * 1024 * 1024

# Characters of an exception's text that are a message; the rest is data.
MAX_MESSAGE_CHARACTERS = 2000

# Private and shared memory, also what was swapped out; not the pages of mapped files, which the kernel takes back.
HELD = ("RssAnon", "RssShmem", "VmSwap")

# How exact an item's peak is: resetting it after every item would cost as much as a small item itself.
PEAK_STEP_BYTES = 4 * 1024 * 1024

# Exit status of a worker that has no memory left to say so.
NO_MEMORY_STATUS = 119

_FRAME = re.compile(r'File "([^"\n]+)", line (\d+) in (.+)')
_NOT_THE_USERS = (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), str(Path(__file__).parents[1]), "<")
_INDEX = struct.Struct("!I")
_HEAD = struct.Struct("!I")
_MAX_FACTS_BYTES = 1024 * 1024
# Pages above this size are not kept in the file between two items.
_LARGE_BYTES = 1024 * 1024
# Each costs half a microsecond an item.
_LIMITED = ("RLIMIT_AS", "RLIMIT_CPU", "RLIMIT_DATA", "RLIMIT_FSIZE", "RLIMIT_NOFILE")
_RLIMITS = tuple(getattr(resource, name) for name in _LIMITED)


@dataclass(frozen=True, slots=True)
class Result:
    """What a worker sends of an item; the page itself is in the file that both have open.

    ``lengths`` are the bytes of the body (``identity``) and of each coding, in their order in that file. ``is_spent``
    says that the worker ran out of memory, ``is_last`` that it ends.
    """

    index: int
    lengths: Mapping[str, int]
    has_codings: bool
    metrics: Mapping[str, int] | None
    problem: str | None
    where: str | None
    path: str | None
    seconds: float
    peak_bytes: int
    is_spent: bool
    is_last: bool

    @property
    def length(self) -> int:
        """Bytes in all codings."""
        return sum(self.lengths.values())


@dataclass(frozen=True, slots=True)
class Ends:
    """One side's descriptors: numbers of items, results, what is printed, and the file that holds the page."""

    tasks: int
    results: int
    output: int
    pages: int


def encode_index(index: int) -> bytes:
    return _INDEX.pack(index)


def decode_result(data: bytes | bytearray, index: int, max_bytes: int) -> Result | None:
    """The result of the item ``index``, or ``None`` while ``data`` is not all of it.

    Raises ``ValueError`` for what no worker sends, for a body above ``max_bytes`` too.
    """
    if len(data) < _HEAD.size:
        return None
    (facts_bytes,) = _HEAD.unpack_from(data)
    if facts_bytes > _MAX_FACTS_BYTES or len(data) > _HEAD.size + facts_bytes:
        raise ValueError("no result")
    if len(data) < _HEAD.size + facts_bytes:
        return None
    try:
        result = Result(**orjson.loads(data[_HEAD.size :]))
        body, *encoded = result.lengths.values()
    except (TypeError, AttributeError) as error:
        raise ValueError("no result") from error
    are_lengths = all(type(length) is int and 0 <= length <= max_bytes for length in (body, *encoded))
    if result.index != index or not are_lengths or any(length >= body for length in encoded):
        raise ValueError("no result")
    return result


def read_page(pages: int, result: Result) -> Built:
    """What the worker built, out of the file. Raises ``ValueError`` where that holds less."""
    parts, place = [], 0
    for length in result.lengths.values():
        parts.append(os.pread(pages, length, place))
        place += length
    if sum(map(len, parts)) < place:
        raise ValueError("no page")
    if place > _LARGE_BYTES:
        os.ftruncate(pages, 0)
    body, *encoded = parts
    codings = dict(zip([*result.lengths][1:], encoded, strict=True)) if result.has_codings else None
    return Built(body, result.metrics, codings)


class PlannedItems(Protocol):
    """The items of a run by their numbers."""

    def __getitem__(self, index: int, /) -> PlannedItem: ...


def work(ends: Ends, planned: PlannedItems, task: Task, memory_bytes: int, *, must_reseed: bool) -> None:
    """Until there are no more items, or this process has grown so much that a fresh one should go on.

    ``must_reseed`` where another worker has the same random generators.
    """
    keep_descendants()
    if must_reseed:
        reseed_modules()
    # The first process that the kernel should kill when the machine's memory ends.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    _redirect(ends.output)
    # Where a crash or a hang (SIGABRT) was, in what the item printed. Its memory is nobody's to find on the disk.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.enable(ends.output, all_threads=False)
    # The batch's objects are no garbage here; a collection that visits them would copy their pages.
    gc.freeze()
    limit_memory(memory_bytes, RESERVE_BYTES)
    base_bytes = status_bytes("self", *HELD)
    try:
        _serve(ends, planned, task, memory_bytes, base_bytes)
    except MemoryError:  # raised once more where it was dealt with
        os._exit(NO_MEMORY_STATUS)


def _serve(ends: Ends, planned: PlannedItems, task: Task, memory_bytes: int, base_bytes: int) -> None:
    own = os.getpid()
    children = _children()
    limits = _limits()
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    all_memory = (hard, hard)
    quiet_bytes = _reset_peak()
    while data := os.read(ends.tasks, _INDEX.size):
        (index,) = _INDEX.unpack(data)
        started = time.monotonic()
        built, error, is_spent = _run(planned, index, task, memory_bytes, all_memory)
        seconds = time.monotonic() - started
        if os.getpid() != own:  # the function forked, and this is the child
            return
        signal.setitimer(signal.ITIMER_REAL, 0)  # an alarm that it left would ring in the next item
        is_last = is_spent or _left_processes(children) or not _flush() or _limits() != limits
        peak_bytes = _peak_bytes()
        if peak_bytes - base_bytes > memory_bytes // 2:
            is_last = is_last or status_bytes("self", *HELD) - base_bytes > memory_bytes // 2
        if peak_bytes > quiet_bytes + PEAK_STEP_BYTES:
            quiet_bytes = _reset_peak()
        page = {"identity": built.body, **(built.encoded or {})}
        lengths = {coding: len(data) for coding, data in page.items()}
        has_codings = built.encoded is not None
        result = Result(index, lengths, has_codings, built.metrics, *error, seconds, peak_bytes, is_spent, is_last)
        facts = json_bytes(result)
        os.lseek(ends.pages, 0, os.SEEK_SET)
        _write(ends.pages, page.values())
        _write(ends.results, (_HEAD.pack(len(facts)), facts))
        del built, page  # not held while the next item is built
        while is_last:  # until it is killed: what it started is found by its parent process, which is this one
            signal.pause()


_Error = tuple[str | None, str | None, str | None]
_NOTHING = Built(b"", None, None)


def _run(
    planned: PlannedItems, index: int, task: Task, memory_bytes: int, all_memory: tuple[int, int]
) -> tuple[Built, _Error, bool]:
    """What was built, or problem, where and path; and whether the memory is at its end."""
    where = None
    try:
        item = planned[index]
        where = item.route.where
        run_hooks()
        # What it sets in context variables (a language, a time zone, decimal's precision) ends with it.
        return contextvars.copy_context().run(task, item), (None, None, None), False
    except MemoryError:
        resource.setrlimit(resource.RLIMIT_DATA, all_memory)  # first of all: nothing can be allocated before
        return _NOTHING, (out_of_memory(memory_bytes), where, None), True
    except ItemError as error:
        where = error.where or where
        return _NOTHING, (_text(error.problem), where and _text(where), error.path and _text(error.path)), False
    except BaseException as error:  # sys.exit() and Ctrl-C too: nothing may end the run but its owner
        return _NOTHING, (_text(f"raised {type(error).__name__}: {error}"), where, None), False


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


def _text(message: str) -> str:
    """Fit to be sent: not without end, and without the halves of characters that UTF-8 does not have."""
    if len(message) > MAX_MESSAGE_CHARACTERS:
        message = message[:MAX_MESSAGE_CHARACTERS] + " …"
    return message.encode("utf-8", "backslashreplace").decode("utf-8")


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


def _children() -> set[int]:
    return {child.pid for child in descendants(os.getpid())}


def _left_processes(before: set[int]) -> bool:
    """Whether the item left processes behind, which end with this one; those of ``before`` are the site's own."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return not _children() <= before


def _limits() -> list[tuple[int, int]]:
    """What the kernel allows: an item that takes from it must not take from the next, and nobody may give it back."""
    return [resource.getrlimit(limit) for limit in _RLIMITS]


def _flush() -> bool:
    """Send what was printed; false where the item closed or replaced a stream so that the next one could not print."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
        os.fstat(1)  # a file that the next item opens would get the number, and all that is printed
        os.fstat(2)
    except Exception:  # the streams may be objects of the item's own
        return False
    return True


def _write(descriptor: int, parts: Iterable[bytes]) -> None:
    parts = [*parts]
    written = os.writev(descriptor, parts)
    if written == sum(map(len, parts)):
        return
    for part in parts:
        view = memoryview(part)[written:]
        written = max(0, written - len(part))
        while view:
            view = view[os.write(descriptor, view) :]


_streams_before: tuple[object, ...] = ()


def _redirect(output: int) -> None:
    """Send what is printed to the batch, line by line; standard input is empty."""
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
