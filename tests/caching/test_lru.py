"""Bounds by entries and bytes, shrinking, and what the guard and the metrics see."""

from __future__ import annotations

import copy
import gc
import pickle
import subprocess
import sys
from collections import OrderedDict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hotpath.caching.lru import LRUCache
from hotpath.caching.memoize import cached
from hotpath.caching.registry import registry
from hotpath.caching.sizing import ENTRY_BYTES, size_of, weigh
from hotpath.caching.ttl import TTLCache
from hotpath.errors import DeclarationError

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


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
@pytest.mark.parametrize("kind", [LRUCache, TTLCache])
def test_a_copy_is_refused_with_what_to_write(kind: Any, duplicate: Any) -> None:
    with pytest.raises(TypeError, match=r"cannot be copied or pickled.*dict\(cache.items\(\)\)"):
        duplicate(kind(3))


def test_every_cache_is_found_by_its_name_as_long_as_it_lives() -> None:
    cache: LRUCache[str, int] = LRUCache(10, name="found by its name")
    cache["a"] = 1
    cache["a"]
    cache.get("b")
    assert registry.stats()["found by its name"] == {"entries": 1, "bytes": 0, "hits": 1, "misses": 1, "evictions": 0}
    assert any(known is cache for known in registry.all())  # equality would look at all entries: a use
    del cache
    gc.collect()
    gone = registry.stats()["found by its name"]
    assert (gone["entries"], gone["hits"], gone["misses"]) == (0, 1, 1), "counters never fall"


def test_counters_stay_when_an_instance_with_a_cached_method_goes() -> None:
    class Shop:
        @cached(name="counted method")
        def price(self, n: int) -> int:
            return n

    for expected in (1, 2, 3):
        shop = Shop()
        assert [shop.price(1), shop.price(1)] == [1, 1]
        del shop
        gc.collect()
        assert registry.stats()["counted method"]["hits"] == expected
    assert registry.stats()["counted method"]["entries"] == 0


def test_counters_do_not_fall_while_the_collector_frees_a_cache() -> None:
    shown: list[int] = []

    class Holder:
        """In a circle with its cache; it ends when the cache has no weak reference any more."""

        def __init__(self) -> None:
            self.cache = LRUCache[int, Any](5, name="in a circle")
            self.cache[1] = self

        def __del__(self) -> None:
            shown.append(registry.stats()["in a circle"]["hits"])

    for _ in range(3):
        holder = Holder()
        assert holder.cache[1] is holder
        shown.append(registry.stats()["in a circle"]["hits"])
        del holder
        gc.collect()
    assert shown == sorted(shown)
    assert shown[-1] == 3


def test_names_of_caches_that_are_gone_do_not_fill_memory() -> None:
    """A process of its own: its names stay."""
    code = """
from hotpath.caching.lru import LRUCache
from hotpath.caching.registry import MAX_RETIRED_NAMES, registry
for number in range(2 * MAX_RETIRED_NAMES):
    LRUCache(1, name=f"number {number}")[1] = 1
assert len(registry.stats()) == MAX_RETIRED_NAMES, len(registry.stats())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


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


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(st.lists(st.integers(0, 30), max_size=200))
def test_exactly_the_last_ones_used_are_there(keys: list[int]) -> None:
    cache: LRUCache[int, int] = LRUCache(7)
    for key in keys:
        if cache.get(key) is None:
            cache[key] = key
    assert list(cache) == list(dict.fromkeys(reversed(keys)))[:7][::-1]


def test_what_goes_may_use_the_cache_itself() -> None:
    cache: LRUCache[int, Any] = LRUCache(2, 10_000)

    class Clinging:
        def __del__(self) -> None:
            cache[99] = "last words"

    for number in range(5):
        cache[number] = Clinging()
    assert len(cache) <= 2
    assert cache.bytes == sum(weigh(key, value) + ENTRY_BYTES for key, value in cache.items())
