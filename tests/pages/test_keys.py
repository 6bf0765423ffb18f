"""Keys: one page has one key on both sides, and nothing a client sends can name anything else."""

from __future__ import annotations

from datetime import date
from urllib.parse import quote, quote_from_bytes, unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotpath.errors import DeclarationError
from hotpath.pages.keys import (
    Template,
    canonical_path,
    canonical_query,
    make_key,
    matches_path,
    parameter_text,
    parse_file_template,
    parse_path_template,
    strip_root_path,
)


@pytest.mark.parametrize(
    ("raw", "canonical"),
    [
        (b"/a/b", b"/a/b"),
        (b"/", b"/"),
        (b"/a%2Fb", b"/a%2Fb"),
        (b"/a%2fb", b"/a%2Fb"),
        (b"/%61%7e", b"/a~"),
        (b"/caf%c3%a9", b"/caf%C3%A9"),
        ("/café".encode(), b"/caf%C3%A9"),
        (b"/a%2Bb", b"/a+b"),
        (b"/a//b", b"/a//b"),
        (b"/a/", b"/a/"),
        (b"/%25", b"/%25"),
    ],
)
def test_one_spelling_of_a_path(raw: bytes, canonical: bytes) -> None:
    assert canonical_path(raw) == canonical


@pytest.mark.parametrize(
    "raw",
    [b"", b"a", b"*", b"/..", b"/a/../b", b"/%2e%2e/a", b"/.", b"/a/%2E", b"/a%00", b"/a\\b", b"/a%5cb", b"/%", b"/%4",
     b"/%zz", b"/a\x00", b"/a\nb", b"/a b"],
)  # fmt: skip
def test_what_never_is_a_key(raw: bytes) -> None:
    assert canonical_path(raw) is None


@given(st.binary(max_size=200))
def test_canonical_form_is_a_fixed_point_without_dot_segments(raw: bytes) -> None:
    canonical = canonical_path(b"/" + raw)
    if canonical is not None:
        assert canonical_path(canonical) == canonical
        assert canonical.isascii()
        assert not {b".", b".."} & set(canonical.split(b"/"))
        assert b"\\" not in canonical
        assert b"%00" not in canonical


_values = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\"), min_size=1, max_size=30)


@given(_values.filter(lambda text: text not in (".", "..")), st.data())
def test_a_key_survives_any_percent_encoding_of_the_request(value: str, data: st.DataObject) -> None:
    key = make_key(parse_path_template("/r/{x}"), (), {"x": parameter_text(value)})
    spelled = b""
    for byte in value.encode():
        spelling = [b"%%%02X" % byte, b"%%%02x" % byte]
        if quote(bytes([byte]), safe="") == chr(byte):
            spelling.append(bytes([byte]))
        spelled += data.draw(st.sampled_from(spelling))
    assert canonical_path(b"/r/" + spelled) == key.encode()


@given(st.text("aZ9._~!$&'()*+,;=:@-/%ä ", max_size=12))
def test_a_path_with_nothing_to_encode_has_the_key_of_any_other(value: str) -> None:
    path = parse_path_template("/{value}/x")
    expected = canonical_path(b"/" + quote(value, safe="/").encode() + b"/x")
    if expected is None:
        with pytest.raises(DeclarationError):
            make_key(path, (), {"value": value})
    else:
        assert make_key(path, (), {"value": value}) == expected.decode()


@pytest.mark.parametrize(
    ("query", "names", "canonical"),
    [
        (b"", (), b""),
        (b"b=2&a=1", ("a", "b"), b"a=1&b=2"),
        (b"a=1&utm_source=x&gclid=y&fbclid=z&msclkid=q", ("a",), b"a=1"),
        (b"utm_source=x", (), b""),
        (b"a", ("a",), b"a="),
        (b"a=", ("a",), b"a="),
        (b"&&a=1&", ("a",), b"a=1"),
        (b"a=2&a=1", ("a",), b"a=1&a=2"),
        (b"a=x+y", ("a",), b"a=x%20y"),
        (b"a=x%20y", ("a",), b"a=x%20y"),
        (b"a=%ea%b0%80", ("a",), b"a=%EA%B0%80"),
        (b"c=1", ("a",), None),
        (b"a=1&c=1", ("a",), None),
        (b"%61=1", ("a",), b"a=1"),
        (b"\xff=1", ("a",), None),
    ],
)
def test_the_query_that_belongs_to_the_key(query: bytes, names: tuple[str, ...], canonical: bytes | None) -> None:
    assert canonical_query(query, frozenset(names)) == canonical


@given(st.binary(max_size=300))
def test_any_query_has_an_answer(query: bytes) -> None:
    canonical = canonical_query(query, frozenset({"a", "b"}))
    if canonical is not None:
        assert canonical_query(canonical, frozenset({"a", "b"})) == canonical


@pytest.mark.parametrize(
    ("path", "root", "rest"),
    [
        (b"/api/x", b"/api", b"/x"),
        (b"/apix", b"/api", b"/apix"),
        (b"/api", b"/api", b"/"),
        (b"/api/", b"/api/", b"/"),
        (b"/x", b"/api", b"/x"),
        (b"/x", b"", b"/x"),
        (b"/x", b"/", b"/x"),
        (b"/%61pi/x", b"/api", b"/x"),
        (b"/api/../x", b"/api", b"/api/../x"),
    ],
)
def test_root_path_is_cut_at_a_segment_boundary(path: bytes, root: bytes, rest: bytes) -> None:
    assert strip_root_path(path, root) == rest


@pytest.mark.parametrize("value", ["KOSPI", 7, date(2026, 11, 23), "삼성", "a.b", "...", "50%", "a b"])
def test_values_that_can_be_a_segment(value: object) -> None:
    assert parameter_text(value) == str(value)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("", "empty"),
        ("..", "dot segment"),
        ("../etc/passwd", "'/'"),
        ("a\\b", "slug"),
        ("a\0", "x00"),
        ("a\nb", "one path segment"),
        ("\udcff", "udcff"),
        (1.5, "float"),
        (True, "bool"),
        (None, "NoneType"),
        ("x" * 201, "200"),
    ],
)
def test_values_that_cannot(value: object, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        parameter_text(value)


@pytest.mark.parametrize(
    "text", ["rankings", "/a?x={x}", "/a#b", "/a/../b", "/{x}/{x}", "/{x:path}", "/{}", "/{x", "/a\\b"]
)
def test_paths_that_are_no_template(text: str) -> None:
    with pytest.raises(DeclarationError):
        parse_path_template(text)


@pytest.mark.parametrize("text", ["../{x}.json", "/etc/{x}", "a/../{x}", "", "a//b", "./{x}", "a\\{x}"])
def test_file_templates_that_could_leave_the_directory(text: str) -> None:
    with pytest.raises(DeclarationError, match="write a relative name"):
        parse_file_template(text)


def test_a_template_matches_what_it_renders() -> None:
    template = Template.parse("/rankings/{market}/top-{n}.json")
    text = template.render({"market": "kospi", "n": "10"})
    assert text == "/rankings/kospi/top-10.json"
    assert template.match(text) == {"market": "kospi", "n": "10"}
    assert template.match("/rankings/a/b/top-10.json") is None


def test_query_parameters_are_sorted_into_the_key_and_absent_ones_left_out() -> None:
    path = parse_path_template("/top/{m}")
    assert make_key(path, ("z", "a"), {"m": "x", "z": "1", "a": "ä"}) == "/top/x?a=%C3%A4&z=1"
    assert make_key(path, ("z",), {"m": "x"}) == "/top/x"


def test_folding_makes_one_key_of_two_cases() -> None:
    path = parse_path_template("/R/{m}")
    assert make_key(path, (), {"m": "ÄB"}, fold_case=True) == "/r/%C3%A4b"
    assert canonical_path(b"/r/%C3%84b", fold_case=True) == b"/r/%C3%A4b"


def test_two_fields_cannot_make_a_dot_segment_together() -> None:
    template = parse_path_template("/{a}{b}")
    with pytest.raises(DeclarationError):
        make_key(template, (), {"a": ".", "b": "."})


def test_a_key_has_the_shape_of_its_route() -> None:
    template = parse_path_template("/r/{x}")
    assert matches_path(template, "/r/caf%C3%A9")
    assert not matches_path(template, "/r/a/b")
    assert matches_path(template, "/r/a%2Fb")


def plainly(raw: bytes, *, fold_case: bool) -> bytes | None:
    """RFC 3986 §6.2.2 segment by segment, as slow as it is clear."""
    segments = []
    for segment in raw.split(b"/"):
        decoded = unquote_to_bytes(segment)
        if decoded in (b".", b".."):
            return None
        if fold_case:
            decoded = decoded.decode("utf-8", "surrogateescape").lower().encode("utf-8", "surrogateescape")
        segments.append(quote_from_bytes(decoded, "!$&'()*+,;=:@"))
    return "/".join(segments).encode("ascii")


PATH_PIECES = st.sampled_from(
    [b"/", b"//", b".", b"..", b"%2e", b"%2F", b"%2f", b"%41", b"a", b"B", b"+", b"%2B", b"%C3%89", b"\xc3\x89",
     b"\xce\xa3", b"%FF", b"\xff", b"%25", b"\"", b"~", b"%7e", b":", b"%3A", b"%CE%A3", b"s", b"[", b"#"]
)  # fmt: skip


@given(st.lists(PATH_PIECES, max_size=12).map(lambda pieces: b"/" + b"".join(pieces)), st.booleans())
def test_the_canonical_form_is_the_plain_reading_of_the_rfc(raw: bytes, fold_case: bool) -> None:
    assert canonical_path(raw, fold_case=fold_case) == plainly(raw, fold_case=fold_case)


def test_a_path_or_query_of_more_than_8_kib_is_never_hot() -> None:
    assert canonical_path(b"/" + b"a" * 8191) is not None
    assert canonical_path(b"/" + b"a" * 8192) is None
    assert canonical_query(b"&" * 8192) == b""
    assert canonical_query(b"&" * 8193) is None
    with pytest.raises(DeclarationError, match="more than 8,192 bytes"):
        make_key(parse_path_template("/" + "a" * 8192), (), {})


def test_more_values_than_a_key_can_have_are_a_miss() -> None:
    names = frozenset(("n",))
    assert canonical_query(b"n=1&" * 64, names) is not None
    assert canonical_query(b"n=1&" * 65, names) is None
