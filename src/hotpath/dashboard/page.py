"""The whole document: the sections in their places, with the one style and the one script of the page."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from importlib import resources
from typing import Final

from hotpath.dashboard.markup import Markup, join, tag

_FILES = resources.files("hotpath.dashboard")
STYLE: Final = _FILES.joinpath("page.css").read_text("utf-8")
SCRIPT: Final = _FILES.joinpath("page.js").read_text("utf-8")

# Sections that always have the whole width; others have it once there are two plots in them.
_WIDE: Final = frozenset({"headline", "now", "waiting", "memory", "runs", "notes"})


def _hash(content: str) -> str:
    return base64.b64encode(hashlib.sha256(content.encode("utf-8")).digest()).decode("ascii")


# Nothing is fetched from elsewhere, and no style or script runs but these two.
POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_hash(STYLE)}'; script-src 'sha256-{_hash(SCRIPT)}'; connect-src 'self';"
    " base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


def versions(sections: Mapping[str, Markup]) -> dict[str, str]:
    """A short name of the present content of each section."""
    return {name: hashlib.sha256(inside.encode("utf-8")).hexdigest()[:12] for name, inside in sections.items()}


def document(sections: Mapping[str, Markup], *, updated: str, events: str | None) -> Markup:
    """The page. ``updated`` is when the figures are of, ``events`` where a script hears of newer ones."""
    body = [
        tag("a", "Skip to what waits for you", href="#waiting", class_="skip"),
        tag("header", _section("headline", sections["headline"])),
        tag("main", [_section(name, inside) for name, inside in sections.items() if name != "headline"]),
        tag(
            "footer",
            tag("p", "Figures of ", tag("time", updated, id="updated"), " UTC. ", tag("span", id="live")),
            tag("p", "This page changes nothing: commands are there to copy."),
        ),
        tag("script", Markup(SCRIPT)),
    ]
    seen = " ".join(f"{name}:{version}" for name, version in versions(sections).items())
    return _whole("hotpath status", tag("body", body, data_events=events, data_versions=seen))


def _section(name: str, inside: Markup) -> Markup:
    kind = "wide" if name in _WIDE else None
    live = "polite" if name == "headline" else None
    return tag("section", inside, id=name, class_=kind, aria_live=live, hidden=not inside)


def login_page(problem: str) -> Markup:
    """The page of somebody who has not shown the token; its form goes to where the page is."""
    form = tag(
        "form",
        tag("label", "Token", for_="token"),
        tag("input", id="token", name="token", type="password", autocomplete="current-password", required=True),
        tag("button", "Show the page", type="submit"),
        method="post",
    )
    note = tag("p", "It is what HOTPATH_DASHBOARD_TOKEN was set to, or what hotpath dashboard printed when it began.")
    inside = [tag("h1", "hotpath status"), tag("p", problem, role="alert") if problem else None, form, note]
    return _whole("hotpath status", tag("body", tag("main", tag("section", inside, class_="wide login"))))


def refusal_page(problem: str) -> Markup:
    """The page of somebody who may not see it, and why."""
    inside = [tag("h1", "Not for everybody"), tag("p", problem)]
    return _whole("hotpath status", tag("body", tag("main", tag("section", inside, class_="wide"))))


def _whole(title: str, body: Markup) -> Markup:
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Markup(STYLE)),
    ]
    return join([Markup("<!doctype html>"), tag("html", tag("head", head), body, lang="en")])
