"""The event loop's side of the front: uvicorn's protocol on connections that the door hands over."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections import deque
from typing import Any, Final

from uvicorn.config import Config
from uvicorn.server import ServerState

from hotpath.asgi.last_good.middleware import LastGood
from hotpath.errors import HotpathError
from hotpath.front.express import ExpressProtocol
from hotpath.front.forward import Forward
from hotpath.front.protocol import HotpathProtocol
from hotpath.serving.rfc9110 import format_http_date
from hotpath.types import ASGIApp, Header

TICK_SECONDS: Final = 1.0
# Between two looks at whether the last request has ended.
DRAIN_LOOK_SECONDS: Final = 0.05

# For whom there is no room, beside the connections that wait for a loop that is busy.
_BUSY: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\ncache-control: no-store\r\nretry-after: 5\r\n"
    b"connection: close\r\n\r\n"
)


class FrontServer:
    """Serves ``app`` on connections that others accepted: no socket of its own.

    At most ``connections`` at a time; beyond half of them an idle one ends for each that comes. A request head must be
    whole within ``head_seconds``, and a connection without a request ends after ``idle_seconds``. On shutdown running
    requests have ``drain_seconds``. ``options`` are those of ``uvicorn.Config``.

    ``Date`` and ``Server`` are added to answers of the app that have none.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        connections: int = 4096,
        head_seconds: float = 10,
        idle_seconds: float = 75,
        drain_seconds: float = 30,
        **options: Any,
    ) -> None:
        defaults: dict[str, Any] = {"log_config": None, "access_log": False, "proxy_headers": False}
        self.head_seconds = head_seconds
        self.state = ServerState()
        # Those without a request, the longest idle first.
        self.idle: dict[FrontProtocol, None] = {}
        self.is_ready = threading.Event()
        self._config = Config(app, http=HotpathProtocol, **{**defaults, **options})
        self._config.timeout_keep_alive = idle_seconds  # type: ignore[assignment] # call_later takes it as it is
        self._connections = connections
        self._drain_seconds = drain_seconds
        self._arriving: deque[tuple[socket.socket, bytes]] = deque()
        self._adoptions: set[asyncio.Task[None]] = set()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._app_state: dict[str, Any] = {}
        self._is_leaving = False
        self._leave = asyncio.Event()

    @property
    def open(self) -> int:
        """Connections that are here or on their way."""
        return len(self.state.connections) + len(self._arriving) + len(self._adoptions)

    def take(self, sock: socket.socket, data: bytes) -> None:
        """Serve a non-blocking socket from which ``data`` was read. From any thread, also before ``serve``."""
        with self._lock:
            is_refused = self._is_leaving and self._loop is None
            is_refused = is_refused or len(self._arriving) >= self._connections
            if not is_refused:
                self._arriving.append((sock, data))
                if self._loop is not None:
                    self._loop.call_soon_threadsafe(self._adopt)
        if is_refused:
            _refuse(sock)

    def begin_shutdown(self) -> None:
        """Let ``serve`` end once running requests have, or their time is up. From any thread."""
        with self._lock:
            self._is_leaving = True
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._leave.set)

    async def serve(self) -> None:
        """Run the lifespan and serve until ``begin_shutdown``. Raises ``HotpathError`` if the app does not start."""
        config = self._config
        if not config.loaded:
            config.load()
        lifespan = config.lifespan_class(config)
        await lifespan.startup()
        if lifespan.should_exit:
            self._close_arriving()
            raise HotpathError("the app did not start: its lifespan failed; the log of uvicorn says why")
        self._app_state = lifespan.state
        self._tick()
        with self._lock:
            self._loop = asyncio.get_running_loop()
            for _ in self._arriving:
                self._loop.call_soon(self._adopt)
            if self._is_leaving:
                self._leave.set()
        self.is_ready.set()
        try:
            while not self._leave.is_set():
                self._tick()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._leave.wait(), TICK_SECONDS)
            await self._drain()
        finally:
            self._close_arriving()
            await lifespan.shutdown()

    def protocol(self, data: bytes) -> FrontProtocol:
        """One more connection, whose first bytes were read already."""
        return FrontProtocol(self, self._config, self._app_state, data)

    def _tick(self) -> None:
        date = (b"date", format_http_date(int(time.time())))
        self.state.default_headers = DefaultHeaders([date, *self._config.encoded_headers])

    def _adopt(self) -> None:
        if not self._arriving:
            return
        sock, data = self._arriving.popleft()
        count = len(self.state.connections)
        if count >= self._connections // 2 and self.idle:
            next(iter(self.idle)).transport.close()
        elif count >= self._connections:
            _refuse(sock)
            return
        task = asyncio.get_running_loop().create_task(self._connect(sock, data))
        self._adoptions.add(task)
        task.add_done_callback(self._adoptions.discard)

    async def _connect(self, sock: socket.socket, data: bytes) -> None:
        try:
            _, protocol = await asyncio.get_running_loop().connect_accepted_socket(lambda: self.protocol(data), sock)
        except OSError:  # the client is gone
            sock.close()
            return
        if self._leave.is_set():
            protocol.shutdown()

    async def _drain(self) -> None:
        """Close what is idle, wait for what runs, and end the rest."""
        until = time.monotonic() + self._drain_seconds
        for connection in [*self.state.connections]:
            connection.shutdown()
        while (self.open or self.state.tasks) and time.monotonic() < until:
            await asyncio.sleep(DRAIN_LOOK_SECONDS)
            self._tick()
        for task in self.state.tasks | self._adoptions:
            task.cancel()
        for connection in [*self.state.connections]:
            transport = connection.transport
            if transport is not None:
                transport.abort()
        if self.state.tasks:
            await asyncio.wait([*self.state.tasks], timeout=1)

    def _close_arriving(self) -> None:
        with self._lock:
            self._is_leaving, self._loop = True, None
        while self._arriving:
            _refuse(self._arriving.popleft()[0])


class FrontProtocol(HotpathProtocol, ExpressProtocol):
    """A connection that begins in the middle, with a time limit for its heads."""

    def __init__(self, front: FrontServer, config: Config, app_state: dict[str, Any], data: bytes) -> None:
        super().__init__(config, front.state, app_state)
        self._front = front
        self._first = data
        self._head_timer: asyncio.TimerHandle | None = None
        if self._early is not None:
            app = self._early.middleware.app
            if isinstance(app, LastGood):
                self.cache, app = app, app.app
            if isinstance(app, Forward):
                self.forward, self.hits = app, self._early.hits

    @property
    def is_idle(self) -> bool:
        """As ``HotpathProtocol``; a request on the short way is one too."""
        return not self.is_under_way and super().is_idle

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in uvicorn
        """Receive what the door has read, before anything else comes."""
        super().connection_made(transport)
        data, self._first = self._first, b""
        if data:
            self.data_received(data)
        else:
            self.note()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection, now: uvicorn's timer of a kept one that is reset holds it until its time is up."""
        self._set_head_timer(False)
        self._unset_keepalive_if_required()
        self._front.idle.pop(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """As uvicorn, but for what can go the short way, and see whether a head is still incomplete."""
        if self.take_short_way(data):
            self._front.idle.pop(self, None)
        else:
            super().data_received(data)
            self.note()

    def on_response_complete(self) -> None:
        """As uvicorn, and see whether the connection is idle now."""
        super().on_response_complete()
        self.note()

    def note(self) -> None:
        """Keep the place in ``idle`` and the timer of a head as the connection is now."""
        self._front.idle.pop(self, None)
        is_ours = not self.transport.is_closing() and self.transport.get_protocol() is self
        is_waiting = is_ours and not self.is_under_way and (self.cycle is None or self.cycle.response_complete)
        if is_waiting:
            self._front.idle[self] = None
        self._set_head_timer(is_waiting and not self.is_idle)

    def note_idle(self) -> None:
        """The short way leaves nothing of another request behind."""
        if not self.transport.is_closing():
            self._front.idle[self] = None

    def is_between_requests(self) -> bool:
        """As ``is_idle``, where the middleware needs to see no request."""
        early = self._early
        return early is not None and early.middleware.is_plain and super().is_idle

    def _set_head_timer(self, is_wanted: bool) -> None:
        if not is_wanted:
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(self._front.head_seconds, self.transport.close)


class DefaultHeaders(list[Header]):
    """The server's own fields, which give way to those of an answer: a proxy keeps the origin's (RFC 9110 §6.6.1)."""

    def __add__(self, headers: list[Header]) -> list[Header]:  # type: ignore[override] # as uvicorn calls it
        """The fields of an answer that has ``headers``."""
        names = {name.lower() for name, _ in headers}
        return [*(field for field in self if field[0] not in names), *headers]


def _refuse(sock: socket.socket) -> None:
    """Say that there is no room, if that can be said at once, and close."""
    with contextlib.suppress(OSError):
        sock.send(_BUSY)
    sock.close()
