"""Run the items of a batch in worker processes: whatever one does, only that item fails, and the run goes on.

A worker is forked from the batch, so the site's modules are imported already and nothing has to be pickled; it takes
item after item, so what a module keeps for the next call helps. One that dies, hangs or eats memory is killed with
all its children and replaced. An item that ended a worker which others had used before is run once more in a fresh
one, since what they left behind is not its fault; one that was too late, only where there are threads of theirs.

Fork only from a process without threads, or from one whose threads hold no lock that the items need (a worker that
waits for such a lock ends at the timeout of its first item): the ``hotpath`` command has none.
"""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import os
import secrets
import selectors
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import psutil

from hotpath.batch.output import Printed
from hotpath.batch.worker import (
    HELD,
    NO_MEMORY_STATUS,
    Answer,
    Pipes,
    Received,
    Task,
    encode_indices,
    out_of_memory,
    where_it_was,
    work,
)
from hotpath.errors import DeclarationError, ItemError
from hotpath.options import human_bytes
from hotpath.pages.payload import Built
from hotpath.pages.routes import PlannedItem
from hotpath.process.fork import (
    descendants,
    end_process,
    forked,
    has_ended,
    has_threads,
    how_it_ended,
    own_bytes,
    status_bytes,
)

# Bodies that are done before an earlier one wait for it; with more than this nobody but that one is listened to.
AHEAD_BYTES = 16 * 1024 * 1024
AHEAD_ITEMS = 1000

# A worker is told its next items while it is busy: so many as it needs for this time, so that it never waits for us.
AHEAD_SECONDS = 0.02
MAX_QUEUED = 64

# While all have enough to do, their answers are taken many at a time: to wake this process for each costs the worker
# as much as a small item. Who took more than a few the last time lags behind them, and has no time to nap.
NAP_SECONDS = 0.002
FEW_ANSWERS = 8

# How often the memory of the workers is looked at; that of their children costs a look at every process there is.
LOOK_SECONDS = 0.1
LOOK_AT_CHILDREN_SECONDS = 1.0

# What an item prints is for a person to read. One that prints this much does not stop.
MAX_PRINTED_BYTES = 64 * 1024 * 1024

# A worker that closed its pipe is given this long to end by itself, so that how it ended can be told; one that hangs,
# this long to say where.
FAREWELL_SECONDS = 0.5

# As large as an unprivileged process may have it (pipe(7)): the next answers wait in it while this process is busy.
_PIPE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What each item may use. A route's own ``timeout`` comes before ``timeout_seconds``; ``max_bytes`` is the route's.

    ``memory_bytes`` is what a worker may allocate beyond what the batch holds already, with its children; of what an
    item prints ``output_bytes`` are kept. Raises ``DeclarationError``.
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
    """One item as it ended: ``built``, or ``error``.

    ``peak_bytes`` is the worker's memory at most meanwhile, ``output`` the first and the last part of what it printed,
    and of what Python said of a crash.
    """

    item: PlannedItem
    built: Built | None
    error: ItemError | None
    seconds: float
    peak_bytes: int
    output: str

    @property
    def body(self) -> bytes | None:
        """The page itself."""
        return self.built.body if self.built else None


def run_items(planned: Sequence[PlannedItem], task: Task, limits: Limits) -> Iterator[Outcome]:
    """Each item's outcome, in the order of ``planned`` whatever order they end in.

    ``task`` is called in a worker and gives what it built; what it raises is the item's failure. Workers live until
    the iterator ends or is closed, and die with this process.
    """
    run = _Run(planned, task, limits)
    try:
        yield from run.outcomes()
    finally:
        run.close()


@dataclass(slots=True)
class _Worker:
    """One process, and the ends of its pipes in this one. The first of ``items`` is what it is at."""

    pid: int
    tasks: int
    answers: int
    output: int
    printed: Printed
    base_bytes: int
    items: deque[int] = field(default_factory=deque)
    is_fresh: bool = True
    is_paused: bool = False
    started: float = 0.0
    deadline: float = 0.0
    queue: int = 1
    received: Received = field(default_factory=Received)
    peak_bytes: int = 0
    children: list[psutil.Process] = field(default_factory=list)
    children_bytes: int = 0
    children_seen: int = 0
    looked_at_children: float = 0.0


class _Run:
    """The workers of one run and what they are at."""

    def __init__(self, planned: Sequence[PlannedItem], task: Task, limits: Limits) -> None:
        self._planned = planned
        self._task = task
        self._limits = limits
        self._waiting = list(range(len(planned)))  # a heap
        self._done: dict[int, Outcome] = {}
        self._done_bytes = 0
        self._workers: list[_Worker] = []
        self._selector = selectors.DefaultSelector()
        self._looked = 0.0
        self._taken = 0
        self._next = 0

    def outcomes(self) -> Iterator[Outcome]:
        while self._next < len(self._planned):
            self._hand_out()
            while self._next in self._done:
                self._hand_out()
                before = time.monotonic()
                yield self._take_done()  # no name for it here: it is not held while the next one is received
                # While the caller had the turn nobody read what the workers sent: they may have had to wait.
                waited = time.monotonic() - before
                for worker in self._workers:
                    worker.deadline += waited
            if self._next < len(self._planned):
                self._listen()

    def _take_done(self) -> Outcome:
        outcome = self._done.pop(self._next)
        self._next += 1
        self._done_bytes -= outcome.built.length if outcome.built else 0
        return outcome

    def close(self) -> None:
        for worker in list(self._workers):
            self._end(worker)
        self._selector.close()

    # Giving

    def _hand_out(self) -> None:
        """Keep every worker busy, and start workers while there is more to do than they can take."""
        for worker in self._workers:
            if len(worker.items) <= worker.queue // 2:
                self._give(worker)
        while len(self._workers) < self._limits.workers and self._may_begin():
            self._give(self._start())

    def _may_begin(self) -> bool:
        if not self._waiting:
            return False
        first = self._waiting[0]
        return first == self._next or (first < self._next + AHEAD_ITEMS and self._done_bytes <= AHEAD_BYTES)

    def _give(self, worker: _Worker) -> None:
        new: list[int] = []
        while len(worker.items) + len(new) < worker.queue and self._may_begin():
            new.append(heapq.heappop(self._waiting))
        if new:
            self._send(worker, new)

    def _send(self, worker: _Worker, new: list[int]) -> None:
        if not worker.items:
            self._begin(worker, new[0])
        worker.items += new
        # One that is gone already is found when its pipe is read.
        with contextlib.suppress(OSError):
            os.write(worker.tasks, encode_indices(new))

    def _begin(self, worker: _Worker, index: int) -> None:
        worker.started = time.monotonic()
        worker.deadline = worker.started + self._seconds(index)
        worker.peak_bytes = 0

    def _start(self) -> _Worker:
        task_reading, task_writing = os.pipe()
        answer_reading, answer_writing = os.pipe()
        output_reading, output_writing = os.pipe()
        with contextlib.suppress(OSError):  # the user's pipes may be many already
            fcntl.fcntl(answer_writing, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        mark = secrets.token_bytes(16)
        for stream in (sys.stdout, sys.stderr):  # not printed twice; there may be none, or a full disk behind it
            with contextlib.suppress(AttributeError, OSError, ValueError):
                stream.flush()

        def in_the_child() -> None:
            self._selector.close()
            for worker in self._workers:
                for descriptor in (worker.tasks, worker.answers, worker.output):
                    os.close(descriptor)
            for descriptor in (task_writing, answer_reading, output_reading):
                os.close(descriptor)
            pipes = Pipes(task_reading, answer_writing, output_writing)
            work(pipes, self._planned, self._task, self._limits.memory_bytes, mark)

        pid = forked(in_the_child)
        for descriptor in (task_reading, answer_writing, output_writing):
            os.close(descriptor)
        printed = Printed(mark, self._limits.output_bytes)
        worker = _Worker(pid, task_writing, answer_reading, output_reading, printed, status_bytes(pid, *HELD))
        for descriptor in (answer_reading, output_reading):
            os.set_blocking(descriptor, False)
            self._selector.register(descriptor, selectors.EVENT_READ, worker)
        self._workers.append(worker)
        return worker

    # Taking

    def _listen(self) -> None:
        """Take what the workers have sent; now and then look at the clock and at their memory."""
        self._pause()
        are_busy = self._workers and all(len(one.items) > MAX_QUEUED // 2 for one in self._workers)
        if are_busy and self._taken < FEW_ANSWERS:
            time.sleep(NAP_SECONDS)
        self._taken = 0
        for key, _ in self._selector.select(LOOK_SECONDS):
            worker: _Worker = key.data
            if worker not in self._workers:
                continue
            if key.fd == worker.output:
                self._take_output(worker)
            else:
                self._take_answers(worker)
        now = time.monotonic()
        if now >= self._looked + LOOK_SECONDS:
            self._looked = now
            for worker in list(self._workers):
                self._watch(worker, now)

    def _pause(self) -> None:
        """While much is done and waits for an earlier item, what other workers send stays in their pipes."""
        held = self._done_bytes + sum(len(worker.received) for worker in self._workers)
        for worker in self._workers:
            pause = held > AHEAD_BYTES and self._next not in worker.items
            if pause == worker.is_paused:
                continue
            worker.is_paused = pause
            if pause:
                self._selector.unregister(worker.answers)
            else:
                self._selector.register(worker.answers, selectors.EVENT_READ, worker)
                if worker.items:
                    worker.deadline = time.monotonic() + self._seconds(worker.items[0])

    def _take_output(self, worker: _Worker) -> bool:
        """Whether there was any."""
        data = _read(worker.output)
        if data is None:
            return False
        if not data:  # closed; how it goes on is seen on the other pipe
            with contextlib.suppress(KeyError):
                self._selector.unregister(worker.output)
            return False
        worker.printed.feed(data)
        if worker.printed.count > MAX_PRINTED_BYTES:
            self._fail(worker, f"printed more than {human_bytes(MAX_PRINTED_BYTES)}; print less, or to a file")
            return False
        return True

    def _take_answers(self, worker: _Worker) -> None:
        data = _read(worker.answers)
        if data is None:
            return
        if not data:
            self._fail(worker, None)
            return
        worker.received.feed(data)
        while worker in self._workers:
            try:
                max_bytes = self._planned[worker.items[0]].route.expects.max_bytes if worker.items else 0
                answer = worker.received.take(max_bytes)
                if answer is not None and (not worker.items or answer.index != worker.items[0]):
                    raise ValueError("no answer to what it was asked")
            except ValueError:
                self._fail(worker, "wrote to a descriptor that is not its own: what it sent is no answer")
                return
            if answer is None:
                return
            self._take(worker, answer)

    def _take(self, worker: _Worker, answer: Answer) -> None:
        # The mark after its prints was sent before the answer.
        while (output := worker.printed.take()) is None and self._take_output(worker):
            continue
        if worker not in self._workers:  # printed without end
            return
        worker.peak_bytes = max(worker.peak_bytes, answer.peak_bytes)
        if answer.is_spent and self._run_again(worker):
            return
        worker.items.popleft()
        self._taken += 1
        worker.is_fresh = False
        worker.queue = max(1, min(MAX_QUEUED, int(AHEAD_SECONDS / max(answer.seconds, 1e-6))))
        error = None
        if answer.problem is not None:
            key = self._planned[answer.index].key
            error = ItemError(answer.problem, key=key, where=answer.where, path=answer.path)
        self._finish(worker, answer.index, error, answer.built, answer.seconds, output or "")
        if answer.is_last:
            self._end(worker)
        elif worker.items:
            self._begin(worker, worker.items[0])

    def _watch(self, worker: _Worker, now: float) -> None:
        if has_ended(worker.pid):
            # What it sent before is taken first. The pipe itself may be kept open by a process that it started.
            if not worker.is_paused and not self._selector_has(worker):
                self._fail(worker, None)
            return
        if not worker.items:
            return
        if now > worker.deadline and not worker.is_paused:
            if not (has_threads(worker.pid) and self._run_again(worker)):
                self._fail(worker, f"did not finish within {self._seconds(worker.items[0]):g} s", has_hung=True)
            return
        if now > worker.looked_at_children + LOOK_AT_CHILDREN_SECONDS:
            worker.looked_at_children = now
            before = worker.children_seen
            worker.children = descendants(worker.pid)
            worker.children_seen = sum(map(own_bytes, worker.children))
            # What both looks saw: a child between vfork(2) and execve(2) seems to hold all that the worker has.
            worker.children_bytes = min(before, worker.children_seen)
        used = status_bytes(worker.pid, *HELD) + worker.children_bytes
        worker.peak_bytes = max(worker.peak_bytes, used)
        if used - worker.base_bytes > self._limits.memory_bytes:
            self._fail(worker, out_of_memory(self._limits.memory_bytes))

    def _selector_has(self, worker: _Worker) -> bool:
        return any(key.fd == worker.answers for key, _ in self._selector.select(0))

    def _seconds(self, index: int) -> float:
        return self._planned[index].route.expects.timeout_seconds or self._limits.timeout_seconds

    # Ending

    def _fail(self, worker: _Worker, problem: str | None, *, has_hung: bool = False) -> None:
        """Kill a worker; the item it is at failed of ``problem``, or of what its end says."""
        if not worker.items or (not has_hung and self._run_again(worker)):
            self._end(worker)
            return
        deadline = time.monotonic() + FAREWELL_SECONDS
        if has_hung:
            worker.children = descendants(worker.pid)  # when it has ended they are nobody's
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGABRT)  # it says where it is, and ends
        while (problem is None or has_hung) and not has_ended(worker.pid) and time.monotonic() < deadline:
            self._drain(worker)
            time.sleep(0.005)
        was_alive = not has_ended(worker.pid)
        index = worker.items.popleft()
        status, output = self._end(worker)
        if problem is None:
            problem = "closed the pipe that it answers through" if was_alive else self._what_ended_it(status)
        frame = where_it_was(output)
        if frame:
            problem += f"; it was at {frame}"
        item = self._planned[index]
        error = ItemError(problem, key=item.key, where=frame.partition(" in ")[0] if frame else item.route.where)
        self._finish(worker, index, error, None, time.monotonic() - worker.started, output)

    def _what_ended_it(self, status: int) -> str:
        told = how_it_ended(status)
        if os.WIFSIGNALED(status):
            if os.WTERMSIG(status) == signal.SIGSEGV:
                return f"{told} (native code that crashed, or that found no memory)"
            if os.WTERMSIG(status) == signal.SIGKILL:
                return f"{told} (by the kernel, where the machine's memory ended, or by somebody)"
        elif os.WEXITSTATUS(status) == NO_MEMORY_STATUS:
            return out_of_memory(self._limits.memory_bytes)
        return told

    def _run_again(self, worker: _Worker) -> bool:
        """Give the item that a used worker is at to a fresh one, once; false where it failed in a fresh one."""
        if worker.is_fresh:
            return False
        index = worker.items.popleft()
        self._end(worker)
        self._send(self._start(), [index])
        return True

    def _finish(
        self, worker: _Worker, index: int, error: ItemError | None, built: Built | None, seconds: float, output: str
    ) -> None:
        if error is not None:
            built = None
        outcome = Outcome(self._planned[index], built, error, seconds, worker.peak_bytes, output)
        self._done_bytes += outcome.built.length if outcome.built else 0
        self._done[index] = outcome

    def _end(self, worker: _Worker) -> tuple[int, str]:
        """Kill a worker and everything it started; how it had ended, and the last that it printed.

        What it was told and did not answer is to be done by another.
        """
        if worker not in self._workers:
            return 0, ""
        self._workers.remove(worker)
        for index in worker.items:
            heapq.heappush(self._waiting, index)
        worker.items.clear()
        for child in {*worker.children, *descendants(worker.pid)}:  # those too that left its process group
            with contextlib.suppress(psutil.Error):
                child.kill()
        status = end_process(worker.pid)
        self._drain(worker)
        for descriptor in (worker.answers, worker.output):
            with contextlib.suppress(KeyError):
                self._selector.unregister(descriptor)
        for descriptor in (worker.tasks, worker.answers, worker.output):
            os.close(descriptor)
        return status, worker.printed.rest()

    def _drain(self, worker: _Worker) -> None:
        """What is in the pipe, and no more: another process may still write to it."""
        for _ in range(64):
            data = _read(worker.output)
            if not data:
                return
            worker.printed.feed(data)


def _read(descriptor: int) -> bytes | None:
    """What is there; ``None`` for nothing yet, empty where the other end is closed."""
    try:
        return os.read(descriptor, 1024 * 1024)
    except BlockingIOError:
        return None
