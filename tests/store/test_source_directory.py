"""A directory that changes, or cannot be read, while it is imported: every case is named with what to do about it."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hotpath.errors import HotpathError, ImportRefused
from hotpath.pages.routes import MAX_BYTES
from hotpath.store.import_directory import import_directory
from hotpath.store.store import Store


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = tmp_path / "out"
    (source / "folder").mkdir(parents=True)
    (source / "folder" / "page.json").write_text('{"page": 1}')
    (source / "first.json").write_text('{"first": 1}')
    return source


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "hot")


def _after_listing(monkeypatch: pytest.MonkeyPatch, number: int, change: Callable[[], object]) -> None:
    """Run ``change`` when the folder that is listed as the nth has been read."""
    scandir, listed = os.scandir, []

    @contextmanager
    def changing(descriptor: int) -> Iterator[Any]:
        with scandir(descriptor) as entries:
            yield entries
        listed.append(descriptor)
        if len(listed) == number:
            change()

    # The store, which is walked by path, is none of what changes.
    monkeypatch.setattr(os, "scandir", lambda path: changing(path) if isinstance(path, int) else scandir(path))


def _refusal(store: Store, source: Path) -> str:
    with pytest.raises(ImportRefused) as refused:
        import_directory(store, source)
    assert len(refused.value.problems) == 1
    assert store.sequences() == []
    return refused.value.problems[0]


def test_a_file_that_goes_after_its_folder_was_listed(
    source: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    _after_listing(monkeypatch, 1, (source / "first.json").unlink)
    told = "first.json: cannot be read: it went away while the directory was read; import again when the program that"
    assert _refusal(store, source).startswith(told)


def test_a_folder_that_goes_after_it_was_listed(source: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    _after_listing(monkeypatch, 1, lambda: shutil.rmtree(source / "folder"))
    assert _refusal(store, source).startswith("folder: cannot be read: it went away while the directory was read")


def test_a_file_that_goes_after_it_was_looked_at(source: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    _after_listing(monkeypatch, 2, (source / "first.json").unlink)
    assert _refusal(store, source).startswith("first.json: cannot be read: it went away")


def test_a_link_that_goes_between_the_look_and_where_it_leads(
    source: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "link.json").symlink_to("first.json")
    readlink = os.readlink

    def gone(path: str, *, dir_fd: int) -> str:
        (source / "link.json").unlink()
        return readlink(path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "readlink", gone)
    assert _refusal(store, source).startswith("link.json: cannot be read: it went away")


def _replace_by(source: Path, make: Callable[[Path], object]) -> Callable[[], None]:
    def replace() -> None:
        shutil.rmtree(source / "folder")
        make(source / "folder")

    return replace


@pytest.mark.parametrize(
    "make",
    [lambda path: path.write_text("{}"), lambda path: path.symlink_to("/etc"), lambda path: path.symlink_to(path)],
    ids=["file", "link", "loop"],
)
def test_a_folder_that_becomes_something_else_is_not_entered(
    source: Path, store: Store, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], object]
) -> None:
    """It is a folder when it is looked at, and something else when it is opened."""
    opened: list[object] = []
    open_ = os.open

    def replacing(path: Any, flags: int, *arguments: Any, **keywords: Any) -> int:
        if path == "folder" and not opened:
            opened.append(path)
            _replace_by(source, make)()
        return open_(path, flags, *arguments, **keywords)

    monkeypatch.setattr(os, "open", replacing)
    assert _refusal(store, source).startswith(
        "folder: cannot be read: it, or a folder above it, became a file or a link"
    )


def test_a_file_that_becomes_a_link(source: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def replace() -> None:
        (source / "first.json").unlink()
        (source / "first.json").symlink_to("/etc/passwd")

    _after_listing(monkeypatch, 2, replace)
    assert _refusal(store, source).startswith("first.json: cannot be read: it became a link while the directory")


@pytest.mark.parametrize("name", ["folder", "first.json"])
@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.EACCES, "this user may not read it; make it readable (chmod a+rX)"),
        (errno.EPERM, "this user may not read it"),
        (errno.EIO, "Input/output error"),
        (errno.EMFILE, "Too many open files"),
    ],
)
def test_what_may_not_be_read_is_named(
    source: Path, store: Store, monkeypatch: pytest.MonkeyPatch, name: str, number: int, told: str
) -> None:
    open_ = os.open

    def failing(path: Any, flags: int, *arguments: Any, **keywords: Any) -> int:
        if path == name:
            raise OSError(number, os.strerror(number), path)
        return open_(path, flags, *arguments, **keywords)

    monkeypatch.setattr(os, "open", failing)
    assert _refusal(store, source).startswith(f"{name}: cannot be read: {told}")


def test_the_directory_itself_may_go(
    tmp_path: Path, source: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_ = os.open

    def failing(path: Any, flags: int, *arguments: Any, **keywords: Any) -> int:
        if path == source and source.exists():
            source.rename(tmp_path / "aside")
        return open_(path, flags, *arguments, **keywords)

    monkeypatch.setattr(os, "open", failing)
    with pytest.raises(HotpathError, match=r"out: cannot be read: it went away while the directory was read"):
        import_directory(store, source)
    assert not store.root.exists()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
def test_a_folder_above_that_may_not_be_entered(
    source: Path, store: Store, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def closed(path: Path) -> bool:
        raise PermissionError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "is_dir", closed)
    with pytest.raises(HotpathError, match="cannot be read: this user may not read it"):
        import_directory(store, source)


def _grow(path: Path) -> None:
    with path.open("a") as file:
        file.write(" ")


def _truncate(path: Path) -> None:
    os.truncate(path, 3)


def _overwrite(path: Path) -> None:
    path.write_text('{"first": 2}')
    os.utime(path, ns=(1, 1))  # a clock of four milliseconds may show no difference


def _grow_too_large(path: Path) -> None:
    os.truncate(path, MAX_BYTES + 1)


@pytest.mark.parametrize("change", [_grow, _truncate, _overwrite, _grow_too_large])
def test_a_file_that_changes_while_it_is_copied_is_no_page(
    source: Path, store: Store, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    """The change comes after the first look at the open file."""
    path, fstat = source / "first.json", os.fstat
    inode = path.stat().st_ino
    changed: list[os.stat_result] = []

    def changing(descriptor: int) -> os.stat_result:
        state = fstat(descriptor)
        if state.st_ino == inode and not changed:
            changed.append(state)
            change(path)
        return state

    monkeypatch.setattr(os, "fstat", changing)
    assert _refusal(store, source).startswith("first.json: changed while it was read; import again when the program")


def test_a_file_that_grew_too_large_since_it_was_looked_at(
    source: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    _after_listing(monkeypatch, 2, lambda: os.truncate(source / "first.json", MAX_BYTES + 1))
    assert _refusal(store, source) == (
        "first.json: has 33,554,433 bytes, and a hot page at most 33,554,432; leave it to the web server"
    )


def test_a_temporary_file_may_go_at_any_time(source: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    (source / "next.json.tmp").write_text("{")
    _after_listing(monkeypatch, 1, (source / "next.json.tmp").unlink)
    imported = import_directory(store, source)
    assert (imported.items, imported.left_behind) == (2, ("next.json.tmp",))


def test_a_path_that_is_too_long_for_the_kernel_is_read_step_by_step(tmp_path: Path, store: Store) -> None:
    """The way to it is longer than PATH_MAX; its page is refused for that, and nothing ends in an OSError."""
    source = tmp_path / "deep"
    source.mkdir()
    at = os.open(source, os.O_RDONLY)
    for _ in range(30):
        os.mkdir("d" * 150, dir_fd=at)
        below = os.open("d" * 150, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(os.open("page.json", os.O_WRONLY | os.O_CREAT, dir_fd=at))
    os.close(at)
    with pytest.raises(ImportRefused, match="4,095 are possible"):
        import_directory(store, source)
    shutil.rmtree(source)
