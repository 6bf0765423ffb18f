"""Entries that end after a time."""

from __future__ import annotations

import sys
import weakref
from typing import Any

import pytest

from hotpath.caching.ttl import TTLCache
from hotpath.errors import DeclarationError
from hotpath.testing import FakeClock


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), float("inf"), "60", 5e-324, 1e-320, 1e-7, 1e11, 1e308])
def test_a_lifetime_that_cannot_be_is_refused(ttl: Any) -> None:
    with pytest.raises(DeclarationError, match="seconds"):
        TTLCache(ttl=ttl)
    with pytest.raises(DeclarationError, match="seconds"):
        TTLCache[str, int]().set("a", 1, ttl)


class Value:
    """It can be referred to weakly."""


def test_what_has_expired_is_never_returned_and_is_let_go_of_without_a_write() -> None:
    clock = FakeClock()
    cache: TTLCache[int, object] = TTLCache(100, 10, clock=clock)
    for number in range(50):
        cache[number] = Value()
    held = [weakref.ref(cache[number]) for number in range(50)]
    clock.advance(5)
    cache.set(99, 99, ttl=20)
    clock.advance(5)
    assert (0 in cache, cache.get(0), 99 in cache) == (False, None, True)
    with pytest.raises(KeyError):
        cache[1]
    clock.advance(10 / 64)
    for _ in range(5):
        cache.get(77)
    assert [ref() for ref in held] == [None] * 50, "reads free it, a few each, after at most one 64th of its lifetime"
    assert cache.expire() == []
    assert list(cache) == [99]


@pytest.mark.parametrize("ttl", [1e-6, 1e10])
def test_the_shortest_and_the_longest_lifetime_work(ttl: float) -> None:
    clock = FakeClock()
    cache: TTLCache[int, int] = TTLCache(10, ttl, clock=clock)
    for number in range(20):
        cache[number] = number
    assert list(cache) == [*range(10, 20)]
    clock.advance(2 * ttl)
    assert len(cache.expire()) == 10


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
    key = "".join(["a", "b"])
    for number in range(1000):
        cache[key] = number
    assert sys.getrefcount(key) < 100, "the places where it no longer ends are forgotten"
    clock.advance(10)
    assert cache.expire()[-1] == ("ab", 999)


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
