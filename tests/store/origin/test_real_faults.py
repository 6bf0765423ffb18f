"""Three machines and a real engine that is killed, paused and cut off: nobody serves half a generation or goes back."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from hotpath.errors import OriginConflict, OriginError
from hotpath.store.origin import Origin
from hotpath.store.store import Store
from tests.store.origin.cluster import Machine, publish, until
from tests.store.origin.engine import Engine
from tests.store.origin.proxy import Fault, Proxy, Request

pytest.importorskip("obstore", reason="pip install 'asgi-hotpath[s3]'")
pytestmark = pytest.mark.slow

GENERATIONS = 1000
SECONDS = 60.0
SEED = 20261128
ROLLBACK_EVERY = 20
# Faults of requests, and how often each comes while they come; the engine's own are beside these.
FAULTS = [Fault("close"), Fault("reset"), Fault("status", 500), Fault("status", 503), Fault("delay", seconds=0.2)]
FAULTS_OF_WRITES = [*FAULTS, Fault("status", 409), Fault("status", 412)]


class Trouble(threading.Thread):
    """Does something to the engine or to the ways to it, again and again, until ``end``."""

    def __init__(self, engine: Engine, ways: list[Proxy]) -> None:
        super().__init__(daemon=True)
        self.counts: Counter[str] = Counter()
        self.failure: BaseException | None = None
        self._engine = engine
        self._ways = ways
        self._chance = random.Random(SEED)
        self._ended = threading.Event()

    def run(self) -> None:
        kinds = [self._kill, self._pause, self._partition, self._faults, self._faults, self._none]
        try:
            while not self._ended.is_set():
                kind = self._chance.choice(kinds)
                kind()
                self.counts[kind.__name__.strip("_")] += 1
        except BaseException as error:  # it is looked at by the test
            self.failure = error

    def end(self) -> None:
        self._ended.set()
        self.join(90)
        assert not self.is_alive()
        assert self.failure is None, self.failure

    def _wait(self, least: float, most: float) -> None:
        self._ended.wait(self._chance.uniform(least, most))

    def _kill(self) -> None:
        self._engine.kill()
        self._wait(0, 0.5)
        self._engine.start()

    def _pause(self) -> None:
        self._engine.pause()
        self._wait(0.2, 1.5)
        self._engine.resume()

    def _partition(self) -> None:
        way = self._chance.choice(self._ways)
        way.partition()
        self._wait(0.2, 2)
        way.heal()

    def _faults(self) -> None:
        def plan(request: Request) -> Fault | None:
            kinds = FAULTS_OF_WRITES if request.method == "PUT" else FAULTS
            return chance.choice(kinds) if chance.random() < 0.15 else None

        chance = random.Random(self._chance.random())
        way = self._chance.choice(self._ways)
        way.plan(plan)
        self._wait(0.5, 2)
        way.reset()

    def _none(self) -> None:
        self._wait(0.5, 1.5)


def test_many_generations_by_an_engine_in_trouble(
    tmp_path: Path,
    start_engine: Callable[[], Engine],
    start_proxy: Callable[[int], Proxy],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = start_engine()
    for name, value in engine.environment.items():
        monkeypatch.setenv(name, value)
    ways = [start_proxy(engine.port) for _ in range(4)]
    urls = [engine.url(endpoint=way.endpoint) for way in ways]
    builder, origin = Store(tmp_path / "builder", keep=3), Origin(urls[0])
    machines = [Machine(tmp_path / f"machine{number}", url) for number, url in enumerate(urls[1:], 1)]
    trouble, chance = Trouble(engine, ways), random.Random(SEED)
    last, again, rolled_back, began = 0, 0, list[int](), time.monotonic()
    try:
        for machine in machines:
            machine.start()
        trouble.start()
        while last < GENERATIONS and time.monotonic() - began < SECONDS and trouble.failure is None:
            last += 1
            assert publish(builder, last) == last
            again += _insist(lambda: origin.send(builder))
            if last % ROLLBACK_EVERY == 0:
                again += _roll_back(chance.choice(machines).origin, last - 1)
                rolled_back.append(last)
            for machine in machines:
                if chance.random() < 0.5:  # a hint that was not lost
                    machine.wakeup.set()
        trouble.end()
        for way in ways:
            way.heal()
            way.reset()
        for machine in machines:
            assert machine.serves(last, 60), (machine.follower.last, machine.marks[-3:], last)
    finally:
        for machine in machines:
            machine.stop()
    done = f"{last} generations and {len(rolled_back)} rollbacks in {time.monotonic() - began:.0f} s"
    print(f"\n{done}, {again} begun again; {dict(trouble.counts)}")
    for machine in machines:
        back = [(one, other) for one, other in pairwise(machine.marks) if one > other]
        print(f"{machine.follower.name}: served {len(machine.marks)} of them, went back {len(back)} times")
        assert machine.problems == []
        assert [each for each in back if each not in {(n, n - 1) for n in rolled_back}] == []
        assert machine.files() == Machine(builder.root, urls[0]).files()
    assert last >= 50
    assert sum(trouble.counts.values()) >= 10


def _insist(change: Callable[[], object]) -> int:
    """Do it until it is done: how often it had to be begun again."""
    for attempt in range(100):
        try:
            change()
        except OriginError as error:
            if isinstance(error, OriginConflict) or not error.is_transient:
                raise
            time.sleep(0.1)
        else:
            return attempt
    raise AssertionError("the engine did not come back")


def _roll_back(origin: Origin, to: int) -> int:
    """Go back from the last generation to ``to``, and let the next one be served."""

    def roll_back() -> None:
        seen = origin.begin().state.chosen
        if seen is not None and seen.sequence != to:  # the answer of an attempt that took effect may be lost
            origin.rollback(to, "a test", pin=False)

    return _insist(roll_back)


def test_nothing_changes_for_a_machine_while_the_engine_is_gone(
    tmp_path: Path, start_engine: Callable[[], Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = start_engine()
    for name, value in engine.environment.items():
        monkeypatch.setenv(name, value)
    builder, origin = Store(tmp_path / "builder"), Origin(engine.url())
    publish(builder, 1)
    origin.send(builder)
    machine = Machine(tmp_path / "machine", engine.url())
    machine.start()
    try:
        assert machine.serves(1)
        before = machine.files()
        engine.kill()
        assert until(lambda: machine.follower.last is not None and machine.follower.last.error, 30)
        assert machine.files() == before
        look = machine.follower.last
        assert look is not None
        assert look.generation == 1
        assert "a-secret" not in str(look.error)
        engine.start()
        publish(builder, 2)
        origin.send(builder)
        assert machine.serves(2)
    finally:
        machine.stop()
    assert machine.marks == [1, 2]
    assert machine.problems == []
