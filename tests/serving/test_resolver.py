"""The resolver: what it decides without ASGI, at what cost, and what it says of the requests it does not answer."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hotpath.batch.run import build
from hotpath.serving import reader_of, resolver
from hotpath.serving.resolver import Miss, Pending, Selection, resolve, resolve_page
from hotpath.serving.snapshot import UNREAD, Answer, NotModified, Redirect, Refuse, Serve, Snapshot
from hotpath.site import Hotpath
from hotpath.types import Header

pytestmark = pytest.mark.usefixtures("items_in_this_process")

GZIP: list[Header] = [(b"accept-encoding", b"gzip")]


def declare(root: Path, *, redirect_slashes: bool = False) -> Hotpath:
    hot = Hotpath(root, refresh=3600, redirect_slashes=redirect_slashes)
    hot.route("/r/{m}", each={"m": ["kospi", "kosdaq"]})(lambda m: {"m": m, "fill": "x" * 500})
    hot.route("/top", each=[{"n": "10"}], query=("n",))(lambda n: {"n": n})
    build(hot)
    reader_of(hot).start()
    return hot


@pytest.fixture
def snapshot(tmp_path: Path) -> Iterator[Snapshot]:
    hot = declare(tmp_path / "hot")
    yield reader_of(hot).snapshot
    reader_of(hot).close()


@pytest.fixture
def lenient(tmp_path: Path) -> Iterator[Snapshot]:
    hot = declare(tmp_path / "hot", redirect_slashes=True)
    yield reader_of(hot).snapshot
    reader_of(hot).close()


def etag(snapshot: Snapshot, headers: list[Header]) -> bytes:
    answer = resolve(snapshot, "GET", b"/r/kospi", b"", headers)
    assert isinstance(answer, Answer)
    return dict(answer.headers)[b"etag"]


def test_a_hit_is_an_answer_made_at_load_not_a_new_one(snapshot: Snapshot) -> None:
    heads: list[list[Header]] = [[], GZIP, [(b"host", b"x"), *GZIP, (b"cookie", b"y")]]
    for headers in heads:
        first = resolve(snapshot, "GET", b"/r/kospi", b"", headers)
        assert isinstance(first, Serve)
        assert resolve(snapshot, "GET", b"/r/kospi", b"", headers) is first
        assert resolve(snapshot, "GET", b"/%72/kospi", b"", headers) is first
        assert resolve(snapshot, "GET", b"/r/kospi", b"utm_source=x", headers) is first


@pytest.mark.parametrize("headers", [[], GZIP])
def test_a_304_and_a_head_are_made_at_load_too(snapshot: Snapshot, headers: list[Header]) -> None:
    tag = (b"if-none-match", etag(snapshot, headers))
    again = resolve(snapshot, "GET", b"/r/kospi", b"", [tag, *headers])
    assert isinstance(again, NotModified)
    assert resolve(snapshot, "GET", b"/r/kospi", b"", [*headers, tag]) is again
    assert resolve(snapshot, "HEAD", b"/r/kospi", b"", [*headers, tag]) is again
    head = resolve(snapshot, "HEAD", b"/r/kospi", b"", headers)
    assert resolve(snapshot, "HEAD", b"/r/kospi", b"", headers) is head


@pytest.mark.parametrize(
    "headers",
    [
        [],
        GZIP,
        [(b"if-none-match", b"*")],
        [(b"if-none-match", b'"x"'), *GZIP],
        [(b"if-modified-since", b"Thu, 01 Jan 1970 00:00:00 GMT")],
        [(b"if-match", b'"x"')],
        [(b"range", b"bytes=0-3")],
        [(b"range", b"bytes=99999-")],
        [(b"accept-encoding", b"*;q=0")],
        [(b"accept-encoding", b"br;q=0"), (b"accept-encoding", b"gzip")],
    ],
)
def test_the_short_way_and_the_whole_rule_agree(snapshot: Snapshot, headers: list[Header]) -> None:
    """``resolve`` skips what a plain request does not need; ``resolve_page`` skips nothing."""
    page = snapshot.pages[b"/r/kospi"]
    short = resolve(snapshot, "GET", b"/r/kospi", b"", headers)
    whole = resolve_page(page, "GET", headers)
    assert isinstance(short, Answer)
    assert (type(short), short.status, short.headers, short.body) == (
        type(whole),
        whole.status,
        whole.headers,
        whole.body,
    )


def test_field_lines_may_be_lists_as_some_servers_give_them(snapshot: Snapshot) -> None:
    lines = [[b"range", b"bytes=0-3"], [b"host", b"x"]]
    answer = resolve(snapshot, "GET", b"/r/kospi", b"", lines)  # type: ignore[arg-type]
    assert isinstance(answer, Serve)
    assert answer.status == 206


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([(b"if-match", b'"x"')], 412),
        ([(b"range", b"bytes=-0")], 416),
        ([(b"accept-encoding", b"*;q=0")], 406),
    ],
)
def test_a_refusal_is_one(snapshot: Snapshot, headers: list[Header], status: int) -> None:
    answer = resolve(snapshot, "GET", b"/r/kospi", b"", headers)
    assert isinstance(answer, Refuse)
    assert (answer.status, answer.body) == (status, b"")
    assert not {b"etag", b"cache-control", b"content-type", b"content-encoding"} & dict(answer.headers).keys()


@pytest.mark.parametrize(
    ("method", "path", "query", "reason"),
    [
        ("GET", b"/r/none", b"", resolver.UNKNOWN),
        ("GET", b"/r/none", b"utm_source=x", resolver.UNKNOWN),
        ("GET", b"/%72/none", b"", resolver.UNKNOWN),
        ("GET", b"/top", b"", resolver.UNKNOWN),
        ("GET", b"/top", b"n=11", resolver.UNKNOWN),
        ("GET", b"/r/kospi/", b"", resolver.UNKNOWN),
        ("POST", b"/r/kospi", b"", resolver.OTHER_METHOD),
        ("GET", b"/r/kospi", b"x=1", resolver.OTHER_QUERY),
        ("GET", b"/r/%2e%2e/kospi", b"", resolver.NEVER_HOT),
        ("GET", b"/r/kospi%00", b"", resolver.NEVER_HOT),
        ("GET", b"/r/kospi%", b"", resolver.NEVER_HOT),
    ],
)
def test_a_miss_says_why(snapshot: Snapshot, method: str, path: bytes, query: bytes, reason: Miss) -> None:
    assert resolve(snapshot, method, path, query, []) is reason


def test_before_the_first_load_everything_is_pending() -> None:
    for method, path, query in (("GET", b"/", b""), ("HEAD", b"/a", b""), ("GET", b"/a", b"x=1"), ("POST", b"/a", b"")):
        answer = resolve(UNREAD, method, path, query, [])
        assert isinstance(answer, Pending)
        assert answer.key is None


def test_a_page_that_is_not_in_memory_is_pending_with_its_key(snapshot: Snapshot) -> None:
    cold = replace(snapshot, pages={})
    targets = [(b"/r/kospi", b"", b"/r/kospi"), (b"/%72/kospi", b"", b"/r/kospi"), (b"/top", b"n=10", b"/top?n=10")]
    for path, query, key in targets:
        for method, headers in (("GET", []), ("HEAD", []), ("GET", [(b"if-none-match", b"*")])):
            answer = resolve(cold, method, path, query, headers)
            assert isinstance(answer, Pending)
            assert answer.key == key
    assert resolve(cold, "POST", b"/r/kospi", b"", []) is resolver.OTHER_METHOD, "not worth a read"
    assert resolve(cold, "GET", b"/r/none", b"", []) is resolver.UNKNOWN


def test_an_empty_store_is_a_miss_not_pending() -> None:
    assert resolve(Snapshot(), "GET", b"/a", b"", []) is resolver.UNKNOWN


def test_redirects_are_relative_and_keep_what_was_asked(lenient: Snapshot) -> None:
    answer = resolve(lenient, "GET", b"/r/kospi/", b"gclid=1", [(b"range", b"bytes=0-1"), (b"if-none-match", b"*")])
    assert isinstance(answer, Redirect)
    assert dict(answer.headers)[b"location"] == b"../kospi?gclid=1"
    assert resolve(lenient, "GET", b"//example.org/", b"", []) is resolver.UNKNOWN
    assert resolve(lenient, "POST", b"/r/kospi/", b"", []) is resolver.OTHER_METHOD


def test_what_clients_send_does_not_fill_memory(snapshot: Snapshot) -> None:
    """Accept-Encoding values are remembered, but not more of them than a maximum, and none that is long."""
    tracemalloc.start()
    try:
        for number in range(100):  # long ones first, while there is room
            value = b"gzip," + b"x" * 8000 + b"%d" % number
            resolve(snapshot, "GET", b"/r/kospi", b"", [(b"accept-encoding", value)])
        long, _ = tracemalloc.get_traced_memory()
        for number in range(5000):
            resolve(snapshot, "GET", b"/r/kospi", b"", [(b"accept-encoding", b"gzip, " + b"x" * 200 + b"%d" % number)])
        many, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert long < 200_000, "100 of them have 800 kB"
    assert many < 400_000, "5,000 of them have more than 1 MB"
    late = resolve(snapshot, "GET", b"/r/kospi", b"", [(b"accept-encoding", b"gzip, x-1999")])
    assert isinstance(late, Serve)
    assert (b"content-encoding", b"gzip") in late.headers, "beyond the maximum a value still counts"


def test_a_hit_leaves_nothing_behind(snapshot: Snapshot) -> None:
    headers = [(b"host", b"x"), *GZIP]
    resolve(snapshot, "GET", b"/r/kospi", b"", headers)
    left = []
    for _ in range(3):  # threads of other tests allocate too
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            for _ in range(1000):
                resolve(snapshot, "GET", b"/r/kospi", b"", headers)
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        left.append(after - before)
    assert min(left) < 1000, "bytes for a thousand hits"


def test_a_selection_made_in_advance_chooses_what_the_resolver_chooses(snapshot: Snapshot) -> None:
    page = snapshot.pages[b"/r/kospi"]
    tags = [etag(snapshot, []), etag(snapshot, GZIP), b'"x"', b"*", b'W/"x"', etag(snapshot, []) + b', "x"']
    values: dict[bytes, list[bytes | None]] = {
        b"accept-encoding": [None, b"gzip", b"identity", b"gzip;q=0, identity;q=0", b"br, zstd", b"", b"x" * 9000],
        b"if-none-match": [None, *tags],
        b"if-modified-since": [None, b"Fri, 15 Jan 2044 08:00:00 GMT", b"Thu, 01 Jan 1970 00:00:01 GMT", b"soon"],
        b"range": [None, b"bytes=0-1"],
    }
    chosen: dict[str, int] = {}
    for combination in itertools.product(*values.values()):
        fields = [(name, value) for name, value in zip(values, combination, strict=True) if value is not None]
        for headers in itertools.permutations(fields):
            selection = Selection.of(headers)
            answer = selection.choose(page) if selection is not None else None
            if answer is not None:
                assert answer is resolve(snapshot, "GET", b"/r/kospi", b"", list(headers)), headers
                chosen[type(answer).__name__] = chosen.get(type(answer).__name__, 0) + 1
    assert chosen.keys() == {"Variant", "NotModified"}
    assert min(chosen.values()) > 20


def test_fields_that_ask_for_more_than_a_choice_are_no_selection() -> None:
    for headers in (
        [(b"range", b"bytes=0-1")],
        [(b"if-match", b"*")],
        [(b"if-unmodified-since", b"Fri, 15 Jan 2044 08:00:00 GMT")],
        [*GZIP, *GZIP],
        [(b"if-none-match", b'"a"'), (b"if-none-match", b'"b"')],
    ):
        assert Selection.of(headers) is None
