"""Power losses: record a command, and look at the store as every loss may have left it."""

from __future__ import annotations

import hashlib
import itertools
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from hotpath.errors import HotpathError
from tests.store.crash.model import WORST, Disk, Loss, Tree, by_chance, one_directory, prefixes
from tests.store.crash.operations import Ended, EndedDisk, NumberedDisk, Operation
from tests.store.crash.scenarios import Scenario, faults, litter, publish, served

NEXT = 8


@dataclass(frozen=True)
class Recording:
    """A command that ran to its end: the tree before it, all durable, and its operations."""

    scenario: Scenario
    tree: Tree
    trace: list[Operation]


@dataclass
class Explored:
    """How much was looked at: ``states`` are distinct trees, ``replays`` losses that led to them."""

    replays: int = 0
    states: int = 0
    wrong: list[str] = field(default_factory=list)
    seen: set[bytes] = field(default_factory=set)

    def is_new(self, tree: Tree, *, finished: bool) -> bool:
        """Count a loss; whether the state it leads to has to be looked at."""
        self.replays += 1
        identity = hashlib.sha256(repr((finished, sorted(tree.items()))).encode()).digest()
        if identity in self.seen:
            return False
        self.seen.add(identity)
        self.states += 1
        return True


def record(scenario: Scenario, directory: Path, disk: Callable[[Path], NumberedDisk]) -> Recording:
    """Run the command in ``directory`` on a disk that ``disk`` makes for it."""
    root = directory / "hot"
    scenario.prepare(scenario.store(root, NumberedDisk(base=directory)))
    tree = read_tree(directory)
    numbered = disk(directory)
    scenario.command(scenario.store(root, numbered))
    return Recording(scenario, tree, numbered.trace)


def read_tree(directory: Path) -> dict[str, bytes | str | None]:
    """What is below a directory now."""
    tree: dict[str, bytes | str | None] = {}
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        tree[name] = str(path.readlink()) if path.is_symlink() else None if path.is_dir() else path.read_bytes()
    return tree


def write_tree(tree: Tree, directory: Path) -> None:
    """The same below another, which is emptied."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    for name in sorted(tree):
        value = tree[name]
        if value is None:
            (directory / name).mkdir()
        elif isinstance(value, str):
            (directory / name).symlink_to(value)
        else:
            (directory / name).write_bytes(value)


def replay_worst(recording: Recording, directory: Path, *, to_the_end: bool = True) -> Explored:
    """Row 2: every prefix, each with all that was not durable dropped or damaged in one and the same way.

    Besides, what is not durable in one directory alone is dropped, or kept.
    """

    def losses(number: int, disk: Disk) -> Iterator[Loss]:
        yield from WORST
        for name in disk.unsynced():
            yield from one_directory(name)

    return _explore(recording, directory, losses, to_the_end)


def replay_by_chance(
    recording: Recording, directory: Path, seeds: Iterable[int], *, to_the_end: bool = True
) -> Explored:
    """Row 3: every prefix, each with ``seeds`` losses in which everything is dropped or kept by chance."""
    numbers = list(seeds)

    def losses(number: int, disk: Disk) -> Iterator[Loss]:
        # The same seed at another prefix is another loss.
        return (by_chance(seed * 1000 + number) for seed in numbers)

    return _explore(recording, directory, losses, to_the_end)


def replay_again(scenario: Scenario, directory: Path, seeds: Iterable[int], *, whole: bool) -> Explored:
    """A command that is killed at every operation and run again; then, when that has reported success, the power goes.

    What the first was killed before it had synced, the second has to sync, though it has not made it.
    """
    explored = Explored()
    numbers = list(seeds)
    for number in itertools.count():
        base = directory / f"killed-{number}"
        base.mkdir()
        root = base / "hot"
        scenario.prepare(scenario.store(root, NumberedDisk(base=base)))
        disk = Disk(read_tree(base))
        killed = EndedDisk(base=base, whole=whole, number=number)
        with suppress(Ended):
            scenario.command(scenario.store(root, killed))
        if len(killed.trace) < number:
            break  # it was done before
        again = NumberedDisk(base=base, whole=whole, trace=[*killed.trace])
        scenario.command(scenario.store(root, again))
        for operation in again.trace:
            disk.apply(operation)
        for loss in (*WORST, *map(by_chance, numbers)):
            tree = disk.after(loss)
            if explored.is_new(tree, finished=True):
                problem = "; ".join(_problems(scenario, tree, directory / "left", True))
                if problem:
                    explored.wrong.append(f"killed after {number} operations and run again: {problem}")
        shutil.rmtree(base)
    return explored


def _explore(
    recording: Recording, directory: Path, losses: Callable[[int, Disk], Iterable[Loss]], to_the_end: bool
) -> Explored:
    explored = Explored()
    for number, disk in prefixes(recording.tree, recording.trace):
        finished = number == len(recording.trace)
        for loss in losses(number, disk):
            tree = disk.after(loss)
            if not explored.is_new(tree, finished=finished):
                continue
            problem = "; ".join(_problems(recording.scenario, tree, directory, finished))
            if problem:
                done = recording.trace[number - 1] if number else "nothing"
                explored.wrong.append(f"after {number} operations ({done}): {problem}")
                if not to_the_end:
                    return explored
    return explored


def _problems(scenario: Scenario, tree: Tree, directory: Path, finished: bool) -> Iterator[str]:
    """I1, I5 where the command had reported success, what is served; and that a publish mends whatever there is."""
    write_tree(tree, directory)
    store = scenario.store(directory / "hot", NumberedDisk(base=directory))
    try:
        # Generations nobody names may have been half taken away, and the rename to .trash lost.
        yield from faults(store, whole=False)
        found = served(store)
        if finished and found != scenario.after:
            yield f"success was reported, and {found} is served, not {scenario.after}"
        if found not in (scenario.before, scenario.after):
            yield f"{found} is served, which is neither {scenario.before} nor {scenario.after}"
        pinned = store.pointer(store.pin_path) is not None
        publish(store, NEXT)
        if not pinned and served(store) != NEXT:
            yield "the next publish is not served"
        yield from litter(store)
        yield from faults(store, whole=False)
    except (HotpathError, OSError, AssertionError) as error:
        yield f"{type(error).__name__}: {error}"
