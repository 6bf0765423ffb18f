"""``verify`` finds every planted damage and names it; ``--repair`` mends from the same bytes elsewhere, or not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from hotpath.pages.policy import Policy
from hotpath.serving import reader_of
from hotpath.site import Hotpath
from hotpath.store.publish import staging
from hotpath.store.repair import repair
from hotpath.store.store import Store
from hotpath.store.verify import lines, verify
from tests.store.faults.sites import edit

POLICY = Policy("/x", "application/json", "public", None, 3600)
SAME = b'{"same":"' + b"abc" * 300 + b'"}'


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Three generations: ``/same`` never changes, ``/new`` does each time. Nothing is a hard link of another."""
    store = Store(tmp_path / "hot")
    for number in (1, 2, 3):
        with staging(store) as stage:
            stage.add("/same", "sub/same.json", SAME, POLICY)
            stage.add("/new", "new.json", b'{"n":%d}' % number, POLICY)
            stage.publish()
    for path in store.generations_path.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            path.unlink()
            edit(path, data)
    return store


def test_a_sound_store(store: Store) -> None:
    found = verify(store)
    assert found.is_sound
    assert found.generations == 3
    on_disk = [path for path in store.generations_path.rglob("*") if path.is_file()]
    assert found.files == len(on_disk)
    assert lines(found)[-1] == "every file is what was published"
    assert repair(store).repaired == []


def test_every_file_of_every_generation_is_found_when_it_is_damaged(store: Store) -> None:
    files = [path for path in store.generations_path.rglob("*") if path.is_file() and path.name != "manifest.json"]
    assert len(files) >= 3 * 3
    for path in files:
        data = path.read_bytes()
        for damage in (data[:-1], bytes([data[0] ^ 1]) + data[1:], b"", None):
            if damage is None:
                path.unlink()
            else:
                edit(path, damage)
            found = verify(store).damages
            assert [one.path for one in found] == [path]
            assert found[0].key == ("/same" if "same" in path.name else "/new")
            assert str(found[0].sequence) == path.relative_to(store.generations_path).parts[0]
            edit(path, data)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("CURRENT", b"garbage"),
        ("CURRENT", b""),
        ("CURRENT", b"99 sha256:" + b"0" * 64 + b"\n"),
        ("CURRENT", None),
        ("PIN", b"what"),
        ("BAD", b"{"),
        ("current", None),
    ],
)
def test_damaged_pointers_are_found_and_mended_to_what_is_served(store: Store, name: str, data: bytes | None) -> None:
    path = store.root / name
    if data is None:
        path.unlink()
    else:
        edit(path, data)
    assert verify(store).problems
    found = repair(store)
    assert found.is_sound
    assert found.repaired or name == "current", "any writer puts the link in order"
    assert store.chosen_sequence() == 3
    assert verify(store).is_sound
    assert repair(store).repaired == [], "a second run changes nothing"


def test_a_damaged_file_is_linked_again_and_a_running_reader_takes_it_up(store: Store) -> None:
    path = store.files_path(3) / "sub" / "same.json"
    edit(path, b"?")
    hot = Hotpath(store.root)
    reader_of(hot).refresh()
    page = reader_of(hot).load_page(b"/same")
    assert page is not None
    assert (page.generation, page.bodies["identity"]) == (2, SAME), "the last good bytes meanwhile"
    found = repair(store)
    assert found.is_sound
    assert found.repaired == [f"{path} is again what was published, from another generation"]
    assert path.read_bytes() == SAME
    reader_of(hot).refresh()
    page = reader_of(hot).load_page(b"/same")
    assert page is not None
    assert (page.generation, page.bodies["identity"]) == (3, SAME)


def test_a_directory_that_is_gone_is_made_again(store: Store) -> None:
    shutil.rmtree(store.files_path(2) / "sub")
    assert not verify(store).is_sound
    assert repair(store).is_sound


def test_bytes_that_are_nowhere_else_fall_back_and_are_not_made_up(store: Store) -> None:
    path = store.files_path(3) / "new.json"
    edit(path, b'{"n":4}')
    found = repair(store)
    assert [one.path for one in found.damages] == [path]
    assert found.repaired == []
    assert found.fallen_back == ["/new is served from generation 2"]
    assert path.read_bytes() == b'{"n":4}', "what is damaged is left for a person to look at"
    for sequence in (1, 2):
        (store.files_path(sequence) / "new.json").unlink()
    assert repair(store).fallen_back == ["/new goes to the app"]


def test_a_damaged_coding_alone_is_left_out(store: Store) -> None:
    for sequence in (1, 2, 3):
        edit(store.files_path(sequence) / "sub" / "same.json.gz", b"?")
    assert repair(store).fallen_back == ["/same is served without the damaged coding"]


def _flip(path: Path) -> None:
    data = path.read_bytes()
    edit(path, data[:50] + bytes([data[50] ^ 4]) + data[51:])


@pytest.mark.parametrize("damage", [_flip, Path.unlink], ids=["flipped", "gone"])
@pytest.mark.parametrize("pinned", [False, True])
def test_a_damaged_manifest_gives_its_generation_up(store: Store, damage: Callable[[Path], None], pinned: bool) -> None:
    if pinned:
        store.pin(3)
    damage(store.manifest_path(3))
    assert not verify(store).is_sound
    found = repair(store)
    assert found.is_sound
    assert store.chosen_sequence() == 2
    assert 3 in store.bad()
    assert repair(store).repaired == []
    with staging(store) as stage:
        stage.add("/new", "new.json", b'{"n":5}', POLICY)
        assert stage.publish().generation == 4
    assert store.chosen_sequence() == 4


def test_marks_are_made_again_from_the_history(store: Store) -> None:
    store.rollback(reason="half the rows")
    marks = store.bad()
    edit(store.bad_path, b"\0\0\0")
    repair(store)
    assert store.bad() == marks == {3: "half the rows"}


def test_nothing_left_says_so(store: Store) -> None:
    for sequence in (1, 2, 3):
        store.manifest_path(sequence).unlink()
    found = repair(store)
    assert found.fallen_back == ["nothing can be served: every hot page goes to the app; run 'hotpath build TARGET'"]


@pytest.mark.parametrize("name", ["sub/same.json", "sub"])
def test_what_stands_in_the_way_of_one_file_keeps_no_other_from_being_mended(store: Store, name: str) -> None:
    files = store.files_path(3)
    if name == "sub":
        shutil.rmtree(files / "sub")
        (files / "sub").write_text("mine")
    else:
        (files / name).unlink()
        (files / name).mkdir()
    other = store.files_path(2) / "sub" / "same.json"
    edit(other, b"[")
    found = repair(store)
    assert found.repaired == [f"{other} is again what was published, from another generation"]
    assert {one.key for one in found.damages} == {"/same"}
    assert found.fallen_back == ["/same is served from generation 2"]
    assert (files / name).is_dir() == (name != "sub"), "left as it is"
