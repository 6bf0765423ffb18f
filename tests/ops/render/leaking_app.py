"""An app with a guard and its figures, that leaks after ``/leak`` until 86 % of its limit are in use."""

from __future__ import annotations

import os
import threading
import time

import psutil
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from hotpath.asgi.middleware import HotpathMiddleware
from hotpath.guard.guard import MemoryGuard
from hotpath.metrics import MetricsApp
from hotpath.site import Hotpath

STEP = 4 * 1024**2

hot = Hotpath(os.environ["HOTPATH_TEST_STORE"])
guard = MemoryGuard(limit=psutil.Process().memory_info().rss + 256 * 1024**2, leave=False)
leaked: list[bytes] = []


def leak() -> None:
    while guard.reading is None or guard.reading.unreclaimable < 0.86 * guard.reading.limit:
        leaked.append(b"x" * STEP)
        time.sleep(0.1)


async def begin(_: Request) -> PlainTextResponse:
    threading.Thread(target=leak, daemon=True).start()
    return PlainTextResponse("leaking")


api = Starlette(routes=[Route("/leak", begin), Route("/metrics", MetricsApp(guard=guard, hot=hot))])
app = HotpathMiddleware(api, hot=hot, guard=guard)
