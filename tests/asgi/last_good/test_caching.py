"""Properties of the decisions that hold for all answers and all times."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotpath.asgi.last_good.caching import (
    FOREVER,
    Stored,
    age,
    is_robots,
    lifetime,
    reusable,
    storable,
    ttl,
    usable_on_error,
    usable_while_revalidating,
)
from hotpath.asgi.last_good.directives import Directives, parse_cache_control
from hotpath.types import Header

START = 1_900_000_000
NOBODY = Directives()
FORBIDS_STORING = ("no-store", "private")
FORBIDS_STALE = ("no-cache", "must-revalidate", "proxy-revalidate", "s-maxage=30")
HARMLESS = ("public", "max-age=30", "stale-if-error=600", "stale-while-revalidate=600", "immutable", 'x="no-store"')


@st.composite
def spelled(draw: st.DrawFn, *words: str) -> list[Header]:
    """``Cache-Control`` with these directives: in any order and case, in one line or several, with any white space."""
    parts = []
    for word in draw(st.permutations(words)):
        text = word if '"' in word else draw(st.sampled_from((word, word.upper(), word.title())))
        parts.append(draw(st.sampled_from(("", " ", "\t ", ",,"))) + text + draw(st.sampled_from(("", " "))))
    if draw(st.booleans()):
        return [(b"cache-control", part.encode()) for part in parts]
    return [(b"cache-control", ",".join(parts).encode())]


@given(st.data(), st.sampled_from(FORBIDS_STORING), st.lists(st.sampled_from(HARMLESS), unique=True))
def test_what_forbids_storing_always_does(data: st.DataObject, word: str, others: list[str]) -> None:
    assert not storable(200, data.draw(spelled(word, *others)), NOBODY)


@given(
    st.data(),
    st.sampled_from(FORBIDS_STALE),
    st.lists(st.sampled_from(HARMLESS), unique=True),
    st.floats(31, 10**9),
)
def test_a_stale_answer_is_never_used_where_a_directive_forbids_it(
    data: st.DataObject, word: str, others: list[str], seconds: float
) -> None:
    stored = Stored(200, tuple(data.draw(spelled(word, *others))), b"page", START, START)
    now = START + seconds
    assert not usable_on_error(stored, now, FOREVER)
    assert not usable_while_revalidating(stored, NOBODY, now)
    assert not reusable(stored, NOBODY, now)


@given(st.data(), st.integers(0, 100), st.integers(0, 100), st.floats(0, 400))
def test_never_reused_beyond_its_time(data: st.DataObject, fresh: int, window: int, seconds: float) -> None:
    fields = data.draw(spelled(f"max-age={fresh}", f"stale-if-error={window}"))
    stored = Stored(200, tuple(fields), b"page", START, START)
    assert bool(reusable(stored, NOBODY, START + seconds)) == (int(seconds) < fresh)
    assert bool(usable_on_error(stored, START + seconds, 10**9)) == (
        int(seconds) < fresh or int(seconds) - fresh <= window
    )


@given(st.integers(0, 200), st.integers(0, 200), st.integers(0, 200))
def test_a_request_is_never_given_more_than_it_accepts(seconds: int, max_age: int, min_fresh: int) -> None:
    asked = parse_cache_control([b"max-age=%d, min-fresh=%d" % (max_age, min_fresh)])
    stored = Stored(200, ((b"cache-control", b"max-age=100"),), b"page", START, START)
    expected = seconds < 100 and seconds <= max_age and 100 - seconds >= min_fresh
    assert bool(reusable(stored, asked, START + seconds)) == expected


TIMES = st.floats(-(10**10), 10**10)


@given(
    made=st.none() | st.integers(0, 2 * START),
    given_age=st.none() | st.binary(max_size=12),
    delay=st.floats(0, 10**5),
    times=st.lists(TIMES, min_size=2, max_size=2).map(sorted),
)
def test_age_never_falls_and_is_never_less_than_when_it_came(
    made: int | None, given_age: bytes | None, delay: float, times: list[float]
) -> None:
    fields: list[Header] = []
    if made is not None:
        fields.append((b"date", formatdate(made, usegmt=True).encode()))
    if given_age is not None:
        fields.append((b"age", given_age))
    stored = Stored(200, tuple(fields), b"", START - delay, START)
    first, second = (age(stored, START + time) for time in times)
    assert 0 <= age(stored, START) <= first <= second
    if times[0] >= 0:
        assert first >= int(times[0])


@given(st.lists(st.tuples(st.sampled_from((b"cache-control", b"cdn-cache-control", b"expires", b"date", b"age", b"vary",
                                           b"last-modified", b"set-cookie", b"surrogate-key")),
                          st.binary(max_size=40)), max_size=6), TIMES, st.integers(100, 599))  # fmt: skip
def test_no_answer_raises(fields: list[Header], time: float, status: int) -> None:
    stored = Stored(status, tuple(fields), b"", START, START)
    storable(status, fields, NOBODY)
    assert 0 <= lifetime(status, fields, START) <= 2**31
    assert ttl(stored, START + time) <= 2**31
    usable_on_error(stored, START + time, 60)
    reusable(stored, NOBODY, START + time)


@given(st.integers(0, 10**6))
def test_an_invalid_answer_is_never_used(seconds: int) -> None:
    stored = Stored(200, ((b"cache-control", b"max-age=600"),), b"", START, START, is_invalid=True)
    assert not usable_on_error(stored, START + seconds, FOREVER)
    assert not reusable(stored, NOBODY, START + seconds)
    assert not usable_while_revalidating(stored, NOBODY, START + seconds)


@pytest.mark.parametrize(
    ("key", "is_one"),
    [
        (b"http://example.org/robots.txt", True),
        (b"https://example.org:8443/robots.txt\nx-forwarded-proto: https", True),
        (b"http://example.org/robots.txt?x=1", False),
        (b"http://example.org/a/robots.txt", False),
        (b"http://example.org/ROBOTS.TXT", False),
    ],
)
def test_which_key_is_a_robots_txt(key: bytes, is_one: bool) -> None:
    assert is_robots(key) is is_one
