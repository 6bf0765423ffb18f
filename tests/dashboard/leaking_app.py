"""An app that leaks and gives back on request, with a guard that sees it and the status page in front of its login."""

from __future__ import annotations

import os
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from hotpath import Hotpath, HotpathMiddleware, MemoryGuard
from hotpath.dashboard import Dashboard
from hotpath.guard import Level, Thresholds

held: list[bytearray] = []

hot = Hotpath(os.environ["HOTPATH_LEAKING_STORE"])
guard = MemoryGuard(
    limit="512MiB",
    reserve="8MiB",
    leave=False,
    priority={"/status/*": 0, "/leak": 0, "/free": 0, "/state": 0},
    # Short times to be calm: a test waits for the way back.
    thresholds=Thresholds(
        trim=Level(0.60, 0.55, 0.2, 1), shed=Level(0.75, 0.70, 0.1, 1), brake=Level(0.97, 0.95, 0.05, 1)
    ),
)
dashboard = Dashboard(hot=hot, guard=guard)


def leak(request: Request) -> PlainTextResponse:
    """Hold so much that this share of the limit is in use."""
    reading = guard.reading
    assert reading is not None
    more = int(float(request.query_params["share"]) * reading.limit) - reading.unreclaimable
    held.append(bytearray(b"x") * max(0, more))
    return PlainTextResponse(guard.state.name)


def free(_: Request) -> PlainTextResponse:
    held.clear()
    return PlainTextResponse("freed")


def state(_: Request) -> PlainTextResponse:
    return PlainTextResponse(guard.state.name)


def cold(_: Request) -> PlainTextResponse:
    return PlainTextResponse("cold")


app: Any = HotpathMiddleware(
    Starlette(
        routes=[
            Route("/leak", leak),
            Route("/free", free),
            Route("/state", state),
            Route("/cold", cold),
            Mount("/status", dashboard),
        ]
    ),
    hot=hot,
    guard=guard,
    observe=dashboard.observe,
)
