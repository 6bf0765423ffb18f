"""What holds for every request, not only for those somebody thought of."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from itertools import pairwise
from urllib.parse import unquote_to_bytes

from hypothesis import given
from hypothesis import strategies as st

from hotpath.pages.keys import canonical_path, canonical_query, split_absolute
from hotpath.serving import reader_of
from hotpath.serving.resolver import Miss, resolve
from hotpath.serving.snapshot import Answer, NotModified, Refuse, Serve
from tests.wire.conformance.cases import DATE, DIGITS, EARLIER, PAGES, ROWS
from tests.wire.conformance.site import DECODE, Headers, Site, ask, make_scope, tags_of, wire_faults

BODIES = {page.body for page in PAGES.values()}

KEYS = st.sampled_from(sorted(PAGES))
PATH_KEYS = st.sampled_from(sorted(key for key in PAGES if "?" not in key))


def answer_of(site: Site, target: bytes, headers: Headers, method: str = "GET") -> Answer | None:
    """The decision below ASGI; ``None`` for a miss."""
    path, _, query = target.partition(b"?")
    found = resolve(reader_of(site.hot).snapshot, method, path, query, headers)
    if isinstance(found, Miss):
        return None
    assert isinstance(found, Answer), "all bytes are in memory"
    return found


# Ranges (RFC 9110 §14)


@given(st.lists(st.integers(0, len(ROWS)), max_size=8).map(lambda cuts: sorted({0, *cuts, len(ROWS)})))
def test_ranges_that_meet_concatenate_to_the_page(sites: Mapping[str, Site], cuts: list[int]) -> None:
    """§14.2: a download in pieces, whatever the pieces, with and without the client's wish for a coding."""
    site = sites["plain"]
    for wish in ([], [(b"accept-encoding", b"gzip, br")]):
        whole = b""
        for start, stop in pairwise(cuts):
            field = b"bytes=%d-%d" % (start, stop - 1)
            answer = asyncio.run(
                ask(site.app, make_scope("GET", "/rows", [*wish, (b"range", field), (b"if-range", tag_of(site))], {}))
            )
            assert wire_faults("GET", answer) == []
            assert answer.status == 206
            assert answer.header("content-range") == f"bytes {start}-{stop - 1}/{len(ROWS)}"
            assert answer.header("content-encoding") is None
            whole += answer.body
        assert whole == ROWS


def tag_of(site: Site) -> bytes:
    return tags_of(site.items["/rows"])["{tag}"].encode()


NUMBERS = st.one_of(st.integers(0, 30), st.integers(0, 10**30)).map(str) | st.just("")


@given(NUMBERS, NUMBERS, st.sampled_from(["/digits", "/empty", "/image"]))
def test_one_range_is_the_slice_python_makes_or_an_answer_without_bytes(
    sites: Mapping[str, Site], first: str, last: str, page: str
) -> None:
    """§14.1.2 said once more, as slices."""
    body = PAGES[page].body
    answer = answer_of(sites["plain"], page.encode(), [(b"range", f"bytes={first}-{last}".encode())])
    assert answer is not None
    if not first and not last:
        assert (answer.status, answer.body) == (200, body)
        return
    if first and last and int(last) < int(first):
        assert (answer.status, answer.body) == (200, body)
        return
    if first:
        expected = body[int(first) : int(last) + 1] if last else body[int(first) :]
    else:
        expected = body[-int(last) :] if 0 < int(last) < len(body) else body * (int(last) > 0)
    if expected:
        assert (answer.status, answer.body) == (206, expected)
    else:
        assert (answer.status, answer.body) == (416, b"")
        assert (b"content-range", b"bytes */%d" % len(body)) in answer.headers


@given(st.one_of(st.binary(max_size=200), st.from_regex(rb"bytes=[\d,\- ]{0,60}", fullmatch=True)))
def test_any_range_field_gives_a_slice_of_the_page_that_its_content_range_names(
    sites: Mapping[str, Site], value: bytes
) -> None:
    """§14.4: whatever the field is, the bytes are those that Content-Range claims."""
    answer = answer_of(sites["plain"], b"/digits", [(b"range", value)])
    assert answer is not None
    fields = dict(answer.headers)
    if answer.status == 206:
        claimed, _, total = fields[b"content-range"].removeprefix(b"bytes ").partition(b"/")
        start, _, last = claimed.partition(b"-")
        assert int(total) == len(DIGITS)
        assert answer.body == DIGITS[int(start) : int(last) + 1]
    else:
        assert answer.status in (200, 416)
        assert answer.body == (DIGITS if answer.status == 200 else b"")


# Targets (RFC 3986 §6.2.2, RFC 9110 §17.3)


def segments(path: bytes) -> list[bytes]:
    """A path as the app behind would understand it: split first, then decoded (RFC 3986 §2.4)."""
    return [unquote_to_bytes(segment) for segment in path.split(b"/")]


PIECES = st.sampled_from(
    [b"/", b"//", b"..", b".", b"%2e", b"%2E%2e", b"%2f", b"%2F", b"%5c", b"\\", b"%00", b"\x00", b"%", b"%2", b"%zz",
     b"rows", b"digits", b"a", b"b", b"%61", b"caf", b"\xc3\xa9", b"%C3%A9", b"%c0%af", b"fold", b"KOSPI", b"kospi",
     b"top", b"manifest.json", b"etc", b"passwd", b"current", b"generations", b"files", b"0.bin", b"+", b"%20", b" ",
     b";", b"~", b"\n", b"http://", b"@"]
)  # fmt: skip
PATHS = st.lists(st.one_of(PIECES, st.binary(max_size=3)), max_size=8).map(b"".join)


@given(st.one_of(PATHS, PATHS.map(lambda path: b"/" + path), PATH_KEYS.map(str.encode)))
def test_no_target_maps_outside_the_manifest(sites: Mapping[str, Site], path: bytes) -> None:
    """§17.3: an answer is always a page of the manifest, and the one whose segments were asked for."""
    answer = answer_of(sites["plain"], path.replace(b"?", b""), [])
    if answer is None:
        return
    assert answer.status == 200
    asked = segments(split_absolute(path.replace(b"?", b""))[1])
    same = [key for key in PAGES if segments(key.encode()) == asked]
    lower = [segment.lower() for segment in asked]
    folded = [key for key, page in PAGES.items() if page.fold_case and segments(key.encode()) == lower]
    assert answer.body in [PAGES[key].body for key in same or folded]
    assert b".." not in asked
    assert b"." not in asked


@given(PATH_KEYS, st.data())
def test_a_key_survives_any_percent_encoding_round_trip(
    sites: Mapping[str, Site], key: str, data: st.DataObject
) -> None:
    """RFC 3986 §6.2.2.1, §6.2.2.2: every spelling of a page is the page."""
    spelled = b""
    for segment in key.encode().split(b"/")[1:]:
        spelled += b"/"
        for byte in unquote_to_bytes(segment):
            ways = [b"%%%02X" % byte, b"%%%02x" % byte]
            if chr(byte).isascii() and (chr(byte).isalnum() or chr(byte) in "-._~+"):
                ways.append(bytes([byte]))
            spelled += data.draw(st.sampled_from(ways))
    answer = answer_of(sites["plain"], spelled, [])
    assert answer is not None
    assert answer.body == PAGES[key].body
    assert canonical_path(spelled) == key.encode()


@given(st.binary(max_size=100))
def test_a_canonical_target_is_a_fixed_point(raw: bytes) -> None:
    """RFC 3986 §6.2.2: normalising twice is normalising once, for paths and for queries."""
    path = canonical_path(b"/" + raw)
    if path is not None:
        assert canonical_path(path) == path
    query = canonical_query(raw, frozenset({"n", "q"}))
    if query is not None:
        assert canonical_query(query, frozenset({"n", "q"})) == query


NAMES = ["n", "q", "x", "N", "utm_source", "gclid"]
PAIRS = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(["10", "a b", "", "a+b"])), max_size=5)


@given(PAIRS, st.randoms())
def test_the_order_of_parameters_is_nothing_and_only_declared_ones_count(
    sites: Mapping[str, Site], pairs: list[tuple[str, str]], random: object
) -> None:
    """RFC 3986 §3.4 leaves the query to us: an undeclared parameter is never silently dropped."""
    site = sites["plain"]
    target = "/top?" + "&".join(f"{name}={value.replace('+', '%2B').replace(' ', '+')}" for name, value in pairs)
    backwards = "/top?" + "&".join(
        f"{name}={value.replace('+', '%2B').replace(' ', '%20')}" for name, value in reversed(pairs)
    )
    answer = answer_of(site, target.encode(), [])
    assert answer is answer_of(site, backwards.encode(), [])
    declared = sorted((name, value) for name, value in pairs if name in ("n", "q"))
    foreign = any(name in ("x", "N") for name, _ in pairs)
    known = {(): "/top", (("n", "10"),): "/top?n=10", (("n", "10"), ("q", "a b")): "/top?n=10&q=a%20b"}
    key = None if foreign else known.get(tuple(declared))
    assert (answer.body if answer else None) == (PAGES[key].body if key else None)


# Header parsing (RFC 9110 §5.5)

CONSULTED = [b"accept-encoding", b"if-none-match", b"if-match", b"if-modified-since", b"if-unmodified-since",
             b"if-range", b"range"]  # fmt: skip
TOKENS = st.sampled_from(
    [b"gzip", b"br", b"zstd", b"identity", b"*", b";q=", b"0", b"1", b"0.5", b",", b" ", b"\t", b'"', b"W/", b"bytes=",
     b"-", b"99", DATE.encode(), EARLIER.encode(), b"\xff", b"\x00", b"GMT", b"=", b";", b'"abc"', b"x"]
)  # fmt: skip
VALUES = st.one_of(st.binary(max_size=60), st.lists(TOKENS, max_size=10).map(b"".join))
HEADS = st.lists(st.tuples(st.sampled_from([*CONSULTED, b"host", b"cookie"]), VALUES), max_size=8)


@given(HEADS, KEYS, st.sampled_from(["GET", "HEAD"]))
def test_no_head_raises_and_every_answer_is_the_page_or_says_no(
    sites: Mapping[str, Site], headers: Headers, key: str, method: str
) -> None:
    """§5.5: field values are opaque bytes until they are understood; what is not understood is not an error."""
    site = sites["plain"]
    answer = answer_of(site, key.encode(), headers, method)
    assert answer is not None
    fields = dict(answer.headers)
    body = PAGES[key].body
    match answer:
        case Serve(status=200) if method == "GET":
            assert DECODE[fields.get(b"content-encoding", b"identity").decode()](answer.body) == body
        case Serve(status=206):
            assert method == "GET"
            assert answer.body
            assert answer.body in body
        case Serve() | NotModified() | Refuse():
            assert answer.body == b""
            assert answer.status in (200, 304, 406, 412, 416)
        case _:
            raise AssertionError(answer)


@given(
    st.dictionaries(st.sampled_from(["gzip", "br", "zstd", "identity", "*", "deflate"]), st.integers(0, 1000)),
    st.sampled_from(["/rows", "/digits", "/image"]),
)
def test_the_coding_sent_is_one_of_the_best_the_client_accepts(
    sites: Mapping[str, Site], weights: dict[str, int], page: str
) -> None:
    """§12.5.3: no coding of weight 0, none with less weight than another that exists, and of equals the smallest."""
    site = sites["plain"]
    field = ", ".join(f"{name};q={weight / 1000:.3f}" for name, weight in weights.items()).encode()
    answer = answer_of(site, page.encode(), [(b"accept-encoding", field)])
    assert answer is not None
    offered = {}
    for coding in site.codings(page):
        weight = weights.get(coding, weights.get("*", 1 if coding == "identity" else 0))
        # Identity that is not named is acceptable, and wanted less than anything that is (§12.5.3 rule 2).
        implicit = coding == "identity" and coding not in weights and "*" not in weights
        if weight:
            offered[coding] = (0 if implicit else weight, -site.length(page, coding))
    if not offered:
        assert answer.status == 406
        return
    best = max(offered.values())
    sent = dict(answer.headers).get(b"content-encoding", b"identity").decode()
    assert offered.get(sent) == best
