"""A front and apps on loopback: threads for what is quick, raw sockets on both sides for what no library sends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import uvicorn

from hotpath.front.address import Address
from hotpath.front.exact import ExactProtocol
from hotpath.front.forward import Forward
from hotpath.front.upstream import Upstream
from hotpath.types import ASGIApp, Receive, Scope, Send

ROOT = Path(__file__).parents[2]
SECONDS = 10.0


class Served:
    """An ASGI app on uvicorn in a thread, on a port of loopback or a Unix socket."""

    def __init__(self, app: ASGIApp, path: Path | None = None, *, port: int = 0, **options: Any) -> None:
        self.path = path
        if path is None:
            self._socket = socket.create_server(("127.0.0.1", port))
        else:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.bind(str(path))
            self._socket.listen(100)
        self.port: int = 0 if path else self._socket.getsockname()[1]
        self.loop: asyncio.AbstractEventLoop
        self._ready = threading.Event()
        self._app = app
        config = uvicorn.Config(
            self.run_app,
            log_level="critical",
            lifespan="on",
            timeout_graceful_shutdown=1,
            ws="websockets-sansio",
            interface="asgi3",
            proxy_headers=False,
            **options,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)
        self._thread.start()
        assert self._ready.wait(SECONDS)

    @property
    def address(self) -> Address:
        return Address(path=str(self.path)) if self.path else Address("127.0.0.1", self.port)

    def call(self, function: Callable[[], Any]) -> Any:
        """Run a function in the server's loop."""

        async def run() -> Any:
            return function()

        return self.wait_for(run())

    def wait_for(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(SECONDS)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()
        self._socket.close()

    async def run_app(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            self.loop = asyncio.get_running_loop()
            self._ready.set()
        await self._app(scope, receive, send)


class Front(Served):
    """A front before ``address``."""

    def __init__(
        self,
        address: Address,
        *,
        http: Any = ExactProtocol,
        loop: Any = "auto",
        path: Path | None = None,
        **options: Any,
    ) -> None:
        self.upstream = Upstream(address)
        super().__init__(Forward(self.upstream, **options), path, http=http, loop=loop)

    def get(self, target: str = "/echo", **options: Any) -> Reply:
        return self.ask("GET", target, **options)

    def ask(self, method: str, target: str, fields: str = "", body: bytes = b"", seconds: float = SECONDS) -> Reply:
        """One request on a connection of its own."""
        length = f"Content-Length: {len(body)}\r\n" if body or method in ("POST", "PUT") else ""
        head = f"{method} {target} HTTP/1.1\r\nHost: site.test\r\nConnection: close\r\n{length}{fields}\r\n"
        return self.raw(head.encode("latin-1") + body, is_head=method == "HEAD", seconds=seconds)

    def raw(self, data: bytes, *, is_head: bool = False, seconds: float = SECONDS) -> Reply:
        with socket.create_connection(("127.0.0.1", self.port), seconds) as sock:
            sock.sendall(data)
            return Reply(read_all(sock), is_head=is_head)


class Reply:
    """What came back. ``is_whole``: the body is as long as its framing says."""

    def __init__(self, data: bytes, *, is_head: bool = False) -> None:
        head, _, body = data.partition(b"\r\n\r\n")
        while head.startswith(b"HTTP/1.1 1"):
            head, _, body = body.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        self.data = data
        self.status = int(lines[0].split(" ")[1]) if head else 0
        self.fields = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines[1:])]
        self.body, self.is_whole = body, True
        length = self["content-length"]
        if self["transfer-encoding"] == "chunked":
            self.body, self.is_whole = _unchunk(body)
        elif length and not is_head:
            self.is_whole = len(body) == int(length)

    def __getitem__(self, name: str) -> str | None:
        return next((value for field, value in self.fields if field == name), None)

    def all(self, name: str) -> list[str]:
        return [value for field, value in self.fields if field == name]


def _unchunk(data: bytes) -> tuple[bytes, bool]:
    body = b""
    while True:
        size, found, data = data.partition(b"\r\n")
        if not found:
            return body, False
        if int(size, 16) == 0:
            return body, data == b"\r\n"
        body, data = body + data[: int(size, 16)], data[int(size, 16) + 2 :]


def read_all(sock: socket.socket) -> bytes:
    data = b""
    with contextlib.suppress(ConnectionError):
        while chunk := sock.recv(1 << 16):
            data += chunk
    return data


class Backend:
    """A raw server: ``answer(number, data, sock)`` is called with each connection's first bytes, and then it is closed.

    ``seen`` has what came on each connection. It listens on the Unix socket ``path``, or on a port of loopback.
    """

    def __init__(
        self, answer: Callable[[int, bytes, socket.socket], None], *, reads: bool = True, path: Path | None = None
    ) -> None:
        self.seen: list[bytes] = []
        self.ended = threading.Event()
        self._answer = answer
        self._reads = reads
        if path is None:
            self._socket = socket.create_server(("127.0.0.1", 0))
            self.address = Address("127.0.0.1", self._socket.getsockname()[1])
        else:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.bind(str(path))
            self._socket.listen(100)
            self.address = Address(path=str(path))
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._socket.accept()
            except OSError:
                return
            self.seen.append(b"")
            threading.Thread(target=self._serve, args=(sock, len(self.seen) - 1), daemon=True).start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        with sock, contextlib.suppress(OSError):
            sock.settimeout(SECONDS)
            while self._reads and b"\r\n\r\n" not in self.seen[number]:
                data = sock.recv(1 << 16)
                if not data:
                    return
                self.seen[number] += data
            self._answer(number, self.seen[number], sock)
        self.ended.set()


def reset(sock: socket.socket) -> None:
    """Close with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def free_port() -> int:
    """A port below the ephemeral ones, so that no client gets it meanwhile."""
    for port in range(20000 + os.getpid() % 9000, 32000):
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")


def is_listening(address: Address) -> bool:
    with socket.socket(socket.AF_UNIX if address.path else socket.AF_INET) as sock:
        return sock.connect_ex(address.path or (address.host, address.port)) == 0


class Process:
    """The app of ``forward_app`` on uvicorn in a process of its own, which can be killed and started again."""

    def __init__(self, address: Address, *options: str) -> None:
        self.address = address
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, *, is_awaited: bool = True) -> None:
        address = self.address
        if address.path:
            Path(address.path).unlink(missing_ok=True)
        where = ["--uds", address.path] if address.path else ["--port", str(address.port)]
        command = [sys.executable, "-m", "uvicorn", "tests.front.forward_app:app", *where, *self._options]
        self._process = subprocess.Popen(
            [*command, "--log-level", "error"], cwd=ROOT, env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}
        )
        if is_awaited:
            wait_until(lambda: is_listening(address))

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(SECONDS)
            self._process = None


def wait_until(is_true: Callable[[], Any], seconds: float = SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)


@contextlib.contextmanager
def running(*parts: Any) -> Iterator[Any]:
    """Stop all of them at the end, the first one first."""
    try:
        yield parts
    finally:
        for part in parts:
            part.stop()
