"""An app that leaks and gives back on request, with a guard that sees it and the status page in front of its login."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from hotpath import Hotpath, HotpathMiddleware, MemoryGuard
from hotpath.dashboard import Dashboard
from hotpath.guard import Level, Thresholds

MIB = 1024 * 1024
held: list[bytearray] = []

hot = Hotpath(os.environ["HOTPATH_LEAKING_STORE"])
hot.target = "app:hot"  # what commands are shown with
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
    """Leak until this share of the limit is in use, as no single request does."""
    threading.Thread(target=leak_to, args=(float(request.query_params["share"]),)).start()
    return PlainTextResponse("leaks")


def leak_to(share: float) -> None:
    """So much as is missing now: on a busy machine the next reading comes when too much has been taken."""
    if (reading := guard.reading) is not None:
        for _ in range(int(share * reading.limit - reading.unreclaimable) // (2 * MIB)):
            held.append(bytearray(b"x") * (2 * MIB))
            time.sleep(0.03)


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
