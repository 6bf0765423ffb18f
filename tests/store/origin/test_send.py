"""Sending: bytes once, one winner, and nothing that a loser leaves is in anybody's way."""

from __future__ import annotations

from pathlib import Path

import pytest

from hotpath.errors import Corrupt, OriginConflict, OriginError
from hotpath.testing import FakeClock
from tests.store.origin.fake import FakeObjects
from tests.store.origin.machines import Machine, pages


def test_what_did_not_change_is_not_sent_again(one: Machine, objects: FakeObjects) -> None:
    one.publish(pages(1))
    assert one.origin.send(one.store).blobs == 4
    one.publish(pages(2))
    sent = one.origin.send(one.store)
    assert (sent.generation, sent.blobs) == (2, 2), "one page is new and one is as it was at first"
    one.publish(pages(2))
    assert one.origin.send(one.store).blobs == 0


def test_the_keys_are_those_of_the_contract(one: Machine, objects: FakeObjects) -> None:
    one.publish({"a": b"[1]"})
    one.origin.send(one.store)
    digest = one.store.read_manifest(1).items["/a"].identity.sha256.hex()
    assert sorted(objects.objects) == [
        "CURRENT",
        f"blobs/{digest[:2]}/{digest}",
        "generations/00000001.json",
    ]
    assert objects.objects["generations/00000001.json"][0] == one.store.manifest_path(1).read_bytes()


def test_sent_twice_is_sent_once(one: Machine, objects: FakeObjects) -> None:
    one.publish(pages(1))
    one.origin.send(one.store)
    before = dict(objects.objects)
    again = one.origin.send(one.store)
    assert again.already
    assert objects.objects == before


def test_of_two_builders_at_once_one_wins_and_the_other_can_build_again(one: Machine, two: Machine) -> None:
    one.publish(pages(1))
    one.origin.send(one.store)
    two.follower.look()
    first, second = one.origin.begin(), two.origin.begin()
    one.publish(pages(2))
    two.publish(pages(3))
    assert one.origin.send(one.store, first).generation == 2
    with pytest.raises(OriginConflict, match="another machine was first") as lost:
        two.origin.send(two.store, second)
    assert lost.value.exit_code == 75
    assert two.pages() == pages(3), "what it has built is served there until it looks"
    two.follower.look()
    assert two.pages() == pages(2), "the accepted generation takes the place of one with the same number"
    two.publish(pages(3))
    assert two.origin.send(two.store).generation == 3
    one.follower.look()
    assert one.pages() == pages(3)


def test_the_loser_of_a_race_loses_with_a_higher_number_too(one: Machine, two: Machine) -> None:
    """It was not built from what was accepted meanwhile."""
    one.publish(pages(1))
    one.origin.send(one.store)
    two.follower.look()
    since = two.origin.begin()
    two.publish(pages(2))
    two.publish(pages(3))
    one.publish(pages(4))
    one.origin.send(one.store)
    with pytest.raises(OriginConflict, match="another machine was first"):
        two.origin.send(two.store, since)
    assert one.origin.begin().state.chosen == one.store.pointer_to(2)


def test_a_builder_that_did_not_follow_does_not_walk_over_a_newer_generation(one: Machine, two: Machine) -> None:
    for number in (1, 2):
        one.publish(pages(number))
        one.origin.send(one.store)
    two.publish(pages(3))
    with pytest.raises(OriginConflict, match="not newer than the origin's 2"):
        two.origin.send(two.store)


def test_damaged_bytes_of_this_machine_are_not_sent(one: Machine, objects: FakeObjects) -> None:
    one.publish(pages(1))
    path = one.store.files_path(1) / "p1.json"
    path.chmod(0o644)
    path.write_bytes(b"{}")
    with pytest.raises(Corrupt, match="digest differs"):
        one.origin.send(one.store)
    assert "CURRENT" not in objects.objects


def test_damaged_bytes_of_the_engine_are_replaced(one: Machine, objects: FakeObjects) -> None:
    one.publish(pages(1))
    digest = one.store.read_manifest(1).items["/p1"].identity.sha256.hex()
    objects.put(f"blobs/{digest[:2]}/{digest}", b"{}")
    one.origin.send(one.store)
    assert objects.objects[f"blobs/{digest[:2]}/{digest}"][0] == pages(1)["p1"]


@pytest.mark.parametrize("data", [b"", b"<html>", b"[]", b'{"hotpath":1}', b'{"hotpath":1,"change":1,"current":null}'])
def test_a_bucket_of_something_else_is_refused(one: Machine, objects: FakeObjects, data: bytes) -> None:
    objects.put("CURRENT", data)
    one.publish(pages(1))
    with pytest.raises(OriginError, match="no pointer of hotpath") as refused:
        one.origin.send(one.store)
    assert refused.value.key == "CURRENT"
    assert objects.objects["CURRENT"][0] == data


def test_a_newer_format_says_so(one: Machine, objects: FakeObjects) -> None:
    objects.put("CURRENT", b'{"hotpath":2,"change":1}')
    one.publish(pages(1))
    with pytest.raises(OriginError, match="upgrade hotpath"):
        one.origin.send(one.store)


def test_many_requests_at_once_send_the_same(tmp_path: Path, clock: FakeClock, objects: FakeObjects) -> None:
    machine = Machine(tmp_path / "many", objects, clock, threads=8)
    machine.publish(pages(1, count=40))
    assert machine.origin.send(machine.store).blobs == 40
    other = Machine(tmp_path / "other", objects, clock, threads=8)
    other.follower.look()
    assert other.pages() == pages(1, count=40)
    objects.is_down = True
    machine.publish(pages(50, count=60))
    with pytest.raises(OriginError):
        machine.origin.send(machine.store)
