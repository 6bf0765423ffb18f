"""Hot pages in a server that somebody else starts: ``uvicorn --http hotpath.front.protocol:HotpathProtocol myapp:app``.

A hit is answered where uvicorn hands the protocol what it received, before a request is parsed in full and before a
task for the app exists. Everything else takes uvicorn's own way, unchanged.
"""

from __future__ import annotations

import asyncio
import weakref
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import h11
from uvicorn.config import Config
from uvicorn.protocols.utils import get_client_addr, get_path_with_query_string
from uvicorn.server import ServerState

from hotpath.asgi.middleware import HotpathMiddleware
from hotpath.front.heads import RequestHead
from hotpath.front.hits import Hits, Opening, Repeated
from hotpath.log import logger
from hotpath.serving.snapshot import Answer
from hotpath.types import ASGIApp, Header

# As uvicorn chooses for --http auto.
try:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as Base
except ImportError:
    if not TYPE_CHECKING:
        from uvicorn.protocols.http.h11_impl import H11Protocol as Base

# Layers around a middleware that are looked through; uvicorn has two and Starlette one.
MAX_LAYERS: Final = 10


class Early:
    """What all connections of one server share. ``middleware`` is the one whose hits are answered early."""

    def __init__(self, middleware: HotpathMiddleware) -> None:
        self.middleware = middleware
        self.hits = Hits(middleware.hot)
        self._opening = Opening()
        self._fields: list[Header] | None = None

    def bytes_of(self, method: str, answer: Answer, default_headers: list[Header], *, closes: bool) -> bytes:
        """An answer as it goes on the wire."""
        if default_headers is not self._fields:  # another list each second, with another Date
            self._fields = default_headers
            self._opening = Opening(default_headers)
        return self._opening.head(answer, closes, answer.body if method == "GET" else b"")


_early: weakref.WeakKeyDictionary[Config, Early | None] = weakref.WeakKeyDictionary()


def early_of(config: Config) -> Early | None:
    """What answers early in the server of ``config``; ``None``, and a line in the log, where nothing can."""
    if config not in _early:
        middleware = middleware_of(config.loaded_app) if not config.root_path else None
        _early[config] = Early(middleware) if middleware is not None else None
        if middleware is None:
            logger.warning(
                "HotpathProtocol answers nothing early: no HotpathMiddleware is the first to see a request here; write"
                " app = HotpathMiddleware(app, hot=hot) around the whole app, and no --root-path"
            )
    return _early[config]


def middleware_of(app: ASGIApp) -> HotpathMiddleware | None:
    """The ``HotpathMiddleware`` that is the first to see a request: behind nothing that could answer or change it.

    A Starlette application has its layers once it has started. FastAPI's own layers trace requests, so a middleware
    that is added to FastAPI is behind something; one that wraps the application is not.
    """
    from starlette.applications import Starlette
    from starlette.middleware.errors import ServerErrorMiddleware

    layer: Any = app
    for _ in range(MAX_LAYERS):
        if isinstance(layer, HotpathMiddleware):
            return layer
        if isinstance(layer, Starlette):
            layer = layer.middleware_stack
        elif isinstance(layer, ServerErrorMiddleware) or type(layer).__module__.startswith("uvicorn.middleware."):
            layer = layer.app
        else:
            break
    return None


class HotpathProtocol(Base):
    """uvicorn's protocol, which answers the hot pages of the app's ``HotpathMiddleware`` before the app is called.

    Not those of a middleware with ``bypass=`` or ``observe=``: both have to see each request.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._early = early_of(config)
        if self._early is not None:
            self._early.hits.follow()
        self._is_in_message = False
        self._repeated: Repeated | None = None

    @property
    def is_idle(self) -> bool:
        """Whether every request that came is answered, and not a byte of another has come."""
        if self.cycle is not None and not self.cycle.response_complete:
            return False
        connection: h11.Connection | None = getattr(self, "conn", None)
        if connection is None:
            return not self._is_in_message
        return connection.their_state is h11.IDLE and not connection.trailing_data[0]

    def on_message_begin(self) -> None:
        """The first byte of a request (httptools)."""
        self._is_in_message = True
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """The last byte of a request (httptools)."""
        self._is_in_message = False
        super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        """Answer the heads in ``data`` that are hot; from the first that is not, it is uvicorn's."""
        early = self._early
        if early is not None and early.middleware.is_plain and self.is_idle:
            data = self._answer(early, data)
            if not data:
                return
        super().data_received(data)

    def _answer(self, early: Early, data: bytes) -> bytes:
        """What is left of ``data`` for uvicorn."""
        start, hits = 0, early.hits
        if self._repeated is not None and not self.flow.write_paused and not self.transport.is_closing():
            answer = hits.find_again(self._repeated, data)
            if answer is not None:
                self._write(early, "GET", answer, closes=False)
                return b""
        while start < len(data) and not self.flow.write_paused and not self.transport.is_closing():
            head = hits.blocks.read(data, start)
            answer = hits.find(head) if head is not None else None
            if head is None or answer is None:
                break
            start = head.end
            self._write(early, head.method, answer, closes=head.meaning.closes)
            if self.access_log:
                self._log(head, answer.status)
            else:
                self._repeated = Repeated.of(head)
        return data[start:]

    def _write(self, early: Early, method: str, answer: Answer, *, closes: bool) -> None:
        self._unset_keepalive_if_required()
        self.transport.write(early.bytes_of(method, answer, self.server_state.default_headers, closes=closes))
        self.server_state.total_requests += 1
        if closes:
            self.transport.close()
        else:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _log(self, head: RequestHead, status: int) -> None:
        """The line that uvicorn writes for a request."""
        path, _, query = head.target.partition(b"?")
        scope: Any = {"client": self.client, "path": unquote(path.decode("ascii")), "query_string": query}
        version = "1.0" if head.block.startswith(b" HTTP/1.0") else "1.1"
        self.access_logger.info(
            '%s - "%s %s HTTP/%s" %d',
            get_client_addr(scope),
            head.method,
            get_path_with_query_string(scope),
            version,
            status,
        )
