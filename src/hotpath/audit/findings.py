"""What the audit reports: a finding for each thing that can grow without a bound, and what to write instead."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Self


class Severity(StrEnum):
    """How sure the audit is that a reviewer wants to see it; the words of SARIF."""

    WARNING = "warning"
    NOTE = "note"  # bounded by the code as far as it can be seen; shown with --all only


class Pattern(StrEnum):
    """What was recognised; ``summary`` is its description in SARIF."""

    summary: str

    def __new__(cls, name: str, summary: str) -> Self:
        member = str.__new__(cls, name)
        member._value_ = name
        member.summary = summary
        return member

    UNBOUNDED_CACHE = (
        "unbounded-cache",
        "functools.cache or lru_cache(maxsize=None) keeps a result for every set of arguments",
    )
    UNBOUNDED_CACHETOOLS = (
        "unbounded-cachetools",
        "a cachetools cache with an infinite maxsize, or cachetools.cached over a dict",
    )
    UNBOUNDED_ALRU_CACHE = (
        "unbounded-alru-cache",
        "alru_cache(maxsize=None) keeps a result for every set of arguments",
    )
    GROWING_GLOBAL = "growing-global", "a module-level container that functions add to and nothing removes from"
    GROWING_CLASS_ATTRIBUTE = (
        "growing-class-attribute",
        "a class-level container, shared by all instances, that methods only add to",
    )
    TTL_WITHOUT_MAXIMUM = (
        "ttl-without-maximum",
        "a dict of values with times: what is never asked for again never leaves",
    )
    GLOBAL_REGISTRY = (
        "global-registry",
        "a registry that objects enter while the program runs, with no way and no time to leave",
    )
    HANDLER_APPEND = "append-in-handler", "a request handler adds to a container that outlives the request"
    CLOSURE_MEMO = "closure-memo", "a memo in a closure that lives as long as the function and is never emptied"
    MUTABLE_DEFAULT = "mutable-default", "a mutable default is one object for all calls, and the function adds to it"
    NO_REASON = (
        "bounded-without-reason",
        "'# hotpath: bounded' needs a reason behind it and silences nothing without one",
    )


CACHES = frozenset({Pattern.UNBOUNDED_CACHE, Pattern.UNBOUNDED_ALRU_CACHE, Pattern.UNBOUNDED_CACHETOOLS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A thing that grows; the fields are those of ``--json``.

    ``line`` is where it is made and what to change; ``grows_at`` where it is added to. ``instead`` is Python to paste
    in place of that line.
    """

    path: str
    line: int
    pattern: Pattern
    level: Severity = Severity.WARNING
    name: str
    why: str
    grows_at: str | None = None
    text: str = ""
    instead: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A finding before the comments, and of a cache the other files, are looked at.

    A comment on one of ``lines`` silences it. The calls of ``function`` decide how many entries there can be, by those
    ``arguments``, each by its place and its name.
    """

    finding: Finding
    lines: frozenset[int]
    function: str | None = None
    arguments: tuple[int | str, ...] = ()


@dataclass(frozen=True, slots=True)
class Unread:
    """A file that was skipped, and why; the fields are those of ``--json``."""

    path: str
    line: int | None
    problem: str


def replacement(name: str, kind: str, pattern: Pattern, *, stores_self: bool) -> str:
    """One line of Python, with the import it needs behind it."""
    if pattern is Pattern.MUTABLE_DEFAULT:
        return f"{name}=None  # and in the body: if {name} is None: {name} = {_EMPTY.get(kind, 'dict()')}"
    if stores_self:
        weak = "WeakSet" if kind in ("list", "set", "deque") else "WeakValueDictionary"
        return f"{name} = {weak}()  # from weakref import {weak}; an object nobody else holds leaves by itself"
    if pattern is Pattern.TTL_WITHOUT_MAXIMUM:
        return f"{name} = TTLCache(max_entries=1024, ttl=300)  # from hotpath import TTLCache"
    if kind in ("list", "deque"):
        return f"{name} = deque(maxlen=1000)  # from collections import deque"
    if kind == "set":
        return f"{name} = LRUCache(max_entries=1024)  # from hotpath import LRUCache; {name}[item] = True for add(item)"
    if kind in ("defaultdict", "Counter"):
        start = "0" if kind == "Counter" else "…"
        return f"{name} = LRUCache(max_entries=1024)  # from hotpath import LRUCache; setdefault(key, {start}) first"
    return f"{name} = LRUCache(max_entries=1024)  # from hotpath import LRUCache"


_EMPTY = {"list": "[]", "dict": "{}", "set": "set()"}
