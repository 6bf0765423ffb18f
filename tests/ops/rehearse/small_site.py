"""A site for rehearsals: ten hot pages, any number of cold ones, and ways not to start."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from hotpath import Hotpath, HotpathMiddleware, MemoryGuard

NUMBERS = [{"number": str(number)} for number in range(10)]

hot = Hotpath(os.environ["SMALL_SITE_STORE"])


@hot.route("/hot/{number}", each=NUMBERS, media_type="text/html")
def page(number: str) -> str:
    return f'<html><a href="/cold/{number}">more</a> <a href="/hot/0">first</a></html>'


async def answer(request: Request) -> HTMLResponse:
    return HTMLResponse(page(request.path_params["number"]))


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    if os.environ.get("SMALL_SITE_FAILS"):
        raise RuntimeError("no database today")
    yield


api = Starlette(routes=[Route("/hot/{number}", answer), Route("/cold/{number}", answer)], lifespan=lifespan)
app = HotpathMiddleware(api, hot=hot, guard=MemoryGuard())
