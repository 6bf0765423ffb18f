"""What each server runs: one application that holds every way to put hotpath into an app, chosen by a request field.

``HOTPATH_TEST_STORES`` names the directory that ``tests.wire.conformance.site.make_sites`` published to.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount

from hotpath.asgi.middleware import HotpathMiddleware
from hotpath.serving import reader_of
from hotpath.site import Hotpath
from hotpath.testing import FakeClock
from tests.wire.conformance.cases import ASKED
from tests.wire.conformance.site import the_app

App = Callable[[Any, Any, Any], Any]

REFRESH_SECONDS = 0.2


async def cold(scope: Any, receive: Any, send: Any) -> None:
    """The app behind: says 418 to everything, but raises at /boom and tells what it received at /echo."""
    if scope["type"] == "lifespan":
        await _live(receive, send)
    elif scope["type"] == "websocket":
        await _converse(receive, send)
    elif scope["path"].endswith("/boom"):
        raise RuntimeError("the app fails on purpose")
    elif scope["method"] == "POST":
        await _echo(scope, receive, send)
    else:
        await the_app(scope, receive, send)


async def _live(receive: Any, send: Any) -> None:
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _converse(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    message = await receive()
    await send({"type": "websocket.send", "text": "app: " + str(message.get("text"))})
    await send({"type": "websocket.close", "code": 1000})


async def _echo(scope: Any, receive: Any, send: Any) -> None:
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


def _hot(root: Path, name: str) -> Hotpath:
    hot = Hotpath(
        root / name, refresh=REFRESH_SECONDS, generation_header=name != "quiet", redirect_slashes=name == "slashes"
    )
    reader_of(hot).loader.clock = FakeClock(ASKED)
    return hot


def _fastapi(hot: Hotpath | None = None) -> FastAPI:
    app = FastAPI()
    if hot is not None:
        app.add_middleware(HotpathMiddleware, hot=hot)
    app.mount("/", cold)
    return app


def shapes(root: Path) -> Mapping[str, App]:
    """Every way in, by name."""
    hot, slashes = _hot(root, "plain"), _hot(root, "slashes")
    mounted = FastAPI()
    mounted.mount("/sub", HotpathMiddleware(cold, hot=hot))
    return {
        "wrapped": HotpathMiddleware(cold, hot=hot),
        "wrapped slashes": HotpathMiddleware(cold, hot=slashes),
        "wrapped FastAPI": HotpathMiddleware(_fastapi(), hot=hot),
        "added to FastAPI": _fastapi(hot),
        "added to Starlette": Starlette(routes=[Mount("/", cold)], middleware=[Middleware(HotpathMiddleware, hot=hot)]),
        "mounted in Starlette": Starlette(routes=[Mount("/sub", HotpathMiddleware(cold, hot=hot))]),
        "mounted in FastAPI": mounted,
        # Its own store, which a test publishes to, and no lifespan: the first request loads.
        "growing": HotpathMiddleware(cold, hot=_hot(root, "growing")),
    }


_SHAPES = shapes(Path(os.environ["HOTPATH_TEST_STORES"]))

# What a door before the application answers, whichever shape is named: all have the same pages but "growing".
hot = _SHAPES["wrapped"].hot  # type: ignore[attr-defined] # a HotpathMiddleware


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Hand each request, untouched, to the shape that its x-shape field names."""
    if scope["type"] == "lifespan":
        await _SHAPES["wrapped"](scope, receive, send)
        return
    name = dict(scope["headers"]).get(b"x-shape", b"wrapped").decode("latin-1")
    await _SHAPES[name](scope, receive, send)
