"""The site that stands behind the nginx of the docs: its hot pages, and its cold ones for any framework."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from hotpath.site import Hotpath

MARKETS = ("kospi", "nyse")
HOME = "<!doctype html><title>Märkte</title>" + "<p>row</p>" * 100


def declare(hot: Hotpath) -> None:
    """The hot pages that the configuration of the docs has lines for, and one that it has none for."""
    hot.route("/", media_type="text/html")(lambda: HOME)
    hot.route("/robots.txt")(lambda: "User-agent: *\nAllow: /\n" * 20)
    hot.route("/rankings/{market}", each={"market": MARKETS})(ranking)
    hot.route("/top/{market}", query=("n",), each={"market": MARKETS, "n": [10, None]})(top)
    hot.route("/only/hotpath")(lambda: {"page": "only hotpath"})


def ranking(market: str) -> dict[str, object]:
    return {"market": market, "items": [{"rank": rank} for rank in range(100)]}


def top(market: str, n: int | None) -> dict[str, object]:
    return {"market": market, "first": n or 100}


@dataclass(frozen=True)
class Cold:
    """What the app answers. ``location`` is a path; the framework makes an absolute URL of it."""

    status: int
    body: str
    headers: dict[str, str] = field(default_factory=dict)
    location: str | None = None


def cold(method: str, path: str, query: str, fields: Mapping[str, str]) -> Cold:
    """``/me`` is personal, ``/news`` public, ``/moved`` redirects, ``/seen…`` and every POST repeat what came."""
    if path == "/me":
        private = {"Cache-Control": "private, no-store", "Set-Cookie": "session=abc; Path=/; HttpOnly"}
        return Cold(200, "me: " + fields.get("cookie", "nobody"), private)
    if path == "/news":
        return Cold(200, "news for " + fields.get("cookie", "all"), {"Cache-Control": "public, max-age=1"})
    if path == "/moved":
        return Cold(302, "", location="/rankings/kospi")
    if path.startswith("/seen") or method == "POST" or fields.get("cookie"):
        return Cold(200, json.dumps({"method": method, "path": path, "query": query, "fields": dict(fields)}))
    return Cold(404, "the app has no such page")
