"""Damage that a repair, a carry, an approval or a torn line must not make worse."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import orjson
import pytest

from hotpath.errors import Implausible
from hotpath.ops.status import status
from hotpath.store.disk import Disk
from hotpath.store.manifest import Manifest
from hotpath.store.publish import staging
from hotpath.store.quarantine import approve
from hotpath.store.repair import repair
from hotpath.store.store import Store
from hotpath.store.verify import verify
from tests.store.faults.sites import POLICY, edit, publish, rewrite_manifest

LARGE = b"[%s]" % b",".join([b"1"] * 1000)


class Troubled(Disk):
    """EIO for what ends like one of ``names``; no second names for files at all with ``links`` false."""

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()
        self.links = True

    def open_regular(self, path: Path) -> int:
        if str(path).endswith(self.names or "\0"):
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return super().open_regular(path)

    def link(self, source: Path, target: Path) -> None:
        if not self.links:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(source))
        super().link(source, target)


@pytest.fixture
def disk() -> Troubled:
    return Troubled()


@pytest.fixture
def store(tmp_path: Path, disk: Troubled) -> Store:
    store = Store(tmp_path / "hot", disk=disk)
    publish(store, a=LARGE)
    publish(store, a=LARGE, b=b"[2]")
    return store


def test_a_manifest_that_could_not_be_read_is_not_given_up(store: Store, disk: Troubled) -> None:
    disk.names = ("2/manifest.json",)
    found = repair(store)
    assert "Input/output error" in str(found.damages[0])
    disk.names = ()
    assert store.bad() == {}
    assert store.chosen_sequence() == 2


def test_a_generation_of_a_newer_version_is_not_given_up(store: Store) -> None:
    rewrite_manifest(store, 2, lambda text: text.replace(b'{"format":1', b'{"format":2', 1))
    assert not verify(store).is_sound
    repair(store)
    assert store.bad() == {}


@pytest.mark.parametrize("links", [True, False])
def test_last_good_bytes_are_carried_without_a_coding_that_rotted(store: Store, disk: Troubled, links: bool) -> None:
    edit(store.files_path(2) / "a.json.gz", b"x")
    disk.links = links
    with staging(store) as stage:
        kept = stage.carry("/a", "a.json", POLICY)
        stage.publish()
    assert kept is not None
    codings = [one.coding for one in store.read_manifest(3).items["/a"].representations]
    assert "identity" in codings
    assert "gzip" not in codings
    assert store.verify_generation(3) == []


def test_a_coding_that_rotted_everywhere_keeps_nobody_from_going_back(store: Store) -> None:
    """Unchanged files are one file with several names."""
    edit(store.files_path(1) / "a.json.gz", b"x")
    assert len(verify(store).damages) == 2
    store.pin(1)
    store.unpin()
    assert store.rollback() == (2, 1)


def refuse(new: Manifest, before: Manifest | None) -> list[str]:
    return ["half of it is gone"]


def quarantined(store: Store) -> int:
    with staging(store) as stage:
        stage.add("/a", "a.json", b"[3]", POLICY)
        with pytest.raises(Implausible) as caught:
            stage.publish(refuse)
    return caught.value.sequence


def approvals(store: Store) -> list[int]:
    events = [orjson.loads(line) for line in store.history_path.read_bytes().splitlines() if line]
    return [event["sequence"] for event in events if event["event"] == "approve"]


def test_an_approval_that_was_killed_before_its_line_is_told_by_the_next(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    sequence = quarantined(store)

    class Killed(BaseException):
        pass

    def killed(record: dict[str, object]) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(store, "append_history", killed)
        with pytest.raises(Killed):
            approve(store, sequence, "it is right")
    assert store.chosen_sequence() == sequence
    for _ in range(2):
        assert approve(store, sequence, "it is right") == []
    assert approvals(store) == [sequence]


def test_a_newer_generation_that_was_rolled_back_from_is_no_reason_against_an_approval(store: Store) -> None:
    sequence = quarantined(store)
    publish(store, a=b"[4]")
    store.rollback()
    store.unpin()
    approve(store, sequence, "it was right all along")
    assert store.chosen_sequence() == sequence


def test_a_torn_line_of_the_history_swallows_none(store: Store) -> None:
    whole = store.history_path.read_bytes()
    edit(store.history_path, whole + b'{"time":1,"ev')
    store.rollback()
    store.unpin()
    edit(store.bad_path, b"nonsense\n")
    repair(store)
    assert [*store.bad()] == [2]


def test_marks_are_made_anew_where_there_is_no_history(store: Store) -> None:
    store.history_path.unlink()
    edit(store.bad_path, b"nonsense\n")
    repair(store)
    assert store.bad() == {}


def test_status_tells_what_is_wrong_behind_a_pin(store: Store) -> None:
    store.pin(1)
    edit(store.current_path, b"nonsense")
    found = status(store)
    assert found.serving == 1
    assert "CURRENT" in (found.degraded or "")
