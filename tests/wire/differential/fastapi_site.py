"""The site of ``nginx_pages`` with FastAPI, for a server and for the batch."""

from __future__ import annotations

import os

from fastapi import FastAPI, Request, Response

from hotpath.asgi.middleware import HotpathMiddleware
from hotpath.site import Hotpath
from tests.wire.differential.nginx_pages import cold, declare

hot = Hotpath(os.environ["HOTPATH_TEST_STORE"], refresh=0.1)
declare(hot)
api = FastAPI()


@api.api_route("/{path:path}", methods=["GET", "HEAD", "POST", "OPTIONS"])
async def anything(request: Request) -> Response:
    raw = request.scope["raw_path"].decode("ascii").partition("?")[0]
    found = cold(request.method, raw, request.url.query, request.headers)
    response = Response(found.body, found.status, found.headers, "text/plain")
    if found.location:
        response.headers["location"] = str(request.base_url) + found.location[1:]
    return response


# ``bypass=`` of the docs: who is logged in gets the app's page.
app = HotpathMiddleware(
    api,
    hot=hot,
    bypass=lambda scope: any(name == b"cookie" and b"sessionid=" in value for name, value in scope["headers"]),
)
