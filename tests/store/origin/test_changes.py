"""Rollback, pin, unpin, approve at the origin: as on disk, and every machine follows."""

from __future__ import annotations

from pathlib import Path

import pytest

from hotpath.errors import Implausible, OriginError
from hotpath.store.history import read_history
from hotpath.store.publish import staging
from hotpath.testing import FakeClock
from tests.store.origin.fake import FakeObjects
from tests.store.origin.machines import POLICY, Machine, pages


@pytest.fixture
def builder(tmp_path: Path, objects: FakeObjects, clock: FakeClock) -> Machine:
    """A machine that has built and sent three generations, and follows."""
    builder = Machine(tmp_path / "builder", objects, clock)
    for number in (1, 2, 3):
        builder.publish(pages(number))
        builder.origin.send(builder.store)
    return builder


@pytest.fixture
def machine(tmp_path: Path, objects: FakeObjects, clock: FakeClock, builder: Machine) -> Machine:
    """One that follows alone, and has seen the third."""
    machine = Machine(tmp_path / "machine", objects, clock)
    machine.follower.look()
    return machine


def test_a_rollback_pins_and_the_bad_one_never_comes_back(builder: Machine, machine: Machine) -> None:
    assert machine.origin.rollback(reason="half the rows") == (3, 2)
    for one in (machine, builder):
        look = one.follower.look()
        assert (look.changed, look.generation, look.origin_generation, look.error) == (True, 2, 2, None)
        assert one.pages() == pages(2)
        assert one.store.bad() == {3: "half the rows"}
    builder.publish(pages(4))
    builder.origin.send(builder.store)
    for one in (machine, builder):
        assert one.follower.look().generation == 2, "a publish does not walk over a rollback"
    assert machine.origin.unpin() == 2
    for one in (machine, builder):
        one.follower.look()
        assert one.pages() == pages(4)
        assert one.store.pointer(one.store.pin_path) is None
    assert machine.origin.rollback() == (4, 2), "generation 3 is bad and is passed over"


def test_a_rollback_without_a_pin_serves_the_next(builder: Machine, machine: Machine) -> None:
    assert builder.origin.rollback(pin=False) == (3, 2)
    assert builder.follower.look().generation == machine.follower.look().generation == 2
    assert builder.publish(pages(4)) == 4
    builder.origin.send(builder.store)
    assert machine.follower.look().generation == 4


def test_a_number_that_was_rolled_back_is_not_given_out_again(builder: Machine, tmp_path: Path) -> None:
    builder.origin.rollback(pin=False)
    fresh = Machine(tmp_path / "fresh", builder.origin.bucket.objects, builder.clock)
    fresh.follower.look()
    assert fresh.publish(pages(5)) == 4


def test_a_rollback_to_one_generation(builder: Machine, machine: Machine) -> None:
    assert machine.origin.rollback(to=1) == (3, 1)
    assert machine.follower.look().generation == 1
    assert set(machine.store.bad()) == {2, 3}
    for to, problem in ((2, "marked bad"), (1, "is served"), (9, "no generation 9")):
        with pytest.raises(OriginError, match=problem):
            machine.origin.rollback(to=to)
    with pytest.raises(OriginError, match="no sound generation before 1"):
        machine.origin.rollback()


def test_a_rollback_passes_over_a_generation_that_is_damaged_there(
    builder: Machine, machine: Machine, objects: FakeObjects
) -> None:
    digest = builder.store.read_manifest(2).items["/p2"].identity.sha256.hex()
    del objects.objects[f"blobs/{digest[:2]}/{digest}"]
    before = dict(objects.objects)
    with pytest.raises(OriginError, match="is missing"):
        machine.origin.rollback(to=2)
    with pytest.raises(OriginError, match="is missing"):
        machine.origin.pin(2)
    assert objects.objects == before, "nothing was changed"
    assert machine.origin.rollback() == (3, 1)


def test_a_loser_that_was_never_accepted_cannot_be_gone_back_to(
    tmp_path: Path, builder: Machine, machine: Machine, objects: FakeObjects
) -> None:
    """A builder that was killed after its manifest: number 4 is there, and was never served."""
    machine.publish(pages(4))
    since = machine.origin.begin()
    objects.put("generations/00000004.json", machine.store.manifest_path(4).read_bytes())
    builder.publish(pages(5))
    with pytest.raises(OriginError, match="another machine was first"):
        builder.origin.send(builder.store, since)
    assert builder.publish(pages(5)) == 5
    builder.origin.send(builder.store)
    assert builder.origin.rollback() == (5, 3)


def test_a_pin_is_kept_whatever_is_sent(builder: Machine, machine: Machine) -> None:
    machine.origin.pin(1)
    assert machine.follower.look().generation == 1
    builder.publish(pages(4))
    builder.origin.send(builder.store)
    assert machine.follower.look().generation == 1
    assert machine.origin.unpin() == 1
    assert machine.origin.unpin() is None
    assert machine.follower.look().generation == 4
    with pytest.raises(OriginError, match="no generation 9"):
        machine.origin.pin(9)
    machine.origin.rollback()
    with pytest.raises(OriginError, match="marked bad"):
        machine.origin.pin(4)


def test_a_machine_that_starts_anew_serves_the_pinned_one(
    tmp_path: Path, builder: Machine, objects: FakeObjects
) -> None:
    builder.origin.pin(1)
    fresh = Machine(tmp_path / "fresh", objects, builder.clock)
    assert fresh.follower.look().generation == 1
    assert fresh.pages() == pages(1)
    builder.origin.unpin()
    assert fresh.follower.look().generation == 3


def test_what_a_machine_has_is_not_fetched_for_a_rollback(builder: Machine) -> None:
    builder.origin.rollback()
    assert builder.follower.look().blobs == 0


def test_a_rollback_to_what_is_damaged_here_is_fetched_again(builder: Machine) -> None:
    path = builder.store.files_path(2) / "p2.json"
    path.chmod(0o644)
    path.write_bytes(b"{}")
    builder.origin.rollback()
    look = builder.follower.look()
    assert (look.error, look.generation, look.blobs) == (None, 2, 1)
    assert builder.pages() == pages(2)


def test_nothing_published_there_says_what_to_do(tmp_path: Path, objects: FakeObjects, clock: FakeClock) -> None:
    machine = Machine(tmp_path / "first", FakeObjects(clock), clock)
    for change in (machine.origin.rollback, machine.origin.unpin, lambda: machine.origin.pin(1)):
        with pytest.raises(OriginError, match="nothing is published there yet"):
            change()
    assert machine.origin.verify().is_sound


def quarantine(machine: Machine, number: int) -> int:
    with staging(machine.store) as stage:
        for name, body in pages(number).items():
            stage.add(f"/{name}", f"{name}.json", body, POLICY)
        with pytest.raises(Implausible) as refused:
            stage.publish(problems=["half the rows"])
        return refused.value.sequence


def test_any_machine_approves_what_another_put_in_quarantine(
    builder: Machine, machine: Machine, objects: FakeObjects
) -> None:
    sequence = quarantine(builder, 4)
    builder.origin.send_quarantined(builder.store, sequence)
    assert machine.origin.quarantined() == [4]
    assert machine.follower.look().generation == 3
    with pytest.raises(OriginError, match="needs a reason"):
        machine.origin.approve(4, " ")
    with pytest.raises(OriginError, match="not in quarantine"):
        machine.origin.approve(5, "right after all")
    machine.origin.approve(4, "right after all")
    machine.origin.approve(4, "right after all")
    assert machine.origin.quarantined() == []
    for one in (machine, builder):
        one.follower.look()
        assert one.pages() == pages(4)
        approvals = [event for event in read_history(one.store) if event["event"] == "approve"]
        assert [(event["sequence"], event["reason"]) for event in approvals] == [(4, "right after all")]
        assert one.store.quarantined() == []
    builder.publish(pages(5))
    builder.origin.send(builder.store)
    machine.follower.look()
    assert len([event for event in read_history(machine.store) if event["event"] == "approve"]) == 1


def test_an_older_one_is_not_approved_over_a_newer(builder: Machine, machine: Machine) -> None:
    builder.origin.send_quarantined(builder.store, quarantine(builder, 4))
    assert builder.publish(pages(5)) == 5
    builder.origin.send(builder.store)
    with pytest.raises(OriginError, match="5 was accepted after 4"):
        machine.origin.approve(4, "right after all")
    assert machine.origin.quarantined() == []
    machine.follower.look()
    machine.origin.rollback(pin=False)
    assert machine.origin.quarantined() == [4]
    machine.origin.approve(4, "better than what came after it")
    for one in (machine, builder):
        assert one.follower.look().error is None
        assert (one.served(), one.pages()) == (4, pages(4))
    assert builder.publish(pages(6)) == 6
    builder.origin.send(builder.store)
    assert machine.follower.look().generation == 6


def test_one_that_is_marked_bad_is_not_approved(builder: Machine, machine: Machine) -> None:
    builder.origin.send_quarantined(builder.store, quarantine(builder, 4))
    machine.origin.approve(4, "right after all")
    machine.origin.rollback()
    with pytest.raises(OriginError, match="marked bad"):
        machine.origin.approve(4, "right after all")


def test_a_damaged_one_is_not_approved(builder: Machine, machine: Machine, objects: FakeObjects) -> None:
    builder.origin.send_quarantined(builder.store, quarantine(builder, 8))
    before = objects.objects["CURRENT"]
    digest = builder.store.read_manifest(3).items["/p3"].identity.sha256.hex()
    mine = [key for key in objects.objects if key.startswith("blobs/") and digest not in key]
    for key in mine:
        objects.edit(key, lambda data: data + b" ")
    with pytest.raises(OriginError, match="digest differs"):
        machine.origin.approve(4, "right after all")
    assert objects.objects["CURRENT"] == before


def test_verify_leaves_out_what_nothing_reads_again(builder: Machine, objects: FakeObjects) -> None:
    builder.origin.rollback()
    objects.edit("generations/00000003.json", lambda data: b"")
    result = builder.origin.verify()
    assert (result.generations, result.problems) == (2, [])


def test_verify_reads_everything_once_and_repairs_from_a_store(
    builder: Machine, machine: Machine, objects: FakeObjects
) -> None:
    objects.requests.clear()
    result = builder.origin.verify()
    assert (result.generations, result.blobs, result.problems) == (3, 7, [])
    assert len(objects.requests) == 3 + 3 + 7
    digest = builder.store.read_manifest(3).items["/p3"].identity.sha256.hex()
    whole = dict(objects.objects)
    objects.edit(f"blobs/{digest[:2]}/{digest}", lambda data: b"")
    del objects.objects["generations/00000002.json"]
    result = machine.origin.verify()
    assert [digest in problem or "generations/00000002" in problem for problem in result.problems] == [True, True]
    assert not result.is_sound
    result = builder.origin.verify(builder.store)
    assert (len(result.repaired), result.problems) == (2, [])
    assert {key: data for key, (data, _) in objects.objects.items()} == {key: data for key, (data, _) in whole.items()}
