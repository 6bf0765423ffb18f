"""An answer of the cache's own, made of a whole stored one (pure): conditions, ranges, HEAD and ``Cache-Status``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from hotpath.asgi.last_good.caching import Stored, age, ttl
from hotpath.asgi.last_good.directives import values_of
from hotpath.serving.rfc9110 import (
    Precondition,
    Unsatisfiable,
    evaluate,
    if_range,
    parse_http_date,
    parse_range,
)
from hotpath.types import Header

# The most that a ttl of Cache-Status may be: an Integer of RFC 9651 has 15 digits.
_MAX_INTEGER: Final = 10**15 - 1
# RFC 9110 §15.4.5, and what this cache adds.
_OF_304: Final = frozenset(
    (
        *(b"cache-control", b"cdn-cache-control", b"content-location", b"date", b"etag", b"expires", b"vary"),
        *(b"last-modified", b"cache-status", b"server", b"via"),
    )
)
_CONDITIONS: Final = (b"if-none-match", b"if-modified-since")


@dataclass(frozen=True, slots=True)
class CachedAnswer:
    """What is sent."""

    status: int
    headers: list[Header]
    body: bytes


def hit(stored: Stored, now: float, detail: str = "") -> bytes:
    """The member of ``Cache-Status`` (RFC 9211) of an answer of the cache's own; ``detail`` is a token."""
    seconds = int(max(-_MAX_INTEGER, min(ttl(stored, now), _MAX_INTEGER)))
    return b"hotpath; hit; ttl=%d" % seconds + (b"; detail=%b" % detail.encode("ascii") if detail else b"")


def forwarded(reason: str, status: int, *, is_stored: bool) -> bytes:
    """The member of ``Cache-Status`` of an answer of the app: ``reason`` is that of ``fwd=`` (RFC 9211 §2.2)."""
    member = b"hotpath; fwd=%b; fwd-status=%d" % (reason.encode("ascii"), status)
    return member + (b"; stored" if is_stored else b"")


def answer_from(stored: Stored, method: str, asked: Sequence[Header], now: float, member: bytes) -> CachedAnswer:
    """The answer to a GET or HEAD with the fields ``asked``, at the time ``now``, with a ``member`` of Cache-Status."""
    headers = [field for field in stored.headers if field[0] not in (b"age", b"content-length")]
    headers.append((b"age", b"%d" % age(stored, now)))
    headers.append((b"cache-status", member))
    status, body = stored.status, stored.body
    if status == 200:
        if _is_not_modified(stored, asked):
            kept = [field for field in headers if field[0] in _OF_304 or field[0] == b"age"]
            return CachedAnswer(304, kept, b"")
        if method == "GET":
            status, body, headers = _range(stored, asked, headers)
    headers.append((b"content-length", b"%d" % len(body)))
    return CachedAnswer(status, headers, body if method == "GET" else b"")


def _is_not_modified(stored: Stored, asked: Sequence[Header]) -> bool:
    """RFC 9111 §4.3.2: where there is no ``Last-Modified``, when it was made or came stands for it."""
    conditions: dict[bytes, bytes] = {}
    for name in _CONDITIONS:
        values = values_of(asked, name)
        if values and (name == b"if-none-match" or len(values) == 1):
            conditions[name] = b", ".join(values)
    if not conditions:
        return False
    modified = _date(stored, b"last-modified")
    if modified is None:
        modified = _date(stored, b"date")
    if modified is None:
        modified = int(stored.received)
    etags = values_of(stored.headers, b"etag")
    # Without a tag nothing that is listed matches, but * does (RFC 9110 §13.1.2).
    etag = etags[0] if len(etags) == 1 else b""
    return evaluate(conditions, etag, modified) is Precondition.NOT_MODIFIED


def _range(stored: Stored, asked: Sequence[Header], headers: list[Header]) -> tuple[int, bytes, list[Header]]:
    whole = (200, stored.body, headers)
    ranges, conditions = values_of(asked, b"range"), values_of(asked, b"if-range")
    if len(ranges) != 1 or len(conditions) > 1:
        return whole
    if conditions:
        etags = values_of(stored.headers, b"etag")
        # A date is no strong validator here: the app may change its page twice in a second (RFC 9110 §8.8.2.2).
        if not if_range(conditions[0], etags[0] if etags else b"", None):
            return whole
    length = len(stored.body)
    span = parse_range(ranges[0], length)
    if span is None:
        return whole
    if isinstance(span, Unsatisfiable):
        fields = [field for field in headers if not field[0].startswith(b"content-")]
        return 416, b"", [*fields, (b"content-range", b"bytes */%d" % length)]
    content_range = (b"content-range", b"bytes %d-%d/%d" % (span.start, span.stop - 1, length))
    return 206, stored.body[span.start : span.stop], [*headers, content_range]


def _date(stored: Stored, name: bytes) -> int | None:
    values = values_of(stored.headers, name)
    return parse_http_date(values[0]) if len(values) == 1 else None
