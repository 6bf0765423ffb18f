"""What is remembered of a decision changes none: it is made of everything in an answer that may forbid keeping it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotpath.asgi.last_good import caching, updates
from hotpath.asgi.last_good.deciding import Decision, decide
from hotpath.asgi.last_good.directives import Directives
from hotpath.types import Header

NOBODY = Directives()
NO_STORE = Directives(frozenset(("no-store",)))
MADE = (b"date", b"Sun, 29 Nov 2026 00:00:00 GMT")
BEFORE = b"Sat, 28 Nov 2026 00:00:00 GMT"
AFTER = b"Mon, 30 Nov 2026 00:00:00 GMT"
# Everything that a decision may look at, and what it does not.
FIELDS: tuple[Header, ...] = (
    *((b"cache-control", word) for word in (b"private", b"no-store", b"no-cache", b"public", b"must-revalidate")),
    *((b"cache-control", word) for word in (b"max-age=0", b"max-age=9", b"s-maxage=0", b"s-maxage=9", b"no-store, x")),
    *((b"cache-control", word) for word in (b"must-understand", b"must-revalidate, max-age=0", b'"', b"private=a")),
    *((b"cdn-cache-control", word) for word in (b"max-age=9", b"no-store", b"private", b"public", b'"')),
    *((b"vary", value) for value in (b"*", b"cookie", b"accept-encoding, *", b"a b", b"")),
    *((b"set-cookie", value) for value in (b"", b"a=b", b"c=d")),
    *((b"content-type", value) for value in (b"text/html", b"text/event-stream", b"Text/Event-Stream; a=b")),
    *((b"expires", value) for value in (BEFORE, AFTER, b"0", b"")),
    *((b"last-modified", value) for value in (BEFORE, AFTER, b"x")),
    *((b"content-length", value) for value in (b"3", b"4", b"x", b"99999999999")),
    *((b"connection", value) for value in (b"close", b"set-cookie", b"Vary, cache-control")),
    *((b"content-range", b"bytes 0-1/2"), (b"content-encoding", b"br"), (b"age", b"9"), (b"etag", b'"a"'), MADE),
    *((b"Cache-Control", b"private"), (b"SET-COOKIE", b"a=b"), (b"x-a", b"private")),
)
STATUSES = (200, 203, 204, 206, 301, 302, 307, 401, 404, 410, 418, 500, 501)


def decision(
    *fields: Header, status: int = 200, asked: Directives = NOBODY, is_fresh_mode: bool = False, is_framed: bool = True
) -> Decision:
    return decide(status, fields, asked, is_fresh_mode=is_fresh_mode, is_framed=is_framed)


def is_kept_step_by_step(status: int, headers: Sequence[Header], asked: Directives, *, is_fresh_mode: bool) -> bool:
    """The same rules, each asked about all fields of this answer alone."""
    fields = updates.storable_fields(headers)
    if not caching.storable(status, fields, asked):
        return False
    if not caching.is_worth_keeping(fields, is_fresh_mode=is_fresh_mode):
        return False
    if not is_fresh_mode and caching.is_bound_by_time(fields) and caching.is_stale_at_once(status, fields):
        return False
    lengths = {value for name, value in fields if name == b"content-length"}
    return len(lengths) <= 1 and all(value.isdigit() and len(value) < 8 for value in lengths)


@settings(max_examples=400)
@given(
    st.lists(st.sampled_from(FIELDS), max_size=6),
    st.sampled_from(STATUSES),
    st.sampled_from((NOBODY, NO_STORE)),
    st.booleans(),
)
def test_it_is_what_each_rule_says_of_this_answer(
    headers: list[Header], status: int, asked: Directives, is_fresh_mode: bool
) -> None:
    made = decision(*headers, status=status, asked=asked, is_fresh_mode=is_fresh_mode)
    assert (made.because is None) is is_kept_step_by_step(status, headers, asked, is_fresh_mode=is_fresh_mode)
    fields = updates.storable_fields(headers)
    assert made.fields == fields
    if made.because is None:
        assert made.vary == b",".join(caching.selecting_fields(fields))
        assert not made.removes
    else:
        effect = updates.effect_of_unkept(status, caching.forbidding(status, fields))
        assert made.removes is (effect is updates.Effect.REMOVE)


@pytest.mark.parametrize(
    "field",
    [
        (b"set-cookie", b"a=b"),
        (b"cache-control", b"private"),
        (b"cache-control", b"no-store"),
        (b"cdn-cache-control", b"no-store"),
        (b"vary", b"*"),
        (b"content-range", b"bytes 0-1/2"),
        (b"content-type", b"text/event-stream"),
        (b"content-length", b"x"),
        (b"cache-control", b"s-maxage=0"),
    ],
)
def test_one_field_more_is_another_decision_in_any_order(field: Header) -> None:
    plain = ((b"content-type", b"text/html"), (b"x-a", b"b"), MADE)
    for _ in range(2):
        assert decision(*plain).because is None
        for fields in ((field, *plain), (*plain, field)):
            assert decision(*fields).because is not None


def test_what_is_stale_at_once_is_not_so_at_another_time() -> None:
    bound = ((b"cache-control", b"must-revalidate"), (b"content-type", b"text/html"), MADE)
    for _ in range(2):
        assert decision(*bound, (b"expires", AFTER)).because is None
        assert decision(*bound, (b"expires", BEFORE)).because is not None
        assert decision(*bound, (b"last-modified", BEFORE)).because is None
        assert decision(*bound).because is not None


def test_the_request_the_mode_and_the_framing_count() -> None:
    for _ in range(2):
        assert decision(asked=NOBODY).because is None
        assert decision(asked=NO_STORE).because is not None
        assert decision(is_framed=False).because is not None
        assert decision((b"cache-control", b"no-cache")).because is not None
        assert decision((b"cache-control", b"no-cache"), is_fresh_mode=True).because is None


def test_the_date_is_no_other_content_and_everything_else_is() -> None:
    first = decision((b"x-a", b"b"), MADE).content
    assert decision((b"x-a", b"b"), (b"date", BEFORE)).content == first
    assert decision((b"x-a", b"c"), MADE).content != first
    assert decision((b"x-a", b"b"), MADE, status=404).content != first
