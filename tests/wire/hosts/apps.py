"""Each host with the same three cold pages, and hotpath around it as that host's users would put it there.

``/cold`` says so, ``/boom`` raises, and POST to ``/hot`` is the host's own. For a server that runs one of these,
``HOTPATH_TEST_STORE`` names the store and ``HOTPATH_TEST_HOST`` which; several, with commas between, are told apart by
the request's ``Host``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from hotpath.asgi.middleware import HotpathMiddleware
from hotpath.site import Hotpath

ROWS = {"rows": [{"n": n} for n in range(200)]}

App = Any


def declare(root: str | os.PathLike[str]) -> Hotpath:
    """The hot pages that every host has."""
    hot = Hotpath(root, refresh=0.05, redirect_slashes=True)
    hot.route("/hot")(lambda: ROWS)
    hot.route("/sub/hot")(lambda: ROWS)  # what a mounted app calls /hot is this key to the one outside
    return hot


def starlette(hot: Hotpath) -> App:
    return HotpathMiddleware(_starlette(), hot=hot)


def starlette_added(hot: Hotpath) -> App:
    app = _starlette()
    app.add_middleware(HotpathMiddleware, hot=hot)
    return app


def _starlette() -> Any:
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def cold(request: Any) -> PlainTextResponse:
        return PlainTextResponse("cold")

    async def boom(request: Any) -> PlainTextResponse:
        raise RuntimeError("the app fails on purpose")

    async def post(request: Any) -> PlainTextResponse:
        return PlainTextResponse("posted")

    return Starlette(routes=[Route("/cold", cold), Route("/boom", boom), Route("/hot", post, methods=["POST"])])


def fastapi(hot: Hotpath) -> App:
    return HotpathMiddleware(fastapi_app(), hot=hot)


def fastapi_added(hot: Hotpath) -> App:
    app = fastapi_app()
    app.add_middleware(HotpathMiddleware, hot=hot)
    return app


def fastapi_app() -> Any:
    from fastapi import FastAPI
    from fastapi.responses import PlainTextResponse

    app = FastAPI(default_response_class=PlainTextResponse)

    @app.get("/cold")
    def cold() -> str:
        return "cold"

    @app.get("/boom")
    def boom() -> str:
        raise RuntimeError("the app fails on purpose")

    @app.post("/hot")
    def post() -> str:
        return "posted"

    return app


def mounted(hot: Hotpath) -> App:
    """A sub-app has no lifespan, and its paths begin below the mount point."""
    from starlette.applications import Starlette
    from starlette.routing import Mount

    return Starlette(routes=[Mount("/sub", HotpathMiddleware(_starlette(), hot=hot))])


def django(hot: Hotpath) -> App:
    import django as package
    from django.conf import settings
    from django.core.asgi import get_asgi_application

    if not settings.configured:
        settings.configure(
            ROOT_URLCONF="tests.wire.hosts.django_urls", ALLOWED_HOSTS=["*"], SECRET_KEY="x", MIDDLEWARE=[]
        )
        package.setup()
    return HotpathMiddleware(get_asgi_application(), hot=hot)


def litestar(hot: Hotpath) -> App:
    from litestar import Litestar, get, post

    @get("/cold", media_type="text/plain")
    async def cold() -> str:
        return "cold"

    @get("/boom")
    async def boom() -> str:
        raise RuntimeError("the app fails on purpose")

    @post("/hot", media_type="text/plain", status_code=200)
    async def posted() -> str:
        return "posted"

    return HotpathMiddleware(Litestar([cold, boom, posted]), hot=hot)


def quart(hot: Hotpath) -> App:
    from quart import Quart

    app = Quart("hosts")

    @app.get("/cold")
    async def cold() -> str:
        return "cold"

    @app.get("/boom")
    async def boom() -> str:
        raise RuntimeError("the app fails on purpose")

    @app.post("/hot")
    async def posted() -> str:
        return "posted"

    app.asgi_app = HotpathMiddleware(app.asgi_app, hot=hot)  # type: ignore[method-assign, assignment]
    return app


def bare(hot: Hotpath) -> App:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise NotImplementedError(scope["type"])
        if scope["path"] == "/boom":
            raise RuntimeError("the app fails on purpose")
        body = b"posted" if scope["method"] == "POST" else b"cold"
        status = 200 if scope["path"] in ("/cold", "/hot") else 404
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": body})

    return HotpathMiddleware(app, hot=hot)


HOSTS: dict[str, Callable[[Hotpath], App]] = {
    make.__name__: make
    for make in (
        *(starlette, starlette_added, fastapi, fastapi_added, mounted, django),
        *(litestar, quart, bare),
    )
}


def by_name(apps: dict[str, App]) -> App:
    """One of several, by the name that the client asked for. None of them gets a lifespan."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise NotImplementedError(scope["type"])
        name = dict(scope["headers"])[b"host"].decode("ascii").partition(":")[0]
        await apps[name](scope, receive, send)

    return app


# What a server is told to run: ``tests.wire.hosts.apps:app``.
if "HOTPATH_TEST_HOST" in os.environ:
    made = {
        name: HOSTS[name](declare(os.environ["HOTPATH_TEST_STORE"]))
        for name in os.environ["HOTPATH_TEST_HOST"].split(",")
    }
    app = next(iter(made.values())) if len(made) == 1 else by_name(made)
