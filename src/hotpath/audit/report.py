"""Read Python files and say what in them grows without a bound: to a person, a script or a review tool."""

from __future__ import annotations

import gc
import json
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath

from hotpath.audit.findings import Finding, Level, Unread
from hotpath.audit.judge import judge
from hotpath.audit.sarif import sarif
from hotpath.audit.source import File, read_source
from hotpath.errors import NothingToAudit

_NEVER = frozenset({"__pycache__", "node_modules", "site-packages", "dist-packages"})
_TESTS = frozenset({"tests", "test", "testing"})
MAX_FILE_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Audit:
    """What was found. ``notes`` are bounded by the code as far as can be seen; they do not make it fail."""

    findings: tuple[Finding, ...]
    notes: tuple[Finding, ...]
    unread: tuple[Unread, ...]
    files: int
    lines: int
    silenced: int

    def as_dict(self) -> dict[str, object]:
        """For ``--json``."""
        return {
            "findings": [finding.as_dict() for finding in self.findings],
            "notes": [finding.as_dict() for finding in self.notes],
            "unread": [one.as_dict() for one in self.unread],
            "files": self.files,
            "lines": self.lines,
            "silenced": self.silenced,
        }


def audit(paths: Sequence[Path], *, tests: bool = False) -> Audit:
    """Read all ``*.py`` under ``paths`` and judge them together. Nothing is imported.

    Tests are left out unless ``tests`` or unless a path is one, or a folder of them. Raises ``NothingToAudit`` when
    there is no Python file at all.
    """
    read: list[File] = []
    unread: list[Unread] = []
    with _undisturbed():
        for path in _files(paths, tests):
            one = _read(path)
            if isinstance(one, File):
                read.append(one)
            else:
                unread.append(one)
    if not read and not unread:
        raise NothingToAudit(paths)
    found = judge(read)
    silent = {
        (file.path, line) for file in read for comment in file.silences if comment.reason for line in comment.covers
    }
    heard = [one for one in found if not any((one.path, line) in silent for line in (one.line, *one.lines))]
    heard.sort(key=lambda one: (one.path, one.line, one.name))
    return Audit(
        tuple(one for one in heard if one.level is Level.WARNING),
        tuple(one for one in heard if one.level is Level.NOTE),
        tuple(unread),
        len(read),
        sum(file.lines for file in read),
        len(found) - len(heard),
    )


def lines(found: Audit, *, notes: bool) -> Iterator[str]:
    """For a person: each finding with the line it is about and what to write in its place."""
    for one in (*found.findings, *(found.notes if notes else ())):
        note = "note, " if one.level is Level.NOTE else ""
        grows = f" ({one.grows_at})" if one.grows_at else ""
        yield f"{one.path}:{one.line}: {note}{one.pattern}: {one.why}{grows}"
        yield f"    - {one.text}"
        yield f"    + {one.instead}"
    for unread in found.unread:
        yield f"{unread.path}{f':{unread.line}' if unread.line else ''}: passed over, {unread.problem}"
    rest = [f"{_count(len(found.findings), 'finding')} in {_count(found.files, 'file')}, {_count(found.lines, 'line')}"]
    if found.silenced:
        rest.append(f"{found.silenced} silenced")
    if found.unread:
        rest.append(f"{_count(len(found.unread), 'file')} passed over")
    if found.notes and not notes:
        rest.append(f"{len(found.notes)} more are bounded by the code (--all shows them)")
    yield "; ".join(rest)


def write_sarif(found: Audit, target: Path, *, notes: bool) -> None:
    """SARIF 2.1.0 for code-review tools."""
    shown = (*found.findings, *(found.notes if notes else ()))
    target.write_text(json.dumps(sarif(shown, found.unread), indent=1) + "\n", "utf-8")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _files(paths: Iterable[Path], tests: bool) -> Iterator[Path]:
    seen: set[Path] = set()
    for path in paths:
        for file in [path] if path.is_file() else _below(path, tests or path.resolve().name in _TESTS):
            resolved = file.resolve()
            if resolved not in seen:
                seen.add(resolved)
                yield file


def _below(root: Path, tests: bool) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        inside = sorted(name for name in folders if not name.startswith(".") and name not in _NEVER)
        folders[:] = [
            name for name in inside if (tests or name not in _TESTS) and not Path(folder, name, "pyvenv.cfg").exists()
        ]
        for name in sorted(names):
            if name.endswith(".py") and (tests or not _is_test(name)):
                yield Path(folder, name)


def _is_test(name: str) -> bool:
    return name.startswith("test_") or name.endswith("_test.py") or name in ("tests.py", "conftest.py")


def _read(path: Path) -> File | Unread:
    shown = path.as_posix()
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            return Unread(shown, None, f"larger than {MAX_FILE_BYTES:,} bytes")
        return read_source(shown, _module(path), path.read_bytes())
    except OSError as error:
        return Unread(shown, None, f"cannot be read: {error.strerror}")


def _module(path: PurePath) -> str:
    return path.parent.name if path.stem == "__init__" else path.stem


@contextmanager
def _undisturbed() -> Iterator[None]:
    """No warnings about the audited code, and no collections: syntax trees have no cycles, and there are many."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if enabled:
            gc.enable()
