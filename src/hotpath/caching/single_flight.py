"""One call in flight for each key: other callers of that key wait for it.

A leader that raises, is cancelled or dies frees its waiters; one of them calls again. Threads wait for
threads, tasks for tasks of their own event loop, so nobody waits for a loop that is gone.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import anyio
import anyio.lowlevel

from hotpath.process import after_fork

T = TypeVar("T")
E = TypeVar("E", threading.Event, anyio.Event)


@dataclass(slots=True)
class _Flight(Generic[E]):
    """A call that is made by ``owner``, a thread or a task. Waiters wait for ``landed``.

    ``value`` or ``error`` is its outcome; a cancelled one has neither. ``is_second`` when it was made after a failure.
    """

    landed: E
    owner: int
    is_second: bool
    value: tuple[Any] | None = None
    error: Exception | None = None

    def outcome(self) -> tuple[Any] | None:
        """The value, or None where the waiter may call again. Raises the error of a second call."""
        if self.error is not None and self.is_second:
            raise self.error.with_traceback(None)  # each raise would add its frames, and keep them alive
        return self.value


# What each thread or task waits for, in all caches together.
_waits: dict[int, _Flight[Any]] = {}


@contextmanager
def _waiting(waiter: int, flight: _Flight[Any]) -> Iterator[None]:
    """Around waiting for a call. Raises ``RecursionError`` where that call waits for one that ``waiter`` makes."""
    _waits[waiter] = flight
    try:
        awaited: _Flight[Any] | None = flight
        while awaited is not None and not awaited.landed.is_set():
            if awaited.owner == waiter:
                raise RecursionError("this call waits for another call, which waits for this one")
            awaited = _waits.get(awaited.owner)
        yield
    finally:
        _waits.pop(waiter, None)


class _Flights(Generic[E]):
    """The calls in flight by key. A child of fork(2) begins without any: it has none of its parent's threads."""

    def __init__(self) -> None:
        self._by_key: dict[Hashable, _Flight[E]] = {}
        after_fork.register(self)

    def restart_after_fork(self) -> None:
        """Forget the parent's calls."""
        self._by_key = {}
        _waits.clear()

    @contextmanager
    def _leading(self, key: Hashable, flight: _Flight[E]) -> Iterator[None]:
        """Around the call itself: however it ends, waiters are freed."""
        try:
            yield
        except Exception as error:
            flight.error = error
            raise
        finally:
            if self._by_key.get(key) is flight:
                del self._by_key[key]
            flight.landed.set()


class SingleFlight(_Flights[threading.Event], Generic[T]):
    """For plain functions and threads."""

    def call(self, key: Hashable, function: Callable[[], T], *, timeout_seconds: float | None = None) -> T:
        """What ``function`` returns, or what the call that was in flight already returned.

        When that raises, one of its waiters makes a second call; what that raises is raised to the others too, so
        that a crowd costs a failing backend two calls and no more. Raises ``TimeoutError`` after waiting, and
        ``RecursionError`` where calls would wait for each other.
        """
        thread = threading.get_ident()
        has_seen_failure = False
        while True:
            own = _Flight(threading.Event(), thread, has_seen_failure)
            flight = self._by_key.setdefault(key, own)
            if flight is own:
                with self._leading(key, own):
                    value = function()
                    own.value = (value,)
                return value
            if flight.owner == thread:  # the function asks for itself
                return function()
            with _waiting(thread, flight):
                has_landed = flight.landed.wait(timeout_seconds)
            if not has_landed:
                raise TimeoutError(f"the call for {key!r} that was in flight did not end in {timeout_seconds:g} s")
            outcome = flight.outcome()
            if outcome is not None:
                return outcome[0]  # type: ignore[no-any-return]
            has_seen_failure = has_seen_failure or flight.error is not None

    def is_in_flight(self, key: Hashable) -> bool:
        """Whether a call for this key is being made."""
        return key in self._by_key


class AsyncSingleFlight(_Flights[anyio.Event], Generic[T]):
    """For coroutine functions, on asyncio and trio; each event loop has its own calls."""

    async def call(self, key: Hashable, function: Callable[[], Awaitable[T]]) -> T:
        """As ``SingleFlight.call``, for the tasks of this event loop."""
        place = (anyio.lowlevel.current_token(), key)
        task = anyio.get_current_task().id
        has_seen_failure = False
        while True:
            own = _Flight(anyio.Event(), task, has_seen_failure)
            flight = self._by_key.setdefault(place, own)
            if flight is own:
                with self._leading(place, own):
                    value = await function()
                    own.value = (value,)
                return value
            if flight.owner == task:  # the function asks for itself
                return await function()
            with _waiting(task, flight):
                await flight.landed.wait()
            outcome = flight.outcome()
            if outcome is not None:
                return outcome[0]  # type: ignore[no-any-return]
            has_seen_failure = has_seen_failure or flight.error is not None

    def is_in_flight(self, key: Hashable) -> bool:
        """Whether a call for this key is being made in this event loop."""
        return (anyio.lowlevel.current_token(), key) in self._by_key
