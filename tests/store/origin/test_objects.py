"""Each kind of object store keeps the same contract, and a request that failed is tried again as far as that helps."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from obstore.store import MemoryStore

from hotpath.errors import OriginConflict, OriginError
from hotpath.store.origin.directory import DirectoryObjects
from hotpath.store.origin.objects import ATTEMPTS, UNCHANGED, Objects, Retrying
from hotpath.store.origin.obstore_objects import ObstoreObjects
from hotpath.store.origin.url import OriginUrl
from hotpath.testing import FakeClock
from tests.store.origin.fake import FakeObjects, Fault, conflict, etag_of, transient

KINDS: dict[str, Callable[[Path], Objects]] = {
    "fake": lambda path: FakeObjects(),
    "obstore": lambda path: ObstoreObjects(OriginUrl.parse("s3://bucket/site"), MemoryStore()),
    "directory": lambda path: DirectoryObjects(OriginUrl.parse(f"file://{path}/shared")),
}


@pytest.fixture(params=KINDS)
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    (tmp_path / "shared").mkdir()
    return KINDS[request.param](tmp_path)


def test_what_was_put_is_read(objects: Objects) -> None:
    assert objects.get("a/b") is None
    etag = objects.put_new("a/b", b"1")
    found = objects.get("a/b")
    assert found is not None
    assert (found.data, found.etag) == (b"1", etag)


def test_a_new_one_is_put_once(objects: Objects) -> None:
    objects.put_new("a", b"1")
    with pytest.raises(OriginConflict) as refused:
        objects.put_new("a", b"1")
    assert (refused.value.key, refused.value.exit_code, refused.value.url) == ("a", 75, objects.url)


def test_one_is_replaced_only_as_it_was_read(objects: Objects) -> None:
    with pytest.raises(OriginConflict):
        objects.put_if("a", b"1", '"0"')
    first = objects.put_new("a", b"1")
    second = objects.put_if("a", b"2", first)
    with pytest.raises(OriginConflict):
        objects.put_if("a", b"3", first)
    found = objects.get("a")
    assert found is not None
    assert (found.data, found.etag) == (b"2", second)


def test_what_has_not_changed_is_not_read(objects: Objects) -> None:
    assert objects.get_if_changed("a", '"0"') is None
    etag = objects.put_new("a", b"1")
    assert objects.get_if_changed("a", etag) is UNCHANGED
    objects.put("a", b"2")
    found = objects.get_if_changed("a", etag)
    assert found is not None
    assert found is not UNCHANGED
    assert found.data == b"2"


def test_a_list_has_what_is_below(objects: Objects) -> None:
    assert [*objects.list("blobs/")] == []
    for key in ("blobs/3f/1", "blobs/40/2", "blobs2/3", "CURRENT"):
        objects.put(key, b"four")
    entries = sorted(objects.list("blobs/"), key=lambda entry: entry.key)
    assert [(entry.key, entry.length) for entry in entries] == [("blobs/3f/1", 4), ("blobs/40/2", 4)]
    assert all(entry.modified > 1_700_000_000 for entry in entries)


def test_removed_twice_is_removed_once(objects: Objects) -> None:
    for key in ("a", "b", "c"):
        objects.put(key, b"1")
    objects.delete(["a", "b"])
    objects.delete(["a", "b"])
    assert objects.get("a") is None
    assert objects.get("c") is not None


def test_a_directory_that_cannot_be_used_says_so(tmp_path: Path) -> None:
    objects = KINDS["directory"](tmp_path)
    with pytest.raises(OriginError, match="mount the share") as refused:
        objects.get("a")
    assert not refused.value.is_transient
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "blobs").write_bytes(b"a file")
    with pytest.raises(OriginError, match="blobs") as refused:
        objects.put_new("blobs/a", b"1")
    assert not refused.value.is_transient


@pytest.fixture
def fake() -> FakeObjects:
    return FakeObjects()


@pytest.fixture
def retrying(fake: FakeObjects, clock: FakeClock) -> Retrying:
    return Retrying(fake, sleep=clock.advance, random=lambda: 1.0, monotonic=clock)


RETRIED: tuple[Fault, ...] = ("500", "503", "timeout", "409", "412", "reset after")


@pytest.mark.parametrize("fault", RETRIED)
def test_a_write_that_failed_once_is_a_write(fake: FakeObjects, retrying: Retrying, fault: Fault) -> None:
    """Also one that took effect: what this writer wrote itself is no conflict."""
    fake.fail(0, fault)
    etag = retrying.put_new("a", b"1")
    fake.fail(0, fault)
    assert retrying.put_if("a", b"2", etag) == etag_of(b"2")
    assert fake.objects["a"][0] == b"2"


@pytest.mark.parametrize("fault", ["500", "503", "timeout", "reset after"])
def test_any_other_request_too(fake: FakeObjects, retrying: Retrying, fault: Fault) -> None:
    fake.fail(0, fault)
    retrying.put("a", b"1")
    for request in (
        lambda: retrying.get("a"),
        lambda: retrying.get_if_changed("a", "other"),
        lambda: [*retrying.list("")],
    ):
        fake.fail(0, fault)
        assert request()
    fake.fail(0, fault)
    retrying.delete(["a"])
    assert fake.objects == {}


def test_another_writers_object_is_a_conflict(fake: FakeObjects, retrying: Retrying) -> None:
    etag = retrying.put_new("a", b"1")
    with pytest.raises(OriginConflict):
        retrying.put_new("a", b"2")
    fake.fail(0, "timeout")
    fake.on_request = lambda operation, key: fake.objects.update(a=(b"theirs", 0.0))
    with pytest.raises(OriginConflict):
        retrying.put_if("a", b"mine", etag)
    assert fake.objects["a"][0] == b"theirs"


def test_an_engine_that_is_gone_is_asked_a_few_times_with_growing_pauses(
    fake: FakeObjects, retrying: Retrying, clock: FakeClock
) -> None:
    fake.is_down = True
    began = clock.now
    with pytest.raises(OriginError) as gone:
        retrying.get("a")
    assert gone.value.is_transient
    assert len(fake.requests) == ATTEMPTS
    assert clock.now - began == pytest.approx(0.2 + 0.4 + 0.8 + 1.6 + 3.2)


def test_one_that_takes_its_time_is_not_asked_for_longer_than_a_minute(
    fake: FakeObjects, retrying: Retrying, clock: FakeClock
) -> None:
    def wait(operation: str, key: str) -> None:
        clock.advance(45)
        raise transient(operation, key, None)

    fake.on_request = wait
    with pytest.raises(OriginError):
        retrying.get("a")
    assert len(fake.requests) == 2


def test_what_cannot_help_is_not_tried_again(fake: FakeObjects, retrying: Retrying) -> None:
    def refuse(operation: str, key: str) -> None:
        raise OriginError("not allowed", url=fake.url, operation=operation, key=key, status=403)

    fake.on_request = refuse
    with pytest.raises(OriginError):
        retrying.get("a")
    assert len(fake.requests) == 1


def test_a_condition_that_is_refused_for_ever_though_it_holds_is_no_conflict(
    fake: FakeObjects, retrying: Retrying
) -> None:
    def refuse(operation: str, key: str) -> None:
        if operation == "put_new":
            raise conflict(operation, key, 409)

    fake.on_request = refuse
    with pytest.raises(OriginError, match="a condition that holds") as refused:
        retrying.put_new("a", b"1")
    assert not isinstance(refused.value, OriginConflict)
    assert (refused.value.status, refused.value.exit_code) == (409, 75)


def test_writers_of_a_shared_directory_come_one_after_the_other(tmp_path: Path) -> None:
    """Each adds one to a number, as many machines would: none is lost."""
    (tmp_path / "shared").mkdir()
    KINDS["directory"](tmp_path).put_new("CURRENT", b"0")

    def add(_: int) -> None:
        objects = KINDS["directory"](tmp_path)
        while True:
            there = objects.get("CURRENT")
            assert there is not None
            with contextlib.suppress(OriginConflict):
                objects.put_if("CURRENT", b"%d" % (int(there.data) + 1), there.etag)
                return

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(8)))
    there = KINDS["directory"](tmp_path).get("CURRENT")
    assert there is not None
    assert there.data == b"8"
    assert [path.name for path in (tmp_path / "shared").iterdir() if "lock" not in path.name] == ["CURRENT"]
