"""Read Python files and report what grows without a bound: to a person, a script or a review tool."""

from __future__ import annotations

import errno
import gc
import json
import os
import stat
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath

from hotpath.audit.analysis import analyze
from hotpath.audit.findings import Finding, Severity, Unread
from hotpath.audit.sarif import sarif
from hotpath.audit.source import File, read_source
from hotpath.errors import NothingToAudit

_NEVER = frozenset({"__pycache__", "node_modules", "site-packages", "dist-packages"})
_TESTS = frozenset({"tests", "test", "testing"})
MAX_FILE_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Audit:
    """The report; the fields are those of ``--json``.

    ``notes`` are bounded by the code as far as can be seen, and do not make the audit fail.
    """

    findings: tuple[Finding, ...]
    notes: tuple[Finding, ...]
    unread: tuple[Unread, ...]
    files: int
    lines: int
    silenced: int


def audit(paths: Sequence[Path], *, tests: bool = False) -> Audit:
    """Read all ``*.py`` under ``paths`` and analyze them together. Nothing is imported.

    Tests are left out unless ``tests`` or unless a path is one, or a folder of them. Raises ``NothingToAudit`` when
    there is no Python file at all.
    """
    with _undisturbed():
        results = [path if isinstance(path, Unread) else _read(path) for path in _files(paths, tests)]
    files = [result for result in results if isinstance(result, File)]
    if not results:
        raise NothingToAudit(paths)
    candidates = analyze(files)
    silent = {
        (file.path, line) for file in files for comment in file.silences if comment.reason for line in comment.covers
    }
    findings = [
        candidate.finding
        for candidate in candidates
        if not any((candidate.finding.path, line) in silent for line in (candidate.finding.line, *candidate.lines))
    ]
    findings.sort(key=lambda finding: (finding.path, finding.line, finding.name))
    return Audit(
        findings=tuple(finding for finding in findings if finding.level is Severity.WARNING),
        notes=tuple(finding for finding in findings if finding.level is Severity.NOTE),
        unread=tuple(result for result in results if isinstance(result, Unread)),
        files=len(files),
        lines=sum(file.lines for file in files),
        silenced=len(candidates) - len(findings),
    )


def lines(report: Audit, *, notes: bool) -> Iterator[str]:
    """For a person: each finding with the line it is about and what to write in its place."""
    for finding in (*report.findings, *(report.notes if notes else ())):
        note = "note, " if finding.level is Severity.NOTE else ""
        grows = f" ({finding.grows_at})" if finding.grows_at else ""
        yield f"{finding.path}:{finding.line}: {note}{finding.pattern}: {finding.why}{grows}"
        yield f"    - {finding.text}"
        yield f"    + {finding.instead}"
    for unread in report.unread:
        yield f"{unread.path}{f':{unread.line}' if unread.line else ''}: skipped, {unread.problem}"
    counts = [_count(len(report.findings), "finding"), _count(report.files, "file"), _count(report.lines, "line")]
    summary = [f"{counts[0]} in {counts[1]}, {counts[2]}"]
    if report.silenced:
        summary.append(f"{report.silenced} silenced")
    if report.unread:
        summary.append(f"{_count(len(report.unread), 'file')} skipped")
    if report.notes and not notes:
        summary.append(f"{len(report.notes)} more are bounded by the code (--all shows them)")
    yield "; ".join(summary)


def write_sarif(report: Audit, target: Path, *, notes: bool) -> None:
    """SARIF 2.1.0 for code-review tools."""
    shown = (*report.findings, *(report.notes if notes else ()))
    target.write_text(json.dumps(sarif(shown, report.unread), indent=1) + "\n", "utf-8")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _files(paths: Iterable[Path], tests: bool) -> Iterator[Path | Unread]:
    seen: set[str] = set()
    for path in paths:
        below = path.is_dir() or not path.exists()
        for file in _below(path, tests or path.absolute().name in _TESTS) if below else [path]:
            real = file.path if isinstance(file, Unread) else os.path.realpath(file)  # resolve() raises on loops
            if real not in seen:
                seen.add(real)
                yield file


def _below(root: Path, tests: bool) -> Iterator[Path | Unread]:
    closed: list[OSError] = []
    for folder, folders, names in os.walk(root, onerror=closed.append):
        inside = sorted(name for name in folders if not name.startswith(".") and name not in _NEVER)
        folders[:] = [
            name
            for name in inside
            if (tests or name not in _TESTS) and not os.path.exists(os.path.join(folder, name, "pyvenv.cfg"))  # noqa: PTH110, PTH118  Path.exists() raises where it may not look
        ]
        for name in sorted(names):
            if name.endswith(".py") and (tests or not _is_test(name)):
                yield Path(folder, name)
    for error in closed:
        if not isinstance(error, FileNotFoundError):
            yield Unread(_shown(error.filename), None, f"cannot be read: {error.strerror}")


def _is_test(name: str) -> bool:
    return name.startswith("test_") or name.endswith("_test.py") or name in ("tests.py", "conftest.py")


def _read(path: Path) -> File | Unread:
    shown = _shown(path)
    try:
        # Opening a pipe would wait for who writes into it, and reading a device may never end.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return Unread(shown, None, "not a regular file")
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.ENODEV):
            return Unread(shown, None, "not a regular file")
        return Unread(shown, None, f"cannot be read: {error.strerror}")
    if len(data) > MAX_FILE_BYTES:
        return Unread(shown, None, f"larger than {MAX_FILE_BYTES:,} bytes")
    return read_source(shown, path.parent.name if path.stem == "__init__" else path.stem, data)


def _shown(path: str | PurePath) -> str:
    """A path as text that can be printed: bytes of its name that are not UTF-8 are escaped."""
    return PurePath(path).as_posix().encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


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
