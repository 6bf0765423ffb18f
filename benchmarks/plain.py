"""The simplest apps that could do: the limit for any Python code, and what one would write by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.sample import ASGIApp, Header, Receive, Scope, Send


def constant(status: int, headers: list[Header], body: bytes) -> ASGIApp:
    """Always the same answer, without a look at the request: the limit of this server."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    return app


@dataclass(frozen=True, slots=True)
class Prepared:
    """One representation as the naive lookup sends it."""

    etag: bytes
    headers: list[Header]
    body: bytes
    not_modified_headers: list[Header]


_FIELDS = frozenset((b"accept-encoding", b"if-none-match"))


def naive(pages: Mapping[bytes, tuple[Prepared, Prepared]], app: ASGIApp) -> ASGIApp:
    """A dict lookup and a header scan, as anybody would write it in an hour; ``pages`` are (identity, gzip).

    It knows no q-values, no lists of entity tags, no query, no mount point, no reload, no age, no range.
    """

    async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            page = pages.get(scope["raw_path"])
            if page is not None:
                found = page[0]
                tag = None
                for name, value in scope["headers"]:
                    if name in _FIELDS:
                        if name == b"if-none-match":
                            tag = value
                        elif b"gzip" in value:
                            found = page[1]
                if tag == found.etag:
                    await send({"type": "http.response.start", "status": 304, "headers": found.not_modified_headers})
                    await send({"type": "http.response.body", "body": b""})
                    return
                await send({"type": "http.response.start", "status": 200, "headers": found.headers})
                await send({"type": "http.response.body", "body": found.body})
                return
        await app(scope, receive, send)

    return middleware
