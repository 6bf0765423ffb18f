"""The app behind the front of these tests: each path does one thing."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from urllib.parse import parse_qs

from hotpath.types import Header, Receive, Scope, Send

left: list[str] = []


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "websocket":
        await _socket(scope, receive, send)
    else:
        query = {name: values[0] for name, values in parse_qs(scope["query_string"].decode("latin-1")).items()}
        action = ACTIONS.get(scope["path"].split("/")[1], _echo)
        await action(scope, receive, send, query)


async def answer(send: Send, body: bytes, status: int = 200, fields: tuple[Header, ...] = ()) -> None:
    headers = [(b"content-length", b"%d" % len(body)), *fields]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _echo(scope: Scope, receive: Receive, send: Send, query: dict[str, str]) -> None:
    """What came."""
    digest, length = hashlib.sha256(), 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            left.append(scope["path"])
            return
        digest.update(message.get("body", b""))
        length += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    if "s" in query:
        await asyncio.sleep(float(query["s"]))
    target = (scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")).decode("latin-1")
    came = {
        "method": scope["method"],
        "target": target,
        "fields": [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]],
        "length": length,
        "sha256": digest.hexdigest(),
        "pid": os.getpid(),
    }
    await answer(send, json.dumps(came).encode())


async def _events(scope: Scope, receive: Receive, send: Send, query: dict[str, str]) -> None:
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for number in range(int(query["n"])):
        await send({"type": "http.response.body", "body": b"data: %d\n\n" % number, "more_body": True})
        await asyncio.sleep(0.2)
    await send({"type": "http.response.body"})


async def _big(scope: Scope, receive: Receive, send: Send, query: dict[str, str]) -> None:
    length = int(query["n"])
    headers = [] if "chunked" in query else [(b"content-length", b"%d" % length)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    block = b"x" * (1 << 16)
    for _ in range(length >> 16):
        await send({"type": "http.response.body", "body": block, "more_body": True})
    await send({"type": "http.response.body", "body": block[: length % (1 << 16)]})


async def _status(scope: Scope, receive: Receive, send: Send, query: dict[str, str]) -> None:
    status = int(scope["path"].split("/")[2])
    await answer(send, b"" if status in (204, 304) else b"the app's own page", status, ((b"x-app", b"yes"),))


async def _cookies(scope: Scope, receive: Receive, send: Send, query: dict[str, str]) -> None:
    fields = ((b"set-cookie", b"a=1"), (b"x-between", b"1"), (b"set-cookie", b"b=2; Path=/"), (b"location", b"/x"))
    await answer(send, b"", 302, (*fields, (b"connection", b"x-hop"), (b"x-hop", b"1"), (b"keep-alive", b"5")))


async def _hang(scope: Scope, receive: Receive, send: Send, query: dict[str, str]) -> None:
    if "begin" in query:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass
    left.append(scope["path"])


async def _refuse(scope: Scope, receive: Receive, send: Send, query: dict[str, str]) -> None:
    await answer(send, b"too large", 413)


ACTIONS = {
    "events": _events,
    "big": _big,
    "status": _status,
    "cookies": _cookies,
    "hang": _hang,
    "refuse": _refuse,
}


async def _socket(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    if scope["path"] == "/refused":
        await send({"type": "websocket.close"})
        return
    chosen = scope["subprotocols"][-1] if scope["subprotocols"] else None
    await send({"type": "websocket.accept", "subprotocol": chosen, "headers": [(b"x-app", b"yes")]})
    if scope["path"] == "/fields":
        await send({"type": "websocket.send", "text": repr(scope["headers"])})
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            left.append(f"{scope['path']} {message['code']} {message.get('reason')}")
            return
        if message.get("text") == "close":
            await send({"type": "websocket.close", "code": 4321, "reason": "the app's"})
            return
        if message.get("text") == "die":
            os.kill(os.getpid(), 9)
        del message["type"]
        await send({"type": "websocket.send", **message})
