"""What a cache costs beside the ones people use: hits, evictions, threads, decorators, memory, hit ratio.

    python -m benchmarks.caches --quick       three rounds
    python -m benchmarks.caches               nine

Nanoseconds of CPU time an operation, the loop around it taken off; rounds in turn, medians with min and max. cachebox,
theine and moka-py are native; they are measured where they are installed (pip install ".[bench]").
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import importlib
import random
import statistics
import sys
import threading
import time
import tracemalloc
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import cachetools

from benchmarks.harness import machine, print_facts, print_table, write_json
from hotpath import LRUCache, TTLCache, cached

ENTRIES = 1024
OPERATIONS = 20_000
THREADS = 4

UNSAFE = ("cachetools LRU", "cachetools TTL", "OrderedDict, bare")

Work = Callable[[int], None]


class Locked:
    """A cachetools cache as its documentation has it used from threads."""

    def __init__(self, cache: Any) -> None:
        self.cache = cache
        self.lock = threading.RLock()

    def __getitem__(self, key: int) -> Any:
        with self.lock:
            return self.cache[key]

    def __setitem__(self, key: int, value: Any) -> None:
        with self.lock:
            self.cache[key] = value


class Ordered:
    """The least that can be an LRU cache in Python: no lock, no counters, no metrics."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.data: OrderedDict[int, Any] = OrderedDict()

    def __getitem__(self, key: int) -> Any:
        value = self.data[key]
        self.data.move_to_end(key)
        return value

    def __setitem__(self, key: int, value: Any) -> None:
        self.data[key] = value
        self.data.move_to_end(key)
        if len(self.data) > self.size:
            self.data.popitem(last=False)


def makers() -> dict[str, Callable[[int], Any]]:
    """Every cache there is to compare, by name; each is made with a number of entries."""
    caches: dict[str, Callable[[int], Any]] = {
        "hotpath LRUCache": LRUCache,
        "hotpath LRUCache, bytes too": lambda size: LRUCache(size, 10**9),
        "hotpath TTLCache": lambda size: TTLCache(size, 600),
        "cachetools LRU with a lock": lambda size: Locked(cachetools.LRUCache(size)),
        "cachetools LRU, sizes, lock": lambda size: Locked(
            cachetools.LRUCache(size * sys.getsizeof(1), getsizeof=sys.getsizeof)
        ),
        "cachetools LRU": cachetools.LRUCache,
        "cachetools TTL with a lock": lambda size: Locked(cachetools.TTLCache(size, 600)),
        "cachetools TTL": lambda size: cachetools.TTLCache(size, 600),
        "OrderedDict, bare": Ordered,
        "OrderedDict with a lock": lambda size: Locked(Ordered(size)),
    }
    with suppress(ImportError):
        cachebox = importlib.import_module("cachebox")
        caches["cachebox LRU"] = cachebox.LRUCache
        caches["cachebox TTL"] = lambda size: cachebox.TTLCache(size, 600)
    with suppress(ImportError):
        moka = importlib.import_module("moka_py")
        caches["moka-py"] = moka.Moka
    with suppress(ImportError):
        theine = importlib.import_module("theine")
        caches["theine"] = theine.Cache
    return caches


def put(cache: Any, key: int, value: Any) -> None:
    """Into a mapping, or what has ``set``."""
    if hasattr(cache, "__setitem__"):
        cache[key] = value
    else:
        cache.set(key, value)


def filled(make: Callable[[int], Any]) -> Any:
    cache = make(ENTRIES)
    for number in range(ENTRIES):
        put(cache, number, number)
    return cache


def hits(cache: Any) -> Work:
    def work(count: int) -> None:
        for number in range(count):
            cache[number & 511]

    def work_by_method(count: int) -> None:
        get = cache.get
        for number in range(count):
            get(number & 511)

    return work if hasattr(cache, "__getitem__") else work_by_method


def evictions(cache: Any) -> Work:
    start = [ENTRIES]

    def work(count: int) -> None:
        first = start[0]
        start[0] += count
        for number in range(first, first + count):
            cache[number] = number

    def work_by_method(count: int) -> None:
        first = start[0]
        start[0] += count
        store = cache.set
        for number in range(first, first + count):
            store(number, number)

    return work if hasattr(cache, "__setitem__") else work_by_method


def empty(count: int) -> None:
    """The loop alone."""
    for number in range(count):
        number & 511


def nanoseconds(work: Work, threads: int = 1) -> float:
    """CPU nanoseconds of an operation, of all threads together: other processes change it little."""
    running = [threading.Thread(target=work, args=(OPERATIONS // threads,)) for _ in range(threads)]
    started = time.process_time_ns()
    if threads == 1:
        work(OPERATIONS)
    else:
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
    return (time.process_time_ns() - started) / OPERATIONS


def decorated() -> dict[str, Work]:
    """A hit of each decorator."""

    def plain(n: int) -> int:
        return n

    async def later(n: int) -> int:
        return n

    functions: dict[str, Any] = {
        "hotpath cached": cached(plain),
        "hotpath cached, ttl": cached(ttl=600)(plain),
        "cachetools cached with a lock": cachetools.cached(cachetools.LRUCache(ENTRIES), lock=threading.RLock())(plain),
        "functools lru_cache": functools.lru_cache(ENTRIES)(plain),
    }
    coroutines: dict[str, Any] = {"hotpath cached, async": cached(later)}
    with suppress(ImportError):
        cachebox = importlib.import_module("cachebox")
        functions["cachebox cached"] = cachebox.cached(cachebox.LRUCache(ENTRIES))(plain)
        coroutines["cachebox cached, async"] = cachebox.cached(cachebox.LRUCache(ENTRIES))(later)
    return {name: _calls(function) for name, function in functions.items()} | {
        name: _awaits(function) for name, function in coroutines.items()
    }


def _calls(function: Callable[[int], int]) -> Work:
    def work(count: int) -> None:
        for number in range(count):
            function(number & 511)

    return work


def _awaits(function: Any) -> Work:
    def work(count: int) -> None:
        async def run() -> None:
            for number in range(count):
                await function(number & 511)

        asyncio.run(run())

    return work


def memory(make: Callable[[int], Any]) -> float:
    """Bytes an entry beyond keys and values."""
    keys = list(range(10**6, 10**6 + 20_000))
    tracemalloc.start()
    cache = make(len(keys))
    for key in keys:
        put(cache, key, None)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return used / len(keys)


def zipf_ratio(make: Callable[[int], Any], seed: int = 1) -> float:
    """Share of hits where a hundredth of 100,000 keys fits, asked for as 1/rank."""
    chance = random.Random(seed)
    keys = chance.choices(range(100_000), [1 / rank for rank in range(1, 100_001)], k=200_000)
    cache = make(1000)
    look_up = _look_up if hasattr(cache, "__getitem__") else type(cache).get
    hit_count = 0
    for key in keys:
        if look_up(cache, key) in (None, (None, False)):  # theine gives a pair
            put(cache, key, key)
        else:
            hit_count += 1
    return hit_count / len(keys)


def _look_up(cache: Any, key: int) -> Any:
    try:
        return cache[key]
    except KeyError:
        return None


def figure(values: list[float], floor: float) -> str:
    low, middle, high = min(values) - floor, statistics.median(values) - floor, max(values) - floor
    return f"{middle:,.0f} ({low:,.0f}–{high:,.0f})"


def run(rounds: int) -> dict[str, Any]:
    """Measure and print; the medians."""
    kinds = {"hit": hits, "set+evict": evictions}
    works: dict[str, Work] = {"floor": empty}
    for name, make in makers().items():
        works |= {f"{name}|{kind}": build(filled(make)) for kind, build in kinds.items()}
    works |= {f"{name}|decorator": work for name, work in decorated().items()}
    for work in works.values():
        work(2000)
    times: dict[str, list[float]] = {name: [] for name in works}
    crowds: dict[str, list[float]] = {}
    threaded = {name: make for name, make in makers().items() if name not in UNSAFE}
    for _ in range(rounds):
        for name, work in works.items():
            times[name].append(nanoseconds(work))
        for name in threaded:
            crowds.setdefault(name, []).append(nanoseconds(works[f"{name}|hit"], THREADS))
    floor = statistics.median(times["floor"])
    middle = {name: statistics.median(values) - floor for name, values in times.items()}
    rows = []
    for name, make in makers().items():
        crowd = figure(crowds[name], floor) if name in crowds else "not safe"
        kind = "TTL" if "TTL" in name else "LRU"
        to_hit = middle[f"cachetools {kind} with a lock|hit"] / middle[f"{name}|hit"]
        to_set = middle[f"cachetools {kind} with a lock|set+evict"] / middle[f"{name}|set+evict"]
        rows.append(
            [
                name,
                figure(times[f"{name}|hit"], floor),
                f"{to_hit:.2f}",
                crowd,
                figure(times[f"{name}|set+evict"], floor),
                f"{to_set:.2f}",
                f"{memory(make):.0f}",
                f"{zipf_ratio(make):.3f}",
            ]
        )
    print(f"{ENTRIES} entries, {rounds} rounds in turn; CPU ns an operation: median (min–max), the loop taken off.")
    print(f'"times" are to cachetools\' cache of the same kind with a lock; {THREADS} threads share the operations.')
    print_table(["", "hit ns", "times", f"{THREADS} threads", "set+evict ns", "times", "B/entry", "Zipf hits"], rows)
    calls = {name.partition("|")[0]: times[name] for name in times if name.endswith("|decorator")}
    print_table(["decorator", "hit ns"], [[name, figure(values, floor)] for name, values in calls.items()])
    return {"floor_ns": floor, "median_ns": middle, "threads_ns": {k: statistics.median(v) for k, v in crowds.items()}}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="What a cache costs.")
    parser.add_argument("--quick", action="store_true", help="three rounds")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args()
    facts: Mapping[str, str] = machine()
    print_facts(facts)
    write_json(options.json, {"machine": facts, **run(3 if options.quick else 9)})


if __name__ == "__main__":
    main()
