"""The directories of a store: durable, readable by others, on one file system, without litter."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from hotpath.errors import NothingPublished, StoreError, UnsafePath
from hotpath.store.disk import UNFINISHED, Disk

# Copies of databases that a batch reads, gone with it.
VIEW_PREFIX = ".view-"

# Names that a killed writer leaves in the root, as a whole: a directory may hold other things beside a store.
_LITTER = re.compile(r"\.(stage-\d+|trash-\d+|view-\d+|new-(CURRENT|PIN|BAD|current|repaired|origin\.json-\d+))")

_OTHERS_MAY_ENTER = 0o011

# The longest way from the root to an item's file; no sequence has more digits.
_LONGEST_PREFIX = f"/generations/{'9' * 18}/files/"


def longest_prefix_bytes(root: Path) -> int:
    """The bytes before an item's file in its path, wherever in the store the generation is."""
    return len(os.fsencode(root)) + len(_LONGEST_PREFIX)


def prepare(disk: Disk, root: Path, *, new: bool) -> None:
    """Check that a store can be written; with ``new``, make its directories where they are missing.

    Raises ``OSError``, or ``StoreError`` where there is no store or something else stands in its place.
    """
    generations, quarantine = root / "generations", root / "quarantine"
    # The root may be a link of the owner's, to a larger disk say; what is inside is ours and never one.
    for path in (generations, quarantine):
        if path.is_symlink():
            raise UnsafePath("this is a symbolic link, expected a directory", path=path, fix="remove it")
        if path.exists() and not path.is_dir():
            raise UnsafePath("this is a file, expected a directory", path=path, fix="move it away")
    if not (new or is_store(root)):
        raise NothingPublished(
            "there is no store here (no directory 'generations')", path=root, fix="run 'hotpath build TARGET' first"
        )
    for path in reversed([path for path in (generations, root, *root.parents) if not is_made(path)]):
        make(disk, path)
    # Before access(2), which says no to root as well where nobody can write.
    if os.statvfs(root).f_flag & os.ST_RDONLY:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(root))
    for path in (root, generations):
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    for path in (generations, quarantine):
        if path.exists() and path.stat().st_dev != root.stat().st_dev:
            raise StoreError(
                f"this is on another file system than {root}, and rename(2) does not lead from one to the other",
                path=path,
                fix="mount at the root of the store instead, or make that a link",
            )


def is_store(root: Path) -> bool:
    """Whether there is one, damaged or not. Raises ``OSError`` where that cannot be seen."""
    for path in (root / "generations", root / "CURRENT"):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            path.lstat()
            return True
    return False


def make(disk: Disk, path: Path) -> None:
    """Make a durable directory, or finish one that a killed writer has begun.

    It keeps its mark until its name is durable: the next writer does not sync a directory without one.
    """
    try:
        disk.begin_directory(path)
    except FileExistsError:
        if not path.is_dir():
            raise
        # One that was killed at it, or another writer that starts on a new store at this moment.
    disk.sync_directory(path.parent)
    disk.finish_directory(path)


def is_made(path: Path) -> bool:
    """Whether something is there that is not a directory of ours as ``Disk.begin_directory`` leaves it."""
    try:
        state = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    is_marked = stat.S_ISDIR(state.st_mode) and state.st_mode & UNFINISHED and not state.st_mode & 0o022
    # Nothing is put into it before it is finished: with something in it the mark is not ours.
    return not (is_marked and state.st_uid == os.geteuid() and not any(path.iterdir()))


def remove_litter(disk: Disk, root: Path) -> None:
    """Take away what a killed writer left. The lock must be held: then nobody is using it."""
    for path in list(root.iterdir()):
        if _LITTER.fullmatch(path.name):
            if path.is_dir() and not path.is_symlink():
                disk.remove_tree(path)
            else:
                disk.unlink(path)


def closed_to_others(root: Path) -> Iterator[str]:
    """A warning for each directory that only its owner may enter, as umask never leaves one that was made here."""
    for path in (root, root / "generations"):
        state = path.stat()
        if not state.st_mode & _OTHERS_MAY_ENTER:
            yield (
                f"{path}: mode {stat.S_IMODE(state.st_mode):04o} lets only user {state.st_uid} in, and a server that "
                f"runs as another one answers nothing from here; chmod 755 {path}, or 750 with the server's group"
            )
