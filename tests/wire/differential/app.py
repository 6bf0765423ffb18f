"""The other side of the comparison: hotpath before an app that has nothing."""

from __future__ import annotations

import os
from typing import Any

from hotpath.asgi.middleware import HotpathMiddleware
from hotpath.site import Hotpath


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    """404 to everything."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})


application = HotpathMiddleware(nothing, hot=Hotpath(os.environ["HOTPATH_TEST_STORE"]))
