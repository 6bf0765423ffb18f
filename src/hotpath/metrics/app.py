"""``/metrics`` as an ASGI app: rendered in a thread of its own, so neither a full thread pool nor the loop waits."""

from __future__ import annotations

import weakref
from typing import ClassVar

import anyio
import anyio.to_thread
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import Response

from hotpath.errors import DeclarationError
from hotpath.guard.guard import MemoryGuard
from hotpath.metrics.caches import CacheCollector
from hotpath.metrics.guard import GuardCollector
from hotpath.metrics.site import HotpathCollector
from hotpath.site import Hotpath
from hotpath.types import Receive, Scope, Send


class MetricsApp:
    """Put it where Prometheus looks: ``app.add_route("/metrics", MetricsApp(guard=guard, hot=hot))``.

    Not with ``app.mount``: Starlette answers ``/metrics`` with a 307 to ``/metrics/`` then. The bounded caches of the
    process are in it too. It has a registry of its own; give ``registry`` to have your own metrics on the same page.
    The path is P0, so it answers in every state of the guard. Raises ``DeclarationError`` for a registry that another
    ``MetricsApp`` has: each metric would be there twice, which Prometheus refuses.
    """

    _registries: ClassVar[weakref.WeakSet[CollectorRegistry]] = weakref.WeakSet()

    def __init__(
        self,
        *,
        guard: MemoryGuard | None = None,
        hot: Hotpath | None = None,
        registry: CollectorRegistry | None = None,
    ) -> None:
        self.registry = registry or CollectorRegistry()
        if self.registry in self._registries:
            raise DeclarationError(
                "registry= has hotpath's metrics already; make one MetricsApp and use it in both places, or leave"
                " registry= out"
            )
        self._registries.add(self.registry)
        self.registry.register(CacheCollector(guard))
        if guard is not None:
            self.registry.register(GuardCollector(guard))
        if hot is not None:
            self.registry.register(HotpathCollector(hot, guard=guard))
        self._limiter: anyio.CapacityLimiter | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise ValueError(f"MetricsApp answers HTTP only, not {scope['type']!r}")
        if scope["method"] not in ("GET", "HEAD"):
            await Response(status_code=405, headers={"allow": "GET, HEAD"})(scope, receive, send)
            return
        encode, media_type = choose_encoder(",".join(Request(scope).headers.getlist("accept")))
        # Not the pool that the app's functions run in: under pressure that one is full.
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(1)
        body = await anyio.to_thread.run_sync(encode, self.registry, limiter=self._limiter)
        response = Response(body, headers={"content-type": media_type, "cache-control": "no-store"})
        if scope["method"] == "HEAD":
            response.body = b""
        await response(scope, receive, send)
