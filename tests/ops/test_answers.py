"""What is wrong with an answer, as values: each way in which it can be wrong is one case."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import replace
from typing import Any

import orjson
import pytest

from hotpath.ops.answers import (
    Comparison,
    Expected,
    PublicPage,
    Replies,
    compare,
    edge_status,
    lifetime_seconds,
    unpacked,
)
from hotpath.ops.http import Reply
from hotpath.pages.policy import Policy
from hotpath.pages.routes import Expectations
from hotpath.store.manifest import Item, Representation

CDN = "public, max-age=300, stale-while-revalidate=600, stale-if-error=604800"
POLICY = Policy("/r/{m}", "application/json", "public, max-age=60", CDN, 3600)
NOW = 1_800_000_000


def payload(rows: int = 3, pe: int | None = 7, note: str = "") -> bytes:
    return orjson.dumps({"items": [{"ticker": f"t{row}", "pe": pe} for row in range(rows)], "note": note})


BODY, OLD = payload(), payload(note="yesterday")
GZIPPED = gzip.compress(BODY, mtime=0)
SHA, OLD_SHA = hashlib.sha256(BODY).digest(), hashlib.sha256(OLD).digest()
ITEM = Item(
    "/r/a",
    POLICY,
    (Representation("identity", "r/a.json", len(BODY), SHA), Representation("gzip", "r/a.json.gz", 1, b"")),
    NOW,
    None,
    {"rows": 3},
)
EXPECTS = Expectations(records="items", required=("ticker", "pe"))
PAGE = PublicPage("https://example.org/r/a", ITEM, EXPECTS)


def published(**changes: Any) -> Expected:
    digests = {(41, "/r/a"): OLD_SHA, (40, "/r/a"): OLD_SHA}
    base = Expected(42, NOW - 100, NOW, {40: "wrong prices"}, lambda number, key: digests.get((number, key)), True)
    return replace(base, **changes)


def heard(body: bytes = BODY, status: int = 200, seconds: float = 0.01, **headers: Any) -> Reply:
    fields = {"x-hotpath-generation": "42", "cache-status": "hotpath; hit; ttl=3500", "etag": '"a"'}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, {name: value for name, value in fields.items() if value}, body, seconds)


def verdict(
    identity: Reply | None = None,
    gzipped: Reply | None = None,
    head: Reply | None = None,
    *,
    edge: bool = False,
    beside: Expected | None = None,
    max_seconds: float | None = None,
    page: PublicPage = PAGE,
) -> Comparison:
    return compare(
        page,
        Replies(
            identity or heard(),
            gzipped or heard(GZIPPED, content_encoding="gzip"),
            head or heard(b"", content_length=str(len(BODY))),
        ),
        beside or published(),
        edge=edge,
        max_seconds=max_seconds,
    )


def wrong(found: Comparison) -> list[str]:
    return [failure.what for failure in found.failures]


def old_copy(age: int | None = 200, generation: str = "41", body: bytes = OLD, **headers: Any) -> dict[str, Any]:
    """All three answers as a cache has them from before."""
    fields: dict[str, Any] = {
        "x_hotpath_generation": generation,
        **({"age": str(age)} if age is not None else {}),
        **headers,
    }
    return {
        "identity": heard(body, **fields),
        "gzipped": heard(gzip.compress(body, mtime=0), content_encoding="gzip", **fields),
        "head": heard(b"", **fields),
    }


def test_right_answers_are_right() -> None:
    assert verdict() == Comparison((), ())


@pytest.mark.parametrize(
    ("answer", "what", "found"),
    [
        (heard(status=503), ["GET: status"], "503"),
        (heard(payload(note="other")), ["content"], "bytes, sha256"),
        (heard(payload(rows=2)), ["content", "rows"], "bytes"),
        (heard(payload(pe=None)), ["content", "rows"], "bytes"),
        (heard(b"<html>"), ["content", "rows"], "6 bytes"),
        (heard(x_hotpath_generation="43"), ["generation"], "43"),
        (heard(x_hotpath_generation="many"), ["generation"], "many"),
        (heard(GZIPPED, content_encoding="gzip"), ["GET: coding"], "gzip"),
        (heard(BODY, content_encoding="br"), ["GET: coding"], "br"),
    ],
)
def test_a_get_that_is_wrong(answer: Reply, what: list[str], found: str) -> None:
    comparison = verdict(answer)
    assert [name for name in wrong(comparison) if not name.startswith(("HEAD", "GET with"))] == what
    assert found in comparison.failures[0].found
    assert comparison.failures[0].url == "https://example.org/r/a"


def test_rows_and_nulls_are_told_by_their_place() -> None:
    (rows,) = [failure for failure in verdict(heard(payload(rows=2))).failures if failure.what == "rows"]
    assert (rows.expected, rows.found) == ("3 rows in items, ticker, pe never null", "2 rows")
    (nulls,) = [failure for failure in verdict(heard(payload(pe=None))).failures if failure.what == "rows"]
    assert "$.items[0].pe is null" in nulls.found


@pytest.mark.parametrize("body", [b"no gzip", GZIPPED[:-4], gzip.compress(b"other", mtime=0)])
def test_gzip_has_to_decode_to_the_same_bytes(body: bytes) -> None:
    assert wrong(verdict(gzipped=heard(body, content_encoding="gzip"))) != []


def test_a_bomb_is_not_unpacked() -> None:
    bomb = gzip.compress(b"x" * 50_000_000)
    found = unpacked(bomb, 1000)
    assert found is not None
    assert len(found) == 1001
    assert "content" in wrong(verdict(gzipped=heard(bomb, content_encoding="gzip")))


def test_an_answer_without_gzip_is_worth_a_note() -> None:
    comparison = verdict(gzipped=heard())
    assert comparison.failures == ()
    assert "came without" in comparison.notes[0]


@pytest.mark.parametrize(
    ("head", "what"),
    [
        (heard(b"", status=405), ["HEAD: status"]),
        (heard(b"", content_length="5"), ["HEAD: length"]),
        (heard(b"", etag='"b"'), ["HEAD: ETag"]),
        (heard(b"", content_length="5", content_encoding="gzip"), []),
        (heard(b""), []),
    ],
)
def test_head_says_what_get_says(head: Reply, what: list[str]) -> None:
    assert wrong(verdict(head=head)) == what


def test_the_same_failure_of_all_three_is_one() -> None:
    down = heard(status=503)
    assert wrong(verdict(down, down, down)) == ["GET: status"]
    assert wrong(verdict(down, heard(status=502), down)) == ["GET: status", "GET with gzip: status"]


def test_a_redirect_says_where_it_leads_and_a_404_who_answered() -> None:
    (failure,) = verdict(*[heard(status=301, location="https://www.example.org/r/a")] * 3).failures
    assert "leads to https://www.example.org/r/a" in str(failure)
    (unseen,) = verdict(*[heard(status=404, x_hotpath_generation="", cache_status="")] * 3).unseen
    assert "the app answered" in str(unseen)


@pytest.mark.parametrize("status", [302, 401, 403, 404, 429, 500, 502, 503])
def test_a_refusal_is_wrong_only_where_hotpath_itself_says_it(status: int) -> None:
    somebody = heard(b"no", status, x_hotpath_generation="", cache_status="", server="a firewall")
    found = verdict(*[somebody] * 3)
    assert found.failures == ()
    assert [(unseen.what, unseen.found) for unseen in found.unseen] == [("GET: status", str(status))]
    cases: tuple[dict[str, Any], ...] = (
        {"x_hotpath_generation": ""},
        {"cache_status": ""},
        {"cache_status": "cdn; fwd=miss, Hotpath; hit"},
    )
    for fields in cases:
        found = verdict(*[heard(b"no", status, **fields)] * 3)
        assert (wrong(found), found.unseen) == (["GET: status"], ())


def test_no_answer_at_all_is_not_seen() -> None:
    found = verdict(*[Reply(0, {}, b"", 0.0, problem="connection refused")] * 3)
    assert found.failures == ()
    assert [unseen.found for unseen in found.unseen] == ["connection refused"]


def test_one_of_the_three_answers_may_be_refused() -> None:
    limited = heard(b"", 429, x_hotpath_generation="", cache_status="")
    found = verdict(head=limited)
    assert (found.failures, [unseen.what for unseen in found.unseen]) == ((), ["HEAD: status"])
    found = verdict(heard(payload(note="other")), head=limited)
    assert (wrong(found), [unseen.what for unseen in found.unseen]) == (["content"], ["HEAD: status"])


def test_slow_is_wrong_only_when_asked() -> None:
    assert wrong(verdict(heard(seconds=2.0))) == []
    assert wrong(verdict(heard(seconds=2.0), max_seconds=1.0)) == ["GET: time"]


def test_no_generation_is_right_where_none_is_said() -> None:
    silent: dict[str, Any] = {"x_hotpath_generation": ""}
    answers = heard(**silent), heard(GZIPPED, content_encoding="gzip", **silent), heard(b"", **silent)
    assert verdict(*answers, beside=published(says_generation=False)) == Comparison((), ())
    assert verdict(*answers) == Comparison((), ()), "a server in front took it away: the bytes are those"
    other = heard(payload(note="other"), **silent)
    (failure,) = [failure for failure in verdict(other, *answers[1:]).failures if failure.what == "content"]
    assert "the app may have answered" in str(failure.why)


def test_without_the_header_the_bytes_say_which_generation_it_is() -> None:
    by_bytes = old_copy(generation="")
    beside = published(older=(41, 40))
    assert verdict(**by_bytes, beside=beside, edge=True).failures == ()
    (failure,) = verdict(**by_bytes, beside=beside).failures
    assert (failure.what, failure.found) == ("generation", "41 (by its bytes)")
    (failure,) = verdict(**old_copy(age=None, generation=""), beside=beside).failures
    assert "does not follow the store" in str(failure.why)


# A copy that a cache stored before the current generation was published.


def test_an_old_copy_within_its_lifetime_is_right_at_the_edge() -> None:
    comparison = verdict(**old_copy(), edge=True)
    assert comparison.failures == ()
    assert comparison.notes == (
        (
            "https://example.org/r/a: a copy of generation 41 at the edge, 200 s old; right for 700 s more,"
            " or until it is purged"
        ),
    )


def test_old_headers_with_the_bytes_of_now_are_right_at_the_edge() -> None:
    assert verdict(**old_copy(body=BODY), edge=True).failures == ()


@pytest.mark.parametrize(
    ("copy", "edge", "why"),
    [
        (old_copy(), False, "with --edge this is right until it is 900 s old"),
        (old_copy(age=901), True, "901 s old, and a cache may keep it for 900 s"),
        (old_copy(age=None), True, "does not follow the store"),
        (old_copy(age=50), True, "the origin still answered 41"),
        (old_copy(generation="40"), True, "generation 40 is marked bad (wrong prices); purge the edge"),
        (old_copy(body=payload(note="never")), True, "neither those of its generation"),
        (old_copy(generation="39"), True, "neither those of its generation"),
    ],
)
def test_an_old_copy_that_is_wrong_says_why(copy: dict[str, Any], edge: bool, why: str) -> None:
    comparison = verdict(**copy, edge=edge)
    assert "generation" in wrong(comparison)
    failure = next(failure for failure in comparison.failures if failure.what == "generation")
    assert why in str(failure.why)
    assert failure.expected == "42"


def test_the_bytes_of_the_old_generation_are_no_second_failure() -> None:
    assert wrong(verdict(**old_copy())) == ["generation"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"cf-cache-status": "HIT"}, "HIT"),
        ({"x-cache": "MISS, HIT"}, "HIT"),
        ({"x-cache": "Hit from cloudfront"}, "HIT"),
        ({"cdn-cache": "EXPIRED"}, "EXPIRED"),
        ({"cache-status": "hotpath; hit; ttl=5, Edge; hit; ttl=3"}, "HIT"),
        ({"cache-status": "hotpath; hit; ttl=5, Edge; fwd=miss; stored"}, "MISS"),
        ({"cache-status": "hotpath; hit; ttl=5"}, None),
        ({}, None),
    ],
)
def test_what_a_cache_says(headers: dict[str, str], status: str | None) -> None:
    assert edge_status(headers) == status


def test_how_long_a_cache_may_answer_with_a_copy() -> None:
    assert lifetime_seconds(ITEM) == 900
    assert lifetime_seconds(replace(ITEM, policy=replace(POLICY, cdn_cache_control=None))) == 60
    assert lifetime_seconds(replace(ITEM, policy=replace(POLICY, cdn_cache_control="no-store"))) == 0


def test_a_page_past_its_lifetime_is_noted() -> None:
    comparison = verdict(heard(cache_status="hotpath; hit; ttl=-300"))
    assert comparison.failures == ()
    assert "300 s past its lifetime" in comparison.notes[0]
