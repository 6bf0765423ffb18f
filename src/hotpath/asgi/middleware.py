"""The ASGI class: a request for a hot page is answered here; everything else is for the app, if the guard lets it."""

from __future__ import annotations

import asyncio
import gc
import inspect
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import quote

from hotpath.asgi.access_log import Observer, Result, Watch, result_of
from hotpath.asgi.frameworks import held_back, passed_by
from hotpath.asgi.threads import run_in_thread
from hotpath.errors import DeclarationError
from hotpath.guard.guard import MemoryGuard
from hotpath.guard.refusal import Refusal
from hotpath.log import logger
from hotpath.options import is_plain
from hotpath.pages.keys import MAX_TARGET_BYTES, split_absolute, strip_root_path
from hotpath.serving.reader import reader_of
from hotpath.serving.resolver import (
    BYPASSED,
    MAX_HEAD_LINES,
    OTHER_HOST,
    PENDING,
    PENDING_STATUS,
    TOO_LONG,
    UNREADABLE,
    Miss,
    Pending,
    resolve,
    resolve_page,
)
from hotpath.serving.snapshot import Answer, Serve
from hotpath.site import Hotpath
from hotpath.types import ASGIApp, Message, Receive, Scope, Send

_CLOSE = (b"connection", b"close")
_GUARDED = frozenset(("http", "websocket"))

# Unlike UNREADABLE it may be refused by the guard: the page that was asked for is not known.
_FAILED = Miss("hotpath failed or has nothing loaded; the log says what")


class HotpathMiddleware:
    """Serve the hot pages of ``hot`` before ``app`` is asked.

    Wrap the whole app (``app = HotpathMiddleware(app, hot=hot)``), or register it
    (``app.add_middleware(HotpathMiddleware, hot=hot)``): the first is faster, since the framework's own outer layers
    are not in front. ``guard`` refuses what is not hot while memory is short. ``bypass`` takes a scope and says
    whether this request is for the app even on a hot path. ``observe`` is called with each HTTP request when it is
    done, as a ``hotpath.asgi.HotpathRequest``; ``hotpath.asgi.AccessLog()`` logs it. With ``follow`` one of the
    processes that serve keeps the store at the generation of its origin.

    Any number of instances for one ``hot`` share one snapshot and one watcher (``hotpath.serving.reader_of(hot)``).
    """

    # Long, since it checks each option.
    def __init__(
        self,
        app: ASGIApp,
        *,
        hot: Hotpath,
        guard: MemoryGuard | None = None,
        bypass: Callable[[Scope], bool] | None = None,
        observe: Observer | None = None,
        follow: bool = False,
    ) -> None:
        _check_app(app)
        if not isinstance(hot, Hotpath):
            raise DeclarationError(f"hot={hot!r}: give the Hotpath object that declares the routes")
        if guard is not None and not isinstance(guard, MemoryGuard):
            raise DeclarationError(f"guard={guard!r}: write guard=MemoryGuard(limit='1500MiB')")
        if bypass is not None and not is_plain(bypass):
            raise DeclarationError(f"bypass={bypass!r}: write a plain function that takes a scope and returns a bool")
        if observe is not None and not is_plain(observe):
            raise DeclarationError(f"observe={observe!r}: write a plain function that takes a HotpathRequest")
        self.app = app
        self.hot = hot
        self.internal_errors = 0
        self.observer_errors = 0
        self._reader = reader_of(hot)
        self._loader = self._reader.loader
        self._bypass = bypass
        self._guard = guard
        self._observe = observe
        self._start_following: Callable[[], None] | None = None
        if follow:
            from hotpath.serving.following import following_of  # object storage is an extra

            following = following_of(hot)
            self._start_following = None if following is None else following.start
        # Off while the process leaves too: the long way then closes connections.
        # With a store that is followed, other hosts may be declared at any time.
        answers_any_host = hot.reading.hosts is None and not hot.follows_store
        self._is_straight = bypass is None and observe is None and answers_any_host
        self._is_leaving = False
        for problem in (*held_back(app, hot.routes), *passed_by(app, hot.reading, has_bypass=bypass is not None)):
            self._reader.once.warn(problem)
        if guard is not None:
            guard.on_leaving.append(self._close_connections)
            if self._loader.shrink not in guard.shrinks:  # several instances share one loader
                guard.shrinks.append(self._loader.shrink)

    @property
    def has_bypass(self) -> bool:
        """Whether ``bypass=`` decides for each request, which only this process can ask."""
        return self._bypass is not None

    @property
    def is_plain(self) -> bool:
        """Whether a hot page needs nothing of this instance: no ``bypass``, no ``observe``, and no connection to close.

        Then a server may answer it before it calls the app.
        """
        return self._bypass is None and self._observe is None and not self._is_leaving

    # One coroutine from the server to the answer or the app, longer than functions should be: each more would cost
    # every request 60 ns.
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        answer: Answer | Pending | Miss = PENDING
        watch: Watch | None = None
        outcome: Answer | Pending | Miss | Result = "error"
        try:
            if kind == "http":
                if self._is_straight:
                    try:
                        if not scope["root_path"]:
                            answer = resolve(
                                self._loader.snapshot,
                                scope["method"],
                                scope["raw_path"],
                                scope["query_string"],
                                scope["headers"],
                            )
                    except Exception:
                        # A field that servers may leave out, or a fault of ours: the long way finds out which.
                        answer = PENDING
                # Told apart by their status: isinstance() costs a tenth of the whole lookup.
                status = answer.status
                if status == PENDING_STATUS:
                    if self._observe is not None:
                        send = watch = Watch(scope, send)
                    answer = await self._take_long_way(scope)
                    status = answer.status
                if status:
                    if TYPE_CHECKING:
                        assert isinstance(answer, Answer)
                    outcome = answer
                    answer.uses += 1
                    # New objects each time: an outer middleware may write into them.
                    headers = answer.headers + answer.freshness.headers
                    await send({"type": "http.response.start", "status": status, "headers": headers})
                    await send({"type": "http.response.body", "body": answer.body})
                    return
            elif kind == "lifespan":
                await self._start()
            guard = self._guard
            if guard is None or kind not in _GUARDED:
                await self.app(scope, receive, send)
                outcome = answer
                return
            app, admission = self.app, guard.admission
            if not admission.let_in(scope):
                refusal = self._enter(guard, scope, answer is UNREADABLE)
                if refusal is not None:
                    await refusal.send(scope, send)
                    outcome = "shed"
                    return
                app = admission.app_for(scope, app)
            try:
                if guard.hard_limit is None:
                    await app(scope, receive, send)
                    outcome = answer
                else:
                    outcome = answer if await self._call_with_limit(guard, app, scope, receive, send) else "shed"
            finally:
                admission.leave(scope)
        finally:
            if watch is not None:
                self._tell_observer(watch, outcome)

    def _tell_observer(self, watch: Watch, outcome: Answer | Pending | Miss | Result) -> None:
        assert self._observe is not None
        try:
            self._observe(watch.request(watch.result_of_app or result_of(outcome)))
        except Exception:  # a user's function; the request is answered already
            self.observer_errors += 1
            if self.observer_errors == 1:
                logger.exception("observe= failed on a request, which is not harmed; later failures are counted")

    def _enter(self, guard: MemoryGuard, scope: Scope, is_hot: bool) -> Refusal | None:
        """Let a request on to the app (``None``), or say how to refuse it."""
        if not guard.is_started:
            self._start_guard(guard)
        return guard.admission.enter(scope, is_hot=is_hot or self._is_preflight_of_hot(scope))

    def _is_preflight_of_hot(self, scope: Scope) -> bool:
        """Whether a browser asks leave to fetch a hot page (Fetch Standard, CORS-preflight request)."""
        if scope.get("method") != "OPTIONS":
            return False
        try:
            fields = scope["headers"][:MAX_HEAD_LINES]
            methods = [value for name, value in fields if name == b"access-control-request-method"]
            answer = self._resolve(scope, methods[0].decode("latin-1")) if methods else _FAILED
        except Exception:  # a fault of ours makes it a cold request, not an error
            self._report()
            return False
        return bool(answer.status) or (isinstance(answer, Pending) and answer.key is not None)

    async def _call_with_limit(
        self, guard: MemoryGuard, app: ASGIApp, scope: Scope, receive: Receive, send: Send
    ) -> bool:
        """The app under a hard limit: 503 for a request that memory ran out for, also where a framework says 500."""
        begun = refused = False

        async def watch(message: Message) -> None:
            nonlocal begun, refused
            if refused:
                return
            if not begun and message["type"] == "http.response.start":
                # Frameworks send their 500 from where they catch.
                if message["status"] >= 500 and guard.ran_out(sys.exception()):
                    refused = True
                    await guard.refuse_for_memory(scope, send)
                    return
                begun = True
            await send(message)

        try:
            await app(scope, receive, watch)
        except BaseException as error:
            if type(error) is MemoryError:
                # Before anything else: with not a byte left the next line fails, and CPython's handling of that too.
                guard.memory_ran_out()
            elif not guard.ran_out(error):
                raise
            if not refused:
                if begun or scope["type"] != "http":
                    raise
                refused = True
                await guard.refuse_for_memory(scope, send)
        return not refused

    async def _take_long_way(self, scope: Scope) -> Answer | Miss:
        """The same question with all that is seldom needed: mount points, missing fields, loading what is on disk."""
        try:
            if not self._reader.is_started:
                await self._start()
            if self._bypass is not None and self._bypass(scope):
                return BYPASSED
            answer = self._resolve(scope, scope["method"])
            if isinstance(answer, Pending):
                if answer.key is None:
                    return _FAILED
                page = await run_in_thread(self._reader.load_page, answer.key)
                answer = resolve_page(page, scope["method"], scope["headers"]) if page is not None else UNREADABLE
            if self._is_leaving and isinstance(answer, Answer) and str(scope.get("http_version", "")).startswith("1"):
                answer.uses += 1  # of the copy nobody counts them
                kind = Serve if isinstance(answer, Serve) else type(answer)
                return kind(answer.status, [*answer.headers, _CLOSE], answer.body, answer.freshness)
            return answer
        except Exception:
            # Whatever is wrong in hotpath must never cost a request that the app could answer.
            self._report()
            return _FAILED

    def _resolve(self, scope: Scope, method: str) -> Answer | Pending | Miss:
        """What a request with ``method`` would get, also below a mount point or where the server gives no raw path."""
        raw_path = scope.get("raw_path")
        if not raw_path:
            if len(scope["path"]) > MAX_TARGET_BYTES:
                return TOO_LONG  # before it is encoded
            raw_path = quote(scope["path"], safe="/!$&'()*+,;=:@").encode("ascii")
        hosts = self.hot.reading.hosts
        if hosts is not None and not hosts.accept(split_absolute(raw_path)[0], scope["headers"][:MAX_HEAD_LINES]):
            return OTHER_HOST
        root_path = scope.get("root_path")
        if root_path:
            raw_path = strip_root_path(raw_path, quote(root_path).encode("ascii"))
        return resolve(self._loader.snapshot, method, raw_path, scope.get("query_string") or b"", scope["headers"])

    async def _start(self) -> None:
        """The first load, in a thread: at lifespan start-up, or with the first request where no lifespan runs."""
        if self._guard is not None:
            self._start_guard(self._guard)
        if self._start_following is not None:
            self._start_following()
        try:
            await run_in_thread(self._reader.start)
        except Exception:
            # A store that cannot be read must not keep the app from starting: every page is the app's then.
            self._report()

    def _start_guard(self, guard: MemoryGuard) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            loop = None  # trio
        try:
            guard.start(str(self.hot.store.root), loop)
        except Exception:  # without a guard the app still answers
            self._report()

    def _close_connections(self) -> None:
        self._is_leaving = True
        self._is_straight = False

    def _report(self) -> None:
        self.internal_errors += 1
        if self.internal_errors == 1:
            logger.exception("hotpath failed on a request, which went to the app; later failures are only counted")


def _check_app(app: ASGIApp) -> None:
    """Raise ``DeclarationError`` for what is no ASGI application."""
    if not callable(app):
        raise DeclarationError(f"app={app!r} is no ASGI application")
    if isinstance(app, type) and not hasattr(app, "__await__"):
        raise DeclarationError(f"app={app!r} is a class; write HotpathMiddleware({app.__name__}(…), hot=hot)")
    if _is_wsgi(app):
        raise DeclarationError(
            f"app={app!r} takes two arguments, as a WSGI application does; write "
            "HotpathMiddleware(a2wsgi.WSGIMiddleware(app), hot=hot)"
        )


def _is_wsgi(app: ASGIApp) -> bool:
    """Whether it takes two arguments (PEP 3333); ASGI has three."""
    try:
        parameters = inspect.signature(app).parameters.values()
    except (TypeError, ValueError):
        return False
    kinds = [parameter.kind for parameter in parameters]
    positional = kinds.count(inspect.Parameter.POSITIONAL_ONLY) + kinds.count(inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return positional == 2 and inspect.Parameter.VAR_POSITIONAL not in kinds


def has_bypass(hot: Hotpath) -> bool | None:
    """Whether a middleware of ``hot`` in this process has ``bypass=``; ``None`` where there is no middleware yet.

    One that Starlette will make when it starts counts.
    """
    known = []
    for held in gc.get_objects():
        if type(held) is HotpathMiddleware:  # not isinstance(): of a lazy object that would make it
            made = vars(held)  # one whose options were refused has less
            if made.get("hot") is hot:
                known.append(made.get("_bypass") is not None)
        elif type(held).__name__ == "Middleware" and getattr(held, "cls", None) is HotpathMiddleware:
            options = getattr(held, "kwargs", {})
            if options.get("hot") is hot:
                known.append(options.get("bypass") is not None)
    return any(known) if known else None
