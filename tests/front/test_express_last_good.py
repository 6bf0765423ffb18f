"""The short way of a cold GET within last good answers: it keeps what the long way does, and leaves failures to it."""

from __future__ import annotations

import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hotpath.asgi import LastGood
from hotpath.asgi.last_good.answer_table import digest
from hotpath.front.last_good import LastGoodOptions
from tests.front.forwarding import SECONDS, wait_until
from tests.front.test_express import ANSWERS, BROKEN, HALF_BODY, LONG, OK, THREE, Front, closes, head, pieces, starting
from tests.wire.conformance.site import Site

PATIENCE_SECONDS = 0.3
URL = b"http://example.org/x"
GOOD = head(b"Cache-Control: max-age=0", b"Content-Length: 7", body=b"goodEND")
OOPS = head(THREE, status=b"503 Oh")
FAILURES_IN_A_ROW = 5
ROWS = (
    "SELECT key, vary, variant_digest, is_robots, status, is_invalid, length, body_digest, headers, body,"
    " (SELECT group_concat(tag) FROM tags WHERE tags.id = answers.id) FROM answers JOIN bodies USING (id)"
    " WHERE url_digest = ?"
)


@pytest.fixture
def started(site: Site, tmp_path: Path) -> Iterator[Front]:
    with starting(site, tmp_path, LastGoodOptions(patience=SECONDS)) as found:
        yield found


@pytest.fixture
def impatient(site: Site, tmp_path: Path) -> Iterator[Front]:
    with starting(site, tmp_path, LastGoodOptions(patience=PATIENCE_SECONDS)) as found:
        yield found


def cache_of(started: Front) -> LastGood:
    assert started.cache is not None
    return started.cache


def settle(started: Front) -> None:
    """The client has its answer before that is kept."""
    is_idle = threading.Event()
    started.forward.loop.call_soon_threadsafe(is_idle.set)
    assert is_idle.wait(SECONDS)


def kept(started: Front) -> tuple[list[Any], object]:
    """What is kept of ``URL``, but for the times and the number, and why not; then it is removed."""
    settle(started)
    file = cache_of(started).file
    reason = cache_of(started).explain(URL).get("because")
    rows: list[Any] = []
    if file.path.exists():
        connection = sqlite3.connect(file.path)
        rows = connection.execute(ROWS, (digest(URL),)).fetchall()
        connection.close()
    file.purge_url(URL).result(SECONDS)
    return rows, reason


def body_kept(started: Front) -> bytes | None:
    settle(started)
    stored = cache_of(started).file.find_latest(URL)
    return stored.body if stored is not None else None


def keep(started: Front) -> None:
    """One good answer, the short way."""
    started.app.replies = [pieces(GOOD)]
    assert started.ask(b"/x").endswith(b"goodEND")
    assert started.forward.long == 1
    assert body_kept(started) == b"goodEND"


def answer(*fields: bytes, status: bytes = b"200 OK", body: bytes = b"END") -> list[bytes]:
    return [head(*fields, b"Content-Length: %d" % len(body), status=status, body=body)]


FAILED = ("an error", "no reason")
# The fields of the request, and the answer.
CASES: dict[str, tuple[bytes, list[bytes]]] = {
    **{name: (b"", parts) for name, (parts, is_short) in ANSWERS.items() if is_short and name not in FAILED},
    "private": (b"", answer(b"Cache-Control: private")),
    "no-store": (b"", answer(b"Cache-Control: no-store")),
    "no-cache": (b"", answer(b"Cache-Control: no-cache")),
    "stale at once": (b"", answer(b"Cache-Control: s-maxage=0")),
    "for a CDN": (b"", answer(b"Cache-Control: no-store", b"CDN-Cache-Control: max-age=60")),
    "a cookie is set": (b"", answer(b"Set-Cookie: a=b")),
    "Vary": (b"Accept-Language: de\r\n", answer(b"Vary: Accept-Language, Accept", b"Vary: Cookie")),
    "Vary: *": (b"", answer(b"Vary: *")),
    "tags": (b"", answer(b"Surrogate-Key: a b", b"Cache-Tag: c,d")),
    "a coding": (b"Accept-Encoding: gzip, br\r\n", answer(b"Content-Encoding: br")),
    "a redirect": (b"", answer(b"Location: /y", status=b"301 Moved")),
    "a redirect for now": (b"", answer(b"Location: /y", status=b"302 Found")),
    "a redirect that may be kept": (b"", answer(b"Location: /y", b"Cache-Control: max-age=9", status=b"302 Found")),
    "gone": (b"", answer(status=b"410 Gone")),
    "not implemented": (b"", answer(status=b"501 What")),
    "events": (b"", answer(b"Content-Type: text/event-stream")),
    "an age": (b"", answer(b"Age: 7", b"ETag: a", b"Last-Modified: Sat, 28 Nov 2026 16:22:00 GMT")),
    "a part": (b"", answer(b"Content-Range: bytes 0-2/9", status=b"206 Part")),
    "somebody's own": (b"Authorization: Basic eDp5\r\n", answer()),
    "a cookie": (b"Cookie: session=1\r\n", answer()),
    "a request that says no-store": (b"Cache-Control: no-store\r\n", answer()),
    "a condition for the app": (b'If-Match: "a"\r\n', answer()),
    "another method than its own": (b"X-HTTP-Method-Override: DELETE\r\n", answer()),
    "a field that routes": (b"X-Original-URL: /y\r\n", answer()),
}


@pytest.mark.parametrize("name", CASES)
def test_it_keeps_what_the_long_way_keeps(started: Front, name: str) -> None:
    extra, parts = CASES[name]
    states = []
    for way in (b"", LONG):
        started.app.replies = [pieces(*parts)]
        started.send(b"/x", extra + way)
        started.read(b"END" if b"".join(parts).endswith(b"END") else b"\r\n\r\n")
        assert started.is_over()
        assert started.forward.long == (2 if way else 1), "the way"
        states.append(kept(started))
    assert states[0] == states[1]


def test_some_of_these_are_kept_and_some_are_not(started: Front) -> None:
    for name, count in (("Vary", 1), ("tags", 1), ("a field that routes", 1), ("a cookie", 0), ("private", 0)):
        extra, parts = CASES[name]
        started.app.replies = [pieces(*parts)]
        started.ask(b"/x", extra)
        assert len(kept(started)[0]) == count, name


def test_an_answer_that_is_worse_or_forbidden_does_what_it_does_the_long_way(started: Front) -> None:
    keep(started)
    started.app.replies = [pieces(*answer(body=b""))]
    started.send(b"/x")
    started.read(b"\r\n\r\n")
    assert body_kept(started) == b"goodEND", "an empty page never replaces a full one"
    started.app.replies = [pieces(*answer(b"Cache-Control: private"))]
    started.ask(b"/x")
    assert body_kept(started) is None
    assert started.forward.long == 1


# What may make an answer somebody's own, or none to keep: of the answer, then of the request.
FORBIDDEN = {
    "private": b"Cache-Control: private",
    "no-store": b"Cache-Control: no-store",
    "no-cache": b"Cache-Control: no-cache",
    "a cookie is set": b"Set-Cookie: a=b",
    "Vary: *": b"Vary: *",
    "a part": b"Content-Range: bytes 0-2/9",
    "events": b"Content-Type: text/event-stream",
}
PERSONAL = {
    "a password": b"Authorization: Basic eDp5\r\n",
    "a cookie": b"Cookie: session=1\r\n",
    "a key": b"X-API-Key: 1\r\n",
    "no-store": b"Cache-Control: no-store\r\n",
}


def count_kept(started: Front, extra: bytes, *fields: bytes, status: bytes = b"200 OK") -> int:
    """How many answers are kept of one request with ``extra`` on the connection that there is."""
    long = started.forward.long
    started.app.replies = [pieces(*answer(*fields, status=status))]
    started.ask(b"/x", extra)
    assert started.forward.long == long
    return len(kept(started)[0])


@pytest.mark.parametrize("name", FORBIDDEN)
def test_what_was_decided_of_one_answer_is_not_used_for_one_that_differs_in_a_field(started: Front, name: str) -> None:
    for _ in range(3):
        assert count_kept(started, b"", b"X-A: b") == 1
        assert count_kept(started, b"", b"X-A: b", FORBIDDEN[name]) == 0


@pytest.mark.parametrize("name", PERSONAL)
def test_what_was_decided_for_one_request_is_not_used_for_a_personal_one(started: Front, name: str) -> None:
    """The app's answers are the same bytes."""
    for _ in range(3):
        assert count_kept(started, b"", b"Cache-Control: max-age=9") == 1
        assert count_kept(started, PERSONAL[name], b"Cache-Control: max-age=9") == 0


def test_what_was_decided_of_one_status_is_not_used_for_another(started: Front) -> None:
    for _ in range(3):
        assert count_kept(started, b"", b"Location: /y", status=b"301 Moved") == 1
        assert count_kept(started, b"", b"Location: /y", status=b"302 Found") == 0
        assert count_kept(started, b"", b"Location: /y", status=b"501 What") == 0


def test_the_same_head_for_two_variants_is_two_answers(started: Front) -> None:
    for body in (b"1END", b"2END"):
        for language in (b"de", b"en"):
            started.app.replies = [pieces(*answer(b"Vary: Accept-Language", body=language + body))]
            started.ask(b"/x", b"Accept-Language: %b\r\n" % language)
    settle(started)
    for language in (b"de", b"en"):
        started.app.replies = [pieces(OOPS)]
        assert started.ask(b"/x", b"Accept-Language: %b\r\n" % language).endswith(language + b"2END")
    started.app.replies = [pieces(OOPS)]
    assert b"stale-if-error" not in started.ask(b"/x")


def test_the_same_head_for_two_urls_is_two_answers(started: Front) -> None:
    for target in (b"/x", b"/y", b"/x?a"):
        started.app.replies = [pieces(*answer(body=target + b"END"))]
        started.ask(target)
    for target in (b"/x", b"/y", b"/x?a"):
        settle(started)
        started.app.replies = [pieces(OOPS)]
        assert started.ask(target).endswith(target + b"END")


def test_the_same_head_with_another_body_replaces_what_is_kept(started: Front) -> None:
    for body in (b"1END", b"2END", b"1END"):
        started.app.replies = [pieces(*answer(b"ETag: a", body=body))]
        started.ask(b"/x")
        assert body_kept(started) == body


def test_a_remembered_decision_forbids_what_was_kept_before(started: Front) -> None:
    private = answer(b"Cache-Control: private")
    for _ in range(3):
        started.app.replies = [pieces(GOOD)]
        started.ask(b"/x")
        assert body_kept(started) == b"goodEND"
        started.app.replies = [pieces(*private)]
        started.ask(b"/x")
        assert body_kept(started) is None


@pytest.mark.parametrize("parts", [[OOPS], [OOPS[:-3], OOPS[-3:]], [OOPS[:20], OOPS[20:]]], ids=["", "body", "head"])
def test_a_failure_gets_the_last_good_answer_and_the_app_is_asked_once(started: Front, parts: list[bytes]) -> None:
    keep(started)
    started.app.replies = [pieces(*parts)]
    data = started.ask(b"/x")
    assert data.startswith(b"HTTP/1.1 200")
    assert b"stale-if-error" in data
    assert data.endswith(b"goodEND")
    assert started.is_over()
    assert [seen.split()[1] for seen in started.app.seen] == [b"/cold", b"/x", b"/x"]
    assert cache_of(started).counters.served == 1


def test_an_app_that_says_nothing_gets_as_much_patience_as_on_the_long_way(impatient: Front) -> None:
    keep(impatient)
    release = threading.Event()

    def slowly(sock: socket.socket) -> None:
        release.wait(SECONDS)
        sock.sendall(GOOD.replace(b"good", b"late"))

    impatient.app.replies = [slowly]
    began = time.monotonic()
    assert impatient.ask(b"/x").endswith(b"goodEND")
    assert PATIENCE_SECONDS * 0.9 < time.monotonic() - began < 2 * PATIENCE_SECONDS + 0.5
    release.set()
    wait_until(lambda: body_kept(impatient) == b"lateEND")
    assert impatient.is_over()
    assert len(impatient.app.seen) == 3
    assert impatient.ask(b"/y").endswith(b"END")


@pytest.mark.parametrize("share", [0.5, 1.5], ids=["while the timer of another runs", "after it"])
def test_each_request_of_a_connection_has_its_own_patience(impatient: Front, share: float) -> None:
    release = threading.Event()

    def slowly(sock: socket.socket) -> None:
        release.wait(SECONDS)
        sock.sendall(GOOD)

    keep(impatient)
    time.sleep(PATIENCE_SECONDS * share)
    impatient.app.replies = [slowly]
    began = time.monotonic()
    assert impatient.ask(b"/x").endswith(b"goodEND")
    assert PATIENCE_SECONDS * 0.9 < time.monotonic() - began < 2 * PATIENCE_SECONDS + 0.5
    assert cache_of(impatient).counters.served == 1
    release.set()
    assert impatient.is_over()


def test_a_slow_page_without_a_last_good_answer_comes_when_it_comes(impatient: Front) -> None:
    impatient.app.replies = [pieces(b"", OK, pause=PATIENCE_SECONDS * 1.5)]
    assert impatient.ask(b"/x").endswith(b"END")
    assert len(impatient.app.seen) == 2
    assert impatient.is_over()


@pytest.mark.parametrize("name", BROKEN)
def test_an_app_that_breaks_off_twice_has_failed(started: Front, name: str) -> None:
    keep(started)
    started.app.replies = [BROKEN[name]] * 2
    assert started.ask(b"/x").endswith(b"goodEND")
    assert len(started.app.seen) == 4
    assert started.is_over()


def test_failures_open_the_breaker_and_a_good_answer_closes_it(started: Front) -> None:
    keep(started)
    breaker = cache_of(started).breaker
    for count in range(FAILURES_IN_A_ROW):
        settle(started)
        assert not breaker.is_open, count
        started.app.replies = [pieces(OOPS)]
        assert started.ask(b"/x").endswith(b"goodEND")
    wait_until(lambda: breaker.is_open)  # counted when the last good answer is sent
    seen = len(started.app.seen)
    assert started.ask(b"/x").endswith(b"goodEND")
    assert len(started.app.seen) == seen, "while it is open nothing goes the short way"
    started.app.replies = [pieces(GOOD)]
    started.forward.loop.call_soon_threadsafe(cache_of(started).app_answered)
    wait_until(lambda: not breaker.is_open)
    long = started.forward.long
    assert started.ask(b"/x").endswith(b"goodEND")
    assert started.forward.long == long


def test_good_answers_between_failures_count(started: Front) -> None:
    keep(started)
    for _ in range(2 * FAILURES_IN_A_ROW):
        started.app.replies = [pieces(OOPS)]
        assert started.ask(b"/x").endswith(b"goodEND")
        settle(started)
        started.app.replies = [pieces(GOOD)]
        assert started.ask(b"/x").endswith(b"goodEND")
        settle(started)
    assert not cache_of(started).breaker.is_open
    assert cache_of(started).counters.served == 2 * FAILURES_IN_A_ROW


@pytest.mark.parametrize("reply", [pieces(OOPS), closes], ids=["a failure", "an end"])
def test_what_was_sent_is_passed_on_though_the_breaker_has_opened_meanwhile(started: Front, reply: Any) -> None:
    """Its place in the app would be lost otherwise."""
    release = threading.Event()

    def slowly(sock: socket.socket) -> None:
        release.wait(SECONDS)
        reply(sock)

    started.app.replies = [slowly]
    started.send(b"/x")
    wait_until(lambda: len(started.app.seen) == 2)
    for _ in range(FAILURES_IN_A_ROW):
        started.forward.loop.call_soon_threadsafe(cache_of(started).app_failed)
    wait_until(lambda: cache_of(started).breaker.is_open)
    release.set()
    assert started.read().endswith(b"END")
    assert started.is_over()


@pytest.mark.parametrize("is_short", [True, False], ids=["short", "given over"])
def test_what_was_removed_while_the_answer_came_is_not_kept(started: Front, is_short: bool) -> None:
    release = threading.Event()

    def slowly(sock: socket.socket) -> None:
        release.wait(SECONDS)
        pieces(*([GOOD] if is_short else [GOOD[:20], GOOD[20:]]))(sock)

    started.app.replies = [slowly]
    started.send(b"/x")
    wait_until(lambda: len(started.app.seen) == 2)
    cache_of(started).file.purge_url(URL).result(SECONDS)
    release.set()
    assert started.read().endswith(b"goodEND")
    assert started.is_over()
    assert body_kept(started) is None
    assert started.forward.long == (1 if is_short else 2)


def test_a_client_that_goes_away_is_no_failure_of_the_app(started: Front) -> None:
    for _ in range(FAILURES_IN_A_ROW):
        seen = len(started.app.seen)
        started.app.replies = [pieces(HALF_BODY, b"", pause=0.05)]
        started.send(b"/x")
        wait_until(lambda seen=seen: len(started.app.seen) > seen)  # type: ignore[misc]
        started.connect()
        assert started.is_over()
    assert not cache_of(started).breaker.is_open
    assert body_kept(started) is None


def test_with_fresh_answers_everything_goes_the_long_way(site: Site, tmp_path: Path) -> None:
    with starting(site, tmp_path, LastGoodOptions(is_fresh=True)) as found:
        assert found.ask(b"/x").endswith(b"END")
        assert found.forward.long == 2
