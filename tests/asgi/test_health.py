"""Liveness, readiness and warming: a deploy is ready when its critical pages were really fetched."""

from __future__ import annotations

import asyncio
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hotpath.asgi.health import HealthEndpoints
from hotpath.asgi.middleware import HotpathMiddleware
from hotpath.batch.run import build
from hotpath.errors import DeclarationError
from hotpath.ops.warm import lines, warm
from hotpath.serving import reader_of
from hotpath.site import Hotpath
from hotpath.testing import Response, asgi_get


class App:
    """Answers with the status of each path, 200 where none is said."""

    def __init__(self) -> None:
        self.statuses: dict[str, int] = {}
        self.asked: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked.append(scope["path"])
        status = self.statuses.get(scope["path"], 200)
        if status == 0:
            raise RuntimeError("the app fails on purpose")
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"app"})


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def hot(tmp_path: Path) -> Iterator[Hotpath]:
    hot = Hotpath(tmp_path / "hot", refresh=0.05)
    hot.route("/hot")(lambda: [1])
    yield hot
    reader_of(hot).close()


def ask(endpoints: HealthEndpoints, path: str, method: str = "GET") -> Response:
    return asyncio.run(asgi_get(endpoints, path, method=method))


def test_alive_whatever_the_app_does_and_never_cached(app: App, hot: Hotpath) -> None:
    endpoints = HealthEndpoints(HotpathMiddleware(app, hot=hot), hot=hot)
    alive = ask(endpoints, "/healthz")
    assert (alive.status, json.loads(alive.body)) == (200, {"status": "alive"})
    assert alive.header("cache-control") == "no-store"
    assert ask(endpoints, "/healthz", "HEAD").body == b""
    assert app.asked == []
    assert ask(endpoints, "/other").body == b"app"
    assert ask(endpoints, "/healthz", "POST").body == b"app"


def test_below_a_mount_point_too(app: App, hot: Hotpath) -> None:
    endpoints = HealthEndpoints(app, hot=hot)
    found = asyncio.run(asgi_get(endpoints, "/api/healthz", root_path="/api"))
    assert found.status == 200


def test_not_ready_before_a_generation_is_loaded(app: App, hot: Hotpath) -> None:
    endpoints = HealthEndpoints(HotpathMiddleware(app, hot=hot), hot=hot)
    cold = ask(endpoints, "/readyz")
    assert cold.status == 503
    assert "nothing" in json.loads(cold.body)["reasons"][0] or "no generation" in json.loads(cold.body)["reasons"][0]
    build(hot)
    reader_of(hot).refresh()
    assert ask(endpoints, "/readyz").status == 200


def test_ready_when_every_critical_page_was_really_fetched_once(app: App, hot: Hotpath) -> None:
    build(hot)
    app.statuses = {"/slow": 503, "/broken": 0}
    endpoints = HealthEndpoints(
        HotpathMiddleware(app, hot=hot), hot=hot, critical=("/hot", "/fine", "/slow", "/broken"), readiness="/ready"
    )
    cold = ask(endpoints, "/ready")
    assert cold.status == 503
    assert json.loads(cold.body)["reasons"][0] == "/slow answered 503"
    assert json.loads(cold.body)["reasons"][1].startswith("/broken raised RuntimeError")
    app.statuses.clear()
    assert ask(endpoints, "/ready").status == 200
    asked = [*app.asked]
    assert asked == ["/fine", "/slow", "/broken", "/slow", "/broken"], "what was warm is not fetched again"
    assert ask(endpoints, "/ready").status == 200
    assert app.asked == asked


def test_critical_pages_are_asked_as_the_site_that_is_named_and_with_the_state_of_the_lifespan(hot: Hotpath) -> None:
    build(hot)
    scopes = []

    async def strict(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        is_right = scope["scheme"] == "https" and (b"host", b"example.org:8443") in scope["headers"]
        await send({"type": "http.response.start", "status": 200 if is_right else 400, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    pool = object()
    for base_url, status in (("https://example.org:8443/", 200), ("http://localhost", 503)):
        endpoints = HealthEndpoints(HotpathMiddleware(strict, hot=hot), hot=hot, critical=("/cold",), base_url=base_url)
        state = {"pool": pool}
        assert asyncio.run(asgi_get(endpoints, "/readyz", state=state)).status == status
        assert scopes[-1]["state"]["pool"] is pool
        scopes[-1]["state"]["own"] = 1
        assert state == {"pool": pool}
    asyncio.run(endpoints.reasons())
    assert "state" not in scopes[-1]


@pytest.mark.parametrize(
    "options",
    [
        {"critical": "/a"},
        {"critical": ["a"]},
        {"liveness": "healthz"},
        {"liveness": "/x", "readiness": "/x"},
        {"base_url": "example.org"},
        {"base_url": "https://example.org/below"},
    ],
)
def test_what_cannot_work_is_refused(app: App, hot: Hotpath, options: dict[str, Any]) -> None:
    with pytest.raises(DeclarationError):
        HealthEndpoints(app, hot=hot, **options)


BODIES = {
    "/readyz": b'{"status":"not ready","reasons":["/hot answered 500","\\u001b[2Jred"]}',
    "/other": b'["reasons"]',
    "/number": b'{"reasons":7}',
}


@pytest.fixture
def server() -> Iterator[tuple[str, dict[str, list[int]]]]:
    """A server, and the statuses that each path answers with in turn; the last one stays."""
    statuses: dict[str, list[int]] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            left = statuses.get(self.path, [200])
            self.send_response(left.pop(0) if len(left) > 1 else left[0])
            body = BODIES.get(self.path, b"")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            return None

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}", statuses
        running.shutdown()
        thread.join()


def test_pages_are_asked_until_they_are_warm(server: tuple[str, dict[str, list[int]]]) -> None:
    base, statuses = server
    statuses["/starting?x=1"] = [503, 502, 200]
    found = warm([base, f"{base}/starting?x=1"], deadline_seconds=20)
    assert [one.is_warm for one in found] == [True, True]
    assert [one.tries for one in found] == [1, 3]
    assert lines(found)[-1] == "2 of 2 warm"


def test_what_does_not_get_warm_in_time_is_named(server: tuple[str, dict[str, list[int]]]) -> None:
    base, statuses = server
    statuses["/never"] = [500]
    found = warm([f"{base}/never", "http://127.0.0.1:1/"], deadline_seconds=0.5)
    assert [one.status for one in found] == [500, None]
    assert found[0].problem == "answered 500"
    assert "connection refused" in str(found[1].problem)
    assert "NOT WARM: answered 500" in lines(found)[0]


def test_a_process_that_is_not_ready_says_why(server: tuple[str, dict[str, list[int]]]) -> None:
    base, statuses = server
    statuses.update({path: [503] for path in BODIES})
    found = warm([base + path for path in BODIES], deadline_seconds=0.5)
    assert [one.problem for one in found] == ["answered 503; /hot answered 500; [2Jred", "answered 503", "answered 503"]


@pytest.mark.parametrize("urls", [[], ["/hot"], ["ftp://x/"]])
def test_what_is_no_url_is_refused(urls: list[str]) -> None:
    with pytest.raises(DeclarationError):
        warm(urls)
