"""What a review of the caches found, so that it stays found."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from uuid import UUID

import pytest

from hotpath.caching import background
from hotpath.caching.lru import LRUCache
from hotpath.caching.memoize import cached
from hotpath.caching.sizing import size_of
from hotpath.caching.ttl import TTLCache
from hotpath.errors import DeclarationError

HAMMER = """
import random, sys, threading, time, uuid
from hotpath.caching.lru import LRUCache
from hotpath.caching.memoize import cached

sys.setswitchinterval(1e-6)

class Key:
    def __init__(self, n):
        self.n = n
    def __hash__(self):
        return hash((self.n,))
    def __eq__(self, other):
        return self.n == other.n

make = {"uuid": lambda n: uuid.UUID(int=n), "class": Key}[sys.argv[1]]
cache = LRUCache(50)

@cached(max_entries=30)
def remembered(key):
    return key

until = time.monotonic() + float(sys.argv[2])

wrong = []
threading.excepthook = lambda found: wrong.append(repr(found.exc_value))

def run():
    dice = random.Random()
    while time.monotonic() < until:
        key, turn = make(dice.randrange(100)), dice.random()
        if turn < .3:
            cache[key] = 1
        elif turn < .6:
            cache.get(key)
        elif turn < .62:
            cache.pop(key, None)
        elif turn < .63:
            cache.clear()
        elif turn < .65:
            cache.shrink(.5)
        assert remembered(key) == key

threads = [threading.Thread(target=run) for _ in range(6)]
for one in threads:
    one.start()
for one in threads:
    one.join()
assert len(cache) <= 50
assert not wrong, wrong
print("whole")
"""


@pytest.mark.parametrize(
    ("kind", "seconds"), [("class", 2), *(pytest.param(kind, 8, marks=pytest.mark.slow) for kind in ("class", "uuid"))]
)
def test_keys_whose_hash_is_python_code_hold_under_threads(kind: str, seconds: int) -> None:
    """A process of its own: what was wrong here ended it with SIGSEGV."""
    command = [sys.executable, "-c", HAMMER, kind, str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "whole\n"), done.stderr[-500:]


def test_such_a_key_changes_nothing_that_is_seen() -> None:
    for cache in (LRUCache[object, int](2), TTLCache[object, int](2, 60), LRUCache[object, int](None, 10_000)):
        cache["a"] = 1
        cache[UUID(int=1)] = 2
        assert cache["a"] == 1
        if cache.max_entries == 2:
            cache[UUID(int=2)] = 3
            assert UUID(int=1) not in cache
            assert "a" in cache


def test_large_lists_are_weighed_by_all_they_hold() -> None:
    texts = ["x" * 1000 + str(n) for n in range(100_000)]
    real = sys.getsizeof(texts) + sum(map(sys.getsizeof, texts))
    assert 0.8 * real < size_of(texts) < 1.25 * real
    rows = [{"id": n, "name": f"name {n}", "note": "x" * 300 + str(n)} for n in range(20_000)]
    real = sys.getsizeof(rows) + sum(sys.getsizeof(row) + sum(map(sys.getsizeof, row.values())) for row in rows)
    assert 0.7 * real < size_of(rows) < 1.4 * real


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


@pytest.mark.parametrize("make", [lambda: LRUCache(3), lambda: TTLCache(3, ttl=60)], ids=["lru", "ttl"])
def test_what_goes_while_one_looks_at_all_of_it_is_no_error(make: Callable[[], LRUCache[str, int]]) -> None:
    for look in (LRUCache.items, LRUCache.values):
        cache = make()
        cache.update(a=1, b=2, c=3)
        seen = []
        for found in look(cache):
            seen.append(found)
            cache.pop("b", None)  # as another thread may
        assert seen in ([("a", 1), ("c", 3)], [1, 3])
    cache = make()
    cache.update(a=1, b=2)
    assert dict(cache.items()) == {"a": 1, "b": 2}
    assert ("a", 1) in cache.items()
    assert 3 not in cache.values()
    assert (len(cache.items()), len(cache.values())) == (2, 2)
