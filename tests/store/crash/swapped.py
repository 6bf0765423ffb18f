"""The server of test_swaps: uvicorn on a socket that is handed over, with hot pages only.

``python -m tests.store.crash.swapped ROOT DESCRIPTOR``. (uvicorn's own ``--fd`` takes it for a UNIX socket and leaves
TCP_NODELAY away, which makes each answer wait 40 ms for the client's acknowledgement.)
"""

from __future__ import annotations

import socket
import sys
from typing import Any

import uvicorn

from hotpath.asgi.middleware import HotpathMiddleware
from hotpath.site import Hotpath


async def cold(scope: Any, receive: Any, send: Any) -> None:
    """What is asked where no page is hot; a client takes it for an error."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 418, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


def main(root: str, descriptor: int) -> None:
    # A body or two in memory and the others read from disk when asked for, so that files are read while they change.
    app = HotpathMiddleware(cold, hot=Hotpath(root, refresh=0.01, max_body_bytes="24KiB"))
    config = uvicorn.Config(app, log_level="warning", access_log=False)
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=descriptor)])


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
