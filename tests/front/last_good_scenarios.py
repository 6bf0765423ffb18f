"""Scenarios of a failing origin as data, and how one program between a crawler and the origin is taken through them.

The tests and ``benchmarks/last_good.py`` run the same list. What a program may give is in ``Want``; a section is of
RFC 9111 unless it names another document.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from tests.front.failing_origin import Origin, Script, answer
from tests.front.forwarding import Reply

# Answers with max-age=1 are stale after it, also where ages are whole seconds.
PAUSE_SECONDS: Final = 2.2
# Longest time that a program may take over one request.
SECONDS: Final = 10.0
SETTLE_SECONDS: Final = 0.3
MEDIA_TYPE: Final = "text/html; charset=utf-8"
NEUTRAL: Final = "/neutral"

Fields = Mapping[str, str]


class Want(Enum):
    """What has to come when the origin fails."""

    OLD = "200"  # the good answer from before: 200, or 304, 206 or 301 where that is the answer to the request
    FAILURE = "failed"  # no answer from before: a rule forbids it, or there is none for this request
    GONE = "gone"  # the 404 or 410 that the living app gave last
    NEW = "new"  # the answer of the app, which lives: nothing is given stale without need


class Got(Enum):
    """What came."""

    OLD = "200"
    FAILED = "failed"
    LEAK = "leak"  # the good answer from before, where it must not come
    GONE = "gone"
    NEW = "new"


_RESET: Final = Script(then="reset")


@dataclass(frozen=True, slots=True)
class Scenario:
    """One way to fail.

    ``good`` is the answer to the first request, with the fields ``first``. After ``PAUSE_SECONDS`` the origin answers
    ``between`` while it is still alive, in their order; then ``fails`` happens, and the crawler asks with ``ask``.
    ``fails`` is what the origin sends, or "refuse" or "black hole"; a reset is the quickest.
    """

    name: str
    section: str
    want: Want
    fields: tuple[tuple[str, str], ...] = (("Cache-Control", "max-age=1"),)
    fails: Script | str = _RESET
    between: tuple[Script, ...] = ()
    first: Fields = field(default_factory=dict)
    ask: Fields = field(default_factory=dict)
    status: int = 200
    method: str = "GET"
    query: str = ""

    @property
    def target(self) -> str:
        return f"/scenario/{self.name.replace(' ', '-').replace(',', '')}"

    @property
    def body(self) -> bytes:
        return f"<p>old {self.name}</p>".encode().ljust(400, b".")

    @property
    def good(self) -> Script:
        return answer(self.body, (("Content-Type", MEDIA_TYPE), *self.fields), self.status)


def _control(value: str) -> tuple[tuple[str, str], ...]:
    return (("Cache-Control", value),)


def _new(body: bytes, status: int = 200, **options: object) -> Script:
    return answer(body, {"Content-Type": MEDIA_TYPE, "Cache-Control": "max-age=1"}, status, **options)  # type: ignore[arg-type]


def _script(name: str, fails: Script | str) -> Scenario:
    return Scenario(name, "4.2.4", Want.OLD, fails=fails)


def _old(name: str, section: str, **options: object) -> Scenario:
    return Scenario(name, section, Want.OLD, **options)  # type: ignore[arg-type]


def _forbidden(name: str, section: str, **options: object) -> Scenario:
    return Scenario(name, section, Want.FAILURE, **options)  # type: ignore[arg-type]


_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 400\r\n"
_NEW: Final = b"<p>new</p>".ljust(400, b".")
_CHUNKED: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n"
_EN: Final = {"Accept-Language": "en"}
_DE: Final = {"Accept-Language": "de"}
_TAG: Final = (("Cache-Control", "max-age=1"), ("ETag", '"old"'))
_LANGUAGES: Final = (("Cache-Control", "max-age=1"), ("Vary", "Accept-Language"))

WAYS: Final = (
    _script("connection refused", "refuse"),
    _script("port is a black hole", "black hole"),
    _script("reset before the head", Script(then="reset")),
    _script("closed before the head", Script(then="close")),
    _script("hangs before the head", Script(then="hang")),
    _script("half a head, then reset", Script(_HEAD, "reset")),
    _script("half a head, then hangs", Script(_HEAD, "hang")),
    _script("head comes byte by byte", Script(_HEAD + b"\r\n" + _NEW, seconds_per_byte=0.2)),
    _script("garbage for a head", Script(b"\x16\x03\x01\x00garbage\r\n\r\n", "close")),
    _script("two lengths", Script(_HEAD + b"Content-Length: 4\r\n\r\n" + _NEW, "close")),
    _script("status that is no number", Script(b"HTTP/1.1 OK 200\r\nContent-Length: 0\r\n\r\n", "close")),
    _script("500", answer(b"oops", status=500)),
    _script("502", answer(b"oops", status=502)),
    _script("503", answer(b"oops", {"Retry-After": "1"}, 503)),
    _script("504", answer(b"oops", status=504)),
    _script("500 that may be stored", answer(b"oops", {"Cache-Control": "max-age=60"}, 500)),
)

EARLIER: Final = (
    _old("half a body, then dead", "3.3", between=(_new(_NEW[:200], length=400, then="reset"),)),
    _old("shorter than its length, then dead", "3.3", between=(_new(_NEW[:200], length=400, then="close"),)),
    _old(
        "chunks that end too early, then dead", "3.3", between=(Script(_CHUNKED + b"5\r\nabcde\r\n50\r\nabc", "close"),)
    ),
    _old("chunks that are none, then dead", "3.3", between=(Script(_CHUNKED + b"5\r\nabcde\r\nXYZ\r\n\r\n", "close"),)),
    _old("an empty 200, then dead", "front.md 18", between=(_new(b""),)),
    _old("a 503, then dead", "front.md 18", between=(answer(b"oops", {"Cache-Control": "max-age=9"}, 503),)),
    Scenario("a 404, then dead", "front.md 18", Want.GONE, between=(_new(b"no such page", 404),)),
    Scenario("a 410, then dead", "front.md 18", Want.GONE, between=(_new(b"gone for good", 410),)),
)

ANSWERS: Final = (
    _old("still fresh", "4.2", fields=_control("max-age=3600")),
    _old("no word on caching", "4.2.2", fields=()),
    _old("max-age is nonsense", "4.2.1", fields=_control("max-age=abc")),
    _old("Date in the future", "4.2.3", fields=(*_control("max-age=1"), ("Date", "Fri, 01 Jan 2038 00:00:00 GMT"))),
    _old("stale-if-error", "RFC 5861 4", fields=_control("max-age=1, stale-if-error=3600")),
    _old("must-revalidate, still fresh", "5.2.2.2", fields=_control("max-age=3600, must-revalidate")),
    _old("s-maxage, still fresh", "5.2.2.10", fields=_control("s-maxage=3600")),
    _old("Vary, same language", "4.1", fields=_LANGUAGES, first=_EN, ask=_EN),
    _old("Vary, absent in both", "4.1", fields=_LANGUAGES),
    _old("redirect", "3", fields=(*_control("max-age=1"), ("Location", "/elsewhere")), status=301),
    _old("HEAD", "4", method="HEAD"),
    _old("If-None-Match", "4.3.2", fields=_TAG, ask={"If-None-Match": '"old"'}),
    _old("Range", "RFC 9110 14.2", fields=_TAG, ask={"Range": "bytes=0-9"}),
    _old("analytics cookie", "front.md 17", first={"Cookie": "_ga=GA1.1.2"}, ask={"Cookie": "_ga=GA1.3.4"}),
)

FORBIDDEN: Final = (
    _forbidden("no-store", "5.2.2.5", fields=_control("no-store")),
    _forbidden("NO-STORE in capitals", "5.2", fields=_control("NO-STORE")),
    _forbidden("private", "5.2.2.7", fields=_control("private")),
    _forbidden("private in a second field", "5.2", fields=(*_control("max-age=3600"), ("Cache-Control", "private"))),
    _forbidden("no-cache", "5.2.2.4", fields=_control("no-cache")),
    _forbidden("must-revalidate", "5.2.2.2", fields=_control("max-age=1, must-revalidate")),
    _forbidden("proxy-revalidate", "5.2.2.8", fields=_control("max-age=1, proxy-revalidate")),
    _forbidden("s-maxage", "5.2.2.10", fields=_control("s-maxage=1")),
    _forbidden("stale-if-error is over", "RFC 5861 4", fields=_control("max-age=1, stale-if-error=0")),
    _forbidden("Set-Cookie", "front.md 17", fields=(*_control("max-age=1"), ("Set-Cookie", "session=1"))),
    _forbidden("Vary: *", "4.1", fields=(*_control("max-age=1"), ("Vary", "*"))),
    _forbidden("Vary, other language", "4.1", fields=_LANGUAGES, first=_EN, ask=_DE),
    _forbidden("Vary, only in one", "4.1", fields=_LANGUAGES, first=_EN),
    _forbidden("Vary, empty is not absent", "4.1", fields=_LANGUAGES, ask={"Accept-Language": ""}),
    _forbidden("other query", "4", query="?page=2"),
    _forbidden("page of a cookie", "front.md 17", first={"Cookie": "session=a"}),
    _forbidden("asked with a cookie", "front.md 17", ask={"Cookie": "session=a"}),
    _forbidden("page of an Authorization", "3.5", first={"Authorization": "Bearer a"}),
    _forbidden("asked with an Authorization", "front.md 17", ask={"Authorization": "Bearer a"}),
    _forbidden("first asked with no-store", "5.2.1.5", first={"Cache-Control": "no-store"}),
    _forbidden("analytics and another cookie", "front.md 17", ask={"Cookie": "_ga=1; session=a"}),
    _forbidden("other host", "4", ask={"Host": "other.test"}),
    _forbidden("POST", "3", method="POST"),
)

ALIVE: Final = (
    Scenario("lives, and the page has changed", "4.2.4", Want.NEW, fails=_new(_NEW)),
    Scenario(
        "lives again after a failure", "front.md 21", Want.NEW, between=(answer(b"", status=500),), fails=_new(_NEW)
    ),
)

SCENARIOS: Final = (*WAYS, *EARLIER, *ANSWERS, *FORBIDDEN, *ALIVE)


def ask(port: int, method: str, target: str, fields: Fields) -> Reply:
    """One request of a crawler on a connection of its own. Status 0: no answer in time, or none that can be read."""
    sent = {"Host": "site.test", "User-Agent": "crawler", "Connection": "close", **fields}
    if method == "POST":
        sent["Content-Length"] = "0"
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items())]
    data, until = b"", time.monotonic() + SECONDS
    try:
        with socket.create_connection(("127.0.0.1", port), SECONDS) as sock:
            sock.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
            while chunk := sock.recv(1 << 16):
                data += chunk
                sock.settimeout(max(0.01, until - time.monotonic()))
        return Reply(data, is_head=method == "HEAD")
    except (OSError, ValueError, IndexError):
        return Reply(b"")


def run(
    origin: Origin, port: int, scenarios: Sequence[Scenario] = SCENARIOS
) -> Iterator[tuple[Scenario, Got, Reply, float]]:
    """Take the program at ``port`` through the scenarios: what came in each, the answer itself, and the seconds."""
    for scenario in scenarios:
        origin.scripts[scenario.target] = scenario.good
        first = ask(port, "GET", scenario.target, scenario.first)
        assert first.status == scenario.status, f"{scenario.name}: the living app's answer came as {first.data[:300]!r}"
    time.sleep(PAUSE_SECONDS)
    for scenario in scenarios:
        for script in scenario.between:
            origin.scripts[scenario.target] = script
            ask(port, "GET", scenario.target, scenario.first)
            time.sleep(SETTLE_SECONDS)
        if isinstance(scenario.fails, Script):
            origin.scripts[scenario.target] = scenario.fails
        elif scenario.fails == "refuse":
            origin.refuse()
        else:
            origin.be_black_hole()
        began = time.monotonic()
        reply = ask(port, scenario.method, scenario.target + scenario.query, scenario.ask)
        seconds = time.monotonic() - began
        yield scenario, judge(scenario, reply), reply, seconds
        recover(origin, port)


def judge(scenario: Scenario, reply: Reply) -> Got:
    """What an answer is."""
    if scenario.between and reply.status in (404, 410) and reply.is_whole:
        return Got.GONE
    if reply.status == 200 and reply.is_whole and reply.body == _NEW:
        return Got.NEW
    is_body = reply.body == (b"" if scenario.method == "HEAD" else scenario.body)
    statuses = (scenario.status,) if scenario.want is Want.OLD else (scenario.status, 200)
    is_old = reply.is_whole and (
        (reply.status in statuses and is_body)
        or (reply.status == 304 and "If-None-Match" in scenario.ask)
        or (reply.status == 206 and reply.body == scenario.body[:10] and "Range" in scenario.ask)
    )
    if not is_old:
        return Got.FAILED
    return Got.OLD if scenario.want is Want.OLD else Got.LEAK


def is_as_wanted(scenario: Scenario, got: Got) -> bool:
    """Whether a program did what has to be done."""
    return got.value == scenario.want.value


def recover(origin: Origin, port: int) -> None:
    """Let the origin live again, until the program has noticed."""
    origin.listen()
    origin.scripts[NEUTRAL] = answer(b"alive", {"Cache-Control": "no-store"})
    until = time.monotonic() + SECONDS
    while ask(port, "GET", NEUTRAL, {}).status != 200:
        assert time.monotonic() < until, "the origin lives, and the program does not know it"
        time.sleep(0.1)
