"""One call in flight for each key: whoever else wants it waits for that one.

A leader that raises, is cancelled or dies frees its waiters; one of them calls again. Threads wait for
threads, tasks for tasks of their own event loop, so nobody waits for a loop that is gone.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import anyio
import anyio.lowlevel

T = TypeVar("T")


@dataclass(slots=True)
class _Flight:
    """A call that is made by ``thread`` of process ``pid``; ``value`` or ``error`` is what came of it."""

    is_second: bool = False
    thread: int = field(default_factory=threading.get_ident)
    pid: int = field(default_factory=os.getpid)
    landed: threading.Event = field(default_factory=threading.Event)
    value: tuple[Any] | None = None
    error: Exception | None = None


class SingleFlight(Generic[T]):
    """For plain functions and threads."""

    def __init__(self) -> None:
        self._flights: dict[Hashable, _Flight] = {}

    def call(self, key: Hashable, function: Callable[[], T], *, timeout_seconds: float | None = None) -> T:
        """What ``function`` returns, or what the call that was in flight already returned.

        When that raises, one of those who waited calls a second time; what it raises is raised to the others too, so
        that a crowd costs a failing backend two calls and no more. Raises ``TimeoutError`` after waiting.
        """
        has_seen_failure = False
        while True:
            own = _Flight(has_seen_failure)
            flight = self._flights.setdefault(key, own)
            if flight is own:
                return self._lead(key, own, function)
            if flight.pid != own.pid:  # it came over fork(2), and its leader did not
                self._flights.pop(key, None)
                continue
            if flight.thread == own.thread:  # the function asks for itself
                return function()
            if not flight.landed.wait(timeout_seconds):
                raise TimeoutError(f"the call for {key!r} that was in flight did not end in {timeout_seconds:g} s")
            if flight.value is not None:
                value: T = flight.value[0]
                return value
            if flight.error is not None:
                if flight.is_second:
                    raise flight.error.with_traceback(None)  # each raise would add its frames, and keep them alive
                has_seen_failure = True

    def is_in_flight(self, key: Hashable) -> bool:
        """Whether a call for this key is being made."""
        return key in self._flights

    def _lead(self, key: Hashable, flight: _Flight, function: Callable[[], T]) -> T:
        try:
            value = function()
            flight.value = (value,)
            return value
        except Exception as error:
            flight.error = error
            raise
        finally:
            if self._flights.get(key) is flight:
                del self._flights[key]
            flight.landed.set()


@dataclass(slots=True)
class _Task:
    """A call that is made by a task; ``value`` or ``error`` is what came of it. A cancelled one has neither."""

    owner: int
    is_second: bool = False
    landed: anyio.Event = field(default_factory=lambda: anyio.Event())  # noqa: PLW0108  to load it later
    value: tuple[Any] | None = None
    error: Exception | None = None


class AsyncSingleFlight(Generic[T]):
    """For coroutine functions, on asyncio and trio."""

    def __init__(self) -> None:
        self._flights: dict[Hashable, _Task] = {}

    def is_in_flight(self, key: Hashable) -> bool:
        """Whether a call for this key is being made in this event loop."""
        return (anyio.lowlevel.current_token(), key) in self._flights

    async def call(self, key: Hashable, function: Callable[[], Awaitable[T]]) -> T:
        """What ``function`` returns, or what the call that was in flight in this event loop already returned.

        A failure is shared as ``SingleFlight`` does it.
        """
        loop = anyio.lowlevel.current_token()
        task = anyio.get_current_task().id
        has_seen_failure = False
        while True:
            own = _Task(task, has_seen_failure)
            flight = self._flights.setdefault((loop, key), own)
            if flight is own:
                return await self._lead((loop, key), own, function)
            if flight.owner == task:  # the function asks for itself
                return await function()
            await flight.landed.wait()
            if flight.value is not None:
                found: T = flight.value[0]
                return found
            if flight.error is not None:
                if flight.is_second:
                    raise flight.error.with_traceback(None)
                has_seen_failure = True

    async def _lead(self, place: Hashable, flight: _Task, function: Callable[[], Awaitable[T]]) -> T:
        try:
            value = await function()
            flight.value = (value,)
            return value
        except Exception as error:
            flight.error = error
            raise
        finally:
            if self._flights.get(place) is flight:
                del self._flights[place]
            flight.landed.set()


# An event loop refers to its tasks weakly; one that nobody holds may vanish half-way.
_beside: set[asyncio.Task[None]] = set()


def run_beside(function: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Start a coroutine that nobody waits for, on the event loop that runs; it must not raise."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        importlib.import_module("trio").lowlevel.spawn_system_task(function)
        return
    task = loop.create_task(function())
    _beside.add(task)
    task.add_done_callback(_beside.discard)
