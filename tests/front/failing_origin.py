"""An origin that fails in every way: a raw asyncio server whose answers are bytes and an ending."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Literal

SECONDS = 10.0
# Connections that fill the queue of a socket with listen(0), so that the kernel answers nobody else.
FILLERS = 4

Ending = Literal["keep", "close", "reset", "hang"]


@dataclass(frozen=True, slots=True)
class Script:
    """What comes on the wire after a request: ``data``, then how the connection goes on.

    ``delay`` is the wait before the first byte and ``seconds_per_byte`` the wait between bytes.
    """

    data: bytes = b""
    then: Ending = "keep"
    delay: float = 0.0
    seconds_per_byte: float = 0.0


@dataclass(frozen=True, slots=True)
class Request:
    """What came, and when (``time.monotonic``)."""

    at: float
    method: str
    target: str
    fields: Mapping[str, str]
    body: bytes = b""


def answer(
    body: bytes = b"",
    fields: Mapping[str, str] | tuple[tuple[str, str], ...] = (),
    status: int = 200,
    *,
    length: int | None = None,
    then: Ending = "keep",
    delay: float = 0.0,
) -> Script:
    """A whole answer; with ``length`` one whose Content-Length says so."""
    pairs = fields.items() if isinstance(fields, Mapping) else fields
    lines = [f"HTTP/1.1 {status} {_phrase(status)}", *(f"{name}: {value}" for name, value in pairs)]
    if status not in (204, 304):
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    return Script("\r\n".join([*lines, "", ""]).encode("latin-1") + body, then, delay)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


@dataclass(slots=True)
class Origin:
    """The server, in a thread of its own, on a port of loopback that it keeps for its whole life.

    ``reply`` is called with each request in the server's loop; ``scripts`` by target go before it. ``seen`` has every
    request that came.
    """

    reply: Callable[[Request], Script] = lambda request: answer(b"none", status=404)
    scripts: dict[str, Script] = field(default_factory=dict)
    port: int = 0
    seen: list[Request] = field(default_factory=list)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _black_hole: list[socket.socket] = field(default_factory=list)
    _thread: threading.Thread | None = None

    def start(self) -> Origin:
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.listen()
        return self

    def stop(self) -> None:
        self.refuse()
        self._loop.call_soon_threadsafe(self._loop.stop)
        assert self._thread is not None
        self._thread.join(SECONDS)
        self._loop.close()

    def listen(self) -> None:
        """Accept connections; nothing changes if it does so already."""
        self._run(self._listen)

    def refuse(self) -> None:
        """Close the port, and reset all connections."""
        self._run(self._refuse)

    def be_black_hole(self) -> None:
        """Keep the port, but let no connection come about: the queue of the socket is full."""
        self.refuse()
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(0)
        self._black_hole = [listener]
        for _ in range(FILLERS):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", self.port))
            self._black_hole.append(filler)

    def asked(self, target: str) -> list[Request]:
        """What came for a target."""
        return [request for request in self.seen if request.target == target]

    def _run(self, function: Callable[[], Awaitable[None]]) -> None:
        async def run() -> None:
            await function()

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(SECONDS)

    async def _listen(self) -> None:
        if self._server is not None:
            return
        self._leave_black_hole()
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port, backlog=1000)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _refuse(self) -> None:
        self._leave_black_hole()
        if self._server is not None:
            # Python 3.11 loses the socket of a connection that was accepted, but has no transport yet, when a server
            # closes.
            for sock in self._server.sockets:
                self._loop.remove_reader(sock.fileno())
            for _ in range(3):
                await asyncio.sleep(0)
            self._server.close()
            self._server = None
        for task in self._tasks:
            task.cancel()
        for writer in self._writers:
            _reset(writer)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _leave_black_hole(self) -> None:
        while self._black_hole:
            self._black_hole.pop().close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._one(reader, writer):
                    pass
        finally:
            self._tasks.discard(task)
            self._writers.discard(writer)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and what follows; whether the connection stays."""
        request = await _read(reader)
        self.seen.append(request)
        script = self.scripts.get(request.target) or self.reply(request)
        data = script.data
        if request.method == "HEAD" and script.then == "keep":
            data = data.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        if script.delay:
            await asyncio.sleep(script.delay)
        if script.seconds_per_byte:
            for number in range(len(data)):
                writer.write(data[number : number + 1])
                await writer.drain()
                await asyncio.sleep(script.seconds_per_byte)
        else:
            writer.write(data)
        await writer.drain()
        if script.then == "hang":
            await reader.read()  # until the other side has had enough
        if script.then == "reset":
            _reset(writer)
        return script.then == "keep" and request.fields.get("connection", "").lower() != "close"


async def _read(reader: asyncio.StreamReader) -> Request:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    method, target, _ = first.split(" ", 2)
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    request = Request(time.monotonic(), method, target, fields)
    if length := int(fields.get("content-length", "0")):
        return replace(request, body=await reader.readexactly(length))
    if "transfer-encoding" in fields:
        return replace(request, body=await reader.readuntil(b"0\r\n\r\n"))
    return request


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST."""
    sock = writer.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
