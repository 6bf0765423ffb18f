"""The thread that loads pages, and what keeps a process answering meanwhile."""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, ParamSpec, TypeVar

from hotpath.process import after_fork

# Pause of a load: as long as a waiting thread needs to take the interpreter, so that the event loop goes on answering.
PAUSE_SECONDS = 0.0001

P = ParamSpec("P")
R = TypeVar("R")

_NEVER = 2**31 - 1


class LoadingThread:
    """Runs all loads of one reader, whoever wants them.

    malloc(3) gives each thread an arena of its own, and what is freed in one is no room for another: with loads from
    all threads of a pool, 64 MiB of bodies took 118 MiB of memory.
    """

    def __init__(self) -> None:
        self.restart_after_fork()

    def restart_after_fork(self) -> None:
        """Have a thread of this process, made with the next call."""
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="hotpath-load")
        self._waiting: deque[tuple[Callable[[], Any], Future[Any]]] = deque()

    def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Return what ``function`` returns. Blocks until everything before it is done."""
        try:
            done = self._pool.submit(function, *args, **kwargs)
        except RuntimeError:  # closed, or the interpreter is ending
            return function(*args, **kwargs)
        return done.result()

    def run_soon(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """The same, but a running load lets it in at its next pause: one page does not wait for a generation."""
        done: Future[R] = Future()
        self._waiting.append((partial(function, *args, **kwargs), done))
        try:
            self._pool.submit(self._run_waiting)
        except RuntimeError:
            self._run_waiting()
        return done.result()

    def pause(self) -> None:
        """Give the interpreter away for a moment and run what waits. Called by long loads every now and then."""
        time.sleep(PAUSE_SECONDS)
        self._run_waiting()

    def close(self) -> None:
        """End the thread; later calls run in the caller's thread."""
        self._pool.shutdown(wait=False)

    def _run_waiting(self) -> None:
        while self._waiting:
            try:
                function, done = self._waiting.popleft()
            except IndexError:  # after ``close`` there may be several threads
                return
            try:
                done.set_result(function())
            except Exception as error:
                done.set_exception(error)


class FullCollections:
    """Keeps the garbage collector from stopping every thread to visit old and new pages together during a load.

    Younger objects are collected all the time. The thresholds belong to the process, so there is one of this.
    """

    def __init__(self) -> None:
        self._before: tuple[int, int, int] | None = None
        after_fork.register(self)

    @contextmanager
    def off(self) -> Iterator[None]:
        """No full collection inside the block. A second reader that loads meanwhile leaves it to the first."""
        if self._before is not None:
            yield
            return
        young, middle, _ = self._before = gc.get_threshold()
        gc.set_threshold(young, middle, _NEVER)
        try:
            yield
        finally:
            self.restart_after_fork()

    def restart_after_fork(self) -> None:
        """Set the thresholds from before the load, which in a forked child never ends."""
        if self._before is not None:
            gc.set_threshold(*self._before)
            self._before = None


full_collections = FullCollections()
