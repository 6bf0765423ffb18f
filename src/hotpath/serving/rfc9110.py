"""The decisions of RFC 9110 about one request and one representation: validators, preconditions, codings, ranges.

All functions take field values as the bytes that came on the wire and never raise, whatever those are: a field that
makes no sense is ignored, as the RFC asks. All run in time linear in the length of the value.
"""

from __future__ import annotations

import calendar
import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate
from typing import NamedTuple

IDENTITY, GZIP, BR, ZSTD = 1, 2, 4, 8
CODING_BITS: dict[str, int] = {"identity": IDENTITY, "gzip": GZIP, "br": BR, "zstd": ZSTD}

_BITS_BY_NAME = {name.encode("ascii"): bit for name, bit in CODING_BITS.items()} | {b"x-gzip": GZIP}
_QVALUE = re.compile(rb"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")

# entity-tag = [ weak ] DQUOTE *etagc DQUOTE, where weak is case-sensitive (§8.8.3).
_TAG = rb'(W/)?("[\x21\x23-\x7e\x80-\xff]*+")'
_ENTITY_TAG = re.compile(_TAG)
# A whole member of a list of tags: a comma inside the quotes is part of the tag, and w/"a" or a"b" is no tag at all.
_LISTED_TAG = re.compile(rb"(?:\A|,)[ \t]*+" + _TAG + rb"[ \t]*+(?=,|\Z)")


def accepted_codings(value: bytes) -> tuple[int, ...]:
    """Which content codings an ``Accept-Encoding`` field accepts (§12.5.3), as bit masks, most wanted first.

    Codings of one q-value share a mask: between them the server is free to take the smallest. Identity that is
    neither named nor excluded is acceptable and comes last. An empty tuple accepts nothing at all. A malformed member
    is ignored; of a coding named twice the lower q-value holds, so that a refusal is never overruled.
    """
    weights: dict[int, int] = {}
    others: int | None = None
    for member in value.lower().split(b","):
        text, _, parameters = member.partition(b";")
        name = text.strip(b" \t")
        if name not in _BITS_BY_NAME and name != b"*":
            continue
        weight = _weight(parameters) if len(text) < len(member) else 1000
        if weight is None:
            continue
        if name == b"*":
            others = weight if others is None else min(others, weight)
        else:
            bit = _BITS_BY_NAME[name]
            weights[bit] = min(weights.get(bit, weight), weight)
    tiers: dict[int, int] = {}
    for bit in CODING_BITS.values():
        weight = weights.get(bit, others)
        if weight:
            tiers[weight] = tiers.get(weight, 0) | bit
    ordered = tuple(mask for _, mask in sorted(tiers.items(), reverse=True))
    if IDENTITY not in weights and others is None:
        return (*ordered, IDENTITY)
    return ordered


def _weight(parameters: bytes) -> int | None:
    """A q-value in thousandths (§12.4.2); ``None`` for a malformed one."""
    name, _, text = parameters.partition(b"=")
    digits = text.strip(b" \t")
    if name.strip(b" \t") != b"q" or not _QVALUE.fullmatch(digits):
        return None
    return round(float(digits) * 1000)


def if_none_match(value: bytes, etag: bytes) -> bool:
    """Whether the client already has ``etag``: ``*`` or a listed tag, by weak comparison (§13.1.2, §8.8.3.2)."""
    if value.strip(b" \t") == b"*":
        return True
    opaque = etag.removeprefix(b"W/")
    return any(match.group(2) == opaque for match in _LISTED_TAG.finditer(value))


def if_match(value: bytes, etag: bytes) -> bool:
    """Whether ``etag`` is among those the client wants: ``*`` or a listed tag, by strong comparison (§13.1.1)."""
    if value.strip(b" \t") == b"*":
        return True
    return any(match.group(1) is None and match.group(2) == etag for match in _LISTED_TAG.finditer(value))


_DAYS = rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")
_TIME = rb"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
_DATE_FORMS = tuple(
    re.compile(form)
    for form in (
        _DAYS + rb", (?P<day>\d\d) (?P<month>[A-Z][a-z]{2}) (?P<year>\d{4}) " + _TIME + rb" GMT",
        rb"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, (?P<day>\d\d)-(?P<month>[A-Z][a-z]{2})-(?P<year>\d\d) "
        + _TIME
        + rb" GMT",
        _DAYS + rb" (?P<month>[A-Z][a-z]{2}) (?P<day>[ \d]\d) " + _TIME + rb" (?P<year>\d{4})",
    )
)

# §5.6.7 reads a two-digit year that seems more than fifty years ahead as past, which takes a clock. A fixed century
# needs none, and reads every date that a server can have sent from 1970 to 2069 as it was meant.
_CENTURY_PIVOT = 70


def parse_http_date(value: bytes) -> int | None:
    """Seconds since the epoch of an HTTP-date in any of its three forms (§5.6.7), ``None`` when it is none."""
    for form in _DATE_FORMS:
        match = form.fullmatch(value)
        if match:
            break
    else:
        return None
    if match["month"] not in _MONTHS:
        return None
    year, month, day = int(match["year"]), _MONTHS.index(match["month"]) + 1, int(match["day"])
    if len(match["year"]) == 2:
        year += 1900 if year >= _CENTURY_PIVOT else 2000
    hour, minute, second = int(match["hour"]), int(match["minute"]), int(match["second"])
    # 60 is a leap second, which the grammar has and the epoch does not.
    if year < 1 or not 1 <= day <= calendar.monthrange(year, month)[1] or hour > 23 or minute > 59 or second > 60:
        return None
    return calendar.timegm((year, month, day, hour, minute, min(second, 59)))


def format_http_date(seconds: int) -> bytes:
    """IMF-fixdate (§5.6.7) of seconds since the epoch."""
    return formatdate(seconds, usegmt=True).encode("ascii")


class Precondition(enum.Enum):
    """What the conditions of a request come to."""

    PROCEED = "proceed"
    NOT_MODIFIED = "304"
    FAILED = "412"


def evaluate(conditions: Mapping[bytes, bytes], etag: bytes, last_modified: int | None) -> Precondition:
    """The preconditions of a GET or HEAD in the order of §13.2.2.

    A date is ignored when it is invalid and when the entity-tag condition it belongs to is there (§13.1.3, §13.1.4).
    """
    if b"if-match" in conditions:
        if not if_match(conditions[b"if-match"], etag):
            return Precondition.FAILED
    elif b"if-unmodified-since" in conditions and last_modified is not None:
        since = parse_http_date(conditions[b"if-unmodified-since"])
        if since is not None and last_modified > since:
            return Precondition.FAILED
    if b"if-none-match" in conditions:
        if if_none_match(conditions[b"if-none-match"], etag):
            return Precondition.NOT_MODIFIED
    elif b"if-modified-since" in conditions and last_modified is not None:
        since = parse_http_date(conditions[b"if-modified-since"])
        if since is not None and last_modified <= since:
            return Precondition.NOT_MODIFIED
    return Precondition.PROCEED


def if_range(value: bytes, etag: bytes, last_modified: int | None) -> bool:
    """Whether a range may be served (§13.1.5): the very tag, strongly compared, or exactly the date.

    The date counts as a strong validator: the caller knows that its item did not change twice in one second (§8.8.2.2).
    """
    match = _ENTITY_TAG.fullmatch(value)
    if match:
        return match.group(1) is None and match.group(2) == etag
    date = parse_http_date(value)
    return date is not None and date == last_modified


class Span(NamedTuple):
    """Bytes ``start`` up to and without ``stop``."""

    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Unsatisfiable:
    """A valid range that lies wholly outside (§15.5.17)."""


UNSATISFIABLE = Unsatisfiable()

# The unit is case-insensitive (§14.1); the grammar of a range (§14.1.1) has no white space.
_RANGE = re.compile(rb"bytes=(\d*)-(\d*)", re.IGNORECASE)

# A position beyond any length. Five thousand digits are valid (§14.1.2), but Python refuses to convert so many.
_FAR_DIGITS = 19
_FAR = 10**_FAR_DIGITS


def parse_range(value: bytes, length: int) -> Span | Unsatisfiable | None:
    """The one range of a ``Range`` field (§14.1.2, §14.2), ``None`` where the field is to be ignored.

    Ignored are unknown units, malformed sets and sets of several ranges: the full answer is always allowed, and costs
    less than many small parts.
    """
    match = _RANGE.fullmatch(value)
    if not match:
        return None
    first, last = match.groups()
    if first:
        start = _position(first)
        if last and _position(last) < start:
            return None  # §14.1.1: an invalid range, so the field is ignored
        stop = min(_position(last) + 1, length) if last else length
        return Span(start, stop) if start < length else UNSATISFIABLE
    if not last:
        return None
    suffix = _position(last)
    return Span(max(0, length - suffix), length) if suffix and length else UNSATISFIABLE


def _position(digits: bytes) -> int:
    significant = digits.lstrip(b"0")
    return int(significant or b"0") if len(significant) <= _FAR_DIGITS else _FAR
