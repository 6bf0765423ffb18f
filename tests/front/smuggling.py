"""Requests that two servers could read in two ways, as bytes: whatever follows one must be the same for both.

``{n}`` is the number of the case; a request for ``/{n}/hidden`` is what an attacker wants only one of the two to see.
"""

from __future__ import annotations

import re

HIDDEN = "GET /{n}/hidden HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED_HIDDEN = "0\r\n\r\n" + HIDDEN


def _post(fields: str, body: str) -> str:
    return "POST /{n}/open HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n" + body


# Fields of a request whose body is a last chunk and then a hidden request.
LENGTH = "Content-Length: 45\r\n"
CHUNKED = "Transfer-Encoding: chunked\r\n"
FRAMINGS = [
    LENGTH + CHUNKED,
    CHUNKED + LENGTH,
    CHUNKED + "Content-Length: 0\r\n",
    LENGTH + "Content-Length: 0\r\n",
    "Content-Length: 0\r\n" + LENGTH,
    LENGTH + LENGTH,
    "Content-Length: 45, 45\r\n",
    "Content-Length: 0, 45\r\n",
    "Content-Length: +45\r\n",
    "Content-Length: -45\r\n",
    "Content-Length: 0x2d\r\n",
    "Content-Length: 4_5\r\n",
    "Content-Length: 45 \t\r\n",
    "Content-Length:\t45\r\n",
    "Content-Length : 45\r\n",
    "Content-Length\t: 45\r\n",
    " Content-Length: 45\r\n",
    "Content-Length: \r\n 45\r\n",
    "Content-Length: 99999999999999999999\r\n",
    "Content-Length: 18446744073709551661\r\n",
    "Content-Length: 45\n",
    "Content-Length: 45\r",
    "Content-Length: 45\r\n\tx\r\n",
    "X: y\rContent-Length: 45\r\n",
    "X: y\nContent-Length: 45\r\n",
    "X: y\n\nContent-Length: 45\r\n",
    "X: y\0Content-Length: 45\r\n",
    "Content_Length: 45\r\n",
    "Content-Length: \r\n",
    CHUNKED + CHUNKED,
    "Transfer-Encoding: identity\r\n" + LENGTH,
    "Transfer-Encoding: identity\r\n",
    "Transfer-Encoding: chunked, identity\r\n",
    "Transfer-Encoding: identity, chunked\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Transfer-Encoding: xchunked\r\n" + LENGTH,
    "Transfer-Encoding: chunkedx\r\n" + LENGTH,
    "Transfer-Encoding: x chunked\r\n" + LENGTH,
    "Transfer-Encoding: 'chunked'\r\n" + LENGTH,
    "Transfer-Encoding: chunked;q=1\r\n" + LENGTH,
    "Transfer-Encoding:\x0bchunked\r\n" + LENGTH,
    "Transfer-Encoding: \x00chunked\r\n" + LENGTH,
    "Transfer-Encoding: chunked\xa0\r\n" + LENGTH,
    "Transfer-Encoding : chunked\r\n" + LENGTH,
    " Transfer-Encoding: chunked\r\n" + LENGTH,
    "X: y\r\n Transfer-Encoding: chunked\r\n" + LENGTH,
    "Transfer-Encoding:\r\n chunked\r\n" + LENGTH,
    "Transfer-Encoding:\n chunked\r\n" + LENGTH,
    "Transfer_Encoding: chunked\r\n" + LENGTH,
    "Transfer-Encoding: CHUNKED\r\n",
    "Transfer-Encoding: chunked\r\nConnection: transfer-encoding\r\n",
    "Connection: content-length\r\n" + LENGTH,
    "Connection: host, content-length, keep-alive\r\n" + LENGTH,
    "Expect: 100-continue\r\n" + LENGTH,
    "Expect: 100-continue\r\n" + CHUNKED,
    "Upgrade: websocket\r\nConnection: Upgrade\r\n" + LENGTH,
    "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n" + LENGTH,
    "Host: b\r\n" + LENGTH,
    "Proxy-Connection: keep-alive\r\n" + LENGTH,
]

# Chunked bodies; what a lenient reader skips is where a hidden request would begin.
CHUNKS = [
    "5\r\nabcde\r\n" + CHUNKED_HIDDEN,
    "5;a=b\r\nabcde\r\n" + CHUNKED_HIDDEN,
    '5;a="b;c"\r\nabcde\r\n' + CHUNKED_HIDDEN,
    "5;a\nb\r\nabcde\r\n" + CHUNKED_HIDDEN,
    "5;\r\rabcde\r\n" + CHUNKED_HIDDEN,
    "5\nabcde\r\n" + CHUNKED_HIDDEN,
    "5\r\nabcde\n" + CHUNKED_HIDDEN,
    "5\r\nabcdeXX" + CHUNKED_HIDDEN,
    "5\r\nabcdefgh\r\n" + CHUNKED_HIDDEN,
    "0x5\r\nabcde\r\n" + CHUNKED_HIDDEN,
    "+5\r\nabcde\r\n" + CHUNKED_HIDDEN,
    "-5\r\nabcde\r\n" + CHUNKED_HIDDEN,
    " 5\r\nabcde\r\n" + CHUNKED_HIDDEN,
    "5 \r\nabcde\r\n" + CHUNKED_HIDDEN,
    "5_0\r\nabcde\r\n" + CHUNKED_HIDDEN,
    "\r\n5\r\nabcde\r\n" + CHUNKED_HIDDEN,
    "FFFFFFFFFFFFFFFF5\r\nabcde\r\n" + CHUNKED_HIDDEN,
    "10000000000000005\r\nabcde\r\n" + CHUNKED_HIDDEN,
    "00000000000000000000000005\r\nabcde\r\n" + CHUNKED_HIDDEN,
    "g\r\nabcde\r\n" + CHUNKED_HIDDEN,
    "0\r\nX-Trailer: a\r\n\r\n" + HIDDEN,
    "0\r\nContent-Length: 45\r\n\r\n" + HIDDEN,
    "0\r\nTransfer-Encoding: chunked\r\n\r\n" + HIDDEN,
    "0\r\nHost: b\r\n\r\n" + HIDDEN,
    "0\r\n" + HIDDEN,
    "0\n\n" + HIDDEN,
    "0\r\n\n" + HIDDEN,
    "00\r\n\r\n" + HIDDEN,
    "0;a=b\r\n\r\n" + HIDDEN,
    HIDDEN,
]

OTHERS = [
    "GET /{n}/open HTTP/1.1\r\nHost: a\r\n\r\n" + HIDDEN,
    "GET /{n}/open HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" + HIDDEN,
    "GET /{n}/open HTTP/1.0\r\n\r\n" + HIDDEN,
    "GET /{n}/open HTTP/1.1\r\nHost: a\r\nContent-Length: 40\r\n\r\n" + HIDDEN,
    "HEAD /{n}/open HTTP/1.1\r\nHost: a\r\nContent-Length: 40\r\n\r\n" + HIDDEN,
    "POST /{n}/open HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED_HIDDEN,
    "POST /{n}/open HTTP/1.2\r\nHost: a\r\n" + CHUNKED + "\r\n" + CHUNKED_HIDDEN,
    "POST /{n}/open HTTP/2.0\r\nHost: a\r\n" + LENGTH + "\r\n" + CHUNKED_HIDDEN,
    "GET /{n}/open\r\n" + HIDDEN,
    "GET /{n}/open HTTP/1.1 \r\nHost: a\r\n\r\n" + HIDDEN,
    "GET  /{n}/open HTTP/1.1\r\nHost: a\r\n\r\n" + HIDDEN,
    "GET /{n}/open x HTTP/1.1\r\nHost: a\r\n\r\n" + HIDDEN,
    "GET /{n}/open\tHTTP/1.1\r\nHost: a\r\n\r\n" + HIDDEN,
    "get /{n}/open HTTP/1.1\r\nHost: a\r\n\r\n" + HIDDEN,
    "\r\n\r\nGET /{n}/open HTTP/1.1\r\nHost: a\r\n\r\n" + HIDDEN,
    "GET /{n}/open HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n" + HIDDEN,
    "GET /{n}/open HTTP/1.1\r\n\r\n" + HIDDEN,
    "GET http://b/{n}/open HTTP/1.1\r\nHost: a\r\n\r\n" + HIDDEN,
    "GET /{n}/open#x HTTP/1.1\r\nHost: a\r\n\r\n" + HIDDEN,
    "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n" + HIDDEN,
    "GET /{n}/open HTTP/1.1\nHost: a\n\n" + HIDDEN,
    "GET /{n}/open HTTP/1.1\r\nHost: a\r\nX y: z\r\n\r\n" + HIDDEN,
    "GET /{n}/open HTTP/1.1\r\nHost: a\r\n: z\r\n\r\n" + HIDDEN,
    "GET /{n}/open HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n" + HIDDEN,
    "GET /{n}/%0d%0aHost:%20b HTTP/1.1\r\nHost: a\r\n\r\n" + HIDDEN,
    "GET /{n}/open HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" + HIDDEN,
    "GET /{n}/open HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 7\r\n\r\n"
    + HIDDEN,
]

CASES = [
    *(_post(fields, CHUNKED_HIDDEN) for fields in FRAMINGS),
    *(_post(CHUNKED, body) for body in CHUNKS),
    *OTHERS,
]


def case(number: int) -> bytes:
    """One of ``CASES`` as bytes."""
    return CASES[number].replace("{n}", str(number)).encode("latin-1")


_LINE = re.compile(rb"([A-Z]+) (/[!-~\x80-\xff]*|\*) HTTP/1\.1")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ([^\x00-\x08\x0a-\x1f\x7f]*)")
_CHUNK = re.compile(rb"[0-9a-f]{1,15}")


class Ambiguous(Exception):
    """Another server could read these bytes otherwise."""


def read_request(data: bytes) -> tuple[bytes, bytes, bytes, bytes] | None:
    """Method, target, body and rest of the first request in ``data``, ``None`` where it is not whole.

    There is one way to write each, and anything else raises ``Ambiguous``.
    """
    head, found, rest = data.partition(b"\r\n\r\n")
    if not found:
        return None
    first, *lines = head.split(b"\r\n")
    start = _LINE.fullmatch(first)
    fields = [_FIELD.fullmatch(line) for line in lines]
    if start is None or None in fields:
        raise Ambiguous(head)
    pairs = [(field[1].lower(), field[2]) for field in fields if field is not None]
    values = {name: [value for other, value in pairs if other == name] for name, _ in pairs}
    lengths, codings = values.get(b"content-length", []), values.get(b"transfer-encoding", [])
    if len(values[b"host"]) != 1 or len(lengths) + len(codings) > 1 or codings not in ([], [b"chunked"]):
        raise Ambiguous(head)
    if codings:
        chunked = _read_chunks(rest)
        return None if chunked is None else (start[1], start[2], *chunked)
    length = 0
    if lengths:
        if not re.fullmatch(rb"[0-9]+", lengths[0]):
            raise Ambiguous(head)
        length = int(lengths[0])
    return (start[1], start[2], rest[:length], rest[length:]) if len(rest) >= length else None


def _read_chunks(data: bytes) -> tuple[bytes, bytes] | None:
    body = b""
    while True:
        size, found, rest = data.partition(b"\r\n")
        if not found:
            return None
        if not _CHUNK.fullmatch(size):
            raise Ambiguous(size)
        length = int(size, 16)
        if len(rest) < length + 2:
            return None
        if rest[length : length + 2] != b"\r\n":
            raise Ambiguous(rest)
        body, data = body + rest[:length], rest[length + 2 :]
        if not length:
            return body, data
