"""Whatever the disk lost, the store serves one whole generation; what was reported published is the one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from tests.store.crash.model import WORST, Disk, Loss, by_chance, one_directory
from tests.store.crash.operations import NumberedDisk, Operation
from tests.store.crash.replay import Explored, Recording, record, replay_again, replay_by_chance, replay_worst
from tests.store.crash.scenarios import COMMANDS

DROPPED, KEPT = WORST[0], WORST[3]
# No reader takes part in a power loss.
NAMES = [name for name, scenario in COMMANDS.items() if name != "publish beside a reader"]
SEEDS = range(12)
Record = Callable[[str, object], None]


def recorded(name: str, directory: Path, *, whole: bool) -> Recording:
    directory.mkdir()
    return record(COMMANDS[name], directory, lambda base: NumberedDisk(base=base, whole=whole))


def told(name: str, kind: str, explored: Explored, record: Record, least: int = 10) -> None:
    record("cases", explored.replays)
    record("states", explored.states)
    print(f"{name}, {kind}: {explored.replays} losses, {explored.states} states, {len(explored.wrong)} wrong")
    assert explored.states >= least, "the model has lost next to nothing"
    assert not explored.wrong, "\n".join(explored.wrong[:40])


def cases(quick: tuple[str, bool]) -> list[ParameterSet]:
    """Every command, with one syncfs and with an fsync of each file; all but one case are slow."""
    return [
        pytest.param(
            name,
            whole,
            marks=[] if (name, whole) == quick else pytest.mark.slow,
            id=f"{name}, {'syncfs' if whole else 'fsync of each'}",
        )
        for name in NAMES
        for whole in (True, False)
    ]


@pytest.mark.parametrize(("name", "whole"), cases(("first publish", True)))
def test_a_power_loss_at_any_operation(name: str, whole: bool, tmp_path: Path, record_property: Record) -> None:
    recording = recorded(name, tmp_path / "recorded", whole=whole)
    told(name, "all dropped or all kept", replay_worst(recording, tmp_path / "left"), record_property)


@pytest.mark.parametrize(("name", "whole"), cases(("first publish", False)))
def test_a_power_loss_that_drops_and_keeps_by_chance(
    name: str, whole: bool, tmp_path: Path, record_property: Record
) -> None:
    recording = recorded(name, tmp_path / "recorded", whole=whole)
    told(name, f"{len(SEEDS)} seeds", replay_by_chance(recording, tmp_path / "left", SEEDS), record_property)


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        pytest.param(
            name,
            whole,
            marks=[] if (name, whole) == ("first publish", False) else pytest.mark.slow,
        )
        for name in NAMES
        if name != "step back"  # run again, it goes back once more
        for whole in (True, False)
    ],
)
def test_a_kill_and_then_a_power_loss(name: str, whole: bool, tmp_path: Path, record_property: Record) -> None:
    """What was killed is run again and reports success: nothing of it may hang on what the first did not sync."""
    explored = replay_again(COMMANDS[name], tmp_path, range(4), whole=whole)
    told(name, "killed, run again", explored, record_property, least=4)


# The model itself.


def after(trace: list[Operation], loss: Loss) -> dict[str, bytes | str | None]:
    disk = Disk({"kept": b"kept"})
    for operation in trace:
        disk.apply(operation)
    return dict(disk.after(loss))


WRITE = Operation("write_new", "a", data=b"data")


def test_a_file_that_was_not_synced_may_be_gone_empty_or_garbage() -> None:
    left = [after([WRITE], loss) for loss in WORST]
    assert {tree.get("a") for tree in left} == {None, b"", b"da", b"da\0\0", b"\0\0\0\0", b">;.;", b"data"}
    assert all(tree["kept"] == b"kept" for tree in left)


def test_a_synced_file_keeps_its_bytes_but_not_its_name() -> None:
    trace = [WRITE, Operation("sync_file", "a")]
    assert {after(trace, loss).get("a") for loss in WORST} == {None, b"data"}
    assert {after([*trace, Operation("sync_directory", ".")], loss).get("a") for loss in WORST} == {b"data"}


def test_a_synced_name_may_be_of_a_file_without_its_bytes() -> None:
    assert after([WRITE, Operation("sync_directory", ".")], DROPPED) == {"kept": b"kept", "a": b""}


def test_a_rename_is_durable_before_what_it_names_or_not_at_all() -> None:
    trace = [WRITE, Operation("sync_file", "a"), Operation("replace", "a", "kept")]
    found = [after(trace, by_chance(seed)) for seed in range(50)]
    assert {tree["kept"] for tree in found} == {b"kept", b"data"}, "never neither"
    assert {"a" in tree for tree in found} == {True, False}
    unsynced = [after([WRITE, Operation("replace", "a", "kept")], by_chance(seed)) for seed in range(50)]
    assert b"" in {tree["kept"] for tree in unsynced}


def test_a_directory_that_is_renamed_carries_what_is_durable_in_it() -> None:
    trace = [
        Operation("make_directory", "d"),
        Operation("write_new", "d/file", data=b"data"),
        Operation("rename", "d", "e"),
        Operation("sync_directory", "."),
    ]
    assert after(trace, DROPPED) == {"kept": b"kept", "e": None}
    assert after([*trace[:2], Operation("sync_tree", "d"), *trace[2:]], DROPPED)["e/file"] == b"data"


def test_one_directory_alone_may_be_behind() -> None:
    disk = Disk({"one": None, "two": None, "one/file": b"data"})
    disk.apply(Operation("rename", "one/file", "two/file"))
    assert disk.unsynced() == ["one/", "two/"]
    behind, ahead = one_directory("two/")
    assert not any("file" in path for path in disk.after(behind)), "gone from both"
    assert {"one/file", "two/file"} <= disk.after(ahead).keys()


def test_two_names_of_one_file_have_the_same_bytes() -> None:
    trace = [WRITE, Operation("link", "a", "b"), Operation("sync_directory", ".")]
    for seed in range(20):
        tree = after(trace, by_chance(seed))
        assert tree["a"] == tree["b"]


def test_what_was_written_in_place_may_be_torn_and_what_was_added_to_is_not_lost() -> None:
    overwritten = [after([Operation("overwrite", "kept", data=b"new!")], loss)["kept"] for loss in WORST]
    assert {b"kept", b"", b"ne", b"new!"} <= set(overwritten)
    added = [after([Operation("append", "kept", data=b"+1")], loss)["kept"] for loss in WORST]
    assert all(isinstance(found, bytes) and found.startswith(b"kept") for found in added)
    assert KEPT.content([b"", b"x"]) == b"x"
