"""The short way of a cold GET: from the bytes of a client's head to those of the app's answer, without a task.

It is for the usual case alone: one whole head that is understood, a place in the app, a kept connection to it, and an
answer that comes whole and is no failure that a last good answer could stand in for. Everything else goes the long way,
from where it is by then: the parser of uvicorn, ``LastGood``, ``Forward`` and aiohttp's parser. Both make the same
bytes of the same request and of the same answer, and keep the same last good answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

from hotpath.asgi.last_good.cache import Question, RequestFields
from hotpath.asgi.last_good.caching import FAILURES
from hotpath.asgi.last_good.middleware import LastGood
from hotpath.asgi.last_good.visit import QUESTION
from hotpath.front.answer_heads import AnswerHead
from hotpath.front.exact import ExactProtocol
from hotpath.front.fields import BadRequest, head_bytes, request_fields
from hotpath.front.forward import MAX_WHOLE, WHOLE_SECONDS, Forward
from hotpath.front.heads import MAX_BLOCK_BYTES, Meaning, is_target, parse_fields
from hotpath.front.hits import Hits
from hotpath.front.started import STARTED, Started
from hotpath.front.upstream import Lease
from hotpath.serving.resolver import MISS_STATUS

_GET: Final = ord("G")
_SPACE: Final = ord(" ")
_MARK: Final = b"/"


@dataclass(frozen=True, slots=True)
class _Known:
    """A block of fields that a client sends again, and what follows the target in the head that the app gets.

    ``fields`` are what last good answers make of them, where there are any.
    """

    block: bytes
    meaning: Meaning
    rest: bytes
    fields: RequestFields | None


class _Trip:
    """One request that is under way. It is the ``tap`` of its connection to the app."""

    __slots__ = ("_client", "data", "lease", "question", "received", "started", "target", "timer")

    def __init__(self, client: ExpressProtocol, lease: Lease, data: bytes, target: bytes, started: float) -> None:
        self._client = client
        self.lease = lease
        self.data = data
        self.target = target
        self.started = started
        self.question: Question | None = None
        self.received = b""
        self.timer: Any = None

    def data_received(self, data: bytes) -> None:
        """Bytes of the answer."""
        self._client.answer_received(self, self.received + data if self.received else data)

    def connection_lost(self) -> None:
        """The app broke off."""
        self._client.answer_lost(self)


class ExpressProtocol(ExactProtocol):
    """uvicorn's protocol with the short way to ``forward`` beside it.

    ``hits`` says what is not hot. Without them all requests go the long way. ``cache`` are the last good answers
    around ``forward``, where there are any.
    """

    forward: Forward | None = None
    cache: LastGood | None = None
    hits: Hits | None = None
    is_leaving = False
    _known: _Known | None = None
    _trip: _Trip | None = None
    _started: Started | None = None
    _patience_timer: Any = None
    _behind = b""
    _idle_since = 0.0

    @property
    def is_under_way(self) -> bool:
        """Whether a request is on the short way."""
        return self._trip is not None

    def take_short_way(self, data: bytes) -> bool:
        """Whether ``data`` is on its way, or waits for what was before it; else nothing was done."""
        if self._trip is not None:
            # As uvicorn does with requests that are sent before the answer to the first.
            self._behind += data
            self.transport.pause_reading()
            return True
        forward = self.forward
        if forward is None or self.flow.write_paused or self.transport.is_closing() or not self.is_between_requests():
            return False
        return self._go(forward, data)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: what the app does for it ends."""
        if self._patience_timer is not None:
            self._patience_timer.cancel()
            self._patience_timer = None
        trip = self._end_trip()
        if trip is not None and self.forward is not None:
            self.forward.upstream.counters.cancelled += 1
            self._give_back(trip, is_kept=False)
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """As uvicorn, but a request on the short way is finished first."""
        self.is_leaving = True
        if self._trip is None:
            super().shutdown()

    def timeout_keep_alive_handler(self) -> None:
        """The connection is idle, unless the short way was taken since the timer was set: it leaves that as it is."""
        self.timeout_keep_alive_task = None
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if self._trip is not None or left > 0:
            self._wait_idle(left if self._trip is None else self.timeout_keep_alive)
        else:
            super().timeout_keep_alive_handler()

    def note_idle(self) -> None:
        """Called after each answer that came the short way."""

    def _wait_idle(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def on_headers_complete(self) -> None:
        """The app is about to be called: with what has happened on the short way."""
        super().on_headers_complete()
        if self._started is not None:
            self.scope[STARTED] = self._started  # type: ignore[typeddict-unknown-key] # beside what ASGI has
            self.scope[QUESTION] = self._started.question  # type: ignore[typeddict-unknown-key] # likewise

    def is_between_requests(self) -> bool:
        """Whether every request is answered, nothing of another has come, and a hot page is nobody else's affair."""
        raise NotImplementedError

    def _go(self, forward: Forward, data: bytes) -> bool:
        """Send the request, if ``data`` is one that is understood, is not hot, and has nothing to wait for."""
        known = self._known
        line = data if known is None else data.removesuffix(known.block)
        target = line.removeprefix(b"GET ") if data[0] == _GET and len(line) < len(data) else b""
        if not target or _SPACE in target:  # the fields were others, half of them is missing, or it is no GET
            known = self._learn(forward, data)
            if known is None:
                return False
            target = data[4 : -len(known.block)]
        hits = self.hits
        if known is None or hits is None or hits.look("GET", target, known.meaning).status != MISS_STATUS:
            return False
        cache = self.cache
        if cache is not None and not cache.lets_pass:
            return False
        lease = forward.begin()
        if lease is None:
            return False
        trip = self._trip = _Trip(self, lease, data, target, self.loop.time())
        if cache is not None and known.fields is not None:
            trip.question = cache.question(target, known.fields)
            if trip.question.asked is not None and self._patience_timer is None:
                self._patience_timer = self.loop.call_later(cache.rules.patience, self._look_at_patience, cache)
        lease.wire.begin_tapped(trip, b"GET " + target + known.rest)
        return True

    def _learn(self, forward: Forward, data: bytes) -> _Known | None:
        """What the client sends in all its requests, kept for the next; ``None`` where this one goes the long way."""
        head = self.hits.blocks.read(data) if self.hits is not None else None
        if head is None or head.method != "GET" or head.end != len(data) or head.meaning.closes:
            return None
        if len(head.block) > MAX_BLOCK_BYTES or not is_target(head.target):
            return None
        headers = parse_fields(head.block)
        scope = {
            "type": "http",
            "scheme": self.scheme,
            "client": self.client,
            "http_version": "1.1",
            "headers": headers,
        }
        try:
            fields = request_fields(scope, forward.trust, b"")  # the block has a Host
            whole = head_bytes("GET", _MARK, fields)
        except BadRequest:
            return None
        cache = self.cache
        known = None if cache is None else RequestFields.of("GET", str(self.scheme), headers, cache.rules.cookies)
        self._known = _Known(head.block, head.meaning, whole.removeprefix(b"GET " + _MARK), known)
        return self._known

    def answer_received(self, trip: _Trip, data: bytes) -> None:
        """Pass the answer on if it is whole, wait for the rest of a small one, and leave others to the long way."""
        assert self.forward is not None  # there is no trip without
        answer = self.forward.answer_heads.read(data)
        if answer is None or answer.end - answer.begin > MAX_WHOLE or len(data) > answer.end:
            self._go_on_long(trip, data)
        elif self.cache is not None and answer.status in FAILURES:
            self._go_on_long(trip, data)  # a last good answer may stand in
        elif len(data) < answer.end:
            if trip.timer is None and len(data) > answer.begin:
                trip.timer = self.loop.call_later(WHOLE_SECONDS, self._stop_waiting, trip)
            trip.received = data
        else:
            self._finish(trip, answer, data)

    def answer_lost(self, trip: _Trip) -> None:
        """The app broke off before its answer was whole: the request is sent again, the long way."""
        self._end_trip()
        self._give_back(trip, is_kept=False)
        self._take_long_way(trip, Started(None, question=trip.question, is_unread=trip.lease.wire.is_unread))

    def _stop_waiting(self, trip: _Trip) -> None:
        if trip is self._trip:
            self._go_on_long(trip, trip.received)

    def _look_at_patience(self, cache: LastGood) -> None:
        """One timer for all requests of the connection: to set one for each takes as long as to read its head."""
        self._patience_timer = None
        trip = self._trip
        if trip is None or trip.question is None or trip.question.asked is None or trip.timer is not None:
            return
        left = cache.rules.patience - self._seconds(trip)
        if left > 0:
            self._patience_timer = self.loop.call_later(left, self._look_at_patience, cache)
        else:
            self._go_on_long(trip, trip.received)

    def _go_on_long(self, trip: _Trip, data: bytes) -> None:
        """An answer that is not understood here, or not whole: it is read and passed on by ``Forward``."""
        self._end_trip()
        trip.lease.wire.give_to_parser(data)
        self._take_long_way(trip, Started(trip.lease, trip.started, trip.question))

    def _take_long_way(self, trip: _Trip, started: Started) -> None:
        # Whatever has been published meanwhile, this request is the app's.
        app, self.app = self.app, self.cache or self.forward
        self._started = started
        try:
            ExactProtocol.data_received(self, trip.data)
        finally:
            self.app, self._started = app, None
        if self.is_leaving:
            super().shutdown()
        self._read_on()

    def _finish(self, trip: _Trip, answer: AnswerHead, data: bytes) -> None:
        """The answer to the client, in one piece."""
        self._end_trip()
        forward = self.forward
        assert forward is not None  # there is no trip without
        if forward.upstream.observe is not None:
            path = unquote(trip.target.partition(b"?")[0].decode("ascii"))
            forward.answered({"type": "http", "method": "GET", "path": path}, answer.status, self._seconds(trip))
        else:
            forward.answered({}, answer.status, 0.0)
        self._give_back(trip, is_kept=True)
        body = data[answer.begin :]
        self._write_answer(answer, body)
        if self.is_leaving:
            self.transport.close()
        self.server_state.total_requests += 1
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._wait_idle(self.timeout_keep_alive)
        self.note_idle()
        if self.cache is not None and trip.question is not None:
            self._keep(self.cache, trip.question, answer, body)
        self._read_on()

    def _keep(self, cache: LastGood, question: Question, answer: AnswerHead, body: bytes) -> None:
        decision = None
        if question.asked is not None:
            says_no_store = "no-store" in question.directives
            decision = answer.decisions.get(says_no_store)
            if decision is None:
                decision = answer.decisions[says_no_store] = cache.decide(answer.status, answer.fields, question)
        cache.take(question, decision, body)

    def _write_answer(self, answer: AnswerHead, body: bytes) -> None:
        added = b""
        if not (answer.has_date and answer.has_server):
            added = b"".join(
                b"%b: %b\r\n" % field
                for field in self.server_state.default_headers
                if not (answer.has_date if field[0] == b"date" else answer.has_server and field[0] == b"server")
            )
        end = b"connection: close\r\n\r\n" if self.is_leaving else b"\r\n"
        self.transport.write(b"".join((answer.status_line, added, answer.lines, end, body)))

    def _seconds(self, trip: _Trip) -> float:
        return self.loop.time() - trip.started

    def _end_trip(self) -> _Trip | None:
        trip, self._trip = self._trip, None
        if trip is not None:
            trip.lease.wire.tap = None
            if trip.timer is not None:
                trip.timer.cancel()
        return trip

    def _give_back(self, trip: _Trip, *, is_kept: bool) -> None:
        assert self.forward is not None  # there is no trip without
        self.forward.end(trip.lease, is_kept=is_kept)

    def _read_on(self) -> None:
        """What the client had sent meanwhile."""
        if self._behind and not self.transport.is_closing():
            data, self._behind = self._behind, b""
            self.transport.resume_reading()
            self.data_received(data)
