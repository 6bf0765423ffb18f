"""An app whose answers and failures a test sets, and requests to it by way of the cache."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hotpath.asgi import LastGood

Fields = Iterable[tuple[str, str]]


@dataclass
class Answer:
    """What the client got."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    @property
    def cache_status(self) -> str:
        return ", ".join(self.values("cache-status"))

    @property
    def is_hit(self) -> bool:
        return "hotpath; hit" in self.cache_status

    @property
    def age(self) -> int:
        (value,) = self.values("age")
        return int(value)


@dataclass
class App:
    """Answers each path with what ``pages`` has for it; a callable gets the scope, and may be a coroutine function."""

    pages: dict[str, Any] = field(default_factory=dict)
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    fails: bool = False
    gate: asyncio.Event | None = None

    async def wait_for(self, count: int) -> None:
        """Until it was asked so often."""
        async with asyncio.timeout(30):
            while len(self.asked) < count:  # noqa: ASYNC110  counted where requests come, in many ways
                await asyncio.sleep(0.005)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        self.asked.append((scope["method"], scope["path"], headers))
        if self.gate is not None:
            await self.gate.wait()
        if self.fails:
            raise ConnectionError("the app fails on purpose")
        page = self.pages.get(scope["path"], (404, [], b"no such page"))
        status, fields, body = page(scope) if callable(page) else page
        raw = [(name.encode(), value.encode("latin-1")) for name, value in fields]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        chunks = body if isinstance(body, list) else [body]
        for number, chunk in enumerate(chunks, start=1):
            if chunk is None:
                return  # the rest never comes
            await send({"type": "http.response.body", "body": chunk, "more_body": number < len(chunks)})


class Clock:
    """Seconds since the epoch, as a test sets them."""

    def __init__(self) -> None:
        self.now = 1_900_000_000.0

    def __call__(self) -> float:
        return self.now


async def ask(
    app: Callable[..., Any], path: str = "/", headers: Fields = (), method: str = "GET", host: str = "example.org"
) -> Answer:
    """One request."""
    messages: list[Any] = []
    path, _, query = path.partition("?")
    done = asyncio.Event()

    async def receive() -> Any:
        if messages and messages[-1]["type"] == "http.response.body" and not messages[-1].get("more_body"):
            return {"type": "http.disconnect"}
        if not hasattr(receive, "used"):
            receive.used = True  # type: ignore[attr-defined]
            return {"type": "http.request", "body": b"", "more_body": False}
        await done.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        messages.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            done.set()

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode("latin-1"),
        "query_string": query.encode("latin-1"),
        "root_path": "",
        "headers": [
            (b"host", host.encode()),
            *((name.lower().encode(), value.encode("latin-1")) for name, value in headers),
        ],
        "client": ("192.0.2.1", 1),
        "server": ("127.0.0.1", 80),
    }
    task = asyncio.ensure_future(app(scope, receive, send))
    answered = asyncio.ensure_future(done.wait())
    try:
        await asyncio.wait((task, answered), return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:  # the client goes away
        task.cancel()
        raise
    finally:
        answered.cancel()
    if task.done():
        task.result()
    start = messages[0]
    body = b"".join(message.get("body", b"") for message in messages[1:])
    fields = [(name.decode(), value.decode("latin-1")) for name, value in start["headers"]]
    return Answer(start["status"], fields, body)


def cache(app: App, directory: Path, **options: Any) -> LastGood:
    """``LastGood`` with a file in ``directory``."""
    return LastGood(app, file=directory / "answers.sqlite", **options)
