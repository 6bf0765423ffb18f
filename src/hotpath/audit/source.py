"""One file from its bytes to what it says; nothing of it is imported or run."""

from __future__ import annotations

import ast
from dataclasses import dataclass

from hotpath.audit.cache_calls import cache_findings
from hotpath.audit.facts import Facts, facts
from hotpath.audit.findings import Finding, Pattern, Unread
from hotpath.audit.silences import MARK, Silence, decoded, silences
from hotpath.audit.walk import Walk, walk


@dataclass(frozen=True, slots=True)
class File:
    """What one file says by itself; ``facts`` are judged together with those of all other files."""

    path: str
    lines: int
    facts: Facts
    findings: tuple[Finding, ...]
    silences: tuple[Silence, ...]


def read_source(path: str, module: str, data: bytes) -> File | Unread:
    """``module`` is the last part of the module's name: the folder's for ``__init__.py``."""
    try:
        tree = ast.parse(data, path)
        lines = decoded(data)
        found = walk(tree, module)
        comments = tuple(silences(lines)) if MARK in data.lower() else ()
        return File(path, len(lines), facts(path, lines, found), _own_findings(path, lines, found, comments), comments)
    except SyntaxError as error:
        return Unread(path, error.lineno or None, f"syntax error: {error.msg}")
    except (RecursionError, MemoryError):  # the parser says MemoryError where its own stack ends
        return Unread(path, None, "nested too deeply to be read")
    except ValueError as error:  # a null byte, in some versions of Python
        return Unread(path, None, f"cannot be parsed: {error}")


def _own_findings(path: str, lines: list[str], found: Walk, comments: tuple[Silence, ...]) -> tuple[Finding, ...]:
    return (
        *cache_findings(path, lines, found),
        *(_without_reason(path, lines, one) for one in comments if not one.reason),
    )


def _without_reason(path: str, lines: list[str], comment: Silence) -> Finding:
    return Finding(
        path,
        comment.line,
        Pattern.NO_REASON,
        "# hotpath: bounded",
        "it gives no reason, so it silences nothing",
        "# hotpath: bounded – say here what bounds it",
        text=lines[comment.line - 1].strip(),
    )
