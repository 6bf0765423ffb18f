"""What the audit says: one finding for each thing that can grow without a bound, and what to write in its place."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Level(StrEnum):
    """How sure the audit is that a reviewer wants to see it; the words of SARIF."""

    WARNING = "warning"
    NOTE = "note"  # bounded by the code as far as it can be seen; told only when all is asked for


class Pattern(StrEnum):
    """What was recognised."""

    UNBOUNDED_CACHE = "unbounded-cache"
    UNBOUNDED_CACHETOOLS = "unbounded-cachetools"
    UNBOUNDED_ALRU_CACHE = "unbounded-alru-cache"
    GROWING_GLOBAL = "growing-global"
    GROWING_CLASS_ATTRIBUTE = "growing-class-attribute"
    TTL_WITHOUT_MAXIMUM = "ttl-without-maximum"
    GLOBAL_REGISTRY = "global-registry"
    HANDLER_APPEND = "append-in-handler"
    CLOSURE_MEMO = "closure-memo"
    MUTABLE_DEFAULT = "mutable-default"
    NO_REASON = "bounded-without-reason"


SUMMARIES = {
    Pattern.UNBOUNDED_CACHE: "functools.cache or lru_cache(maxsize=None) keeps a result for every set of arguments",
    Pattern.UNBOUNDED_CACHETOOLS: "a cachetools cache with an infinite maxsize, or cachetools.cached over a dict",
    Pattern.UNBOUNDED_ALRU_CACHE: "alru_cache(maxsize=None) keeps a result for every set of arguments",
    Pattern.GROWING_GLOBAL: "a module-level container that functions add to and nothing removes from",
    Pattern.GROWING_CLASS_ATTRIBUTE: "a class-level container, shared by all instances, that methods only add to",
    Pattern.TTL_WITHOUT_MAXIMUM: "a dict of values with times: what is never asked for again never leaves",
    Pattern.GLOBAL_REGISTRY: "a registry that objects enter while the program runs, with no way and no time to leave",
    Pattern.HANDLER_APPEND: "a request handler adds to a container that outlives the request",
    Pattern.CLOSURE_MEMO: "a memo in a closure that lives as long as the function and is never emptied",
    Pattern.MUTABLE_DEFAULT: "a mutable default is one object for all calls, and the function adds to it",
    Pattern.NO_REASON: "'# hotpath: bounded' needs a reason behind it and silences nothing without one",
}


CACHES = frozenset({Pattern.UNBOUNDED_CACHE, Pattern.UNBOUNDED_ALRU_CACHE, Pattern.UNBOUNDED_CACHETOOLS})


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that grows. ``line`` is where it is made and what to change; ``grows_at`` where it is added to.

    ``instead`` is Python to paste in place of that line.
    """

    path: str
    line: int
    pattern: Pattern
    name: str
    why: str
    instead: str
    level: Level = Level.WARNING
    grows_at: str | None = None
    text: str = ""
    lines: frozenset[int] = field(default=frozenset(), repr=False)  # where a comment silences it
    function: str | None = field(default=None, repr=False)  # whose calls decide how many entries there can be,
    arguments: tuple[int | str, ...] = field(default=(), repr=False)  # by these, each by its place and its name

    def as_dict(self) -> dict[str, object]:
        """For ``--json``."""
        return {
            "path": self.path,
            "line": self.line,
            "pattern": str(self.pattern),
            "level": str(self.level),
            "name": self.name,
            "why": self.why,
            "grows_at": self.grows_at,
            "text": self.text,
            "instead": self.instead,
        }


@dataclass(frozen=True, slots=True)
class Unread:
    """A file that was passed over, and why."""

    path: str
    line: int | None
    problem: str

    def as_dict(self) -> dict[str, object]:
        """For ``--json``."""
        return {"path": self.path, "line": self.line, "problem": self.problem}
