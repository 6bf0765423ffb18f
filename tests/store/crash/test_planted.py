"""Each planted bug is caught, by the checks that are meant to catch it; and a store without one by none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.store.crash.bench import Bench, intruders, kill_until_wrong
from tests.store.crash.errors import wrong_errors
from tests.store.crash.killed import Killer, forking
from tests.store.crash.operations import NumberedDisk
from tests.store.crash.planted import PLANTS, planted
from tests.store.crash.replay import Recording, record, replay_by_chance, replay_worst
from tests.store.crash.scenarios import SCENARIOS

SCENARIO = SCENARIOS["publish, old ones pruned"]
SEEDS = range(6)

KILL, PREFIX, CHANCE, WRITER, ERRORS = "kill", "all dropped or kept", "by chance", "second writer", "errors"

# Which checks catch what; all others let it pass. Errors are only tried where an error is what it is about.
CAUGHT_BY = {
    "the pointer is written before the files are synced": {PREFIX, CHANCE},
    "old generations are unlinked before the pointer is replaced": {KILL, PREFIX, CHANCE},
    "old generations are unlinked before the pointer is durable": {KILL, PREFIX, CHANCE},
    "the root is not synced after the pointer is replaced": {PREFIX, CHANCE},
    "the name of the generation is not synced": {PREFIX, CHANCE},
    "the pointer's temporary is not synced": {PREFIX, CHANCE},
    "the current link is not synced before pruning": {PREFIX, CHANCE},
    "the files are written after the manifest": {PREFIX, CHANCE},
    "the manifest is written after the rename": {KILL, PREFIX, CHANCE},
    "the pointer is written in place": {KILL, PREFIX, CHANCE},
    "the lock is removed while it is held": {WRITER},
    "a sync that failed is repeated": {ERRORS},
    "an error of a sync is ignored": {ERRORS},
}


@pytest.fixture(scope="module")
def killer() -> Iterator[Killer]:
    with forking() as killer:
        yield killer


def found_by(check: str, plant: str, directory: Path, killer: Killer) -> str | None:
    """What a check says of a store with this bug; ``None``: nothing."""
    if check == KILL:
        return kill_until_wrong(Bench(SCENARIO, directory, plant), killer)
    if check == WRITER:
        return next(iter(intruders(Bench(SCENARIO, directory, plant))), None)
    if check == ERRORS:
        return next(iter(wrong_errors(Bench(SCENARIO, directory, plant), to_the_end=False)[1]), None)
    recording = _recorded(plant, directory)
    left = directory / "left"
    explored = (
        replay_worst(recording, left, to_the_end=False)
        if check == PREFIX
        else replay_by_chance(recording, left, SEEDS, to_the_end=False)
    )
    return next(iter(explored.wrong), None)


def _recorded(plant: str, directory: Path) -> Recording:
    return record(SCENARIO, directory, lambda base: planted(plant, NumberedDisk)(base=base))


# A few with every run of the tests; the slow ones have to be replayed to their end before they show.
QUICK = {
    "the lock is removed while it is held",
    "a sync that failed is repeated",
    "an error of a sync is ignored",
}


@pytest.mark.parametrize("plant", [pytest.param(p, marks=[] if p in QUICK else pytest.mark.slow) for p in PLANTS])
def test_a_planted_bug_is_caught_by_what_is_meant_to_catch_it(plant: str, tmp_path: Path, killer: Killer) -> None:
    missed = []
    for check in sorted(CAUGHT_BY[plant]):
        directory = tmp_path / check
        directory.mkdir()
        found = found_by(check, plant, directory, killer)
        print(f"{plant} | {check} | {found}")
        if found is None:
            missed.append(check)
    assert missed == []


# Those that only errors show do all else as the store itself does.
@pytest.mark.slow
@pytest.mark.parametrize("plant", [plant for plant in PLANTS if CAUGHT_BY[plant] != {ERRORS}])
def test_no_other_check_catches_it(plant: str, tmp_path: Path, killer: Killer) -> None:
    for check in {KILL, PREFIX, CHANCE, WRITER} - CAUGHT_BY[plant]:
        directory = tmp_path / check
        directory.mkdir()
        assert found_by(check, plant, directory, killer) is None, check


@pytest.mark.slow
def test_a_store_without_a_planted_bug_passes(tmp_path: Path, killer: Killer) -> None:
    assert kill_until_wrong(Bench(SCENARIO, tmp_path), killer) is None
