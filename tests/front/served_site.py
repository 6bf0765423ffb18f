"""The site that the tests of ``hotpath serve`` start: hot pages, and an app that can be told to do harm."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from hotpath import Hotpath, HotpathMiddleware
from hotpath.types import Receive, Scope, Send

KEYS = [f"k{number}" for number in range(20)]
VERSION = Path("version")

hot = Hotpath("store", headers={"x-site": "test"})


@hot.route("/rankings/{key}", each={"key": KEYS})
def rankings(key: str) -> dict[str, object]:
    return {"key": key, "rows": [{"n": number, "text": "x" * 40} for number in range(100)], "end": key}


def version() -> str:
    return VERSION.read_text().strip() if VERSION.exists() else "1"


if version() == "broken":
    raise RuntimeError("this version does not start")
if version() == "slow":
    time.sleep(3600)

VERSION_AT_START = version()
held: list[bytearray] = []


async def inner(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        for _ in range(2):
            message = await receive()
            await send({"type": message["type"] + ".complete"})
        return
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"].upper()})
        return
    path, status = scope["path"], 200
    length = 0
    while scope["method"] == "POST":
        message = await receive()
        length += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    if path == "/slow":
        await asyncio.sleep(0.5)
    elif path == "/block":
        time.sleep(1)  # noqa: ASYNC251  it is meant to
    elif path == "/eat":
        while True:
            held.append(bytearray(os.urandom(1024) * 4096))
            await asyncio.sleep(0)
    elif path == "/hold":  # so many MiB, for good
        held.append(bytearray(b"x") * (int(scope["query_string"]) << 20))
    elif path == "/die":
        os._exit(3)
    elif path.startswith("/half"):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"100")]})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ConnectionError("half an answer")
    elif path.startswith("/bad"):
        status = 502
    elif path == "/readyz" and VERSION_AT_START == "unready":
        status = 503
    body = f"{VERSION_AT_START} {os.getpid()} {length}".encode()
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


app = HotpathMiddleware(inner, hot=hot)
