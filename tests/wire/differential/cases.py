"""What is asked of hotpath and of nginx over the same files, and where their answers differ and why.

``python -m tests.wire.differential.cases`` prints the table of docs/reference/differences-from-nginx.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

ROWS = b"[" + b",".join(b'{"ticker":"A%06d","pe":%d}' % (n * 7919 % 1000003, n % 40) for n in range(90)) + b"]"

# key → (file, media type, body)
PAGES: Mapping[str, tuple[str, str, bytes]] = {
    "/rows.json": ("rows.json", "application/json", ROWS),
    "/digits.bin": ("digits.bin", "application/octet-stream", b"0123456789"),
    "/empty.bin": ("empty.bin", "application/octet-stream", b""),
    "/image.png": ("image.png", "image/png", bytes(range(256))),
    "/deep/er/rows.json": ("deep/er/rows.json", "application/json", ROWS[:300]),
    "/a%20b.bin": ("a b.bin", "application/octet-stream", b"space"),
    "/caf%C3%A9.bin": ("café.bin", "application/octet-stream", b"acute"),
}

# 2023-11-14T22:13:20Z: when everything was published, and the mtime of every file.
MODIFIED = 1_700_000_000
DATE = "Tue, 14 Nov 2023 22:13:20 GMT"
DATE_RFC850 = "Tuesday, 14-Nov-23 22:13:20 GMT"
DATE_ASCTIME = "Tue Nov 14 22:13:20 2023"
EARLIER = "Tue, 14 Nov 2023 22:13:19 GMT"
LATER = "Tue, 14 Nov 2023 22:13:21 GMT"


@dataclass(frozen=True)
class Request:
    """``{etag}`` and ``{etag-gzip}`` in ``fields`` stand for what that server sends itself.

    ``differs`` is the difference as ``field: hotpath / nginx``, empty where they agree; ``reason`` the key of REASONS.
    """

    fields: tuple[str, ...] = ()
    target: str = "/rows.json"
    method: str = "GET"
    differs: str = ""
    reason: str = ""

    @property
    def shown(self) -> str:
        return " · ".join([f"{self.method} {self.target}", *self.fields])


REASONS: Mapping[str, str] = {
    "exact": "§13.1.3: a date after the last modification means not modified; nginx wants the very date",
    "bad-date": "§13.1.4: an invalid date is ignored; nginx answers 412",
    "lenient-date": "§5.6.7: without GMT it is none of the three forms, so it is ignored (§13.1.3); nginx reads it",
    "both": "§13.1.3: If-Modified-Since is ignored beside If-None-Match; nginx wants both to hold",
    "both-match": "§13.1.4: If-Unmodified-Since is ignored beside If-Match; nginx wants both to hold",
    "bad-range": "§14.2: a Range that is no valid range set may be ignored; nginx answers 416",
    "space-range": "§14.1.1 has no space there, so the field may be ignored (§14.2); nginx reads it",
    "many-ranges": "both allowed: §14.2 lets a server ignore several ranges; hotpath sends no multipart",
    "large-range": "§14.1.2: a last position beyond the end means the end, however large; nginx overflows",
    "empty-range": "both allowed: of nothing no range is satisfiable (§14.1.2), so 416; nginx sends the whole (§14.2)",
    "head-range": "§14.2: Range is defined for GET only; nginx applies it to HEAD",
    "coded-range": "both allowed (§14.2): hotpath's ranges are of the identity coding; nginx sends the coded whole",
    "x-gzip": "§8.4.1.3: x-gzip is gzip; nginx does not know the name",
    "406": "§12.5.3: identity is excluded and there is nothing else, so 406; nginx sends identity (§15.5.7)",
    "preference": "§12.5.3: the client prefers identity; nginx knows whether gzip is acceptable, not how much",
    "star": "§12.5.3: `*` stands for every coding that is not named; nginx reads it as none",
    "lines": "§5.2: several lines are one list; nginx reads the first",
    "methods": "a method other than GET and HEAD is the app's, which here has nothing; nginx serves files only",
    "unknown-method": "uvicorn's parser refuses a method it does not know before hotpath is asked",
    "query": "a parameter that is not declared makes it a miss, so that the app decides; a file has no query",
    "slash": "RFC 3986 §2.2: an encoded slash is data, not a separator; nginx decodes it",
    "segments": "RFC 3986 §6.2.2.3 lets a server resolve dot segments, as nginx does; to hotpath they are never a page",
    "malformed": "both allowed: a malformed target is nobody's page, so the app is asked; nginx answers 400",
    "files": "a coding is chosen by Accept-Encoding and has no address of its own; to nginx it is one more file",
    "directory": "there is no page there; to nginx it is a directory",
}


def _conditional() -> Iterator[Request]:
    for value in (
        "{etag}",
        "W/{etag}",
        '"other"',
        '"other", {etag}',
        '"a,b", {etag}',
        '"a", "b", "c"',
        "*",
        "{etag-gzip}",
        " , {etag} ,",
        "{etag}{etag}",
        "unquoted",
        '"unclosed',
        "",
    ):
        yield Request((f"If-None-Match: {value}",))
        yield Request((f"If-Match: {value}",))
    for date in (DATE, DATE_RFC850, DATE_ASCTIME, EARLIER, LATER, "yesterday", "Tue, 14 Nov 2023 22:13:20", "0", ""):
        yield Request((f"If-Modified-Since: {date}",))
        yield Request((f"If-Unmodified-Since: {date}",))
    for date in (DATE, EARLIER, LATER):
        yield Request(('If-None-Match: "other"', f"If-Modified-Since: {date}"))
        yield Request(("If-None-Match: {etag}", f"If-Modified-Since: {date}"))
        yield Request(("If-Match: {etag}", f"If-Unmodified-Since: {date}"))
        yield Request(('If-Match: "other"', f"If-Modified-Since: {date}"))
    yield Request(("If-Match: {etag}", "If-None-Match: {etag}"))
    yield Request(('If-Match: "other"', "If-None-Match: {etag}"))
    yield Request(("If-None-Match: {etag}",), method="HEAD")
    yield Request((f"If-Modified-Since: {DATE}",), method="HEAD")
    yield Request(("Accept-Encoding: gzip", "If-None-Match: {etag-gzip}"))
    yield Request(("Accept-Encoding: gzip", "If-None-Match: {etag}"))
    yield Request(("If-None-Match: {etag}",), target="/empty.bin")


def _range() -> Iterator[Request]:
    for value in (
        "bytes=0-0",
        "bytes=0-4",
        "bytes=5-",
        "bytes=-3",
        "bytes=-0",
        "bytes=-99",
        "bytes=0-99",
        "bytes=9-9",
        "bytes=10-",
        "bytes=10-20",
        "bytes=5-2",
        "bytes=0-1,5-6",
        "bytes=0-5,3-8",
        "bytes=0-1, 99-",
        "bytes=",
        "bytes=a-b",
        "bytes 0-1",
        "bytes=0-1x",
        "bytes= 0-1",
        "bytes=0 - 1",
        "BYTES=0-1",
        "rows=0-1",
        "bytes=99999999999999999999-",
        "bytes=0-99999999999999999999",
        "bytes=--1",
        "bytes=1",
        "",
    ):
        yield Request((f"Range: {value}",), target="/digits.bin")
    for value in ("bytes=0-0", "bytes=-1", "bytes=0-", "bytes=5-"):
        yield Request((f"Range: {value}",), target="/empty.bin")
    yield Request(("Range: bytes=0-4",), target="/digits.bin", method="HEAD")
    yield Request(("Range: bytes=99-",), target="/digits.bin", method="HEAD")
    for validator in ("{etag}", "W/{etag}", '"other"', DATE, EARLIER, LATER, DATE_RFC850, "nonsense"):
        yield Request(("Range: bytes=2-3", f"If-Range: {validator}"), target="/digits.bin")
    yield Request(("If-Range: {etag}",), target="/digits.bin")
    yield Request(("Range: bytes=2-3", "If-None-Match: {etag}"), target="/digits.bin")
    yield Request(("Range: bytes=2-3", 'If-Match: "other"'), target="/digits.bin")
    yield Request(("Range: bytes=99-", "If-None-Match: {etag}"), target="/digits.bin")
    yield Request(("Range: bytes=2-9", "Accept-Encoding: gzip"))
    yield Request(("Range: bytes=2-9", "Accept-Encoding: identity"))


def _coding() -> Iterator[Request]:
    for value in (
        "gzip",
        "GZIP",
        "x-gzip",
        "gzip, deflate",
        "deflate",
        "deflate, gzip;q=0.5",
        "gzip;q=0",
        "gzip;q=0.0",
        "gzip;q=0.001",
        "gzip;q=1.000",
        "gzip; q=0.5",
        "gzip ;q=0.5",
        "identity",
        "identity;q=0",
        "identity;q=0, gzip",
        "identity;q=0.5, gzip;q=0.1",
        "identity, gzip;q=0.5",
        "*",
        "*;q=0",
        "*;q=0, gzip",
        "gzip;q=0, *",
        "gzip;q=2",
        "gzip;q=x",
        "gzip;level=9",
        "notgzip",
        "gzipped",
        "",
        ",,gzip,,",
    ):
        yield Request((f"Accept-Encoding: {value}",))
    yield Request(("Accept-Encoding: deflate", "Accept-Encoding: gzip"))
    yield Request(("Accept-Encoding: gzip",), method="HEAD")
    yield Request(("Accept-Encoding: gzip",), target="/image.png")
    yield Request(("Accept-Encoding: gzip",), target="/empty.bin")
    yield Request(("Accept-Encoding: identity;q=0",), target="/image.png")


def _target() -> Iterator[Request]:
    for method in ("HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH", "FOO"):
        yield Request(method=method)
    for target in (
        "/rows.json?",
        "/rows.json?utm_source=x",
        "/rows.json?x=1",
        "/%72ows.json",
        "/rows%2Ejson",
        "/a%20b.bin",
        "/a+b.bin",
        "/caf%C3%A9.bin",
        "/caf%c3%a9.bin",
        "/caf%E9.bin",
        "/deep/er/rows.json",
        "/deep%2Fer%2Frows.json",
        "/deep//er/rows.json",
        "//rows.json",
        "/./rows.json",
        "/deep/../rows.json",
        "/deep/%2e%2e/rows.json",
        "/deep/er/../../rows.json",
        "/../rows.json",
        "/rows.json/",
        "/rows.json%00",
        "/rows.json%",
        "/rows.json%zz",
        "/Rows.json",
        "/rows.json.gz",
        "/none.json",
        "/deep/er",
        "/deep/er/",
        "/manifest.json",
        "/..%2fmanifest.json",
    ):
        yield Request(target=target)


_ASKED = (*_conditional(), *_range(), *_coding(), *_target())

# What differs: the request as shown → (difference, key of REASONS).
DIFFERENCES: Mapping[str, tuple[str, str]] = {
    "GET /rows.json · If-Modified-Since: Tue, 14 Nov 2023 22:13:21 GMT": ("status: 304 / 200", "exact"),
    "GET /rows.json · If-Unmodified-Since: yesterday": ("status: 200 / 412", "bad-date"),
    "GET /rows.json · If-Modified-Since: Tue, 14 Nov 2023 22:13:20": ("status: 200 / 304", "lenient-date"),
    "GET /rows.json · If-Unmodified-Since: 0": ("status: 200 / 412", "bad-date"),
    "GET /rows.json · If-Unmodified-Since: ": ("status: 200 / 412", "bad-date"),
    "GET /rows.json · If-None-Match: {etag} · If-Modified-Since: Tue, 14 Nov 2023 22:13:19 GMT": (
        "status: 304 / 200",
        "both",
    ),
    "GET /rows.json · If-Match: {etag} · If-Unmodified-Since: Tue, 14 Nov 2023 22:13:19 GMT": (
        "status: 200 / 412",
        "both-match",
    ),
    "GET /rows.json · If-None-Match: {etag} · If-Modified-Since: Tue, 14 Nov 2023 22:13:21 GMT": (
        "status: 304 / 200",
        "both",
    ),
    "GET /digits.bin · Range: bytes=5-2": ("status: 200 / 416", "bad-range"),
    "GET /digits.bin · Range: bytes=0-1,5-6": ("status: 200 / 206", "many-ranges"),
    "GET /digits.bin · Range: bytes=0-1, 99-": ("status: 200 / 206", "many-ranges"),
    "GET /digits.bin · Range: bytes=a-b": ("status: 200 / 416", "bad-range"),
    "GET /digits.bin · Range: bytes=0-1x": ("status: 200 / 416", "bad-range"),
    "GET /digits.bin · Range: bytes= 0-1": ("status: 200 / 206", "space-range"),
    "GET /digits.bin · Range: bytes=0 - 1": ("status: 200 / 206", "space-range"),
    "GET /digits.bin · Range: bytes=0-99999999999999999999": ("status: 206 / 416", "large-range"),
    "GET /digits.bin · Range: bytes=--1": ("status: 200 / 416", "bad-range"),
    "GET /digits.bin · Range: bytes=1": ("status: 200 / 416", "bad-range"),
    "GET /empty.bin · Range: bytes=0-0": ("status: 416 / 200", "empty-range"),
    "GET /empty.bin · Range: bytes=-1": ("status: 416 / 200", "empty-range"),
    "GET /empty.bin · Range: bytes=0-": ("status: 416 / 200", "empty-range"),
    "HEAD /digits.bin · Range: bytes=0-4": ("status: 200 / 206", "head-range"),
    "HEAD /digits.bin · Range: bytes=99-": ("status: 200 / 416", "head-range"),
    "GET /rows.json · Range: bytes=2-9 · Accept-Encoding: gzip": ("status: 206 / 200", "coded-range"),
    "GET /rows.json · Accept-Encoding: x-gzip": ("content-encoding: gzip / none", "x-gzip"),
    "GET /rows.json · Accept-Encoding: identity;q=0": ("status: 406 / 200", "406"),
    "GET /rows.json · Accept-Encoding: identity;q=0.5, gzip;q=0.1": ("content-encoding: none / gzip", "preference"),
    "GET /rows.json · Accept-Encoding: identity, gzip;q=0.5": ("content-encoding: none / gzip", "preference"),
    "GET /rows.json · Accept-Encoding: *": ("content-encoding: br / none", "star"),
    "GET /rows.json · Accept-Encoding: *;q=0": ("status: 406 / 200", "406"),
    "GET /rows.json · Accept-Encoding: gzip;q=0, *": ("content-encoding: br / none", "star"),
    "GET /rows.json · Accept-Encoding: deflate · Accept-Encoding: gzip": ("content-encoding: gzip / none", "lines"),
    "GET /image.png · Accept-Encoding: identity;q=0": ("status: 406 / 200", "406"),
    "OPTIONS /rows.json": ("status: 404 / 405", "methods"),
    "POST /rows.json": ("status: 404 / 405", "methods"),
    "PUT /rows.json": ("status: 404 / 405", "methods"),
    "DELETE /rows.json": ("status: 404 / 405", "methods"),
    "PATCH /rows.json": ("status: 404 / 405", "methods"),
    "FOO /rows.json": ("status: 400 / 405", "unknown-method"),
    "GET /rows.json?x=1": ("status: 404 / 200", "query"),
    "GET /deep%2Fer%2Frows.json": ("status: 404 / 200", "slash"),
    "GET /deep//er/rows.json": ("status: 404 / 200", "segments"),
    "GET //rows.json": ("status: 404 / 200", "segments"),
    "GET /./rows.json": ("status: 404 / 200", "segments"),
    "GET /deep/../rows.json": ("status: 404 / 200", "segments"),
    "GET /deep/%2e%2e/rows.json": ("status: 404 / 200", "malformed"),
    "GET /deep/er/../../rows.json": ("status: 404 / 200", "segments"),
    "GET /../rows.json": ("status: 404 / 400", "malformed"),
    "GET /rows.json%00": ("status: 404 / 400", "malformed"),
    "GET /rows.json%": ("status: 404 / 400", "malformed"),
    "GET /rows.json%zz": ("status: 404 / 400", "malformed"),
    "GET /rows.json.gz": ("status: 404 / 200", "files"),
    "GET /deep/er": ("status: 404 / 301", "directory"),
    "GET /deep/er/": ("status: 404 / 403", "directory"),
    "GET /..%2fmanifest.json": ("status: 404 / 400", "malformed"),
}

CASES = tuple(Request(one.fields, one.target, one.method, *DIFFERENCES.get(one.shown, ("", ""))) for one in _ASKED)


def table() -> str:
    """The differences as the page has them."""
    rows = ["| request | hotpath / nginx | why |", "|---|---|---|"]
    for one in CASES:
        if one.differs:
            cells = (f"`{one.shown}`", one.differs, REASONS[one.reason])
            rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
