"""``/metrics`` as an ASGI app: rendered in a thread of its own, so neither a full thread pool nor the loop waits."""

from __future__ import annotations

import anyio
import anyio.to_thread
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import Response

from hotpath.guard.guard import MemoryGuard
from hotpath.metrics.caches import CacheCollector
from hotpath.metrics.guard import GuardCollector
from hotpath.metrics.site import HotpathCollector
from hotpath.site import Hotpath
from hotpath.types import Receive, Scope, Send


class MetricsApp:
    """Mount it where Prometheus looks: ``app.mount("/metrics", MetricsApp(guard=guard, hot=hot))``.

    The bounded caches of the process are told of too. It has a registry of its own; give ``registry`` to have your own
    metrics on the same page. The path is P0, so it answers in every state of the guard.
    """

    def __init__(
        self,
        *,
        guard: MemoryGuard | None = None,
        hot: Hotpath | None = None,
        registry: CollectorRegistry | None = None,
    ) -> None:
        self.registry = registry or CollectorRegistry()
        self.registry.register(CacheCollector())
        if guard is not None:
            self.registry.register(GuardCollector(guard))
        if hot is not None:
            self.registry.register(HotpathCollector(hot))
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
