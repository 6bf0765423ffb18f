"""Every request of every step, interrupted in every way: what is served is whole, and the same step again ends as once.

The rows of a scenario are the faults and the columns its requests; ``test_kill`` of the store does the same by the
operations of a disk, and so does the last test here for a machine that follows.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.store.crash.operations import AFTER, BEFORE, NumberedDisk, Operation
from tests.store.origin.fake import FAULTS, Fault, Killed
from tests.store.origin.machines import Machine, pages
from tests.store.origin.scenarios import SCENARIOS, Scenario, World, finish, interrupted

# What a whole generation may be: no machine ever serves anything else.
WHOLE = [pages(number) for number in range(11)]


@dataclass(frozen=True)
class Prepared:
    """A scenario, its world before, what it ends in, and its number of requests."""

    scenario: Scenario
    before: World
    expected: dict[str, Any]
    requests: int


@pytest.fixture(scope="module")
def prepare(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Prepared]:
    """Each scenario is prepared once, and copied for each fault."""

    @functools.cache
    def prepare(name: str) -> Prepared:
        root = tmp_path_factory.mktemp("prepared")
        scenario = SCENARIOS[name]
        before = World.new(root / "before")
        scenario.prepare(before)
        good = before.copy(root / "good")
        scenario.step(good)
        requests = len(good.objects.requests)
        return Prepared(scenario, before, good.state(), requests)

    return prepare


def assert_whole(world: World) -> None:
    """Both machines serve a whole generation, and one that starts at this moment gets one."""
    world.objects.heal()
    for machine in (world.builder, world.machine):
        if machine.store.sequences():
            assert machine.pages() in WHOLE
    fresh = Machine(world.root / "fresh", world.objects, world.clock)
    look = fresh.follower.look()
    assert look.error is None
    if look.generation is not None:
        assert fresh.pages() in WHOLE


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", SCENARIOS)
def test_any_request(tmp_path: Path, prepare: Callable[[str], Prepared], name: str, fault: Fault) -> None:
    case = prepare(name)
    assert case.requests >= 3
    for index in range(case.requests):
        world = case.before.copy(tmp_path / str(index))
        world.objects.fail(index, fault)
        interrupted(world, case.scenario)
        assert_whole(world)
        finish(world, case.scenario)
        assert world.state() == case.expected, f"request {index} {fault}"


@dataclass
class Dying(NumberedDisk):
    """Ends the process at one moment of one operation; what it would do on the way out does nothing any more."""

    at: tuple[int, str] = (-1, "")
    is_dead: bool = False

    def reach(self, number: int, moment: str, operation: Operation) -> None:
        if self.is_dead:
            raise Killed
        if (number, moment) == self.at:
            self.is_dead = True
            raise Killed


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in SCENARIOS if name.startswith("follow")])
def test_any_operation_of_the_disk(tmp_path: Path, prepare: Callable[[str], Prepared], name: str) -> None:
    case = prepare(name)
    counted = case.before.copy(tmp_path / "counted", NumberedDisk)
    case.scenario.step(counted)
    assert isinstance(counted.machine.store.disk, NumberedDisk)
    for number in range(len(counted.machine.store.disk.trace)):
        for moment in (BEFORE, AFTER):
            world = case.before.copy(tmp_path / f"{number}-{moment}", lambda root: Dying(root, at=(number, moment)))  # noqa: B023
            with pytest.raises(Killed):
                case.scenario.step(world)
            world.machine = Machine(world.machine.store.root, world.objects, world.clock)
            assert_whole(world)
            finish(world, case.scenario)
            with world.machine.store.locked():
                pass  # what a killed prune has left goes with the next writer
            assert world.state() == case.expected, f"{moment} {counted.machine.store.disk.trace[number]}"


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", ["send", "rollback", "follow", "prune"])
def test_the_commit(tmp_path: Path, prepare: Callable[[str], Prepared], name: str, fault: Fault) -> None:
    """The first and the last write of CURRENT, and the first blob: the matrix in small."""
    case = prepare(name)
    for index in {0, case.requests - 2, case.requests - 1}:
        world = case.before.copy(tmp_path / str(index))
        world.objects.fail(index, fault)
        interrupted(world, case.scenario)
        finish(world, case.scenario)
        assert world.state() == case.expected, f"request {index} {fault}"


def test_a_rollback_that_was_killed_is_finished_and_not_repeated(tmp_path: Path) -> None:
    before = World.new(tmp_path / "before")
    SCENARIOS["rollback"].prepare(before)
    good = before.copy(tmp_path / "good")
    assert good.builder.origin.rollback() == (3, 2)
    requests = [key for _, key in good.objects.requests]
    expected = good.state()
    for index in range(requests.index("BAD", 4) + 1, len(requests)):
        world = before.copy(tmp_path / str(index))
        world.objects.fail(index, "killed before")
        with pytest.raises(Killed):
            world.builder.origin.rollback()
        world.objects.heal()
        assert world.machine.follower.look().generation == 3, "half of it is none of it"
        assert world.builder.origin.rollback() == (3, 2)
        assert world.state() == expected
