"""A site that has the pages of a log: those asked for most are hot, the others are not. ``LOG_SITE_LOG`` names it."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from hotpath import Hotpath, HotpathMiddleware, MemoryGuard
from hotpath.ops.rehearse.crawl import read_log

HOT = 40

hot = Hotpath(os.environ["LOG_SITE_STORE"])


def pages() -> list[str]:
    """The paths that can be hot, most often asked for first."""
    asked = Counter(target for _, target in read_log([os.environ["LOG_SITE_LOG"]]).visits if "?" not in target)
    return [path for path, _ in asked.most_common() if path.isascii() and not set(path) & set("{}%")]


def declare() -> None:
    """A route for each of the first of them."""
    for path in pages()[:HOT]:

        @hot.route(path, media_type="text/plain")
        def page(path: str = path) -> str:
            return f"{path} of {Path(os.environ['LOG_SITE_LOG']).name}\n"


async def answer(request: Request) -> PlainTextResponse:
    return PlainTextResponse(request.url.path)


if "LOG_SITE_LOG" in os.environ:
    declare()
app = HotpathMiddleware(Starlette(routes=[Route("/{path:path}", answer)]), hot=hot, guard=MemoryGuard())
