"""Semantics: what RFC 9110 says of one request and one representation, case by case and for all inputs."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hotpath.serving.rfc9110 import (
    BR,
    CODING_BITS,
    GZIP,
    IDENTITY,
    UNSATISFIABLE,
    ZSTD,
    Precondition,
    Span,
    Unsatisfiable,
    accepted_codings,
    evaluate,
    format_http_date,
    if_match,
    if_none_match,
    if_range,
    parse_http_date,
    parse_range,
)

ETAG = b'"abc"'
ALL = IDENTITY | GZIP | BR | ZSTD

# The example of §5.6.7: Sun, 06 Nov 1994 08:49:37 GMT.
EXAMPLE = 784111777
EXAMPLE_DATE = b"Sun, 06 Nov 1994 08:49:37 GMT"

YEAR_1 = -62135596800
YEAR_9999 = 253402300799
SERVER_FIELD_BYTES = 64 * 1024


def cases(*rows: tuple[object, ...]) -> list[object]:
    """Rows of (section, …) with ids that name the section and the input."""
    return [pytest.param(*row[1:], id=f"§{row[0]} {row[1]!r}"[:80]) for row in rows]


# Codings


@pytest.mark.parametrize(
    ("value", "tiers"),
    cases(
        ("12.5.3", b"gzip, br", (GZIP | BR, IDENTITY)),
        ("12.5.3", b"compress, gzip", (GZIP, IDENTITY)),
        ("12.5.3", b"", (IDENTITY,)),
        ("12.5.3", b"*", (ALL,)),
        ("12.5.3", b"compress;q=0.5, gzip;q=1.0", (GZIP, IDENTITY)),
        ("12.5.3", b"gzip;q=1.0, identity; q=0.5, *;q=0", (GZIP, IDENTITY)),
        ("12.5.3", b"gzip;q=0", (IDENTITY,)),
        ("12.5.3", b"identity;q=0", ()),
        ("12.5.3", b"*;q=0", ()),
        ("12.5.3", b"identity;q=0, *;q=0", ()),
        ("12.5.3", b"*;q=0, identity", (IDENTITY,)),
        ("12.5.3", b"*;q=0, gzip", (GZIP,)),
        ("12.5.3", b"identity;q=0, gzip", (GZIP,)),
        ("12.5.3", b"identity;q=0, *", (GZIP | BR | ZSTD,)),
        ("12.5.3", b"gzip;q=0, *", (IDENTITY | BR | ZSTD,)),
        ("12.5.3", b"*;q=0.5, gzip", (GZIP, IDENTITY | BR | ZSTD)),
        ("12.5.3", b"gzip, *;q=0.5", (GZIP, IDENTITY | BR | ZSTD)),
        ("12.5.3", b"identity, gzip", (IDENTITY | GZIP,)),
        ("12.5.3", b"identity, gzip;q=0.5", (IDENTITY, GZIP)),
        ("12.4.2", b"gzip;q=0.5, br", (BR, GZIP, IDENTITY)),
        ("12.4.2", b"gzip;q=0.001, br;q=0.002, zstd;q=0.999", (ZSTD, BR, GZIP, IDENTITY)),
        ("12.4.2", b"gzip;q=0.000", (IDENTITY,)),
        ("12.4.2", b"gzip;q=0., br;q=1.", (BR, IDENTITY)),
        ("12.4.2", b"gzip;q=1.000, br;q=0.999", (GZIP, BR, IDENTITY)),
        ("12.4.2", b"gzip;Q=0.5, br", (BR, GZIP, IDENTITY)),
        ("5.6.3", b"gzip \t;\t q=0.5 ,\tbr", (BR, GZIP, IDENTITY)),
        ("5.6.1.2", b",, gzip ,, ,br,", (GZIP | BR, IDENTITY)),
        ("8.4.1", b"GZIP, Br", (GZIP | BR, IDENTITY)),
        ("8.4.1.3", b"x-gzip", (GZIP, IDENTITY)),
        ("8.4.1.3", b"x-gzip;q=0, *", (IDENTITY | BR | ZSTD,)),
    ),
)
def test_accepted_codings(value: bytes, tiers: tuple[int, ...]) -> None:
    assert accepted_codings(value) == tiers


@pytest.mark.parametrize(
    "member",
    [b"gzip;q=1.001", b"gzip;q=2", b"gzip;q=-1", b"gzip;q=0.1234", b"gzip;q=.5", b"gzip;q=", b"gzip;q", b"gzip;",
     b"gzip;q=nan", b"gzip;q=1e0", b"gzip;level=9", b"gzip;q=1;q=0", b"gzip;q=1\n", b'gzip;q="1"', b"gzip br", b";q=1",
     b"\xff", b"gzip\x00", b"g\xc5\xbcip"],
)  # fmt: skip
def test_a_malformed_member_is_ignored_and_the_others_count(member: bytes) -> None:
    """§12.5.3 with the grammar of §12.4.2."""
    assert accepted_codings(member) == (IDENTITY,)
    assert accepted_codings(b"zstd, " + member + b", br;q=0.5") == (ZSTD, BR, IDENTITY)


@pytest.mark.parametrize(
    ("value", "tiers"),
    [
        (b"gzip;q=0, gzip", (IDENTITY,)),
        (b"gzip, gzip;q=0", (IDENTITY,)),
        (b"gzip, x-gzip;q=0", (IDENTITY,)),
        (b"*, *;q=0", ()),
        (b"*;q=0, *", ()),
        (b"gzip, br;q=0.9, gzip;q=0.5", (BR, GZIP, IDENTITY)),
    ],
)
def test_of_a_coding_named_twice_the_lower_weight_holds(value: bytes, tiers: tuple[int, ...]) -> None:
    """§12.5.3 leaves it open; a refusal is never overruled."""
    assert accepted_codings(value) == tiers


def test_white_space_around_the_equals_sign_does_not_undo_a_refusal() -> None:
    """§5.6.6 forbids the space; reading ``q = 0`` as no member would send what the client refuses."""
    assert accepted_codings(b"gzip;q = 0, *") == (IDENTITY | BR | ZSTD,)


def test_every_coding_has_a_bit_of_its_own() -> None:
    assert CODING_BITS == {"identity": IDENTITY, "gzip": GZIP, "br": BR, "zstd": ZSTD}
    assert sorted(CODING_BITS.values()) == [1, 2, 4, 8]


def weight_text(thousandths: int) -> str:
    return "1" if thousandths == 1000 else f"0.{thousandths:03d}"


WEIGHTS = st.sampled_from([0, 1, 250, 500, 999, 1000])


@given(st.dictionaries(st.sampled_from([*CODING_BITS, "*", "compress"]), WEIGHTS))
def test_tiers_are_the_accepted_codings_by_weight(weights: dict[str, int]) -> None:
    """§12.5.3: weight 0 is in no tier, tiers fall in weight, equals share one, the order written is nothing."""
    members = [f"{name};q={weight_text(weight)}" for name, weight in weights.items()]
    tiers = accepted_codings(", ".join(members).encode())
    assert tiers == accepted_codings(", ".join(reversed(members)).encode())

    rank = {bit: index for index, mask in enumerate(tiers) for bit in CODING_BITS.values() if mask & bit}
    assert sum(tiers) == sum(rank)  # no coding twice, no unknown bit
    assert all(tiers)  # no empty tier
    stated = {bit: weights.get(name, weights.get("*")) for name, bit in CODING_BITS.items()}
    for bit, weight in stated.items():
        assert (bit in rank) == (bool(weight) if weight is not None else bit == IDENTITY)
    for one, first in stated.items():
        for other, second in stated.items():
            if first and second:
                assert (rank[one] < rank[other]) == (first > second)
    if stated[IDENTITY] is None:
        assert tiers[-1] == IDENTITY


# Entity tags


@pytest.mark.parametrize(
    ("mine", "theirs", "strong", "weak"),
    [
        (b'W/"1"', b'W/"1"', False, True),
        (b'W/"1"', b'W/"2"', False, False),
        (b'W/"1"', b'"1"', False, True),
        (b'"1"', b'W/"1"', False, True),
        (b'"1"', b'"1"', True, True),
        (b'"1"', b'"2"', False, False),
    ],
)
def test_comparison_of_entity_tags(mine: bytes, theirs: bytes, strong: bool, weak: bool) -> None:
    """The table of §8.8.3.2."""
    assert if_match(theirs, mine) is strong
    assert if_range(theirs, mine, None) is strong
    assert if_none_match(theirs, mine) is weak


@pytest.mark.parametrize(
    ("value", "etag", "listed"),
    cases(
        ("13.1.2", b'"xyzzy"', b'"xyzzy"', True),
        ("13.1.2", b'"xyzzy", "r2d2xxxx", "c3piozzzz"', b'"c3piozzzz"', True),
        ("13.1.2", b'"xyzzy","r2d2xxxx","c3piozzzz"', b'"r2d2xxxx"', True),
        ("13.1.2", b'"xyzzy", "r2d2xxxx"', b'"abc"', False),
        ("13.1.2", b"*", ETAG, True),
        ("13.1.2", b" *\t", ETAG, True),
        ("13.1.2", b"", ETAG, False),
        ("13.1.2", b'"*"', ETAG, False),
        ("13.1.2", b'"a", *', ETAG, False),
        ("5.6.1.2", b', ,"a" , ,\t"abc" ,', ETAG, True),
        ("8.8.3", b'"a,b"', b'"a,b"', True),
        ("8.8.3", b'"a,b", "abc"', ETAG, True),
        ("8.8.3", b'"a,abc,b"', ETAG, False),
        ("8.8.3", b'"x", "a, "abc', ETAG, False),
        ("8.8.3", b'""', b'""', True),
        ("8.8.3", b'"\xe9\xff"', b'"\xe9\xff"', True),
        ("8.8.3", b'"a\\"', b'"a\\"', True),
        ("8.8.3", b'"ABC"', ETAG, False),
        ("8.8.3.3", b'"abc-gzip"', ETAG, False),
        ("8.8.3.3", b'"abc-gzip", "abc"', ETAG, True),
    ),
)
def test_list_of_entity_tags(value: bytes, etag: bytes, listed: bool) -> None:
    assert if_none_match(value, etag) is listed
    assert if_match(value, etag) is listed


@pytest.mark.parametrize(
    "member",
    [b"abc", b"'abc'", b'"abc', b'abc"', b'w/"abc"', b'W/ "abc"', b'W"abc"', b'/"abc"', b'x"abc"', b'"abc"x',
     b'"abc" "abc"', b'"ab c"', b'"abc\x7f"', b'"abc"\x00', b'"abc"\n', b'\xff"abc"', b'W/W/"abc"', b'"abc";q=1'],
)  # fmt: skip
def test_a_malformed_tag_matches_nothing_and_hides_nothing(member: bytes) -> None:
    """§8.8.3: ``W/`` is case-sensitive, and a tag is a whole member of the list."""
    for matches in (if_none_match, if_match):
        assert matches(member, ETAG) is False
        assert matches(b'"first", ' + member + b', "last"', b'"last"') is True
        assert matches(b'"first", ' + member + b', "last"', b'"first"') is True


ETAGC = [0x21, *range(0x23, 0x7F), *range(0x80, 0x100)]
OPAQUE = st.lists(st.sampled_from(ETAGC), max_size=8).map(lambda etagc: b'"' + bytes(etagc) + b'"')
TAGS = st.tuples(st.sampled_from([b"", b"W/"]), OPAQUE | st.sampled_from([b'"a"', b'","', b'"a,b"', b'"W/"']))
SEPARATORS = st.sampled_from([b",", b", ", b" ,\t", b",,", b" , , "])


@given(st.lists(st.tuples(TAGS, SEPARATORS), max_size=6), TAGS)
def test_a_list_matches_when_one_of_its_tags_does(
    members: list[tuple[tuple[bytes, bytes], bytes]], own: tuple[bytes, bytes]
) -> None:
    """§13.1.1 and §13.1.2 with §8.8.3.2, whatever commas and bytes above 127 the tags hold."""
    value = b"".join(weak + opaque + separator for (weak, opaque), separator in members)
    etag = own[0] + own[1]
    assert if_none_match(value, etag) is any(opaque == own[1] for (_, opaque), _ in members)
    assert if_match(value, etag) is any(tag == own and not tag[0] for tag, _ in members)


# Dates


@pytest.mark.parametrize(
    ("value", "seconds"),
    cases(
        ("5.6.7 IMF-fixdate", EXAMPLE_DATE, EXAMPLE),
        ("5.6.7 rfc850-date", b"Sunday, 06-Nov-94 08:49:37 GMT", EXAMPLE),
        ("5.6.7 asctime-date", b"Sun Nov  6 08:49:37 1994", EXAMPLE),
        ("5.6.7 asctime-date", b"Wed Nov 16 08:49:37 1994", EXAMPLE + 10 * 86400),
        ("5.6.7 IMF-fixdate", b"Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("5.6.7 IMF-fixdate", b"Wed, 31 Dec 1969 23:59:59 GMT", -1),
        ("5.6.7 IMF-fixdate", b"Thu, 29 Feb 2024 00:00:00 GMT", 1709164800),
        ("5.6.7 IMF-fixdate", b"Tue, 29 Feb 2000 00:00:00 GMT", 951782400),
        ("5.6.7 IMF-fixdate", b"Tue, 19 Jan 2038 03:14:08 GMT", 2**31),
        ("5.6.7 IMF-fixdate", b"Fri, 31 Dec 9999 23:59:59 GMT", YEAR_9999),
        ("5.6.7 IMF-fixdate", b"Mon, 01 Jan 0001 00:00:00 GMT", YEAR_1),
        ("5.6.7 rfc850-date", b"Thursday, 01-Jan-70 00:00:00 GMT", 0),
        ("5.6.7 rfc850-date", b"Friday, 31-Dec-99 23:59:59 GMT", 946684799),
        ("5.6.7 rfc850-date", b"Saturday, 01-Jan-00 00:00:00 GMT", 946684800),
        ("5.6.7 rfc850-date", b"Tuesday, 31-Dec-69 23:59:59 GMT", 3155759999),
        ("5.6.7 leap second", b"Sat, 31 Dec 2016 23:59:60 GMT", 1483228799),
        ("5.6.7 day name unchecked", b"Mon, 06 Nov 1994 08:49:37 GMT", EXAMPLE),
    ),
)
def test_the_three_forms_of_a_date(value: bytes, seconds: int) -> None:
    assert parse_http_date(value) == seconds


@pytest.mark.parametrize(
    "value",
    [b"", b"0", b"784111777", b"Sun, 06 Nov 1994 08:49:37", b"Sun, 06 Nov 1994 08:49:37 UTC",
     b"Sun, 06 Nov 1994 08:49:37 +0000", b"Sun, 06 Nov 1994 08:49:37 gmt", b"sun, 06 Nov 1994 08:49:37 GMT",
     b"Sun, 06 nov 1994 08:49:37 GMT", b"Sun, 6 Nov 1994 08:49:37 GMT", b"Sun, 06 Nov 94 08:49:37 GMT",
     b"Sun, 06 Nov 1994 8:49:37 GMT", b"Sun, 06 Nov 1994 08:49 GMT", b"Sun, 06 Nov 1994 24:00:00 GMT",
     b"Sun, 06 Nov 1994 08:60:37 GMT", b"Sun, 06 Nov 1994 08:49:61 GMT", b"Sun, 00 Nov 1994 08:49:37 GMT",
     b"Sun, 31 Nov 1994 08:49:37 GMT", b"Tue, 29 Feb 2023 00:00:00 GMT", b"Mon, 29 Feb 1900 00:00:00 GMT",
     b"Sun, 06 Abc 1994 08:49:37 GMT", b"Xyz, 06 Nov 1994 08:49:37 GMT", b"Sun, 06 Nov 0000 08:49:37 GMT",
     b"Sun,06 Nov 1994 08:49:37 GMT", b"Sun, 06  Nov 1994 08:49:37 GMT", b"Sun, 06 Nov 1994 08:49:37 GMT\n",
     b"Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT", b"Sun, 06-Nov-94 08:49:37 GMT",
     b"Sunday, 06-Nov-1994 08:49:37 GMT", b"Sunday, 06 Nov 94 08:49:37 GMT", b"Sun Nov 6 08:49:37 1994",
     b"Sun Nov  6 08:49:37 1994 GMT", b"Sun Nov  0 08:49:37 1994", b"1994-11-06T08:49:37Z", b"\xff" * 29,
     "Sun, ٠٦ Nov 1994 08:49:37 GMT".encode()],
)  # fmt: skip
def test_what_is_no_date(value: bytes) -> None:
    """§5.6.7: case-sensitive, GMT only, no other white space."""
    assert parse_http_date(value) is None


def test_dates_are_written_as_imf_fixdate() -> None:
    """§5.6.7."""
    assert format_http_date(EXAMPLE) == EXAMPLE_DATE
    assert format_http_date(0) == b"Thu, 01 Jan 1970 00:00:00 GMT"


@given(st.integers(YEAR_1, YEAR_9999))
@example(YEAR_1)
@example(YEAR_9999)
def test_a_date_written_is_the_date_read(seconds: int) -> None:
    """§5.6.7: IMF-fixdate there and back, always 29 bytes."""
    written = format_http_date(seconds)
    assert len(written) == 29
    assert parse_http_date(written) == seconds


@given(st.integers(0, 3155759999))
def test_the_obsolete_forms_are_the_same_instant(seconds: int) -> None:
    """§5.6.7: rfc850-date in the century from 1970 on, and asctime-date."""
    moment = datetime.fromtimestamp(seconds, UTC)
    assert parse_http_date(moment.strftime("%A, %d-%b-%y %H:%M:%S GMT").encode()) == seconds
    assert parse_http_date(moment.strftime("%a %b %e %H:%M:%S %Y").encode()) == seconds


# Preconditions

MATCH, NONE_MATCH = b"if-match", b"if-none-match"
MODIFIED, UNMODIFIED = b"if-modified-since", b"if-unmodified-since"
EARLIER, SAME, LATER = (format_http_date(EXAMPLE + delta) for delta in (-1, 0, 1))
OTHER = b'"other"'
PROCEED, NOT_MODIFIED, FAILED = Precondition.PROCEED, Precondition.NOT_MODIFIED, Precondition.FAILED


@pytest.mark.parametrize(
    ("conditions", "outcome"),
    cases(
        ("13.2.2", {}, PROCEED),
        ("13.2.2", {b"accept": b"*", b"range": b"bytes=0-0", b"if-range": OTHER}, PROCEED),
        ("13.1.1", {MATCH: ETAG}, PROCEED),
        ("13.1.1", {MATCH: b"*"}, PROCEED),
        ("13.1.1", {MATCH: OTHER}, FAILED),
        ("13.1.1", {MATCH: b'W/"abc"'}, FAILED),
        ("13.1.1", {MATCH: b""}, FAILED),
        ("13.1.2", {NONE_MATCH: ETAG}, NOT_MODIFIED),
        ("13.1.2", {NONE_MATCH: b'W/"abc"'}, NOT_MODIFIED),
        ("13.1.2", {NONE_MATCH: b"*"}, NOT_MODIFIED),
        ("13.1.2", {NONE_MATCH: OTHER}, PROCEED),
        ("13.1.3", {MODIFIED: EARLIER}, PROCEED),
        ("13.1.3", {MODIFIED: SAME}, NOT_MODIFIED),
        ("13.1.3", {MODIFIED: LATER}, NOT_MODIFIED),
        ("13.1.3", {MODIFIED: b"Sunday, 06-Nov-94 08:49:37 GMT"}, NOT_MODIFIED),
        ("13.1.3", {MODIFIED: b"yesterday"}, PROCEED),
        ("13.1.3 beside If-None-Match", {NONE_MATCH: OTHER, MODIFIED: LATER}, PROCEED),
        ("13.1.3 beside If-None-Match", {NONE_MATCH: b"", MODIFIED: LATER}, PROCEED),
        ("13.1.3 beside If-None-Match", {NONE_MATCH: ETAG, MODIFIED: EARLIER}, NOT_MODIFIED),
        ("13.1.4", {UNMODIFIED: EARLIER}, FAILED),
        ("13.1.4", {UNMODIFIED: SAME}, PROCEED),
        ("13.1.4", {UNMODIFIED: LATER}, PROCEED),
        ("13.1.4", {UNMODIFIED: b"yesterday"}, PROCEED),
        ("13.1.4 beside If-Match", {MATCH: ETAG, UNMODIFIED: EARLIER}, PROCEED),
        ("13.1.4 beside If-Match", {MATCH: OTHER, UNMODIFIED: LATER}, FAILED),
        ("13.2.2 steps 1, 3", {MATCH: ETAG, NONE_MATCH: ETAG}, NOT_MODIFIED),
        ("13.2.2 steps 1, 3", {MATCH: OTHER, NONE_MATCH: ETAG}, FAILED),
        ("13.2.2 steps 1, 4", {MATCH: ETAG, MODIFIED: SAME}, NOT_MODIFIED),
        ("13.2.2 steps 2, 3", {UNMODIFIED: EARLIER, NONE_MATCH: ETAG}, FAILED),
        ("13.2.2 steps 2, 3", {UNMODIFIED: SAME, NONE_MATCH: ETAG}, NOT_MODIFIED),
        ("13.2.2 steps 2, 4", {UNMODIFIED: EARLIER, MODIFIED: SAME}, FAILED),
        ("13.2.2 steps 2, 4", {UNMODIFIED: SAME, MODIFIED: SAME}, NOT_MODIFIED),
    ),
)
def test_preconditions_in_their_order(conditions: dict[bytes, bytes], outcome: Precondition) -> None:
    assert evaluate(conditions, ETAG, EXAMPLE) is outcome


def test_without_a_modification_date_dates_are_ignored() -> None:
    """§13.1.3 and §13.1.4."""
    assert evaluate({MODIFIED: LATER}, ETAG, None) is PROCEED
    assert evaluate({UNMODIFIED: EARLIER}, ETAG, None) is PROCEED
    assert evaluate({NONE_MATCH: ETAG}, ETAG, None) is NOT_MODIFIED


@pytest.mark.parametrize(
    ("value", "last_modified", "holds"),
    cases(
        ("13.1.5", b'"abc"', EXAMPLE, True),
        ("13.1.5", b'"abc"', None, True),
        ("13.1.5", b'"other"', EXAMPLE, False),
        ("13.1.5", b'W/"abc"', EXAMPLE, False),
        ("13.1.5", b'"abc", "abc"', EXAMPLE, False),
        ("13.1.5", b"*", EXAMPLE, False),
        ("13.1.5", b"abc", EXAMPLE, False),
        ("13.1.5", b"", None, False),
        ("13.1.5", SAME, EXAMPLE, True),
        ("13.1.5", b"Sun Nov  6 08:49:37 1994", EXAMPLE, True),
        ("13.1.5", EARLIER, EXAMPLE, False),
        ("13.1.5 exactly, not at least", LATER, EXAMPLE, False),
        ("13.1.5", SAME, None, False),
        ("13.1.5", b"yesterday", None, False),
    ),
)
def test_if_range(value: bytes, last_modified: int | None, holds: bool) -> None:
    assert if_range(value, ETAG, last_modified) is holds


# Ranges


@pytest.mark.parametrize(
    ("value", "length", "answer"),
    cases(
        ("14.1.2", b"bytes=0-499", 10000, Span(0, 500)),
        ("14.1.2", b"bytes=500-999", 10000, Span(500, 1000)),
        ("14.1.2", b"bytes=-500", 10000, Span(9500, 10000)),
        ("14.1.2", b"bytes=9500-", 10000, Span(9500, 10000)),
        ("14.1.2", b"bytes=0-0", 10, Span(0, 1)),
        ("14.1.2", b"bytes=-1", 10, Span(9, 10)),
        ("14.1.2", b"bytes=0-", 10, Span(0, 10)),
        ("14.1.2", b"bytes=9-9", 10, Span(9, 10)),
        ("14.1.2", b"bytes=9-10", 10, Span(9, 10)),
        ("14.1.2", b"bytes=-10", 10, Span(0, 10)),
        ("14.1.2", b"bytes=-11", 10, Span(0, 10)),
        ("14.1.2", b"bytes=007-0008", 10, Span(7, 9)),
        ("14.1.2", b"bytes=10-", 10, UNSATISFIABLE),
        ("14.1.2", b"bytes=10-20", 10, UNSATISFIABLE),
        ("14.1.2", b"bytes=-0", 10, UNSATISFIABLE),
        ("14.1.2", b"bytes=-000", 10, UNSATISFIABLE),
        ("14.1.2", b"bytes=0-", 0, UNSATISFIABLE),
        ("14.1.2", b"bytes=0-0", 0, UNSATISFIABLE),
        ("14.1.2", b"bytes=-1", 0, UNSATISFIABLE),
        ("14.1.2 large numerals", b"bytes=0-18446744073709551615", 10, Span(0, 10)),
        ("14.1.2 large numerals", b"bytes=-18446744073709551616", 10, Span(0, 10)),
        ("14.1.2 large numerals", b"bytes=18446744073709551616-", 10, UNSATISFIABLE),
        ("14.1.2 large numerals", b"bytes=3-" + b"9" * 5000, 10, Span(3, 10)),
        ("14.1.2 large numerals", b"bytes=" + b"0" * 5000 + b"3-4", 10, Span(3, 5)),
        ("14.1", b"Bytes=0-1", 10, Span(0, 2)),
        ("14.1", b"BYTES=-1", 10, Span(9, 10)),
        ("14.1.1 last before first", b"bytes=5-4", 10, None),
        ("14.1.1 last before first", b"bytes=50-40", 10, None),
        ("14.1.1 last before first", b"bytes=99999999999999999999-4", 10, None),
        ("14.2 unknown unit", b"items=0-1", 10, None),
        ("14.2 unknown unit", b"xbytes=0-1", 10, None),
        ("14.2 unknown unit", b"=0-1", 10, None),
        ("14.2 several", b"bytes=0-0,-1", 10, None),
        ("14.2 several", b"bytes=0-4, 5-9", 10, None),
        ("14.2 several", b"bytes=" + b",".join([b"0-"] * 1000), 10, None),
        ("14.1.1", b"", 10, None),
        ("14.1.1", b"bytes", 10, None),
        ("14.1.1", b"bytes=", 10, None),
        ("14.1.1", b"bytes=-", 10, None),
        ("14.1.1", b"bytes=5", 10, None),
        ("14.1.1", b"bytes=1-2-3", 10, None),
        ("14.1.1", b"bytes=--1", 10, None),
        ("14.1.1", b"bytes=+1-2", 10, None),
        ("14.1.1", b"bytes=1_0-20", 100, None),
        ("14.1.1", b"bytes=0x1-2", 10, None),
        ("14.1.1", b"bytes=a-b", 10, None),
        ("14.1.1", b"bytes= 0-1", 10, None),
        ("14.1.1", b"bytes =0-1", 10, None),
        ("14.1.1", b"bytes=0 - 1", 10, None),
        ("14.1.1", b"bytes=0-1\n", 10, None),
        ("14.1.1", "bytes=٠-١".encode(), 10, None),
        ("14.1.1", b"bytes=\xb2-", 10, None),
    ),
)
def test_parse_range(value: bytes, length: int, answer: Span | Unsatisfiable | None) -> None:
    assert parse_range(value, length) == answer


def cut(body: bytes, value: bytes) -> bytes:
    span = parse_range(value, len(body))
    assert isinstance(span, Span)
    return body[span.start : span.stop]


@given(st.binary(min_size=1, max_size=200), st.integers(1, 50))
def test_consecutive_ranges_joined_are_the_body(body: bytes, step: int) -> None:
    """§14.1.2: first and last position are inclusive, and a last position beyond the end means the end."""
    parts = [cut(body, b"bytes=%d-%d" % (at, at + step - 1)) for at in range(0, len(body), step)]
    assert b"".join(parts) == body
    assert all(parts)


@given(st.binary(min_size=2, max_size=200), st.data())
def test_a_suffix_and_what_is_before_it_are_the_body(body: bytes, data: st.DataObject) -> None:
    """§14.1.2: ``-N`` is the last N bytes, ``N-`` all from N on."""
    tail = data.draw(st.integers(1, len(body) - 1))
    head = len(body) - tail
    assert cut(body, b"bytes=0-%d" % (head - 1)) + cut(body, b"bytes=-%d" % tail) == body
    assert cut(body, b"bytes=-%d" % tail) == cut(body, b"bytes=%d-" % head)


POSITIONS = st.integers(0, 12) | st.integers(0, 10**25)


@given(st.none() | POSITIONS, st.none() | POSITIONS, st.integers(0, 10))
def test_a_range_is_the_positions_it_names(first: int | None, last: int | None, length: int) -> None:
    """§14.1.2, against the definition: which of the item's positions does the range name?"""
    value = b"bytes=%s-%s" % tuple(b"" if n is None else b"%d" % n for n in (first, last))
    answer = parse_range(value, length)
    if first is None:
        named = [at for at in range(length) if last is not None and at >= length - last]
        valid = last is not None
    else:
        named = [at for at in range(length) if at >= first and (last is None or at <= last)]
        valid = last is None or first <= last
    if not valid and first is not None and last is not None and last > 10**18:
        assert answer in (None, UNSATISFIABLE)  # both far beyond any end: which is larger is not worked out
    elif not valid:
        assert answer is None
    elif named:
        assert answer == Span(named[0], named[-1] + 1)
    else:
        assert answer is UNSATISFIABLE


# For all bytes

FRAGMENTS = st.sampled_from(
    [b'"', b"W/", b",", b" ", b"\t", b"*", b";", b"q=", b"0", b"1", b".", b"-", b"=", b"bytes=", b"gzip", b"identity",
     b"abc", b"\xff", b"\x00", b"\n", b"Sun, ", b"06 Nov 1994 ", b"08:49:37", b" GMT", ETAG, EXAMPLE_DATE]
)  # fmt: skip
ANY_VALUE = st.binary(max_size=300) | st.lists(FRAGMENTS, max_size=40).map(b"".join)


@given(ANY_VALUE, ANY_VALUE, st.integers(0, 1000))
def test_no_field_value_raises(value: bytes, other: bytes, length: int) -> None:
    """§2.4: what cannot be understood is ignored, never an error; each answer is of its closed set."""
    tiers = accepted_codings(value)
    assert sum(tiers) <= ALL
    assert if_none_match(value, ETAG) in (True, False)
    assert if_none_match(value, other) in (True, False)
    assert if_match(value, other) <= if_none_match(value, other)  # what matches strongly matches weakly
    assert if_range(value, other, length) in (True, False)
    seconds = parse_http_date(value)
    assert seconds is None or YEAR_1 <= seconds <= YEAR_9999
    for names in ((MATCH, NONE_MATCH), (UNMODIFIED, MODIFIED), (MATCH, MODIFIED), (UNMODIFIED, NONE_MATCH)):
        assert evaluate(dict(zip(names, (value, other), strict=True)), ETAG, EXAMPLE) in Precondition
    span = parse_range(value, length)
    if isinstance(span, Span):
        assert 0 <= span.start < span.stop <= length
    else:
        assert span in (None, UNSATISFIABLE)


@pytest.mark.parametrize(
    "pattern",
    [b'"', b'",', b',"', b'","', b'"a', b'"a",', b'"a" ', b'W/', b'W/"', b",", b", ", b" ", b"\t", b"a", b"\xff",
     b'"\xff', b"gzip,", b"gzip;q=0.5,", b";", b"gzip;", b"q=0", b"0", b"0-", b"0-0,", b"-1,", b"=", b"*", b"*,",
     b"Sun, "],
)  # fmt: skip
@pytest.mark.parametrize("start", [b"", b"bytes=", b'"', b"bytes=1-"])
def test_the_longest_field_a_server_lets_through_is_cheap(pattern: bytes, start: bytes) -> None:
    """§17.5 and §14.2: linear work. All of it takes some 50 ms; quadratic work on 64 KiB would take many seconds."""
    value = (start + pattern * SERVER_FIELD_BYTES)[:SERVER_FIELD_BYTES]
    decisions: list[Callable[[], object]] = [
        lambda: accepted_codings(value),
        lambda: if_none_match(value, ETAG),
        lambda: if_match(value, ETAG),
        lambda: if_range(value, ETAG, EXAMPLE),
        lambda: parse_http_date(value),
        lambda: parse_range(value, 10**6),
    ]
    before = time.process_time()
    for decide in decisions:
        decide()
    assert time.process_time() - before < 2


def test_a_tag_at_the_end_of_a_long_list_is_found() -> None:
    """§13.1.2: bounded work is no reason to stop reading."""
    value = b", ".join([b'W/"%04d"' % n for n in range(6000)])
    assert len(value) > SERVER_FIELD_BYTES - 10_000
    assert if_none_match(value, b'"5999"')
    assert not if_none_match(value, b'"6000"')
