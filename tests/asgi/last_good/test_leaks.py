"""``hotpath.asgi.LastGood`` around an app with sessions, without a server: nobody gets somebody else's page."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from pathlib import Path

import pytest

from hotpath.asgi import LastGood
from hotpath.types import Message, Receive, Scope, Send
from tests.front.failing_origin import Request
from tests.front.personal_site import TARGETS, USERS, Came, credentials, leak_of, page_of

REQUESTS = int(os.environ.get("HOTPATH_TEST_LEAK_REQUESTS", "100000")) // 5
CLIENTS = 20
FAILING_SHARE = 0.4


class Site:
    """The personal site as an ASGI app that raises, answers 5xx or breaks off at random."""

    def __init__(self) -> None:
        self.rng = random.Random(17)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        target = scope["raw_path"].decode() + (f"?{scope['query_string'].decode()}" if scope["query_string"] else "")
        fields = {name.decode(): value.decode() for name, value in scope["headers"]}
        failure = self.rng.choice(("raise", "500", "503", "half")) if self.rng.random() < FAILING_SHARE else ""
        await asyncio.sleep(0)
        if failure == "raise":
            raise RuntimeError("the app fails")
        script = page_of(
            Request(0, scope["method"], target, fields), status=int(failure) if failure.isdigit() else None
        )
        head, _, body = script.data.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        pairs = [line.partition(b": ") for line in lines]
        headers = [(name.lower(), value) for name, _, value in pairs]
        await send({"type": "http.response.start", "status": int(first.split(b" ")[1]), "headers": headers})
        if failure == "half":
            await send({"type": "http.response.body", "body": body[:5], "more_body": True})
            raise RuntimeError("the app fails in the middle")
        await send({"type": "http.response.body", "body": body if scope["method"] == "GET" else b""})


async def ask(app: LastGood, rng: random.Random, seen: Counter[str], leaks: list[str]) -> None:
    target, user = rng.choice(TARGETS), rng.choice(USERS)
    session = target.split("/")[1]
    fields, query = credentials(session, user)
    method = "HEAD" if rng.random() < 0.1 else "GET"
    headers = [(b"host", b"site.test"), *((name.lower().encode(), value.encode()) for name, value in fields.items())]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": target,
        "raw_path": target.encode(),
        "query_string": query[1:].encode(),
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("site.test", 80),
    }
    messages: list[Message] = []

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async def send(message: Message) -> None:
        messages.append(message)

    try:
        await app(scope, receive, send)
    except RuntimeError:
        seen["raised"] += 1
        return
    start, *parts = messages
    came = Came(
        start["status"],
        {name.decode(): value.decode() for name, value in start["headers"]},
        b"".join(part.get("body", b"") for part in parts),
    )
    seen["requests"] += 1
    if came.is_from_cache:
        seen[f"cache {session}"] += 1
    if leak := leak_of(session, user, target + query, came):
        leaks.append(leak)


@pytest.mark.slow
@pytest.mark.parametrize("fresh", [False, True], ids=["while it fails", "fresh"])
def test_no_leaks(tmp_path: Path, fresh: bool) -> None:
    seen, leaks = Counter[str](), list[str]()

    async def run() -> None:
        app = LastGood(Site(), file=tmp_path / "answers.sqlite", patience=0.5, fresh=fresh)

        async def client(number: int) -> None:
            rng = random.Random(number)
            for _ in range(REQUESTS // CLIENTS):
                await ask(app, rng, seen, leaks)

        await asyncio.gather(*(client(number) for number in range(CLIENTS)))
        app.close()

    asyncio.run(run())
    assert leaks == []
    assert seen["requests"] > REQUESTS / 4
    assert min(seen["cache none"], seen["cache token"], seen["cache field"]) > 50
