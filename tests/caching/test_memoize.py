"""``cached``: one call for each key, stale values where that is better, and nobody who waits for ever."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import inspect
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from cachetools.keys import hashkey, typedkey

from hotpath.caching import background
from hotpath.caching.memoize import cached
from hotpath.caching.single_flight import SingleFlight
from hotpath.errors import DeclarationError
from hotpath.testing import FakeClock


def counting(**options: Any) -> tuple[Any, list[int]]:
    calls: list[int] = []

    @cached(**options)
    def double(n: int) -> int:
        calls.append(n)
        return n * 2

    return double, calls


def test_a_value_is_made_once() -> None:
    double, calls = counting(max_entries=2)
    assert [double(1), double(1), double(2), double(n=1)] == [2, 2, 4, 2]
    assert calls == [1, 2, 1], "by name is another key, as functools has it"
    assert double.cache_info()[:4] == (1, 3, 2, 2)
    assert double.invalidate(2)
    assert not double.invalidate(2)
    double.cache_clear()
    assert double.cache_info().currsize == 0


def test_without_options_too_and_the_function_stays_itself() -> None:
    @cached
    def named(n: int, *, other: str = "x") -> str:
        """What it does."""
        return other * n

    assert named(2, other="a") == "aa"
    assert (getattr(named, "__name__", None), named.__doc__) == ("named", "What it does.")
    assert str(inspect.signature(named)) == "(n: 'int', *, other: 'str' = 'x') -> 'str'"


def test_the_key_can_be_made_from_the_arguments() -> None:
    calls = []

    @cached(key=lambda request: request["path"])
    def page(request: dict[str, str]) -> str:
        calls.append(request)
        return request["path"]

    assert page({"path": "/a"}) == page({"path": "/a", "other": "1"}) == "/a"
    assert len(calls) == 1


def test_a_stale_value_in_its_last_moment_and_a_failure_that_is_not_kept_are_no_error() -> None:
    clock = FakeClock(0.0)

    @cached(ttl=1, stale_if_error=1, failure_ttl=1e-320, cache_exceptions=(ValueError,), clock=clock)
    def fails_later() -> int:
        if clock.now > 1:
            raise ValueError("no data")
        return 7

    assert fails_later() == 7
    clock.advance(2 - 1e-9)
    assert fails_later() == 7
    clock.advance(1)
    for _ in range(2):
        with pytest.raises(ValueError, match="no data"):
            fails_later()


def test_keys_are_those_of_cachetools() -> None:
    double, calls = counting()
    double(1)
    double(n=2)
    assert [*double.cache] == [hashkey(1), hashkey(n=2)]
    typed, calls = counting(key=typedkey)
    assert [typed(1), typed(1.0), typed(True), typed(1)] == [2, 2, 2, 2]
    assert [*map(type, calls)] == [int, float, bool]


def test_none_is_a_value() -> None:
    calls = []

    @cached
    def nothing() -> None:
        calls.append(1)

    assert (nothing(), nothing(), len(calls)) == (None, None, 1)


@pytest.mark.parametrize(
    "options",
    [
        {"key": len, "typed": True},
        {"ttl": 0},
        {"ttl": float("nan")},
        {"ttl": 1e-320},
        {"ttl": 1e308},
        {"stale_if_error": 5},
        {"ttl": 1, "stale_while_revalidate": -1},
        {"max_entries": None},
        {"max_entries": 0},
    ],
)
def test_what_cannot_work_is_refused_where_it_is_written(options: dict[str, Any]) -> None:
    with pytest.raises(DeclarationError):
        cached(**options)(lambda: 1)
    with pytest.raises(DeclarationError):
        cached(7)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("option", "instead"),
    [
        ("typed", "key=typedkey"),
        ("maxsize", "max_entries="),
        ("getsizeof", "sizer="),
        ("lock", "safe for threads"),
        ("cache", "write its bounds"),
        ("seconds", "its options are ttl, max_entries"),
    ],
)
def test_options_of_other_caches_are_refused_with_what_to_write(option: str, instead: str) -> None:
    with pytest.raises(DeclarationError, match=rf"no {option}=: .*{instead}"):
        cached(**{option: True})  # type: ignore[call-overload]


def test_exceptions_are_not_kept_unless_asked() -> None:
    calls = []
    clock = FakeClock()

    @cached(cache_exceptions=(KeyError,), failure_ttl=5, clock=clock)
    def failing(kind: type[Exception]) -> None:
        calls.append(kind)
        raise kind("no")

    for _ in range(3):
        with pytest.raises(ValueError, match="no"):
            failing(ValueError)
        with pytest.raises(KeyError):
            failing(KeyError)
    assert (calls.count(ValueError), calls.count(KeyError)) == (3, 1)
    clock.advance(5)
    with pytest.raises(KeyError):
        failing(KeyError)
    assert calls.count(KeyError) == 2


def test_a_stale_value_is_served_when_making_it_fails_and_a_dead_backend_is_not_hammered() -> None:
    clock = FakeClock()
    calls: list[float] = []
    dead: list[bool] = []

    @cached(ttl=10, stale_if_error=100, failure_ttl=5, clock=clock)
    def price() -> int:
        calls.append(clock.now)
        if dead:
            raise ConnectionError("backend")
        return 7

    assert price() == 7
    dead.append(True)
    clock.advance(11)
    assert [price() for _ in range(20)] == [7] * 20
    assert len(calls) == 2
    clock.advance(6)
    assert price() == 7
    assert len(calls) == 3
    clock.advance(100)
    with pytest.raises(ConnectionError):
        price()
    dead.clear()
    assert price() == 7


def test_a_stale_value_is_served_while_it_is_made_anew() -> None:
    clock = FakeClock()
    state = {"n": 1}
    go_on, made = threading.Event(), threading.Event()
    go_on.set()

    @cached(ttl=10, stale_while_revalidate=60, clock=clock)
    def value() -> int:
        assert go_on.wait(10)
        found = state["n"]
        made.set()
        return found

    assert value() == 1
    state["n"] = 2
    made.clear()
    go_on.clear()
    clock.advance(15)
    assert [value() for _ in range(5)] == [1] * 5
    go_on.set()
    assert made.wait(10)
    deadline = time.monotonic() + 10
    while value() != 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    clock.advance(100)
    state["n"] = 3
    assert value() == 3, "past its grace the caller waits"


# One call at a time


def in_threads(count: int, function: Callable[[], Any]) -> list[Any]:
    found: list[Any] = []

    def work() -> None:
        try:
            found.append(function())
        except Exception as error:
            found.append(type(error))

    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    return found


def test_two_hundred_threads_make_one_call() -> None:
    calls = []

    @cached
    def slow() -> int:
        calls.append(1)
        time.sleep(0.2)
        return 7

    assert in_threads(200, slow) == [7] * 200
    assert calls == [1]


def test_a_leader_that_raises_frees_its_waiters_and_one_of_them_tries_again() -> None:
    calls = []
    waiting = threading.Event()

    @cached
    def fails_once() -> int:
        calls.append(1)
        if len(calls) == 1:
            assert waiting.wait(10)
            raise ValueError("first")
        return 7

    threading.Timer(0.2, waiting.set).start()
    found = in_threads(20, fails_once)
    assert sorted(found, key=str) == [7] * 19 + [ValueError]
    assert len(calls) == 2


def test_a_crowd_costs_a_failing_backend_two_calls() -> None:
    calls = []
    waiting = threading.Event()

    @cached
    def fails() -> int:
        calls.append(1)
        if len(calls) == 1:
            assert waiting.wait(10)
        time.sleep(0.3)
        raise ValueError(len(calls))

    threading.Timer(0.2, waiting.set).start()
    found = in_threads(100, fails)
    assert found == [ValueError] * 100
    assert len(calls) == 2


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_crowd_of_tasks_costs_a_failing_backend_two_calls(backend: str) -> None:
    calls = []
    found = []

    @cached
    async def fails() -> int:
        calls.append(1)
        await anyio.sleep(0.05)
        raise ValueError(len(calls))

    async def one() -> None:
        try:
            await fails()
        except ValueError as error:
            found.append(error)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(1000):
                group.start_soon(one)

    anyio.run(main, backend=backend)
    assert (len(found), len(calls)) == (1000, 2)


def test_a_function_that_asks_for_itself_does_not_wait_for_itself() -> None:
    @cached
    def depth(n: int) -> int:
        return 0 if n == 0 else 1 + depth(n - 1)

    assert depth(50) == 50
    flight: SingleFlight[int] = SingleFlight()
    assert flight.call("a", lambda: flight.call("a", lambda: 7)) == 7


@pytest.mark.parametrize("length", [2, 3])
def test_calls_that_would_wait_for_each_other_raise(length: int) -> None:
    barrier = threading.Barrier(length)
    first = threading.local()

    def make(place: int) -> Any:
        @cached
        def step(n: int) -> int:
            if not getattr(first, "done", False):
                first.done = True
                barrier.wait(10)
            return int(steps[(place + 1) % length](n))

        return step

    steps = [make(place) for place in range(length)]
    outcomes: list[Any] = []

    def work(place: int) -> None:
        try:
            outcomes.append(steps[place](1))
        except RecursionError as error:
            outcomes.append(type(error))

    threads = [threading.Thread(target=work, args=(place,), daemon=True) for place in range(length)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert outcomes == [RecursionError] * length


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_tasks_that_would_wait_for_each_other_raise(backend: str) -> None:
    outcomes: list[Any] = []

    @cached
    async def one(n: int) -> int:
        await anyio.sleep(0.01)
        return await two(n)

    @cached
    async def two(n: int) -> int:
        await anyio.sleep(0.01)
        return await one(n)

    async def work(step: Any) -> None:
        try:
            outcomes.append(await step(1))
        except RecursionError as error:
            outcomes.append(type(error))

    async def main() -> None:
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(work, one)
                group.start_soon(work, two)

    anyio.run(main, backend=backend)
    assert outcomes == [RecursionError] * 2


def test_waiting_in_a_row_is_no_circle() -> None:
    """One that waited for this thread's earlier call is not waiting for its later one."""

    @cached(max_entries=1)
    def slow(n: int) -> int:
        time.sleep(0.001)
        return other(n)

    @cached(max_entries=1)
    def other(n: int) -> int:
        time.sleep(0.001)
        return n

    def work() -> int:
        return sum(slow(n % 3) + other(n % 2) for n in range(60))

    assert in_threads(8, work) == [work()] * 8


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_thousand_tasks_make_one_call(backend: str) -> None:
    calls = []

    @cached(ttl=60)
    async def slow(n: int) -> int:
        calls.append(n)
        await anyio.sleep(0.05)
        return n

    found: list[int] = []

    async def main() -> None:
        async def one() -> None:
            found.append(await slow(7))

        async with anyio.create_task_group() as group:
            for _ in range(1000):
                group.start_soon(one)
        assert await slow(7) == 7

    anyio.run(main, backend=backend)
    assert (found, calls) == ([7] * 1000, [7])


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("how", ["raises", "cancelled", "times out"])
def test_no_task_waits_for_a_leader_that_is_gone(backend: str, how: str) -> None:
    calls = []

    @cached
    async def value() -> int:
        calls.append(1)
        if len(calls) == 1:
            await anyio.sleep(0.05)
            if how == "raises":
                raise ValueError("first")
            await anyio.sleep(100)
        return 7

    found: list[int] = []

    async def main() -> None:
        async def follow() -> None:
            found.append(await value())

        async def lead(scope: anyio.CancelScope) -> None:
            with scope:
                try:
                    await value()
                except ValueError:
                    return

        leading = anyio.CancelScope(deadline=anyio.current_time() + 0.1 if how == "times out" else float("inf"))
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(lead, leading)
                await anyio.sleep(0.01)
                for _ in range(20):
                    group.start_soon(follow)
                await anyio.sleep(0.08)
                if how == "cancelled":
                    leading.cancel()

    anyio.run(main, backend=backend)
    assert found == [7] * 20
    assert len(calls) == 2


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_tasks_get_the_stale_value_while_it_is_made_anew(backend: str) -> None:
    """Nobody waits, not even who came first."""
    clock = FakeClock()
    calls = []

    async def main() -> None:
        go_on, made_anew = anyio.Event(), anyio.Event()

        @cached(ttl=10, stale_while_revalidate=60, clock=clock)
        async def value() -> int:
            calls.append(1)
            if len(calls) > 1:
                await go_on.wait()
                made_anew.set()
            return len(calls)

        await value()
        clock.advance(15)
        with anyio.fail_after(5):
            for _ in range(5):
                assert await value() == 1
                await anyio.lowlevel.checkpoint()
            go_on.set()
            await made_anew.wait()
            await anyio.sleep(0.01)
            assert await value() == 2

    anyio.run(main, backend=backend)
    assert len(calls) == 2


# Methods, and what a function sees


def test_a_method_has_a_cache_for_each_instance_and_keeps_none_alive() -> None:
    class Shop:
        def __init__(self, factor: int) -> None:
            self.factor = factor
            self.calls = 0

        @cached(max_entries=10)
        def price(self, n: int) -> int:
            self.calls += 1
            return n * self.factor

        @cached
        async def later(self, n: int) -> int:
            self.calls += 1
            return n + self.factor

    one, two = Shop(2), Shop(3)
    assert [one.price(5), one.price(5), two.price(5)] == [10, 10, 15]
    assert (one.calls, two.calls) == (1, 1)
    assert asyncio.run(one.later(1)) == asyncio.run(one.later(1)) == 3
    gone = weakref.ref(one)
    del one
    gc.collect()
    assert gone() is None
    assert two.price(5) == 15


def test_context_variables_are_the_callers() -> None:
    who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")
    seen = []

    @cached
    def greet(n: int) -> str:
        seen.append(who.get())
        who.set("changed")
        return who.get()

    who.set("me")
    greet(1)
    assert (seen, who.get()) == (["me"], "changed")


def test_bytes_are_those_of_the_values() -> None:
    @cached(max_bytes=10_000)
    def text(n: int) -> str:
        return "x" * 3000

    for number in range(10):
        text(number)
    assert text.cache_info().currsize == 3
    assert 9000 < text.cache_info().bytes <= 10_000


def test_what_has_expired_is_let_go_of_by_the_next_call_that_makes_something() -> None:
    clock = FakeClock()

    class Page:
        pass

    @cached(ttl=10, clock=clock)
    def page(number: int) -> Page:
        return Page()

    first = weakref.ref(page(1))
    clock.advance(11)
    page(2)
    gc.collect()
    assert first() is None


def test_arguments_that_cannot_be_a_key_are_named_with_what_to_write() -> None:
    @cached
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    with pytest.raises(DeclarationError, match=r"total was called with .*unhashable type: 'list'.*key=lambda"):
        total([1, 2])


def test_objects_that_are_equal_have_a_cache_each() -> None:
    class Shop:
        def __init__(self, factor: int) -> None:
            self.factor = factor

        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None  # type: ignore[assignment]

        @cached
        def times(self, n: int) -> int:
            return self.factor * n

    one, two = Shop(2), Shop(3)
    assert (one.times(5), two.times(5), one.times(5)) == (10, 15, 10)


def test_an_object_that_a_cache_would_keep_alive_is_refused() -> None:
    class Shop:
        __slots__ = ()

        @cached
        def five(self) -> int:
            return 5

    with pytest.raises(DeclarationError, match="__weakref__"):
        Shop().five()


def test_a_failure_that_is_remembered_does_not_grow() -> None:
    @cached(ttl=60, cache_exceptions=(ValueError,), failure_ttl=60)
    def fails() -> int:
        raise ValueError("no data")

    lengths = []
    for _ in range(50):
        with pytest.raises(ValueError, match="no data") as caught:
            fails()
        lengths.append(len([*traceback.walk_tb(caught.value.__traceback__)]))
    assert max(lengths[1:]) == min(lengths[1:])


def test_what_was_forgotten_while_it_was_made_is_not_kept() -> None:
    source = [1]
    reading, go_on = threading.Event(), threading.Event()

    @cached
    def load(key: str) -> int:
        found = source[0]
        reading.set()
        go_on.wait(5)
        return found

    thread = threading.Thread(target=load, args=("k",))
    thread.start()
    assert reading.wait(5)
    source[0] = 2
    assert not load.invalidate("k")
    go_on.set()
    thread.join()
    assert load("k") == 2


def test_a_remembered_none_can_be_forgotten() -> None:
    @cached
    def nothing() -> None:
        return None

    nothing()
    assert nothing.invalidate()
    assert not nothing.invalidate()


def test_generators_are_refused() -> None:
    with pytest.raises(DeclarationError, match="is a generator, which is empty the second time"):

        @cached
        def rows() -> Iterator[int]:
            yield 1


class Quote:
    """An object that is called."""

    def __call__(self, n: int) -> int:
        return n + 1


class AsyncQuote:
    """An object whose call is awaited."""

    async def __call__(self, n: int) -> int:
        return n + 1


async def add(m: int, n: int) -> int:
    return m + n


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (Quote(), "Quote"),
        (functools.partial(max, 2), "max"),
        (functools.partial(Quote()), "Quote"),
        (AsyncQuote(), "AsyncQuote"),
        (functools.partial(add, 1), "add"),
        (functools.partial(AsyncQuote()), "AsyncQuote"),
    ],
)
def test_whatever_can_be_called_can_be_cached(function: Callable[..., Any], name: str) -> None:
    memo = cached(function)
    results = [memo(2), memo(2)]
    if inspect.isawaitable(results[0]):
        results = [asyncio.run(result) for result in results]
    assert results in ([3, 3], [2, 2])
    assert memo.cache_info().hits == 1
    assert memo.cache.name.endswith(f".{name}")


def test_a_plain_function_that_returns_a_coroutine_is_refused_by_its_first_call() -> None:
    @cached
    def later(n: int) -> Any:
        return add(1, n)

    for _ in range(2):
        with pytest.raises(DeclarationError, match="later returned a coroutine"):
            later(1)


def test_an_object_whose_call_is_a_generator_is_refused() -> None:
    class Rows:
        def __call__(self) -> Iterator[int]:
            yield 1

    with pytest.raises(DeclarationError, match=r"Rows is a generator"):
        cached(Rows())


def test_an_async_function_with_a_key_is_one_still() -> None:
    @cached(key=lambda n: n)
    async def page(n: int) -> int:
        return n

    assert inspect.iscoroutinefunction(page)
    assert asyncio.run(page(3)) == 3


def test_a_sizer_sees_values_only() -> None:
    @cached(max_bytes=10_000, sizer=lambda key, value: len(value), cache_exceptions=(ValueError,))
    def text(n: int) -> str:
        if n:
            raise ValueError("no data")
        return "x"

    assert text(0) == "x"
    with pytest.raises(ValueError, match="no data"):
        text(1)


def test_many_stale_values_are_made_anew_by_a_few_threads() -> None:
    now = [0.0]
    gate = threading.Event()

    @cached(ttl=1, stale_while_revalidate=100, clock=lambda: now[0])
    def load(n: int) -> int:
        if now[0]:
            gate.wait(10)
        return n

    for n in range(50):
        load(n)
    now[0] = 2.0
    assert [load(n) for n in range(50)] == [*range(50)]
    names = [thread.name for thread in threading.enumerate()]
    assert names.count("hotpath-revalidate") == background.MAX_THREADS
    gate.set()
    deadline = time.monotonic() + 5
    while "hotpath-revalidate" in [thread.name for thread in threading.enumerate()] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "hotpath-revalidate" not in [thread.name for thread in threading.enumerate()]
