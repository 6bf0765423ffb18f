"""What a request is to the cache: whose it could be, and that no two that differ share a key or a variant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotpath.asgi.last_good.requests import (
    ANALYTICS_COOKIES,
    MAX_KEY_BYTES,
    Cookies,
    excluded,
    key_between,
    key_ends,
    personal,
    request_directives,
    url_key,
    variant_of,
    vary_of,
)
from hotpath.types import Header

ANALYTICS = Cookies(ANALYTICS_COOKIES)
NONE = Cookies(())
HOST = (b"host", b"example.org")


def key_of(scheme: str, target: bytes, headers: list[Header]) -> bytes | None:
    ends = key_ends(scheme, headers)
    return None if ends is None else key_between(ends, target)


@pytest.mark.parametrize(
    ("cookie", "is_personal"),
    [
        (b"_ga=GA1.2.3", False),
        (b"_ga=1; _ga_AB12=2;_fbp=3", False),
        (b"_ga=1; session=abc", True),
        (b"_GA=1", True),
        (b"_gaX=1", True),
        (b"", True),  # absent is not empty
        (b"_ga", True),
        (b"_ga=1;", True),
        (b"_ga=1;;_gid=2", True),
        (b"=1", True),
        (b"_ga =1", True),
        (b"_ga=1, session=2", False),  # a comma separates nothing here (RFC 6265 §4.2.1)
        (b"_ga_\xff=1", True),
    ],
)
def test_a_cookie_that_is_not_ignored_makes_a_request_personal(cookie: bytes, is_personal: bool) -> None:
    assert (personal([(b"cookie", cookie)], ANALYTICS) is not None) is is_personal
    assert personal([(b"cookie", cookie)], NONE) is not None


def test_each_of_several_cookie_fields_counts() -> None:
    assert personal([(b"cookie", b"_ga=1"), (b"cookie", b"sid=1")], ANALYTICS) is not None


@pytest.mark.parametrize("name", [b"authorization", b"proxy-authorization", b"x-api-key", b"x-auth-token"])
def test_credentials_make_a_request_personal(name: bytes) -> None:
    assert personal([(name, b"")], ANALYTICS) is not None


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("POST", []),
        ("QUERY", []),
        ("GET", [(b"content-length", b"3")]),
        ("GET", [(b"transfer-encoding", b"chunked")]),
        ("GET", [(b"if-match", b'"1"')]),
        ("GET", [(b"if-unmodified-since", b"Sun, 06 Nov 1994 08:49:37 GMT")]),
        ("GET", [(b"x-http-method-override", b"DELETE")]),
        ("GET", [(b"upgrade", b"h2c")]),
        ("GET", [(b"cookie", b"sid=1")]),
    ],
)
def test_what_has_nothing_to_do_with_stored_answers(method: str, headers: list[tuple[bytes, bytes]]) -> None:
    assert excluded(method, headers, ANALYTICS) is not None


def test_an_ordinary_get_or_head_has() -> None:
    for method in ("GET", "HEAD"):
        assert excluded(method, [HOST, (b"content-length", b"0"), (b"range", b"bytes=0-")], ANALYTICS) is None


def test_the_key_is_the_url_as_it_was_written() -> None:
    assert key_of("http", b"/a?b=1", [(b"host", b"Example.ORG:80")]) == b"http://example.org/a?b=1"
    keys = {
        key_of(scheme, target, [(b"host", host)])
        for scheme in ("http", "https")
        for target in (b"/a", b"/A", b"/a/", b"/a?", b"/%61", b"//a")
        for host in (b"example.org", b"example.org:8080", b"example.com")
    }
    assert len(keys) == 36


@pytest.mark.parametrize("headers", [[], [HOST, HOST], [(b"host", b"")]])
def test_without_exactly_one_host_there_is_no_key(headers: list[tuple[bytes, bytes]]) -> None:
    assert key_of("http", b"/", headers) is None


def test_a_target_that_is_no_path_has_no_key() -> None:
    assert key_of("http", b"http://example.org/", [HOST]) is None
    assert key_of("http", b"*", [HOST]) is None


def test_a_key_of_8_kb_is_one_and_a_longer_one_is_not() -> None:
    assert key_of("http", b"/" + b"a" * 8192, [HOST]) is not None
    assert key_of("http", b"/" + b"a" * MAX_KEY_BYTES, [HOST]) is None


@pytest.mark.parametrize("name", [b"x-forwarded-host", b"x-forwarded-proto", b"forwarded", b"x-original-url"])
def test_what_routes_belongs_to_the_key(name: bytes) -> None:
    plain, routed = key_of("http", b"/", [HOST]), key_of("http", b"/", [HOST, (name, b"evil.example")])
    assert routed is not None
    assert routed != plain
    assert routed.partition(b"\n")[0] == plain == url_key("http", b"example.org", b"/")


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([], ()),
        ([b""], ()),
        ([b"Accept-Language , accept-encoding"], (b"accept-encoding", b"accept-language")),
        ([b"a", b"b, A"], (b"a", b"b")),
        ([b"*"], None),
        ([b"accept, *"], None),
        ([b"accept language"], None),
        ([b"a;b"], None),
        ([b"a" * 65536], (b"a" * 65536,)),
        ([b",".join(b"x%d" % number for number in range(33))], None),
    ],
)
def test_vary_is_a_list_of_names(values: list[bytes], names: tuple[bytes, ...] | None) -> None:
    assert vary_of([(b"vary", value) for value in values]) == names


def variant(
    *headers: tuple[bytes, bytes], names: tuple[bytes, ...] = (b"accept-encoding", b"accept-language")
) -> bytes:
    return variant_of(names, headers, ANALYTICS)


def test_absent_is_not_empty() -> None:
    assert variant() != variant((b"accept-language", b""))


def test_white_space_and_the_order_of_codings_do_not_count() -> None:
    assert variant((b"accept-encoding", b"gzip,  br")) == variant(
        (b"accept-encoding", b"BR"), (b"accept-encoding", b"gzip")
    )
    assert variant((b"accept-encoding", b"gzip;q=0.5")) != variant((b"accept-encoding", b"gzip"))
    assert variant((b"accept-language", b"de,  en")) == variant((b"accept-language", b"de, en"))
    assert variant((b"accept-language", b"de, en")) != variant((b"accept-language", b"en, de"))


def test_ignored_cookies_are_not_there() -> None:
    names = (b"cookie",)
    assert variant((b"cookie", b"_ga=1"), names=names) == variant(names=names)
    assert variant((b"cookie", b"sid=1"), names=names) != variant(names=names)


VALUES = st.lists(st.text("ab,;=:-1 ", max_size=6).map(str.encode), max_size=2)


def canonical(values: list[bytes]) -> bytes | None:
    """What two requests must have in common to share a variant, said another way than the code does."""
    return None if not values else b", ".join(b" ".join(value.split()) for value in values)


@given(VALUES, VALUES, VALUES, VALUES)
def test_no_two_variants_are_confused(a: list[bytes], b: list[bytes], c: list[bytes], d: list[bytes]) -> None:
    names = (b"x", b"y")
    first = variant(*[(b"x", value) for value in a], *[(b"y", value) for value in b], names=names)
    second = variant(*[(b"x", value) for value in c], *[(b"y", value) for value in d], names=names)
    are_same = (canonical(a), canonical(b)) == (canonical(c), canonical(d))
    assert (first == second) == are_same


def test_pragma_counts_where_there_is_no_cache_control() -> None:
    assert "no-cache" in request_directives([(b"pragma", b"No-Cache")])
    assert "no-cache" not in request_directives([(b"pragma", b"no-cache"), (b"cache-control", b"max-age=5")])
