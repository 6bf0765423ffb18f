"""A command that is killed at any operation leaves a store that is whole, and running it again finishes it."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import hotpath
from hotpath.store.disk import Disk
from hotpath.store.store import Store
from tests.store.crash.bench import Bench, intruders, quiet, seen
from tests.store.crash.killed import Killer, forking
from tests.store.crash.operations import BEFORE, NumberedDisk
from tests.store.crash.scenarios import (
    SCENARIOS,
    STEP_BACK,
    content_served,
    faults,
    litter,
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


def check(bench: Bench, killer: Killer, number: int, moment: str) -> None:
    """Kill once, then look with the eyes of every kind of reader, and go on."""
    scenario, root = bench.scenario, bench.fresh()
    store = scenario.store(root, quiet(root.parent))
    with ExitStack() as stack:
        reader = stack.enter_context(reading(store)) if scenario.reader else None
        assert killer.run(scenario.name, root, number, moment) == -9
        assert seen(bench, root) == []
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
QUICK = ("unpin",)


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in SCENARIOS]
)
def test_a_command_killed_at_any_operation_leaves_the_store_whole(
    name: str, tmp_path: Path, killer: Killer, record_property: Callable[[str, object], None]
) -> None:
    bench = Bench(SCENARIOS[name], tmp_path)
    kills = 0
    wrong = []
    for number, moment in bench.moments():
        kills += 1
        try:
            check(bench, killer, number, moment)
        except AssertionError as error:
            wrong.append(f"{moment} {number} {bench.trace[number]}: {error}")
    record_property("cases", kills)
    print(f"{name}: {len(bench.trace)} operations, {kills} kills, {len(wrong)} wrong")
    assert not wrong, "\n".join(wrong)


def closed(store: Store) -> list[str]:
    """Directories that are not as another user may enter and nobody else write them."""
    found = [store.root, *(path for path in store.root.rglob("*") if path.is_dir() and not path.is_symlink())]
    return [f"{path} {path.stat().st_mode:o}" for path in found if stat.S_IMODE(path.stat().st_mode) != 0o755]


@pytest.mark.parametrize("name", ["first publish", pytest.param("publish into quarantine", marks=pytest.mark.slow)])
def test_killed_under_a_strict_umask_no_directory_stays_closed(name: str, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        bench = Bench(SCENARIOS[name], tmp_path)
        unfinished = 0
        with forking() as killer:
            for number, moment in bench.moments():
                if "directory" not in bench.trace[number].kind:
                    continue
                root = bench.fresh()
                store = bench.scenario.store(root, quiet(root.parent))
                assert killer.run(name, root, number, moment) == -9
                unfinished += root.exists() and any(
                    stat.S_IMODE(path.stat().st_mode) == 0o1700 for path in [root, *root.iterdir()]
                )
                bench.scenario.command(store)
                publish(store, NEXT)
                assert closed(store) == [], f"{moment} {number} {bench.trace[number]}"
    finally:
        os.umask(before)
    assert unfinished >= 2, "it was killed between the making and the mode"


@pytest.mark.slow
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


@pytest.mark.parametrize(
    "module",
    [
        "store/store",
        "store/publish",
        "store/prune",
        "store/quarantine",
        "store/verify",
        "serving/reader",
        "store/repair",
    ],
)
def test_nothing_changes_the_store_beside_the_disk(module: str) -> None:
    lines = (Path(hotpath.__file__).parent / f"{module}.py").read_text("utf-8").splitlines()
    assert [line for line in lines if CHANGING.search(line)] == []
