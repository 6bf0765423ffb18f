"""The ASGI class: a request for a hot page is answered here; everything else is for the app, if the guard lets it."""

from __future__ import annotations

import asyncio
import inspect
import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import quote

from hotpath.asgi.access_log import Observer, Watch, result_of
from hotpath.asgi.frameworks import held_back
from hotpath.asgi.threads import run_in_thread
from hotpath.errors import DeclarationError
from hotpath.guard.guard import MemoryGuard
from hotpath.options import is_plain
from hotpath.pages.keys import strip_root_path
from hotpath.serving.resolver import BYPASSED, PENDING, PENDING_STATUS, UNREADABLE, Miss, Pending, resolve, resolve_page
from hotpath.serving.snapshot import Answer, Serve
from hotpath.site import Hotpath
from hotpath.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger("hotpath")

_CLOSE = (b"connection", b"close")

# Not the same as a hot page whose bytes are gone: what was asked for is not known, so the guard may refuse it.
_FAILED = Miss("hotpath failed or has nothing loaded; the log says what")


class HotpathMiddleware:
    """Serve the hot pages of ``hot`` before ``app`` is asked.

    Wrap the whole app (``app = HotpathMiddleware(app, hot=hot)``), or register it
    (``app.add_middleware(HotpathMiddleware, hot=hot)``): the first is faster, since the framework's own outer layers
    are not in front. ``guard`` refuses what is not hot while memory is short. ``bypass`` takes a scope and says
    whether this request is for the app even on a hot path. ``observe`` is told of each HTTP request when it is done,
    as a ``hotpath.asgi.HotpathRequest``; ``hotpath.asgi.AccessLog()`` logs it.

    All state is in ``hot``: any number of instances share one snapshot and one watcher.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        hot: Hotpath,
        guard: MemoryGuard | None = None,
        bypass: Callable[[Scope], bool] | None = None,
        observe: Observer | None = None,
    ) -> None:
        if not isinstance(hot, Hotpath):
            raise DeclarationError(f"hot={hot!r}: give the Hotpath object that declares the routes")
        if not callable(app):
            raise DeclarationError(f"app={app!r} is no ASGI application")
        if isinstance(app, type) and not hasattr(app, "__await__"):
            raise DeclarationError(f"app={app!r} is a class; write HotpathMiddleware({app.__name__}(…), hot=hot)")
        if _is_wsgi(app):
            raise DeclarationError(
                f"app={app!r} takes two arguments, as a WSGI application does; write "
                "HotpathMiddleware(a2wsgi.WSGIMiddleware(app), hot=hot)"
            )
        if guard is not None and not isinstance(guard, MemoryGuard):
            raise DeclarationError(f"guard={guard!r}: write guard=MemoryGuard(limit='1500MiB')")
        if bypass is not None and not is_plain(bypass):
            raise DeclarationError(f"bypass={bypass!r}: write a plain function that takes a scope and returns a bool")
        if observe is not None and not is_plain(observe):
            raise DeclarationError(f"observe={observe!r}: write a plain function that takes a HotpathRequest")
        for told in held_back(app, hot.routes):
            hot.tell(told)
        self.app = app
        self.hot = hot
        self.internal_errors = 0
        self.observer_errors = 0
        self._reader = hot.reader
        self._bypass = bypass
        self._guard = guard
        self._admission = guard.admission if guard is not None else None
        self._observe = observe
        # Off while the process leaves too: the long way then closes connections.
        self._is_straight = bypass is None and observe is None
        self._is_leaving = False
        if guard is not None:
            guard.on_leaving.append(self._close_connections)
            if hot.reader.shrink not in guard.shrinks:  # several instances share one reader
                guard.shrinks.append(hot.reader.shrink)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer: Answer | Pending | Miss = PENDING
        if scope["type"] == "http":
            try:
                if self._is_straight and not scope["root_path"]:
                    answer = resolve(
                        self._reader.snapshot,
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
                    await self._call_observed(self._observe, scope, receive, send)
                    return
                answer = await self._take_long_way(scope)
                status = answer.status
            if status:
                if TYPE_CHECKING:
                    assert isinstance(answer, Answer)
                answer.uses += 1
                # New objects each time: an outer middleware may write into them.
                headers = answer.headers + answer.freshness.headers
                await send({"type": "http.response.start", "status": status, "headers": headers})
                await send({"type": "http.response.body", "body": answer.body})
                return
        elif scope["type"] == "lifespan":
            await self._start()
        admission = self._admission
        if admission is None:
            await self.app(scope, receive, send)
            return
        if answer is PENDING or not admission.let_in(scope):
            await self._pass_guard(scope, receive, send, answer is UNREADABLE)
            return
        try:
            await self.app(scope, receive, send)
        finally:
            admission.leave(scope)

    async def _call_observed(self, observe: Observer, scope: Scope, receive: Receive, send: Send) -> None:
        """The whole way of one request, hot or not, told to the observer."""
        watch = Watch(scope, send)
        try:
            answer = await self._take_long_way(scope)
            result = result_of(answer)
            if isinstance(answer, Answer):
                answer.uses += 1
                headers = answer.headers + answer.freshness.headers
                watch.result = result
                await watch({"type": "http.response.start", "status": answer.status, "headers": headers})
                await watch({"type": "http.response.body", "body": answer.body})
            else:
                was_let_in = await self._pass_guard(scope, receive, watch, answer is UNREADABLE)
                watch.result = result if was_let_in else "shed"
        finally:
            try:
                observe(watch.request())
            except Exception:
                self.observer_errors += 1
                if self.observer_errors == 1:
                    logger.exception("observe= failed on a request, which is not harmed; later failures are counted")

    async def _pass_guard(self, scope: Scope, receive: Receive, send: Send, is_hot: bool) -> bool:
        """The app if the guard lets it, whatever the scope and the state; whether the app was left to answer."""
        guard = self._guard
        if guard is None or scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return True
        admission = guard.admission
        if not guard.is_started:
            self._start_guard(guard)
        refusal = admission.enter(scope, is_hot=is_hot)
        if refusal is not None:
            await refusal.send(scope, send)
            return False
        app = admission.app_for(scope, self.app)
        try:
            if guard.hard_limit is not None:
                return await self._call_with_limit(app, guard, scope, receive, send)
            await app(scope, receive, send)
            return True
        finally:
            admission.leave(scope)

    async def _call_with_limit(
        self, app: ASGIApp, guard: MemoryGuard, scope: Scope, receive: Receive, send: Send
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
            if not self._reader.started:
                await self._start()
            if self._bypass is not None and self._bypass(scope):
                return BYPASSED
            raw_path = scope.get("raw_path") or quote(scope["path"], safe="/!$&'()*+,;=:@").encode("ascii")
            root_path = scope.get("root_path")
            if root_path:
                raw_path = strip_root_path(raw_path, quote(root_path).encode("ascii"))
            method, headers = scope["method"], scope["headers"]
            answer = resolve(self._reader.snapshot, method, raw_path, scope.get("query_string") or b"", headers)
            if isinstance(answer, Pending):
                if answer.key is None:
                    return _FAILED
                page = await run_in_thread(self._reader.load_page, answer.key)
                answer = resolve_page(page, method, headers) if page is not None else UNREADABLE
            if self._is_leaving and isinstance(answer, Answer) and str(scope.get("http_version", "")).startswith("1"):
                answer.uses += 1  # of the copy nobody counts them
                kind = Serve if isinstance(answer, Serve) else type(answer)
                return kind(answer.status, [*answer.headers, _CLOSE], answer.body, answer.freshness)
            return answer
        except Exception:
            # Whatever is wrong in hotpath must never cost a request that the app could answer.
            self._report()
            return _FAILED

    async def _start(self) -> None:
        """The first load, in a thread: at lifespan start-up, or with the first request where no lifespan runs."""
        if self._guard is not None:
            self._start_guard(self._guard)
        try:
            await run_in_thread(self.hot.start)
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
        except Exception:
            self._report()

    def _close_connections(self) -> None:
        self._is_leaving = True
        self._is_straight = False

    def _report(self) -> None:
        self.internal_errors += 1
        if self.internal_errors == 1:
            logger.exception("hotpath failed on a request, which went to the app; later failures are only counted")


def _is_wsgi(app: ASGIApp) -> bool:
    """Whether it takes two arguments (PEP 3333); ASGI has three."""
    try:
        parameters = inspect.signature(app).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    return len(positional) == 2 and not any(one.kind is one.VAR_POSITIONAL for one in parameters)
