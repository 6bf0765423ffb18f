"""A failing app is not hammered, and nobody waits for it who has a last good answer."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.front.failing_origin import Origin, Request, Script, answer
from tests.front.forwarding import Reply, wait_until
from tests.front.last_good import another_port, front, origin
from tests.front.last_good_scenarios import ask
from tests.front.serving import Serving, make_site

pytestmark = pytest.mark.slow

PATIENCE_SECONDS = 0.8
# What a busy machine adds to a time.
SLACK_SECONDS = 0.8
FAILURES_IN_A_ROW = 5
KNOWN, UNKNOWN = "/known", "/unknown"
GOOD = answer(b"good", {"Cache-Control": "max-age=0"})
# The answer of a page of which none is ever kept.
PRIVATE = answer(b"good", {"Cache-Control": "private"})


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_site(Path(tmp_path_factory.mktemp("breaker")) / "site")


@pytest.fixture
def app() -> Iterator[Origin]:
    with origin() as app:
        app.reply = well
        yield app


def well(request: Request) -> Script:
    return PRIVATE if request.target == UNKNOWN else GOOD


@pytest.fixture
def started(site: Path, app: Origin, tmp_path: Path) -> Iterator[Serving]:
    with front(site, app, "--hold", "6s", environ={"HOTPATH_STATE": str(tmp_path)}) as started:
        assert ask(started.port, "GET", KNOWN, {}).status == 200
        app.seen.clear()
        yield started


def timed(port: int, target: str, method: str = "GET") -> tuple[Reply, float]:
    began = time.monotonic()
    return ask(port, method, target, {}), time.monotonic() - began


def test_a_failing_app_is_asked_less_and_less(started: Serving, app: Origin) -> None:
    app.reply = lambda request: answer(b"oops", status=500)
    began = time.monotonic()
    longest = 0.0
    while time.monotonic() < began + 5.5:
        reply, seconds = timed(started.port, KNOWN)
        assert (reply.status, reply.body) == (200, b"good")
        longest = max(longest, seconds)
        time.sleep(0.02)
    times = [request.at - app.seen[FAILURES_IN_A_ROW - 1].at for request in app.seen]
    assert times[FAILURES_IN_A_ROW - 1 :] == pytest.approx([0, 1, 3], abs=SLACK_SECONDS / 2)
    assert longest < SLACK_SECONDS
    # Who has none gets 503 at once, and it says when to come again.
    reply, seconds = timed(started.port, UNKNOWN)
    assert (reply.status, reply["retry-after"] is not None) == (503, True)
    assert seconds < SLACK_SECONDS
    app.reply = lambda request: answer(b"back", {"Cache-Control": "no-store"})
    while timed(started.port, KNOWN)[0].body != b"back":
        assert time.monotonic() < began + 9
        time.sleep(0.02)
    app.seen.clear()
    assert [timed(started.port, UNKNOWN)[0].body for _ in range(10)] == [b"back"] * 10
    assert len(app.seen) == 10


def test_only_one_finds_out_whether_it_is_back(started: Serving, app: Origin) -> None:
    app.reply = lambda request: answer(b"oops", status=503)
    for _ in range(FAILURES_IN_A_ROW):
        timed(started.port, KNOWN)
    app.seen.clear()
    app.reply = lambda request: Script(then="hang")
    time.sleep(1.1)
    with ThreadPoolExecutor(16) as pool:
        replies = [*pool.map(lambda _: timed(started.port, KNOWN), range(64))]
    assert {reply.body for reply, _ in replies} == {b"good"}
    assert len(app.seen) == 1
    assert sorted(seconds for _, seconds in replies)[-2] < SLACK_SECONDS


def test_who_has_one_waits_no_longer_than_the_patience_and_who_has_none_is_held(started: Serving, app: Origin) -> None:
    app.refuse()
    with ThreadPoolExecutor(3) as pool:
        held = [pool.submit(timed, started.port, UNKNOWN, method) for method in ("GET", "POST", "DELETE")]
        time.sleep(0.2)
        reply, seconds = timed(started.port, KNOWN)
        assert (reply.status, reply.body) == (200, b"good")
        assert seconds < PATIENCE_SECONDS + SLACK_SECONDS
        time.sleep(1.5)
        assert not any(job.done() for job in held)
        app.listen()
        assert [job.result()[0].status for job in held] == [200] * 3


def test_nobody_waits_for_an_app_that_is_known_to_be_gone(site: Path, app: Origin, tmp_path: Path) -> None:
    options = ("--patience", "30s", "--hold", "30s")
    with front(site, app, *options, environ={"HOTPATH_STATE": str(tmp_path)}) as started:
        assert timed(started.port, KNOWN)[0].status == 200
        app.refuse()
        with ThreadPoolExecutor(1) as pool:
            held = pool.submit(timed, started.port, UNKNOWN)
            replies = [timed(started.port, KNOWN) for _ in range(2 * FAILURES_IN_A_ROW)]
            time.sleep(1.1)
            replies.append(timed(started.port, KNOWN))  # finds out whether the app is back
            assert {reply.body for reply, _ in replies} == {b"good"}
            assert max(seconds for _, seconds in replies) < SLACK_SECONDS
            assert not held.done()
            app.listen()
            assert held.result()[0].status == 200
        app.reply = lambda request: answer(b"back", {"Cache-Control": "no-store"})
        wait_until(lambda: timed(started.port, KNOWN)[0].body == b"back")


def test_an_app_that_hangs(started: Serving, app: Origin) -> None:
    app.reply = lambda request: Script(then="hang")
    for _ in range(3):
        reply, seconds = timed(started.port, KNOWN)
        assert (reply.status, reply.body) == (200, b"good")
        assert PATIENCE_SECONDS / 2 < seconds < PATIENCE_SECONDS + SLACK_SECONDS


def test_a_slow_answer_that_nobody_has_is_waited_for(started: Serving, app: Origin) -> None:
    slow = answer(b"slow", {"Cache-Control": "private"}, delay=2.5 * PATIENCE_SECONDS)
    app.scripts["/slow"] = slow
    with ThreadPoolExecutor(8) as pool:
        replies = [*pool.map(lambda _: timed(started.port, "/slow")[0], range(8))]
    assert [(reply.status, reply.body) for reply in replies] == [(200, b"slow")] * 8
    # A page that takes long is no app that fails.
    assert timed(started.port, UNKNOWN)[0].body == b"good"


def test_slow_pages_do_not_close_the_site(started: Serving, app: Origin) -> None:
    app.scripts["/slow"] = answer(b"slow", {"Cache-Control": "private"}, delay=1.5 * PATIENCE_SECONDS)
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(timed, started.port, "/slow") for _ in range(8)]
        time.sleep(PATIENCE_SECONDS + 0.2)
        assert [timed(started.port, UNKNOWN)[0].status for _ in range(5)] == [200] * 5
        assert [job.result()[0].status for job in jobs] == [200] * 8


def test_one_broken_page_does_not_close_the_site(started: Serving, app: Origin) -> None:
    """Anybody can ask for it as often as he likes."""
    app.scripts["/broken"] = answer(b"oops", status=500)
    statuses = []
    for _ in range(4):
        for _ in range(2 * FAILURES_IN_A_ROW):
            ask(started.port, "GET", "/broken", {})
        statuses.append(ask(started.port, "GET", UNKNOWN, {}).status)
    assert statuses == [200] * 4


def test_a_failure_of_a_post_is_the_clients_to_see(started: Serving, app: Origin) -> None:
    app.reply = lambda request: answer(b"oops", status=500)
    reply, _ = timed(started.port, KNOWN, "POST")
    assert (reply.status, reply.body) == (500, b"oops")
    app.reply = lambda request: Script(then="reset")
    app.seen.clear()
    assert timed(started.port, KNOWN, "POST")[0].status == 502
    assert len(app.seen) == 1


def test_a_client_that_goes_away_is_no_failure(started: Serving, app: Origin) -> None:
    app.reply = lambda request: answer(b"late", delay=PATIENCE_SECONDS / 2)
    gone = [threading.Thread(target=_ask_and_leave, args=(started.port,)) for _ in range(2 * FAILURES_IN_A_ROW)]
    for thread in gone:
        thread.start()
    for thread in gone:
        thread.join()
    app.reply = well
    assert [timed(started.port, UNKNOWN)[0].status for _ in range(5)] == [200] * 5


def _ask_and_leave(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        sock.sendall(f"GET {UNKNOWN} HTTP/1.1\r\nHost: site.test\r\n\r\n".encode())
        time.sleep(0.1)


def results_of(started: Serving) -> Counter[str]:
    """What the access log says of the page of which there is an answer."""
    lines = [json.loads(line) for line in started.text.splitlines() if line.startswith("{")]
    return Counter(line["result"] for line in lines if line["path"] == KNOWN)


def test_it_is_seen(site: Path, app: Origin, tmp_path: Path) -> None:
    port = another_port()
    options = ("--admin", f"127.0.0.1:{port}", "--access-log")
    with front(site, app, *options, environ={"HOTPATH_STATE": str(tmp_path)}) as started:
        assert timed(started.port, KNOWN)[0].status == 200
        app.refuse()
        assert [timed(started.port, KNOWN)[0].status for _ in range(3)] == [200] * 3
        figures = ask(port, "GET", "/metrics", {}).body.decode()
        assert "hotpath_front_last_good_served_total 3.0" in figures
        assert "hotpath_front_last_good_stored_total 1.0" in figures
        wait_until(lambda: results_of(started)["last_good"] == 3)
        kept = ask(port, "GET", f"/last-good?url=http://site.test{KNOWN}", {}).body
        assert b'"is_kept":true' in kept
        nothing = ask(port, "GET", f"/last-good?url=http://site.test{UNKNOWN}", {}).body
        assert b'"is_kept":true' not in nothing
