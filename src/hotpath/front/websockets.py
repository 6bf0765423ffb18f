"""Pass WebSockets on: the client's handshake, and messages both ways until one side closes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

from aiohttp import (
    ClientConnectorError,
    ClientError,
    ClientSession,
    ClientTimeout,
    ClientWebSocketResponse,
    ConnectionTimeoutError,
    DummyCookieJar,
    TCPConnector,
    UnixConnector,
    WSMsgType,
    WSServerHandshakeError,
)
from yarl import URL

from hotpath.front.address import Address
from hotpath.front.fields import (
    BadAnswer,
    BadRequest,
    Trust,
    handshake_fields,
    request_fields,
    response_fields,
    target_of,
)
from hotpath.front.hold import Attempts, Hold, Next, Unavailable, retry_after, retry_delay
from hotpath.front.upstream import Upstream
from hotpath.types import Header, Receive, Scope, Send

# aiohttp's own fields, which it would add where the client has none.
_NOT_ADDED: Final = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
# Codes of a close frame (RFC 6455 §7.4, and IANA's registry); the others only say that there was none.
_CODES: Final = frozenset((*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)))
NORMAL: Final = 1000
GOING_AWAY: Final = 1001
NO_STATUS: Final = 1005
BAD_GATEWAY: Final = 1014


class Sockets:
    """Passes WebSockets on. A handshake has a place in the app as any request; an open socket needs none."""

    def __init__(self, upstream: Upstream, hold: Hold, trust: Trust) -> None:
        self._upstream = upstream
        self._hold = hold
        self._trust = trust

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one WebSocket."""
        await receive()  # websocket.connect
        counters = self._upstream.counters
        try:
            default = self._upstream.address.authority.encode("latin-1")
            target, host = target_of(scope)
            fields = request_fields(scope, self._trust, default, host)
            await self._serve(scope, target, fields, receive, send)
        except BadRequest as bad:
            await _reject(scope, send, bad.status)
        except Unavailable as problem:
            if problem.is_full:
                counters.refused += 1
            else:
                counters.timed_out += 1
            seconds = retry_after(counters.refused + counters.timed_out)
            await _reject(scope, send, 503, [(b"retry-after", b"%d" % seconds)])
        except WSServerHandshakeError as refusal:
            await _reject(scope, send, *_refusal(refusal))
        except (ClientError, OSError, BadAnswer):
            counters.bad_gateway += 1
            await _reject(scope, send, 502)

    async def _serve(self, scope: Scope, target: bytes, fields: list[Header], receive: Receive, send: Send) -> None:
        """Wait as any request while nobody listens; a handshake is a GET, so it may be sent twice."""
        stay = self._hold.stay(scope)
        loop, attempts = asyncio.get_running_loop(), Attempts(is_repeatable=True)
        try:
            if not self._hold.try_enter(stay):
                await self._hold.enter(stay)
            while True:
                place, began = self._upstream.enter(), loop.time()
                try:
                    async with _session(place.address, self._upstream.connect_seconds) as session:
                        app = await _shake(session, place.address, target, scope, fields)
                        self._hold.answered()
                        stay.leave()
                        self._upstream.counters.forwarded += 1
                        accepted = handshake_fields(app._response.raw_headers)
                        await send({"type": "websocket.accept", "subprotocol": app.protocol, "headers": accepted})
                        await _pass(app, receive, send)
                        return
                except (ClientConnectorError, ConnectionTimeoutError) as problem:
                    reason = str(problem)
                except (ClientError, OSError) as problem:
                    if isinstance(problem, WSServerHandshakeError) or not stay.is_in:
                        raise
                    following = attempts.broke(is_unread=place.address.shows_unread(problem))
                    if following is Next.BAD_GATEWAY:
                        raise
                    if following is Next.AGAIN:
                        self._upstream.counters.retried += 1
                        stay.deadline += loop.time() - began
                        await asyncio.sleep(retry_delay(0))
                        continue
                    reason = "it closed a new connection"
                finally:
                    self._upstream.leave(place)
                await self._hold.enter_again(stay, reason)
        finally:
            stay.leave()


def _session(address: Address, connect_seconds: float) -> ClientSession:
    """A session for one socket, without anything of its own."""
    connector = UnixConnector(address.path, force_close=True) if address.path else TCPConnector(force_close=True)
    session = ClientSession(
        connector=connector,
        cookie_jar=DummyCookieJar(),
        skip_auto_headers=_NOT_ADDED,
        timeout=ClientTimeout(total=None, sock_connect=connect_seconds),
        auto_decompress=False,
    )
    # It would send each handshake that breaks once more by itself, so that two became four.
    session._retry_connection = False
    return session


async def _shake(
    session: ClientSession, address: Address, target: bytes, scope: Scope, fields: list[Header]
) -> ClientWebSocketResponse:
    base = f"http://{address.authority}"
    pairs = [(name.decode("latin-1"), value.decode("utf-8", "replace")) for name, value in fields]
    return await session.ws_connect(
        URL(base + target.decode("latin-1"), encoded=True),
        headers=pairs,
        protocols=scope.get("subprotocols") or (),
        autoclose=False,
        max_msg_size=0,
    )


async def _pass(app: ClientWebSocketResponse, receive: Receive, send: Send) -> None:
    """Messages both ways, until one side closes."""
    directions = [asyncio.ensure_future(_to_app(app, receive)), asyncio.ensure_future(_to_client(app, send))]
    try:
        done, _ = await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for direction in directions:
            direction.cancel()
        await asyncio.gather(*directions, return_exceptions=True)
    code, reason = next(direction.result() for direction in directions if direction in done)
    await app.close(code=code, message=reason.encode())


async def _to_app(app: ClientWebSocketResponse, receive: Receive) -> tuple[int, str]:
    """The client's messages. The code and reason to close the app's end with."""
    while True:
        message: Any = await receive()
        if message["type"] == "websocket.disconnect":
            code = message.get("code", NO_STATUS)
            return _sendable(code, GOING_AWAY), message.get("reason") or ""
        try:
            if message.get("text") is not None:
                await app.send_str(message["text"])
            else:
                await app.send_bytes(message["bytes"])
        except (ClientError, OSError):
            await asyncio.Event().wait()  # the app's end tells the client, by the other direction


async def _to_client(app: ClientWebSocketResponse, send: Send) -> tuple[int, str]:
    """The app's messages, and its close. The code and reason to close the app's end with."""
    while True:
        message = await app.receive()
        if message.type is WSMsgType.TEXT:
            await send({"type": "websocket.send", "text": message.data})
        elif message.type is WSMsgType.BINARY:
            await send({"type": "websocket.send", "bytes": message.data})
        elif message.type in (WSMsgType.PING, WSMsgType.PONG):
            continue
        else:
            is_close = message.type is WSMsgType.CLOSE
            code = _sendable(message.data, BAD_GATEWAY) if is_close else BAD_GATEWAY
            reason = (message.extra or "") if is_close else ""
            await send({"type": "websocket.close", "code": code, "reason": reason})
            return code, reason


def _sendable(code: int, otherwise: int) -> int:
    """A code that a close frame may have. A peer that gave none closed normally."""
    if code in (NO_STATUS, 0):
        return NORMAL
    return code if code in _CODES else otherwise


def _refusal(error: WSServerHandshakeError) -> tuple[int, list[Header]]:
    """The app's answer to a handshake that it refused, without its body."""
    pairs = error.headers.items() if error.headers else ()
    raw = [(name.encode("latin-1"), value.encode("utf-8", "surrogateescape")) for name, value in pairs]
    if not 300 <= error.status <= 599:
        return 502, []  # it accepted, but not this handshake
    return error.status, [field for field in response_fields(raw, error.status) if field[0] != b"content-length"]


async def _reject(scope: Scope, send: Send, status: int, fields: Iterable[Header] = ()) -> None:
    """Refuse a handshake: with a status where the server can send one, else it makes any refusal a 403."""
    if "websocket.http.response" in (scope.get("extensions") or {}):
        headers = [*fields, (b"content-length", b"0")]
        await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": b""})
    else:
        await send({"type": "websocket.close"})
