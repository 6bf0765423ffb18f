"""One request on its way through the cache: to the app, or to a stored answer in place of the app's."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Iterable
from typing import Any, Final

from hotpath.asgi.access_log import RESULT, Result
from hotpath.asgi.last_good import answering, caching, updates
from hotpath.asgi.last_good.cache import AnswerCache, Question, RequestFields
from hotpath.asgi.last_good.caching import FAILURES, Stored
from hotpath.asgi.last_good.recording import Recording
from hotpath.log import logger
from hotpath.serving.rfc9110 import format_http_date
from hotpath.types import Header, Message, Receive, Scope, Send

# Keys of a scope. The front's forwarder sets the first two: the target as the client wrote it, and whether the end of
# the answer's body can be told from a connection that broke.
TARGET: Final = "hotpath.target"
IS_FRAMED: Final = "hotpath.is_framed"
# A function that the forwarder calls when it knows that the app is not there, so that patience has no purpose.
ON_ABSENT: Final = "hotpath.on_absent"
# The ``Question`` of a request that the front has sent to the app already: its answer has to be taken.
QUESTION: Final = "hotpath.question"

_OWN_CONDITIONS: Final = frozenset((b"if-none-match", b"if-modified-since", b"if-range", b"range"))


class Answerer(enum.Enum):
    """Who answers the client."""

    OPEN = "open"  # nobody yet
    APP = "app"
    CACHE = "cache"  # what the app still says is kept, and goes to nobody


class Visit:
    """One request. ``asked`` is ``None`` where it has nothing to do with stored answers.

    ``is_sent``: the app has it already, so that it must be passed on, whatever the breaker says.
    """

    def __init__(self, cache: AnswerCache, scope: Scope, receive: Receive, send: Send) -> None:
        self.cache = cache
        self.scope = scope
        self.state = Answerer.OPEN
        self.validating: Stored | None = None
        # Who else waits for this answer, and what is called where it is for nobody else.
        self.flight: asyncio.Future[None] | None = None
        self.on_unshared: Callable[[Visit], None] | None = None
        # Why an answer of the app's comes although there may be a stored one, for Cache-Status.
        self.forwarded_for = "bypass" if scope["method"] in ("GET", "HEAD") else "method"
        self.headers: list[Header] = list(scope["headers"])
        self.method: str = scope["method"]
        question: Question | None = scope.get(QUESTION)
        self.is_sent = question is not None
        if question is None:
            scheme = str(scope.get("scheme", "http"))
            fields = RequestFields.of(self.method, scheme, self.headers, cache.rules.cookies)
            question = cache.question(_target(scope), fields)
        self.question = question
        self.key, self.asked, self.directives = question.key, question.asked, question.directives
        self._receive = receive
        self._send = send
        self._owner: asyncio.Task[Any] | None = None
        self._impatient: asyncio.Task[None] | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._recording: Recording | None = None
        self._is_dismissed = False
        self._is_again = False
        self._is_failure = False
        self._has_client_left = False
        self._is_detached = False

    async def pass_on(self) -> None:
        """Ask the app, and answer with what it says, or with the last good answer."""
        loop = asyncio.get_running_loop()
        self._owner = asyncio.current_task()
        if self.asked is not None and self.state is Answerer.OPEN:
            waited = self.cache.timer() - self.question.began if self.is_sent else 0.0
            self._timers.append(loop.call_later(max(0.0, self.cache.rules.patience - waited), self._lose_patience))
        try:
            await self._ask_app()
        except asyncio.CancelledError:
            if not self._is_dismissed or self._owner is None:
                raise
            self._owner.uncancel()
        except Exception as problem:
            await self._app_raised(problem)
        else:
            if self.state is Answerer.OPEN and not self._has_client_left:
                self._count_failure()
                await self.stand_in()
        finally:
            await self._end()

    async def _ask_app(self) -> None:
        scope = self.scope
        if self.validating is not None:
            kept = [field for field in self.headers if field[0] not in _OWN_CONDITIONS]
            scope = {**scope, "headers": kept + updates.conditions_for(self.validating)}
        if self.cache.is_front and self.asked is not None:
            scope[ON_ABSENT] = self._lose_patience
        self._app_scope = scope
        await self.cache.app(scope, self._receive_for_app, self._send_from_app)
        if self._is_again:
            # The 304 was about something else: once more, without conditions.
            self._is_again, self.validating = False, None
            self.scope = {**self.scope, "headers": [f for f in self.headers if f[0] not in _OWN_CONDITIONS]}
            await self._ask_app()

    async def _app_raised(self, problem: Exception) -> None:
        if self.state is Answerer.OPEN:
            self._count_failure()
        if self.state is Answerer.APP or not await self.stand_in():
            raise problem
        logger.error("the app failed on %s, which got its last good answer", self.scope["path"], exc_info=problem)

    async def _end(self) -> None:
        for timer in self._timers:
            timer.cancel()
        if self._is_detached and self.key is not None:
            del self.cache.detached[self.key]
        if self._recording is not None:
            self._recording.close()
        if self._impatient is not None and self.state is Answerer.CACHE:
            await self._impatient
        elif self._impatient is not None:
            self._impatient.cancel()

    # The stored answer.

    async def stand_in(self) -> bool:
        """Answer with the last good answer if there is one that may be used. False where nobody has answered."""
        stored = await self._usable() if self.asked is not None and self.state is Answerer.OPEN else None
        if self.state is Answerer.OPEN and stored is not None:
            self.cache.counters.served += 1
            await self.answer(stored, answering.hit(stored, self.cache.clock(), "stale-if-error"), "last_good")
        return self.state is Answerer.CACHE

    async def _usable(self) -> Stored | None:
        assert self.asked is not None
        stored = await self.cache.find(self.asked)
        if stored is None:
            return None
        seconds = self.cache.stale_seconds(self.asked.key)
        return stored if caching.usable_on_error(stored, self.cache.clock(), seconds) else None

    async def answer(self, stored: Stored, member: bytes, result: Result) -> None:
        """Answer with ``stored``, and ``member`` in ``Cache-Status``."""
        assert self.asked is not None
        self.state = Answerer.CACHE
        self.scope[RESULT] = result
        self.cache.file.touch(self.asked, self.cache.clock())
        answer = answering.answer_from(stored, self.method, self.headers, self.cache.clock(), member)
        if self.cache.is_front and not any(name == b"date" for name, _ in answer.headers):
            answer.headers.append((b"date", format_http_date(int(stored.received))))
        await self._send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await self._send({"type": "http.response.body", "body": answer.body})

    async def say(self, status: int, text: str, fields: Iterable[Header] = ()) -> None:
        """An answer of the cache's own that is no page."""
        self.state = Answerer.CACHE
        body = text.encode() + b"\n"
        headers = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
            *fields,
        ]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body if self.method != "HEAD" else b""})

    # The patience.

    def _lose_patience(self) -> None:
        if self.state is Answerer.OPEN and self._impatient is None:
            self._impatient = asyncio.get_running_loop().create_task(self._stand_in_for_slow_app())

    async def _stand_in_for_slow_app(self) -> None:
        try:
            is_answered = await self.stand_in()
        except Exception:  # the client is gone, which the app's task sees by itself
            logger.debug("a last good answer was not sent", exc_info=True)
            is_answered = self.state is Answerer.CACHE
        if not is_answered:
            return
        # One slow page among others that are answered is no failure of the app.
        if self.cache.last_success < self.question.began:
            self._count_failure()
        if self.key is None or self.key in self.cache.detached or len(self.cache.detached) >= self.cache.MAX_DETACHED:
            self._dismiss()
            return
        # It goes on for the next request's sake: a page that always takes longer would never be new otherwise.
        self._is_detached = True
        self.cache.detached[self.key] = self._dismiss
        seconds = self.cache.DETACHED_SECONDS
        self._timers.append(asyncio.get_running_loop().call_later(seconds, self._dismiss))

    def _dismiss(self) -> None:
        if self._owner is not None and not self._owner.done():
            self._is_dismissed = True
            self._owner.cancel()

    def _count_failure(self) -> None:
        """The app failed this request: too slow and an error afterwards is one failure."""
        if not self._is_failure:
            self._is_failure = True
            self.cache.app_failed()

    # What the app sees.

    async def _receive_for_app(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            if self.state is Answerer.CACHE:
                await asyncio.Event().wait()  # the client has its answer; the app's goes on
            self._has_client_left = True  # an app that stops then has not failed
        return message

    async def _send_from_app(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            message = await self._begin(message)
        elif self._recording is not None:
            self._recording.take(message)
        elif self.state is Answerer.OPEN and message["type"] != "http.response.body":
            await self._send(message)  # an extension of ASGI: something that comes before the answer
        if self.state is Answerer.APP:
            await self._send(message)

    async def _begin(self, message: Message) -> Message:
        """The app has begun to answer: decide who answers the client."""
        status, headers = message["status"], list(message.get("headers", ()))
        cache = self.cache
        if status in FAILURES:
            has_stood_in = self.state is Answerer.OPEN and await self.stand_in()
            # A page that was never good may be broken by itself: anybody could ask for it until all others are refused.
            if status != 500 or has_stood_in:
                self._count_failure()
        elif not cache.is_front or IS_FRAMED in self._app_scope:  # else the forwarder's own answer
            cache.app_answered()
        if self.validating is not None and status == 304:
            await self._validated(self.validating, headers)
            return message
        is_framed = self._app_scope.get(IS_FRAMED, True)
        self._recording = Recording.of(cache, self.question, status, headers, is_framed=is_framed)
        if self._recording is None and self.on_unshared is not None:
            self.on_unshared(self)
        if self.state is Answerer.OPEN:
            self.state = Answerer.APP
            if cache.rules.is_fresh:
                is_stored = self._recording is not None
                member = answering.forwarded(self.forwarded_for, status, is_stored=is_stored)
                message = {**message, "headers": [*headers, (b"cache-status", member)]}
        return message

    async def _validated(self, stored: Stored, headers: list[Header]) -> None:
        """A 304 to the cache's own condition."""
        assert self.asked is not None
        requested, received = self.question.requested, self.cache.clock()
        fresh = updates.freshened(stored, headers, requested, received)
        if not updates.is_about(headers, stored) or not caching.storable(fresh.status, fresh.headers, self.directives):
            self.cache.file.remove(self.asked.url)
            self._is_again = True
            return
        self.cache.file.change(
            self.asked,
            lambda old: updates.freshened(old, headers, requested, received) if updates.is_about(headers, old) else old,
            is_always=True,
        )
        if self.state is Answerer.OPEN:
            await self.answer(fresh, answering.forwarded("stale", 304, is_stored=True), "cached")


def _target(scope: Scope) -> bytes:
    """As the client wrote it where the server keeps that, else from what ASGI keeps of it."""
    written: bytes | None = scope.get(TARGET)
    if written is not None:
        return written
    path: bytes = scope.get("raw_path") or str(scope["path"]).encode("utf-8", "surrogateescape")
    query: bytes = scope.get("query_string") or b""
    return b"%b?%b" % (path, query) if query else path
