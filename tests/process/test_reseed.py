"""A forked child draws its own numbers, and its parent goes on with those it would have drawn."""

from __future__ import annotations

import random
import sys
from types import ModuleType

import numpy as np
import pytest

from hotpath.process.fork import run_isolated
from hotpath.process.reseed import reseed_modules


def draw() -> list[float]:
    return [random.random(), float(np.random.random())]


def test_each_fork_draws_other_numbers_than_its_parent_and_the_next() -> None:
    random.seed(5)
    np.random.seed(5)
    first, second = (run_isolated(draw, timeout_seconds=20, memory_bytes=64 << 20) for _ in range(2))
    own = draw()
    for numbers in zip(first, second, own, strict=True):
        assert len(set(numbers)) == 3
    assert own[0] == random.Random(5).random()


class Proxy:
    """As a framework's lazy object: what it stands for is made when its class is asked for."""

    def __getattribute__(self, name: str) -> object:
        raise AssertionError(f"it was made to give {name}")


def test_generators_of_modules_are_seeded_once_and_nothing_else_is_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    class Counted(random.Random):
        seeds = 0

        def seed(self, *_: object) -> None:
            self.seeds += 1

    module = ModuleType("of_a_site")
    counted = Counted()
    before = counted.seeds
    module.__dict__.update(
        own=random.Random(5),
        also=counted,
        again=counted,
        numbers=np.random.RandomState(5),
        modern=np.random.default_rng(5),
        proxy=Proxy(),
        system=random.SystemRandom(),
    )
    monkeypatch.setitem(sys.modules, "of_a_site", module)
    reseed_modules()
    assert counted.seeds == before + 1
    assert module.own.random() != random.Random(5).random()
    assert module.numbers.rand() != np.random.RandomState(5).rand()
    assert module.modern.random() != np.random.default_rng(5).random()
