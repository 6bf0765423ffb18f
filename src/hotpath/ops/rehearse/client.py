"""An open-loop client: each request is sent when it is due, however slow answers are, and its time counts from then.

A closed-loop client waits for an answer before it asks again, so a server that stands still is asked nothing and looks
fast ("coordinated omission", Gil Tene). Plain asyncio protocols with kept-alive connections.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from hotpath.ops.rehearse.outcomes import RESET, TIMED_OUT

# Open connections; a request that is due when all are busy waits for one, and its time counts.
MAX_CONNECTIONS: Final = 512
# Interval of looking for what is due: the error of a time is at most this, so it stays below what is measured.
TICK_SECONDS: Final = 0.001
_MAX_HEAD_BYTES: Final = 64 * 1024

Done = Callable[[int, float, int, float], None]


@dataclass(frozen=True, slots=True)
class DueRequest:
    """A request that is due ``at`` seconds after the start, of the page with this number."""

    at: float
    page: int


@dataclass(slots=True)
class _Ask:
    page: int
    due: float
    was_retried: bool = False
    is_done: bool = False


class _ClientConnection(asyncio.Protocol):
    """One connection; one request at a time. What it reads of an answer is its status and where it ends."""

    def __init__(self, client: OpenLoopClient) -> None:
        self._client = client
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self.ask: _Ask | None = None
        self._status = 0
        # Bytes of the body still to come; -1 until the head is read, -2 chunked, -3 until the connection ends.
        self._left = -1
        self._keeps = True
        self._answers = 0
        self._got_bytes = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def send(self, ask: _Ask, request: bytes) -> None:
        self.ask, self._left, self._got_bytes = ask, -1, False
        if self._transport is None or self._transport.is_closing():
            self.connection_lost(None)
            return
        self._transport.write(request)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self.ask is None:  # bytes that nobody asked for
            self.close()
            return
        self._got_bytes = True
        if self._left == -3:
            return
        if self._left >= 0:
            self._take(len(data))
        else:
            self._buffer += data
            if self._left == -1 and not self._read_head():
                return
            if self._left == -2 and _chunks_end(self._buffer):
                self._left = 0
        if self._left == 0:
            self._finish(self._status)

    def _read_head(self) -> bool:
        while True:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self._buffer) > _MAX_HEAD_BYTES:
                    self.close()
                return False
            head = bytes(self._buffer[:end]).lower()
            del self._buffer[: end + 4]
            status = head[9:12]
            self._status = int(status) if status.isdigit() else 0
            if not 100 <= self._status < 200:  # 1xx: another head follows
                break
        self._keeps = b"\r\nconnection: close" not in head and head.startswith(b"http/1.1")
        place = head.find(b"\r\ncontent-length:")
        if self._status in (204, 304):
            self._left = 0
        elif place >= 0:
            length = head[place + 17 :].split(b"\r\n", 1)[0].strip()
            self._left = int(length) if length.isdigit() else 0
            self._take(len(self._buffer))
        elif b"\r\ntransfer-encoding: chunked" in head:
            self._left = -2
        else:
            self._left, self._keeps = -3, False
        return True

    def _take(self, count: int) -> None:
        """So many bytes of the body have come; more than there should be are of no answer."""
        self._keeps = self._keeps and count <= self._left
        self._left = max(0, self._left - count)

    def _finish(self, status: int) -> None:
        ask, self.ask = self.ask, None
        self._buffer.clear()
        self._answers += 1
        assert ask is not None
        self._client.answered(ask, status)
        if self._keeps:
            self._client.is_free(self)
        else:
            self.close()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        ask, self.ask = self.ask, None
        self._client.is_gone(self)
        if ask is None or ask.is_done:
            return
        if self._left == -3 and exc is None:
            self._client.answered(ask, self._status)
        elif self._answers and not self._got_bytes and not ask.was_retried:
            # The server closed a kept-alive connection while the request was on its way (RFC 9112, 9.3.1).
            ask.was_retried = True
            self._client.go(ask)
        else:
            self._client.answered(ask, RESET)


class OpenLoopClient:
    """Sends ``requests[page]`` to one address. ``done`` gets page, due time, status and seconds of each.

    ``timeout`` seconds after it was due a request is given up. One use, in one event loop.
    """

    def __init__(
        self,
        host: str,
        port: int,
        requests: Sequence[bytes],
        done: Done,
        *,
        timeout: float,
        connections: int = MAX_CONNECTIONS,
        is_tls: bool = False,
    ) -> None:
        self._host, self._port, self._requests, self._done = host, port, requests, done
        self._timeout = timeout
        self._most = connections
        self._is_tls = is_tls
        self._loop = asyncio.get_running_loop()
        self._free: list[_ClientConnection] = []
        self._all: set[_ClientConnection] = set()
        self._opening = 0
        self._waiting: deque[_Ask] = deque()
        self._asked: deque[tuple[_Ask, list[_ClientConnection]]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = 0
        self.started = self._loop.time()
        # The most that a request was sent after it was due: how far this client was behind.
        self.worst_lag_seconds = 0.0

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self._loop.time() - self.started

    async def run(self, arrivals: Iterable[DueRequest]) -> None:
        """Send all in their order, and wait for the last answer."""
        self.started = self._loop.time()
        following = iter(arrivals)
        arrival = next(following, None)
        while arrival is not None:
            now = self.elapsed
            while arrival is not None and arrival.at <= now:
                self.worst_lag_seconds = max(self.worst_lag_seconds, now - arrival.at)
                self._open += 1
                self.go(_Ask(arrival.page, arrival.at))
                arrival = next(following, None)
            self._give_up()
            if arrival is not None:
                await asyncio.sleep(max(TICK_SECONDS, min(arrival.at - self.elapsed, 0.05)))
        while self._open:
            self._give_up()
            await asyncio.sleep(0.01)
        for connection in [*self._all]:
            connection.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.sleep(0)

    def go(self, ask: _Ask) -> None:
        """Send it on a free connection, else on a new one; where there are too many, it waits."""
        holder: list[_ClientConnection] = []
        self._asked.append((ask, holder))
        self._dispatch(ask, holder)

    def _dispatch(self, ask: _Ask, holder: list[_ClientConnection]) -> None:
        if self._free:
            connection = self._free.pop()
            holder.append(connection)
            connection.send(ask, self._requests[ask.page])
        elif len(self._all) + self._opening < self._most:
            self._opening += 1
            task = self._loop.create_task(self._connect(ask, holder))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            self._waiting.append(ask)

    async def _connect(self, ask: _Ask, holder: list[_ClientConnection]) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                _, connection = await self._loop.create_connection(
                    lambda: _ClientConnection(self), self._host, self._port, ssl=self._is_tls or None
                )
        except (OSError, TimeoutError) as error:
            self._opening -= 1
            self.answered(ask, TIMED_OUT if isinstance(error, TimeoutError) else RESET)
            self._next()
            return
        self._opening -= 1
        self._all.add(connection)
        if ask.is_done:
            self.is_free(connection)
            return
        holder.append(connection)
        connection.send(ask, self._requests[ask.page])

    def is_free(self, connection: _ClientConnection) -> None:
        """It may take the next request."""
        while self._waiting:
            ask = self._waiting.popleft()
            if not ask.is_done:
                self._asked.append((ask, [connection]))
                connection.send(ask, self._requests[ask.page])
                return
        self._free.append(connection)

    def is_gone(self, connection: _ClientConnection) -> None:
        """It has ended."""
        self._all.discard(connection)
        with contextlib.suppress(ValueError):
            self._free.remove(connection)
        self._next()

    def _next(self) -> None:
        while self._waiting and self._waiting[0].is_done:
            self._waiting.popleft()
        if self._waiting and len(self._all) + self._opening < self._most:
            self.go(self._waiting.popleft())

    def answered(self, ask: _Ask, status: int) -> None:
        """This is what became of it."""
        if ask.is_done:
            return
        ask.is_done = True
        self._open -= 1
        self._done(ask.page, ask.due, status, self.elapsed - ask.due)

    def _give_up(self) -> None:
        """End those that are due for too long. They are asked in the order in which they are due."""
        limit = self.elapsed - self._timeout
        while self._asked and (self._asked[0][0].is_done or self._asked[0][0].due < limit):
            ask, holder = self._asked.popleft()
            if not ask.is_done:
                self.answered(ask, TIMED_OUT)
                for connection in holder:
                    if connection.ask is ask:
                        connection.close()


def request_bytes(target: str, host: str, agent: str, fields: Sequence[tuple[str, str]] = ()) -> bytes:
    """A GET as it goes over the wire."""
    extra = "".join(f"{name}: {value}\r\n" for name, value in fields)
    text = f"GET {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\nAccept: */*\r\n{extra}\r\n"
    return text.encode("utf-8", "surrogateescape")


def _chunks_end(buffer: bytearray) -> bool:
    """Take whole chunks off the front of ``buffer``; whether the last one has come, with its trailer."""
    while True:
        line = buffer.find(b"\r\n")
        if line < 0:
            return False
        size_text = bytes(buffer[:line]).partition(b";")[0].strip()
        try:
            size = int(size_text, 16)
        except ValueError:
            return True
        if size == 0:
            return buffer.find(b"\r\n\r\n", line) == line or buffer.find(b"\r\n\r\n", line + 2) >= 0
        if len(buffer) < line + 4 + size:
            return False
        del buffer[: line + 4 + size]
