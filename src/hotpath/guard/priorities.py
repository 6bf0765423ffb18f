"""How much a request matters when memory ends: P0 is never refused, P3 first."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from enum import IntEnum
from typing import Final

from hotpath.errors import DeclarationError
from hotpath.options import is_plain
from hotpath.types import Scope


class Priority(IntEnum):
    """P0 is never refused: liveness, metrics, robots.txt, ACME challenges. P1 is refused in no state either, unless it
    carries a body under BRAKE: readiness, hot paths. P2: reads. P3: writes, uploads, exports, batches."""

    P0 = 0
    P1 = 1
    P2 = 2
    P3 = 3


# A robots.txt that answers 5xx stops all crawling of a host; an expired certificate stops everything.
NEVER_REFUSED: Final = (
    "/livez",
    "/healthz",
    "/health",
    "/live",
    "/metrics",
    "/metrics/",  # where Starlette mounts an app
    "/robots.txt",
    "/.well-known/acme-challenge/*",
)
READINESS: Final = ("/readyz", "/ready")

READS = frozenset(("GET", "HEAD", "OPTIONS"))

Chooser = Callable[[Scope], "Priority | int | None"]


class Priorities:
    """Who is asked for a request's priority.

    ``rules`` is a mapping of patterns to priorities, or a callable that takes a scope; where it gives ``None``, or no
    pattern matches, the defaults say. A pattern is a path, ``"/export/*"`` for all below it, with a method in front
    where only that one is meant: ``"POST /login"``. The first pattern that matches counts.
    """

    def __init__(self, rules: Mapping[str, Priority | int] | Chooser | None = None) -> None:
        self._choose: Chooser | None = None
        self._rules: list[tuple[str | None, str, bool, Priority]] = []
        if isinstance(rules, Mapping):
            self._rules += [_parse(pattern, priority) for pattern, priority in rules.items()]
        elif rules is not None:
            if not is_plain(rules):
                raise DeclarationError(
                    f"priority={rules!r}: write a dict of patterns, or a function of the scope that is not async"
                )
            self._choose = rules
        for priority, patterns in ((Priority.P0, NEVER_REFUSED), (Priority.P1, READINESS)):
            for pattern in patterns:
                self._rules += [_parse(f"{method} {pattern}", priority) for method in ("GET", "HEAD")]

    def of(self, scope: Scope) -> Priority:
        """The priority of one request. A callable that gives nonsense, or raises, raises here."""
        if self._choose is not None:
            chosen = self._choose(scope)
            if chosen is not None:
                return Priority(chosen)
        method, path = scope.get("method"), local_path(scope)
        for only, text, is_prefix, priority in self._rules:
            if (path.startswith(text) if is_prefix else path == text) and (only is None or only == method):
                return priority
        # A handshake has no method: what it opens stays, and takes memory as long as it does.
        return Priority.P2 if method in READS else Priority.P3


def check_readiness(paths: object) -> None:
    """Raise ``DeclarationError`` for what is no collection of paths."""
    if (
        not isinstance(paths, Collection)
        or isinstance(paths, str | bytes)
        or not all(isinstance(path, str) and path.startswith("/") for path in paths)
    ):
        raise DeclarationError(f"readiness={paths!r}: write paths, ('/readyz',)")


def local_path(scope: Scope) -> str:
    """The path below the mount point."""
    path: str = scope["path"]
    root: str = scope.get("root_path") or ""
    return path[len(root) :] if root and path.startswith(root + "/") else path


def _parse(pattern: str, priority: Priority | int) -> tuple[str | None, str, bool, Priority]:
    if not isinstance(pattern, str):
        raise DeclarationError(f"priority: {pattern!r} is no pattern; write '/path', '/path/*' or 'POST /path'")
    method, _, path = pattern.rpartition(" ")
    if not path.startswith("/") or "*" in path[:-1] or (method and not method.isupper()):
        raise DeclarationError(f"priority: {pattern!r} is no pattern; write '/path', '/path/*' or 'POST /path'")
    if isinstance(priority, bool) or priority not in tuple(Priority):
        raise DeclarationError(f"priority: {pattern!r} has {priority!r}; write Priority.P0 to Priority.P3, or 0 to 3")
    return method or None, path.removesuffix("*"), path.endswith("*"), Priority(priority)
