"""The copy of a site's pages in a bucket: changed pages only, whole after any interruption, whoever else copies."""

from __future__ import annotations

import contextlib
import hashlib

import pytest

from hotpath.errors import DeclarationError, OriginConflict, OriginError
from hotpath.store.origin import Copied, Origin
from hotpath.store.origin.pointers import PIN, Copy, Pin
from hotpath.store.origin.site_copy import DEAD_SECONDS, MAX_SECONDS
from hotpath.testing import FakeClock
from tests.store.origin.fake import FAULTS, FakeObjects, Killed
from tests.store.origin.machines import Machine, pages


def copy_of(objects: FakeObjects) -> dict[str, bytes]:
    return {key.removeprefix("pages/"): data for key, (data, _) in objects.objects.items() if key.startswith("pages/")}


def copied(objects: FakeObjects) -> int | None:
    pointer = Copy.decode(objects.objects["COPY"][0]).copied
    return pointer.sequence if pointer else None


def publish(machine: Machine, site: dict[str, bytes]) -> None:
    machine.publish(site)
    machine.origin.send(machine.store)


def puts(objects: FakeObjects) -> list[str]:
    return [key for operation, key in objects.requests if operation == "put" and key.startswith("pages/")]


def test_the_copy_is_the_pages_with_their_fields(one: Machine, objects: FakeObjects) -> None:
    publish(one, pages(1))
    result = one.origin.copy_site(one.store)
    assert copy_of(objects) == pages(1)
    assert (result.pages, result.put, result.removed, result.notes, result.warnings) == (4, 4, 0, [], [])
    assert result.bytes == sum(map(len, pages(1).values()))
    assert objects.fields["pages/p0"] == {"Content-Type": "application/json", "Cache-Control": "public"}


def test_only_changed_pages_are_put_and_gone_ones_removed_after_them(one: Machine, objects: FakeObjects) -> None:
    publish(one, pages(1))
    one.origin.copy_site(one.store)
    after = {name: body for name, body in pages(2).items() if name != "p3"}
    publish(one, after)
    objects.requests.clear()
    result = one.origin.copy_site(one.store)
    assert sorted(puts(objects)) == ["pages/p1", "pages/p2"]
    assert (result.put, result.removed) == (2, 1)
    assert objects.requests.index(("delete", "pages/p3")) > objects.requests.index(("put", "pages/p2"))
    assert copy_of(objects) == after


def test_a_copy_that_is_there_costs_four_reads(one: Machine, objects: FakeObjects) -> None:
    publish(one, pages(1))
    one.origin.copy_site(one.store)
    objects.requests.clear()
    assert one.origin.copy_site(one.store).put == 0
    assert objects.requests == [("get", "CURRENT"), ("get", "PIN"), ("get", "BAD"), ("get", "COPY")]


def test_any_machine_can_copy_also_without_the_bytes(one: Machine, two: Machine, objects: FakeObjects) -> None:
    publish(one, pages(1))
    two.origin.copy_site()
    assert copy_of(objects) == pages(1)


def test_a_damaged_file_here_is_read_from_the_origin(one: Machine, objects: FakeObjects) -> None:
    publish(one, pages(1))
    file = one.store.files_path(1) / "p1.json"
    file.chmod(0o600)
    file.write_bytes(b"torn")
    one.origin.copy_site(one.store)
    assert copy_of(objects) == pages(1)


def test_what_is_pinned_is_copied(one: Machine, objects: FakeObjects) -> None:
    publish(one, pages(1))
    pointer = one.store.pointer(one.store.current_path)
    publish(one, pages(2))
    one.origin.copy_site(one.store)
    one.origin.bucket.replace(PIN, Pin().moved(pointer), None)
    result = one.origin.update_copy(one.store)
    assert result is not None
    assert result.generation == 1
    assert (copy_of(objects), copied(objects)) == (pages(1), 1)


def test_an_update_makes_no_copy_where_there_is_none(one: Machine, objects: FakeObjects) -> None:
    publish(one, pages(1))
    objects.requests.clear()
    assert one.origin.update_copy(one.store) is None
    assert objects.requests == [("get", "COPY")]


def test_the_loser_of_a_race_leaves_the_copy_alone(one: Machine, two: Machine, objects: FakeObjects) -> None:
    two.publish(pages(3))
    publish(one, pages(1))
    one.origin.copy_site(one.store)
    with pytest.raises(OriginConflict):
        two.origin.send(two.store)
    two.origin.copy_site(two.store)  # and if it did: the copy is of what was accepted
    assert copy_of(objects) == pages(1)


def test_nothing_is_published(one: Machine) -> None:
    with pytest.raises(OriginError, match="CURRENT: is missing"):
        one.origin.copy_site(one.store)


def test_files_have_no_fields(one: Machine, objects: FakeObjects) -> None:
    with pytest.raises(DeclarationError, match="which files have not; use s3://"):
        Origin("file:///var/site", objects=objects).copy_site(one.store)


@pytest.mark.parametrize("is_first", [True, False], ids=["first", "next"])
def test_interrupted_at_any_request_and_run_again_the_copy_is_whole(
    one: Machine, objects: FakeObjects, is_first: bool
) -> None:
    after = {name: body for name, body in pages(2).items() if name != "p3"}
    if not is_first:
        publish(one, pages(1))
        one.origin.copy_site(one.store)
    publish(one, after)
    before = dict(objects.objects)
    tried = 0
    for fault in FAULTS:
        index, is_done = 0, False
        while not is_done:
            objects.objects = dict(before)
            objects.fail(index, fault)
            with contextlib.suppress(Killed, OriginError):
                one.origin.copy_site(one.store)
            is_done = len(objects.requests) <= index
            objects.heal()
            one.origin.copy_site(one.store)
            assert (copy_of(objects), copied(objects)) == (after, one.served()), (fault, index)
            index, tried = index + 1, tried + 1
    assert tried >= len(FAULTS) * (9 if is_first else 10)


def test_of_two_that_copy_at_once_the_newer_generation_stays(one: Machine, two: Machine, objects: FakeObjects) -> None:
    """While one puts its second page, another machine publishes and copies; then one goes on with its old pages."""
    publish(one, pages(1))
    count = 0

    def meanwhile(operation: str, key: str) -> None:
        nonlocal count
        count += operation == "put" and key.startswith("pages/")
        if count == 2:
            count += 1
            two.follower.look()
            publish(two, pages(2))
            two.origin.copy_site(two.store)
            assert copied(objects) == 2

    objects.on_request = meanwhile
    result = one.origin.copy_site(one.store)
    assert result.generation == 2
    assert (copy_of(objects), copied(objects)) == (pages(2), 2)
    assert Copy.decode(objects.objects["COPY"][0]).copying == {}


def test_pages_of_one_that_was_killed_after_another_was_done_are_put_right_by_the_next(
    one: Machine, two: Machine, objects: FakeObjects
) -> None:
    publish(one, pages(1))
    one.origin.copy_site(one.store)
    publish(one, pages(2))
    count = 0

    def meanwhile(operation: str, key: str) -> None:
        nonlocal count
        count += operation == "put" and key.startswith("pages/")
        if count == 1:
            count += 1
            two.follower.look()
            publish(two, pages(3))
            two.origin.copy_site(two.store)
            objects.fail(1, "killed before")  # the page that is being put gets through, and no more

    objects.on_request = meanwhile
    with pytest.raises(Killed):
        one.origin.copy_site(one.store)
    objects.heal()
    assert copy_of(objects) != pages(3)
    two.origin.copy_site(two.store)
    assert (copy_of(objects), copied(objects)) == (pages(3), 3)


def test_who_was_killed_is_forgotten_when_nothing_of_it_can_come_any_more(
    one: Machine, objects: FakeObjects, clock: FakeClock
) -> None:
    publish(one, pages(1))
    one.origin.copy_site(one.store)
    publish(one, pages(2))
    objects.fail(6, "killed before")
    with pytest.raises(Killed):
        one.origin.copy_site(one.store)
    objects.heal()
    one.origin.copy_site(one.store)
    assert len(Copy.decode(objects.objects["COPY"][0]).copying) == 1
    clock.advance(DEAD_SECONDS + 1)
    one.origin.copy_site(one.store)
    assert Copy.decode(objects.objects["COPY"][0]).copying == {}


def test_who_takes_longer_than_others_wait_writes_no_more(one: Machine, objects: FakeObjects, clock: FakeClock) -> None:
    assert MAX_SECONDS < DEAD_SECONDS
    publish(one, pages(1))
    objects.on_request = lambda operation, key: clock.advance(MAX_SECONDS / 2 if operation == "put" else 0)
    with pytest.raises(OriginError, match="longer than 2 hours") as caught:
        one.origin.copy_site(one.store)
    assert caught.value.exit_code == 75
    assert len(copy_of(objects)) == 2


def test_where_the_manifest_of_the_copy_is_gone_everything_is_put_and_it_says_so(
    one: Machine, two: Machine, objects: FakeObjects
) -> None:
    publish(one, {**pages(1), "gone": b"[]"})
    one.origin.copy_site(one.store)
    publish(one, pages(2))
    del objects.objects["generations/00000001.json"]
    result = two.origin.copy_site()
    assert (result.put, result.is_unknown) == (4, True)
    assert result.warnings == [
        "what the site copy was before could not be known: pages that are gone may still be in it"
    ]
    assert set(copy_of(objects)) == {*pages(2), "gone"}


def test_no_byte_is_put_that_is_not_what_was_published(one: Machine, two: Machine, objects: FakeObjects) -> None:
    publish(one, {"a": b"[1]"})
    digest = hashlib.sha256(b"[1]").hexdigest()
    objects.edit(f"blobs/{digest[:2]}/{digest}", lambda data: b"[2]")
    with pytest.raises(OriginError, match="its digest differs"):
        two.origin.copy_site()
    assert copy_of(objects) == {}


def test_what_a_copy_cannot_have_is_a_line_for_each_reason() -> None:
    copied = Copied(7, 3, 3, 0, 100, {"a reason": ("/a", "/b", "/c", "/d"), "another": ("/e",)}, ("x-frame-options",))
    assert copied.notes == [
        "4 pages left out of the site copy: a reason (/a, /b, /c, …)",
        "1 page left out of the site copy: another (/e)",
        "the site copy is served without x-frame-options: let the CDN add what is needed",
    ]
