"""One connection to the app."""

from __future__ import annotations

import asyncio
import errno
from typing import Any, Final, Protocol

from aiohttp import ClientPayloadError
from aiohttp.client_proto import ResponseHandler

# uvicorn and Node close an idle connection after 5 seconds; what is closed meanwhile costs a repeated request.
KEEP_IDLE_SECONDS: Final = 4.0
# Answers as the app makes them: large cookies and policies are its own affair.
MAX_FIELD_BYTES: Final = 65536
MAX_FIELDS: Final = 1000


def is_reset(problem: BaseException | None) -> bool:
    """Whether ``problem``, which ended a connection, is a reset, or a write to one whose other end was closed.

    Linux resets a Unix socket that is closed while bytes are unread, and ends it otherwise (``unix_release_sock`` in
    net/unix/af_unix.c). By TCP a reset may have other causes: with SO_LINGER each close is one.
    """
    return isinstance(problem, OSError) and problem.errno in (errno.ECONNRESET, errno.EPIPE)


class Tap(Protocol):
    """Reads one answer off a connection."""

    def data_received(self, data: bytes, /) -> None:
        """Bytes of the answer."""

    def connection_lost(self) -> None:
        """The connection has ended; whoever reads it has no place on it any more."""


class Wire(ResponseHandler):
    """One connection, ``is_local`` by a Unix socket: aiohttp's protocol."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, is_local: bool) -> None:
        super().__init__(loop)
        self._is_local = is_local
        # Whether nothing of an answer to the last request has come.
        self._is_silent = True
        # Whether the connection has ended before the app had read all of the last request's head.
        self.is_unread = False
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
        self._is_silent = True
        transport.write(head)
        return True

    def begin_tapped(self, tap: Tap, head: bytes) -> None:
        """Send a request's head on a usable connection, and let ``tap`` read the answer."""
        assert self.transport is not None
        self.tap = tap
        self._is_silent = True
        self.transport.write(head)

    def give_to_parser(self, data: bytes) -> None:
        """Go on without a tap: ``data`` is what it has read of the answer to a GET."""
        self.tap = None
        self._begin_answer(is_bodiless=False)
        if data:
            super().data_received(data)

    def data_received(self, data: bytes) -> None:
        """Bytes of an answer."""
        self._is_silent = False
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
        self.is_unread = self._is_silent and self._is_local and is_reset(exc)
        super().connection_lost(exc)
        tap, self.tap = self.tap, None
        if tap is not None:
            tap.connection_lost()
