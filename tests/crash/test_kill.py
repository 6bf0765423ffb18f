"""A command that is killed at any operation leaves a store that is whole, and running it again finishes it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import hotpath
from hotpath.disk import Disk
from hotpath.errors import StoreBusy
from tests.crash.killed import Killer, forking
from tests.crash.operations import AFTER, BEFORE, MIDDLE, NumberedDisk, Operation, WatchingDisk
from tests.crash.scenarios import (
    SCENARIOS,
    STEP_BACK,
    Scenario,
    State,
    content_served,
    faults,
    litter,
    open_store,
    publish,
    reading,
    served,
    state_of,
)

# A publish after whatever has happened, with pages that no scenario has.
NEXT = 8


@pytest.fixture(scope="module")
def killer() -> Iterator[Killer]:
    with forking() as killer:
        yield killer


class Bench:
    """A store from which every run of a scenario starts, and what an undisturbed run makes of it."""

    def __init__(self, scenario: Scenario, directory: Path) -> None:
        self.scenario = scenario
        self.directory = directory
        self.prepared = directory / "prepared"
        self.prepared.mkdir()
        scenario.prepare(scenario.store(self.prepared / "hot", quiet(self.prepared)))
        self.trace, self.expected = self._undisturbed()

    def fresh(self) -> Path:
        """A copy of the prepared store, in place of the last."""
        copy = self.directory / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.prepared, copy, symlinks=True)
        return copy / "hot"

    def _undisturbed(self) -> tuple[list[Operation], State]:
        root = self.fresh()
        disk = quiet(root.parent)
        store = self.scenario.store(root, disk)
        with ExitStack() as stack:
            if self.scenario.reader:
                stack.enter_context(reading(self.scenario.store(root)))
            self.scenario.command(store)
        return disk.trace, state_of(store)

    def moments(self) -> Iterator[tuple[int, str]]:
        for number, operation in enumerate(self.trace):
            yield from (
                (number, moment) for moment in (BEFORE, MIDDLE, AFTER) if moment != MIDDLE or operation.has_middle
            )


def quiet(base: Path) -> NumberedDisk:
    """What is killed stays in the page cache, so nothing in this file has to wait for a disk."""
    return NumberedDisk(base=base)


def check(bench: Bench, killer: Killer, number: int, moment: str) -> None:
    """Kill once, then look with the eyes of every kind of reader, and go on."""
    scenario, root = bench.scenario, bench.fresh()
    store = scenario.store(root, quiet(root.parent))
    with ExitStack() as stack:
        reader = stack.enter_context(reading(store)) if scenario.reader else None
        assert killer.run(scenario.name, root, number, moment) == -9
        if not root.exists():
            assert scenario.before is None
        else:
            assert faults(store) == []
            assert served(store) in (scenario.before, scenario.after)
            if reader is not None:
                assert content_served(reader) == scenario.before, "the reader that was open still answers"
                reader.refresh()
                assert content_served(reader) == served(store)
        scenario.command(store)
        assert state_of(store).difference(bench.expected) == {}, "run again, it ends as if never interrupted"
        assert len(store.sequences()) <= max(scenario.keep, 1) + scenario.reader + len(store.quarantined()) + 1
        scenario.command(store)
        assert state_of(store).difference(bench.expected) == {}, "run twice, nothing more has changed"
        publish(store, NEXT)
        assert litter(store) == []
        assert faults(store) == []


# A few with every run of the tests; together they have every kind of operation.
QUICK = ("publish, old ones pruned", "rollback", "unpin")


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in SCENARIOS]
)
def test_a_command_killed_at_any_operation_leaves_the_store_whole(name: str, tmp_path: Path, killer: Killer) -> None:
    bench = Bench(SCENARIOS[name], tmp_path)
    kills = 0
    wrong = []
    for number, moment in bench.moments():
        kills += 1
        try:
            check(bench, killer, number, moment)
        except AssertionError as error:
            wrong.append(f"{moment} {number} {bench.trace[number]}: {error}")
    print(f"{name}: {len(bench.trace)} operations, {kills} kills, {len(wrong)} wrong")
    assert not wrong, "\n".join(wrong)


def test_a_plain_rollback_killed_before_its_last_step_goes_back_once(tmp_path: Path, killer: Killer) -> None:
    bench = Bench(STEP_BACK, tmp_path)
    assert bench.expected.served == 2
    last = max(number for number, operation in enumerate(bench.trace) if operation.target.endswith("CURRENT"))
    for number in range(last + 1):
        root = bench.fresh()
        assert killer.run(STEP_BACK.name, root, number, BEFORE) == -9
        store = STEP_BACK.store(root, quiet(root.parent))
        assert served(store) in (3, 2)
        STEP_BACK.command(store)
        assert state_of(store).difference(bench.expected) == {}, f"before {number} {bench.trace[number]}"


def intruders(bench: Bench) -> list[str]:
    """The operations of the scenario's command, after the lock is taken, before which a second writer is let in."""
    root = bench.fresh()
    second = open_store(root, 9)
    let_in: list[str] = []
    pids = set()

    def intrude(number: int, operation: Operation) -> None:
        if any(earlier.kind == "open_lock" for earlier in disk.trace[:number]):
            try:
                with second.locked():
                    let_in.append(f"{number} {operation}")
            except StoreBusy as busy:
                pids.add(busy.pid)

    disk = WatchingDisk(base=root.parent, watch=intrude)
    bench.scenario.command(bench.scenario.store(root, disk))
    assert let_in or pids <= {os.getpid(), None}, "who is let in not is told who is at it"
    return let_in


@pytest.mark.parametrize("name", SCENARIOS)
def test_no_other_writer_is_let_in_at_any_operation(name: str, tmp_path: Path) -> None:
    assert intruders(Bench(SCENARIOS[name], tmp_path)) == []


def test_every_method_of_the_disk_is_a_numbered_operation_or_a_loop_over_them() -> None:
    public = {name for name in vars(Disk) if not name.startswith("_")}
    assert public - NumberedDisk.loops == public & vars(NumberedDisk).keys()


CHANGING = re.compile(
    r"\bos\.(ftruncate|truncate|p?write|mkdir|makedirs|rename|replace|unlink|remove|rmdir|link|symlink|f?chmod|fsync|utime)\b"
    r"|\bshutil\.|\.(mkdir|touch|chmod|write_bytes|write_text|symlink_to|hardlink_to|rmdir)\("
)


@pytest.mark.parametrize("module", ["store", "publish", "prune", "quarantine", "verify", "reader", "operations/verify"])
def test_nothing_changes_the_store_beside_the_disk(module: str) -> None:
    lines = (Path(hotpath.__file__).parent / f"{module}.py").read_text("utf-8").splitlines()
    assert [line for line in lines if CHANGING.search(line)] == []
