"""Random request heads: mostly sane, with one or two things wrong, as clients, scanners and smugglers send them."""

from __future__ import annotations

import random

TARGETS = [
    b"/rows",
    b"/rows?utm_source=x",
    b"/top?n=10",
    b"/top?q=a%20b&n=10",
    b"/top?n=10&x=1",
    b"/a%2Fb",
    b"/a%2fb",
    b"/%72ows",
    b"/rows#x",
    b"/rows?",
    b"/rows?#",
    b"/fold/KOSPI",
    b"//rows",
    b"/./rows",
    b"/rows/",
    b"/slash/",
    b"/",
    b"*",
    b"rows",
    b"",
    b"http://example.org/rows",
    b"/rows\xe9",
    b"/ro ws",
    b"/rows\t",
    b"/caf%C3%A9",
    b"/\\rows",
    b"/rows%00",
    b"/rows;x",
    b"/cold",
]
METHODS = [b"GET"] * 30 + [b"HEAD"] * 10 + [b"get", b"POST", b"GETT", b" GET", b"\r\nGET", b"OPTIONS", b"G ET", b""]
VERSIONS = (
    [b"HTTP/1.1"] * 40
    + [b"HTTP/1.0"] * 5
    + [b"HTTP/0.9", b"HTTP/2.0", b"http/1.1", b"HTTP/1.10", b"HTTP/1.1 ", b"", b"HTTP/1", b" HTTP/1.1"]
)
# The first are in every browser's head.
SANE = 15
LINES = [
    b"Accept-Encoding: gzip",
    b"accept-encoding:br;q=0.5 , zstd",
    b"Accept-Encoding:",
    b"Accept: */*",
    b"User-Agent: x y/1.0",
    b'If-None-Match: "x"',
    b"If-None-Match: *",
    b"If-Modified-Since: Fri, 15 Jan 2027 08:00:00 GMT",
    b"Range: bytes=0-4",
    b"If-Match: *",
    b'If-Range: "x"',
    b"Range: bytes=5-",
    b"Cookie: a=b; c=d",
    b"Connection: keep-alive",
    b"Connection: close",
    b"Connection: Close",
    b"Connection: keep-alive, close",
    b"Connection: Upgrade",
    b"Connection: x-a",
    b"Proxy-Connection: close",
    b"Keep-Alive: 5",
    b"Upgrade: websocket",
    b"Upgrade: h2c",
    b"HTTP2-Settings: x",
    b"Expect: 100-continue",
    b"TE: trailers",
    b"Trailer: x",
    b"Host: other",
    b"Host:",
    b"X-Empty:",
    b"X-Tab:\ta\tb\t",
    b"X-High: \xe9\xff",
    b"X : y",
    b"X-\xe9: y",
    b"X",
    b" folded",
    b"X: a\r\n\tb",
    b"X: \x00",
    b"X: \x7f",
    b"X: a\rb",
    b"X: a\nY: b",
    b": y",
    b"X:: y",
    b"X@: y",
    b"X: \x0b",
    b"Content-Type: a/b",
    b"X-Long: " + b"y" * 3000,
]
# What frames a body; with these the bytes behind a head are no request.
FRAMING = [
    b"Content-Length: 0",
    b"Content-Length: 3",
    b"Content-Length: +1",
    b"Content-Length: 3, 3",
    b"Content-Length: 1\r\nContent-Length: 1",
    b"Transfer-Encoding: chunked",
    b"transfer-encoding:\tchunked",
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding: chunked\r\nContent-Length: 3",
    b"Transfer_Encoding: chunked",
]
HOSTS = [b"Host: example.org"] * 30 + [
    b"host:example.org:80",
    b"HOST: [::1]:80",
    b"Host: ",
    b"Host: a b",
    b"Host: a/b",
    b"Host: a@b",
    b"Host : a",
    b"Host: a,b",
    b"Host: \xe9",
]
BYTES = b'\x00\x01\t\n\r "#%&,/:;?\\\x7f\x80\xffAa0'


def head(chance: random.Random) -> bytes:
    """One head, perhaps with bytes changed, cut or doubled."""
    is_sane = chance.random() < 0.6
    lines = chance.choices(LINES[:SANE] if is_sane else LINES, k=chance.choice((0, 1, 1, 2, 3, 5)))
    if not is_sane and chance.random() < 0.3:
        lines.append(chance.choice(FRAMING))
    for _ in range(chance.choices((1, 0, 2), (30, 1, 1))[0]):
        lines.insert(chance.randint(0, len(lines)), chance.choice(HOSTS))
    space = b" " if chance.random() < 0.97 else chance.choice((b"  ", b"\t", b""))
    first = chance.choice(METHODS) + space + chance.choice(TARGETS[:1] * 20 + TARGETS) + space + chance.choice(VERSIONS)
    end = b"\r\n" if chance.random() < 0.97 else chance.choice((b"\n", b"\r", b"\r\r\n", b"\n\r"))
    data = end.join([first, *lines, b"", b""])
    if chance.random() < 0.1:
        place = chance.randrange(len(data))
        change = chance.choice((b"", bytes([chance.choice(BYTES)]), data[place : place + 1] * 2))
        data = data[:place] + change + data[place + 1 :]
    return data


def heads(chance: random.Random) -> bytes:
    """What a connection begins with: one head, or several, and sometimes the beginning of another or a body."""
    data = b"".join(head(chance) for _ in range(chance.choices((1, 2, 3), (5, 3, 1))[0]))
    return data + chance.choice((b"", b"", b"", b"", b"abc", b"0\r\n\r\n", b"GET /ro", b"\r\n", b"\x00"))
