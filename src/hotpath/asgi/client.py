"""The smallest possible ASGI client: ask an app for a page, without a server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

import anyio


@dataclass(frozen=True, slots=True)
class Response:
    """What an app answered, header names as they were sent."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def header(self, name: str) -> str | None:
        """The value of a field, repeated lines joined with a comma; ``None`` where there is none."""
        values = [
            value.decode("latin-1") for key, value in self.headers if key.decode("latin-1").lower() == name.lower()
        ]
        return ", ".join(values) if values else None


async def asgi_get(
    app: Callable[[Any, Any, Any], Awaitable[None]],
    target: str,
    *,
    method: str = "GET",
    headers: Iterable[tuple[bytes, bytes]] = (),
    root_path: str = "",
    **scope_fields: Any,
) -> Response:
    """Ask an ASGI app for ``target`` (path and query as on the wire), without a server.

    ``scope_fields`` replace fields of the scope, ``raw_path=None`` takes it out. Raises what the app raises.
    """
    fields = {"method": method, "root_path": root_path, "headers": list(headers), **scope_fields}
    scope = _scope(target) | fields
    if scope["raw_path"] is None:
        del scope["raw_path"]
    sent: list[MutableMapping[str, Any]] = []
    asked, answered = anyio.Event(), anyio.Event()

    async def receive() -> dict[str, Any]:
        if not asked.is_set():
            asked.set()
            return {"type": "http.request", "body": b"", "more_body": False}
        await answered.wait()  # as a client does that reads the answer before it hangs up
        return {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            answered.set()

    await app(scope, receive, send)
    start, *rest = sent
    body = b"".join(message.get("body", b"") for message in rest)
    return Response(start["status"], [(bytes(name), bytes(value)) for name, value in start["headers"]], body)


def _scope(target: str) -> dict[str, Any]:
    path, _, query = target.partition("?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "scheme": "http",
        "path": unquote(path),
        "raw_path": quote(path, safe="/%!$&'()*+,;=:@~").encode("ascii"),
        "query_string": query.encode("latin-1"),
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 80),
    }
