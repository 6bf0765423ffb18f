"""What every cache keeps: its bounds, its mapping contract, and the use of each entry; beside cachetools' own."""

from __future__ import annotations

import gc
import threading
from collections import OrderedDict
from collections.abc import Callable, MutableMapping
from typing import Any

import cachetools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hotpath.caching.lru import LRUCache, registered, stats
from hotpath.caching.sizing import ENTRY_BYTES, size_of
from hotpath.caching.ttl import TTLCache
from hotpath.errors import DeclarationError
from hotpath.testing import FakeClock

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


# Bounds


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"max_entries": None}, "needs a bound"),
        ({"max_entries": 0}, "1 or more"),
        ({"max_entries": -5}, "1 or more"),
        ({"max_entries": True}, "1 or more"),
        ({"max_entries": 1.5}, "1 or more"),
        ({"max_bytes": 0}, "1 or more"),
        ({"sizer": len}, "no max_bytes"),
    ],
)
@pytest.mark.parametrize("kind", [LRUCache, TTLCache])
def test_without_a_bound_nothing_is_built(kind: Any, options: dict[str, Any], told: str) -> None:
    with pytest.raises(DeclarationError, match=told):
        kind(**options)


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), float("inf"), "60"])
def test_a_lifetime_that_cannot_be_is_refused(ttl: Any) -> None:
    with pytest.raises(DeclarationError, match="seconds"):
        TTLCache(ttl=ttl)
    with pytest.raises(DeclarationError, match="seconds"):
        TTLCache[str, int]().set("a", 1, ttl)


def test_bytes_of_keys_values_and_entries_are_bounded() -> None:
    cache: LRUCache[int, bytes] = LRUCache(None, 10 * (1000 + ENTRY_BYTES), sizer=lambda key, value: len(value))
    for number in range(100):
        cache[number] = b"x" * 1000
    assert sorted(cache) == list(range(90, 100))
    assert cache.bytes == cache.currsize == cache.maxsize == 10 * (1000 + ENTRY_BYTES)
    cache[200] = b"x" * 20_000
    assert 200 not in cache
    assert len(cache) == 10, "what is above the maximum is not stored, and takes nothing out"
    cache[95] = b"x" * 20_000
    assert 95 not in cache, "the old value is not the value any more"


def test_values_without_any_size_cannot_make_it_unbounded() -> None:
    cache: LRUCache[int, None] = LRUCache(None, 10_000, sizer=lambda key, value: 0)
    for number in range(1000):
        cache[number] = None
    assert len(cache) == 10_000 // ENTRY_BYTES


@pytest.mark.parametrize("weight", [-1, 1.5, None, "7", True])
def test_a_sizer_that_gives_nonsense_is_told_and_nothing_is_stored(weight: Any) -> None:
    cache: LRUCache[str, int] = LRUCache(None, 1000, sizer=lambda key, value: weight)
    with pytest.raises(DeclarationError, match="whole number of bytes"):
        cache["a"] = 1
    assert (len(cache), cache.bytes) == (0, 0)


def test_a_sizer_that_raises_leaves_the_cache_as_it_was() -> None:
    cache: LRUCache[str, int] = LRUCache(None, 1000, sizer=lambda key, value: 10 // value)
    cache["a"] = 1
    before = cache.bytes
    with pytest.raises(ZeroDivisionError):
        cache["a"] = 0
    assert (dict(cache), cache.bytes) == ({"a": 1}, before)


def test_what_cannot_be_hashed_is_told(make: Make) -> None:
    with pytest.raises(TypeError):
        make(2)[[1]] = 1


def test_sizes() -> None:
    assert size_of(b"x" * 1000) - size_of(b"") == 1000
    shared = ["x" * 1000]
    assert size_of([shared, shared]) < size_of([["x" * 1000], ["y" * 1000]])
    assert size_of(list(range(100_000))) > 800_000
    loop: list[Any] = []
    loop.append(loop)
    assert size_of(loop) > 0

    class Slotted:
        __slots__ = ("held",)

        def __init__(self) -> None:
            self.held = "x" * 5000

    assert size_of(Slotted()) > 5000


# Time


def test_what_has_expired_is_never_returned_and_is_let_go_of_without_a_write() -> None:
    clock = FakeClock()
    cache: TTLCache[int, int] = TTLCache(100, 10, clock=clock)
    for number in range(50):
        cache[number] = number
    clock.advance(5)
    cache.set(99, 99, ttl=20)
    clock.advance(5)
    assert (0 in cache, cache.get(0), 99 in cache) == (False, None, True)
    with pytest.raises(KeyError):
        cache[1]
    clock.advance(10 / 64)
    for _ in range(5):
        cache.get(77)
    assert len(cache._data) == 1, "reads let go of it, a few each, after at most one 64th of its lifetime"
    assert cache.expire() == []
    assert list(cache) == [99]


def test_expire_returns_what_ended() -> None:
    clock = FakeClock()
    cache: TTLCache[str, int] = TTLCache(10, 10, clock=clock)
    cache["a"] = 1
    clock.advance(10)
    assert cache.expire() == [("a", 1)]


def test_a_value_that_is_stored_again_lives_anew() -> None:
    clock = FakeClock()
    cache: TTLCache[str, int] = TTLCache(10, 10, clock=clock)
    cache["a"] = 1
    clock.advance(8)
    cache["a"] = 2
    clock.advance(8)
    assert cache["a"] == 2
    for number in range(1000):
        cache["a"] = number
    assert sum(map(len, cache._ending.values())) == cache._queued < 100
    clock.advance(10)
    assert cache.expire() == [("a", 999)]


def test_jitter_lets_what_came_together_end_apart() -> None:
    clock = FakeClock()
    parts = iter([0.0, 0.5, 1.0])
    cache: TTLCache[int, int] = TTLCache(10, 100, jitter=0.2, clock=clock, chance=lambda: next(parts))
    for number in range(3):
        cache[number] = number
    clock.advance(85)
    assert list(cache) == [0, 1]
    clock.advance(10)
    assert list(cache) == [0]


# Shrinking, and what the guard and the metrics see


@pytest.mark.parametrize("options", [{"max_entries": 100}, {"max_entries": None, "max_bytes": 100 * 1100}])
def test_shrinking_keeps_what_was_used_last(options: dict[str, Any]) -> None:
    cache: LRUCache[int, bytes] = LRUCache(**options)
    for number in range(100):
        cache[number] = b"x" * (1100 - ENTRY_BYTES - size_of(b"") - size_of(1))
    assert cache.shrink(1.0) == 0
    released = cache.shrink(0.25)
    assert sorted(cache)[-1] == 99
    assert 20 <= len(cache) <= 26
    assert released > 60_000
    assert cache.shrink(0.0) > 0
    assert len(cache) == 0
    with pytest.raises(DeclarationError):
        cache.shrink(1.5)


def test_every_cache_is_found_by_its_name_as_long_as_it_lives() -> None:
    cache: LRUCache[str, int] = LRUCache(10, name="prices")
    cache["a"] = 1
    cache["a"]
    cache.get("b")
    assert stats()["prices"] == {"entries": 1, "bytes": 0, "hits": 1, "misses": 1, "evictions": 0}
    assert cache in registered()
    del cache
    gc.collect()
    assert "prices" not in stats()


# Every operation beside a naive model


class Model(RuleBasedStateMachine):
    """A cache of five entries and 2,000 bytes, beside the plainest thing that does the same."""

    def __init__(self) -> None:
        super().__init__()
        self.cache: LRUCache[int, int] = LRUCache(5, 2000, sizer=lambda key, value: value)
        self.model: OrderedDict[int, int] = OrderedDict()

    def weight(self) -> int:
        return sum(value + ENTRY_BYTES for value in self.model.values())

    @rule(key=st.integers(0, 8), value=st.integers(0, 2500))
    def store(self, key: int, value: int) -> None:
        self.cache[key] = value
        self.model.pop(key, None)
        if value + ENTRY_BYTES <= 2000:
            self.model[key] = value
            while len(self.model) > 5 or self.weight() > 2000:
                self.model.popitem(last=False)

    @rule(key=st.integers(0, 8))
    def read(self, key: int) -> None:
        assert self.cache.get(key) == self.model.get(key)
        if key in self.model:
            self.model.move_to_end(key)

    @rule(key=st.integers(0, 8))
    def take(self, key: int) -> None:
        assert self.cache.pop(key, None) == self.model.pop(key, None)

    @precondition(lambda self: self.model)
    @rule()
    def take_oldest(self) -> None:
        assert self.cache.popitem() == self.model.popitem(last=False)

    @rule(share=st.sampled_from([0.0, 0.5, 1.0]))
    def shrink(self, share: float) -> None:
        self.cache.shrink(share)
        while self.model and (len(self.model) > int(5 * share) or self.weight() > int(2000 * share)):
            self.model.popitem(last=False)

    @invariant()
    def same(self) -> None:
        assert list(self.cache) == list(self.model)
        assert self.cache.bytes == self.weight() <= 2000
        assert set(self.cache._weights) == set(self.model)


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(st.lists(st.integers(0, 30), max_size=200))
def test_exactly_the_last_ones_used_are_there(keys: list[int]) -> None:
    cache: LRUCache[int, int] = LRUCache(7)
    for key in keys:
        if cache.get(key) is None:
            cache[key] = key
    assert list(cache) == list(dict.fromkeys(reversed(keys)))[:7][::-1]


# Threads


@pytest.mark.parametrize("name", ["LRUCache", "LRUCache, bytes", "TTLCache", "TTLCache, bytes"])
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
        assert cache.bytes == sum(cache._weights.values())
        assert set(cache._weights) == set(cache._data)


def test_what_goes_may_use_the_cache_itself() -> None:
    cache: LRUCache[int, Any] = LRUCache(2, 10_000)

    class Clinging:
        def __del__(self) -> None:
            cache[99] = "last words"

    for number in range(5):
        cache[number] = Clinging()
    assert len(cache) <= 2
    assert cache.bytes == sum(cache._weights.values())
