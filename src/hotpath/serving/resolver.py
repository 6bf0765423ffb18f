"""From a request head to its answer: a lookup, a scan of the header list, a choice among answers made in advance.

Nothing here knows ASGI: a door below it can ask with the bytes that it has.
"""

from __future__ import annotations

from collections.abc import Collection, Container
from dataclasses import dataclass
from typing import ClassVar, Final

from hotpath.pages.keys import canonical_path, canonical_query
from hotpath.serving.rfc9110 import IDENTITY, Precondition, Span, accepted_codings, evaluate, if_range, parse_range
from hotpath.serving.snapshot import Answer, Freshness, Page, Redirect, Snapshot, partial, refuse
from hotpath.types import Header

# What stands where an answer has its HTTP status, so that the three outcomes can be told apart by one attribute.
MISS_STATUS: Final = 0
PENDING_STATUS: Final = -1


@dataclass(frozen=True, slots=True)
class Miss:
    """Not for hotpath: the app answers. ``reason`` says why, for ``hotpath explain``."""

    reason: str
    status: ClassVar[int] = MISS_STATUS


@dataclass(frozen=True, slots=True)
class Pending:
    """Something has to be loaded first: the page of ``key``, or everything where that is ``None``."""

    key: bytes | None
    status: ClassVar[int] = PENDING_STATUS


PENDING = Pending(None)

UNKNOWN = Miss("no item of the current generation has this key")
OTHER_METHOD = Miss("only GET and HEAD are answered from a generation; any other method goes to the app")
OTHER_QUERY = Miss("the query holds a parameter that the route does not declare with query=(…)")
NEVER_HOT = Miss("the path has dot segments, a backslash, control characters or malformed percent-encoding")
BYPASSED = Miss("bypass= sent it to the app")
UNREADABLE = Miss("its bytes cannot be read, or hotpath failed; the log says what")

# The request fields that can change an answer. All others, unkeyed by definition, never do.
_ACCEPT_ENCODING = b"accept-encoding"
_IF_NONE_MATCH = b"if-none-match"
_IF_MODIFIED_SINCE = b"if-modified-since"
_CONSULTED = frozenset(
    (_ACCEPT_ENCODING, _IF_NONE_MATCH, _IF_MODIFIED_SINCE, b"if-match", b"if-unmodified-since", b"if-range", b"range")
)

# As a number: looking for b"%" in bytes costs ten times as much.
_PERCENT = ord("%")

# A 308 may be kept for ever (RFC 9110 §15.4.9); one that depends on tonight's keys must not be.
_REDIRECT_CACHE_CONTROL = (b"cache-control", b"public, max-age=60")
_REDIRECTED = Freshness(0, 0)
_REDIRECTED.headers = [(b"cache-status", b"hotpath; hit; detail=redirect")]

# Accept-Encoding has a handful of values on the whole web; what each means is worked out once. Bounded, because the
# values come from clients: beyond the maximum a new value is parsed each time.
_TIERS_MAXIMUM = 512
_TIERS_MAXIMUM_VALUE_BYTES = 256
_tiers: dict[bytes, tuple[int, ...]] = {}


def resolve(
    snapshot: Snapshot, method: str, raw_path: bytes, query: bytes, headers: Collection[Header]
) -> Answer | Pending | Miss:
    """The answer to one request head. ``raw_path`` is below any mount point and still percent-encoded."""
    page = snapshot.pages.get(raw_path)
    if page is None:
        # A miss must stay cheap: only a path that could be another spelling of a key is worth a second look.
        if snapshot.is_exact and not query and _PERCENT not in raw_path and raw_path not in snapshot.keys:
            return UNKNOWN
        return _resolve_target(snapshot, method, raw_path, query, headers)
    if query or method != "GET":
        return _resolve_target(snapshot, method, raw_path, query, headers)
    variants = page.variants
    accept = tag = since = None
    consulted = _CONSULTED
    for name, value in headers:
        if name in consulted:
            if name == _ACCEPT_ENCODING and accept is None:
                accept = value
            elif name == _IF_NONE_MATCH and tag is None:
                tag = value
            elif name == _IF_MODIFIED_SINCE:
                since = value
            else:
                return resolve_page(page, method, headers)
    if accept is None:
        variant = variants[IDENTITY]
    else:
        for mask in _tiers.get(accept) or _accepted(accept):
            variant = variants[mask]
            if variant is not None:
                break
        else:
            variant = None
    if variant is not None:
        if tag is None and since is None:
            return variant
        if tag == variant.etag:
            return variant.not_modified or variant.make_not_modified()
    return resolve_page(page, method, headers)


def _resolve_target(
    snapshot: Snapshot, method: str, raw_path: bytes, query: bytes, headers: Collection[Header]
) -> Answer | Pending | Miss:
    """The same for what is not a plain GET of a key whose bytes are in memory."""
    if not snapshot.is_loaded:
        return PENDING
    if method != "GET" and method != "HEAD":
        return OTHER_METHOD
    key = find_key(snapshot, raw_path, query)
    if not isinstance(key, bytes):
        return key
    page = snapshot.pages.get(key)
    return resolve_page(page, method, headers) if page is not None else Pending(key)


def resolve_page(page: Page, method: str, headers: Collection[Header]) -> Answer:
    """The answer of one page to GET or HEAD: the whole of RFC 9110 §12.5.3, §13.2.2 and §14.2."""
    head = method == "HEAD"
    variants = page.variants
    fields: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _CONSULTED:
            fields[name] = fields[name] + b", " + value if name in fields else value
    identity = variants[IDENTITY]
    assert identity is not None  # every item has its identity coding
    tiers = _accepted(fields[_ACCEPT_ENCODING]) if _ACCEPT_ENCODING in fields else (IDENTITY,)
    variant = next((found for mask in tiers if (found := variants[mask]) is not None), None)
    if variant is None:
        return refuse(identity, page, 406)
    span = None
    if b"range" in fields and not head and any(mask & IDENTITY for mask in tiers):
        # Ranges are of the identity coding only: a client that joins parts of two codings gets neither.
        span = parse_range(fields[b"range"], len(identity.body))
        if b"if-range" in fields and not if_range(fields[b"if-range"], identity.etag, identity.last_modified):
            span = None
        if span is not None:
            variant = identity
    match evaluate(fields, variant.etag, variant.last_modified):
        case Precondition.NOT_MODIFIED:
            return variant.not_modified or variant.make_not_modified()
        case Precondition.FAILED:
            return refuse(variant, page, 412)
    if isinstance(span, Span):
        return partial(identity, page, span.start, span.stop)
    if span is not None:
        return refuse(identity, page, 416, (b"content-range", b"bytes */%d" % len(identity.body)))
    return (variant.head or variant.make_head()) if head else variant


def find_key(snapshot: Snapshot, raw_path: bytes, query: bytes) -> bytes | Redirect | Miss:
    """The key that a target asks for, in whatever spelling: another encoding, a query, another case, a slash."""
    path = canonical_path(raw_path)
    if path is None:
        return NEVER_HOT
    found = _look_up(snapshot, snapshot.keys, path, query)
    if isinstance(found, Miss) and snapshot.folded:
        folded = canonical_path(path, fold_case=True)
        if folded is not None:
            found = _look_up(snapshot, snapshot.folded, folded, query)
    if isinstance(found, Miss) and snapshot.redirect_slashes:
        return _redirect(snapshot, path, query) or found
    return found


def _look_up(snapshot: Snapshot, keys: Container[bytes], path: bytes, query: bytes) -> bytes | Miss:
    key = path
    if query:
        names = snapshot.query_names.get(path)
        if names is None and path not in keys:
            return UNKNOWN
        canonical = canonical_query(query, names or frozenset())
        if canonical is None:
            return OTHER_QUERY
        if canonical:
            key = path + b"?" + canonical
    return key if key in keys else UNKNOWN


def _redirect(snapshot: Snapshot, path: bytes, query: bytes) -> Redirect | None:
    """Where the same path with or without its last slash is a page: a relative 308 that keeps the query."""
    other = path[:-1] if path.endswith(b"/") else path + b"/"
    if not other or isinstance(_look_up(snapshot, snapshot.keys, other, query), Miss):
        return None
    # Relative, so that neither a mount point nor a proxy's prefix or host has to be known (RFC 3986 §4.2); "./" in
    # front keeps a segment that holds ":" from being read as a scheme.
    last = other.rstrip(b"/").rpartition(b"/")[2]
    target = b"../" + last if path.endswith(b"/") else b"./" + last + b"/"
    location = (b"location", target + (b"?" + query if query else b""))
    return Redirect(308, [(b"content-length", b"0"), location, _REDIRECT_CACHE_CONTROL], b"", _REDIRECTED)


def _accepted(value: bytes) -> tuple[int, ...]:
    tiers = _tiers.get(value)
    if tiers is None:
        tiers = accepted_codings(value)
        if len(value) <= _TIERS_MAXIMUM_VALUE_BYTES and len(_tiers) < _TIERS_MAXIMUM:
            _tiers[value] = tiers
    return tiers
