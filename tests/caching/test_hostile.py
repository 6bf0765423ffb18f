"""Keys whose Python code runs in the middle of an operation, and values whose end runs some: no crash, no deadlock."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from hotpath.caching.lru import LRUCache
from hotpath.caching.memoize import cached
from hotpath.caching.ttl import TTLCache

SECONDS = 5

# Keys that equal an int or a str and whose hash and comparison are Python code, beside threads that write.
BESIDE_WRITERS = """
import enum, fractions, random, sys, threading, time
from hotpath.caching import LRUCache, TTLCache, cached

sys.setswitchinterval(1e-6)

class Text(str):
    def __hash__(self): return hash(str(self))
    def __eq__(self, other): return str(self) == str(other)

class Number(int):
    def __hash__(self): return hash(int(self))
    def __eq__(self, other): return int(self) == other

kind, operation, key = sys.argv[1:]
plain = str if key == "Text" else int
other = {"Fraction": fractions.Fraction, "Text": lambda n: Text(n), "Number": Number}[key]
cache = {"lru": lambda: LRUCache(50), "bytes": lambda: LRUCache(50, 10**6), "ttl": lambda: TTLCache(50, 600)}.get(kind)
cache = cache and cache()
memo = cached(max_entries=50, ttl=600 if kind == "timed" else None)(lambda n: 1)
pair = cached(max_entries=50)(lambda m, n: 1)
use = {
    "get": lambda k: cache.get(k), "[]": lambda k: cache.__getitem__(k), "pop": lambda k: cache.pop(k),
    "setdefault": lambda k: cache.setdefault(k, 1), "tuple": lambda k: cache.get((k, 1)),
    "call": lambda k: memo(k), "invalidate": lambda k: memo.invalidate(k), "pair": lambda k: pair(1, k),
}[operation]
put = {
    "call": lambda k: memo(k), "invalidate": lambda k: memo(k), "pair": lambda k: pair(1, k),
    "tuple": lambda k: cache.__setitem__((k, 1), 1),
}.get(operation, lambda k: cache.__setitem__(k, 1))
until = time.monotonic() + 1

def run(make, act):
    dice = random.Random()
    while time.monotonic() < until:
        try:
            act(make(dice.randrange(100)))
        except KeyError:
            pass

threads = [threading.Thread(target=run, args=pair) for pair in 3 * [(plain, put), (other, use)]]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert cache is None or len(cache) <= 50
print("whole")
"""

# A comparison that changes the cache which is comparing, in the same thread.
CHANGES = """
import random
from hotpath.caching import LRUCache, TTLCache
random.seed(1)
for cache in LRUCache(50), LRUCache(50, 100_000), TTLCache(50, 600):
    class Key:
        def __init__(self, n): self.n = n
        def __hash__(self): return self.n % 3
        def __eq__(self, other):
            if random.random() < .3: cache.clear()
            if random.random() < .3: cache[Key(random.randrange(50))] = 1
            return self.n == other.n
    raised = 0
    for n in range(5000):
        for act in (lambda: cache.__setitem__(Key(n % 60), n), lambda: cache.get(Key(n % 7)),
                    lambda: cache.pop(Key(n % 5), None), lambda: list(cache), lambda: cache.setdefault(Key(n % 9), 1)):
            try:
                act()
            except (KeyError, RuntimeError):
                raised += 1
    assert raised and len(cache) <= 50, (raised, len(cache))
print("whole")
"""


def outcome(code: str, *arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stdout + done.stderr[-500:]


@pytest.mark.parametrize(
    ("kind", "operation", "key"),
    [
        ("lru", "[]", "Fraction"),
        ("plain", "invalidate", "Fraction"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in [
                *(
                    (kind, operation, key)
                    for kind in ("lru", "bytes", "ttl")
                    for operation, key in [("get", "Fraction"), ("pop", "Number"), ("setdefault", "Text")]
                ),
                ("lru", "tuple", "Fraction"),
                ("plain", "call", "Fraction"),
                ("plain", "pair", "Fraction"),
                ("timed", "call", "Text"),
                ("timed", "invalidate", "Number"),
            ]
        ),
    ],
)
def test_a_key_that_equals_a_plain_one_beside_writers_does_not_crash(kind: str, operation: str, key: str) -> None:
    """A process of its own: what was wrong here ended it with SIGSEGV."""
    assert outcome(BESIDE_WRITERS, kind, operation, key) == (0, "whole\n")


def test_a_comparison_that_changes_the_cache_raises_and_does_not_crash() -> None:
    assert outcome(CHANGES) == (0, "whole\n")


def test_a_hit_by_an_equal_key_counts_as_a_use() -> None:
    class Text(str):
        __slots__ = ()

        def __hash__(self) -> int:
            return hash(str(self))

        def __eq__(self, other: object) -> bool:
            return str(self) == other

    for cache in (LRUCache[str, int](2), TTLCache[str, int](2, 60), LRUCache[str, int](2, 10_000)):
        cache.update(a=1, b=2)
        assert cache[Text("a")] == cache.get(Text("a")) == 1
        cache["c"] = 3
        assert list(cache) == ["a", "c"]


def test_a_value_whose_end_clears_the_cache_leaves_its_bound() -> None:
    cache: LRUCache[int, Any] = LRUCache(5)

    class Clears:
        def __del__(self) -> None:
            cache.clear()

    cache[1] = Clears()
    cache[1] = 2
    for number in range(10, 100):
        cache[number] = number
    assert list(cache) == [95, 96, 97, 98, 99]


class Waits:
    """Its end waits for another thread, which uses the cache."""

    def __init__(self, use: Callable[[], Any], ended: list[bool], key: object = None) -> None:
        self.use, self.ended, self.key = use, ended, key

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Waits) and self.key == other.key

    def __del__(self) -> None:
        thread = threading.Thread(target=self.use, daemon=True)
        thread.start()
        thread.join(SECONDS)
        self.ended.append(not thread.is_alive())


LEAVING: dict[str, Callable[[Any, Any], Any]] = {
    "stored again": lambda cache, key: cache.__setitem__(key, 1),
    "evicted": lambda cache, key: [cache.__setitem__(n, 1) for n in range(10)],
    "popped": lambda cache, key: cache.pop(key) and None,
    "deleted": lambda cache, key: cache.__delitem__(key),
    "cleared": lambda cache, key: cache.clear(),
    "shrunk": lambda cache, key: cache.shrink(0),
    "popitem": lambda cache, key: cache.popitem() and None,
    "evicted by setdefault": lambda cache, key: [cache.setdefault(n, 1) for n in range(10)],
    "updated": lambda cache, key: cache.update(dict.fromkeys(range(10), 1)),
}


@pytest.mark.parametrize("how", LEAVING)
@pytest.mark.parametrize("is_key", [False, True], ids=["value", "key"])
@pytest.mark.parametrize(
    "make",
    [lambda: LRUCache(3), lambda: LRUCache(3, 10_000), lambda: TTLCache(3, 60), lambda: TTLCache(3, 60, 10_000)],
    ids=["LRUCache", "LRUCache, bytes", "TTLCache", "TTLCache, bytes"],
)
def test_what_leaves_is_freed_after_the_lock(make: Callable[[], Any], how: str, *, is_key: bool) -> None:
    cache = make()
    ended: list[bool] = []

    def use() -> None:
        cache["other"] = 1
        cache.get("other")
        cache.pop("other", None)

    class Key:
        def __hash__(self) -> int:
            return 7

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Key | Waits)

    if is_key:
        cache[Waits(use, ended, 7)] = "x"
        cache.get("nothing")
    else:
        cache[Key()] = Waits(use, ended)
    equal = Waits(lambda: None, [], 7) if is_key else Key()
    LEAVING[how](cache, equal)
    if is_key:
        cache.clear()  # a key that is stored again stays the first
    del equal
    gc.collect()
    assert ended == [True]


def test_an_expired_value_is_freed_after_the_lock() -> None:
    now = [0.0]
    for expire in (lambda cache: cache.expire(), lambda cache: cache.get(1), lambda cache: cache.set(1, 1), len):
        cache: TTLCache[Any, Any] = TTLCache(10, 1, clock=lambda: now[0])
        ended: list[bool] = []
        cache["a"] = Waits(lambda cache=cache: cache.set("other", 1), ended)  # type: ignore[misc]
        now[0] += 10
        expire(cache)
        assert ended == [True]


def test_hits_beside_writes_that_renew_the_queue_of_lifetimes_are_no_error() -> None:
    cache: TTLCache[int, int] = TTLCache(2000, 600)
    for number in range(2000):
        cache[number] = number
    problems: list[BaseException] = []
    done = threading.Event()

    def read() -> None:
        number = 0
        while not done.is_set():
            number = (number + 7) % 2000
            cache.get(number)

    def write() -> None:
        try:
            for number in range(60_000):
                cache[number % 2000] = number
        except BaseException as error:
            problems.append(error)
        done.set()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=target) for target in (read, write)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert problems == []


def test_a_cached_function_goes_on_from_its_cache_after_a_hostile_key() -> None:
    class Key:
        def __hash__(self) -> int:
            return 1

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Key)

    for options in ({}, {"ttl": 60}):
        calls: list[Any] = []
        memo = cached(max_entries=3, **options)(lambda n, calls=calls: calls.append(n))  # type: ignore[call-overload]
        for n in (1, Key(), 1, Key(), 2, 1, 3, 1):
            memo(n)
        assert len(calls) == 4
        assert memo.cache_info().currsize == 3
