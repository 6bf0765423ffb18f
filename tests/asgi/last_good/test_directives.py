"""Directives: what is valid is read as RFC 9111 and RFC 9213 have it, and nonsense is the safe choice."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hotpath.asgi.last_good.directives import (
    FORBIDDING,
    MAX_SECONDS,
    parse_cache_control,
    parse_delta,
    parse_targeted,
    policy_of,
)

SECONDS = {
    b"max-age=60": 60,
    b'max-age="60"': 60,  # §5.2: both forms
    b"MAX-AGE=60": 60,
    b"max-age=00060": 60,
    b"max-age=60, max-age=60": 60,
    b"max-age=99999999999999999999": MAX_SECONDS,  # §1.2.2
    b"max-age=2147483649": MAX_SECONDS,
    b"max-age=" + b"9" * 60_000: MAX_SECONDS,
    b"max-age=abc": 0,  # §4.2.1: stale
    b"max-age": 0,
    b"max-age=": 0,
    b"max-age=-1": 0,
    b"max-age=1.5": 0,
    b"max-age=1e3": 0,
    b"max-age=0x10": 0,
    b'max-age="60': 0,
    b"max-age= 60": 0,
    b"max-age =60": 0,
    b"max-age=60; public": 0,
    b"max-age=60 60": 0,
    b"max-age=\xd9\xa3": 0,  # ARABIC-INDIC DIGIT THREE
    b"max-age=1, max-age=100": 0,  # §4.2.1
    b"max-age='60'": 0,
}


@pytest.mark.parametrize(("value", "seconds"), SECONDS.items(), ids=range(len(SECONDS)))
def test_a_time_that_makes_no_sense_is_no_time(value: bytes, seconds: int) -> None:
    assert parse_cache_control([value]).seconds["max-age"] == seconds


@pytest.mark.parametrize("word", sorted(FORBIDDING - {"must-understand"}))
@pytest.mark.parametrize(
    "form", ["%s", "%s=", "x;%s", '"%s', '%s="set-cookie', "max-age=1 %s", "\x00%s", "%s;max-age=3", "public;%s"]
)
def test_what_forbids_counts_wherever_it_can_be_seen(word: str, form: str) -> None:
    for text in (form % word, (form % word).upper()):
        assert word in parse_cache_control([text.encode("latin-1")])


def test_what_is_quoted_is_no_directive() -> None:
    directives = parse_cache_control([b'ext="no-store, private", public'])
    assert "no-store" not in directives
    assert "private" not in directives
    assert "public" in directives


def test_several_field_lines_are_one_list() -> None:
    directives = parse_cache_control([b"max-age=60", b"", b" , no-store"])
    assert directives.names == {"max-age", "no-store"}


def test_must_understand_of_a_broken_field_lifts_nothing() -> None:
    directives = parse_cache_control([b"no-store; must-understand"])
    assert "no-store" in directives
    assert "must-understand" not in directives


TARGETED = {
    b"max-age=60": {"max-age": 60},
    b"max-age=60;x=1, s-maxage=70": {"max-age": 60, "s-maxage": 70},
    b"max-age=1, max-age=2": {"max-age": 2},  # RFC 9651 §4.2.2: the last counts
    b'max-age="60"': {"max-age": 0},  # a String is no Integer
    b"max-age": {"max-age": 0},
    b"max-age=60.5": {"max-age": 0},
    b"max-age=-5": {"max-age": 0},
    b'a=(1 2);q=1, b=:aGk=:, c=@1659578233, d=%"f%c3%bc", e=?0': {},
}
MALFORMED = [
    *(
        b"",
        b" ",
        b"max-age=60,",
        b"MAX-AGE=60",
        b"max-age=",
        b"max-age=60;",
        b"no-store,,max-age=1",
        b"max-age=60 public",
    ),
    *(b"a=(1", b"a=:%%:", b'a="', b"a=?2", b"max-age=1234567890123456", b"\xe9=1", b"a=1.2345", b"a=@1.5", b"a=(1,2)"),
    *(b"max-age=60; public=", b'a="\x7f"', b"=1", b'a=%"%C3"'),
]


@pytest.mark.parametrize(("value", "seconds"), TARGETED.items(), ids=range(len(TARGETED)))
def test_a_targeted_field_is_a_dictionary(value: bytes, seconds: dict[str, int]) -> None:
    directives = parse_targeted([value])
    assert directives is not None
    assert directives.seconds == seconds


@pytest.mark.parametrize("value", MALFORMED)
def test_a_targeted_field_that_is_malformed_or_empty_does_not_count(value: bytes) -> None:
    assert parse_targeted([value]) is None
    policy = policy_of([(b"cdn-cache-control", value), (b"cache-control", b"max-age=7")])
    assert policy.directives.seconds == {"max-age": 7}
    assert policy.uses_expires


def test_a_targeted_field_takes_the_place_of_cache_control() -> None:
    policy = policy_of([(b"cache-control", b"no-store"), (b"cdn-cache-control", b"max-age=600")])
    assert policy.directives.names == {"max-age"}
    assert not policy.uses_expires


def test_a_targeted_field_without_a_time_lifts_nothing() -> None:
    policy = policy_of([(b"cache-control", b"private, max-age=5"), (b"cdn-cache-control", b"stale-if-error=60")])
    assert policy.directives.names == {"stale-if-error", "private"}


@given(st.lists(st.binary(max_size=60), max_size=4))
@example([b'"' * 65536])
@example([b"a=" * 32768])
@example([b"," * 65536])
@example([b'a="' + b"\\" * 65000])
def test_no_bytes_raise(values: list[bytes]) -> None:
    for directives in (parse_cache_control(values), parse_targeted(values)):
        if directives is not None:
            assert all(0 <= seconds <= MAX_SECONDS for seconds in directives.seconds.values())


@given(st.integers(0, 10**30))
def test_delta_seconds_have_a_ceiling(number: int) -> None:
    assert parse_delta(b"%d" % number) == min(number, MAX_SECONDS)
