"""Pruning the origin: only what no kept manifest names, only what is old, and nothing where anything is unreadable."""

from __future__ import annotations

from pathlib import Path

import pytest

from hotpath.errors import DeclarationError, OriginConflict, OriginError
from hotpath.testing import FakeClock
from tests.store.origin.fake import FakeObjects, Killed
from tests.store.origin.machines import Machine, pages

DAY = 86400


@pytest.fixture
def builder(tmp_path: Path, objects: FakeObjects, clock: FakeClock) -> Machine:
    """Twelve nights, one generation each."""
    builder = Machine(tmp_path / "builder", objects, clock)
    for number in range(1, 13):
        builder.publish(pages(number))
        builder.origin.send(builder.store)
        clock.advance(DAY)
    return builder


def numbers(objects: FakeObjects) -> list[int]:
    return [int(key[-13:-5]) for key in sorted(objects.objects) if key.startswith("generations/")]


def test_old_generations_go_with_their_blobs_and_young_ones_stay(builder: Machine, objects: FakeObjects) -> None:
    before = len(objects.objects)
    pruned = builder.origin.prune(keep=2)
    assert pruned.generations == (1, 2, 3, 4)
    assert numbers(objects) == [5, 6, 7, 8, 9, 10, 11, 12], "those of the last seven days stay, kept or not"
    assert pruned.blobs > 0
    assert len(objects.objects) == before - len(pruned.generations) - pruned.blobs
    assert builder.origin.verify().is_sound
    again = builder.origin.prune(keep=2)
    assert (again.generations, again.blobs) == ((), 0)


def test_a_follower_that_has_read_a_manifest_still_gets_its_blobs(
    tmp_path: Path, builder: Machine, objects: FakeObjects
) -> None:
    follower = Machine(tmp_path / "slow", objects, builder.clock)

    def prune_meanwhile(operation: str, key: str) -> None:
        if key.startswith("blobs/"):
            objects.on_request = lambda operation, key: None
            for number in (13, 14, 15):
                builder.publish(pages(number))
                builder.origin.send(builder.store)
            builder.origin.prune(keep=1)

    objects.on_request = prune_meanwhile
    assert follower.follower.look().error is None
    assert follower.pages() == pages(12)


def test_what_a_build_that_was_killed_has_sent_stays_for_its_next_attempt(
    builder: Machine, objects: FakeObjects, clock: FakeClock
) -> None:
    builder.publish({"new": b"[1]", "newer": b"[2]"})
    before = len(objects.objects)
    objects.fail(4 + 1, "killed before")
    with pytest.raises(Killed):
        builder.origin.send(builder.store)
    objects.heal()
    assert len(objects.objects) == before + 2
    assert builder.origin.prune(keep=20).blobs == 0
    clock.advance(8 * DAY)
    builder.follower.look()  # its report is what the engine's time is taken from
    assert builder.origin.prune(keep=20).blobs == 2


def test_the_pinned_and_the_current_one_stay(builder: Machine, objects: FakeObjects, clock: FakeClock) -> None:
    builder.origin.pin(2)
    clock.advance(30 * DAY)
    builder.publish(pages(20))
    builder.origin.send(builder.store)
    assert set(builder.origin.prune(keep=1).generations) == {1, *range(3, 13)}
    assert numbers(objects) == [2, 13]
    assert builder.origin.verify().is_sound
    assert builder.origin.unpin() == 2


@pytest.mark.parametrize("what", ["kept is damaged", "kept is gone", "young is damaged", "half a rollback"])
def test_what_cannot_be_read_ends_it_before_anything_is_removed(
    builder: Machine, objects: FakeObjects, what: str
) -> None:
    if what == "half a rollback":
        objects.fail(4 + 4, "killed after")
        with pytest.raises(Killed):
            builder.origin.rollback()
        objects.heal()
    elif what == "kept is gone":
        del objects.objects["generations/00000011.json"]
    else:
        key = f"generations/{'00000011' if what.startswith('kept') else '00000009'}.json"
        objects.edit(key, lambda data: data[:-9])
    before = set(objects.objects)
    with pytest.raises(OriginError):
        builder.origin.prune(keep=2)
    assert set(objects.objects) == before
    if what != "half a rollback":
        builder.publish(pages(20))
        builder.origin.send(builder.store)  # not kept out by a mark that was left


def test_a_clock_that_is_a_year_ahead_removes_nothing_young(
    builder: Machine, objects: FakeObjects, clock: FakeClock
) -> None:
    clock.advance(365 * DAY)
    builder.origin.prune(keep=2)
    assert numbers(objects) == [5, 6, 7, 8, 9, 10, 11, 12]


def test_what_somebody_else_has_put_there_stays(builder: Machine, objects: FakeObjects) -> None:
    for key in ("blobs/readme.txt", "blobs/3f/short", "generations/notes.json", "other/file"):
        objects.objects[key] = (b"mine", 0.0)
    builder.origin.prune(keep=1)
    assert {"blobs/readme.txt", "blobs/3f/short", "generations/notes.json", "other/file"} < set(objects.objects)


def test_a_build_that_began_before_is_not_hurt(builder: Machine, objects: FakeObjects, clock: FakeClock) -> None:
    """It relied on a blob that only an old generation has; its CURRENT is refused, and it looks again."""
    since = builder.origin.begin()
    builder.publish(pages(1))
    pruned = builder.origin.prune(keep=1)
    assert pruned.blobs > 0
    builder.origin.send(builder.store, since)
    assert builder.origin.verify().is_sound


def test_a_build_during_a_prune_waits(builder: Machine, objects: FakeObjects, clock: FakeClock) -> None:
    builder.publish(pages(1))
    refused: list[OriginConflict] = []

    def send(operation: str, key: str) -> None:
        if operation == "delete":
            objects.on_request = lambda operation, key: None
            try:
                builder.origin.send(builder.store)
            except OriginConflict as error:
                refused.append(error)

    objects.on_request = send
    builder.origin.prune(keep=1)
    assert [error.exit_code for error in refused] == [75]
    assert "being removed" in str(refused[0])
    builder.origin.send(builder.store)
    assert builder.origin.verify().is_sound


def test_a_prune_that_was_killed_keeps_builds_out_for_a_quarter_of_an_hour(
    builder: Machine, objects: FakeObjects, clock: FakeClock
) -> None:
    objects.fail(5, "killed before")
    with pytest.raises(Killed):
        builder.origin.prune(keep=1)
    objects.heal()
    builder.publish(pages(20))
    with pytest.raises(OriginConflict, match="being removed"):
        builder.origin.send(builder.store)
    clock.advance(15 * 60)
    builder.origin.send(builder.store)
    assert builder.origin.verify().is_sound


def test_a_second_prune_ends_the_first(builder: Machine, objects: FakeObjects) -> None:
    def prune(operation: str, key: str) -> None:
        if operation == "delete":
            objects.on_request = lambda operation, key: None
            builder.origin.prune(keep=1)

    objects.on_request = prune
    with pytest.raises(OriginConflict, match="another prune began"):
        builder.origin.prune(keep=1)
    assert builder.origin.verify().is_sound
    builder.publish(pages(20))
    builder.origin.send(builder.store)


def test_a_machine_that_is_gone_is_forgotten(tmp_path: Path, builder: Machine, objects: FakeObjects) -> None:
    Machine(tmp_path / "gone", objects, builder.clock).follower.look()
    builder.clock.advance(8 * DAY)
    builder.follower.look()
    assert [report.name for report in builder.origin.machines()] == ["builder", "gone"]
    builder.origin.prune()
    assert [report.name for report in builder.origin.machines()] == ["builder"]


def test_nothing_is_removed_of_an_empty_origin(tmp_path: Path, clock: FakeClock) -> None:
    machine = Machine(tmp_path / "first", FakeObjects(clock), clock)
    with pytest.raises(OriginError, match="nothing is published"):
        machine.origin.prune()
    with pytest.raises(DeclarationError):
        machine.origin.prune(keep=0)
