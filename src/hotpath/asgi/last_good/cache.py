"""What all requests of one cache share: the file, the rules, the breaker, and what is counted."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from hotpath.asgi.last_good import caching
from hotpath.asgi.last_good.answer_file import AnswerFile
from hotpath.asgi.last_good.answer_table import Asked
from hotpath.asgi.last_good.breaker import FAILURES_IN_A_ROW, Breaker
from hotpath.asgi.last_good.caching import Stored
from hotpath.asgi.last_good.directives import Directives
from hotpath.asgi.last_good.requests import Cookies, excluded, key_between, key_ends, request_directives
from hotpath.log import Once, logger
from hotpath.types import ASGIApp, Header

# A disk that hangs costs a request so much, and its last good answer.
FIND_SECONDS: Final = 2.0
# URLs for which it is remembered why their answers are not kept.
MAX_REASONS: Final = 1000


@dataclass(frozen=True, slots=True)
class CacheRules:
    """The options as the decisions need them; times in seconds."""

    patience: float
    stale: float
    cookies: Cookies
    is_fresh: bool
    empty_replaces: bool


@dataclass(slots=True)
class LastGoodCounters:
    """Answers since the start: in place of a failing app's, fresh ones, and refusals because the app fails."""

    served: int = 0
    hits: int = 0
    refused: int = 0


@dataclass(frozen=True, slots=True)
class RequestFields:
    """The fields of requests, and what they decide whatever the target is.

    ``is_excluded``: such requests have nothing to do with stored answers.
    """

    method: str
    headers: list[Header]
    is_excluded: bool
    directives: Directives
    key_ends: tuple[bytes, bytes] | None
    variants: dict[bytes, bytes]

    @classmethod
    def of(cls, method: str, scheme: str, headers: list[Header], cookies: Cookies) -> RequestFields:
        """``headers`` as ASGI has them."""
        is_excluded = excluded(method, headers, cookies) is not None
        directives = Directives() if is_excluded else request_directives(headers)
        return cls(method, headers, is_excluded, directives, key_ends(scheme, headers), {})


class Question(NamedTuple):
    """A request as the cache sees it. ``asked`` is ``None`` where it has nothing to do with stored answers.

    ``requested`` is when it came, in seconds since the epoch.
    """

    method: str
    key: bytes | None
    asked: Asked | None
    directives: Directives
    requested: float
    # The same on the monotonic clock.
    began: float


class AnswerCache:
    """The parts of ``LastGood`` that each request uses."""

    # Requests whose client has a stored answer while the app still works on its own: these many, and so long.
    MAX_DETACHED: Final = 16
    DETACHED_SECONDS: Final = 15.0

    def __init__(
        self,
        app: ASGIApp,
        *,
        file: AnswerFile,
        rules: CacheRules,
        is_reachable: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.app = app
        self.file = file
        self.rules = rules
        self.breaker = Breaker()
        self.counters = LastGoodCounters()
        self.is_reachable = is_reachable
        self.clock = clock
        # For what must not depend on what the machine takes for the time of day.
        self.timer = time.monotonic
        # By the timer, when the app last answered well.
        self.last_success = float("-inf")
        # By key, how such a request is ended.
        self.detached: dict[bytes, Callable[[], None]] = {}
        # Where the app is the front's forwarder: it marks which answers are the app's, and the server behind it adds no
        # Date to an answer that has one, so stored ones without a Date get theirs here (RFC 9110 §6.6.1).
        self.is_front = False
        # Bytes of bodies that are being collected.
        self.collected = 0
        self._reasons: OrderedDict[bytes, str] = OrderedDict()
        self._threads: ThreadPoolExecutor | None = None
        self._once = Once()

    def question(self, target: bytes, fields: RequestFields) -> Question:
        """A request that comes now. ``target`` is as the client wrote it."""
        key = None if fields.key_ends is None else key_between(fields.key_ends, target)
        asked = None
        if key is not None and not fields.is_excluded:
            asked = Asked(key, fields.headers, self.rules.cookies, fields.variants)
        return Question(fields.method, key, asked, fields.directives, self.clock(), self.timer())

    def app_failed(self) -> None:
        """The app failed a request."""
        was_open = self.breaker.is_open
        self.breaker.failed(self.timer())
        if self.breaker.is_open and not was_open:
            logger.warning(
                "hotpath: the app fails or is not there, %d times in a row: it is asked by one request at a time, and"
                " the others get last good answers, or 503 where there are none",
                FAILURES_IN_A_ROW,
            )

    def app_answered(self) -> None:
        """The app answered well, or is known to be back."""
        if self.breaker.is_open:
            logger.warning("hotpath: the app answers again")
        self.breaker.succeeded()
        self.last_success = self.timer()

    def let_go(self) -> None:
        """End what the app still works on for nobody: the server is about to wait for the end of all requests."""
        for end in [*self.detached.values()]:
            end()

    def close(self) -> None:
        """Write what waits to be written, and close the file. Lifespan shutdown does it; a later request opens it."""
        self.file.close()
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=False, cancel_futures=True)

    async def find(self, asked: Asked) -> Stored | None:
        """The stored answer for a request, ``None`` where the file does not answer in time."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(1, thread_name_prefix="hotpath-last-good-find")
        looking = asyncio.get_running_loop().run_in_executor(self._threads, self.file.find, asked)
        try:
            async with asyncio.timeout(FIND_SECONDS):
                return await looking
        except TimeoutError:
            self._once.warn(f"{self.file.path} does not answer within {FIND_SECONDS:g} s")
            return None

    def note(self, url: bytes, reason: str | None) -> None:
        """Remember why the answer of a URL was not kept, or with ``None`` that it was."""
        if reason is None:
            self._reasons.pop(url, None)
            return
        self._reasons[url] = reason
        if len(self._reasons) > MAX_REASONS:
            self._reasons.popitem(last=False)

    def explain_target(self, target: str) -> list[dict[str, Any]]:
        """``explain`` for each URL with this path and query that is known, on any host. Reads the file."""
        written = target.encode("latin-1", "replace")
        seen = [url for url in [*self._reasons] if url.split(b"/", 3)[3:] == [written[1:]]]
        return [self.explain(url) for url in sorted({*seen, *self.file.urls_of(written)})]

    def explain(self, url: bytes) -> dict[str, Any]:
        """Whether ``url`` has a stored answer of any variant, and why not. Reads the file.

        ``url`` is as ``url_key`` has it.
        """
        stored = self.file.find_latest(url)
        report: dict[str, Any] = {"url": url.decode("latin-1"), "is_kept": stored is not None}
        reason = self._reasons.get(url)
        if stored is None:
            report["because"] = reason or "no answer to a request like this one was seen"
            return report
        now = self.clock()
        verdict = caching.usable_on_error(stored, now, self.stale_seconds(url))
        report |= {
            "status": stored.status,
            "bytes": len(stored.body),
            "age": caching.age(stored, now),
            "ttl": int(caching.ttl(stored, now)),
            "is_used_on_error": verdict.is_allowed,
            "because": verdict.because,
        }
        if reason is not None:
            report["last_answer_not_kept"] = reason
        return report

    def stale_seconds(self, key: bytes) -> float:
        """For how long after its freshness the answer of a key may stand in; that of a ``robots.txt`` for ever."""
        return caching.FOREVER if caching.is_robots(key) else self.rules.stale
