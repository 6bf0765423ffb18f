"""Interrupt a command: the store it starts from, the moments there are, and what is looked at after each."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from hotpath.errors import HotpathError, StoreBusy, StoreError
from tests.store.crash.killed import Killer
from tests.store.crash.operations import AFTER, BEFORE, MIDDLE, NumberedDisk, Operation, WatchingDisk
from tests.store.crash.planted import planted
from tests.store.crash.scenarios import Scenario, State, faults, open_store, reading, served, state_of


class Bench:
    """A store from which every run of a scenario starts, and what an undisturbed run makes of it."""

    def __init__(self, scenario: Scenario, directory: Path, plant: str = "") -> None:
        self.scenario = scenario
        self.plant = plant
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
        disk = planted(self.plant, NumberedDisk)(base=root.parent)
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
    """A disk that syncs nothing: what a killed process wrote stays in the page cache."""
    return NumberedDisk(base=base)


def seen(bench: Bench, root: Path) -> list[str]:
    """What a process that starts now finds wrong with the store of a command that was killed (I1, I2)."""
    if not root.exists():
        return [] if bench.scenario.before is None else ["the store is gone"]
    store = bench.scenario.store(root)
    try:
        found = served(store)
        if found not in (bench.scenario.before, bench.scenario.after):
            return [f"{found} is served"]
        return faults(store)
    except (HotpathError, OSError, AssertionError) as error:
        return [f"{type(error).__name__}: {error}"]


def kill_until_wrong(bench: Bench, killer: Killer) -> str | None:
    """Kill the command at every moment; the first thing that is found wrong."""
    for number, moment in bench.moments():
        root = bench.fresh()
        assert killer.run(bench.scenario.name, root, number, moment, bench.plant) == -9
        found = seen(bench, root)
        if found:
            return f"killed {moment} {number} ({bench.trace[number]}): {found[0]}"
    return None


def intruders(bench: Bench) -> list[str]:
    """The operations of the scenario's command, after the lock is taken, before which a second writer is let in."""
    root = bench.fresh()
    second = open_store(root, 9)
    let_in: list[str] = []
    pids: set[int | None] = set()

    def intrude(number: int, operation: Operation) -> None:
        if any(earlier.kind == "open_lock" for earlier in disk.trace[:number]):
            try:
                with second.locked():
                    let_in.append(f"{number} {operation}")
            except StoreBusy as busy:
                pids.add(busy.pid)

    disk = planted(bench.plant, WatchingDisk)(base=root.parent, watch=intrude)
    try:
        bench.scenario.command(bench.scenario.store(root, disk))
    except StoreError:  # of one whose stage the second took for litter
        if not let_in:
            raise
    assert let_in or pids <= {os.getpid(), None}, "who is let in not is told who is at it"
    return let_in
