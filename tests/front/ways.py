"""Ways into one site in this process: the door with its server behind it, uvicorn's protocols, and uvicorn alone."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn

from hotpath.front.door import Door
from hotpath.front.hits import Hits, Opening
from hotpath.front.protocol import HotpathProtocol
from hotpath.front.server import FrontServer
from hotpath.site import Hotpath

START_SECONDS = 20.0

_DATE = re.compile(rb"date: [^\r\n]*\r\n", re.IGNORECASE)


def listen(backlog: int = 1024) -> socket.socket:
    return socket.create_server(("127.0.0.1", 0), backlog=backlog)


def port_of(listener: socket.socket) -> int:
    port: int = listener.getsockname()[1]
    return port


@contextlib.contextmanager
def running(
    serve: Callable[[], Any],
    is_ready: Callable[[], bool],
    stop: Callable[[], None],
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> Iterator[None]:
    """A server's coroutine on a loop of its own in a thread."""

    def run() -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    for _ in range(int(START_SECONDS * 100)):
        if is_ready():
            break
        threading.Event().wait(0.01)
    assert is_ready()
    try:
        yield
    finally:
        stop()
        thread.join(START_SECONDS)
        assert not thread.is_alive()


@contextlib.contextmanager
def front(app: Any, hot: Hotpath, **options: Any) -> Iterator[tuple[Door, FrontServer, int]]:
    """A door and the server behind it; ``options`` are the door's, and the server's where it has them too."""
    times = {name: options[name] for name in ("head_seconds", "idle_seconds") if name in options}
    server = FrontServer(app, ws="none", drain_seconds=2, **times)
    with listen() as listener, running(server.serve, server.is_ready.is_set, server.begin_shutdown):
        door = Door(hot, [listener], server.take, **options)
        door.start()
        try:
            yield door, server, port_of(listener)
        finally:
            door.stop(2)


@contextlib.contextmanager
def behind_uvicorn(app: Any, http: Any = "httptools", **options: Any) -> Iterator[int]:
    """uvicorn as it comes, or with another protocol."""
    options = {"access_log": False, "log_config": None, "timeout_graceful_shutdown": 2, **options}
    config = uvicorn.Config(app, http=http, ws="none", **options)
    server = uvicorn.Server(config)

    def stop() -> None:
        server.should_exit = True

    with listen() as listener, running(lambda: server.serve([listener]), lambda: server.started, stop):
        yield port_of(listener)


def with_protocol(app: Any, **options: Any) -> contextlib.AbstractContextManager[int]:
    return behind_uvicorn(app, HotpathProtocol, **options)


def by_the_door(hits: Hits, data: bytes) -> tuple[bytes, int, bool, int]:
    """What a door sends for ``data``, how much of it was understood, whether it closes then, and how many heads."""
    written, start = b"", 0
    for count in itertools.count():
        head = hits.blocks.read(data, start)
        answer = hits.find(head) if head is not None else None
        if head is None or answer is None:
            return written, start, False, count
        written += Opening().head(answer, head.meaning.closes) + (answer.body if head.method == "GET" else b"")
        start = head.end
        if head.meaning.closes:
            return written, start, True, count + 1
    raise AssertionError


def talk(port: int, *parts: bytes, seconds: float = 5.0, pause: float = 0.0) -> bytes:
    """Everything that comes back on one connection, which the client ends for its part once it is silent.

    ``parts`` are sent one after the other; an answer is over when nothing has come for a moment or the server closes.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in parts:
            with contextlib.suppress(ConnectionError):  # the server has ended it, and said what it had to say
                sock.sendall(part)
            time.sleep(pause)
        return receive(sock, seconds)


def receive(sock: socket.socket, seconds: float) -> bytes:
    """What comes until the server closes, or is silent for so long."""
    sock.settimeout(seconds)
    data = b""
    with contextlib.suppress(TimeoutError, ConnectionResetError):
        while more := sock.recv(262_144):
            data += more
    return data


def without_date(data: bytes) -> bytes:
    return _DATE.sub(b"", data)
