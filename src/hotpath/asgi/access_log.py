"""What happened to each request, for those who want to see it: one event, and an access line made of it.

Servers and frameworks log what reaches the app; a hot request never does. ``observe=`` of the middleware is called
with every HTTP request, hot or not.
"""

from __future__ import annotations

import atexit
import logging
import sys
import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from queue import SimpleQueue
from typing import Any, Final, Literal, Protocol
from urllib.parse import quote

import orjson

from hotpath.errors import DeclarationError
from hotpath.log import logger
from hotpath.process import after_fork
from hotpath.serving.resolver import BYPASSED, UNREADABLE, Miss, Pending
from hotpath.serving.snapshot import Answer, NotModified, Redirect, Refuse

Result = Literal[
    "hit", "not_modified", "redirect", "refused", "miss", "bypass", "unreadable", "shed", "error", "last_good", "cached"
]

access_logger = logging.getLogger("hotpath.access")

# Lines that wait to be written; further ones are dropped and counted. About 2 MB at most of usual paths.
MAX_WAITING: Final = 8192
# Maximum characters of a path, a method or a coding in a line.
MAX_PATH: Final = 1000
# Pause of the thread between batches of lines, so that it does not take the interpreter from the loop for each line.
GATHER_SECONDS: Final = 0.02
# Seconds between two reports of dropped lines.
REPORT_SECONDS: Final = 60.0
CLOSE_SECONDS: Final = 5.0

# Key of a scope, by which what is around the app says whose answer it is.
RESULT: Final = "hotpath.result"

_CODING: Final = b"content-encoding"
_GENERATION: Final = b"x-hotpath-generation"


@dataclass(frozen=True, slots=True)
class HotpathRequest:
    """One HTTP request that the middleware is done with.

    ``time`` is when it came, in seconds since the epoch; ``microseconds`` how long it took until its last byte was
    given to the server. ``path`` is as the client wrote it, without the query. ``status`` is ``None`` when nothing was
    sent. ``body_bytes`` are those of the body, as encoded by ``coding``.

    ``result`` says who answered. hotpath: ``hit`` (200 and 206), ``not_modified`` (304), ``redirect`` (308),
    ``refused`` (406, 412, 416). The app: ``miss``, ``bypass``, ``unreadable`` (a hot page whose bytes cannot be
    read), or ``error`` when it raised or was cancelled. The memory guard: ``shed``. ``LastGood``
    around the app: ``last_good`` in place of an app that fails, ``cached`` while fresh.

    ``generation`` is the one that answered, where the answer says it: ``None`` for what comes from the app or from a
    watched directory, and with ``generation_header=False``. ``headers`` are the request's fields, for trace contexts.
    """

    time: float
    method: str
    path: str
    status: int | None
    result: Result
    generation: int | None
    body_bytes: int
    microseconds: float
    coding: str
    headers: Sequence[tuple[bytes, bytes]] = field(default=(), repr=False)


class Observer(Protocol):
    """What ``observe=`` takes: called once for each request, between two requests of the event loop, so be quick."""

    def __call__(self, request: HotpathRequest, /) -> object:
        """What it returns is not looked at; what it raises is logged once and breaks no answer."""


class Watch:
    """Stands where ``send`` does for one request, and knows afterwards what was sent."""

    __slots__ = ("_began", "_ended", "_scope", "_send", "_started", "body_bytes", "headers", "status")

    def __init__(self, scope: MutableMapping[str, Any], send: Callable[[Any], Awaitable[None]]) -> None:
        self._scope = scope
        self._send = send
        self._started = time.time()
        self._began = time.perf_counter_ns()
        self._ended = 0
        self.status: int | None = None
        self.headers: Sequence[tuple[bytes, bytes]] = ()
        self.body_bytes = 0

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = message.get("headers", ())
        elif message["type"] == "http.response.body":
            self.body_bytes += len(message.get("body", b""))
            if not message.get("more_body", False):
                await self._send(message)
                # The app may go on with something in the background.
                self._ended = time.perf_counter_ns()
                return
        await self._send(message)

    @property
    def result_of_app(self) -> Result | None:
        """What ``LastGood`` around the app says of the answer."""
        return self._scope.get(RESULT)

    def request(self, result: Result) -> HotpathRequest:
        """The event, as of now."""
        taken = (self._ended or time.perf_counter_ns()) - self._began
        coding, generation = "identity", None
        for name, value in self.headers:
            if name == _CODING:
                coding = value.decode("latin-1")
            elif name == _GENERATION and result in _OF_A_GENERATION:
                generation = int(value)
        scope = self._scope
        raw_path = scope.get("raw_path")
        return HotpathRequest(
            time=self._started,
            method=scope["method"],
            path=raw_path.decode("latin-1") if raw_path else quote(scope["path"]),
            status=self.status,
            result=result,
            generation=generation,
            body_bytes=self.body_bytes if scope["method"] != "HEAD" else 0,
            microseconds=taken / 1000,
            coding=coding,
            headers=scope["headers"],
        )


_OF_A_GENERATION: Final = frozenset(("hit", "not_modified", "refused"))


def result_of(outcome: Answer | Pending | Miss | Result) -> Result:
    """Who answered, in one word."""
    match outcome:
        case str():
            return outcome
        case NotModified():
            return "not_modified"
        case Redirect():
            return "redirect"
        case Refuse():
            return "refused"
        case Answer():
            return "hit"
    return "bypass" if outcome is BYPASSED else "unreadable" if outcome is UNREADABLE else "miss"


# The fields of a line that waits, short enough that a full queue is no danger to memory.
_Line = tuple[float, str, str, int | None, Result, int | None, int, float, str]


class AccessLog:
    """An access line for each request: ``HotpathMiddleware(app, hot=hot, observe=AccessLog())``.

    Each line is a JSON object, logged at INFO to the logger ``hotpath.access`` by a thread of its own: a handler that
    hangs never stops a request. At most ``max_waiting`` lines wait; further ones are dropped and counted in
    ``dropped``, and the logger ``hotpath`` says how many. Raises ``DeclarationError``.
    """

    def __init__(self, *, max_waiting: int = MAX_WAITING, clock: Callable[[], float] = time.monotonic) -> None:
        if not isinstance(max_waiting, int) or max_waiting < 1:
            raise DeclarationError(f"max_waiting={max_waiting!r}: write how many lines may wait, 1 or more")
        self.dropped = 0
        self._max_waiting = max_waiting
        self._clock = clock
        self._reported = 0
        self._report_at = float("-inf")
        self._has_failed = False
        self.restart_after_fork()
        after_fork.register(self)

    def __call__(self, request: HotpathRequest, /) -> None:
        """Take the event; the line is written a little later."""
        if self._waiting.qsize() >= self._max_waiting:
            self.dropped += 1
            return
        self._waiting.put(
            (
                request.time,
                request.method[:MAX_PATH],
                request.path[:MAX_PATH],
                request.status,
                request.result,
                request.generation,
                request.body_bytes,
                request.microseconds,
                request.coding[:MAX_PATH],
            )
        )
        if self._thread is None:
            self._start()

    def close(self, timeout_seconds: float = CLOSE_SECONDS) -> None:
        """Write what waits and end the thread; runs by itself when Python ends. A later request starts it again."""
        thread = self._thread
        if thread is None:
            return
        self._closing.set()
        self._waiting.put(None)
        thread.join(timeout_seconds)
        atexit.unregister(self._end)
        self.restart_after_fork()
        self._report_at = float("-inf")
        self._report()

    def restart_after_fork(self) -> None:
        """Have a new queue and no thread: what waits is the parent's to write, and the locks may be held for ever."""
        self._waiting: SimpleQueue[_Line | None] = SimpleQueue()
        self._closing = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def _end(self) -> None:
        """Python ends. What a handler hangs in must not keep the process from ending too."""
        thread = self._thread
        self.close()
        if thread is not None and thread.is_alive():
            _leave_what_hangs()

    def _start(self) -> None:
        with self._starting:
            if self._thread is not None:
                return
            _warn_if_silent()
            # Not logging.handlers.QueueListener: its stop() waits without a limit for a handler that hangs.
            self._thread = threading.Thread(
                target=self._run, args=(self._waiting, self._closing), name="hotpath-access", daemon=True
            )
            self._thread.start()
            atexit.register(self._end)

    def _run(self, waiting: SimpleQueue[_Line | None], closing: threading.Event) -> None:
        for line in iter(waiting.get, None):
            try:
                access_logger.info("%s", encode(line))
            except Exception:
                # A filter or a formatter of the user's.
                if not self._has_failed:
                    logger.exception("an access line could not be logged; later failures are passed over")
                self._has_failed = True
            self._report()
            if waiting.empty():
                closing.wait(GATHER_SECONDS)

    def _report(self) -> None:
        dropped, now = self.dropped - self._reported, self._clock()
        if dropped and now >= self._report_at:
            self._reported, self._report_at = self.dropped, now + REPORT_SECONDS
            logger.warning(
                "%d access lines were dropped: the handlers of %r are slower than requests come",
                dropped,
                access_logger.name,
            )


def _leave_what_hangs() -> None:
    """Python flushes every handler and both standard streams at its end, and would wait for the locks of one that
    hangs: a pipe that nobody reads, a disk that is gone. What those still hold is lost either way."""
    source: logging.Logger | None = access_logger
    while source is not None:
        for handler in source.handlers:
            if handler.lock is not None and not handler.lock.acquire(blocking=False):
                handler.createLock()
                handler.flush = handler.close = lambda: None  # type: ignore[method-assign]
                for name in ("stdout", "stderr"):
                    if getattr(handler, "stream", None) is getattr(sys, name):
                        setattr(sys, name, None)
            elif handler.lock is not None:
                handler.lock.release()
        source = source.parent if source.propagate else None


def encode(line: _Line) -> str:
    """One line: JSON, the time in UTC."""
    at, method, path, status, result, generation, size, microseconds, coding = line
    fields = {
        "time": datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "method": method,
        "path": path,
        "status": status,
        "result": result,
        "generation": generation,
        "bytes": size,
        "microseconds": round(microseconds, 1),
        "coding": coding,
    }
    return orjson.dumps(fields).decode("utf-8")


def _warn_if_silent() -> None:
    """Logging drops what is below WARNING by default, and nobody would know why there is no line."""
    if not access_logger.isEnabledFor(logging.INFO) or not access_logger.hasHandlers():
        logger.warning(
            "AccessLog writes to the logger %r at INFO, which goes nowhere now;"
            " write logging.basicConfig(level=logging.INFO), or give that logger a level and a handler",
            access_logger.name,
        )
