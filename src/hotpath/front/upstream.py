"""The app as the front sees it: where it is, whether it is up, and the connections to it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import stat
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from aiohttp import ClientPayloadError
from aiohttp.client_proto import ResponseHandler

from hotpath.errors import DeclarationError
from hotpath.log import logger
from hotpath.options import parse_seconds
from hotpath.types import Scope

# A retransmitted SYN comes after a second and after three; loopback and a local network need milliseconds.
CONNECT_SECONDS: Final = 3.0
# uvicorn and Node close an idle connection after 5 seconds; what is closed meanwhile costs a repeated request.
KEEP_IDLE_SECONDS: Final = 4.0
KEEP_IDLE: Final = 64
# Answers as the app makes them: large cookies and policies are its own affair.
MAX_FIELD_BYTES: Final = 65536
MAX_FIELDS: Final = 1000


class Unreached(Exception):
    """Nobody took the connection, so nothing was sent.

    ``is_absent``: the app is not there. Otherwise it may be, and has too much to do to accept.
    """

    def __init__(self, reason: str, *, is_absent: bool = False) -> None:
        super().__init__(reason)
        self.is_absent = is_absent


@dataclass(frozen=True, slots=True)
class Address:
    """Where the app listens: ``host`` and ``port``, or the ``path`` of a Unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Address:
        """``http://127.0.0.1:8000`` or ``unix:/run/site.sock``. Raises ``DeclarationError`` for anything else."""
        advice = "write http://127.0.0.1:8000 or unix:/run/site.sock"
        if text.startswith("unix:"):
            path = text.removeprefix("unix:")
            path = path[2:] if path.startswith("///") else path
            if not path.startswith("/") or path.startswith("//") or "\0" in path:
                raise DeclarationError(f"{text!r}: the path of a Unix socket begins with /; {advice}")
            if len(path.encode()) > 107:  # sun_path, unix(7)
                raise DeclarationError(f"{text!r}: the path of a Unix socket has 107 bytes at most")
            return cls(path=path)
        try:
            parts = urlsplit(text)
            host, port = parts.hostname, parts.port
        except ValueError as problem:
            raise DeclarationError(f"{text!r}: {problem}; {advice}") from None
        if parts.scheme == "https":
            raise DeclarationError(f"{text!r}: the front speaks plain HTTP to the app; {advice}")
        if parts.scheme != "http" or not host or port == 0:
            raise DeclarationError(f"{text!r} is no address of an app; {advice}")
        if parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc:
            raise DeclarationError(f"{text!r}: only host and port, targets are passed on as they come; {advice}")
        return cls(host=host, port=port or 80)

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"http://{self.authority}"

    @property
    def authority(self) -> str:
        """What a request without ``Host`` gets as one."""
        if self.path:
            return "localhost"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    async def connect(self, seconds: float) -> Wire:
        """A new connection. Raises ``Unreached``."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(seconds):
                if self.path:
                    _, wire = await loop.create_unix_connection(lambda: Wire(loop), sock=_connect_unix(self.path))
                else:
                    _, wire = await loop.create_connection(lambda: Wire(loop), self.host, self.port)
        except TimeoutError:
            raise Unreached(f"no answer to a connect within {seconds:g} s") from None
        except OSError as problem:
            # EAGAIN: the backlog of a Unix socket is full.
            is_absent = not isinstance(problem, BlockingIOError | TimeoutError)
            raise Unreached(problem.strerror or str(problem), is_absent=is_absent) from None
        if wire.is_looped:
            wire.abort()
            raise Unreached("nobody listens", is_absent=True)
        return wire


class Tap(Protocol):
    """Reads one answer off a connection."""

    def data_received(self, data: bytes, /) -> None:
        """Bytes of the answer."""

    def connection_lost(self) -> None:
        """The connection has ended; whoever reads it has no place on it any more."""


class Wire(ResponseHandler):
    """One connection: aiohttp's protocol."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._idle_since = 0.0
        self._now = loop.time
        # Who reads the answer instead of aiohttp's parser.
        self.tap: Tap | None = None

    @property
    def is_looped(self) -> bool:
        """Whether it leads to itself: where nobody listens on an ephemeral port, TCP may connect it to its own end."""
        transport = self.transport
        if transport is None:
            return False
        name: Any = transport.get_extra_info("sockname")
        return isinstance(name, tuple) and name == transport.get_extra_info("peername")

    @property
    def is_usable(self) -> bool:
        """Whether another request may be sent."""
        transport = self.transport
        return transport is not None and not transport.is_closing() and not self.should_close

    @property
    def is_young(self) -> bool:
        """Whether it has not been idle for so long that the app may be closing it just now."""
        return self._now() - self._idle_since < KEEP_IDLE_SECONDS

    def note_idle(self) -> None:
        """Nobody uses it from now on."""
        self._idle_since = self._now()

    def begin(self, head: bytes, *, is_bodiless: bool) -> bool:
        """Send a request's head. False where the connection has ended, so that nothing was sent."""
        transport = self.transport
        if transport is None or transport.is_closing():
            return False
        self._begin_answer(is_bodiless=is_bodiless)
        transport.write(head)
        return True

    def begin_tapped(self, tap: Tap, head: bytes) -> None:
        """Send a request's head on a usable connection, and let ``tap`` read the answer."""
        assert self.transport is not None
        self.tap = tap
        self.transport.write(head)

    def give_to_parser(self, data: bytes) -> None:
        """Go on without a tap: ``data`` is what it has read of the answer to a GET."""
        self.tap = None
        self._begin_answer(is_bodiless=False)
        if data:
            super().data_received(data)

    def data_received(self, data: bytes) -> None:
        """Bytes of an answer."""
        if self.tap is not None:
            self.tap.data_received(data)
        else:
            super().data_received(data)

    def _begin_answer(self, *, is_bodiless: bool) -> None:
        self.set_response_params(
            skip_payload=is_bodiless,
            read_until_eof=True,
            auto_decompress=False,
            max_line_size=MAX_FIELD_BYTES,
            max_field_size=MAX_FIELD_BYTES,
            max_headers=MAX_FIELDS,
        )

    def connection_lost(self, exc: BaseException | None) -> None:
        """As aiohttp, but a reset is no end of a body that is framed by the end of its connection."""
        if exc is not None and self._payload is not None and not self._payload.is_eof():
            self._payload.set_exception(ClientPayloadError(str(exc)))
        super().connection_lost(exc)
        tap, self.tap = self.tap, None
        if tap is not None:
            tap.connection_lost()


@dataclass(slots=True)
class Counters:
    """What became of requests since the start."""

    forwarded: int = 0
    held: int = 0
    refused: int = 0
    timed_out: int = 0
    retried: int = 0
    bad_gateway: int = 0
    broken: int = 0
    cancelled: int = 0


@dataclass(slots=True, eq=False)
class Endpoint:
    """One address with its connections."""

    address: Address
    in_flight: int = 0
    idle: deque[Wire] = field(default_factory=deque)
    is_empty: asyncio.Event = field(default_factory=asyncio.Event)

    def close_idle(self) -> None:
        """Close the connections that nobody uses."""
        while self.idle:
            self.idle.pop().close()


@dataclass(slots=True)
class Lease:
    """A connection for one request."""

    place: Endpoint
    wire: Wire


class Upstream:
    """The app: its address, which may change, its state, and what passes.

    ``observe``, where it is set, is called with the scope, the status and the seconds from the request's head to the
    answer's. Everything here belongs to the event loop of the front.
    """

    def __init__(self, address: Address, *, connect_seconds: float = CONNECT_SECONDS) -> None:
        self.connect_seconds = parse_seconds(connect_seconds, "connect_seconds")
        self.is_up = True
        self.counters = Counters()
        self.observe: Callable[[Scope, int, float], None] | None = None
        self.queued = 0
        self._place = Endpoint(address)
        self._old: list[Endpoint] = []
        self._listeners: list[Callable[[], None]] = []
        self._resume_timer: asyncio.TimerHandle | None = None

    @property
    def address(self) -> Address:
        """Where new requests go."""
        return self._place.address

    @property
    def in_flight(self) -> int:
        """Requests and WebSockets in the app, at the old addresses too."""
        return self._place.in_flight + sum(place.in_flight for place in self._old)

    @property
    def is_paused(self) -> bool:
        """Whether everything waits on purpose."""
        return self._resume_timer is not None

    @property
    def held(self) -> int:
        """Requests that wait because the app is down or paused."""
        return self.queued if self.is_paused or not self.is_up else 0

    @property
    def waiting(self) -> int:
        """Requests that wait because the app has enough to do."""
        return self.queued - self.held

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` after each pause, resume and switch."""
        self._listeners.append(listener)

    def pause(self, max_seconds: float) -> None:
        """Hold all new requests until ``resume``, for ``max_seconds`` at most. Requests in the app go on."""
        seconds = parse_seconds(max_seconds, "max_seconds")
        self._end_pause()
        self._resume_timer = asyncio.get_running_loop().call_later(seconds, self._expire, seconds)
        self._tell()

    def resume(self) -> None:
        """Let requests pass again."""
        self._end_pause()
        self._tell()

    def switch(self, address: Address) -> None:
        """Send new requests to ``address``; requests at the old one end there."""
        if address != self.address:
            old = self._place
            old.close_idle()
            self._place = next((place for place in self._old if place.address == address), None) or Endpoint(address)
            self._old = [place for place in (*self._old, old) if place is not self._place and place.in_flight]
        self._tell()

    async def drained(self, address: Address, seconds: float) -> bool:
        """Wait until nothing is in flight at ``address``. False after ``seconds``."""
        place = next((place for place in (*self._old, self._place) if place.address == address), None)
        if place is None or not place.in_flight:
            return True
        place.is_empty.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(place.is_empty.wait(), seconds)
        return not place.in_flight

    async def lease(self, *, is_fresh: bool) -> Lease:
        """A connection to the current address, a new one where ``is_fresh``. Raises ``Unreached``."""
        place = self._place
        wire = None if is_fresh else self._kept(place)
        place.in_flight += 1
        try:
            if wire is None:  # its truth is another matter: aiohttp's protocol is a queue
                wire = await place.address.connect(self.connect_seconds)
            return Lease(place, wire)
        except BaseException:
            self._leave(place)
            raise

    def kept_lease(self) -> Lease | None:
        """An open connection to the current address that nobody uses; ``None`` where a new one has to be made."""
        place = self._place
        wire = self._kept(place) if place.idle else None
        if wire is None:
            return None
        place.in_flight += 1
        return Lease(place, wire)

    def release(self, lease: Lease, *, is_kept: bool) -> None:
        """The request has ended. Only a connection that is whole is kept for another."""
        place, wire = lease.place, lease.wire
        self._leave(place)
        if is_kept and place is self._place and wire.is_usable:
            self._keep(place, wire)
        else:
            wire.close()

    def suspect_kept(self) -> None:
        """A connection broke: the others came from the same process."""
        self._place.close_idle()

    async def probe(self) -> None:
        """See whether the app takes connections. Raises ``Unreached``."""
        place = self._place
        wire = await place.address.connect(self.connect_seconds)
        if place is not self._place:
            wire.close()
            raise Unreached("the address has changed")
        self._keep(place, wire)

    def mark(self, is_up: bool, reason: str = "") -> None:
        """Note whether the app takes connections, and log that when it changes. For ``Hold``, which lets nobody pass
        meanwhile.
        """
        if is_up == self.is_up:
            return
        self.is_up = is_up
        if is_up:
            logger.warning("hotpath: the app at %s is back", self.address)
            self._tell()
        else:
            self._place.close_idle()
            logger.warning("hotpath: the app at %s is not there (%s): requests wait for it", self.address, reason)

    def enter(self, place: Endpoint | None = None) -> Endpoint:
        """Count a WebSocket in, whose connection is its own."""
        place = place or self._place
        place.in_flight += 1
        return place

    def leave(self, place: Endpoint) -> None:
        """Count it out."""
        self._leave(place)

    def close(self) -> None:
        """Close idle connections and end a pause."""
        self._end_pause()
        self._place.close_idle()

    def _kept(self, place: Endpoint) -> Wire | None:
        while place.idle:
            wire = place.idle.pop()
            if wire.is_usable and wire.is_young:
                return wire
            wire.close()
        return None

    def _keep(self, place: Endpoint, wire: Wire) -> None:
        wire.note_idle()
        place.idle.append(wire)
        while len(place.idle) > KEEP_IDLE or not place.idle[0].is_young:
            place.idle.popleft().close()

    def _leave(self, place: Endpoint) -> None:
        place.in_flight -= 1
        if not place.in_flight:
            place.is_empty.set()
            if place in self._old:
                self._old.remove(place)

    def _expire(self, seconds: float) -> None:
        logger.warning("hotpath: the pause ended by itself after %g s", seconds)
        self.resume()

    def _end_pause(self) -> None:
        if self._resume_timer is not None:
            self._resume_timer.cancel()
            self._resume_timer = None

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()


def _connect_unix(path: str) -> socket.socket:
    """A connected socket. A full backlog is EAGAIN here, which asyncio would take for a connect that goes on."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.connect(path)
    except OSError:
        sock.close()
        if not _is_socket(path):
            raise OSError(f"no socket at {path}") from None
        raise
    return sock


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(Path(path).stat().st_mode)
    except OSError:
        return False
