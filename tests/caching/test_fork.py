"""A child of fork(2) can use every cache, whatever the parent's threads were doing."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from hotpath.caching.background import MAX_THREADS
from hotpath.caching.lru import LRUCache
from hotpath.caching.memoize import cached
from hotpath.caching.registry import registry
from hotpath.caching.ttl import TTLCache
from hotpath.testing import FakeClock

SECONDS = 5


def succeeds_in_a_child(check: Callable[[], bool]) -> bool:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(SECONDS)
            status = 0 if check() else 2
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


class SlowKey:
    """Its comparison stops in the middle of a write."""

    def __init__(self) -> None:
        self.reached, self.go_on = threading.Event(), threading.Event()
        self.is_slow = False

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        if self.is_slow and self is not other:
            self.reached.set()
            self.go_on.wait(2 * SECONDS)
        return self is other


@pytest.mark.parametrize(
    "make",
    [lambda: LRUCache(10), lambda: LRUCache(10, 100_000), lambda: TTLCache(10, 60), lambda: TTLCache(10, 60, 100_000)],
    ids=["LRUCache", "LRUCache, bytes", "TTLCache", "TTLCache, bytes"],
)
def test_a_child_writes_and_reads_while_a_thread_of_the_parent_was_in_a_write(make: Callable[[], Any]) -> None:
    cache = make()
    first, second = SlowKey(), SlowKey()
    cache[first] = 1
    first.is_slow = True
    writer = threading.Thread(target=cache.__setitem__, args=(second, 2))
    writer.start()
    assert first.reached.wait(SECONDS)

    def use() -> bool:
        first.is_slow = False
        cache["a"] = 1
        for number in range(20):
            cache[number] = number
        made = LRUCache[str, int](1)
        return cache.get(19) == 19 and len(cache) == 10 and cache in registry.all() and made in registry.all()

    try:
        assert succeeds_in_a_child(use)
    finally:
        first.go_on.set()
        writer.join()
    assert cache[first] == 1, "the parent keeps what it had"


def test_stale_values_are_made_anew_in_a_child_of_a_parent_that_was_busy_with_that() -> None:
    clock = FakeClock()
    go_on = threading.Event()
    parent = os.getpid()

    @cached(ttl=10, stale_while_revalidate=100, clock=clock)
    def process(n: int) -> int:
        if clock.now >= stale_from and os.getpid() == parent:
            go_on.wait(2 * SECONDS)
        return os.getpid()

    stale_from = clock.now + 10
    for n in range(MAX_THREADS + 1):
        process(n)
    clock.advance(15)
    for n in range(MAX_THREADS):
        process(n)

    def refreshes() -> bool:
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            if process(0) == process(MAX_THREADS) == os.getpid():
                return True
            time.sleep(0.005)
        return False

    try:
        assert succeeds_in_a_child(refreshes)
    finally:
        go_on.set()
