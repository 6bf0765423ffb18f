"""uvicorn with hits in its protocol: who is asked, and that everything else stays uvicorn's."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Mount
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from hotpath.asgi.middleware import HotpathMiddleware
from hotpath.front.protocol import middleware_of
from tests.front.ways import behind_uvicorn, listen, port_of, talk, with_protocol, without_date
from tests.wire.conformance.cases import APP, PAGES
from tests.wire.conformance.site import Site, the_app
from tests.wire.servers.client import Connection

HOT = b"GET /rows HTTP/1.1\r\nHost: example.org\r\n\r\n"
LAST = b"GET /rows HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n"
COLD = b"GET /cold HTTP/1.1\r\nHost: example.org\r\n\r\n"
BODY = PAGES["/rows"].body


class Counting(HotpathMiddleware):
    """Counts the requests that come as far as ASGI."""

    asked = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked += scope["type"] == "http"
        await super().__call__(scope, receive, send)


def test_a_hit_never_comes_to_asgi(site: Site) -> None:
    app = Counting(the_app, hot=site.hot)
    with with_protocol(app) as port, Connection(port) as connection:
        for _ in range(3):
            assert connection.ask(HOT).body == BODY
        assert app.asked == 0
        assert connection.ask(COLD).status == APP
        assert app.asked == 1
        assert connection.ask(HOT).body == BODY
        assert app.asked == 1


def test_requests_written_at_once_are_answered_in_order(site: Site) -> None:
    targets = ["/digits", "/rows", "/cold", "/digits", "/rows"]
    app = Counting(the_app, hot=site.hot)
    with with_protocol(app) as port, Connection(port) as connection:
        connection.send(b"".join(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % target.encode() for target in targets))
        answers = [connection.read() for _ in targets]
        assert app.asked == 3, "from the cold one on all are uvicorn's"
        assert connection.ask(HOT).body == BODY
        assert app.asked == 3
    assert [answer.body for answer in answers] == [PAGES[t].body if t in PAGES else b"app" for t in targets]


def test_a_head_with_the_fields_of_the_one_before_may_be_split_anywhere(site: Site) -> None:
    """Half of it may end where the target of a hot page does."""
    for data in (HOT + LAST, HOT.replace(b"/rows", b"/rows-of-the-app") + LAST):
        with with_protocol(site.app) as port:
            whole = without_date(talk(port, HOT, data))
            for place in (*range(1, 20), len(HOT) - 1):
                assert without_date(talk(port, HOT, data[:place], data[place:], pause=0.003)) == whole, place


@pytest.mark.parametrize("data", [HOT + LAST, COLD + LAST, HOT + COLD + LAST], ids=["hot", "cold", "both"])
def test_a_head_may_be_split_at_every_byte(site: Site, data: bytes) -> None:
    with with_protocol(site.app) as port, behind_uvicorn(site.app) as reference:
        whole = without_date(talk(reference, data))
        for place in range(1, len(data), 3):
            assert without_date(talk(port, data[:place], data[place:])) == whole, place


def test_a_hot_head_behind_half_a_request_waits_for_it(site: Site) -> None:
    """Not answered out of order, nor taken for a request where it is a body."""
    form = b"POST /cold HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(HOT)
    with with_protocol(site.app) as port, Connection(port) as connection:
        connection.send(form)
        connection.send(HOT)
        assert connection.read().status == APP
        assert connection.is_quiet()
        connection.send(b"POST /cold HT")
        connection.send(b"TP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n" + HOT)
        assert [connection.read().status, connection.read().status] == [APP, 200]


def test_a_site_with_bypass_or_an_observer_sees_each_request(site: Site) -> None:
    seen: list[Any] = []
    for options in ({"bypass": lambda scope: False}, {"observe": seen.append}):
        app = Counting(the_app, hot=site.hot, **options)
        with with_protocol(app) as port:
            assert talk(port, LAST).endswith(BODY)
        assert app.asked == 1
    assert len(seen) == 1


def test_the_middleware_is_found_where_nothing_stands_before_it(site: Site) -> None:
    hot = HotpathMiddleware(the_app, hot=site.hot)
    assert middleware_of(hot) is hot
    assert middleware_of(ProxyHeadersMiddleware(hot)) is hot  # type: ignore[arg-type]
    assert middleware_of(GZipMiddleware(hot)) is None, "it changes answers"
    assert middleware_of(the_app) is None
    starlette = Starlette(routes=[Mount("/", the_app)], middleware=[Middleware(HotpathMiddleware, hot=site.hot)])
    assert middleware_of(starlette) is None, "its layers are made at its start"
    starlette.middleware_stack = starlette.build_middleware_stack()
    assert isinstance(middleware_of(starlette), HotpathMiddleware)
    behind = FastAPI()
    behind.add_middleware(HotpathMiddleware, hot=site.hot)
    behind.add_middleware(GZipMiddleware)
    behind.middleware_stack = behind.build_middleware_stack()
    assert middleware_of(behind) is None


def test_an_app_that_has_its_middleware_elsewhere_is_served_as_ever(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    asked = []

    class Seeing(Counting):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            asked.append(scope["type"])
            await super().__call__(scope, receive, send)

    app = FastAPI()
    app.add_middleware(Seeing, hot=site.hot)
    app.mount("/", the_app)
    with with_protocol(app) as port:
        for _ in range(2):
            assert talk(port, LAST).endswith(BODY)
    assert asked.count("http") == 2
    assert caplog.text.count("answers nothing early") == 1


def test_a_starlette_app_with_the_middleware_added(site: Site) -> None:
    app = Starlette(routes=[Mount("/", the_app)], middleware=[Middleware(Counting, hot=site.hot)])
    with with_protocol(app) as port:
        assert talk(port, LAST).endswith(BODY)
        counting = middleware_of(app)
        assert isinstance(counting, Counting)
        assert counting.asked == 0


def test_an_app_without_hotpath_is_served_as_ever() -> None:
    with with_protocol(the_app) as port, Connection(port) as connection:
        assert connection.ask(HOT).status == APP


def test_a_root_path_is_left_to_the_middleware(site: Site) -> None:
    with with_protocol(site.app, root_path="/sub") as port:
        assert talk(port, LAST).endswith(BODY)


def test_the_access_log_of_uvicorn_has_each_hit(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "uvicorn.access")
    lines = []
    for way in (with_protocol, behind_uvicorn):
        caplog.clear()
        with way(site.app, access_log=True) as port:
            talk(port, b"GET /caf%C3%A9?utm_source=x HTTP/1.1\r\nHost: a\r\n\r\n" + LAST)
        texts = [record.getMessage() for record in caplog.records if record.name == "uvicorn.access"]
        lines.append([text.partition(" - ")[2] for text in texts])
    assert lines[0] == lines[1]
    assert len(lines[0]) == 2


def test_a_slow_reader_takes_uvicorns_way(site: Site) -> None:
    """No more than the transport buffers is kept for a client that reads nothing."""
    with with_protocol(site.app) as port, socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(1)
        with contextlib.suppress(TimeoutError):
            for _ in range(10_000):
                client.sendall(HOT * 10)
        data = client.recv(100)
        assert data.startswith(b"HTTP/1.1 200 OK")


@pytest.fixture
def h11_port(site: Site, tmp_path: Path) -> Iterator[int]:
    """A server where httptools is not installed."""
    code = (
        "import sys; sys.modules['httptools'] = None\n"
        "import uvicorn\n"
        "from pathlib import Path\n"
        "from hotpath import Hotpath, HotpathMiddleware\n"
        "from hotpath.front.protocol import HotpathProtocol\n"
        "from tests.wire.conformance.site import the_app\n"
        f"app = HotpathMiddleware(the_app, hot=Hotpath({str(site.hot.store.root)!r}))\n"
        "uvicorn.run(app, http=HotpathProtocol, fd=int(sys.argv[1]), log_level='error')\n"
    )
    with listen() as listener:
        os.set_inheritable(listener.fileno(), True)
        root = Path(__file__).parents[2]
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(listener.fileno())],
            pass_fds=[listener.fileno()],
            env={**os.environ, "PYTHONPATH": f"{root}:{root / 'src'}"},
        )
        yield port_of(listener)
        process.terminate()
        process.wait(10)


def test_the_same_with_h11(h11_port: int) -> None:
    with Connection(h11_port, timeout_seconds=20) as connection:
        targets = ["/digits", "/rows", "/cold", "/digits", "/rows"]
        connection.send(b"".join(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % target.encode() for target in targets))
        answers = [connection.read() for _ in targets]
        assert [answer.body for answer in answers] == [PAGES[t].body if t in PAGES else b"app" for t in targets]
        connection.send(HOT[:20])
        connection.send(HOT[20:] + HOT)
        assert [connection.read().body, connection.read().body] == [BODY, BODY]
        assert connection.ask(LAST).body == BODY
        assert connection.is_quiet(1)


def test_nothing_is_loaded_for_who_does_not_use_it() -> None:
    code = "import hotpath, sys; assert not [name for name in sys.modules if name.startswith('hotpath.front')]"
    subprocess.run([sys.executable, "-c", code], check=True)
