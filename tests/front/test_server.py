"""The server behind the door: adopted connections, the fields it adds, heads that take too long, its end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvloop

from hotpath.errors import HotpathError
from hotpath.front.server import FrontProtocol, FrontServer
from tests.front.ways import receive, running
from tests.wire.conformance.cases import PAGES
from tests.wire.conformance.site import Site, the_app

HOT = b"GET /rows HTTP/1.1\r\nHost: example.org\r\n\r\n"
COLD = b"GET /cold HTTP/1.1\r\nHost: example.org\r\n\r\n"
LAST = b"GET /cold HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n"
BODY = PAGES["/rows"].body


@contextlib.contextmanager
def served(app: Any, loop_factory: Any = None, **options: Any) -> Iterator[FrontServer]:
    server = FrontServer(app, ws="none", **{"drain_seconds": 2, **options})
    with running(server.serve, server.is_ready.is_set, server.begin_shutdown, loop_factory):
        yield server


def give(server: FrontServer, data: bytes) -> socket.socket:
    """The client's end of a connection that is handed over."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    server.take(theirs, data)
    return ours


def wait_for(condition: Any, seconds: float = 5.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_bytes_that_were_read_come_before_those_that_follow(site: Site, loop: Any) -> None:
    with served(site.app, loop_factory=loop) as server:
        for place in range(1, len(LAST), 5):
            ours, theirs = socket.socketpair()
            ours.sendall(LAST[place:])
            theirs.setblocking(False)
            server.take(theirs, LAST[:place])
            with ours:
                assert receive(ours, 5).startswith(b"HTTP/1.1 418"), place


def test_hot_pages_are_answered_there_too(site: Site) -> None:
    with served(site.app) as server, give(server, COLD + HOT) as client:
        client.sendall(LAST)
        assert BODY in receive(client, 5)


def test_connections_that_come_before_the_server_wait_for_it() -> None:
    server = FrontServer(the_app, ws="none", drain_seconds=2)
    with give(server, LAST) as client, running(server.serve, server.is_ready.is_set, server.begin_shutdown):
        assert receive(client, 5).startswith(b"HTTP/1.1 418")


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_kept_connection_that_its_client_resets_is_forgotten_at_once(loop: Any) -> None:
    def held() -> int:
        gc.collect()
        return sum(isinstance(each, FrontProtocol) for each in gc.get_objects())

    with served(the_app, loop_factory=loop) as server, socket.create_server(("127.0.0.1", 0)) as listener:
        before = held()
        for _ in range(20):
            with socket.create_connection(listener.getsockname()) as client:
                theirs, _ = listener.accept()
                theirs.setblocking(False)
                server.take(theirs, COLD)
                assert client.recv(12) == b"HTTP/1.1 418"
                # The rest is unread and there is no lingering: RST.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wait_for(lambda: server.open == 0)
        assert held() - before <= 1


def with_fields(*fields: tuple[bytes, bytes]) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            headers = [(b"content-length", b"0"), *fields]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b""})

    return app


@pytest.mark.parametrize("http", ["httptools", "h11"])
@pytest.mark.parametrize(
    ("fields", "dates", "servers"),
    [
        ([], 1, [b"server: uvicorn"]),
        ([(b"Date", b"then"), (b"server", b"theirs")], 1, [b"server: theirs"]),
        ([(b"date", b"then")], 1, [b"server: uvicorn"]),
    ],
)
def test_the_origins_date_and_server_stay(
    fields: list[tuple[bytes, bytes]], dates: int, servers: list[bytes], http: str
) -> None:
    """RFC 9110 §6.6.1: a proxy adds a Date where there is none, and replaces none."""
    with served(with_fields(*fields)) as server, give(server, LAST) as client:
        lines = receive(client, 5).lower().split(b"\r\n")
    assert [line for line in lines if line.startswith(b"server:")] == servers
    found = [line for line in lines if line.startswith(b"date:")]
    assert len(found) == dates
    assert (found == [b"date: then"]) is any(name.lower() == b"date" for name, _ in fields)


def test_what_is_no_request_is_refused_with_a_date() -> None:
    with served(the_app) as server, give(server, b"nonsense\r\n\r\n") as client:
        answer = receive(client, 5)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"date: ") == 1


@pytest.mark.parametrize("first", [b"", COLD], ids=["the first head", "a later one"])
def test_a_head_that_takes_too_long_ends_the_connection(first: bytes) -> None:
    with served(the_app, head_seconds=0.5) as server, give(server, first + b"POST /") as client:
        began = time.monotonic()
        for _ in range(40):
            with contextlib.suppress(OSError):
                client.sendall(b"x")
            time.sleep(0.1)
            if server.open == 0:
                break
        assert 0.4 < time.monotonic() - began < 3
        assert first == b"" or receive(client, 1).startswith(b"HTTP/1.1 418")


def test_a_slow_app_is_no_slow_head() -> None:
    async def slow(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await asyncio.sleep(1)
            await the_app(scope, receive, send)

    with served(slow, head_seconds=0.3) as server, give(server, LAST) as client:
        assert receive(client, 5).startswith(b"HTTP/1.1 418")


def test_an_idle_connection_ends() -> None:
    with served(the_app, idle_seconds=0.5) as server, give(server, COLD) as client:
        wait_for(lambda: server.open == 1)
        wait_for(lambda: server.open == 0, 3)
        assert receive(client, 1).startswith(b"HTTP/1.1 418")


def test_beyond_half_of_the_maximum_the_longest_idle_ends() -> None:
    with served(the_app, connections=8) as server, contextlib.ExitStack() as stack:
        clients = []
        for _ in range(6):
            client = stack.enter_context(give(server, COLD))
            clients.append(client)
            assert client.recv(100).startswith(b"HTTP/1.1 418")
        wait_for(lambda: server.open <= 5)
        clients[-1].sendall(LAST)
        assert b"418" in receive(clients[-1], 2)


def test_without_room_a_request_is_refused_at_once() -> None:
    release = threading.Event()

    async def hang(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await asyncio.to_thread(release.wait)

    with served(hang, connections=4) as server, contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(give(server, COLD))
        wait_for(lambda: len(server.state.tasks) == 4)
        more = stack.enter_context(give(server, COLD))
        answer = receive(more, 2)
        release.set()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: " in answer


def test_running_requests_are_finished_and_idle_connections_end(site: Site) -> None:
    began = threading.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] == "/cold":
            began.set()
            await asyncio.sleep(0.5)
        if scope["type"] == "http":
            await the_app(scope, receive, send)

    with served(slow) as server:
        idle = give(server, COLD.replace(b"/cold", b"/fast"))
        assert receive(idle, 0.3).startswith(b"HTTP/1.1 418")
        client = give(server, COLD)
        assert began.wait(5)
        server.begin_shutdown()
        answer = receive(client, 5)
        assert answer.startswith(b"HTTP/1.1 418")
        assert b"connection: close" in answer.lower()
        assert receive(idle, 1) == b""
        late = give(server, COLD)
        wait_for(lambda: server.open == 0)
        assert receive(late, 1)[:12] in (b"HTTP/1.1 503", b"HTTP/1.1 418", b"")
        for one in (idle, client, late):
            one.close()


def test_a_request_that_never_ends_is_cancelled_after_its_time() -> None:
    ends: list[str] = []

    async def hang(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            try:
                await asyncio.sleep(60)
            finally:
                ends.append("cancelled")

    with served(hang, drain_seconds=0.3) as server:
        client = give(server, COLD)
        wait_for(lambda: server.state.tasks)
        began = time.monotonic()
        server.begin_shutdown()
        receive(client, 5)
        client.close()
        assert time.monotonic() - began < 3
    assert ends == ["cancelled"]


def test_the_lifespan_of_the_app_runs() -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "lifespan"
        for kind in ("startup", "shutdown"):
            assert (await receive())["type"] == f"lifespan.{kind}"
            seen.append(kind)
            await send({"type": f"lifespan.{kind}.complete"})

    with served(app):
        assert seen == ["startup"]
    assert seen == ["startup", "shutdown"]


def test_an_app_that_does_not_start_is_said() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    server = FrontServer(app, ws="none")
    early, late = give(server, COLD), socket.socketpair()
    with pytest.raises(HotpathError, match="did not start"):
        asyncio.run(server.serve())
    server.take(late[1], COLD)
    for client in (early, late[0]):
        assert receive(client, 1).startswith(b"HTTP/1.1 503 ")
        client.close()
