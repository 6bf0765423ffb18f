"""What an operator asks of a running front, on a Unix socket that only its user can open and on --admin."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from hotpath.errors import DeclarationError
from hotpath.front.upstream import Upstream
from hotpath.metrics.app import MetricsApp
from hotpath.options import parse_seconds
from hotpath.serving.reader import reader_of
from hotpath.site import Hotpath

MAX_PAUSE_SECONDS = 600.0

Reload = Callable[[], Awaitable[str | None]]


def admin_app(hot: Hotpath, upstream: Upstream, registry: CollectorRegistry) -> Starlette:
    """``/metrics``, ``/healthz`` and ``/readyz``: they look, and change nothing."""

    async def healthz(_: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    async def readyz(_: Request) -> JSONResponse:
        """Ready to serve hot pages, whatever the app does: that is what the front is for."""
        generation = reader_of(hot).loader.snapshot.generation
        facts = {"generation": generation, "app": "up" if upstream.is_up else "down", "paused": upstream.is_paused}
        return JSONResponse(facts, 200 if generation else 503)

    metrics = MetricsApp(hot=hot, registry=registry)
    return Starlette(routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)])


def control_app(upstream: Upstream, reload: Reload | None) -> Starlette:
    """``POST /reload``, ``/pause?seconds=60`` and ``/resume``; ``reload`` is ``None`` where the app is another's."""

    async def reload_now(_: Request) -> JSONResponse:
        if reload is None:
            return JSONResponse({"problem": "this front does not run the app: restart what does"}, 409)
        problem = await reload()
        return JSONResponse({"problem": problem}, 200 if problem is None else 409)

    async def pause(request: Request) -> JSONResponse:
        try:
            seconds = parse_seconds(request.query_params.get("seconds", "60s"), "--max")
        except DeclarationError as error:
            return JSONResponse({"problem": str(error)}, 409)
        if seconds > MAX_PAUSE_SECONDS:
            return JSONResponse({"problem": f"--max: at most {MAX_PAUSE_SECONDS:g} s"}, 409)
        upstream.pause(seconds)
        return JSONResponse({"problem": None})

    async def resume(_: Request) -> JSONResponse:
        upstream.resume()
        return JSONResponse({"problem": None})

    return Starlette(
        routes=[
            Route("/reload", reload_now, methods=["POST"]),
            Route("/pause", pause, methods=["POST"]),
            Route("/resume", resume, methods=["POST"]),
        ]
    )
