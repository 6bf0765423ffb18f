"""Run the items of a batch in worker processes: whatever an item does, only that item fails, and the run goes on.

A worker is forked from the batch, so the site's modules are imported already and nothing has to be pickled; beside
threads or open connections it is a fresh interpreter (``launch``). It takes item after item, so what a module keeps
for the next call helps. One that dies, hangs or eats memory is killed with all its children and replaced. An item that
ended a worker which others had used before is run once more in a fresh one, since what they left behind is not its
fault; one that was too late, only where there are threads of theirs.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import selectors
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import psutil

from hotpath.batch.launch import Launcher, WorkerProcess, close_ends, read_now
from hotpath.batch.limits import ItemLimits
from hotpath.batch.spawned import FAILED, MAX_PROBLEM_BYTES, READY
from hotpath.batch.worker import (
    HELD,
    NO_MEMORY_STATUS,
    Result,
    Task,
    decode_result,
    encode_index,
    out_of_memory,
    read_page,
    where_it_was,
)
from hotpath.errors import ItemError
from hotpath.options import human_bytes
from hotpath.pages.payload import Built
from hotpath.pages.routes import PlannedItem
from hotpath.process.fork import (
    descendants,
    end_process,
    has_ended,
    has_threads,
    how_it_ended,
    own_bytes,
    status_bytes,
)
from hotpath.site import Hotpath

# Pages that are done before an earlier one wait for it; with more than this, others stay with their workers.
AHEAD_BYTES = 16 * 1024 * 1024
AHEAD_ITEMS = 1000

# How often the memory of the workers is read; that of their children costs a look at every process there is.
LOOK_SECONDS = 0.1
LOOK_AT_CHILDREN_SECONDS = 1.0

# Output is for a person to read. An item that prints this much does not stop.
MAX_PRINTED_BYTES = 64 * 1024 * 1024

# Time for a worker that closed its pipe to end by itself, so that the report can say how; and for one that hangs to
# say where.
FAREWELL_SECONDS = 0.5

# A fresh interpreter that has not imported the site by then waits for something that it will not get.
START_SECONDS = 300.0

_NOT_A_RESULT = "wrote to a descriptor that is not its own: what it sent is no answer"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One item as it ended: ``built``, or ``error``.

    ``peak_bytes`` is the most memory that the worker had meanwhile, ``output`` the first and the last part of what the
    item printed, with Python's traceback of a crash.
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


def run_items(
    planned: Sequence[PlannedItem], task: Task, limits: ItemLimits, site: Hotpath | None = None
) -> Iterator[Outcome]:
    """Each item's outcome, in the order of ``planned`` whatever order they end in.

    ``task`` is called in a worker and returns what it built; an exception of it is the item's failure. Workers live
    until the iterator ends or is closed, and die with this process. ``site`` is what a worker imports that cannot be
    forked.
    """
    pool = _Pool(planned, task, limits, site)
    try:
        yield from pool.outcomes()
    finally:
        pool.close()


class _Pool:
    """The workers of one run. Each has one item at a time, and gets the next as soon as its page was read."""

    def __init__(self, planned: Sequence[PlannedItem], task: Task, limits: ItemLimits, site: Hotpath | None) -> None:
        self._planned = planned
        self._limits = limits
        self._launcher = Launcher(planned, task, limits, site)
        self._waiting = list(range(len(planned)))  # a heap
        self._done: dict[int, Outcome] = {}
        self._done_bytes = 0
        self._workers: list[WorkerProcess] = []
        self._selector = selectors.DefaultSelector()
        self._looked = 0.0
        self._next = 0

    def outcomes(self) -> Iterator[Outcome]:
        while self._next < len(self._planned):
            self._hand_out()
            # Also while there is enough to yield: nobody waits for its next item.
            self._listen(0 if self._next in self._done else LOOK_SECONDS)
            self._hand_out()
            if self._next not in self._done:
                continue
            before = time.monotonic()
            yield self._pop_done()  # no name for it here: it is not held while the next one is received
            # While the caller had the turn nobody read what the workers print: they may have had to wait.
            waited = time.monotonic() - before
            for worker in self._workers:
                worker.deadline += waited

    def _pop_done(self) -> Outcome:
        outcome = self._done.pop(self._next)
        self._next += 1
        self._done_bytes -= outcome.built.length if outcome.built else 0
        return outcome

    def close(self) -> None:
        for worker in list(self._workers):
            self._end(worker)
        self._launcher.close()
        self._selector.close()

    # Giving

    def _hand_out(self) -> None:
        """Take the results there is room for, keep every worker busy, and start workers while there is more to do."""
        for worker in list(self._workers):
            result = worker.result
            if result and (result.index == self._next or self._done_bytes + result.length <= AHEAD_BYTES):
                self._take(worker, result)
        for worker in list(self._workers):
            if worker.index is None and self._may_begin():
                self._give(worker, heapq.heappop(self._waiting))
        while len(self._workers) < self._limits.workers and self._may_begin():
            self._give(self._start(), heapq.heappop(self._waiting))

    def _may_begin(self) -> bool:
        if not self._waiting:
            return False
        first = self._waiting[0]
        return first == self._next or (first < self._next + AHEAD_ITEMS and self._done_bytes <= AHEAD_BYTES)

    def _give(self, worker: WorkerProcess, index: int) -> None:
        worker.index = index
        worker.started = time.monotonic()
        worker.peak_bytes = 0
        if not worker.is_ready:
            worker.deadline = worker.started + START_SECONDS
            return
        worker.deadline = worker.started + self._timeout(index)
        problem = self._launcher.send(worker, index)
        if problem is not None:
            self._fork_instead(worker, problem)
            return
        # A worker that has ended is noticed when its pipe is read.
        with contextlib.suppress(OSError):
            os.write(worker.ends.tasks, encode_index(index))

    def _start(self) -> WorkerProcess:
        worker = self._launcher.start(self._let_go)
        for descriptor in (worker.ends.results, worker.ends.output):
            os.set_blocking(descriptor, False)
            self._selector.register(descriptor, selectors.EVENT_READ, worker)
        self._workers.append(worker)
        return worker

    def _let_go(self) -> None:
        """In a forked child: of what belongs to the batch."""
        self._selector.close()
        for worker in self._workers:
            close_ends(worker.ends)

    # Taking

    def _listen(self, seconds: float) -> None:
        """Read what the workers have sent; now and then look at the clock and at their memory."""
        for key, _ in self._selector.select(seconds):
            worker: WorkerProcess = key.data
            if worker not in self._workers:
                continue
            if key.fd == worker.ends.output:
                self._read_output(worker)
            else:
                self._read_result(worker)
        now = time.monotonic()
        if now >= self._looked + LOOK_SECONDS:
            self._looked = now
            for worker in list(self._workers):
                self._watch(worker, now)

    def _read_output(self, worker: WorkerProcess) -> bool:
        """Whether there was any, and the worker goes on."""
        data = read_now(worker.ends.output)
        if not data:
            if data is not None:  # closed; how it goes on is seen on the other pipe
                self._forget(worker.ends.output)
            return False
        worker.printed.feed(data)
        if worker.printed.count <= MAX_PRINTED_BYTES:
            return True
        self._fail(worker, f"printed more than {human_bytes(MAX_PRINTED_BYTES)}; print less, or to a file")
        return False

    def _read_result(self, worker: WorkerProcess) -> None:
        data = read_now(worker.ends.results)
        if data is None:
            return
        if not data:
            self._forget(worker.ends.results)
            if worker.result is None:
                self._fail(worker, None)
            return
        if not worker.is_ready:
            self._read_readiness(worker, data)
            return
        worker.received += data
        try:
            if worker.index is None or worker.result is not None:
                raise ValueError("nobody asked for a result")
            max_bytes = self._planned[worker.index].route.expects.max_bytes
            worker.result = decode_result(worker.received, worker.index, max_bytes)
        except ValueError:
            self._fail(worker, _NOT_A_RESULT)

    def _read_readiness(self, worker: WorkerProcess, data: bytes) -> None:
        if data != READY:
            problem = (
                data[1 : 1 + MAX_PROBLEM_BYTES].decode("utf-8", "replace") if data[:1] == FAILED else _NOT_A_RESULT
            )
            self._fork_instead(worker, problem)
            return
        self._drain(worker)
        worker.printed.take()  # while it imported: the batch's own import has printed that already
        worker.children = descendants(worker.pid)  # a pool that the site makes when it is imported
        worker.base_bytes = status_bytes(worker.pid, *HELD) + sum(map(own_bytes, worker.children))
        worker.is_ready = True
        if worker.index is not None:
            self._give(worker, worker.index)

    def _fork_instead(self, worker: WorkerProcess, problem: str) -> None:
        """Of a fresh interpreter that cannot import the site: its item goes to a forked worker."""
        index, worker.index = worker.index, None
        self._launcher.give_up(problem)
        self._end(worker)
        if index is not None:
            self._give(self._start(), index)

    def _take(self, worker: WorkerProcess, result: Result) -> None:
        # The item's output was sent before its result.
        while self._read_output(worker):
            continue
        if worker not in self._workers:  # printed without end
            return
        worker.peak_bytes = max(worker.peak_bytes, result.peak_bytes)
        if result.is_spent and self._run_again(worker):
            return
        item, built, error = self._planned[result.index], None, None
        try:
            built = read_page(worker.ends.pages, result)
        except ValueError:
            self._fail(worker, _NOT_A_RESULT)
            return
        if result.problem is not None:
            built, error = None, ItemError(result.problem, key=item.key, where=result.where, path=result.path)
        worker.index, worker.result, worker.is_fresh = None, None, False
        worker.received.clear()
        self._finish(worker, result.index, error, built, result.seconds, worker.printed.take())
        if result.is_last:
            self._end(worker)

    def _watch(self, worker: WorkerProcess, now: float) -> None:
        if has_ended(worker.pid):
            # What it sent before is taken first. The pipe itself may be kept open by a process that it started.
            self._read_result(worker)
            if worker in self._workers and worker.result is None:
                self._fail(worker, None)
            return
        if worker.index is None or worker.result is not None:
            return
        if not worker.is_ready:
            if now > worker.deadline:
                self._fork_instead(worker, f"it was not imported within {START_SECONDS:g} s")
            return
        if now > worker.deadline:
            if not (has_threads(worker.pid) and self._run_again(worker)):
                self._fail(worker, f"did not finish within {self._timeout(worker.index):g} s", has_hung=True)
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

    def _timeout(self, index: int) -> float:
        return self._planned[index].route.expects.timeout_seconds or self._limits.timeout_seconds

    # Ending

    def _fail(self, worker: WorkerProcess, problem: str | None, *, has_hung: bool = False) -> None:
        """Kill a worker; its item failed with ``problem``, or with how the worker ended."""
        index = worker.index
        if not worker.is_ready:
            self._fork_instead(worker, problem or "it ended while it was imported")
            return
        if index is None or (not has_hung and self._run_again(worker)):
            self._end(worker)
            return
        if has_hung:
            worker.children = descendants(worker.pid)  # when it has ended they are nobody's
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGABRT)  # it says where it is, and ends
        deadline = time.monotonic() + FAREWELL_SECONDS
        while (problem is None or has_hung) and not has_ended(worker.pid) and time.monotonic() < deadline:
            self._drain(worker)
            time.sleep(0.005)
        was_alive = not has_ended(worker.pid)
        worker.index = None
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
        ending = how_it_ended(status)
        if os.WIFSIGNALED(status):
            if os.WTERMSIG(status) == signal.SIGSEGV:
                return f"{ending} (native code that crashed, or that found no memory)"
            if os.WTERMSIG(status) == signal.SIGKILL:
                return f"{ending} (by the kernel, where the machine's memory ended, or by another process)"
        elif os.WEXITSTATUS(status) == NO_MEMORY_STATUS:
            return out_of_memory(self._limits.memory_bytes)
        return ending

    def _run_again(self, worker: WorkerProcess) -> bool:
        """Give the item of a used worker to a fresh one, once; false where it failed in a fresh one."""
        index = worker.index
        if worker.is_fresh or index is None:
            return False
        worker.index = None
        self._end(worker)
        self._give(self._start(), index)
        return True

    def _finish(
        self,
        worker: WorkerProcess,
        index: int,
        error: ItemError | None,
        built: Built | None,
        seconds: float,
        output: str,
    ) -> None:
        self._done[index] = Outcome(self._planned[index], built, error, seconds, worker.peak_bytes, output)
        self._done_bytes += built.length if built else 0

    def _end(self, worker: WorkerProcess) -> tuple[int, str]:
        """Kill a worker and everything it started; how it had ended, and the last that it printed."""
        if worker not in self._workers:
            return 0, ""
        self._workers.remove(worker)
        for child in {*worker.children, *descendants(worker.pid)}:  # those too that left its process group
            with contextlib.suppress(psutil.Error):
                child.kill()
        status = end_process(worker.pid)
        self._drain(worker)
        for descriptor in (worker.ends.results, worker.ends.output):
            self._forget(descriptor)
        close_ends(worker.ends)
        return status, worker.printed.take()

    def _forget(self, descriptor: int) -> None:
        with contextlib.suppress(KeyError):
            self._selector.unregister(descriptor)

    def _drain(self, worker: WorkerProcess) -> None:
        """Read what is in the pipe, and no more: another process may still write to it."""
        for _ in range(64):
            data = read_now(worker.ends.output)
            if not data:
                return
            worker.printed.feed(data)
