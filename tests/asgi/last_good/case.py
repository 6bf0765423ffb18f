"""What a conformance case is made of: a section, the rule in it, and steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Page:
    """From now on the app answers so. ``None`` takes a field of the default (``date``) away; a list is repeated."""

    status: int
    fields: dict[str, Any]
    body: Any


@dataclass(frozen=True)
class Wait:
    """Seconds pass; negative: the clock goes back."""

    seconds: float


@dataclass(frozen=True)
class Ask:
    """A request, and who answers it: ``app``, ``cache``, or ``validated`` (the cache, after a 304 of the app)."""

    source: str
    method: str = "GET"
    path: str = "/"
    headers: dict[str, Any] = field(default_factory=dict)
    status: int = 200
    body: str | None = None
    age: int | None = None
    has: dict[str, str | None] = field(default_factory=dict)
    app_got: dict[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """``rule`` says what is held, in the words of ``section`` as far as they are short."""

    section: str
    rule: str
    steps: tuple[Any, ...]
    options: dict[str, Any] = field(default_factory=lambda: {"fresh": True})


def page(body: Any = "one", status: int = 200, **fields: Any) -> Page:
    return Page(status, {name.replace("_", "-"): value for name, value in fields.items()}, body)


def down(status: int = 503) -> Page:
    return Page(status, {}, "down")


def wait(seconds: float) -> Wait:
    return Wait(seconds)


def ask(source: str, **options: Any) -> Ask:
    headers = {name.replace("_", "-"): value for name, value in options.pop("headers", {}).items()}
    return Ask(source, headers=headers, **options)


def when_down(section: str, rule: str, *steps: Any, **options: Any) -> Case:
    """A case without ``fresh=``: the cache is for the app's failures."""
    return Case(section, rule, steps, options)


def fresh(section: str, rule: str, *steps: Any, **options: Any) -> Case:
    """A case of an ordinary shared cache."""
    return Case(section, rule, steps, {"fresh": True, **options})


def kept(section: str, rule: str, first: Page, *, is_kept: bool, headers: dict[str, str] | None = None) -> Case:
    """Whether an answer is kept: it, or the failure, is what comes when the app is down."""
    source, status = ("cache", first.status) if is_kept else ("app", 503)
    sent = headers or {}
    return when_down(
        section, rule, first, ask("app", headers=sent, status=first.status), down(), ask(source, status=status)
    )
