"""One file from its bytes to its facts; nothing of it is imported or run."""

from __future__ import annotations

import ast
from dataclasses import dataclass

from hotpath.audit.cache_calls import cache_candidates
from hotpath.audit.facts import Facts, facts
from hotpath.audit.findings import Candidate, Finding, Pattern, Unread
from hotpath.audit.silences import MARK, Silence, decoded, silences
from hotpath.audit.walk import walk


@dataclass(frozen=True, slots=True)
class File:
    """What one file shows by itself; ``facts`` are analyzed together with those of all other files."""

    path: str
    lines: int
    facts: Facts
    candidates: tuple[Candidate, ...]
    silences: tuple[Silence, ...]


def read_source(path: str, module: str, data: bytes) -> File | Unread:
    """Parse a file. ``module`` is the last part of the module's name: the folder's for ``__init__.py``."""
    try:
        tree = ast.parse(data, path)
        lines = decoded(data)
        walked = walk(tree, module)
        comments = tuple(silences(lines)) if MARK in data.lower() else ()
        candidates = cache_candidates(path, lines, walked)
        candidates += [_without_reason(path, lines, comment) for comment in comments if not comment.reason]
        return File(path, len(lines), facts(path, lines, walked), tuple(candidates), comments)
    except SyntaxError as error:
        return Unread(path, error.lineno or None, f"syntax error: {error.msg}")
    except (RecursionError, MemoryError):  # the parser raises MemoryError where its own stack ends
        return Unread(path, None, "nested too deeply to be read")
    except ValueError as error:  # a null byte, in some versions of Python
        return Unread(path, None, f"cannot be parsed: {error}")


def _without_reason(path: str, lines: list[str], comment: Silence) -> Candidate:
    finding = Finding(
        path=path,
        line=comment.line,
        pattern=Pattern.NO_REASON,
        name="# hotpath: bounded",
        why="it gives no reason, so it silences nothing",
        instead="# hotpath: bounded – say here what bounds it",
        text=lines[comment.line - 1].strip(),
    )
    return Candidate(finding, frozenset())
