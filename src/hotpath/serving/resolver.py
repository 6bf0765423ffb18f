"""From a request head to its answer: a lookup, a scan of the header list, a choice among answers made in advance.

Nothing here knows ASGI: a door below it can ask with the bytes that it has.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from hotpath.pages.keys import MAX_TARGET_BYTES, canonical_path, canonical_query, split_absolute
from hotpath.serving.rfc9110 import (
    IDENTITY,
    Precondition,
    Span,
    accepted_codings,
    evaluate,
    if_match,
    if_range,
    parse_http_date,
    parse_range,
)
from hotpath.serving.snapshot import (
    Answer,
    Freshness,
    Page,
    Redirect,
    Snapshot,
    Variant,
    partial,
    redirect_headers,
    refuse,
)
from hotpath.types import Header

# Values in the place of an HTTP status, so that one attribute distinguishes the three outcomes.
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
TOO_LONG = Miss(f"the path or the query has more than {MAX_TARGET_BYTES:,} bytes")
NEVER_HOT = Miss("the path has dot segments, a backslash, control characters or malformed percent-encoding")
OTHER_HOST = Miss("its Host is not among hosts=(…)")
BYPASSED = Miss("bypass= sent it to the app")
UNREADABLE = Miss("its bytes cannot be read, or hotpath failed; the log says what")

# The request fields that can change an answer. All others, unkeyed by definition, never do.
_ACCEPT_ENCODING = b"accept-encoding"
_IF_NONE_MATCH = b"if-none-match"
_IF_MODIFIED_SINCE = b"if-modified-since"
# Stands for the tag of a request that has only a date; no entity tag looks like it.
_BY_DATE = b"(by date)"
_SELECTING = frozenset((_ACCEPT_ENCODING, _IF_NONE_MATCH, _IF_MODIFIED_SINCE))
CONSULTED = _SELECTING | {b"if-match", b"if-unmodified-since", b"if-range", b"range"}

# The cost of a head is bounded: these lines of one are looked at, and a consulted field of more bytes or lines counts
# as absent.
MAX_HEAD_LINES: Final = 1000
MAX_FIELD_BYTES: Final = 8192
MAX_FIELD_LINES: Final = 64

# As a number: looking for b"%" in bytes costs ten times as much.
_PERCENT = ord("%")
_SLASH = ord("/")

# A 308 may be kept for ever (RFC 9110 §15.4.9); one that depends on tonight's keys must not be.
_REDIRECT_CACHE_CONTROL = (b"cache-control", b"public, max-age=60")
_REDIRECTED = Freshness(0, 0)
_REDIRECTED.set(b"hotpath; hit; detail=redirect")

# Characters that clients send in a query though RFC 3986 §3.4 does not allow them.
_NO_QUERY_CHARACTER = re.compile(rb"%(?![0-9A-Fa-f]{2})|[^A-Za-z0-9._~!$&'()*+,;=:@/?%-]")

# Accept-Encoding has a handful of values on the whole web; what each means is worked out once. Bounded, because the
# values come from clients: beyond the maximum a new value is parsed each time.
_TIERS_MAXIMUM = 512
_TIERS_MAXIMUM_VALUE_BYTES = 256
_tiers: dict[bytes, tuple[int, ...]] = {}


# One function, since each call more would cost every request 60 ns.
def resolve(
    snapshot: Snapshot, method: str, raw_path: bytes, query: bytes, headers: Sequence[Header]
) -> Answer | Pending | Miss:
    """The answer to one request head. ``raw_path`` is below any mount point and still percent-encoded."""
    page = snapshot.pages.get(raw_path)
    if page is None:
        # A miss must stay cheap: only a path that could be another spelling of a key is worth a second look.
        if (
            snapshot.is_exact
            and not query
            and _PERCENT not in raw_path
            and raw_path not in snapshot.keys
            and (not raw_path or raw_path[0] == _SLASH)
        ):
            return UNKNOWN
        return _resolve_target(snapshot, method, raw_path, query, headers)
    if query or method != "GET" or len(headers) > MAX_HEAD_LINES:
        return _resolve_target(snapshot, method, raw_path, query, headers)
    variants = page.variants
    accept = tag = None
    consulted = CONSULTED
    for name, value in headers:
        if name in consulted:
            if name == _ACCEPT_ENCODING and accept is None:
                accept = value
            elif name == _IF_NONE_MATCH and (tag is None or tag is _BY_DATE):
                tag = value
            elif name == _IF_MODIFIED_SINCE:
                tag = tag or _BY_DATE  # the date counts only where there is no tag (§13.1.3)
            else:
                return resolve_page(page, method, headers)
    if accept is None:
        variant = variants[IDENTITY]
    else:
        for mask in _tiers.get(accept, ()):  # what is not there is parsed, and put there, in resolve_page
            variant = variants[mask]
            if variant is not None:
                break
        else:
            variant = None
    if variant is not None:
        if tag is None:
            return variant
        if tag == variant.etag:
            return variant.not_modified or variant.make_not_modified()
    return resolve_page(page, method, headers)


@dataclass(frozen=True, slots=True)
class Selection:
    """What the consulted fields of a GET come to, where that is a choice among answers made in advance.

    ``masks`` are the acceptable codings, most wanted first; ``tag`` is the value of ``If-None-Match``, ``since`` that
    of ``If-Modified-Since`` where it counts, in seconds since the epoch.
    """

    masks: tuple[int, ...]
    tag: bytes | None
    since: int | None

    @classmethod
    def of(cls, headers: Sequence[Header]) -> Selection | None:
        """``None`` where the fields ask for more than a choice: parts, other conditions, fields in several lines."""
        fields = dict(headers)
        if len(fields) < len(headers) or not fields.keys() <= _SELECTING:
            return None
        if any(len(value) > MAX_FIELD_BYTES for value in fields.values()):
            return None
        accept, tag = fields.get(_ACCEPT_ENCODING), fields.get(_IF_NONE_MATCH)
        masks = (IDENTITY,) if accept is None else accepted_codings(accept)
        date = fields.get(_IF_MODIFIED_SINCE) if tag is None else None
        return cls(masks, tag, parse_http_date(date) if date is not None else None)

    @property
    def first(self) -> int:
        """The mask that is most wanted; -1 where nothing is acceptable."""
        return self.masks[0] if self.masks else -1

    @property
    def is_plain(self) -> bool:
        """Whether there is no condition."""
        return self.tag is None and self.since is None

    def choose(self, page: Page) -> Answer | None:
        """What ``resolve`` says to a GET of this page with these fields; ``None`` where that is to be asked."""
        variants = page.variants
        for mask in self.masks:
            variant = variants[mask]
            if variant is not None:
                break
        else:
            return None
        return self.answer_of(variant)

    def answer_of(self, variant: Variant) -> Answer | None:
        """The same of a variant that the masks come to."""
        if self.tag is not None:
            if self.tag != variant.etag:
                return None
        elif self.since is None or variant.last_modified > self.since:
            return variant
        return variant.not_modified or variant.make_not_modified()


def _resolve_target(
    snapshot: Snapshot, method: str, raw_path: bytes, query: bytes, headers: Sequence[Header]
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


def resolve_page(page: Page, method: str, headers: Sequence[Header]) -> Answer:
    """The answer of one page to GET or HEAD: the whole of RFC 9110 §12.5.3, §13.2.2 and §14.2."""
    is_head = method == "HEAD"
    variants = page.variants
    fields = _consulted_fields(headers)
    identity = variants[IDENTITY]
    assert identity is not None  # every item has its identity coding
    tiers = _accepted(fields[_ACCEPT_ENCODING]) if _ACCEPT_ENCODING in fields else (IDENTITY,)
    variant = next((variants[mask] for mask in tiers if variants[mask] is not None), None)
    if variant is None:
        return refuse(identity, page, 406)
    # The conditions are those of the same request without Range (§13.2.2, §14.2).
    match evaluate(fields, variant.etag, variant.last_modified):
        case Precondition.NOT_MODIFIED:
            return variant.not_modified or variant.make_not_modified()
        case Precondition.FAILED:
            return refuse(variant, page, 412)
    if is_head:
        return variant.head or variant.make_head()
    if b"range" in fields and any(mask & IDENTITY for mask in tiers):
        return _part(page, identity, fields) or variant
    return variant


def _part(page: Page, identity: Variant, fields: Mapping[bytes, bytes]) -> Answer | None:
    """206 or 416, of the identity coding only: a client that joins parts of two codings gets neither.

    ``None`` where the range is to be ignored: also where ``If-Match`` asks for another coding's bytes.
    """
    span = parse_range(fields[b"range"], len(identity.body))
    if span is None:
        return None
    if b"if-range" in fields and not if_range(fields[b"if-range"], identity.etag, identity.last_modified):
        return None
    if b"if-match" in fields and not if_match(fields[b"if-match"], identity.etag):
        return None
    if isinstance(span, Span):
        return partial(identity, page, span.start, span.stop)
    return refuse(identity, page, 416, (b"content-range", b"bytes */%d" % len(identity.body)))


def _consulted_fields(headers: Sequence[Header]) -> dict[bytes, bytes]:
    """The fields that matter, the lines of each joined (RFC 9110 §5.3); without those that are out of all measure."""
    lines: dict[bytes, list[bytes]] = {}
    for name, value in headers[:MAX_HEAD_LINES]:
        if name in CONSULTED:
            lines.setdefault(name, []).append(value)
    fields = {}
    for name, values in lines.items():
        if len(values) <= MAX_FIELD_LINES and sum(map(len, values)) <= MAX_FIELD_BYTES:
            fields[name] = b", ".join(values)
    if len(fields) < len(lines) or len(headers) > MAX_HEAD_LINES:
        fields.pop(b"range", None)  # the condition of a part may be what is missing; the whole is always right
    return fields


def find_key(snapshot: Snapshot, raw_path: bytes, query: bytes) -> bytes | Redirect | Miss:
    """The key that a target asks for, in whatever spelling: another encoding, a query, another case, a slash."""
    if len(raw_path) > MAX_TARGET_BYTES or len(query) > MAX_TARGET_BYTES:
        return TOO_LONG
    path = canonical_path(split_absolute(raw_path)[1])
    if path is None:
        return NEVER_HOT
    key = _look_up(snapshot, snapshot.keys, path, query)
    if isinstance(key, Miss) and snapshot.folded:
        folded = canonical_path(path, fold_case=True)
        if folded is not None:
            key = _look_up(snapshot, snapshot.folded, folded, query)
    if isinstance(key, Miss) and snapshot.redirect_slashes:
        return _redirect(snapshot, path, query) or key
    return key


def _look_up(snapshot: Snapshot, keys: Container[bytes], path: bytes, query: bytes) -> bytes | Miss:
    key = path
    if query:
        names = snapshot.query_names.get(path)
        if names is None and path not in keys:
            return UNKNOWN
        canonical = canonical_query(query, names or frozenset(), snapshot.ignored)
        if canonical is None:
            return OTHER_QUERY
        if canonical:
            key = path + b"?" + canonical
    return key if key in keys else UNKNOWN


def _redirect(snapshot: Snapshot, path: bytes, query: bytes) -> Redirect | None:
    """Where the same path with or without its last slash is a page: a relative 308 that keeps the query."""
    if b"//" in path:  # an empty segment: what stands before or after it is another path
        return None
    other = path[:-1] if path.endswith(b"/") else path + b"/"
    key = _look_up(snapshot, snapshot.keys, other, query) if other else UNKNOWN
    if isinstance(key, Miss):
        return None
    # Relative, so that neither a mount point nor a proxy's prefix or host has to be known (RFC 3986 §4.2); "./" in
    # front keeps a segment that holds ":" from being read as a scheme.
    last = other.rstrip(b"/").rpartition(b"/")[2]
    target = b"../" + last if path.endswith(b"/") else b"./" + last + b"/"
    location = (b"location", target + (b"?" + _NO_QUERY_CHARACTER.sub(_escape, query) if query else b""))
    fields = redirect_headers(snapshot.begin_redirect(key))
    return Redirect(308, [(b"content-length", b"0"), location, _REDIRECT_CACHE_CONTROL, *fields], b"", _REDIRECTED)


def _escape(match: re.Match[bytes]) -> bytes:
    return b"%%%02X" % match[0][0]


def _accepted(value: bytes) -> tuple[int, ...]:
    tiers = _tiers.get(value)
    if tiers is None:
        tiers = accepted_codings(value)
        if len(value) <= _TIERS_MAXIMUM_VALUE_BYTES and len(_tiers) < _TIERS_MAXIMUM:
            _tiers[value] = tiers
    return tiers
