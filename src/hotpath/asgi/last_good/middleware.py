"""``LastGood``: a shared cache around an ASGI app, for the hour when the app fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from hotpath.asgi.last_good.answer_file import AnswerFile
from hotpath.asgi.last_good.cache import AnswerCache, CacheRules, Question
from hotpath.asgi.last_good.deciding import Decision, decide
from hotpath.asgi.last_good.recording import keep, leave_out
from hotpath.asgi.last_good.requests import ANALYTICS_COOKIES, Cookies
from hotpath.asgi.last_good.reuse import Reuse
from hotpath.asgi.last_good.visit import Visit
from hotpath.errors import DeclarationError
from hotpath.options import parse_bytes, parse_seconds
from hotpath.types import ASGIApp, Header, Message, Receive, Scope, Send


class LastGood(AnswerCache):
    """Keep the answers of ``app`` that a shared cache may store, and give the last good one when the app fails.

    It fails when it raises, answers 500, 502, 503 or 504, or does not begin to answer within ``patience``. While it
    answers nothing comes from the cache, unless ``fresh``: then it is an ordinary shared cache (RFC 9111) as well.

    ``file``: path of the SQLite file, ``max_bytes`` at most. ``stale``: for how long after its freshness an answer may
    stand in, where it does not say ``stale-if-error`` itself. ``ignore_cookies``: names of cookies (``_ga_*`` for a
    beginning) that do not make a request personal. ``empty_replaces``: an empty 200 is kept in the place of a full one.
    ``is_reachable`` says whether a failing app is there at all; where it is not, requests without a last good answer
    go on to it instead of getting 503. ``clock`` gives seconds since the epoch.

    Needs asyncio. Raises ``DeclarationError`` for options that make no sense. RFC 9111, RFC 5861, RFC 9211, RFC 9213.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        file: str | Path,
        max_bytes: int | str = "256MiB",
        patience: float | str = "5s",
        stale: float | str = "7d",
        ignore_cookies: Iterable[str] = ANALYTICS_COOKIES,
        fresh: bool = False,
        empty_replaces: bool = False,
        is_reachable: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not callable(app):
            raise DeclarationError(f"app={app!r} is no ASGI application")
        if isinstance(ignore_cookies, str):
            raise DeclarationError(f"ignore_cookies={ignore_cookies!r}: write a list, ['{ignore_cookies}']")
        rules = CacheRules(
            patience=parse_seconds(patience, "patience"),
            stale=parse_seconds(stale, "stale", least=0),
            cookies=Cookies(ignore_cookies),
            is_fresh=fresh,
            empty_replaces=empty_replaces,
        )
        answers = AnswerFile(Path(file), parse_bytes(max_bytes, "max_bytes"))
        super().__init__(app, file=answers, rules=rules, is_reachable=is_reachable, clock=clock)
        self._reuse = Reuse(self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        elif scope["type"] == "http" and self._is_asyncio():
            await self._http(Visit(self, scope, receive, send))
        else:
            await self.app(scope, receive, send)

    @property
    def lets_pass(self) -> bool:
        """Whether a request may go to the app without ``__call__``: its whole answer is for ``take``, and where there
        is another one ``__call__`` goes on with the request, whose ``QUESTION`` is in the scope then.
        """
        return not self.rules.is_fresh and not self.breaker.is_open

    def decide(self, status: int, headers: Iterable[Header], question: Question) -> Decision:
        """What ``take`` needs to know of the head of an answer to GET."""
        is_fresh_mode = self.rules.is_fresh
        return decide(status, headers, question.directives, is_fresh_mode=is_fresh_mode, is_framed=True)

    def take(self, question: Question, decision: Decision | None, body: bytes) -> None:
        """Do what is done with a whole answer of the app to GET that is none of ``FAILURES`` and no 304.

        ``decision`` may be ``None`` where ``question.asked`` is.
        """
        self.app_answered()
        if question.asked is None or decision is None:
            return
        if decision.because is not None:
            leave_out(self, question.asked, decision, decision.because)
        else:
            keep(self, question, question.asked, decision, body, self.clock())

    async def _http(self, visit: Visit) -> None:
        if self.rules.is_fresh and visit.asked is not None and await self._reuse.answer(visit, visit.asked):
            return
        try:
            now = self.timer()
            if not visit.is_sent and not self.breaker.admits(now):
                if await visit.stand_in():
                    return
                if self.is_reachable():
                    self.counters.refused += 1
                    retry_after = (b"retry-after", b"%d" % self.breaker.retry_after(now))
                    await visit.say(503, "the app fails, and is asked again in a moment", [retry_after])
                    return
            await visit.pass_on()
        finally:
            self._reuse.finish(visit)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def watch(message: Message) -> None:
            if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
                await asyncio.get_running_loop().run_in_executor(None, self.close)
            await send(message)

        await self.app(scope, receive, watch if self._is_asyncio() else send)

    def _is_asyncio(self) -> bool:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            self._once.warn("LastGood needs asyncio; here it passes everything on to the app")
            return False
        return True
