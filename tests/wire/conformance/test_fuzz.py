"""Random request heads through the middleware: no exception, and what is announced is what is sent."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, MutableMapping
from typing import Any

import pytest

from hotpath.asgi.middleware import HotpathMiddleware
from tests.wire.conformance.cases import APP, DATE, EARLIER, LATER_DATE, PAGES
from tests.wire.conformance.site import Headers, Site, make_scope, tags_of

PLAIN_HEADS = 30_000
SLOW_HEADS = 1_000_000

# The least share of each answer, so that no part of the decision goes without its random heads.
SHARES = {200: 0.2, 206: 0.01, 304: 0.03, 308: 0.0005, 406: 0.003, 412: 0.02, 416: 0.002, APP: 0.1}

METHODS = ["GET"] * 20 + ["HEAD"] * 5 + ["POST", "OPTIONS", "get", ""]
NOISE = ["%", "%2F", "%2e%2e", "..", ".", "//", "\\", "%00", "\x00", "\xff", "é", "%c3%a9", " ", "+", "~", ";", "/"]
PARAMETERS = ["n=10", "q=a+b", "utm_source=x", "gclid", "x=1", "n=", "&", "n=10", "%ff=1", "=", "?", "a" * 50]
ACCEPT = ["gzip", "br", "zstd", "identity", "*", "deflate", "x-gzip", "GZIP", "", ";", "\xff"]
WEIGHTS = ["", "", ";q=0", ";q=0.5", ";q=1", ";q=0.001", ";q=2", "; q=0.3", ";q=", ";Q=0.4", ";q=0;q=1"]
UNITS = ["bytes"] * 9 + ["BYTES", "lines", "", "bytes "]
DATES = [DATE, EARLIER, LATER_DATE, "Fri Jan 15 08:00:00 2027", "Friday, 15-Jan-27 08:00:00 GMT", "", "\xff", "now"]
OTHER_FIELDS = ["host", "cookie", "authorization", "user-agent", "accept", "x-forwarded-host", "te", ":authority"]


class Heads:
    """A stream of request heads, half sensible and half not, the same for the same seed."""

    def __init__(self, seed: int, site: Site) -> None:
        self.random = random.Random(seed)
        self.keys = sorted(PAGES)
        self.tags = {
            key: [tag for tag in tags_of(site.items[key]).values() if tag.startswith('"')] for key in self.keys
        }

    def scope(self) -> dict[str, Any]:
        pick = self.random.random
        fields = {"root_path": self.random.choice(["/api", "/a", "/rows", "/"])} if pick() < 0.05 else {}
        key = self.random.choice(self.keys)
        scope = make_scope(self.random.choice(METHODS), self._target(key), self._headers(self.tags[key]), fields)
        if pick() < 0.02:
            scope.pop(self.random.choice(["raw_path", "root_path", "query_string"]), None)
        return scope

    def _target(self, target: str) -> str:
        choose, pick = self.random.choice, self.random.random
        if pick() < 0.05:
            target = target.removesuffix("/") if target.endswith("/") else target + "/"
        if pick() < 0.2:
            path, _, query = target.partition("?")
            for _ in range(self.random.randint(1, 3)):
                at = self.random.randint(0, len(path))
                character = path[at : at + 1]
                if pick() < 0.5 and character and character not in "/%":
                    path = f"{path[:at]}%{ord(character):02x}{path[at + 1 :]}"
                else:
                    path = path[:at] + choose(NOISE) + path[at:]
            target = f"{path}?{query}" if query else path
        if pick() < 0.2:
            target += ("&" if "?" in target else "?") + "&".join(self.random.choices(PARAMETERS, k=2))
        return target.encode().decode("latin-1")

    def _headers(self, tags: list[str]) -> Headers:
        headers = []
        for _ in range(self.random.choice([0, 1, 1, 2, 2, 3, 4, 6, 9])):
            name, value = self._field(tags)
            if self.random.random() < 0.1:
                value = self._damaged(value)
            headers.append((name.encode(), value.encode("latin-1", "replace")))
        return headers

    def _field(self, own_tags: list[str]) -> tuple[str, str]:
        choose = self.random.choice
        kind = self.random.randrange(9)
        if kind == 0:
            members = self.random.randint(0, 5)
            return "accept-encoding", ", ".join(choose(ACCEPT) + choose(WEIGHTS) for _ in range(members))
        if kind in (1, 2):
            some = [*own_tags, *own_tags, '"x"', '"a,b"', "*", "", '"', "abc"]
            tags = [choose(["", "", "W/"]) + choose(some) for _ in range(self.random.choice([0, 1, 1, 1, 2, 5]))]
            name = "if-none-match" if self.random.random() < 0.8 else "if-match"
            return name, choose([", ", ",", " ,"]).join(tags)
        if kind == 3:
            name = "if-modified-since" if self.random.random() < 0.8 else "if-unmodified-since"
            return name, choose(DATES)
        if kind == 4:
            return "if-range", choose([*DATES, *own_tags, *own_tags, 'W/"x"', '"x"'])
        if kind in (5, 6, 7):
            spans = [f"{self._number()}-{self._number()}" for _ in range(choose([1] * 12 + [2, 5, 40]))]
            return "range", f"{choose(UNITS)}={','.join(spans)}"
        return choose(OTHER_FIELDS), choose(["", "x", "\xff\x00", "a" * 300, "*"])

    def _number(self) -> str:
        return str(self.random.choice(["", "", 0, 0, 1, 2, 5, 9, 10, 100, 2000, 10**25, "x"]))

    def _damaged(self, value: str) -> str:
        at = self.random.randint(0, len(value))
        return value[:at] + chr(self.random.randrange(256)) * self.random.choice([1, 1, 1, 200]) + value[at:]


def run_now(app: HotpathMiddleware, scope: MutableMapping[str, Any]) -> list[MutableMapping[str, Any]]:
    """Ask without an event loop: with all bodies in memory nothing on the way waits for anything."""
    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    waiting = app(scope, receive, send)
    try:
        waiting.send(None)
    except StopIteration:
        return sent
    raise AssertionError("the middleware waited for something with all bodies in memory")


def fuzz(sites: Mapping[str, Site], seed: int, count: int) -> Counter[int]:
    statuses: Counter[int] = Counter()
    sources = [(Heads(seed, sites["plain"]), sites["plain"]), (Heads(seed + 1, sites["slashes"]), sites["slashes"])]
    faults_before = [site.app.internal_errors for _, site in sources]
    for number in range(count):
        heads, site = sources[number % 10 == 9]
        scope = heads.scope()
        start, body = run_now(site.app, scope)
        status, sent = start["status"], body["body"]
        statuses[status] += 1
        if status == APP:
            continue
        lengths = [value for name, value in start["headers"] if name == b"content-length"]
        if status == 304:
            right = lengths == [] and sent == b""
        elif scope["method"] == "HEAD":
            right = len(lengths) == 1 and sent == b""
        else:
            right = lengths == [b"%d" % len(sent)]
        assert right, f"seed {seed}, head {number}: {scope} -> {start} with {len(sent)} bytes"
        assert scope["method"] in ("GET", "HEAD")
        assert status != 206 or scope["method"] == "GET"
    assert [site.app.internal_errors for _, site in sources] == faults_before, "an exception went to the log"
    return statuses


def require_variety(statuses: Counter[int]) -> None:
    """A fuzz that only ever reaches the app, or only ever hits, holds nothing."""
    total = statuses.total()
    for status, share in SHARES.items():
        assert statuses[status] >= share * total, f"{status}: {statuses[status]} of {total}"
    assert set(statuses) == set(SHARES)


def test_random_heads(sites: Mapping[str, Site]) -> None:
    require_variety(fuzz(sites, 1, PLAIN_HEADS))


@pytest.mark.slow
def test_a_million_random_heads(sites: Mapping[str, Site]) -> None:
    require_variety(fuzz(sites, random.SystemRandom().randrange(2**32), SLOW_HEADS))
