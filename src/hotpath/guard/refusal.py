"""The answers of a guard that refuses: encoded in advance, so that saying no costs next to nothing.

503 (RFC 9110 §15.6.4) with ``Retry-After`` in seconds (§10.2.3), 413 (§15.5.14) for a body that could never fit.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Final

import orjson

from hotpath.errors import DeclarationError
from hotpath.types import Header, Scope, Send

# Number of different waits, so that clients that were refused together do not come back together.
SPREAD: Final = 16
# Maximum Retry-After: clients would obey one of an hour, too.
MAX_RETRY_SECONDS: Final = 300

_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE: Final = re.compile(r"[\t\x20-\x7e\xa0-\xff]*")
_OWN: Final = frozenset(("content-type", "content-length", "cache-control", "retry-after", "connection"))

_JSON: Final = b"application/json"
_PROBLEM: Final = b"application/problem+json"
_TITLES: Final = {503: "Service Unavailable", 413: "Content Too Large"}
_DETAILS: Final = {
    503: "The server is short of memory and takes no such request now. Try again later.",
    413: "The body is larger than what this server has memory for.",
}

# Encoded at import: orjson crashes where no memory is left.
_BODIES: Final = {
    (status, is_problem): orjson.dumps(
        {"title": title, "status": status, "detail": _DETAILS[status]} if is_problem else {"error": _DETAILS[status]}
    )
    for status, title in _TITLES.items()
    for is_problem in (False, True)
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """One answer. ``closes`` is whether the answer closes the connection, which only HTTP/1 has a field for
    (RFC 9112 §9.6, RFC 9113 §8.2.2); a handshake that was refused always is.
    """

    status: int
    headers: tuple[Header, ...]
    body: bytes
    closes: bool

    async def send(self, scope: Scope, send: Send) -> None:
        """Send it: over HTTP, or to a WebSocket handshake."""
        headers = [*self.headers]
        is_handshake = scope["type"] == "websocket"
        if (self.closes or is_handshake) and str(scope.get("http_version", "1.1")).startswith("1"):
            headers.append((b"connection", b"close"))
        if is_handshake:
            if "websocket.http.response" in (scope.get("extensions") or {}):
                start = {"type": "websocket.http.response.start", "status": self.status, "headers": headers}
                await send(start)
                await send({"type": "websocket.http.response.body", "body": self.body})
            else:
                # 1013 "Try Again Later"; before the accept a server turns any code into a 403 (ASGI, WebSocket close).
                await send({"type": "websocket.close", "code": 1013})
            return
        body = b"" if scope["method"] == "HEAD" else self.body
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class Refusals:
    """All answers for one expected wait, by status and media type; ``pick`` chooses among waits of 1 to 2 times it."""

    def __init__(self, wait_seconds: float, fields: Collection[Header] = ()) -> None:
        wait = min(max(1.0, wait_seconds), MAX_RETRY_SECONDS)
        waits = sorted({ceil(wait * (1 + number / (SPREAD - 1))) for number in range(SPREAD)})
        self._made: Mapping[tuple[int, bool, bool], tuple[Refusal, ...]] = {
            (status, is_problem, closes): tuple(_make(status, is_problem, closes, seconds, fields) for seconds in waits)
            for status in _TITLES
            for is_problem in (False, True)
            for closes in (False, True)
        }

    def pick(self, status: int, headers: Collection[Header], chance: float, *, closes: bool = True) -> Refusal:
        """The answer to a request with these fields; ``chance`` in [0, 1) is a random number."""
        made = self._made[status, wants_problem(headers), closes]
        return made[int(chance * len(made))]


def wants_problem(headers: Collection[Header]) -> bool:
    """Whether the client asks for ``application/problem+json`` (RFC 9457) by name."""
    return any(name == b"accept" and _PROBLEM in value for name, value in headers)


def check_fields(headers: Mapping[str, str] | None) -> tuple[Header, ...]:
    """The fields of every refusal. Raises ``DeclarationError`` for what is no field, or one of the guard's own."""
    fields = []
    for name, value in (headers or {}).items():
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name.lower() in _OWN:
            raise DeclarationError(f"refusal_headers: {name!r} is no field name, or one that a refusal sets itself")
        if not isinstance(value, str) or not _VALUE.fullmatch(value):
            raise DeclarationError(f"refusal_headers={{{name!r}: {value!r}}}: write one line of Latin-1 text")
        fields.append((name.lower().encode("ascii"), value.encode("latin-1")))
    return tuple(fields)


def _make(status: int, is_problem: bool, closes: bool, seconds: int, fields: Collection[Header]) -> Refusal:
    body = _BODIES[status, is_problem]
    headers: list[Header] = [
        (b"content-type", _PROBLEM if is_problem else _JSON),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        *fields,
    ]
    if status == 503:
        headers.append((b"retry-after", b"%d" % seconds))
    return Refusal(status, tuple(headers), body, closes)
