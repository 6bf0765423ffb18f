"""What a later message changes about stored answers (pure): a 304, an answer to HEAD, and unsafe methods."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final
from urllib.parse import urljoin, urlsplit

from hotpath.asgi.last_good.caching import Stored
from hotpath.asgi.last_good.directives import values_of
from hotpath.asgi.last_good.requests import url_key
from hotpath.types import Header

SAFE: Final = frozenset(("GET", "HEAD", "OPTIONS", "TRACE"))

# RFC 9111 §3.1: about one connection, and what only a proxy's next hop is asked.
_NOT_STORED: Final = frozenset(
    (
        *(b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"),
        *(b"proxy-authenticate", b"proxy-authentication-info", b"proxy-authorization"),
    )
)
# §3.2: what belongs to the bytes that are kept stays as they are.
_OF_THE_BYTES: Final = frozenset((b"content-length", b"content-encoding", b"content-type", b"content-range"))
# What validates answers, without which a 304 could be about any (§4.3.4).
_VALIDATORS: Final = (b"etag", b"last-modified")


def storable_fields(headers: Iterable[Header]) -> tuple[Header, ...]:
    """The fields that are kept (RFC 9111 §3.1): names lower case, none of the connection's, no ``Age`` of before."""
    fields = [(name.lower(), value) for name, value in headers]
    dropped = _NOT_STORED
    for value in values_of(fields, b"connection"):
        dropped |= {option.strip(b" \t").lower() for option in value.split(b",")}
    return tuple([field for field in fields if field[0] not in dropped])


def conditions_for(stored: Stored) -> list[Header]:
    """The conditions by which ``stored`` is validated (RFC 9111 §4.3.1); none without a validator."""
    conditions = []
    for validator, condition in zip(_VALIDATORS, (b"if-none-match", b"if-modified-since"), strict=True):
        values = values_of(stored.headers, validator)
        if len(values) == 1:
            conditions.append((condition, values[0]))
    return conditions


def is_about(headers: Sequence[Header], stored: Stored) -> bool:
    """Whether a 304 with ``headers`` is about ``stored`` (RFC 9111 §4.3.4): its validators are the same.

    One without any is about what was asked for.
    """
    for name in _VALIDATORS:
        new, old = values_of(headers, name), values_of(stored.headers, name)
        if new:
            return [_opaque(value) for value in new] == [_opaque(value) for value in old]
    return True


def freshened(stored: Stored, headers: Iterable[Header], requested: float, received: float) -> Stored:
    """``stored`` with the fields of a 304 that is about it (RFC 9111 §3.2).

    Its ``Age`` and its warnings are not of the new answer: they go where that has none.
    """
    new = [field for field in storable_fields(headers) if field[0] not in _OF_THE_BYTES]
    names = {name for name, _ in new} | {b"age", b"warning"}
    kept = [field for field in stored.headers if field[0] not in names]
    return replace(stored, headers=(*kept, *new), requested=requested, received=received, is_invalid=False)


def updated_by_head(stored: Stored, headers: Iterable[Header], requested: float, received: float) -> Stored:
    """``stored`` after a 200 to HEAD (RFC 9111 §4.3.5): its fields where it is the same answer, else it is invalid."""
    new = storable_fields(headers)
    old_length = values_of(stored.headers, b"content-length") or [b"%d" % len(stored.body)]
    for name in (*_VALIDATORS, b"content-length"):
        values = values_of(new, name)
        known = old_length if name == b"content-length" else values_of(stored.headers, name)
        if values and values != known:
            return replace(stored, is_invalid=True)
    if values_of(new, b"content-encoding") != values_of(stored.headers, b"content-encoding"):
        return replace(stored, is_invalid=True)
    return freshened(stored, new, requested, received)


def invalidated(method: str, status: int, key: bytes, headers: Iterable[Header]) -> list[bytes]:
    """The URLs whose stored answers are invalid after an answer to ``method`` (RFC 9111 §4.4), as ``url_key`` has them.

    ``key`` is that of the request. Of ``Location`` and ``Content-Location`` only URLs of the same origin count.
    """
    if method in SAFE or not 200 <= status <= 399:
        return []
    own = key.partition(b"\n")[0]
    urls = [own]
    for name, value in headers:
        if name in (b"location", b"content-location"):
            other = _same_origin(own, value)
            if other is not None and other not in urls:
                urls.append(other)
    return urls


class Effect(enum.Enum):
    """What an answer to GET does to the one that is kept, where it is not kept itself."""

    NONE = "none"  # a failure, a part, somebody's own: it says nothing about the page
    REMOVE = "remove"  # the site no longer lets it be kept


def effect_of_unkept(status: int, forbidden: str | None) -> Effect:
    """The effect of an answer of a living app that is not kept; ``forbidden`` is what ``caching.forbidding`` says."""
    is_an_answer = 200 <= status <= 399 and status not in (206, 304)
    if forbidden is not None and (is_an_answer or status in (404, 410)):
        return Effect.REMOVE
    return Effect.NONE


def _same_origin(own: bytes, reference: bytes) -> bytes | None:
    base = own.decode("latin-1")
    try:
        url, origin = urlsplit(urljoin(base, reference.strip(b" \t").decode("latin-1"))), urlsplit(base)
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        other = url_key(url.scheme, url.netloc.encode("latin-1"), target.encode("latin-1"))
    except ValueError:
        return None
    same = url_key(origin.scheme, origin.netloc.encode("latin-1"), b"/") == url_key(
        url.scheme, url.netloc.encode("latin-1"), b"/"
    )
    return other if same else None


def _opaque(value: bytes) -> bytes:
    return value.strip(b" \t").removeprefix(b"W/")
