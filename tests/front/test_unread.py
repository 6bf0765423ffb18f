"""An app that dies before it has read a request: by a Unix socket the kernel tells, and such a request was not sent."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import select
import socket
import threading
from pathlib import Path

import pytest

from hotpath.front.address import Address
from hotpath.front.forward import Forward
from hotpath.front.upstream import Upstream
from tests.front.forwarding import SECONDS, Backend, Front, Reply, read_all, running, wait_until
from tests.front.test_forward_websockets import run, socket_to
from tests.front.ways import front
from tests.wire.conformance.site import Site

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nEND"


class App(Backend):
    """What it does with each request, one after the other: it closes the connection before it reads ("unread"), within
    the head ("half") or afterwards ("read"), or answers. The last step is that of all that follow.
    """

    def __init__(self, path: Path | None, *steps: str) -> None:
        self.steps = list(steps)
        self.done: list[str] = []
        self._lock = threading.Lock()
        super().__init__(self._take_steps, reads=False, path=path)

    def _next(self) -> str:
        with self._lock:
            step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
            self.done.append(step)
            return step

    def _take_steps(self, number: int, nothing: bytes, sock: socket.socket) -> None:
        while select.select([sock], [], [], SECONDS)[0] and sock.recv(1, socket.MSG_PEEK):
            step = self._next()
            if step == "half":
                sock.recv(4)
            if step in ("unread", "half"):
                return
            data = b""
            while b"\r\n\r\n" not in data:
                data += sock.recv(1 << 16)
            if step == "read":
                return
            if step == "switch":
                sock.sendall(switched(data))
                while sock.recv(1 << 16):
                    pass
                return
            sock.sendall(OK.removesuffix(b"END") if data.startswith(b"HEAD") else OK)


def switched(head: bytes) -> bytes:
    """To a WebSocket that says one word."""
    key = head.partition(b"Sec-WebSocket-Key: ")[2].split(b"\r\n")[0]
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    fields = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + accept
    return b"HTTP/1.1 101 Switching Protocols\r\n" + fields + b"\r\n\r\n\x81\x02hi"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.sock"


@pytest.mark.parametrize(
    ("method", "body", "steps", "status"),
    [
        ("GET", b"", ["unread", "read", "answer"], 200),
        ("GET", b"", ["half", "read", "read"], 502),
        ("HEAD", b"", ["half", "read", "answer"], 200),
        ("POST", b"", ["half", "answer"], 200),
        ("POST", b"", ["unread", "read"], 502),
        # Of one with a body the head may have been read while the rest was not.
        ("POST", b"x", ["unread"], 502),
        ("PUT", b"x", ["half"], 502),
    ],
)
def test_what_nobody_has_read_was_not_sent(path: Path, method: str, body: bytes, steps: list[str], status: int) -> None:
    app = App(path, *steps)
    with running(Front(app.address, loop="asyncio"), app) as (place, _):
        assert place.ask(method, "/", body=body).status == status
        assert app.done == steps
        assert place.upstream.counters.bad_gateway == (status == 502)
        assert place.upstream.in_flight == 0


def test_by_tcp_nobody_can_tell() -> None:
    app = App(None, "unread", "unread", "answer")
    with running(Front(app.address), app) as (place, _):
        assert place.get("/").status == 502
        assert app.done == ["unread"] * 2


def test_an_app_that_reads_nothing_is_an_app_that_is_not_there(path: Path) -> None:
    app = App(path, *["unread"] * 5, "answer")
    with running(Front(app.address), app) as (place, _):
        assert place.get("/").status == 200
        assert app.done == [*["unread"] * 5, "answer"]
        assert place.upstream.counters.held > 0


def test_nobody_waits_for_it_longer_than_the_hold(path: Path) -> None:
    app = App(path, "unread")
    with running(Front(app.address, hold_seconds=1.0), app) as (place, _):
        assert [place.ask(method, "/").status for method in ("GET", "POST")] == [503] * 2
        assert len(app.done) < 30


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_kept_connection_that_is_reset_stops_nobody_else(path: Path, loop: str) -> None:
    app = App(path, "answer", "unread", "read", "answer")
    with running(Front(app.address, loop=loop), app) as (place, _):
        assert [place.get("/").status for _ in range(3)] == [200] * 3
        assert app.done == ["answer", "unread", "read", "answer", "answer"]
        assert (place.upstream.counters.held, place.upstream.counters.retried) == (0, 2)


def test_the_short_way_tells_it_too(path: Path, site: Site) -> None:
    app = App(path, "answer", "unread", "read", "answer")
    forward = Forward(Upstream(app.address))
    with running(app), front(forward, site.hot) as (_, _, port), socket.create_connection(("127.0.0.1", port)) as sock:
        sock.settimeout(SECONDS)
        for _ in range(3):
            sock.sendall(b"GET /cold HTTP/1.1\r\nHost: a\r\n\r\n")
            data = b""
            while not data.endswith(b"END"):
                data += sock.recv(1 << 16)
            assert data.startswith(b"HTTP/1.1 200 ")
        assert app.done == ["answer", "unread", "read", "answer", "answer"]
        wait_until(lambda: not forward.upstream.in_flight)


def test_half_an_answer_is_no_sign_of_it(path: Path) -> None:
    """An app that answers before it has read is one that has seen the request, or had seen enough."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(10)
        asked = []

        def serve() -> None:
            for _ in range(2):
                sock, _ = listener.accept()
                select.select([sock], [], [], SECONDS)
                asked.append(sock.recv(1))
                sock.sendall(b"HTTP/1.1 200 OK\r\nConte")
                sock.close()

        thread = threading.Thread(target=serve)
        thread.start()
        with running(Front(Address(path=str(path)))) as (place,):
            assert place.get("/").status == 502
        thread.join(SECONDS)
        assert asked == [b"G"] * 2


@pytest.mark.parametrize(
    ("steps", "is_open"),
    [
        (["unread", "read", "switch"], True),
        (["half", "unread", "unread", "read", "switch"], True),
        (["read", "unread", "read"], False),
    ],
)
def test_a_handshake_that_nobody_has_read_was_not_sent(path: Path, steps: list[str], is_open: bool) -> None:
    app = App(path, *steps)
    words: list[str] = []

    async def test() -> None:
        with contextlib.suppress(*(() if is_open else (Exception,))):
            async with asyncio.timeout(SECONDS), socket_to(place) as websocket:
                words.append(await websocket.receive_str())

    with running(Front(app.address), app) as (place, _):
        run(test)
        assert app.done == steps
    assert words == (["hi"] if is_open else [])


def test_who_was_in_the_app_when_it_died_goes_before_who_came_later(path: Path) -> None:
    order: list[str] = []
    gate = threading.Event()

    def ask(place: Front, target: str) -> None:
        with socket.create_connection(("127.0.0.1", place.port), SECONDS) as sock:
            sock.sendall(f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
            Reply(read_all(sock))

    def die_at_once() -> None:
        """The first request is read, and the app dies when all the others are in the front."""
        sock, _ = listener.accept()
        sock.recv(1 << 16)
        listener.close()
        gate.wait(SECONDS)
        sock.close()

    def answer() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=answer_one, args=(again.accept()[0],), daemon=True).start()

    def answer_one(sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            if data := sock.recv(1 << 16):
                order.append(data.split()[1].decode())
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(10)
    dying = threading.Thread(target=die_at_once)
    dying.start()
    with running(Front(Address(path=str(path)), in_flight=1)) as (place,):
        clients = [threading.Thread(target=ask, args=(place, "/first"))]
        clients[0].start()
        wait_until(lambda: place.upstream.in_flight == 1)
        for number in range(4):
            clients.append(threading.Thread(target=ask, args=(place, f"/later{number}")))
            clients[-1].start()
        wait_until(lambda: place.upstream.queued == 4)
        gate.set()
        wait_until(lambda: place.upstream.queued == 5)
        path.unlink()
        with socket.socket(socket.AF_UNIX) as again:
            again.bind(str(path))
            again.listen(10)
            threading.Thread(target=answer, daemon=True).start()
            for client in clients:
                client.join(SECONDS)
            again.shutdown(socket.SHUT_RDWR)
    dying.join(SECONDS)
    assert order[0] == "/first"
    assert sorted(order) == ["/first", *(f"/later{number}" for number in range(4))]
