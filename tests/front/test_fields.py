"""Fields on their way to the app and back, without a network."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotpath.errors import DeclarationError
from hotpath.front.address import Address
from hotpath.front.fields import (
    MAX_FRONTS,
    TARGET,
    BadAnswer,
    BadRequest,
    BodyFraming,
    Trust,
    body_of,
    handshake_fields,
    head_bytes,
    request_fields,
    response_fields,
    target_of,
)
from hotpath.types import Header, Scope

HOST = (b"host", b"site.test")
FORWARDED = [
    (b"via", b"1.1 hotpath"),
    (b"x-forwarded-for", b"192.0.2.9"),
    (b"x-forwarded-proto", b"http"),
    (b"x-forwarded-host", b"site.test"),
]


def scope_of(*headers: Header, **more: Any) -> Scope:
    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "http_version": "1.1",
        "scheme": "http",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "client": ("192.0.2.9", 1),
        "headers": list(headers),
    }
    return {**scope, **more}


def to_app(*headers: Header, trust: tuple[str, ...] = (), **more: Any) -> list[Header]:
    return request_fields(scope_of(*headers, **more), Trust(trust), b"default")


def test_end_to_end_fields_keep_their_order_and_repetitions() -> None:
    fields = [HOST, (b"x", b"1"), (b"cookie", b"a"), (b"x", b"2"), (b"cookie", b"b")]
    assert to_app(*fields) == [*fields, *FORWARDED]


@pytest.mark.parametrize(
    "name",
    b"connection keep-alive proxy-connection proxy-authorization te trailer transfer-encoding upgrade".split(),
)
def test_connection_fields_end_at_the_front(name: bytes) -> None:
    assert to_app(HOST, (name, b"x")) == [HOST, *FORWARDED]
    assert response_fields([(name.title(), b"y"), (b"X", b"1")], 200) == [(b"x", b"1")]


def test_what_connection_names_ends_here_but_nothing_that_frames_or_routes() -> None:
    named = (b"connection", b"X-A , host,content-length,\tvia, X-Forwarded-For")
    assert to_app(HOST, named, (b"x-a", b"1"), (b"content-length", b"0")) == [
        HOST,
        (b"content-length", b"0"),
        *FORWARDED,
    ]
    assert response_fields([(b"Connection", b"close, x-a"), (b"X-A", b"1"), (b"X-B", b"2")], 200) == [(b"x-b", b"2")]


@pytest.mark.parametrize("name", [b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x_forwarded-for"])
def test_nobody_else_speaks_for_the_front(name: bytes) -> None:
    assert to_app(HOST, (name, b"evil")) == [HOST, *FORWARDED]


@pytest.mark.parametrize(
    ("trust", "peer", "is_trusted"),
    [
        ("192.0.2.0/24", "192.0.2.9", True),
        ("192.0.2.9", "192.0.2.9", True),
        ("192.0.2.0/24", "::ffff:192.0.2.9", True),
        ("2001:db8::/32", "2001:db8::1", True),
        ("fe80::/10", "fe80::1%eth0", True),
        ("192.0.2.0/24", "192.0.3.9", False),
        ("192.0.2.0/24", "2001:db8::1", False),
        ("unix", None, True),
        ("192.0.2.0/24", None, False),
        ("unix", "192.0.2.9", False),
        ("0.0.0.0/0", "no-address", False),
    ],
)
def test_trusted_peers(trust: str, peer: str | None, is_trusted: bool) -> None:
    client = (peer, 1) if peer else None
    fields = dict(to_app(HOST, (b"x-forwarded-for", b"198.51.100.1"), trust=(trust,), client=client))
    assert Trust((trust,)).includes(peer) is is_trusted
    own = [peer] if peer else []
    expected = ", ".join(["198.51.100.1", *own] if is_trusted else own)
    assert fields.get(b"x-forwarded-for", b"").decode() == expected


@pytest.mark.parametrize("trust", [["10.0.0.1/8"], ["everybody"], ["10.0.0.0/33"], "10.0.0.0/8", [""]])
def test_trust_that_makes_no_sense(trust: Any) -> None:
    with pytest.raises(DeclarationError, match="write"):
        Trust(trust)


@pytest.mark.parametrize(
    ("headers", "version", "body"),
    [
        ([], "1.1", BodyFraming()),
        ([(b"content-length", b"0")], "1.1", BodyFraming(length=0)),
        ([(b"content-length", b" 12\t")], "1.1", BodyFraming(length=12)),
        ([(b"transfer-encoding", b"Chunked")], "1.1", BodyFraming(is_chunked=True)),
        ([(b"content-length", b"1"), (b"transfer-encoding", b"chunked")], "1.1", 400),
        ([(b"content-length", b"1"), (b"content-length", b"1")], "1.1", 400),
        ([(b"content-length", b"1, 1")], "1.1", 400),
        ([(b"content-length", b"+1")], "1.1", 400),
        ([(b"content-length", b"0x1")], "1.1", 400),
        ([(b"content-length", b"1_0")], "1.1", 400),
        ([(b"content-length", "١".encode())], "1.1", 400),
        ([(b"content-length", b"")], "1.1", 400),
        ([(b"transfer-encoding", b"chunked")], "1.0", 400),
        ([(b"transfer-encoding", b"gzip, chunked")], "1.1", 501),
        ([(b"transfer-encoding", b"chunked"), (b"transfer-encoding", b"chunked")], "1.1", 501),
        ([(b"transfer-encoding", b"identity")], "1.1", 501),
        ([(b"transfer-encoding", b"\x0bchunked")], "1.1", 501),
    ],
)
def test_framing_is_never_ambiguous(headers: list[Header], version: str, body: BodyFraming | int) -> None:
    if isinstance(body, BodyFraming):
        assert body_of(headers, version) == body
        assert body.is_empty == (not body.is_chunked and not body.length)
    else:
        with pytest.raises(BadRequest) as refusal:
            body_of(headers, version)
        assert refusal.value.status == body


def test_exactly_one_host() -> None:
    with pytest.raises(BadRequest, match="Host"):
        to_app(HOST, HOST)
    with pytest.raises(BadRequest, match="Host"):
        to_app()
    assert to_app(http_version="1.0")[0] == (b"host", b"default")


def test_a_circle_ends() -> None:
    via = (b"via", b", ".join([b"1.1 hotpath"] * (MAX_FRONTS - 1)))
    assert to_app(HOST, via)[1:3] == [via, FORWARDED[0]]
    with pytest.raises(BadRequest) as refusal:
        to_app(HOST, via, FORWARDED[0])
    assert refusal.value.status == 508


@pytest.mark.parametrize(
    ("scope", "target", "host"),
    [
        ({"raw_path": b"/a%2F", "query_string": b"b=%zz"}, b"/a%2F?b=%zz", None),
        ({"raw_path": b"/a", TARGET: b"/a?"}, b"/a?", None),
        ({"raw_path": b"/a", TARGET: b"http://b:8/a"}, b"/a", b"b:8"),
        ({"raw_path": b"HTTPS://b/a", "query_string": b"c=http://d/"}, b"/a?c=http://d/", b"b"),
        ({"raw_path": b"", TARGET: b"http://b?c"}, b"/?c", b"b"),
        ({"raw_path": b"/", TARGET: b"/?u=http://evil/"}, b"/?u=http://evil/", None),
        ({"raw_path": None, "path": "/é ü"}, b"/%C3%A9%20%C3%BC", None),
        ({"raw_path": b"*", TARGET: b"*"}, b"*", None),
    ],
)
def test_targets(scope: dict[str, Any], target: bytes, host: bytes | None) -> None:
    assert target_of(scope_of(**scope)) == (target, host)
    expected = host or b"site.test"
    fields = request_fields(scope_of(HOST), Trust(), b"default", host)
    assert (fields[0], dict(fields)[b"x-forwarded-host"]) == ((b"host", expected), expected)


@pytest.mark.parametrize(
    "written",
    [b"/a#b", b"http://a/#", b"http:///a", b"http://user@host/", b"ftp://host/", b"a", b"**", b"?a", b"host:80"],
)
def test_targets_that_read_in_two_ways(written: bytes) -> None:
    for scope in (scope_of(**{TARGET: written}), scope_of(raw_path=written)):
        with pytest.raises(BadRequest):
            target_of(scope)


@pytest.mark.parametrize("method", ["get", "CONNECT", "GET POST", "", "G\r\n", "GÉT"])
def test_methods_that_are_none(method: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        head_bytes(method, b"/", [HOST])
    assert refusal.value.status == 501


@pytest.mark.parametrize("value", [b"a\r\nb: c", b"a\nb", b"a\rb", b"a\0b"])
def test_no_field_makes_another(value: bytes) -> None:
    with pytest.raises(BadRequest):
        head_bytes("GET", b"/", [HOST, (b"x", value)])
    with pytest.raises(BadAnswer):
        response_fields([(b"x", value)], 200)


@pytest.mark.parametrize("target", [b"", b"/a b", b"/a\r\n", b"/\n"])
def test_no_target_makes_another_request(target: bytes) -> None:
    with pytest.raises(BadRequest):
        head_bytes("GET", target, [HOST])


@given(st.lists(st.tuples(st.from_regex(rb"[a-z-]{1,9}", fullmatch=True), st.binary(max_size=12))))
def test_a_head_has_the_lines_that_were_meant_or_is_refused(fields: list[Header]) -> None:
    try:
        head = head_bytes("GET", b"/", fields)
    except BadRequest:
        assert any(set(value) & set(b"\r\n\0") for _, value in fields)
    else:
        lines = head.split(b"\r\n")
        assert lines == [b"GET / HTTP/1.1", *(name + b": " + value for name, value in fields), b"", b""]


def test_answers_without_a_body_name_no_length() -> None:
    fields = [(b"Content-Length", b"5"), (b"ETag", b"1")]
    assert response_fields(fields, 304) == response_fields(fields, 204) == [(b"etag", b"1")]
    assert response_fields(fields, 200, is_chunked=True) == [(b"etag", b"1")]
    assert response_fields(fields, 200) == [(b"content-length", b"5"), (b"etag", b"1")]


def test_a_handshakes_own_fields_are_each_sides_own() -> None:
    fields = [(b"Sec-WebSocket-Accept", b"x"), (b"Upgrade", b"websocket"), (b"Set-Cookie", b"a")]
    assert handshake_fields(fields) == [(b"set-cookie", b"a")]
    own = [(b"sec-websocket-key", b"x"), (b"sec-websocket-extensions", b"x"), (b"sec-websocket-version", b"13")]
    handshake = to_app(HOST, *own, (b"origin", b"http://a"), type="websocket", scheme="wss")
    assert handshake[:2] == [HOST, (b"origin", b"http://a")]
    assert (b"x-forwarded-proto", b"https") in handshake
    assert to_app(HOST, *own)[1:4] == own


@pytest.mark.parametrize(
    ("text", "address", "authority"),
    [
        ("http://127.0.0.1:8000", Address("127.0.0.1", 8000), "127.0.0.1:8000"),
        ("http://app.internal", Address("app.internal", 80), "app.internal:80"),
        ("http://[::1]:9/", Address("::1", 9), "[::1]:9"),
        ("unix:/run/site.sock", Address(path="/run/site.sock"), "localhost"),
        ("unix:///run/site.sock", Address(path="/run/site.sock"), "localhost"),
    ],
)
def test_addresses(text: str, address: Address, authority: str) -> None:
    assert Address.parse(text) == address
    assert Address.parse(str(address)) == address
    assert address.authority == authority


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8000",
        "127.0.0.1:8000",
        "https://app:443",
        "ftp://app",
        "http://",
        "http://app:99999",
        "http://app:0",
        "http://app:x",
        "http://app/path",
        "http://app?x",
        "http://user:word@app",
        "http://[::1",
        "unix:",
        "unix:run/site.sock",
        "unix://host/site.sock",
        "unix:/" + "x" * 108,
    ],
)
def test_addresses_that_make_no_sense(text: str) -> None:
    with pytest.raises(DeclarationError, match=r"write http://|107 bytes"):
        Address.parse(text)
