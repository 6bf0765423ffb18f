"""The guard in front of an app: what passes, what is refused, and that a hot page knows nothing of it."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from hotpath.asgi.access_log import HotpathRequest
from hotpath.asgi.middleware import HotpathMiddleware
from hotpath.batch.run import build
from hotpath.errors import DeclarationError
from hotpath.guard.guard import MemoryGuard
from hotpath.guard.hard_limit import HardLimit, is_memory_error, is_thread_error
from hotpath.guard.states import State, drain
from hotpath.serving import reader_of
from hotpath.site import Hotpath
from hotpath.testing import Response, asgi_get
from tests.guard.fakes import Rigged, http

pytestmark = pytest.mark.usefixtures("items_in_this_process")


class App:
    """Counts what reaches it; raises ``error`` if there is one."""

    def __init__(self) -> None:
        self.scopes: list[Any] = []
        self.error: BaseException | None = None
        self.begins = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        if self.begins:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        if self.error is not None:
            raise self.error
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 418, "headers": [(b"x-app", b"1")]})
            await send({"type": "http.response.body", "body": b"app"})


@pytest.fixture
def hot(tmp_path: Path) -> Iterator[Hotpath]:
    hot = Hotpath(tmp_path / "hot")
    hot.route("/hot")(lambda: {"hot": True})
    build(hot)
    yield hot
    reader_of(hot).close()


@pytest.fixture
def rigged(monkeypatch: pytest.MonkeyPatch) -> Rigged:
    rigged = Rigged()
    # Its samples are those that a test makes.
    monkeypatch.setattr(type(rigged.guard), "is_started", True)
    monkeypatch.setattr(rigged.guard, "start", lambda key, loop=None: None)
    return rigged


def get(app: Any, target: str, **options: Any) -> Response:
    return asyncio.run(asgi_get(app, target, **options))


def test_hot_is_served_and_cold_is_refused_before_any_of_the_app_runs(hot: Hotpath, rigged: Rigged) -> None:
    app = App()
    middleware = HotpathMiddleware(app, hot=hot, guard=rigged.guard)
    assert (get(middleware, "/hot").status, get(middleware, "/cold").status) == (200, 418)
    rigged.see(0.95)
    before = len(app.scopes)
    refused = get(middleware, "/cold")
    assert refused.status == 503
    assert (refused.header("retry-after") or "").isdigit()
    assert len(app.scopes) == before
    hot_page = get(middleware, "/hot")
    assert (hot_page.status, hot_page.header("connection")) == (200, None)
    assert get(middleware, "/livez").status == 418


@pytest.mark.parametrize("requested", [b"GET", b"HEAD"])
def test_a_preflight_of_a_hot_page_is_let_in_where_the_page_is_200(
    hot: Hotpath, rigged: Rigged, requested: bytes
) -> None:
    middleware = HotpathMiddleware(App(), hot=hot, guard=rigged.guard)
    rigged.see(0.95)
    asks = [(b"origin", b"https://example.org"), (b"access-control-request-method", requested)]
    assert get(middleware, "/hot", method="OPTIONS", headers=asks).status == 418
    assert get(middleware, "/cold", method="OPTIONS", headers=asks).status == 503
    assert get(middleware, "/hot", method="OPTIONS").status == 503
    asks[1] = (b"access-control-request-method", b"POST")
    assert get(middleware, "/hot", method="OPTIONS", headers=asks).status == 503


def test_requests_in_flight_are_counted_however_they_end(hot: Hotpath, rigged: Rigged) -> None:
    app = App()
    middleware = HotpathMiddleware(app, hot=hot, guard=rigged.guard)
    counts: list[int] = []

    class Counting(App):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            counts.append(rigged.guard.admission.in_flight)
            await super().__call__(scope, receive, send)

    middleware.app = Counting()
    get(middleware, "/cold")
    middleware.app.error = RuntimeError("no database")
    with pytest.raises(RuntimeError, match="no database"):
        get(middleware, "/cold")
    assert counts == [1, 1]
    assert rigged.guard.admission.in_flight == 0


def test_the_same_guard_twice_on_the_way(hot: Hotpath, rigged: Rigged) -> None:
    """An app with the middleware mounted in one that has it too: a mount may hand on the very same scope."""
    inner = HotpathMiddleware(App(), hot=hot, guard=rigged.guard)
    rigged.see(0.3)
    assert get(HotpathMiddleware(inner, hot=hot, guard=rigged.guard), "/cold").status == 418
    assert rigged.guard.admission.in_flight == 0


def test_connections_are_closed_when_the_process_leaves(hot: Hotpath, rigged: Rigged) -> None:
    seen: list[HotpathRequest] = []
    middleware = HotpathMiddleware(App(), hot=hot, guard=rigged.guard, observe=seen.append)
    first = get(middleware, "/hot")
    body, etag = first.body, (first.header("etag") or "").encode()
    rigged.guard.position = drain(rigged.guard.position, rigged.clock(), "asked")
    for call in rigged.guard.on_leaving:
        call()
    rigged.see(0.3)
    leaving = get(middleware, "/hot")
    assert (leaving.status, leaving.body, leaving.header("connection")) == (200, body, "close")
    assert get(middleware, "/hot", http_version="2").header("connection") is None
    assert get(middleware, "/hot", headers=[(b"if-none-match", etag)]).header("connection") == "close"
    assert get(middleware, "/hot", headers=[(b"if-match", b'"other"')]).status == 412
    assert [one.result for one in seen] == ["hit", "hit", "hit", "not_modified", "refused"]
    assert get(middleware, "/readyz").status == 503
    assert rigged.guard.state is State.DRAIN


def test_a_handshake_passes_and_is_refused_while_shedding(hot: Hotpath, rigged: Rigged) -> None:
    app = App()
    middleware = HotpathMiddleware(app, hot=hot, guard=rigged.guard)
    scope: MutableMapping[str, Any] = http(type="websocket")
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    asyncio.run(middleware(scope, receive, send))
    assert app.scopes == [scope]
    rigged.see(0.95)
    asyncio.run(middleware(scope, receive, send))
    assert len(app.scopes) == 1
    assert sent == [{"type": "websocket.close", "code": 1013}]


@pytest.mark.parametrize("kind", ["lifespan", "something new"])
def test_other_scopes_pass_in_every_state(hot: Hotpath, rigged: Rigged, kind: str) -> None:
    app = App()
    rigged.see(0.95)
    asyncio.run(HotpathMiddleware(app, hot=hot, guard=rigged.guard)({"type": kind}, None, None))  # type: ignore[arg-type]
    assert app.scopes == [{"type": kind}]


def test_a_hot_page_whose_bytes_are_gone_goes_to_the_app_in_every_state(
    tmp_path: Path, rigged: Rigged, monkeypatch: pytest.MonkeyPatch
) -> None:
    hot = Hotpath(tmp_path / "one", max_body_bytes=1)
    hot.route("/{n}", each={"n": ["a", "b"]})(lambda n: {"n": n})
    build(hot)
    rigged.see(0.95)
    middleware = HotpathMiddleware(App(), hot=hot, guard=rigged.guard)
    assert get(middleware, "/a").status == 200
    monkeypatch.setattr(reader_of(hot), "load_page", lambda key: None)
    assert get(middleware, "/b").status == 418
    assert get(middleware, "/c").status == 503
    reader_of(hot).close()


def test_a_fault_of_ours_lets_nothing_past_the_guard(
    hot: Hotpath, rigged: Rigged, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    middleware = HotpathMiddleware(App(), hot=hot, guard=rigged.guard)
    monkeypatch.setattr("hotpath.asgi.middleware.resolve", broken)
    assert get(middleware, "/cold").status == 418
    rigged.see(0.95)
    assert get(middleware, "/cold").status == 503


def test_the_guard_starts_with_lifespan_or_with_the_first_request(hot: Hotpath) -> None:
    for target in ("/cold", None):
        rigged = Rigged()
        middleware = HotpathMiddleware(App(), hot=hot, guard=rigged.guard)
        if target is None:
            asyncio.run(middleware({"type": "lifespan"}, None, None))  # type: ignore[arg-type]
        else:
            get(middleware, target)
        assert rigged.guard.is_started
        rigged.guard.close()


def test_it_runs_on_trio_too(hot: Hotpath) -> None:
    pytest.importorskip("trio")
    rigged = Rigged()
    answer = anyio.run(asgi_get, HotpathMiddleware(App(), hot=hot, guard=rigged.guard), "/cold", backend="trio")
    assert answer.status == 418
    rigged.guard.close()


def test_a_guard_that_is_none_is_refused(hot: Hotpath) -> None:
    with pytest.raises(DeclarationError, match="MemoryGuard\\(limit="):
        HotpathMiddleware(App(), hot=hot, guard="1500MiB")  # type: ignore[arg-type]


class Reserve(HardLimit):
    """Opens its reserve and sets no limit."""

    def __init__(self) -> None:
        self.reserve_used = False

    def open_reserve(self) -> None:
        self.reserve_used = True


@pytest.fixture
def limited(rigged: Rigged) -> Rigged:
    rigged.guard.hard_limit = Reserve()
    return rigged


@pytest.mark.parametrize("wrapped", ["bare", "group", "cause"])
def test_memory_error_is_a_503_and_opens_the_reserve(hot: Hotpath, limited: Rigged, wrapped: str) -> None:
    app = App()
    app.error = MemoryError()
    if wrapped == "group":
        app.error = BaseExceptionGroup("in a task group", [MemoryError()])
    elif wrapped == "cause":
        app.error = RuntimeError("wrapped")
        app.error.__cause__ = MemoryError()
    middleware = HotpathMiddleware(app, hot=hot, guard=limited.guard)
    assert get(middleware, "/cold").status == 503
    assert limited.guard.hard_limit is not None
    assert limited.guard.hard_limit.reserve_used
    assert limited.guard.admission.shed == {("P2", "memory_error"): 1}


def test_another_error_stays_what_it_is(hot: Hotpath, limited: Rigged) -> None:
    app = App()
    app.error = RuntimeError("no database")
    with pytest.raises(RuntimeError, match="no database"):
        get(HotpathMiddleware(app, hot=hot, guard=limited.guard), "/cold")
    assert limited.guard.hard_limit is not None
    assert not limited.guard.hard_limit.reserve_used


def test_an_answer_that_has_begun_is_broken_off(hot: Hotpath, limited: Rigged) -> None:
    app = App()
    app.begins, app.error = True, MemoryError()
    with pytest.raises(MemoryError):
        get(HotpathMiddleware(app, hot=hot, guard=limited.guard), "/cold")
    assert limited.guard.hard_limit is not None
    assert limited.guard.hard_limit.reserve_used


@pytest.mark.parametrize("debug", [False, True])
def test_a_framework_that_makes_it_a_500(hot: Hotpath, limited: Rigged, debug: bool) -> None:
    def runs_out(request: Request) -> PlainTextResponse:
        if request.url.path == "/memory":
            raise MemoryError
        if request.url.path == "/threads":
            raise RuntimeError("can't start new thread")
        if request.url.path == "/fails":
            raise RuntimeError("no database")
        return PlainTextResponse("fine")

    app = Starlette(routes=[Route("/{any}", runs_out)], debug=debug)
    middleware = HotpathMiddleware(app, hot=hot, guard=limited.guard)
    assert limited.guard.hard_limit is not None
    assert get(middleware, "/threads").status == 503, "forty threads at once have no room under the limit"
    assert not limited.guard.hard_limit.reserve_used, "which is no reason to leave"
    assert get(middleware, "/memory").status == 503
    assert limited.guard.hard_limit.reserve_used
    assert get(middleware, "/fine").body == b"fine"
    with pytest.raises(RuntimeError, match="no database"):
        get(middleware, "/fails")


def test_what_counts_as_running_out_of_memory() -> None:
    looped = RuntimeError("looped")
    looped.__context__ = looped.__cause__ = ValueError("x")
    looped.__cause__.__context__ = looped
    assert not is_memory_error(looped)
    assert not is_memory_error(None)
    assert is_memory_error(MemoryError())
    assert not is_thread_error(looped)
    assert not is_thread_error(None)


def test_several_instances_share_one_guard_and_one_sampler(tmp_path: Path) -> None:
    """Two sites in one process: what one of them lets in counts for the other, and one thread reads memory."""
    sites = []
    for name in ("one", "two"):
        site = Hotpath(tmp_path / name)
        site.route("/hot")(lambda: {"hot": True})
        build(site)
        sites.append(site)
    guard = MemoryGuard(leave=False)
    inside: list[int] = []

    class Counting(App):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            inside.append(guard.admission.in_flight)
            if scope["path"] == "/outer":
                await asgi_get(instances[1], "/inner")
            await super().__call__(scope, receive, send)

    instances = [HotpathMiddleware(Counting(), hot=site, guard=guard) for site in sites]

    def samplers() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "hotpath-guard"]

    before = len(samplers())

    async def main() -> None:
        for instance in instances:
            await asgi_get(instance, "/hot")
        assert len(samplers()) == before + 1
        await asgi_get(instances[0], "/outer")

    try:
        asyncio.run(main())
        assert inside == [1, 2]
    finally:
        guard.close()
        for site in sites:
            reader_of(site).close()
    assert len(samplers()) == before


def test_bodies_in_memory_shrink_and_are_read_again(tmp_path: Path) -> None:
    # Nothing is let go of while somebody looks at the store, which a thread does once in the beginning.
    site = Hotpath(tmp_path / "site", max_body_bytes=1024 * 1024, refresh=60)
    site.route("/page/{n}", each=[{"n": str(number)} for number in range(12)])(
        lambda n: {"n": n, "x": hashlib.sha256(n.encode()).hexdigest() * 1000}
    )
    build(site)
    rigged = Rigged()
    middleware = [HotpathMiddleware(App(), hot=site, guard=rigged.guard) for _ in range(2)]
    try:
        reader_of(site).start()
        full = reader_of(site).loader.body_bytes
        assert full > 0.5 * 1024 * 1024
        assert len(rigged.guard.shrinks) == 1, "two instances of one site are one cache"
        deadline = time.monotonic() + 10
        rigged.see(0.75, samples=3)
        while reader_of(site).loader.body_bytes > 0.5 * 1024 * 1024 and time.monotonic() < deadline:
            rigged.see(0.75, samples=3)
        assert reader_of(site).loader.body_bytes <= 0.5 * 1024 * 1024
        rigged.see(0.75, samples=20)
        assert 0 < reader_of(site).loader.body_bytes <= 0.25 * 1024 * 1024
        assert [get(middleware[0], f"/page/{number}").status for number in range(12)] == [200] * 12
    finally:
        reader_of(site).close()
