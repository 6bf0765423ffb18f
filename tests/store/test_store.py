"""Which generation is served: pins win, bad ones never come back, a damaged store serves the newest good one."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from hotpath.errors import Corrupt, ItemError, NothingPublished, StoreError, UnsafePath
from hotpath.pages.policy import Policy
from hotpath.store.disk import Disk
from hotpath.store.prune import prune
from hotpath.store.publish import Published, staging
from hotpath.store.quarantine import approve
from hotpath.store.repair import repair
from hotpath.store.store import Store
from hotpath.testing import FakeClock
from tests.store.faults.sites import edit

POLICY = Policy("/a", "application/json", "public", None, 3600)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "hot", clock=FakeClock())


def publish(store: Store, body: bytes) -> Published:
    with staging(store) as stage:
        stage.add("/a", "a.json", body, POLICY)
        stage.add("/b", "sub/b.json", body * 100, POLICY)
        return stage.publish()


def served(store: Store) -> int:
    choice = store.choose()
    os.close(choice.descriptor)
    return choice.sequence


def why_degraded(store: Store) -> str | None:
    choice = store.choose()
    os.close(choice.descriptor)
    return choice.degraded


def test_an_empty_store_says_what_to_do(store: Store) -> None:
    with pytest.raises(NothingPublished, match="hotpath build"):
        store.choose()


def test_the_newest_is_served(store: Store) -> None:
    for number in (1, 2, 3):
        assert publish(store, b"[%d]" % number).generation == number
        assert served(store) == number
        assert why_degraded(store) is None


def test_rollback_pins_and_the_bad_one_never_comes_back(store: Store) -> None:
    for number in range(3):
        publish(store, b"[%d]" % number)
    assert store.rollback(reason="half the rows") == (3, 2)
    assert served(store) == 2
    assert publish(store, b"[4]").generation == 4
    assert served(store) == 2, "a publish does not walk over a rollback"
    assert store.unpin() == 2
    assert served(store) == 4
    assert store.rollback() == (4, 2), "generation 3 is bad and is passed over"
    assert store.bad()[3] == "half the rows"


def test_rollback_to_one_generation(store: Store) -> None:
    for number in range(4):
        publish(store, b"[%d]" % number)
    assert store.rollback(to=2) == (4, 2)
    assert set(store.bad()) == {3, 4}
    with pytest.raises(StoreError, match="marked bad"):
        store.rollback(to=3)
    with pytest.raises(StoreError, match="the one that is served"):
        store.rollback(to=2)
    with pytest.raises(StoreError, match="no generation 99"):
        store.rollback(to=99)


def test_a_rollback_without_a_pin_moves_one_that_is_there(store: Store) -> None:
    """Else it would hold what was just marked bad."""
    for number in (1, 2):
        publish(store, b"[%d]" % number)
    store.pin(2)
    store.rollback(pin=False)
    assert (served(store), why_degraded(store)) == (1, None)


@pytest.mark.parametrize(("file", "what"), [("CURRENT", "expected '<number>"), ("BAD", "a line cannot be read")])
def test_a_broken_file_of_the_store_says_what_mends_it(store: Store, file: str, what: str) -> None:
    publish(store, b"[1]")
    edit(store.root / file, b"nonsense\n")
    why = why_degraded(store)
    assert why is not None
    assert what in why
    assert "'hotpath verify TARGET --repair'" in why


def test_rollback_with_nothing_before_changes_nothing(store: Store) -> None:
    publish(store, b"[1]")
    with pytest.raises(StoreError, match="no valid generation before 1"):
        store.rollback()
    assert served(store) == 1
    assert not store.pin_path.exists()


def test_rollback_passes_over_a_damaged_generation(store: Store) -> None:
    for number in range(3):
        publish(store, b"[%d]" % number)
    edit(store.files_path(2) / "a.json", b"[9]")
    assert store.rollback() == (3, 1)


def test_a_rollback_that_was_killed_half_way_is_finished_not_repeated(store: Store) -> None:
    for number in range(3):
        publish(store, b"[%d]" % number)
    store.mark_bad({3: "killed after the first write"})
    assert served(store) == 2, "the first write is what counts"
    assert store.rollback() == (3, 2)
    assert store.pointer(store.pin_path) == store.pointer(store.current_path) == store.pointer_to(2)


def test_pin_and_unpin(store: Store) -> None:
    for number in range(3):
        publish(store, b"[%d]" % number)
    store.pin(1)
    assert served(store) == 1
    assert store.unpin() == 1
    assert store.unpin() is None
    assert served(store) == 3
    with pytest.raises(StoreError, match="no generation 7"):
        store.pin(7)


def test_current_and_pinned_are_never_pruned(tmp_path: Path) -> None:
    store = Store(tmp_path / "hot", keep=1)
    publish(store, b"[1]")
    publish(store, b"[2]")
    assert store.sequences() == [2]
    store.pin(2)
    publish(store, b"[3]")
    publish(store, b"[4]")
    assert store.sequences() == [2, 4]


def test_a_generation_that_someone_reads_is_not_pruned(tmp_path: Path) -> None:
    store = Store(tmp_path / "hot", keep=1)
    publish(store, b"[1]")
    reading = store.choose()
    publish(store, b"[2]")
    assert store.sequences() == [1, 2]
    os.close(reading.descriptor)
    publish(store, b"[3]")
    assert store.sequences() == [3]


def _empty(store: Store) -> None:
    edit(store.current_path, b"")


def _garbage(store: Store) -> None:
    edit(store.current_path, os.urandom(50))


def _dangling(store: Store) -> None:
    edit(store.current_path, ("99 sha256:" + "0" * 64 + "\n").encode())


def _missing(store: Store) -> None:
    store.current_path.unlink()


def _edited_manifest(store: Store) -> None:
    path = store.manifest_path(3)
    edit(path, path.read_bytes().replace(b'"/a"', b'"/x"'))


def _no_manifest(store: Store) -> None:
    store.manifest_path(3).unlink()


def _link(store: Store) -> None:
    store.current_path.unlink()
    store.current_path.symlink_to("/etc/passwd")


def _fifo(store: Store) -> None:
    store.current_path.unlink()
    os.mkfifo(store.current_path)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (_empty, 3),
        (_garbage, 3),
        (_dangling, 3),
        (_missing, 3),
        (_edited_manifest, 2),
        (_no_manifest, 2),
        (_link, 3),
        (_fifo, 3),
    ],
)
def test_a_damaged_store_serves_the_newest_valid_generation_and_says_degraded(
    store: Store, damage: Callable[[Store], None], expected: int
) -> None:
    for number in range(3):
        publish(store, b"[%d]" % number)
    damage(store)
    assert served(store) == expected
    assert why_degraded(store)
    assert publish(store, b"[4]").generation > 3
    assert why_degraded(store) is None, "the next publish mends it"


def test_numbers_never_come_twice(store: Store) -> None:
    for number in range(3):
        publish(store, b"[%d]" % number)
    store.rollback()
    assert publish(store, b"[1]").generation == 4


@pytest.mark.parametrize("umask", [0o077, 0o022, 0o000])
def test_the_web_user_can_read_and_not_write_whatever_the_umask(store: Store, umask: int) -> None:
    before = os.umask(umask)
    try:
        publish(store, b"[1]")
    finally:
        os.umask(before)
    for path in [store.root, *store.root.rglob("*")]:
        mode = path.lstat().st_mode
        if not stat.S_ISLNK(mode):
            # Who could open the lock could hold it, and keep every batch waiting.
            private = {"lock": 0o600, "history.jsonl": 0o640}
            assert stat.S_IMODE(mode) == (0o755 if stat.S_ISDIR(mode) else private.get(path.name, 0o444)), path


@pytest.mark.parametrize("name", ["lock", ".new-CURRENT", "generations"])
def test_a_planted_link_is_refused_or_removed_and_never_followed(store: Store, tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    store.root.mkdir()
    (store.root / name).symlink_to(elsewhere if name == "generations" else victim)
    if name == ".new-CURRENT":
        publish(store, b"[1]")
    else:
        with pytest.raises(UnsafePath, match="symbolic link"):
            publish(store, b"[1]")
    assert victim.read_text() == "precious"
    assert not list(elsewhere.iterdir())


class Overtaken(Disk):
    """Lets a writer publish, and prune what was there, before each of the first manifests is opened."""

    def __init__(self, times: int) -> None:
        self.left = times

    def open_regular(self, path: Path) -> int:
        if path.name == "manifest.json" and self.left:
            self.left -= 1
            publish(Store(path.parents[2], keep=1), b"[%d]" % self.left)
        return super().open_regular(path)


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_writer_that_is_faster_than_the_look_is_no_damage(tmp_path: Path, times: int) -> None:
    publish(Store(tmp_path / "hot", keep=1), b"[9]")
    store = Store(tmp_path / "hot", disk=Overtaken(times))
    choice = store.choose()
    os.close(choice.descriptor)
    assert (choice.sequence, choice.degraded) == (1 + times, None)


def test_a_writer_that_is_always_faster_is_not_waited_for(tmp_path: Path) -> None:
    publish(Store(tmp_path / "hot", keep=1), b"[9]")
    with pytest.raises(NothingPublished):
        Store(tmp_path / "hot", disk=Overtaken(1000)).choose()


def test_litter_of_a_killed_writer_goes_with_the_next_publish(store: Store) -> None:
    publish(store, b"[1]")
    (store.root / ".stage-99").mkdir()
    (store.root / ".stage-99" / "files").mkdir()
    (store.root / ".new-CURRENT").write_text("half")
    (store.root / ".trash-0").mkdir()
    publish(store, b"[2]")
    assert not [path.name for path in store.root.iterdir() if path.name.startswith(".")]


def test_what_only_looks_like_litter_stays(store: Store) -> None:
    publish(store, b"[1]")
    others = [".trash-can", ".stage-left.mp3", ".new-", ".new-year", ".view-all", ".trash-1.txt", "xx.stage-1"]
    for name in others:
        (store.root / name).mkdir()
    publish(store, b"[2]")
    assert {path.name for path in store.root.iterdir()} >= {*others}


WRITERS: dict[str, Callable[[Store], object]] = {
    "rollback": lambda store: store.rollback(),
    "pin": lambda store: store.pin(1),
    "unpin": lambda store: store.unpin(),
    "approve": lambda store: approve(store, 1, "right"),
    "prune": lambda store: prune(store, 1),
    "repair": repair,
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_directory_that_is_no_store_is_left_as_it_is(tmp_path: Path, writer: str) -> None:
    """A path with a letter wrong; what is there has names that a store would take for its own litter."""
    for name in (".trash-1", ".stage-2", "mine"):
        (tmp_path / name).mkdir()
    with pytest.raises(NothingPublished, match=r"there is no store here .*hotpath build TARGET") as caught:
        WRITERS[writer](Store(tmp_path))
    assert caught.value.path == tmp_path
    assert sorted(path.name for path in tmp_path.iterdir()) == [".stage-2", ".trash-1", "mine"]
    with pytest.raises(NothingPublished):
        WRITERS[writer](Store(tmp_path / "none" / "here"))
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("generations", "this is a file, expected a directory; move it away"),
        ("quarantine", "this is a file, expected a directory; move it away"),
        ("lock", "Is a directory; a directory has the name of a file; move it away"),
    ],
)
def test_something_else_where_a_part_of_the_store_belongs(store: Store, name: str, told: str) -> None:
    store.root.mkdir()
    path = store.root / name
    if name == "lock":
        path.mkdir()
    else:
        edit(path, b"")
    with pytest.raises(StoreError, match=told) as caught:
        publish(store, b"[1]")
    assert caught.value.path == path


def test_a_directory_where_the_link_belongs_is_told_with_its_own_name(store: Store) -> None:
    publish(store, b"[1]")
    (store.root / "current").unlink()
    (store.root / "current").mkdir()
    (warning,) = publish(store, b"[2]").warnings
    assert f"{store.root / 'current'}: Is a directory; a directory has the name of a file; move it away" in warning


@pytest.mark.parametrize("name", [".", "generations"])
def test_a_store_that_only_its_owner_may_enter_is_told(store: Store, name: str) -> None:
    publish(store, b"[1]")
    closed = store.root / name
    closed.chmod(0o700)
    (warning,) = publish(store, b"[2]").warnings
    assert warning.startswith(f"{closed}: mode 0700 lets only user {os.geteuid()} in")
    assert f"chmod 755 {closed}" in warning
    for mode in (0o750, 0o711, 0o755):
        closed.chmod(mode)
        assert publish(store, b"[%d]" % mode).warnings == ()
        assert stat.S_IMODE(closed.stat().st_mode) == mode, "what somebody has set stays"


def test_the_mark_of_an_unfinished_directory_is_not_taken_from_others(tmp_path: Path) -> None:
    """Somebody's own sticky directories on the way: one that has something in it, one that others may write."""
    first, second = tmp_path / "first", tmp_path / "first" / "second"
    second.mkdir(parents=True)
    first.chmod(0o1750)
    second.chmod(0o1777)
    publish(Store(second / "hot"), b"[1]")
    assert [stat.S_IMODE(path.stat().st_mode) for path in (first, second)] == [0o1750, 0o1777]


def test_a_full_disk_is_said_before_anything_is_written(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(store, b"[1]")
    real = os.statvfs(store.root)
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result((*tuple(real)[:4], 3, *tuple(real)[5:])))
    with pytest.raises(StoreError, match=r"bytes are free, a new generation needs .*free some space") as caught:
        publish(store, b"[2]")
    assert caught.value.path == store.root
    assert served(store) == 1


def test_verify_names_every_damaged_file(store: Store) -> None:
    publish(store, b"[1]")
    assert store.verify_generation(1) == []
    edit(store.files_path(1) / "a.json", b"[2]")
    (store.files_path(1) / "sub" / "b.json.gz").unlink()
    problems = store.verify_generation(1)
    assert len(problems) == 2
    assert problems[0].key == "/a"
    assert problems[1].path.name == "b.json.gz"


def test_a_manifest_under_another_number_is_not_taken(store: Store) -> None:
    publish(store, b"[1]")
    publish(store, b"[2]")
    edit(store.manifest_path(2), store.manifest_path(1).read_bytes())
    store.current_path.unlink()
    assert served(store) == 1
    with pytest.raises(Corrupt):
        store.read_manifest(2, expected=b"\0" * 32)


@pytest.mark.parametrize("files", [("a", "a/b"), ("a/b", "a"), ("a/b", "a/b/c/d"), ("x/a.json", "x/a.json/b")])
def test_what_would_be_a_file_and_a_folder_is_told_of_the_item(store: Store, files: tuple[str, str]) -> None:
    with staging(store) as stage:
        stage.add("/first", files[0], b"[1]", POLICY)
        with pytest.raises(ItemError, match=r"one name as a file and as a folder; give files an ending") as caught:
            stage.add("/second", files[1], b"[1]", POLICY)
    assert caught.value.key == "/second"


def test_the_root_may_be_a_link_of_its_owner(tmp_path: Path) -> None:
    """To a larger disk, say; every kind of writer goes through it."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "hot").symlink_to("disk")
    store = Store(tmp_path / "hot", keep=1)
    for number in range(3):
        publish(store, b"[%d]" % number)
    store.pin(3)
    store.unpin()
    assert (served(store), why_degraded(store), store.sequences()) == (3, None, [3])
    assert repair(store).is_sound
    assert (tmp_path / "hot").is_symlink()


def test_a_store_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="file"):
        publish(Store(tmp_path / "file" / "hot"), b"[1]")


@pytest.mark.parametrize(
    "line",
    [b'{"sequence":"1","reason":"x"}', b'{"sequence":1,"reason":2}', b'{"sequence":true,"reason":""}', b"[1]", b"1"],
)
def test_marks_that_are_json_and_no_marks_are_told_and_not_guessed_at(store: Store, line: bytes) -> None:
    publish(store, b"[1]")
    publish(store, b"[2]")
    edit(store.bad_path, line + b"\n")
    assert "BAD: a line cannot be read" in (why_degraded(store) or "")
    for act in (lambda: publish(store, b"[3]"), store.rollback):
        with pytest.raises(Corrupt, match=r"BAD: a line cannot be read.*hotpath verify TARGET --repair"):
            act()
    assert [*map(str, repair(store).repaired)] == [f"{store.bad_path} was made again from the history: [] are bad"]
    assert publish(store, b"[3]").generation == 3
