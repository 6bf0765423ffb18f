"""Pass requests on to the app: an ASGI app whose answers are those of another server.

aiohttp's protocol does the talking, without what a client for people does: no redirects, no cookies, no decompression,
no fields or spellings of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from typing import Final

from aiohttp import ClientError
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpProcessingError, StreamWriter
from aiohttp.http_parser import RawResponseMessage
from aiohttp.streams import StreamReader

from hotpath.asgi.last_good.visit import IS_FRAMED
from hotpath.front.address import Unreached
from hotpath.front.answer_heads import AnswerHeads
from hotpath.front.fields import (
    BadAnswer,
    BadRequest,
    Trust,
    body_of,
    head_bytes,
    request_fields,
    response_fields,
    target_of,
)
from hotpath.front.hold import Attempts, Hold, Next, Stay, Unavailable, is_repeatable, retry_after, retry_delay
from hotpath.front.started import STARTED, Started
from hotpath.front.upstream import Lease, Upstream
from hotpath.front.websockets import Sockets
from hotpath.front.wire import Wire
from hotpath.guard.priorities import Chooser, Priorities, Priority
from hotpath.options import parse_count, parse_seconds
from hotpath.types import Header, Receive, Scope, Send

# A client that expects 100 may send its body without it (RFC 9110 §10.1.1): so long the app has to say it.
EXPECT_SECONDS: Final = 1.0
# An answer of this size comes in one piece or two. It is passed on when it is whole, or so long after its body began:
# an app that is stopped or killed between the two pieces costs a repetition and not half an answer.
MAX_WHOLE: Final = 65536
WHOLE_SECONDS: Final = 0.05
# As nginx: client_body_timeout and send_timeout.
STALL_SECONDS: Final = 60.0
# Most answers begin within this; nobody need look out for the end of their clients, which costs a task each.
WATCH_SECONDS: Final = 0.02


class Forward:
    """An ASGI app (HTTP, WebSockets, lifespan) that passes everything on to ``upstream``.

    ``hold_seconds``: the longest wait for an app that is down, paused or has enough to do; ``in_flight`` and
    ``waiting``: how many requests are in the app and before it at most. ``trust``: networks whose ``X-Forwarded-*`` are
    believed, and ``"unix"``. ``priorities``: as the guard's ``priority``, who goes first and who is refused first.
    ``connect_seconds``: the longest wait for one connection, by default the upstream's. ``stall_seconds``: how long a
    client may send nothing of a body, or read nothing of an answer, before it loses its place in the app.

    Raises ``DeclarationError`` for options that make no sense.
    """

    def __init__(
        self,
        upstream: Upstream,
        *,
        hold_seconds: float = 15.0,
        in_flight: int = 64,
        waiting: int = 256,
        trust: Iterable[str] = (),
        priorities: Mapping[str, Priority | int] | Chooser | None = None,
        connect_seconds: float | None = None,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        self.upstream = upstream
        if connect_seconds is not None:
            upstream.connect_seconds = parse_seconds(connect_seconds, "connect_seconds")
        self.hold = Hold(
            upstream,
            hold_seconds=parse_seconds(hold_seconds, "hold_seconds"),
            in_flight=parse_count(in_flight, "in_flight"),
            waiting=parse_count(waiting, "waiting"),
            priorities=Priorities(priorities),
        )
        self.stall_seconds = parse_seconds(stall_seconds, "stall_seconds")
        self.trust = Trust(trust)
        self.answer_heads = AnswerHeads()
        self._sockets = Sockets(upstream, self.hold, self.trust)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request with the app's answer."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._sockets(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self.hold.close()
        self.upstream.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        started: Started | None = scope.get(STARTED)
        try:
            request = _Request(scope, self.trust, self.upstream.address.authority)
        except BadRequest as bad:
            await send_plain(send, bad.status, bad.problem, [(b"connection", b"close")])
            return
        client = _Client(receive, request, self.stall_seconds)
        stay = self.hold.stay(scope)
        try:
            await self._pass_on(request, client, stay, send, started)
        except Unavailable as problem:
            await self._unavailable(problem, client, send)
        except asyncio.CancelledError:
            if not client.is_gone:
                raise
            client.uncancel()
            self.upstream.counters.cancelled += 1
            if client.is_stalled and not client.is_answered:
                await client.send_plain(send, 408, "the rest of the body did not come", [(b"connection", b"close")])
        finally:
            client.stop()
            stay.leave()

    # One function, since the connection, the place in the app and the attempts go through all of it.
    async def _pass_on(
        self, request: _Request, client: _Client, stay: Stay, send: Send, started: Started | None
    ) -> None:
        """Wait, send, send again, until there is an answer."""
        upstream, loop = self.upstream, asyncio.get_running_loop()
        attempts, is_fresh = Attempts(is_repeatable=request.is_repeatable), not request.is_repeatable
        if request.body.is_empty:
            client.watch()
        lease = started.lease if started is not None else None
        if lease is not None:
            stay.is_in = True
        else:
            if started is not None:
                attempts.broke(is_unread=started.is_unread)
                is_fresh = True
                await self._wait_to_repeat()
            if not self.hold.try_enter(stay):
                await self.hold.enter(stay)
        while True:
            is_sent = lease is not None
            try:
                lease = lease or await upstream.lease(is_fresh=is_fresh)
            except Unreached as problem:
                await self.hold.enter_again(stay, str(problem), is_absent=problem.is_absent)
                continue
            exchange = _Exchange(request, client, lease, started if is_sent else None)
            began = loop.time()
            try:
                following = await exchange.run(self, send, attempts)
            finally:
                upstream.release(lease, is_kept=exchange.is_whole)
                lease = None
                client.pause()
            if following is None:
                return
            if following is Next.BAD_GATEWAY:
                upstream.counters.bad_gateway += 1
                await client.send_plain(send, 502, "the app broke off before it answered")
                return
            if following is Next.BREAK:
                upstream.counters.broken += 1
                return  # before the end of the answer: the server breaks the connection
            is_fresh = True
            if following is Next.WAIT:
                upstream.suspect_kept()
                await self.hold.enter_again(stay, "it closed a new connection")
            else:
                stay.deadline += loop.time() - began
                await self._wait_to_repeat()

    async def _wait_to_repeat(self) -> None:
        self.upstream.suspect_kept()
        self.upstream.counters.retried += 1
        # A process that is killed closes its listening socket in the same moment, not always first.
        await asyncio.sleep(retry_delay(0))

    def begin(self) -> Lease | None:
        """A place in the app and a kept connection to it, for who brings both to ``end``; ``None`` where one of them
        has to be waited for.
        """
        if not self.hold.take():
            return None
        lease = self.upstream.kept_lease()
        if lease is None:
            self.hold.give_back()
        return lease

    def end(self, lease: Lease, *, is_kept: bool) -> None:
        """Give both back. Only a connection on which nothing is missing is kept."""
        self.upstream.release(lease, is_kept=is_kept)
        self.hold.give_back()

    async def _unavailable(self, problem: Unavailable, client: _Client, send: Send) -> None:
        counters = self.upstream.counters
        if problem.is_full:
            counters.refused += 1
        else:
            counters.timed_out += 1
        seconds = retry_after(counters.refused + counters.timed_out)
        text = "too many requests wait for the app" if problem.is_full else "the app is not there"
        await client.send_plain(send, 503, text, [(b"retry-after", b"%d" % seconds)])

    def answered(self, scope: Scope, status: int, seconds: float) -> None:
        """The app has begun to answer."""
        self.hold.answered()
        self.upstream.counters.forwarded += 1
        if self.upstream.observe is not None:
            self.upstream.observe(scope, status, seconds)


class _Request:
    """A request as the app gets it."""

    __slots__ = ("body", "expects_continue", "head", "is_head", "is_repeatable", "scope")

    def __init__(self, scope: Scope, trust: Trust, authority: str) -> None:
        headers: list[Header] = scope["headers"]
        method: str = scope["method"]
        self.scope = scope
        self.body = body_of(headers, scope.get("http_version", "1.1"))
        target, host = target_of(scope)
        fields = request_fields(scope, trust, authority.encode("latin-1"), host)
        if self.body.is_chunked:
            fields.append((b"transfer-encoding", b"chunked"))
        self.head = head_bytes(method, target, fields)
        self.is_head = method == "HEAD"
        self.is_repeatable = is_repeatable(method, has_body=not self.body.is_empty)
        self.expects_continue = not self.body.is_empty and any(
            name == b"expect" and value.lower() == b"100-continue" for name, value in headers
        )


class _Client:
    """What comes from the client: its body, and that it goes away, which cancels the task that serves it."""

    __slots__ = (
        "_owner", "_receive", "_request", "_stall_seconds", "_task", "_timer",
        "is_answered", "is_gone", "is_read", "is_stalled",
    )  # fmt: skip

    def __init__(self, receive: Receive, request: _Request, stall_seconds: float) -> None:
        self._receive = receive
        self._request = request
        self._stall_seconds = stall_seconds
        self._owner = asyncio.current_task()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.is_gone = False
        self.is_stalled = False
        self.is_answered = False
        self.is_read = request.body.is_empty

    def watch(self) -> None:
        """Look out for the end of a client whose request has no body, before long."""
        self._timer = asyncio.get_running_loop().call_later(WATCH_SECONDS, self._begin_watch)

    def send_body(self, wire: Wire, may_send: asyncio.Event | None) -> None:
        """Send the body to the app as it comes, then look out for the client's end."""
        self._task = asyncio.get_running_loop().create_task(self._pump(wire, may_send))

    def pause(self) -> None:
        """The connection to the app has gone: send no more of the body to it."""
        if not self._request.body.is_empty:
            self.stop()

    def stop(self) -> None:
        """Look out no longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def uncancel(self) -> None:
        """The cancellation was this client's end, and is dealt with."""
        if self._owner is not None:
            self._owner.uncancel()

    async def send_plain(self, send: Send, status: int, text: str, fields: Iterable[Header] = ()) -> None:
        """An answer of the front's own."""
        self.is_answered = True
        await send_plain(send, status, text, [*fields, *self.closing()])

    def closing(self) -> list[Header]:
        """``Connection: close`` where only the client knows whether the body that it announced still comes."""
        return [] if self.is_read or not self._request.expects_continue else [(b"connection", b"close")]

    def _leave(self) -> None:
        if not self.is_answered and self._owner is not None:
            self.is_gone = True
            self._owner.cancel()

    def _begin_watch(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._leave()

    async def _pump(self, wire: Wire, may_send: asyncio.Event | None) -> None:
        if may_send is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(may_send.wait(), EXPECT_SECONDS)
        body = self._request.body
        writer = StreamWriter(wire, asyncio.get_running_loop())
        if body.is_chunked:
            writer.enable_chunking()
        sent, is_last = 0, False
        while not is_last:
            try:
                async with asyncio.timeout(self._stall_seconds):
                    message = await self._receive()
            except TimeoutError:
                self.is_stalled = True
                self._leave()
                return
            if message["type"] == "http.disconnect":
                self._leave()
                return
            chunk = message.get("body", b"")
            sent += len(chunk)
            is_last = not message.get("more_body", False)
            try:
                if chunk:
                    await writer.write(chunk)
                if is_last:
                    await writer.write_eof()
            except (ClientError, OSError):
                return  # the app reads no more; what it has to say comes another way
        self.is_read = body.length in (None, sent)
        await self._watch()


class _Exchange:
    """One request and its answer on one connection. ``is_whole``: nothing of either is missing."""

    __slots__ = ("_client", "_lease", "_request", "_started", "is_passed_on", "is_sent", "is_whole")

    def __init__(self, request: _Request, client: _Client, lease: Lease, started: Started | None) -> None:
        self._request = request
        self._client = client
        self._lease = lease
        self._started = started
        self.is_sent = started is not None
        self.is_passed_on = False
        self.is_whole = False

    async def run(self, forward: Forward, send: Send, attempts: Attempts) -> Next | None:
        """Send the request and pass the answer on. What follows, or ``None`` when all is done."""
        request, wire = self._request, self._lease.wire
        loop = asyncio.get_running_loop()
        started = self._started.at if self._started is not None else loop.time()
        try:
            may_send = asyncio.Event() if request.expects_continue else None
            self.is_sent = self.is_sent or wire.begin(request.head, is_bodiless=request.is_head)
            if not self.is_sent:
                return Next.WAIT
            if not request.body.is_empty:
                self._client.send_body(wire, may_send)
            message, payload = await self._head(wire, may_send)
            fields = response_fields(message.raw_headers, message.code, is_chunked=message.chunked)
            is_small = int(message.headers.get("Content-Length", MAX_WHOLE + 1)) <= MAX_WHOLE
            begin = await _begin_body(payload) if is_small else b""
            fields += self._client.closing()
            request.scope[IS_FRAMED] = message.chunked or "Content-Length" in message.headers or payload.is_eof()
            forward.answered(request.scope, message.code, loop.time() - started)
            self.is_passed_on = True
            await send({"type": "http.response.start", "status": message.code, "headers": fields})
            await self._pass_body(begin, payload, send, forward.stall_seconds)
        except (HttpProcessingError, BadAnswer):
            return Next.BREAK if self.is_passed_on else Next.BAD_GATEWAY
        except (ClientError, OSError):
            # Of one with a body the app may have read the head and begun, while the rest is unread.
            is_unread = wire.is_unread and request.body.is_empty
            return attempts.broke(is_sent=self.is_sent, is_unread=is_unread, is_passed_on=self.is_passed_on)
        self.is_whole = self._client.is_read
        return None

    async def _head(
        self, wire: ResponseHandler, may_send: asyncio.Event | None
    ) -> tuple[RawResponseMessage, StreamReader]:
        """The final answer's head; interim ones end here, but 100 lets the body go."""
        while True:
            message, payload = await wire.read()
            if message.code == 100 and may_send is not None:
                may_send.set()
            if message.code == 101 or not 100 <= message.code <= 599:
                raise BadAnswer(f"status {message.code}")
            if message.code >= 200:
                return message, payload

    async def _pass_body(self, begin: bytes, payload: StreamReader, send: Send, stall_seconds: float) -> None:
        chunk = begin or await payload.readany()
        while True:
            if payload.at_eof():
                self._client.is_answered = True
                await send({"type": "http.response.body", "body": chunk, "more_body": False})
                return
            if chunk:
                async with asyncio.timeout(stall_seconds):
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            chunk = await payload.readany()


async def _begin_body(payload: StreamReader) -> bytes:
    """Wait for the body to begin, and a moment for its end."""
    begin = await payload.readany()
    if not payload.is_eof():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(payload.wait_eof(), WHOLE_SECONDS)
    if (problem := payload.exception()) is not None:
        raise problem
    return begin + payload.read_nowait()


async def send_plain(send: Send, status: int, text: str, fields: Iterable[Header] = ()) -> None:
    """An answer of the front's own."""
    body = text.encode() + b"\n"
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        *fields,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
