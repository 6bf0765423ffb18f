"""Run the items of a batch in worker processes: whatever one does, only that item fails, and the run goes on.

A worker is forked from the batch, so the site's modules are imported already and nothing has to be pickled; it takes
item after item, so what a module keeps for the next call helps. One that dies, hangs or eats memory is killed with
all its children and replaced. Fork only from a process without threads, or from one whose threads hold no lock that
the items need: the ``hotpath`` command has none.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import selectors
import signal
import struct
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import orjson
import psutil

from hotpath.errors import DeclarationError, ItemError
from hotpath.isolation import data_bytes, forked, how_it_ended
from hotpath.quantities import human_bytes
from hotpath.routes import PlannedItem
from hotpath.store import LOCK_DESCRIPTORS

Task = Callable[[PlannedItem], tuple[bytes, Mapping[str, int] | None]]

# Bodies that are done before an earlier one wait for it; more than this and no further item is begun.
AHEAD_BYTES = 48 * 1024 * 1024
AHEAD_ITEMS = 32

# How often the memory of the workers is looked at; that of their children costs a look at every process there is.
LOOK_SECONDS = 0.1
LOOK_AT_CHILDREN_SECONDS = 1.0

# The facts of an answer, without its body, are a few hundred bytes.
_MAX_FACTS_BYTES = 4 * 1024 * 1024
_HEAD = struct.Struct("!II")
_INDEX = struct.Struct("!I")
_PR_SET_PDEATHSIG = 1
_PAGE_BYTES = resource.getpagesize()

# A worker that closes its pipe is given this long to end by itself, so that how it ended can be told.
FAREWELL_SECONDS = 1.0

# What an item that ran out of memory needs to say so.
_RESERVE_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What each item may use. A route's own ``timeout`` and ``max_bytes`` come before these.

    ``memory_bytes`` is what a worker may allocate beyond what the batch holds already; of what an item prints
    ``output_bytes`` are kept. Raises ``DeclarationError``.
    """

    memory_bytes: int = 512 * 1024 * 1024
    timeout_seconds: float = 60.0
    workers: int = 1
    output_bytes: int = 16 * 1024

    def __post_init__(self) -> None:
        if self.memory_bytes < 16 * 1024 * 1024:
            raise DeclarationError(f"memory={self.memory_bytes}: less than 16 MiB is too little for any Python code")
        if not 0 < self.timeout_seconds < 7 * 86400:
            raise DeclarationError(f"timeout={self.timeout_seconds!r}: write the seconds that one item may take")
        if not 1 <= self.workers <= 64:
            raise DeclarationError(f"workers={self.workers!r}: write 1 to 64")


@dataclass(frozen=True, slots=True)
class Outcome:
    """One item as it ended: ``body`` and ``metrics``, or ``error``.

    ``peak_bytes`` is the worker's memory at most meanwhile, ``output`` the beginning of what it printed.
    """

    item: PlannedItem
    body: bytes | None
    metrics: Mapping[str, int] | None
    error: ItemError | None
    seconds: float
    peak_bytes: int
    output: str


def run_items(planned: Sequence[PlannedItem], task: Task, limits: Limits) -> Iterator[Outcome]:
    """Each item's outcome, in the order of ``planned`` whatever order they end in."""
    run = _Run(planned, task, limits)
    try:
        yield from run.outcomes()
    finally:
        run.close()


@dataclass(slots=True)
class _Worker:
    """One process, and the ends of its pipes in this one."""

    pid: int
    tasks: int
    answers: int
    output: int
    base_bytes: int
    index: int | None = None
    started: float = 0.0
    deadline: float = 0.0
    received: bytearray = field(default_factory=bytearray)
    printed: bytearray = field(default_factory=bytearray)
    printed_bytes: int = 0
    peak_bytes: int = 0
    looked_at_children: float = 0.0
    is_ended: bool = False


class _Run:
    """The workers of one run and what they are at."""

    def __init__(self, planned: Sequence[PlannedItem], task: Task, limits: Limits) -> None:
        self._planned = planned
        self._task = task
        self._limits = limits
        self._waiting = deque(range(len(planned)))
        self._done: dict[int, Outcome] = {}
        self._workers: list[_Worker] = []
        self._selector = selectors.DefaultSelector()
        self._next = 0

    def outcomes(self) -> Iterator[Outcome]:
        while self._next < len(self._planned):
            self._hand_out()
            while self._next in self._done:
                outcome = self._done.pop(self._next)
                self._next += 1
                self._hand_out()
                before = time.monotonic()
                yield outcome
                # While the caller had the turn nobody read what the workers sent: they may have had to wait.
                waited = time.monotonic() - before
                for worker in self._workers:
                    worker.deadline += waited
            if self._next < len(self._planned):
                self._listen()

    def close(self) -> None:
        for worker in list(self._workers):
            self._end(worker)
        self._selector.close()

    def _hand_out(self) -> None:
        """Give every idle worker its next item, and start workers while there is more to do than they can take."""
        held = sum(len(one.body or b"") for one in self._done.values())
        while self._waiting and held <= AHEAD_BYTES and self._waiting[0] < self._next + AHEAD_ITEMS:
            worker = next((one for one in self._workers if one.index is None), None)
            if worker is None:
                if len(self._workers) >= self._limits.workers:
                    return
                worker = self._start()
            index = self._waiting.popleft()
            worker.index, worker.started = index, time.monotonic()
            worker.deadline = worker.started + self._seconds(self._planned[index])
            worker.printed.clear()
            worker.printed_bytes = worker.peak_bytes = 0
            # One that is gone already is found when its pipe is read.
            with contextlib.suppress(OSError):
                os.write(worker.tasks, _INDEX.pack(index))

    def _start(self) -> _Worker:
        task_reading, task_writing = os.pipe()
        answer_reading, answer_writing = os.pipe()
        output_reading, output_writing = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        pid = forked()
        if pid == 0:
            for worker in self._workers:
                for descriptor in (worker.tasks, worker.answers, worker.output):
                    os.close(descriptor)
            for descriptor in (task_writing, answer_reading, output_reading):
                os.close(descriptor)
            _work(self._planned, self._task, self._limits, parent, task_reading, answer_writing, output_writing)
        for descriptor in (task_reading, answer_writing, output_writing):
            os.close(descriptor)
        worker = _Worker(pid, task_writing, answer_reading, output_reading, _resident(pid))
        for descriptor in (answer_reading, output_reading):
            os.set_blocking(descriptor, False)
            self._selector.register(descriptor, selectors.EVENT_READ, worker)
        self._workers.append(worker)
        return worker

    def _listen(self) -> None:
        """Take what the workers have sent; then look at the clock and at their memory."""
        for key, _ in self._selector.select(LOOK_SECONDS):
            worker: _Worker = key.data
            if worker.is_ended:
                continue
            if key.fd == worker.output:
                self._take_output(worker)
            else:
                self._take_answer(worker)
        now = time.monotonic()
        for worker in list(self._workers):
            if worker.index is not None and not worker.received:
                self._watch(worker, now)

    def _take_output(self, worker: _Worker) -> None:
        data = _read(worker.output)
        if data is None:
            return
        if not data:  # closed by the item, which may go on without
            with contextlib.suppress(KeyError):
                self._selector.unregister(worker.output)
            return
        worker.printed_bytes += len(data)
        worker.printed += data[: max(0, self._limits.output_bytes - len(worker.printed))]

    def _take_answer(self, worker: _Worker) -> None:
        data = _read(worker.answers)
        if data is None:
            return
        if not data:
            self._fail(worker, None)
            return
        worker.received += data
        if len(worker.received) < _HEAD.size:
            return
        facts_length, body_length = _HEAD.unpack_from(worker.received)
        item = self._planned[worker.index] if worker.index is not None else None
        if item is None or facts_length > _MAX_FACTS_BYTES or body_length > item.route.expects.max_bytes:
            self._fail(worker, "sent something else than an answer: did it write to a descriptor that is not its own?")
            return
        if len(worker.received) < _HEAD.size + facts_length + body_length:
            return
        view = memoryview(worker.received)
        try:
            facts = orjson.loads(view[_HEAD.size : _HEAD.size + facts_length])
            body = bytes(view[_HEAD.size + facts_length : _HEAD.size + facts_length + body_length])
            index, resident = facts["index"], facts["resident"]
            error = facts["error"]
        except (ValueError, KeyError, TypeError):
            view.release()
            self._fail(worker, "sent something else than an answer: did it write to a descriptor that is not its own?")
            return
        view.release()
        worker.received.clear()
        worker.peak_bytes = max(worker.peak_bytes, facts["peak"])
        self._take_output(worker)
        failure = None
        if error is not None:
            failure = ItemError(error["problem"], key=item.key, where=error["where"], path=error["path"])
        self._finish(worker, index, failure, body if failure is None else None, facts["metrics"])
        if facts["is_spent"] or resident - worker.base_bytes > self._limits.memory_bytes / 2:
            self._end(worker)

    def _watch(self, worker: _Worker, now: float) -> None:
        assert worker.index is not None
        item = self._planned[worker.index]
        if now > worker.deadline:
            self._fail(worker, f"did not finish within {self._seconds(item):g} s")
            return
        used = _resident(worker.pid)
        if now - worker.looked_at_children > LOOK_AT_CHILDREN_SECONDS:
            worker.looked_at_children = now
            used += _children_bytes(worker.pid)
        worker.peak_bytes = max(worker.peak_bytes, used)
        if used - worker.base_bytes > self._limits.memory_bytes:
            self._fail(worker, _out_of_memory(self._limits))

    def _seconds(self, item: PlannedItem) -> float:
        return item.route.expects.timeout_seconds or self._limits.timeout_seconds

    def _fail(self, worker: _Worker, problem: str | None) -> None:
        """Kill a worker; its item failed of ``problem``, or of what its end says."""
        index = worker.index
        status = self._end(worker, 0.0 if problem else FAREWELL_SECONDS)
        if index is None:
            return
        item = self._planned[index]
        error = ItemError(problem or _what_ended_it(status), key=item.key, where=item.route.where)
        self._finish(worker, index, error, None, None)

    def _finish(
        self,
        worker: _Worker,
        index: int,
        error: ItemError | None,
        body: bytes | None,
        metrics: Mapping[str, int] | None,
    ) -> None:
        output = bytes(worker.printed).decode("utf-8", "replace")
        if worker.printed_bytes > len(worker.printed):
            output += f"\n… and {human_bytes(worker.printed_bytes - len(worker.printed))} more"
        seconds = time.monotonic() - worker.started
        item = self._planned[index]
        self._done[index] = Outcome(item, body, metrics, error, seconds, worker.peak_bytes, output)
        worker.index = None

    def _end(self, worker: _Worker, patience: float = 0.0) -> int:
        """Kill a worker and everything it started; how it had ended, where it did so by itself in time."""
        worker.is_ended = True
        self._workers.remove(worker)
        deadline = time.monotonic() + patience
        ended, status = os.waitpid(worker.pid, os.WNOHANG)
        while not ended and time.monotonic() < deadline:
            time.sleep(0.01)
            ended, status = os.waitpid(worker.pid, os.WNOHANG)
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill(worker.pid, signal.SIGKILL)
        if not ended:
            _, status = os.waitpid(worker.pid, 0)
        for descriptor in (worker.answers, worker.output):
            with contextlib.suppress(KeyError):
                self._selector.unregister(descriptor)
        for descriptor in (worker.tasks, worker.answers, worker.output):
            os.close(descriptor)
        return status


# In the worker


def _work(
    planned: Sequence[PlannedItem], task: Task, limits: Limits, parent: int, tasks: int, answers: int, output: int
) -> NoReturn:
    """Item after item until there are no more; never back into the caller's code."""
    own = os.getpid()
    status = 1
    try:
        os.setsid()
        _die_with(parent)
        for descriptor in LOCK_DESCRIPTORS:
            os.close(descriptor)
        _redirect(output)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        limit = data_bytes() + limits.memory_bytes
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit + _RESERVE_BYTES))
        while data := os.read(tasks, _INDEX.size):
            (index,) = _INDEX.unpack(data)
            answer = _answer(index, planned[index], task, limits)
            if os.getpid() != own:  # the function forked, and this is the child
                break
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            _send(answers, answer)
        status = 0
    finally:
        os._exit(status)


def _answer(index: int, item: PlannedItem, task: Task, limits: Limits) -> list[bytes]:
    """What is sent back of one item: lengths, facts, body."""
    body, metrics, is_spent = b"", None, False
    problem: dict[str, str | None] | None = None
    _reset_peak()
    try:
        body, metrics = task(item)
    except MemoryError:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))
        is_spent = True
        problem = {"problem": _out_of_memory(limits), "where": item.route.where, "path": None}
    except ItemError as error:
        problem = {"problem": error.problem, "where": error.where, "path": error.path}
    except BaseException as error:  # sys.exit() and Ctrl-C too: nothing may end the run but its owner
        problem = {"problem": f"raised {type(error).__name__}: {error}", "where": item.route.where, "path": None}
    facts = orjson.dumps(
        {
            "index": index,
            "error": problem,
            "metrics": metrics,
            "peak": _status_bytes("VmHWM:"),
            "resident": _status_bytes("VmRSS:"),
            "is_spent": is_spent,
        }
    )
    return [_HEAD.pack(len(facts), len(body)), facts, body]


def _send(descriptor: int, parts: Sequence[bytes]) -> None:
    for part in parts:
        view = memoryview(part)
        while view:
            view = view[os.write(descriptor, view) :]


def _redirect(output: int) -> None:
    """What is printed goes to the batch, at most a pipe full at a time; nothing can be read."""
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.close(null)
    os.close(output)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  descriptors, for the whole process
    sys.stdout = open(1, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115


def _die_with(parent: int) -> None:
    """Be killed when the batch is, prctl(2); elsewhere than on Linux a worker ends at its next item."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def _reset_peak() -> None:
    with contextlib.suppress(OSError):  # a kernel that does not know it; the peak is then that of all items so far
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _status_bytes(field_name: str) -> int:
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123
        for line in status:
            if line.startswith(field_name):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# In the batch


def _read(descriptor: int) -> bytes | None:
    """What is there: ``None`` where there is nothing yet, empty where the other end is closed."""
    try:
        return os.read(descriptor, 1024 * 1024)
    except BlockingIOError:
        return None


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * _PAGE_BYTES
    except (OSError, IndexError):
        return 0


def _children_bytes(pid: int) -> int:
    total = 0
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(pid).children(recursive=True):
            total += _resident(child.pid)
    return total


def _out_of_memory(limits: Limits) -> str:
    return f"ran out of memory (each item may use {human_bytes(limits.memory_bytes)})"


def _what_ended_it(status: int) -> str:
    told = how_it_ended(status)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGSEGV:
        told += " (native code that crashed, or that found no memory)"
    return told
