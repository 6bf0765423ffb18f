"""``fresh=True``: answers without the app while they are fresh, one request at a time for those that are not."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from typing import Any, Final

from hotpath.asgi.last_good import answering, caching, updates
from hotpath.asgi.last_good.answer_table import Asked
from hotpath.asgi.last_good.cache import AnswerCache
from hotpath.asgi.last_good.caching import Stored
from hotpath.asgi.last_good.visit import Answerer, Visit
from hotpath.log import logger
from hotpath.types import Message

BACKGROUND_SECONDS: Final = 60.0
MAX_BACKGROUND: Final = 32
# URLs whose answer nobody could share: nobody waits for one another there, for some time.
UNSHARED_SECONDS: Final = 60.0
MAX_UNSHARED: Final = 10_000


class Reuse:
    """Fresh answers, single flight by key, and revalidation in the background."""

    def __init__(self, cache: AnswerCache) -> None:
        self._cache = cache
        self._flights: dict[bytes, asyncio.Future[None]] = {}
        self._unshared: OrderedDict[bytes, float] = OrderedDict()
        self._background: set[asyncio.Task[None]] = set()

    async def answer(self, visit: Visit, asked: Asked) -> bool:
        """Answer from the file if that is allowed. Else the visit goes to the app, first of its key or after that."""
        stored = await self._cache.find(asked)
        if await self._answer_with(visit, asked, stored):
            return True
        if "only-if-cached" in visit.directives:
            await visit.say(504, "not in the cache", [(b"cache-status", b"hotpath; fwd=miss; detail=only-if-cached")])
            return True
        if "no-store" in visit.directives:
            visit.forwarded_for = "request"
            return False
        is_private_wish = "no-cache" in visit.directives
        # One after another takes the lead where the one before left or failed; together they would be a crowd.
        while not is_private_wish and not self._is_unshared(asked.key):
            flight = self._flights.get(asked.key)
            if flight is None:
                break
            try:
                async with asyncio.timeout(self._cache.rules.patience):
                    await asyncio.shield(flight)
            except TimeoutError:
                if await visit.stand_in():
                    return True
                if self._flights.get(asked.key) is flight and visit.method == "GET":
                    del self._flights[asked.key]  # who leads may hang: this visit leads in its place
                    break
                continue
            stored = await self._cache.find(asked)
            if await self._answer_with(visit, asked, stored):
                return True
        visit.forwarded_for = "uri-miss" if stored is None else "request" if is_private_wish else "stale"
        if stored is not None and updates.conditions_for(stored) and visit.method == "GET":
            visit.validating = stored
        if asked.key not in self._flights and visit.method == "GET" and not self._is_unshared(asked.key):
            visit.on_unshared = self.not_shared
            visit.flight = self._flights[asked.key] = asyncio.get_running_loop().create_future()
        return False

    def finish(self, visit: Visit) -> None:
        """The visit has ended, or its answer turned out to be for nobody else: who waits for it goes on."""
        flight, visit.flight = visit.flight, None
        if flight is not None and visit.asked is not None:
            if self._flights.get(visit.asked.key) is flight:
                del self._flights[visit.asked.key]
            flight.set_result(None)

    def not_shared(self, visit: Visit) -> None:
        """The answer of a visit is not kept: nobody waits for the next one."""
        if visit.asked is not None and visit.flight is not None:
            self._unshared[visit.asked.key] = time.monotonic()
            if len(self._unshared) > MAX_UNSHARED:
                self._unshared.popitem(last=False)
        self.finish(visit)

    def _is_unshared(self, key: bytes) -> bool:
        since = self._unshared.get(key)
        if since is None:
            return False
        if time.monotonic() - since < UNSHARED_SECONDS:
            return True
        del self._unshared[key]
        return False

    async def _answer_with(self, visit: Visit, asked: Asked, stored: Stored | None) -> bool:
        if stored is None:
            return False
        now = self._cache.clock()
        if caching.reusable(stored, visit.directives, now):
            member = answering.hit(stored, now)
        elif caching.usable_while_revalidating(stored, visit.directives, now):
            member = answering.hit(stored, now, "stale-while-revalidate")
            self._revalidate(visit, asked, stored)
        else:
            return False
        self._cache.counters.hits += 1
        await visit.answer(stored, member, "cached")
        return True

    def _revalidate(self, visit: Visit, asked: Asked, stored: Stored) -> None:
        """Ask the app in the background, for the next request."""
        if asked.key in self._flights or len(self._background) >= MAX_BACKGROUND:
            return
        if not self._cache.breaker.admits(self._cache.timer()):
            return
        scope = {**visit.scope, "method": "GET", "headers": visit.headers}
        again = Visit(self._cache, scope, _never, _nobody)
        again.state = Answerer.CACHE
        again.validating = stored
        again.flight = self._flights[asked.key] = asyncio.get_running_loop().create_future()
        task = asyncio.get_running_loop().create_task(self._run(again))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _run(self, visit: Visit) -> None:
        try:
            async with asyncio.timeout(BACKGROUND_SECONDS):
                await visit.pass_on()
        except Exception as problem:
            logger.warning("hotpath: a page could not be fetched again in the background: %r", problem)
        finally:
            self.finish(visit)


async def _never() -> Message:
    await asyncio.Event().wait()
    return {"type": "http.disconnect"}


async def _nobody(message: Any) -> None:
    """There is no client."""
