"""The ASGI class: a request for a hot page is answered here, everything else reaches the app untouched."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import anyio.to_thread

from hotpath.errors import DeclarationError
from hotpath.keys import strip_root_path
from hotpath.resolver import BYPASSED, PENDING, PENDING_STATUS, UNREADABLE, Miss, Pending, resolve, resolve_page
from hotpath.site import Hotpath
from hotpath.snapshot import Answer

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
# Whatever is called with (scope, receive, send): frameworks type the three in ways that fit no common signature.
ASGIApp = Callable[..., Awaitable[None]]

logger = logging.getLogger("hotpath")


class HotpathMiddleware:
    """Serve the hot pages of ``hot`` before ``app`` is asked.

    Wrap the whole app (``app = HotpathMiddleware(app, hot=hot)``), or register it
    (``app.add_middleware(HotpathMiddleware, hot=hot)``): the first is faster, since the framework's own outer layers
    are not in front. ``bypass`` takes a scope and says whether this request is for the app even on a hot path.

    All state is in ``hot``: any number of instances share one snapshot and one watcher.
    """

    def __init__(self, app: ASGIApp, *, hot: Hotpath, bypass: Callable[[Scope], bool] | None = None) -> None:
        if not isinstance(hot, Hotpath):
            raise DeclarationError(f"hot={hot!r}: give the Hotpath object that declares the routes")
        if not callable(app):
            raise DeclarationError(f"app={app!r} is no ASGI application")
        self.app = app
        self.hot = hot
        self.internal_errors = 0
        self._reader = hot.reader
        self._bypass = bypass

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            answer: Answer | Pending | Miss = PENDING
            try:
                if self._bypass is None and not scope["root_path"]:
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
        await self.app(scope, receive, send)

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
            if not isinstance(answer, Pending):
                return answer
            if answer.key is None:
                return UNREADABLE
            page = await anyio.to_thread.run_sync(self._reader.load_page, answer.key)
            return resolve_page(page, method, headers) if page is not None else UNREADABLE
        except Exception:
            # Whatever is wrong in hotpath must never cost a request that the app could answer.
            self._report()
            return UNREADABLE

    async def _start(self) -> None:
        """The first load, in a thread: at lifespan start-up, or with the first request where no lifespan runs."""
        try:
            await anyio.to_thread.run_sync(self._reader.start)
        except Exception:
            # A store that cannot be read must not keep the app from starting: every page is the app's then.
            self._report()

    def _report(self) -> None:
        self.internal_errors += 1
        if self.internal_errors == 1:
            logger.exception("hotpath failed on a request, which went to the app; later failures are only counted")
