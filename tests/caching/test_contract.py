"""The mapping contract and the use of each entry, of every cache and of cachetools' own; ours under threads too."""

from __future__ import annotations

import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, MutableMapping
from typing import Any
from uuid import UUID

import cachetools
import pytest

from hotpath.caching.lru import LRUCache
from hotpath.caching.sizing import ENTRY_BYTES, weigh
from hotpath.caching.ttl import TTLCache

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
threading.excepthook = lambda raised: wrong.append(repr(raised.exc_value))

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
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert len(cache) <= 50
assert not wrong, wrong
print("whole")
"""

Make = Callable[[int], MutableMapping[Any, Any]]
MAKERS: dict[str, Make] = {
    "LRUCache": LRUCache,
    "LRUCache, bytes": lambda size: LRUCache(size, 1_000_000),
    "TTLCache": lambda size: TTLCache(size, 600),
    "TTLCache, bytes": lambda size: TTLCache(size, 600, 1_000_000),
    "cachetools.LRUCache": cachetools.LRUCache,
    "cachetools.TTLCache": lambda size: cachetools.TTLCache(size, 600),
}


@pytest.fixture(params=MAKERS)
def make(request: pytest.FixtureRequest) -> Make:
    return MAKERS[request.param]


def test_the_least_recently_used_goes(make: Make) -> None:
    cache = make(3)
    for key in "abc":
        cache[key] = key
    assert cache["a"] == "a"
    assert cache.get("b") == "b"
    cache["d"] = "d"
    assert sorted(cache) == ["a", "b", "d"]
    cache["a"] = "new"
    cache["e"] = "e"
    assert sorted(cache) == ["a", "d", "e"]
    assert len(cache) == 3


def test_the_mapping_contract(make: Make) -> None:
    cache = make(10)
    assert cache.get("x") is None
    assert cache.get("x", 7) == 7
    for raises in (lambda: cache["x"], lambda: cache.pop("x"), cache.popitem):
        with pytest.raises(KeyError):
            raises()
    with pytest.raises(KeyError):
        del cache["x"]
    assert cache.setdefault("x", 1) == 1
    assert cache.setdefault("x", 2) == 1
    assert ("x" in cache, "y" in cache) == (True, False)
    cache.update(y=2, z=3)
    assert dict(cache) == {"x": 1, "y": 2, "z": 3}
    assert cache.pop("y") == 2
    assert cache.pop("y", None) is None
    cache["x"]
    assert cache.popitem() == ("z", 3)
    del cache["x"]
    assert not cache
    cache["x"] = None
    assert cache["x"] is None
    cache.clear()
    assert list(cache) == []


def test_a_missing_key_can_be_made(make: Make) -> None:
    kind = type(make(2))

    class Making(kind):  # type: ignore[valid-type, misc]
        def __missing__(self, key: int) -> int:
            self[key] = key * 2
            return key * 2

    cache = Making(2, 600) if "TTL" in kind.__name__ else Making(2)
    assert (cache[4], cache.get(5), len(cache)) == (8, None, 1)


def test_what_cannot_be_hashed_is_refused(make: Make) -> None:
    with pytest.raises(TypeError):
        make(2)[[1]] = 1


# Ours alone: cachetools' classes are not safe for threads


OWN = [name for name in MAKERS if not name.startswith("cachetools")]


@pytest.mark.parametrize("name", OWN)
def test_eight_threads_at_once(name: str) -> None:
    cache: Any = MAKERS[name](64)
    problems: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for number in range(4000):
                key = number * seed % 97
                if number % 3:
                    value = cache.get(key)
                    assert value is None or value == key
                elif number % 50 == 0:
                    cache.pop(key, None)
                elif number % 333 == 0:
                    cache.shrink(0.5)
                else:
                    cache[key] = key
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    cache[1000] = 1000
    assert len(cache) <= 64
    assert all(cache[key] == key for key in cache)
    if cache.max_bytes is not None:
        assert cache.bytes == sum(weigh(key, value) + ENTRY_BYTES for key, value in cache.items())


class Held:
    """A key or value that can be referred to weakly."""


@pytest.mark.parametrize("name", MAKERS)
def test_whatever_leaves_is_not_held_any_longer(name: str) -> None:
    cache: Any = MAKERS[name](4)
    refs = []
    for _ in range(12):
        key, value = Held(), Held()
        refs += [weakref.ref(key), weakref.ref(value)]
        cache[key] = value
    cache.pop(key)
    del key, value
    cache.popitem()
    del cache[next(iter(cache))]
    cache.clear()
    if isinstance(cache, LRUCache):
        assert cache.bytes == 0
    assert [ref() for ref in refs] == [None] * 24


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "seconds"), [("class", 1), *((kind, 8) for kind in ("class", "uuid"))])
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
