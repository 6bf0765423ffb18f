"""``growth()``: what leaks is found among many within two readings, by its name; a steady process has none."""

from __future__ import annotations

import asyncio
import collections
import functools
import gc
import random
import sys
import threading
import time
import tracemalloc
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hotpath.audit import Grown, Reading, growth
from hotpath.testing import FakeClock

MANY = 200_000


@pytest.fixture(autouse=True)
def small_heap() -> None:
    """What the other tests left is out of sight: a reading takes a hundredth of the time."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def shop() -> Iterator[Any]:
    """A module as a program would have it."""
    module = types.ModuleType("shop")
    sys.modules["shop"] = module
    yield module
    del sys.modules["shop"]


@pytest.fixture
def crowd() -> list[object]:
    """Live containers of every kind, of which none grows."""
    made: list[object] = []
    for number in range(MANY // 4):
        made += [{"n": {}}, [number], {number}, collections.deque([number], maxlen=9)]
    return made


def held(reading: Reading) -> list[tuple[str, int, str]]:
    return [(one.held_by, one.added, one.kind) for one in reading.grown]


def add(container: Any, count: int, start: int = 0) -> None:
    for number in range(start, start + count):
        if isinstance(container, dict):
            container[f"key {number}"] = number
        elif isinstance(container, set):
            container.add(f"key {number}")
        else:
            container.append(f"key {number}")


@pytest.mark.slow
def test_a_leak_among_many_is_found_within_two_readings_at_bounded_cost(shop: Any, crowd: list[object]) -> None:
    shop.SEEN = {f"old {number}": number for number in range(1000)}
    started = time.process_time()
    gc.collect()
    one_pass = time.process_time() - started
    started = time.process_time()
    first = growth()
    add(shop.SEEN, 500)
    second = first.again()
    took = time.process_time() - started
    assert first.containers > len(crowd)
    assert held(second) == [("shop.SEEN", 500, "dict")]
    assert took < 60 * max(one_pass, 0.05)  # two readings; about 20 where this was written
    tracemalloc.start()
    try:
        third = second.again()
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 40 * third.containers, "bytes that a reading keeps"


MAKERS: dict[str, tuple[Callable[[], Any], str]] = {
    "dict": (dict, "dict"),
    "list": (list, "list"),
    "set": (set, "set"),
    "deque": (collections.deque, "deque"),
    "defaultdict": (lambda: collections.defaultdict(int), "defaultdict"),
    "OrderedDict": (collections.OrderedDict, "OrderedDict"),
    "a subclass": (type("Store", (dict,), {}), "Store"),
}


@pytest.mark.slow
@pytest.mark.parametrize("before", [0, 3, 100])
@pytest.mark.parametrize("name", MAKERS)
def test_every_kind_is_found_and_named(shop: Any, name: str, before: int) -> None:
    make, kind = MAKERS[name]
    shop.SEEN = make()
    add(shop.SEEN, before)
    first = growth()
    add(shop.SEEN, 50, before)
    assert held(first.again()) == [("shop.SEEN", 50, kind)]


def by_class(shop: Any) -> Any:
    shop.Client = type("Client", (), {"__module__": "shop", "responses": {}})
    return shop.Client.responses


def by_instance(shop: Any) -> Any:
    shop.client = types.SimpleNamespace(responses={})
    return shop.client.responses


def by_slots(shop: Any) -> Any:
    shop.client = type("Client", (), {"__module__": "shop", "__slots__": ("responses",)})()
    shop.client.responses = {}
    return shop.client.responses


def by_table(shop: Any) -> Any:
    shop.STATE = {"caches": {"prices": {}}}
    return shop.STATE["caches"]["prices"]


def by_closure(shop: Any) -> Any:
    memo: dict[str, int] = {}

    def quote(ticker: str) -> int:
        return memo[ticker]

    quote.__module__, quote.__qualname__ = "shop", "quote"
    shop.quote = quote
    return memo


def by_default(shop: Any) -> Any:
    def quote(ticker: str, memo: dict[str, int] = {}) -> int:  # noqa: B006
        return memo[ticker]

    quote.__module__, quote.__qualname__ = "shop", "quote"
    shop.quote = quote
    return (quote.__defaults__ or ())[0]


def by_instance_alone(shop: Any) -> Any:
    client = types.SimpleNamespace(responses={})
    shop.keeper = iter([client])  # something that has no names for what it holds
    return client.responses


HOLDERS: list[tuple[Callable[[Any], Any], str]] = [
    (by_class, "shop.Client.responses"),
    (by_instance, "shop.client.responses"),
    (by_slots, "shop.client.responses"),
    (by_table, "shop.STATE['caches']['prices']"),
    (by_closure, "shop.quote (its variable memo)"),
    (by_default, "shop.quote (the default of memo)"),
]


@pytest.mark.parametrize(("make", "name"), HOLDERS, ids=[make.__name__ for make, _ in HOLDERS])
def test_where_it_is_held_is_said(shop: Any, make: Callable[[Any], Any], name: str) -> None:
    container = make(shop)
    add(container, 3)
    first = growth()
    add(container, 40, 3)
    assert held(first.again()) == [(name, 40, "dict")]


def test_the_results_of_a_cache_without_a_maximum_are_named_by_its_function(shop: Any) -> None:
    def slug(title: str) -> str:
        return title.lower()

    slug.__module__, slug.__qualname__ = "shop", "slug"
    shop.slug = functools.cache(slug)
    for number in range(5):
        shop.slug(f"T{number}")
    first = growth()
    for number in range(5, 70):
        shop.slug(f"T{number}")
    assert held(first.again()) == [("shop.slug (the results it keeps)", 65, "dict")]


def test_without_a_module_the_instance_is_named(shop: Any) -> None:
    responses = by_instance_alone(shop)
    add(responses, 3)
    first = growth()
    add(responses, 40, 3)
    ((name, added, _),) = held(first.again())
    assert added == 40
    assert name.endswith("responses")


def test_ranked_by_what_was_added_and_cut_at_top(shop: Any) -> None:
    for number in range(20):
        setattr(shop, f"SEEN_{number}", {"old": 0})
    first = growth()
    for number in range(20):
        add(getattr(shop, f"SEEN_{number}"), 20 + number)
    second = first.again(top=3)
    assert held(second) == [(f"shop.SEEN_{number}", 20 + number, "dict") for number in (19, 18, 17)]
    assert second.grown[0] == Grown("dict", 1, 40, "shop.SEEN_19")


def test_readings_go_on_from_each_other(shop: Any) -> None:
    clock = FakeClock()
    shop.SEEN = {"old": 0}
    first = growth(clock=clock)
    assert (first.grown, first.seconds_apart) == ((), None)
    for number in range(1, 4):
        add(shop.SEEN, 30, number * 30)
        clock.advance(60)
        first = first.again()
        assert held(first) == [("shop.SEEN", 30, "dict")]
        assert first.seconds_apart == 60
    assert first.again().grown == ()


def test_a_module_that_gets_names_of_its_own_hides_nothing(shop: Any) -> None:
    shop.SEEN = {"old": 0}
    first = growth()
    add(shop.SEEN, 30)
    for number in range(20):
        setattr(shop, f"name_{number}", number)
    assert held(first.again()) == [("shop.SEEN", 30, "dict"), ("shop.__dict__", 20, "dict")]


def test_a_queue_that_falls_behind_is_found_though_nothing_of_it_is_old(shop: Any) -> None:
    shop.QUEUE = collections.deque(range(100))
    first = growth()
    for number in range(1000):
        shop.QUEUE.append(number)
        if len(shop.QUEUE) > 100 and number % 2:
            shop.QUEUE.popleft()
    assert 0 not in list(shop.QUEUE)[:1]
    assert held(first.again()) == [("shop.QUEUE", 500, "deque")]


def test_a_heap_whose_first_entry_changes_is_found(shop: Any) -> None:
    import heapq

    shop.TIMERS = list(range(1000, 1100))
    first = growth()
    for number in range(60):
        heapq.heappush(shop.TIMERS, number)
    assert held(first.again()) == [("shop.TIMERS", 60, "list")]


def serve(choose: random.Random, table: dict[int, Any], held_back: list[Any]) -> None:
    """What a request leaves: entries of a bounded cache made anew with other sizes, and containers that are freed."""
    rows = [{"id": choose.random(), "n": number} for number in range(choose.randrange(300))]
    table[choose.randrange(200)] = {f"{choose.random()}": row for row in rows}
    table[200 + choose.randrange(200)] = [choose.random() for _ in rows]
    table[400 + choose.randrange(200)] = {choose.random() for _ in rows}
    held_back[choose.randrange(len(held_back))] = [rows, {str(row["id"]) for row in rows}]


@pytest.mark.slow
def test_a_steady_process_raises_no_false_alarm(shop: Any) -> None:
    choose = random.Random(11)
    shop.CACHE, shop.FLIGHT = {}, [None] * 50
    for number in range(600):
        shop.CACHE[number] = None
    for _ in range(1500):
        serve(choose, shop.CACHE, shop.FLIGHT)
    reading = growth()
    alarms = []
    for _ in range(4):
        for _ in range(300):
            serve(choose, shop.CACHE, shop.FLIGHT)
        reading = reading.again()
        alarms += held(reading)
    assert alarms == []
    shop.LEAK = {"old": 0}
    reading = reading.again()
    for number in range(600):
        serve(choose, shop.CACHE, shop.FLIGHT)
        shop.LEAK[number] = number
    assert held(reading.again()) == [("shop.LEAK", 600, "dict")]


def test_an_idle_process_has_none_and_says_so() -> None:
    clock = FakeClock()
    first = growth(clock=clock)
    assert "call again() after a while" in str(first)
    clock.advance(2)
    second = first.again()
    assert second.grown == ()
    assert str(second) == f"none of {second.containers:,} containers has grown in 2.0 s"
    assert repr(second) == f"<Reading of {second.containers} containers, 0 have grown>"


def test_what_is_printed(shop: Any) -> None:
    clock = FakeClock()
    shop.SEEN = {"old": 0}
    first = growth(clock=clock)
    add(shop.SEEN, 1500)
    clock.advance(60)
    second = first.again()
    assert str(second).splitlines() == [
        f"{second.containers:,} containers, 60.0 s after the reading before",
        "    grown by       entries  kind          held by",
        "      +1,500         1,501  dict          shop.SEEN",
    ]


def test_a_reading_keeps_nothing_alive(shop: Any) -> None:
    class Value(dict[str, int]):
        """A dict that can be referred to weakly."""

    values = [Value({str(number): number}) for number in range(50)]
    gone = [weakref.ref(value) for value in values]
    shop.SEEN = {"old": 0}
    first = growth()
    add(shop.SEEN, 30)
    for value in values:
        add(value, 30)
    second = first.again()
    assert len(second.grown) == 10
    del value, values
    assert [one() for one in gone] == [None] * 50


def test_no_code_of_what_it_looks_at_is_run(shop: Any) -> None:
    ran: list[str] = []

    class Hostile(dict[Any, Any]):
        def __len__(self) -> int:
            ran.append("len")
            raise ValueError

        def __iter__(self) -> Iterator[Any]:
            ran.append("iter")
            raise ValueError

        def __eq__(self, other: object) -> bool:
            ran.append("eq")
            raise ValueError

        def __getattribute__(self, name: str) -> Any:
            ran.append(name)
            raise ValueError

        def __repr__(self) -> str:
            ran.append("repr")
            raise ValueError

        __hash__ = None

    class Key:
        def __init__(self) -> None:
            self.armed = False

        def __hash__(self) -> int:
            if self.armed:
                ran.append("hash")
                raise ValueError
            return 7

    key = Key()
    hostile = Hostile()
    dict.__setitem__(hostile, key, {})
    shop.HOSTILE, shop.KEYED = hostile, {key: {"old": 0}}
    inner = shop.KEYED[key]
    key.armed = True
    first = growth()
    for number in range(30):
        dict.__setitem__(hostile, str(number), number)
        inner[str(number)] = number
    second = first.again()
    assert ran == []
    assert [name for name, _, _ in held(second)] == ["shop.HOSTILE", "shop.KEYED[<Key>]"]


def test_other_threads_may_go_on_adding(shop: Any) -> None:
    shop.SEEN = {"old": 0}
    stop = threading.Event()
    failed: list[BaseException] = []

    def work(name: int) -> None:
        try:
            number = 0
            while not stop.is_set():
                number += 1
                shop.SEEN[name, number] = {number}
                if number % 100 == 0:
                    time.sleep(0.001)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(3)]
    for thread in threads:
        thread.start()
    try:
        first = growth()
        until = time.monotonic() + 20
        size = len(shop.SEEN)
        while len(shop.SEEN) < size + 500 and time.monotonic() < until:
            time.sleep(0.01)
        second = first.again()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failed == []
    assert "shop.SEEN" in [name for name, _, _ in held(second)]


def test_inside_a_server_a_leak_of_its_state_is_named(shop: Any) -> None:
    """The object that the app holds is reached through a closure, an instance and its dict."""
    shop.app = types.SimpleNamespace(state=types.SimpleNamespace(sessions={"old": 0}))

    async def handle(number: int) -> None:
        await asyncio.sleep(0)
        shop.app.state.sessions[number] = {"number": number}

    async def main() -> Reading:
        first = growth()
        for number in range(200):
            await handle(number)
        return first.again()

    assert held(asyncio.run(main())) == [("shop.app.state.sessions", 200, "dict")]
