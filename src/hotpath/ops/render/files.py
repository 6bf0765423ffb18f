"""Rendered files: written to a directory, or compared with what is installed there."""

from __future__ import annotations

import difflib
import os
import stat
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hotpath.errors import DeclarationError

# Lines of a diff that are shown of one file.
MAX_DIFF_LINES: Final = 20


@dataclass(frozen=True, slots=True)
class RenderedFile:
    """``path`` is relative to the root of the machine (``etc/cron.d/site``), or a plain name for a file of no place."""

    path: str
    text: str
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class Difference:
    """What is installed differs: ``problem`` in one line, and the first lines of a diff."""

    path: Path
    problem: str
    diff: tuple[str, ...] = ()


def write(files: Sequence[RenderedFile], root: Path) -> list[Path]:
    """Write what differs below ``root``; the paths that were written. Files that are right already are left alone.

    Each file appears at once and whole, and the first only when all could be written. Raises ``DeclarationError``.
    """
    differing = [file for file in files if _differs(file, root / file.path)]
    written: list[tuple[str, Path]] = []
    try:
        for file in differing:
            path = root / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
            written.append((temporary, path))
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(_bytes(file))
                os.fchmod(descriptor, file.mode)
                os.fsync(descriptor)
        while written:
            temporary, path = written[0]
            Path(temporary).replace(path)
            del written[0]
    except OSError as error:
        raise DeclarationError(
            f"{error.filename or root}: {error.strerror}; --to names a directory to write to"
        ) from None
    finally:
        for temporary, _ in written:
            Path(temporary).unlink(missing_ok=True)
    return [root / file.path for file in differing]


def compare(files: Iterable[RenderedFile], root: Path) -> list[Difference]:
    """How what is installed below ``root`` differs, file by file; empty where nothing does."""
    return [difference for file in files if (difference := _compare(file, root / file.path)) is not None]


def _differs(file: RenderedFile, path: Path) -> bool:
    return _compare(file, path) is not None


def _compare(file: RenderedFile, path: Path) -> Difference | None:
    try:
        installed = path.read_bytes()
        mode = stat.S_IMODE(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return Difference(path, "is missing")
    except OSError as error:
        return Difference(path, f"cannot be read: {error.strerror}")
    if installed != _bytes(file):
        theirs = installed.decode("utf-8", "backslashreplace").splitlines()
        diff = list(difflib.unified_diff(theirs, file.text.splitlines(), "installed", "rendered", n=0, lineterm=""))
        more = [f"… and {len(diff) - MAX_DIFF_LINES} more lines"] if len(diff) > MAX_DIFF_LINES else []
        return Difference(path, "differs", (*diff[:MAX_DIFF_LINES], *more))
    if mode != file.mode:
        return Difference(path, f"has mode {mode:04o}, expected {file.mode:04o}")
    return None


def _bytes(file: RenderedFile) -> bytes:
    # A path that is not UTF-8 is written as the bytes it is.
    return file.text.encode("utf-8", "surrogateescape")
