"""The directory that an import reads: another program may be writing to it meanwhile, and it may hold anything."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hotpath.errors import HotpathError
from hotpath.pages.file_names import is_left_behind
from hotpath.pages.routes import MAX_BYTES

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

_MEANWHILE = "while the directory was read"
_WRITER = "import again when the program that writes there has finished"

_READING_PROBLEMS = {
    errno.ENOENT: f"it went away {_MEANWHILE}; {_WRITER}",
    errno.ESTALE: f"it went away {_MEANWHILE}; {_WRITER}",
    errno.ENOTDIR: f"it, or a folder above it, became a file or a link {_MEANWHILE}; {_WRITER}",
    errno.ELOOP: f"it became a link {_MEANWHILE}; {_WRITER}",
    errno.EINVAL: f"it was a link and is none any more; {_WRITER}",  # readlink(2)
    errno.EACCES: "this user may not read it; make it readable (chmod a+rX), or move it elsewhere",
    errno.EPERM: "this user may not read it; make it readable (chmod a+rX), or move it elsewhere",
}


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file below the directory, by its path there; a folder that is not looked into counts as one.

    ``problem`` is why it cannot be served; ``is_left_behind`` says that nobody means to publish it.
    """

    name: str
    problem: str | None = None
    is_left_behind: bool = False


def walk(directory: Path) -> Iterator[SourceFile]:
    """Every file below. Raises ``HotpathError`` where the directory itself cannot be read."""
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        prefix = f"{folder}/" if folder else ""
        try:
            at = open_below(directory, folder, _FOLDER)
            try:
                with os.scandir(at) as entries:
                    names = sorted(entry.name for entry in entries)
                classified = [(name, *_classify(at, name)) for name in names]
            finally:
                os.close(at)
        except OSError as error:
            if not folder:
                raise HotpathError(f"{directory}: {reading_problem(error)}") from error
            yield SourceFile(folder, reading_problem(error))
            continue
        for name, is_folder, problem in classified:
            if is_folder:
                waiting.append(prefix + name)
            else:
                yield SourceFile(prefix + name, problem, is_left_behind(name))


def read(directory: Path, name: str) -> tuple[bytes, str | None]:
    """The bytes of a file, or why they cannot be had: as one writer left them, not half of them."""
    try:
        with os.fdopen(open_below(directory, name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            before = os.fstat(file.fileno())
            if not stat.S_ISREG(before.st_mode):
                return b"", f"is no regular file any more; {_WRITER}"
            data = file.read(MAX_BYTES + 1)
            after = os.fstat(file.fileno())
    except OSError as error:
        return b"", reading_problem(error)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        return b"", f"changed while it was read; {_WRITER}"
    return (b"", _too_large(after.st_size)) if len(data) > MAX_BYTES else (data, None)


def open_below(directory: Path, name: str, flags: int) -> int:
    """A descriptor of what is below, reached step by step: a folder that has become a link meanwhile leads nowhere."""
    at = os.open(directory, _FOLDER)
    *folders, last = name.split("/") if name else ["."]
    for part, part_flags in [*((folder, _FOLDER) for folder in folders), (last, flags)]:
        try:
            below = os.open(part, part_flags | os.O_NOFOLLOW, dir_fd=at)
        finally:
            os.close(at)
        at = below
    return at


def reading_problem(error: OSError) -> str:
    """Why something cannot be read, with what to do about it."""
    return f"cannot be read: {_READING_PROBLEMS.get(error.errno or 0, error.strerror or str(error))}"


def _classify(at: int, name: str) -> tuple[bool, str | None]:
    """(whether it is a folder to look into, why it cannot be served)."""
    if is_left_behind(name):
        return False, None
    if name.startswith(".") and name != ".well-known":
        return False, "is hidden, so probably not meant for everybody; move it elsewhere or rename it"
    try:
        state = os.stat(name, dir_fd=at, follow_symlinks=False)
        if stat.S_ISLNK(state.st_mode):
            return False, f"is a link to {os.readlink(name, dir_fd=at)!r}; copy the file in its place"
    except OSError as error:
        return False, reading_problem(error)
    if stat.S_ISDIR(state.st_mode):
        return True, None
    if not stat.S_ISREG(state.st_mode):
        return False, "is no regular file (a FIFO, socket or device); remove it"
    return False, _too_large(state.st_size) if state.st_size > MAX_BYTES else None


def _too_large(size: int) -> str:
    return f"has {size:,} bytes, and a hot page at most {MAX_BYTES:,}; leave it to the web server"
