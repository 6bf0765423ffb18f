"""A night as a whole: what is published is checked in public, a wrong answer is rolled back, people get alerts."""

from __future__ import annotations

import asyncio
import errno
import http.server
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hotpath.asgi.middleware import HotpathMiddleware
from hotpath.batch.run import Report, build
from hotpath.errors import BuildFailed, NothingToRetry, PublicAnswerWrong
from hotpath.ops.alerts.alerts import Alerts
from hotpath.ops.alerts.ping import Ping
from hotpath.ops.alerts.webhook import Webhook
from hotpath.ops.check import CheckOptions
from hotpath.ops.night import Night, run_night
from hotpath.ops.secret import Secret
from hotpath.serving import reader_of
from hotpath.site import Hotpath
from hotpath.testing import asgi_get

QUICK = CheckOptions(wait_seconds=0.3)


async def cold(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@dataclass
class Public:
    """The public site over real sockets; ``spoil`` makes its answers wrong, ``down`` has a front answer that nothing is
    behind it. It takes alerts and pings too."""

    hot: Hotpath
    base: str = ""
    spoil: bool = False
    down: bool = False
    alerts: list[dict[str, Any]] = field(default_factory=list)
    pings: list[str] = field(default_factory=list)


@pytest.fixture
def public(tmp_path: Path) -> Iterator[Public]:
    hot = Hotpath(tmp_path / "hot", refresh=0.02)
    found = Public(hot)
    app = HotpathMiddleware(cold, hot=hot)

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            length = int(self.headers.get("content-length", 0))
            sent = self.rfile.read(length)
            if self.path.startswith("/ping"):
                found.pings.append(self.path)
            elif self.path == "/alert":
                found.alerts.append(json.loads(sent))
            else:
                self.page()
                return
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def page(self) -> None:
            if found.down:
                self.send_error(502)
                return
            fields = [(name.lower().encode(), value.encode()) for name, value in self.headers.items()]
            got = asyncio.run(asgi_get(app, self.path, method=self.command, headers=fields))
            body = got.body.replace(b"1", b"7") if found.spoil else got.body
            self.send_response(got.status)
            for name, value in got.headers:
                self.send_header(name.decode(), value.decode())
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.answer()

        def do_HEAD(self) -> None:
            self.answer()

        def do_POST(self) -> None:
            self.answer()

        def log_message(self, *arguments: Any) -> None:
            return None

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.base = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield found
        server.shutdown()
        thread.join()
    reader_of(hot).close()


def night(public: Public, *, check: bool = True, retry_failed: bool = False) -> Night:
    alerts = Alerts([Webhook(Secret(f"{public.base}/alert"))], ping=Ping(Secret(f"{public.base}/ping")), site="test")
    told: list[str] = []

    def run() -> Report:
        return build(public.hot, retry_failed=retry_failed)

    try:
        return run_night(
            public.hot,
            run,
            alerts=alerts,
            check_url=public.base if check else None,
            options=QUICK,
            warn=told.append,
        )
    finally:
        assert told == []


def events(public: Public) -> list[tuple[str, str]]:
    return [(one["event"], one["kind"]) for one in public.alerts]


def test_a_good_night_is_checked_and_quiet(public: Public) -> None:
    public.hot.route("/a")(lambda: [1])
    found = night(public)
    assert found.check is not None
    assert found.check.is_right
    assert found.check.asked == 1
    assert found.warnings == ()
    assert public.alerts == []
    assert len(public.pings) == 2, "the start and the end"


@pytest.mark.slow
def test_a_wrong_public_answer_is_rolled_back_from_and_told(public: Public) -> None:
    state = {"n": 1}
    public.hot.route("/a")(lambda: state)
    night(public)
    state["n"] = 11
    public.spoil = True
    with pytest.raises(PublicAnswerWrong) as caught:
        night(public)
    assert (caught.value.sequence, caught.value.target) == (2, 1)
    assert "/a" in caught.value.problems[0]
    assert public.hot.store.chosen_sequence() == 1
    assert 2 in public.hot.store.bad()
    assert [event for event, _ in events(public)] == ["failed"]
    public.spoil = False
    found = night(public)
    assert found.warnings == ()
    assert public.hot.store.chosen_sequence() == 3, "the next good night is served without anybody's help"
    assert [event for event, _ in events(public)] == ["failed", "resolved"]


@pytest.mark.slow
def test_bad_nights_in_a_row_do_not_go_back_further_and_further(public: Public) -> None:
    state = {"n": 1}
    public.hot.route("/a")(lambda: state)
    night(public)
    for number in range(3):
        state["n"] = 10 + number
        public.spoil = True
        with pytest.raises(PublicAnswerWrong) as caught:
            night(public)
        assert caught.value.target == 1
        assert public.hot.store.chosen_sequence() == 1
    assert 1 not in public.hot.store.bad()


@pytest.mark.slow
def test_a_site_that_is_down_is_told_and_no_generation_is_blamed(public: Public) -> None:
    state = {"n": 1}
    public.hot.route("/a")(lambda: state)
    night(public)
    state["n"] = 2
    public.down = True
    for _ in range(2):
        found = night(public)
        assert found.check is not None
        assert found.check.unseen
        assert found.warnings == (), "the command says it once, from check.unseen"
    assert (public.hot.store.chosen_sequence(), public.hot.store.bad()) == (3, {})
    assert events(public) == [("failed", "public.unseen")]
    assert public.alerts[0]["about"] == public.base
    public.down = False
    night(public)
    assert [event for event, _ in events(public)] == ["failed", "resolved"]


@pytest.mark.slow
def test_a_pin_that_holds_back_what_is_published_is_told(public: Public) -> None:
    state = {"n": 1}
    public.hot.route("/a")(lambda: state)
    night(public)
    public.hot.store.pin(1)
    for number in (2, 3):
        state["n"] = number
        found = night(public)
        assert "1 is pinned and stays served" in found.warnings[0]
    assert events(public) == [("failed", "pin.holds")]
    public.spoil = True
    with pytest.raises(PublicAnswerWrong, match=r"generation 1 .* it is pinned, and 4 is published beside it"):
        night(public)
    assert public.hot.store.bad() == {}
    public.spoil = False
    public.hot.store.unpin()
    night(public)
    assert sorted(events(public)[2:]) == [("resolved", "build.public"), ("resolved", "pin.holds")]


def test_an_error_that_is_not_ours_is_told_too(public: Public) -> None:
    def build_without_memory() -> Report:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    told: list[str] = []
    alerts = Alerts([Webhook(Secret(f"{public.base}/alert"))], ping=Ping(Secret(f"{public.base}/ping")), site="test")
    public.hot.store.root.mkdir()
    with pytest.raises(OSError, match="allocate"):
        run_night(public.hot, build_without_memory, alerts=alerts, warn=told.append)
    assert events(public) == [("failed", "build.error")]
    assert public.pings[-1] == "/ping/fail"
    assert told == []


@pytest.mark.slow
def test_a_wrong_first_night_says_that_there_is_nothing_to_go_back_to(public: Public) -> None:
    public.hot.route("/a")(lambda: [1])
    public.spoil = True
    with pytest.raises(PublicAnswerWrong, match="there is no valid generation before 1 to go back to") as caught:
        night(public)
    assert caught.value.target is None


def test_a_failed_batch_is_told_once_and_when_it_is_over(public: Public) -> None:
    broken: list[bool] = []

    @public.hot.route("/a", critical=True)
    def page() -> list[int]:
        if broken:
            raise ValueError("no data")
        return [1]

    night(public, check=False)
    broken.append(True)
    for _ in range(2):
        with pytest.raises(BuildFailed):
            night(public, check=False)
    broken.clear()
    night(public, check=False)
    assert events(public) == [("failed", "build.failed"), ("resolved", "build.failed")]
    assert "no data" in "\n".join(public.alerts[0]["details"])


def test_items_that_are_carried_forward_are_told(public: Public) -> None:
    broken: list[int] = []

    @public.hot.route("/{n}", each={"n": [1, 2]})
    def page(n: int) -> list[int]:
        if n in broken:
            raise ValueError("no data")
        return [n]

    night(public, check=False)
    broken.append(2)
    night(public, check=False)
    broken.clear()
    night(public, check=False)
    assert events(public) == [("failed", "items.failed"), ("resolved", "items.failed")]


def test_a_dead_alert_server_costs_no_night_and_is_told(public: Public) -> None:
    public.hot.route("/a")(lambda: [1])
    public.hot.route("/b/{n}", each={"n": [1, 2]})(lambda n: [n])
    alerts = Alerts([Webhook(Secret("http://127.0.0.1:1/alert"))], ping=Ping(Secret("http://127.0.0.1:1/ping")))
    found = run_night(public.hot, lambda: build(public.hot), alerts=alerts, warn=lambda text: None)
    assert found.report.published.generation == 1
    assert any("connection refused" in warning for warning in found.warnings)


def test_a_retry_that_has_nothing_to_do_neither_fails_nor_says_that_all_is_well(public: Public) -> None:
    public.hot.route("/page")(lambda: {"n": 1})
    night(public)
    del public.pings[:]
    with pytest.raises(NothingToRetry):
        night(public, retry_failed=True)
    assert public.alerts == []
    assert public.pings == ["/ping/start"]
    assert public.hot.store.sequences() == [1]
