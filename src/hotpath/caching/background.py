"""Calls that nobody waits for: a stale value is returned while one of these makes the new one."""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from hotpath.process import after_fork

# Maximum threads, of all caches together: more would be a load for the backend.
MAX_THREADS = 4

# An event loop refers to its tasks weakly; a task that nobody holds may vanish half-way.
_tasks: set[asyncio.Task[None]] = set()


class _Permits:
    """One for each thread that may run. A child of fork(2) has none of its parent's threads, so it has all permits."""

    def __init__(self) -> None:
        self.restart_after_fork()
        after_fork.register(self)

    def restart_after_fork(self) -> None:
        self.free = threading.BoundedSemaphore(MAX_THREADS)


_permits = _Permits()


def run_in_thread(function: Callable[[], None]) -> None:
    """Call a function, which must not raise, in a thread and this context; not at all where too many threads run."""

    def run() -> None:
        try:
            context.run(function)
        finally:
            permits.release()

    permits = _permits.free
    if not permits.acquire(blocking=False):
        return
    context = contextvars.copy_context()
    try:
        threading.Thread(target=run, name="hotpath-revalidate", daemon=True).start()
    except RuntimeError:  # no more threads in this process
        permits.release()


def run_in_task(function: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Start a coroutine, which must not raise, on the event loop that runs."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        importlib.import_module("trio").lowlevel.spawn_system_task(function)
        return
    task = loop.create_task(function())
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
