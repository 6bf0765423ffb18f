"""The same assertions with hotpath around every host, in this process and on a real server."""

from __future__ import annotations

import asyncio
import http.client
import importlib.util
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from hotpath.asgi.middleware import HotpathMiddleware
from hotpath.batch.run import build
from hotpath.serving import reader_of
from hotpath.site import Hotpath
from hotpath.testing import Response, asgi_get
from tests.store.faults.sites import await_true
from tests.wire.hosts.apps import HOSTS, ROWS, declare
from tests.wire.servers.conftest import SERVERS, missing, start

BODY = orjson.dumps(ROWS)
PACKAGE = {"starlette_added": "starlette", "fastapi_added": "fastapi", "mounted": "starlette", "bare": "starlette"}
Ask = Callable[..., Response]


def needed(host: str) -> str:
    return PACKAGE.get(host, host)


@pytest.fixture(params=HOSTS)
def host(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if importlib.util.find_spec(needed(name)) is None:
        pytest.skip(f"{needed(name)} is not installed")
    return name


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hosts") / "hot"
    build(declare(root))
    return root


@pytest.fixture
def hot(store: Path) -> Iterator[Hotpath]:
    hot = declare(store)
    yield hot
    reader_of(hot).close()


@pytest.fixture
def in_process(host: str, hot: Hotpath) -> Ask:
    app = HOSTS[host](hot)

    def ask(path: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> Response:
        fields = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        return asyncio.run(asgi_get(app, prefix(host) + path, method=method, headers=[(b"host", b"h"), *fields]))

    return ask


def prefix(host: str) -> str:
    return "/sub" if host == "mounted" else ""


def over_the_wire(host: str, port: int) -> Ask:
    def ask(path: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> Response:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request(method, prefix(host) + path, headers={"Host": host, **(headers or {})})
            answer = connection.getresponse()
            fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.getheaders()]
            return Response(answer.status, fields, answer.read())
        finally:
            connection.close()

    return ask


@pytest.fixture
def on_a_server(host: str, store: Path, tmp_path: Path) -> Iterator[Ask]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "tests.wire.hosts.apps:app", "--port", str(port), "--no-access-log"]
    environment = os.environ | {"HOTPATH_TEST_HOST": host, "HOTPATH_TEST_STORE": str(store)}
    with (tmp_path / "server.log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, cwd=Path(__file__).parents[3], stdout=log, stderr=log)

    ask = over_the_wire(host, port)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                ask("/hot")
                break
            except OSError:
                assert server.poll() is None, (tmp_path / "server.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield ask
    finally:
        server.terminate()
        try:
            server.wait(20)
        finally:
            server.kill()


def hold(ask: Ask) -> None:
    """What every host keeps, hot and cold."""
    whole = ask("/hot")
    assert (whole.status, whole.body, whole.header("x-hotpath-generation")) == (200, BODY, "1")
    assert whole.header(
        "cache-status",
    ).startswith("hotpath; hit")  # type: ignore[union-attr]
    tag = whole.header("etag")
    assert tag is not None
    assert ask("/hot", headers={"if-none-match": tag}).status == 304
    head = ask("/hot", "HEAD")
    assert (head.status, head.body, head.header("content-length")) == (200, b"", str(len(BODY)))
    packed = ask("/hot", headers={"accept-encoding": "gzip"})
    assert (packed.header("content-encoding"), packed.header("vary")) == ("gzip", "Accept-Encoding")
    part = ask("/hot", headers={"range": "bytes=0-9"})
    assert (part.status, part.body) == (206, BODY[:10])
    assert ask("/hot?utm_source=x").body == BODY
    cold = ask("/cold")
    assert (cold.status, cold.body, cold.header("x-hotpath-generation")) == (200, b"cold", None)
    assert ask("/hot", "POST").body == b"posted"
    assert ask("/nowhere").status == 404


def test_every_host_in_this_process(in_process: Ask) -> None:
    hold(in_process)


@pytest.mark.slow
def test_every_host_on_a_real_server(on_a_server: Ask) -> None:
    hold(on_a_server)
    assert on_a_server("/boom").status == 500
    hold(on_a_server)


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a server that has all hosts that are here, told apart by ``Host``."""
    name: str = request.param
    absent = missing(name)
    if absent:
        pytest.skip(f"{', '.join(absent)} is not installed")
    here = [one for one in HOSTS if importlib.util.find_spec(needed(one)) is not None]
    log = tmp_path_factory.mktemp("server") / "log"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.wire.servers.conftest.APP", "tests.wire.hosts.apps:app")
        patch.setenv("HOTPATH_TEST_HOST", ",".join(here))
        patch.setenv("HOTPATH_TEST_STORE", str(store))
        running = start(name, SERVERS[name], store, log)
        try:
            running.await_up()
            yield running.port
        finally:
            running.stop()


@pytest.mark.slow
def test_every_host_on_every_server(server: int, host: str) -> None:
    ask = over_the_wire(host, server)
    hold(ask)
    assert ask("/boom").status == 500
    hold(ask)


# What the host does with cold pages stays as it is, and the order for hot pages is the one the docs tell.


def add_all(app: Any, hot: Hotpath, *, innermost: bool) -> Any:
    """Starlette's own middleware, a request id through BaseHTTPMiddleware, and hotpath inside or outside of them."""
    from starlette.middleware.base import BaseHTTPMiddleware
    from starlette.middleware.cors import CORSMiddleware
    from starlette.middleware.gzip import GZipMiddleware
    from starlette.middleware.sessions import SessionMiddleware

    async def request_id(request: Any, call_next: Any) -> Any:
        answer = await call_next(request)
        answer.headers["x-request-id"] = "7"
        return answer

    # The last one added is the outermost.
    if innermost:
        app.add_middleware(HotpathMiddleware, hot=hot)
    app.add_middleware(BaseHTTPMiddleware, dispatch=request_id)
    app.add_middleware(SessionMiddleware, secret_key="x")
    app.add_middleware(GZipMiddleware, minimum_size=1)
    app.add_middleware(CORSMiddleware, allow_origins=["https://a.example"], allow_credentials=True)
    if not innermost:
        app.add_middleware(HotpathMiddleware, hot=hot)
    return app


@pytest.fixture(params=[False, True], ids=["outermost", "innermost"])
def innermost(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_the_hosts_middleware_works_on_cold_pages(hot: Hotpath, innermost: bool) -> None:
    from tests.wire.hosts.apps import fastapi_app

    app = fastapi_app()

    async def missing(request: Any, error: KeyError) -> Any:
        from fastapi.responses import PlainTextResponse

        return PlainTextResponse("handled", 409)

    def key() -> str:
        raise KeyError("x")

    app.add_exception_handler(KeyError, missing)
    app.add_api_route("/key", key)
    app = add_all(app, hot, innermost=innermost)
    fields = [(b"host", b"h"), (b"origin", b"https://a.example"), (b"accept-encoding", b"gzip")]
    answer = asyncio.run(asgi_get(app, "/cold", headers=fields))
    assert answer.status == 200
    assert answer.header("access-control-allow-origin") == "https://a.example"
    assert answer.header("content-encoding") == "gzip"
    assert answer.header("x-request-id") == "7"
    assert asyncio.run(asgi_get(app, "/key", headers=fields[:1])).status == 409
    preflight = [*fields, (b"access-control-request-method", b"GET")]
    assert asyncio.run(asgi_get(app, "/hot", method="OPTIONS", headers=preflight)).status == 200


def test_what_stands_outside_of_hotpath_sees_hot_pages_and_what_stands_inside_does_not(
    hot: Hotpath, innermost: bool
) -> None:
    from tests.wire.hosts.apps import fastapi_app

    app = add_all(fastapi_app(), hot, innermost=innermost)
    fields = [(b"host", b"h"), (b"origin", b"https://a.example")]
    for _ in range(2):  # what an outer middleware writes into one answer is not in the next
        answer = asyncio.run(asgi_get(app, "/hot", headers=fields))
        assert (answer.status, answer.body) == (200, BODY)
        assert answer.header("x-request-id") == ("7" if innermost else None)
        assert answer.header("access-control-allow-origin") == ("https://a.example" if innermost else None)


def test_a_guard_of_identity_keeps_a_hot_page_only_from_outside_or_by_bypass(hot: Hotpath) -> None:
    """Middleware inside never runs for a hot page (docs/how-to/put-it-around-your-app.md)."""
    from starlette.middleware.base import BaseHTTPMiddleware
    from starlette.responses import PlainTextResponse

    from tests.wire.hosts.apps import fastapi_app

    async def only_with_a_token(request: Any, call_next: Any) -> Any:
        if "authorization" not in request.headers:
            return PlainTextResponse("who?", 401)
        return await call_next(request)

    def ask(app: Any, path: str, *fields: tuple[bytes, bytes]) -> int:
        return asyncio.run(asgi_get(app, path, headers=[(b"host", b"h"), *fields])).status

    token = (b"authorization", b"Bearer x")
    inside = fastapi_app()
    inside.add_middleware(BaseHTTPMiddleware, dispatch=only_with_a_token)
    wrapped = HotpathMiddleware(inside, hot=hot)
    assert [ask(wrapped, "/hot"), ask(wrapped, "/cold"), ask(wrapped, "/cold", token)] == [200, 401, 200]
    outside = fastapi_app()
    outside.add_middleware(HotpathMiddleware, hot=hot)
    outside.add_middleware(BaseHTTPMiddleware, dispatch=only_with_a_token)
    assert [ask(outside, "/hot"), ask(outside, "/hot", token)] == [401, 200]
    passed = HotpathMiddleware(inside, hot=hot, bypass=lambda scope: True)
    assert ask(passed, "/hot") == 401


def test_a_host_that_raises_on_lifespan_still_has_its_hot_pages(hot: Hotpath) -> None:
    pytest.importorskip("django")
    app = HOSTS["django"](hot)

    async def start_and_ask() -> Response:
        async def receive() -> dict[str, Any]:
            return {"type": "lifespan.startup"}

        async def send(message: Any) -> None:
            raise AssertionError(message)

        with pytest.raises(ValueError, match="lifespan"):
            await app({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)
        return await asgi_get(app, "/hot")

    assert asyncio.run(start_and_ask()).body == BODY


def test_litestar_builds_the_class_for_each_route_and_all_share_one_site(
    hot: Hotpath, caplog: pytest.LogCaptureFixture
) -> None:
    """Registered inside, hotpath is asked after Litestar's router, and says so: GET works, HEAD is a 405 already."""
    pytest.importorskip("litestar")
    from litestar import Litestar, get
    from litestar.middleware import DefineMiddleware

    built = []

    class Counted(HotpathMiddleware):
        def __init__(self, *args: Any, **options: Any) -> None:
            built.append(self)
            super().__init__(*args, **options)

    registered: Any = Counted

    @get(["/hot", "/cold"], media_type="text/plain")
    async def page() -> str:
        return "cold"

    app: Any = Litestar([page], middleware=[DefineMiddleware(registered, hot=hot)])
    assert asyncio.run(asgi_get(app, "/hot")).body == BODY
    assert asyncio.run(asgi_get(app, "/cold")).body == b"cold"
    assert asyncio.run(asgi_get(app, "/hot", method="HEAD")).status == 405
    assert asyncio.run(asgi_get(app, "/sub/hot")).status == 404
    told = [record.getMessage() for record in caplog.records if "after its router" in record.getMessage()]
    assert len(told) == 1
    assert len(built) > 1
    assert {id(reader_of(one.hot).snapshot) for one in built} == {id(reader_of(hot).snapshot)}


def test_any_number_of_instances_share_one_snapshot_and_one_watcher(hot: Hotpath) -> None:
    apps = [HotpathMiddleware(HOSTS["bare"](hot), hot=hot) for _ in range(20)]
    before = threading.active_count()
    answers = [asyncio.run(asgi_get(app, "/hot")) for app in apps]
    assert {answer.body for answer in answers} == {BODY}
    assert len({id(reader_of(app.hot).snapshot) for app in apps}) == 1
    # The threads of each event loop end with it, a moment later.
    await_true(lambda: threading.active_count() - before <= 2)  # one thread that watches, one that loads
