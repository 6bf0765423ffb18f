"""Every format that servers write is read, and nothing that a client can send is more than a bad line."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hotpath.ops.traffic.crawlers import shipped
from hotpath.ops.traffic.lines import Hit, combined, json_line, parser_of, uvicorn
from hotpath.ops.traffic.summary import Summary

AT = int(datetime(2015, 5, 17, 10, 5, tzinfo=UTC).timestamp()) // 60
AGENT = b"Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"


@pytest.mark.parametrize(
    ("line", "hit"),
    [
        (
            b'66.249.66.1 - - [17/May/2015:10:05:03 +0000] "GET /a?b=1 HTTP/1.1" 200 5831 "-" "' + AGENT + b'"',
            Hit(AT, b"66.249.66.1", b"GET", b"/a?b=1", 200, 5831, AGENT, None),
        ),
        (
            b'::1 - bob [17/May/2015:12:05:03 +0200] "HEAD / HTTP/2.0" 304 - "-" "x" 0.250',
            Hit(AT, b"::1", b"HEAD", b"/", 304, 0, b"x", 0.25),
        ),
        (
            b'10.0.0.1 - - [17/May/2015:05:35:59 -0430] "GET / HTTP/1.1" 200 1 "-" "x" 250000',
            Hit(AT, b"10.0.0.1", b"GET", b"/", 200, 1, b"x", 0.25),
        ),
        (
            b'10.0.0.1 - - [17/May/2015:10:05:03 +0000] "GET /common HTTP/1.0" 500 12',
            Hit(AT, b"10.0.0.1", b"GET", b"/common", 500, 12, b"-", None),
        ),
        (
            rb'10.0.0.1 - - [17/May/2015:10:05:03 +0000] "GET /\"q\" HTTP/1.1" 404 12 "\"ref\"" "a \"quoted\" agent"',
            Hit(AT, b"10.0.0.1", b"GET", rb"/\"q\"", 404, 12, rb"a \"quoted\" agent", None),
        ),
        (
            rb'10.0.0.1 - - [17/May/2015:10:05:03 +0000] "\x16\x03\x01" 400 0 "-" "-"',
            Hit(AT, b"10.0.0.1", b"-", rb"\x16\x03\x01", 400, 0, b"-", None),
        ),
        (
            b'10.0.0.1 - - [17/May/2015:10:05:03 +0000] "" 000 0 "-" "-"',
            Hit(AT, b"10.0.0.1", b"-", b"", 0, 0, b"-", None),
        ),
        (
            (
                b'{"time_iso8601":"2015-05-17T10:05:03+00:00","remote_addr":"1.2.3.4","request":"GET /a HTTP/1.1",'
                b'"status":"502","body_bytes_sent":"157","http_user_agent":"x","request_time":"1.500"}'
            ),
            Hit(AT, b"1.2.3.4", b"GET", b"/a", 502, 157, b"x", 1.5),
        ),
        (
            b'{"msec":1431857103.123,"client":"1.2.3.4","method":"GET","uri":"/a","status":200,"bytes":7,"agent":"x"}',
            Hit(AT, b"1.2.3.4", b"GET", b"/a", 200, 7, b"x", None),
        ),
        (
            (
                b'{"level":"info","ts":1431857103.5,"logger":"http.log.access","msg":"handled request","request":'
                b'{"remote_ip":"1.2.3.4","client_ip":"5.6.7.8","method":"GET","host":"a","uri":"/a","headers":'
                b'{"User-Agent":["x"]}},"duration":0.02,"size":12,"status":200}'
            ),
            Hit(AT, b"5.6.7.8", b"GET", b"/a", 200, 12, b"x", 0.02),
        ),
        (
            (
                b'{"time":"2015-05-17T10:05:06.171525Z","method":"GET","path":"/a","status":200,"result":"hit",'
                b'"generation":412,"bytes":5831,"microseconds":21.4,"coding":"br"}'
            ),
            Hit(AT, b"-", b"GET", b"/a", 200, 5831, b"-", 21.4e-6),
        ),
        (
            b'INFO:     127.0.0.1:53422 - "GET /a HTTP/1.1" 200 OK',
            Hit(None, b"127.0.0.1", b"GET", b"/a", 200, 0, b"-", None),
        ),
    ],
)
def test_each_format(line: bytes, hit: Hit) -> None:
    parse = parser_of(line)
    assert parse in (combined, json_line, uvicorn)
    found = parse(line)
    assert found._replace(seconds=None) == hit._replace(seconds=None)
    assert found.seconds == (hit.seconds if hit.seconds is None else pytest.approx(hit.seconds))


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"hello",
        b"null",
        b"[]",
        b"{}",
        b'{"status":"200"}',
        b'{"request":{}}',
        b'{"time":true,"method":1,"path":[],"status":[],"result":1,"microseconds":"x"}',
        b'1.2.3.4 - - [99/Xyz/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 5',
        b'1.2.3.4 - - [31/Feb/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 5',
        b'1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 999 5',
        b'1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" abc 5',
        b'1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1',
        b"\x00" * 5000,
        b"x" * 1_000_000,
    ],
)
def test_a_line_that_is_none_is_counted_and_shown(line: bytes) -> None:
    summary = Summary(shipped())
    good = b'1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 5 "-" "x"'
    summary.read([good, line, good])
    assert (summary.hits, summary.bad_lines) == (2, 1)
    assert all(len(shown) <= 200 for shown in summary.bad_shown)


@given(
    st.lists(
        st.binary(max_size=200)
        | st.builds(
            lambda head, request, tail: head + b' - - [17/May/2015:10:05:03 +0000] "' + request + b'" ' + tail,
            st.binary(max_size=20),
            st.binary(max_size=40),
            st.sampled_from(
                [b"200 5", b"200", b"", b'200 5 "', b'200 5 "-" "', b"-1 5", b"200 -5", b"200 1e9", b"\xb2 5"]
            ),
        )
        | st.text(max_size=50).map(lambda text: b'{"status":200,"method":"GET","path":"' + text.encode() + b'"}'),
        max_size=10,
    )
)
@example([b'{"status":200,"method":"GET","path":"/","msec":1e400}'])
@example([b'{"status":200,"method":"GET","path":"/","msec":1e300}'])
@example([b'{"status":200,"method":"GET","path":"/","time":"9999-12-31T23:59:59-23:59"}'])
def test_no_line_raises(lines: list[bytes]) -> None:
    summary = Summary(shipped())
    summary.read(lines)
    assert summary.hits + summary.bad_lines == summary.lines == len(lines)


def test_a_log_may_change_its_format_midway() -> None:
    summary = Summary(shipped())
    summary.read(
        [
            b'INFO:     127.0.0.1:53422 - "GET /a HTTP/1.1" 200 OK',
            b'1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET /b HTTP/1.1" 200 5 "-" "x"',
            b'{"msec":1431857103.123,"client":"1.2.3.4","method":"GET","uri":"/c","status":200}',
        ]
    )
    assert (summary.hits, summary.bad_lines, summary.untimed) == (3, 0, 1)
    assert {path for path, _ in summary.templates.items()} == {"/a", "/b", "/c"}
