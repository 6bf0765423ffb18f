"""What reaches the app and what does not, on whatever way the request comes in."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from hotpath.asgi.middleware import HotpathMiddleware
from hotpath.batch.run import build
from hotpath.errors import DeclarationError
from hotpath.serving import reader_of
from hotpath.site import Hotpath
from hotpath.testing import Response, asgi_get

pytestmark = pytest.mark.usefixtures("items_in_this_process")

Scope = MutableMapping[str, Any]


class App:
    """The app behind: remembers what reached it, and answers as a test says."""

    def __init__(self) -> None:
        self.scopes: list[Scope] = []
        self.behave: Callable[[], Awaitable[None]] | None = None

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        if self.behave is not None:
            await self.behave()
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 418, "headers": [(b"x-app", b"1")]})
            await send({"type": "http.response.body", "body": b"app"})


@pytest.fixture
def hot(tmp_path: Path) -> Iterator[Hotpath]:
    hot = Hotpath(tmp_path / "hot", refresh=0.05)
    numbers = {"n": 1}

    @hot.route("/r/{m}", each={"m": ["kospi", "a b"]}, headers={"Access-Control-Allow-Origin": "*"})
    def page(m: str) -> dict[str, object]:
        return {"m": m, "n": numbers["n"], "fill": "x" * 500}

    hot.route("/top", each=[{"n": "10"}, {"n": None}], query=("n",))(lambda n: {"top": n})
    hot.route("/Fold/{m}", each={"m": ["KOSPI"]}, fold_case=True)(lambda m: {"folded": m})
    build(hot)
    hot.numbers = numbers  # type: ignore[attr-defined]
    yield hot
    reader_of(hot).close()


def get(app: Any, target: str, **options: Any) -> Response:
    return asyncio.run(asgi_get(app, target, **options))


def test_a_hot_page_is_answered_and_the_app_is_not_asked(hot: Hotpath) -> None:
    app = App()
    answer = get(HotpathMiddleware(app, hot=hot), "/r/kospi")
    assert answer.status == 200
    assert answer.body.startswith(b'{"m":"kospi"')
    assert answer.header("content-length") == str(len(answer.body))
    assert answer.header("content-type") == "application/json"
    assert answer.header("vary") == "Accept-Encoding"
    assert answer.header("access-control-allow-origin") == "*"
    assert answer.header("x-hotpath-generation") == "1"
    assert answer.header("cache-control") == "public, max-age=60, stale-while-revalidate=600, stale-if-error=604800"
    assert (
        answer.header("cdn-cache-control") == "public, max-age=300, stale-while-revalidate=600, stale-if-error=604800"
    )
    assert (answer.header("cache-status") or "").startswith("hotpath; hit; ttl=93")
    assert not app.scopes


@pytest.mark.parametrize(
    ("target", "options"),
    [
        ("/r/unknown", {}),
        ("/", {}),
        ("/r/kospi/", {}),
        ("/r/kospi?x=1", {}),
        ("/r%2Fkospi", {}),
        ("/r/../r/kospi", {}),
        ("/R/kospi", {}),
        ("/r/kospi", {"method": "POST"}),
        ("/r/kospi", {"method": "OPTIONS"}),
        ("/top?n=11", {}),
        ("/top?n=10&n=10", {}),
        ("/apix/r/kospi", {"root_path": "/api"}),
    ],
)
def test_everything_else_reaches_the_app_untouched(hot: Hotpath, target: str, options: dict[str, Any]) -> None:
    app = App()
    answer = get(HotpathMiddleware(app, hot=hot), target, **options)
    assert (answer.status, answer.headers, answer.body) == (418, [(b"x-app", b"1")], b"app")
    assert len(app.scopes) == 1


@pytest.mark.parametrize(
    ("target", "options"),
    [
        ("/r/kospi?utm_source=x&gclid=1", {}),
        ("/%72/kospi", {}),
        ("/r/a%20b", {}),
        ("/r/kospi", {"raw_path": None}),
        ("/r/a%20b", {"raw_path": None}),
        ("/r/kospi", {"method": "HEAD"}),
        ("/api/r/kospi", {"root_path": "/api"}),
        ("/r/kospi", {"root_path": "/api"}),
        ("/top?n=10", {}),
        ("/top?utm_campaign=x", {}),
        ("/fold/kospi", {}),
        ("/FOLD/Kospi", {}),
    ],
)
def test_the_spellings_of_a_hot_page(hot: Hotpath, target: str, options: dict[str, Any]) -> None:
    app = App()
    assert get(HotpathMiddleware(app, hot=hot), target, **options).status == 200
    assert not app.scopes


def test_codings_and_validators(hot: Hotpath) -> None:
    app = HotpathMiddleware(App(), hot=hot)
    plain = get(app, "/r/kospi")
    gzipped = get(app, "/r/kospi", headers=[(b"accept-encoding", b"gzip")])
    assert gzipped.header("content-encoding") == "gzip"
    assert len(gzipped.body) < len(plain.body)
    tag = gzipped.header("etag") or ""
    assert tag == (plain.header("etag") or "")[:-1] + '-gzip"'
    again = get(app, "/r/kospi", headers=[(b"accept-encoding", b"gzip"), (b"if-none-match", tag.encode())])
    assert (again.status, again.body) == (304, b"")
    assert again.header("etag") == tag
    assert again.header("content-length") is None
    date = (plain.header("last-modified") or "").encode()
    assert get(app, "/r/kospi", headers=[(b"if-modified-since", date)]).status == 304
    head = get(app, "/r/kospi", method="HEAD")
    assert (head.headers, head.body) == (plain.headers, b"")


@pytest.mark.parametrize("outer", ["append", "replace"])
def test_what_an_outer_middleware_does_to_a_message_stays_with_its_request(hot: Hotpath, outer: str) -> None:
    inner = HotpathMiddleware(App(), hot=hot)

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        async def touching(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                if outer == "append":
                    message["headers"].append((b"set-cookie", b"secret=1"))
                else:
                    message["headers"] = [(b"set-cookie", b"secret=1")]
            else:
                message["body"] = b"changed"
            await send(message)

        await inner(scope, receive, touching)

    clean = get(inner, "/r/kospi")
    assert get(app, "/r/kospi").header("set-cookie") == "secret=1"
    assert get(inner, "/r/kospi") == clean


def test_the_app_may_hang_or_raise(hot: Hotpath) -> None:
    app = App()
    middleware = HotpathMiddleware(app, hot=hot)

    async def raises() -> None:
        raise RuntimeError("no database")

    app.behave = raises
    assert get(middleware, "/r/kospi").status == 200
    with pytest.raises(RuntimeError, match="no database"):
        get(middleware, "/cold")

    async def hangs() -> None:
        await asyncio.sleep(3600)

    async def both() -> Response:
        app.behave = hangs
        cold = asyncio.create_task(asgi_get(middleware, "/cold"))
        await asyncio.sleep(0)
        answer = await asyncio.wait_for(asgi_get(middleware, "/r/kospi"), 5)
        cold.cancel()
        return answer

    assert asyncio.run(both()).status == 200


def test_websockets_and_lifespan_reach_the_app(hot: Hotpath) -> None:
    app = App()
    middleware = HotpathMiddleware(app, hot=hot)
    for kind in ("websocket", "lifespan"):
        scope = {"type": kind, "path": "/r/kospi"}
        asyncio.run(middleware(scope, None, None))  # type: ignore[arg-type]
        assert app.scopes[-1] is scope
    assert reader_of(hot).snapshot.generation == 1, "lifespan start-up loads before the first request"


def test_a_new_generation_shows_within_two_seconds_without_lifespan(hot: Hotpath) -> None:
    middleware = HotpathMiddleware(App(), hot=hot)
    assert get(middleware, "/r/kospi").header("x-hotpath-generation") == "1"
    hot.numbers["n"] = 2  # type: ignore[attr-defined]
    build(hot)
    deadline = time.monotonic() + 2
    while get(middleware, "/r/kospi").header("x-hotpath-generation") == "1":
        assert time.monotonic() < deadline, "the new generation did not show"
        time.sleep(0.02)
    assert b'"n":2' in get(middleware, "/r/kospi").body


def test_a_rollback_shows_too(hot: Hotpath) -> None:
    middleware = HotpathMiddleware(App(), hot=hot)
    hot.numbers["n"] = 2  # type: ignore[attr-defined]
    build(hot)
    assert get(middleware, "/r/kospi").header("x-hotpath-generation") == "2"
    hot.store.rollback()
    assert reader_of(hot).refresh()
    assert get(middleware, "/r/kospi").header("x-hotpath-generation") == "1"


def test_a_declared_route_that_the_generation_does_not_have_is_told_once_at_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    built, other = Hotpath(tmp_path / "hot"), Hotpath(tmp_path / "hot")
    built.route("/a")(lambda: [1])
    build(built)
    for path in ("/a", "/b", "/c"):
        other.route(path)(lambda: [1])

    async def lifespan() -> None:
        for _ in range(2):
            await HotpathMiddleware(App(), hot=other)({"type": "lifespan"}, None, None)  # type: ignore[arg-type]

    asyncio.run(lifespan())
    (told,) = [record.getMessage() for record in caplog.records if record.name == "hotpath"]
    assert "generation 1 has no page of '/b' and 1 more declared routes" in told
    assert f"{__file__}:" in told
    build(other)
    caplog.clear()
    asyncio.run(HotpathMiddleware(App(), hot=built)({"type": "lifespan"}, None, None))  # type: ignore[arg-type]
    assert caplog.records == []
    for one in (built, other):
        reader_of(one).close()


def test_a_directory_without_a_file_is_told_at_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    hot = Hotpath(tmp_path / "hot")
    hot.directory("/gone/{n}", tmp_path / "gone/{n}.json")
    hot.directory("/there/{n}", tmp_path / "there/{n}.json")
    (tmp_path / "there").mkdir()
    (tmp_path / "there/a.json").write_text("[1]")
    asyncio.run(HotpathMiddleware(App(), hot=hot)({"type": "lifespan"}, None, None))  # type: ignore[arg-type]
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith(f"hotpath: no file is {tmp_path}/gone/{{n}}.json, so the app answers '/gone/{{n}}'")
    reader_of(hot).close()


def test_nothing_published_means_everything_goes_to_the_app(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    hot = Hotpath(tmp_path / "none", refresh=0.05)
    hot.route("/a")(lambda: [1])
    middleware = HotpathMiddleware(App(), hot=hot)
    assert get(middleware, "/a").status == 418
    assert "hotpath build" in caplog.text
    build(hot)
    deadline = time.monotonic() + 2
    while get(middleware, "/a").status != 200:
        assert time.monotonic() < deadline, "the first generation did not show"
        time.sleep(0.02)
    reader_of(hot).close()


def test_a_mistake_of_ours_costs_no_request(
    hot: Hotpath, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    middleware = HotpathMiddleware(App(), hot=hot)
    get(middleware, "/r/kospi")
    monkeypatch.setattr("hotpath.asgi.middleware.resolve", broken)
    for _ in range(3):
        assert get(middleware, "/r/kospi").status == 418
    assert middleware.internal_errors == 3
    assert len([record for record in caplog.records if record.exc_info]) == 1, "told once, then only counted"


def test_bypass_sends_a_hot_request_to_the_app(hot: Hotpath) -> None:
    def has_cookie(scope: Scope) -> bool:
        return any(name == b"cookie" for name, _ in scope["headers"])

    middleware = HotpathMiddleware(App(), hot=hot, bypass=has_cookie)
    assert get(middleware, "/r/kospi").status == 200
    assert get(middleware, "/r/kospi", headers=[(b"cookie", b"session=1")]).status == 418


def test_redirects_between_slash_and_no_slash(tmp_path: Path) -> None:
    hot = Hotpath(tmp_path, redirect_slashes=True)
    hot.route("/a/b")(lambda: [1])
    hot.route("/c/")(lambda: [1])
    build(hot)
    middleware = HotpathMiddleware(App(), hot=hot)
    answer = get(middleware, "/a/b/?utm_source=x")
    assert (answer.status, answer.header("location")) == (308, "../b?utm_source=x")
    answer = get(middleware, "/c")
    assert (answer.status, answer.header("location")) == (308, "./c/")
    assert get(middleware, "/c", method="POST").status == 418
    assert get(middleware, "/d/").status == 418
    reader_of(hot).close()


def test_it_runs_on_trio_too(hot: Hotpath) -> None:
    pytest.importorskip("trio")
    answer = anyio.run(asgi_get, HotpathMiddleware(App(), hot=hot), "/r/kospi", backend="trio")
    assert answer.status == 200


def test_a_page_on_disk_needs_none_of_the_apps_threads(tmp_path: Path) -> None:
    """Endpoints that hang have all of anyio's threads; a page that is not in memory is read all the same."""
    hot = Hotpath(tmp_path / "hot", max_body_bytes=1)
    hot.route("/p/{n}", each={"n": range(3)})(lambda n: [n] * 100)
    build(hot)
    gate = threading.Event()

    all_hang = anyio.Event()

    async def hangs() -> None:
        if len(app.scopes) == 50:
            all_hang.set()
        await anyio.to_thread.run_sync(gate.wait)

    app = App()
    app.behave = hangs
    site = HotpathMiddleware(app, hot=hot)

    async def ask() -> list[int]:
        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(asgi_get, site, "/cold")
            await all_hang.wait()
            try:
                with anyio.fail_after(5):
                    found = [(await asgi_get(site, f"/p/{n}")).status for n in range(3)]
            finally:
                gate.set()
        return found

    try:
        assert anyio.run(ask) == [200] * 3
    finally:
        gate.set()
        reader_of(hot).close()


def test_wrong_arguments_fail_when_constructed(hot: Hotpath) -> None:
    with pytest.raises(DeclarationError, match="give the Hotpath object"):
        HotpathMiddleware(App(), hot="var/hot")  # type: ignore[arg-type]
    with pytest.raises(DeclarationError, match="no ASGI application"):
        HotpathMiddleware(None, hot=hot)  # type: ignore[arg-type]
    with pytest.raises(DeclarationError, match=r"is a class; write HotpathMiddleware\(App\(…\), hot=hot\)"):
        HotpathMiddleware(App, hot=hot)  # type: ignore[arg-type]

    async def always(scope: Scope) -> bool:
        return False

    for bypass in ("/x", always):
        with pytest.raises(DeclarationError, match=r"bypass=.*write a plain function"):
            HotpathMiddleware(App(), hot=hot, bypass=bypass)  # type: ignore[arg-type]
