"""What hotpath answers, as data: one row a request, with the numbered line it belongs to and the section that decides.

Sections are of RFC 9110 unless another number stands in front. Lines that are no question of one request (a swap, a
torn file) are held by ``test_scenarios.py``; its functions carry their line in their name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

LINES: Mapping[int, str] = {
    1: "Content-Length equals the bytes sent; HEAD and 304 carry the GET's value or none",
    2: "a strong ETag from the content's digest, one for each coding",
    3: "Last-Modified is never later than Date, and stays while the bytes stay",
    4: "the choice of content coding honours q-values; between equals the smallest",
    5: "Vary: Accept-Encoding on every negotiated answer",
    6: "a coding that does not decode to the identity bytes is refused at publish",
    7: "If-None-Match: weak comparison, lists, *, commas inside quotes",
    8: "If-Match: strong comparison, 412",
    9: "If-Modified-Since: ignored beside If-None-Match, when invalid, for other methods; three date forms",
    10: "If-Unmodified-Since: 412",
    11: "If-Range: strong or exact date; false gives the full 200",
    12: "the order of preconditions; Range last",
    13: "Range only for GET, unknown units ignored, over identity only",
    14: "0-0, -1 and an over-long suffix are valid; -0 is not satisfiable",
    15: "416 carries Content-Range; many, overlapping or tiny ranges get the full answer",
    16: "206 and 304 repeat the fields of the 200; a 304 has no body",
    17: "GET and HEAD are answered, any other method goes to the app",
    18: "the path is matched as it came on the wire; nothing from a request becomes a file name",
    19: "root_path is stripped at a segment boundary only",
    20: "declared parameters are part of the key, tracking parameters are dropped, any other is a miss",
    21: "a trailing slash is another key; redirect_slashes gives a relative 308",
    22: "unkeyed fields never influence a body",
    23: "Cache-Control and CDN-Cache-Control with seconds, and never s-maxage",
    24: "Cache-Status, and the generation in X-Hotpath-Generation",
    25: "a page past its lifetime is served and says so",
    26: "one request never mixes two generations",
    27: "bytes are verified when they are loaded",
    28: "nothing is sent with a length that the file no longer has",
    29: "the guard's 503",
    30: "what is never shed",
    31: "WebSocket scopes pass through; a handshake is refused while shedding",
    32: "an exception in hotpath's own code costs no request",
    33: "the cost of a head is linear and bounded; what is longer than that counts as absent or is a miss",
    34: "preconditions are those of the same request without Range",
    35: "a date is a validator only where it moves with the bytes, files of other programs too",
    36: "text is encoded in the charset that its media type names",
    37: "parameters of advertising clicks are dropped, and a site's own",
    38: "redirect_slashes answers no empty segment; Location is a URI",
    39: "fields and hosts of all pages are declared; the log names middleware of the app that hot pages do not pass",
}

# The clock of the site below: published at PUBLISHED, asked an hour later.
PUBLISHED = 1_800_000_000
ASKED = PUBLISHED + 3600
DATE = "Fri, 15 Jan 2027 08:00:00 GMT"
EARLIER = "Fri, 15 Jan 2027 07:59:59 GMT"
LATER_DATE = "Fri, 15 Jan 2027 08:00:01 GMT"
DATE_RFC850 = "Friday, 15-Jan-27 08:00:00 GMT"
DATE_ASCTIME = "Fri Jan 15 08:00:00 2027"

CACHE_CONTROL = "public, max-age=60, stale-while-revalidate=600, stale-if-error=604800"
CDN_CACHE_CONTROL = "public, max-age=300, stale-while-revalidate=600, stale-if-error=604800"


@dataclass(frozen=True)
class PageData:
    """One page of the site that all rows are asked of."""

    body: bytes
    media_type: str = "application/json"
    lifetime_seconds: int = 26 * 3600
    query: tuple[str, ...] = ()
    fold_case: bool = False
    headers: tuple[tuple[str, str], ...] = ()
    cache_control: str = CACHE_CONTROL
    cdn_cache_control: str | None = CDN_CACHE_CONTROL


DIGITS = b"0123456789"
ROWS = b"[%s]" % b",".join(b'{"ticker":"A%06d","pe":%d.%d}' % (n * 7919 % 1000003, n % 40, n % 10) for n in range(60))

PAGES: Mapping[str, PageData] = {
    "/rows": PageData(ROWS),
    "/digits": PageData(DIGITS, "text/plain; charset=utf-8"),
    "/image": PageData(bytes(range(256)), "image/png"),
    "/empty": PageData(b"", "text/plain; charset=utf-8"),
    "/": PageData(b'{"page":"root"}'),
    "/a/b": PageData(b'{"page":"two segments"}'),
    "/a%2Fb": PageData(b'{"page":"one segment"}'),
    "/a%20b": PageData(b'{"page":"space"}'),
    "/caf%C3%A9": PageData(b'{"page":"cafe"}'),
    "/plus+sign": PageData(b'{"page":"plus"}'),
    "/slash/": PageData(b'{"page":"slash"}'),
    "/fold/kospi": PageData(b'{"page":"folded"}', fold_case=True),
    "/top": PageData(b'{"top":null}', query=("n", "q")),
    "/top?n=10": PageData(b'{"top":10}', query=("n", "q")),
    "/top?n=10&q=a%20b": PageData(b'{"top":10,"q":"a b"}', query=("n", "q")),
    "/stale": PageData(b'{"page":"stale"}', lifetime_seconds=60),
    "/own": PageData(
        b'{"page":"own fields"}',
        headers=(("Access-Control-Allow-Origin", "*"), ("Content-Location", "/own.json"), ("Expires", DATE)),
        cache_control="no-cache",
        cdn_cache_control=None,
    ),
    # A directory listing and a manifest are files of the store; that they exist must be of no use to a client.
    "/manifest.json": PageData(b'{"page":"no manifest"}'),
}

NO_GZIP: Mapping[str, str | None] = {"content-encoding": None}
GZIP: Mapping[str, str | None] = {"content-encoding": "gzip", "etag": "{tag-gzip}"}
BR: Mapping[str, str | None] = {"content-encoding": "br", "etag": "{tag-br}"}
ZSTD: Mapping[str, str | None] = {"content-encoding": "zstd", "etag": "{tag-zstd}"}

APP = 418


@dataclass(frozen=True)
class Case:
    """One request and its answer.

    In ``fields`` and ``expect``, ``{tag}``, ``{tag-gzip}`` … stand for the entity tags of the page, ``{length}`` for
    its length. ``fields`` are lines as on the wire, in Latin-1. A status of ``APP`` means that the request reached
    the app. ``body`` is the name of a coding, ``"smallest:"`` with several, or (start, stop), where -1 is the end;
    left out it is identity, or any coding where the request names some. ``page`` is the key that ``target`` has where
    it is not its path; ``site`` picks the options; ``scope`` replaces fields of the ASGI scope, ``None`` removes one.
    """

    line: int
    section: str
    holds: str
    target: str = "/rows"
    fields: tuple[str, ...] = ()
    status: int = 200
    expect: Mapping[str, str | None] = field(default_factory=dict)
    body: str | tuple[int, int] | None = None
    method: str = "GET"
    page: str | None = None
    site: str = "plain"
    scope: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"{self.line:02d}-{self.section}-{self.holds}"


def _length(line: int = 1) -> list[Case]:
    return [
        Case(line, "8.6", "a 200 in full", expect={"content-length": "{length}"}),
        Case(line, "8.6", "a gzip coding has its own length", fields=("Accept-Encoding: gzip",), body="gzip"),
        Case(line, "8.6", "HEAD carries the GET's", method="HEAD", expect={"content-length": "{length}"}),
        Case(line, "8.6", "HEAD of a coding", method="HEAD", fields=("Accept-Encoding: gzip",), expect=GZIP),
        Case(line, "8.6", "304 carries none", fields=("If-None-Match: {tag}",), status=304),
        Case(line, "8.6", "206 has the length of the part", fields=("Range: bytes=2-5",), status=206, body=(2, 6)),
        Case(line, "8.6", "a zero-byte page", "/empty", expect={"content-length": "0"}),
        Case(line, "8.6", "HEAD of a zero-byte page", "/empty", method="HEAD", expect={"content-length": "0"}),
        Case(line, "8.6", "412", fields=('If-Match: "x"',), status=412, expect={"content-length": "0"}),
        Case(line, "8.6", "406", fields=("Accept-Encoding: *;q=0",), status=406, expect={"content-length": "0"}),
        Case(line, "8.6", "416", fields=("Range: bytes=-0",), status=416, expect={"content-length": "0"}),
    ]


def _tags(line: int = 2) -> list[Case]:
    return [
        Case(line, "8.8.3", "the identity's tag is strong", expect={"etag": "{tag}"}),
        Case(line, "8.8.3.3", "gzip has its own", fields=("Accept-Encoding: gzip",), expect=GZIP),
        Case(line, "8.8.3.3", "br has its own", fields=("Accept-Encoding: br",), expect=BR),
        Case(line, "8.8.3.3", "zstd has its own", fields=("Accept-Encoding: zstd",), expect=ZSTD),
        Case(line, "8.8.3", "HEAD has the GET's", method="HEAD", expect={"etag": "{tag}"}),
        Case(line, "8.8.3", "a zero-byte page has one", "/empty", expect={"etag": "{tag}"}),
    ]


def _dates(line: int = 3) -> list[Case]:
    return [
        Case(line, "8.8.2", "the time of publishing", expect={"last-modified": DATE}),
        Case(line, "8.8.2", "the same on a coding", fields=("Accept-Encoding: gzip",), expect={"last-modified": DATE}),
        Case(line, "8.8.2.1", "published by a clock ahead", site="behind", expect={"last-modified": EARLIER}),
        Case(
            line,
            "8.8.2.1",
            "a clock ahead, and the clamped date is a validator",
            site="behind",
            fields=(f"If-Modified-Since: {EARLIER}",),
            status=304,
        ),
    ]


def _codings(line: int = 4) -> list[Case]:
    rows: list[tuple[str, str, str]] = [
        ("no field: identity is the safe choice", "", "identity"),
        ("gzip", "gzip", "gzip"),
        ("br", "br", "br"),
        ("zstd", "zstd", "zstd"),
        ("x-gzip is gzip (§8.4.1.3)", "x-gzip", "gzip"),
        ("names are case-insensitive (§8.4.1)", "GZip", "gzip"),
        ("what a browser sends: the smallest", "gzip, deflate, br, zstd", "smallest:gzip,br,zstd"),
        ("order is nothing", "zstd, br, gzip", "smallest:gzip,br,zstd"),
        ("gzip or zstd: the smaller", "gzip, zstd", "smallest:gzip,zstd"),
        ("a star accepts all", "*", "smallest:identity,gzip,br,zstd"),
        ("q=0 refuses", "gzip;q=0", "identity"),
        ("q=0 refuses beside a star", "gzip;q=0, *", "smallest:identity,br,zstd"),
        ("q=0.000 refuses", "gzip;q=0.000", "identity"),
        ("the higher q wins over the smaller body", "gzip;q=1, br;q=0.9, zstd;q=0.9", "gzip"),
        ("identity named with the higher q", "identity, gzip;q=0.5", "identity"),
        ("identity with the lower q", "gzip, identity;q=0.5", "gzip"),
        ("identity forbidden, gzip there", "identity;q=0, gzip", "gzip"),
        ("all but identity forbidden", "*;q=0, identity", "identity"),
        ("the star's q is of those not named", "*;q=0.1, gzip;q=0.2", "gzip"),
        ("unknown codings only: identity", "deflate, compress, dcb", "identity"),
        ("unknown, and identity unnamed", "deflate;q=1", "identity"),
        ("an empty field: identity", "-", "identity"),
        ("a malformed q is no member", "gzip;q=high, br", "br"),
        ("q above 1 is no member", "gzip;q=2, br;q=0.1", "br"),
        ("white space", "gzip ; q=0.5 ,\tbr;q=0.4", "gzip"),
        ("empty members", ", ,gzip,,", "gzip"),
    ]
    cases = [
        Case(
            line,
            "12.5.3",
            holds,
            fields=(f"Accept-Encoding: {value.replace('-', '', value == '-')}",) if value else (),
            body=body,
        )
        for holds, value, body in rows
    ]
    two_lines = ("Accept-Encoding: gzip;q=0", "Accept-Encoding: br;q=0, *")
    return [
        *cases,
        Case(line, "12.5.3", "everything forbidden: 406", fields=("Accept-Encoding: *;q=0",), status=406),
        Case(line, "12.5.3", "identity forbidden, nothing else", fields=("Accept-Encoding: identity;q=0",), status=406),
        Case(line, "5.3", "two field lines are one list", fields=two_lines, body="smallest:identity,zstd"),
        Case(line, "12.5.3", "no coding made it smaller", "/digits", ("Accept-Encoding: gzip, br",), body="identity"),
        Case(line, "12.5.3", "an image has no codings", "/image", ("Accept-Encoding: gzip, br",), body="identity"),
    ]


def _vary(line: int = 5) -> list[Case]:
    vary: Mapping[str, str | None] = {"vary": "Accept-Encoding"}
    rows: list[tuple[str, int, str, tuple[str, ...]]] = [
        ("identity", 200, "GET", ()),
        ("a coding", 200, "GET", ("Accept-Encoding: gzip",)),
        ("HEAD", 200, "HEAD", ()),
        ("HEAD of a coding", 200, "HEAD", ("Accept-Encoding: gzip",)),
        ("304", 304, "GET", ("If-None-Match: *",)),
        ("304 by date", 304, "GET", (f"If-Modified-Since: {DATE}",)),
        ("304 to HEAD", 304, "HEAD", ("If-None-Match: *",)),
        ("406", 406, "GET", ("Accept-Encoding: *;q=0",)),
        ("412", 412, "GET", ('If-Match: "x"',)),
        ("416", 416, "GET", ("Range: bytes=-0",)),
    ]
    return [
        *(
            Case(line, "12.5.5", holds, method=method, fields=fields, status=status, expect=vary)
            for holds, status, method, fields in rows
        ),
        Case(line, "12.5.5", "206", fields=("Range: bytes=0-1",), status=206, body=(0, 2), expect=vary),
        Case(line, "12.5.5", "a page that no coding made smaller is negotiated too", "/digits", expect=vary),
        Case(line, "12.5.5", "a page that has no codings is not", "/image", expect={"vary": None}),
    ]


def _if_none_match(line: int = 7) -> list[Case]:
    rows: list[tuple[str, str, int]] = [
        ("the tag", "{tag}", 304),
        ("the tag, weak", "W/{tag}", 304),
        ("star", "*", 304),
        ("star with white space", " * ", 304),
        ("another tag", '"other"', 200),
        ("a list with it", '"x", {tag}, "y"', 304),
        ("a list with it, weak", '"x",W/{tag}', 304),
        ("a list without it", '"x", "y"', 200),
        ("a comma inside quotes", '"a,b", {tag}', 304),
        ("the tag inside another's quotes is not it", '"a, {bare}"', 200),
        ("empty members", ",, {tag} ,", 304),
        ("without quotes it is no tag", "{bare}", 200),
        ("half a quote", '"{bare}', 200),
        ("w/ in lower case is no weak tag", "w/{tag}", 200),
        ("star in a list is no star", '*, "x"', 200),
        ("an empty field", "", 200),
        ("the tag of a coding that is not the one selected", "{tag-gzip}", 200),
        ("bytes above ASCII in another tag", '"caf\xe9", {tag}', 304),
    ]
    return [
        *(
            Case(line, "13.1.2", holds, fields=(f"If-None-Match: {value}",), status=status)
            for holds, value, status in rows
        ),
        Case(line, "5.3", "two field lines", fields=('If-None-Match: "x"', "If-None-Match: {tag}"), status=304),
        Case(line, "13.1.2", "HEAD", method="HEAD", fields=("If-None-Match: {tag}",), status=304),
        Case(
            line,
            "8.8.3.3",
            "gzip selected, the tag of gzip",
            fields=("Accept-Encoding: gzip", "If-None-Match: {tag-gzip}"),
            status=304,
            expect={"etag": "{tag-gzip}"},
        ),
        Case(
            line,
            "8.8.3.3",
            "gzip selected, the tag of identity",
            fields=("Accept-Encoding: gzip", "If-None-Match: {tag}"),
            body="gzip",
        ),
        Case(line, "13.1.2", "a zero-byte page", "/empty", ("If-None-Match: {tag}",), 304),
        Case(line, "13.1.2", "another method goes to the app", method="POST", fields=("If-None-Match: *",), status=APP),
    ]


def _if_match(line: int = 8) -> list[Case]:
    rows: list[tuple[str, str, int]] = [
        ("the tag", "{tag}", 200),
        ("the tag, weak: strong comparison fails", "W/{tag}", 412),
        ("another tag", '"other"', 412),
        ("star", "*", 200),
        ("a list with it", '"x", {tag}', 200),
        ("a list without it", '"x", "y"', 412),
        ("a list with it only as weak", '"x", W/{tag}', 412),
        ("a comma inside quotes", '"a,b", {tag}', 200),
        ("without quotes it is no tag", "{bare}", 412),
        ("the tag of a coding that is not the one selected", "{tag-gzip}", 412),
        ("an empty field", "", 412),
    ]
    return [
        *(Case(line, "13.1.1", holds, fields=(f"If-Match: {value}",), status=status) for holds, value, status in rows),
        Case(line, "5.3", "two field lines", fields=('If-Match: "x"', "If-Match: {tag}")),
        Case(line, "13.1.1", "HEAD", method="HEAD", fields=('If-Match: "x"',), status=412),
        Case(line, "8.8.3.3", "gzip selected", fields=("Accept-Encoding: gzip", "If-Match: {tag-gzip}"), body="gzip"),
        Case(line, "13.1.1", "PUT goes to the app", method="PUT", fields=('If-Match: "x"',), status=APP),
    ]


def _if_modified_since(line: int = 9) -> list[Case]:
    since = "If-Modified-Since: "
    rows: list[tuple[str, str, int]] = [
        ("the date", DATE, 304),
        ("a second before", EARLIER, 200),
        ("a second after", LATER_DATE, 304),
        ("far ahead", "Fri, 31 Dec 9999 23:59:59 GMT", 304),
        ("the date as RFC 850 wrote it", DATE_RFC850, 304),
        ("the date as asctime writes it", DATE_ASCTIME, 304),
        ("RFC 850, a second before", "Friday, 15-Jan-27 07:59:59 GMT", 200),
        ("asctime, a second before", "Fri Jan 15 07:59:59 2027", 200),
        ("asctime with a one-digit day", "Fri Jan  1 08:00:00 2027", 200),
        ("not a date", "yesterday", 200),
        ("empty", "", 200),
        ("a number", "1800000000", 200),
        ("another zone", "Fri, 15 Jan 2027 08:00:00 KST", 200),
        ("a day that is not", "Thu, 31 Feb 2028 08:00:00 GMT", 200),
        ("an hour that is not", "Sat, 16 Jan 2027 25:00:00 GMT", 200),
        ("something after it, as old clients send", f"{DATE}; length=42", 200),
        ("year 0", "Fri, 15 Jan 0000 08:00:00 GMT", 200),
    ]
    return [
        *(Case(line, "13.1.3", holds, fields=(since + value,), status=status) for holds, value, status in rows),
        Case(line, "13.1.3", "two field lines are no date", fields=(since + DATE, since + DATE)),
        Case(line, "13.1.3", "HEAD", method="HEAD", fields=(since + DATE,), status=304),
        Case(line, "13.1.3", "ignored beside If-None-Match that fails", fields=(since + DATE, 'If-None-Match: "x"')),
        Case(line, "13.1.3", "ignored beside an empty If-None-Match", fields=(since + DATE, "If-None-Match: ")),
        Case(line, "13.1.3", "ignored beside a match", fields=("If-None-Match: {tag}", since + EARLIER), status=304),
        Case(line, "13.1.3", "for another method it is the app's", method="POST", fields=(since + DATE,), status=APP),
        Case(
            line,
            "13.1.3",
            "a coding has the date of its page",
            fields=("Accept-Encoding: gzip", since + DATE),
            status=304,
            expect={"etag": "{tag-gzip}"},
        ),
    ]


def _if_unmodified_since(line: int = 10) -> list[Case]:
    since = "If-Unmodified-Since: "
    rows: list[tuple[str, str, int]] = [
        ("the date", DATE, 200),
        ("a second after", LATER_DATE, 200),
        ("a second before", EARLIER, 412),
        ("a second before, RFC 850", "Friday, 15-Jan-27 07:59:59 GMT", 412),
        ("a second before, asctime", "Fri Jan 15 07:59:59 2027", 412),
        ("not a date", "yesterday", 200),
        ("empty", "", 200),
    ]
    return [
        *(Case(line, "13.1.4", holds, fields=(since + value,), status=status) for holds, value, status in rows),
        Case(line, "13.1.4", "two field lines are no date", fields=(since + EARLIER, since + EARLIER)),
        Case(line, "13.1.4", "HEAD", method="HEAD", fields=(since + EARLIER,), status=412),
        Case(line, "13.1.4", "ignored beside If-Match", fields=(since + EARLIER, "If-Match: {tag}")),
    ]


def _if_range(line: int = 11) -> list[Case]:
    part = "Range: bytes=0-3"
    rows: list[tuple[str, str, int]] = [
        ("the tag", "{tag}", 206),
        ("the tag, weak", "W/{tag}", 200),
        ("another tag", '"other"', 200),
        ("the tag of a coding", "{tag-gzip}", 200),
        ("the date", DATE, 206),
        ("the date, asctime", DATE_ASCTIME, 206),
        ("a later date is no exact match", LATER_DATE, 200),
        ("an earlier date", EARLIER, 200),
        ("a list is no validator", "{tag}, {tag}", 200),
        ("star is no validator", "*", 200),
        ("nonsense", "soon", 200),
        ("empty", "", 200),
    ]
    return [
        *(
            Case(line, "13.1.5", holds, fields=(part, f"If-Range: {value}"), status=status)
            if status == 200
            else Case(line, "13.1.5", holds, fields=(part, f"If-Range: {value}"), status=206, body=(0, 4))
            for holds, value, status in rows
        ),
        Case(line, "13.1.5", "without Range it is ignored", fields=('If-Range: "other"',)),
        Case(line, "13.1.5", "false, and a range outside", fields=("Range: bytes=-0", 'If-Range: "other"')),
        Case(line, "13.1.5", "true, and a range outside", fields=("Range: bytes=-0", "If-Range: {tag}"), status=416),
        Case(
            line,
            "13.1.5",
            "false, and gzip acceptable: the full answer is coded",
            fields=(part, 'If-Range: "other"', "Accept-Encoding: gzip"),
            body="gzip",
        ),
        Case(
            line,
            "13.1.5",
            "two field lines are no validator",
            fields=(part, "If-Range: {tag}", "If-Range: {tag}"),
        ),
    ]


def _order(line: int = 12) -> list[Case]:
    part = "Range: bytes=0-3"
    return [
        Case(line, "13.2.2", "If-Match fails before If-None-Match is asked",
             fields=('If-Match: "x"', "If-None-Match: {tag}"), status=412),
        Case(line, "13.2.2", "If-Match holds, If-None-Match gives 304",
             fields=("If-Match: {tag}", "If-None-Match: {tag}"), status=304),
        Case(line, "13.2.2", "If-Unmodified-Since fails before If-None-Match",
             fields=(f"If-Unmodified-Since: {EARLIER}", "If-None-Match: {tag}"), status=412),
        Case(line, "13.2.2", "If-Unmodified-Since fails before If-Modified-Since",
             fields=(f"If-Unmodified-Since: {EARLIER}", f"If-Modified-Since: {DATE}"), status=412),
        Case(line, "13.2.2", "both dates hold: 304 by the second",
             fields=(f"If-Unmodified-Since: {DATE}", f"If-Modified-Since: {DATE}"), status=304),
        Case(line, "13.2.2", "304 before a range", fields=(part, "If-None-Match: {tag}"), status=304),
        Case(line, "13.2.2", "304 by date before a range", fields=(part, f"If-Modified-Since: {DATE}"), status=304),
        Case(line, "13.2.2", "304 before 416", fields=("Range: bytes=-0", "If-None-Match: {tag}"), status=304),
        Case(line, "13.2.2", "412 before a range", fields=(part, 'If-Match: "x"'), status=412),
        Case(line, "13.2.2", "412 before 416", fields=("Range: bytes=-0", 'If-Match: "x"'), status=412),
        Case(line, "13.2.2", "a failed If-None-Match lets the range through",
             fields=(part, 'If-None-Match: "x"'), status=206, body=(0, 4)),
        Case(line, "13.2.2", "If-Match and a range, as a download goes on",
             fields=("Range: bytes=4-", "If-Match: {tag}"), status=206, body=(4, -1)),
        Case(line, "13.2.2", "all that hold, and a range",
             fields=(part, "If-Match: {tag}", 'If-None-Match: "x"', "If-Range: {tag}"), status=206, body=(0, 4)),
        Case(line, "13.2.2", "304 wins over If-Range", fields=(part, "If-None-Match: *", "If-Range: {tag}"),
             status=304),
    ]  # fmt: skip


def _range_scope(line: int = 13) -> list[Case]:
    part = "Range: bytes=0-3"
    return [
        Case(line, "14.2", "GET", fields=(part,), status=206, body=(0, 4)),
        Case(line, "14.2", "HEAD: the field is ignored", method="HEAD", fields=(part,),
             expect={"content-length": "{length}", "content-range": None}),
        Case(line, "14.2", "HEAD with a range outside is no 416", method="HEAD", fields=("Range: bytes=-0",)),
        Case(line, "14.2", "POST goes to the app", method="POST", fields=(part,), status=APP),
        Case(line, "14.2", "an unknown unit", fields=("Range: lines=0-3",)),
        Case(line, "14.2", "a unit that only looks alike", fields=("Range: bytess=0-3",)),
        Case(line, "14.1", "the unit is case-insensitive", fields=("Range: BYTES=0-3",), status=206, body=(0, 4)),
        Case(line, "14.2", "a range of identity though gzip is wanted", fields=(part, "Accept-Encoding: gzip"),
             status=206, body=(0, 4), expect={"content-encoding": None, "etag": "{tag}"}),
        Case(line, "14.2", "identity forbidden: the field is ignored, the coding is sent",
             fields=(part, "Accept-Encoding: gzip, identity;q=0"), body="gzip"),
        Case(line, "14.2", "nothing acceptable", fields=(part, "Accept-Encoding: *;q=0"), status=406),
        Case(line, "14.2", "a page that has no codings", "/image", fields=("Range: bytes=250-",), status=206,
             body=(250, 256)),
        Case(line, "14.2", "a stale page", "/stale", fields=("Range: bytes=1-2",), status=206, body=(1, 3)),
    ]  # fmt: skip


def _valid_ranges(line: int = 14) -> list[Case]:
    rows: list[tuple[str, str, int, int]] = [
        ("the first byte", "0-0", 0, 1),
        ("the last byte", "-1", 9, 10),
        ("the last three", "-3", 7, 10),
        ("an over-long suffix is the whole", "-99", 0, 10),
        ("a suffix beyond all numbers", "-" + "9" * 400, 0, 10),
        ("open", "4-", 4, 10),
        ("all", "0-", 0, 10),
        ("the end beyond the last byte", "7-99", 7, 10),
        ("the end beyond all numbers", "7-" + "9" * 400, 7, 10),
        ("the last byte by position", "9-9", 9, 10),
        ("leading zeros", "0007-00000008", 7, 9),
    ]
    outside: list[tuple[str, str]] = [
        ("-0", "-0"),
        ("-000", "-000"),
        ("behind the end", "10-"),
        ("far behind the end", "10-99"),
        ("beyond all numbers", "9" * 400 + "-"),
    ]
    return [
        *(
            Case(
                line,
                "14.1.2",
                holds,
                "/digits",
                (f"Range: bytes={value}",),
                206,
                {"content-range": f"bytes {start}-{stop - 1}/10"},
                (start, stop),
            )
            for holds, value, start, stop in rows
        ),
        *(
            Case(line, "14.1.2", holds, "/digits", (f"Range: bytes={value}",), 416, {"content-range": "bytes */10"})
            for holds, value in outside
        ),
        *(
            Case(
                line,
                "15.5.17",
                f"a zero-byte page holds no range: {value}",
                "/empty",
                (f"Range: bytes={value}",),
                416,
                {"content-range": "bytes */0"},
            )
            for value in ("0-", "0-0", "-1", "-0")
        ),
        Case(line, "14.2", "a zero-byte page, an unknown unit", "/empty", ("Range: lines=0-",)),
        Case(line, "13.2.2", "a zero-byte page, 304 first", "/empty", ("Range: bytes=0-", "If-None-Match: {tag}"), 304),
    ]


def _refused_ranges(line: int = 15) -> list[Case]:
    rows: list[tuple[str, str]] = [
        ("two ranges", "bytes=0-1,4-5"),
        ("two ranges with white space", "bytes=0-1, -1"),
        ("overlapping", "bytes=0-5,3-8"),
        ("the same ten times", "bytes=" + ",".join(["0-"] * 10)),
        ("a thousand", "bytes=" + ",".join(f"{n}-{n}" for n in range(1000))),
        ("one of two outside", "bytes=0-1,99-"),
        ("both outside", "bytes=98-,99-"),
        ("the end before the start", "bytes=5-4"),
        ("no numbers", "bytes=-"),
        ("nothing", "bytes="),
        ("letters", "bytes=a-b"),
        ("white space", "bytes= 0-1"),
        ("white space before the equals sign", "bytes =0-1"),
        ("three numbers", "bytes=1-2-3"),
        ("a sign", "bytes=--1"),
        ("a number alone", "bytes=5"),
        ("digits of another script", "bytes=\xb2-\xb3"),
        ("an empty field", ""),
        ("only a unit", "bytes"),
    ]
    return [
        Case(line, "15.5.17", "416 says how long the page is", "/digits", ("Range: bytes=10-",), 416,
             {"content-range": "bytes */10"}),
        Case(line, "14.4", "416 of a coded page tells the identity's length", fields=("Range: bytes=99999-",
             "Accept-Encoding: gzip"), status=416, expect={"content-range": "bytes */{length}"}),
        Case(line, "15.5.17", "a cache may not keep it in the page's place", "/digits", ("Range: bytes=10-",), 416,
             {"etag": None, "last-modified": None, "cache-control": None, "cdn-cache-control": None}),
        *(Case(line, "14.2", holds, "/digits", (f"Range: {value}",)) for holds, value in rows),
        Case(line, "14.2", "two field lines", "/digits", ("Range: bytes=0-1", "Range: bytes=0-1")),
    ]  # fmt: skip


def _repeated(line: int = 16) -> list[Case]:
    whole: Mapping[str, str | None] = {
        "etag": "{tag}",
        "cache-control": CACHE_CONTROL,
        "cdn-cache-control": CDN_CACHE_CONTROL,
        "vary": "Accept-Encoding",
    }
    own: Mapping[str, str | None] = {
        "cache-control": "no-cache",
        "expires": DATE,
        "content-location": "/own.json",
        "access-control-allow-origin": "*",
    }
    return [
        Case(line, "15.3.7", "206", fields=("Range: bytes=0-0",), status=206, body=(0, 1), expect=whole),
        Case(line, "15.3.7", "206 has the type too", fields=("Range: bytes=0-0",), status=206, body=(0, 1),
             expect={"content-type": "application/json", "last-modified": DATE}),
        Case(line, "15.3.7", "206 of a page with fields of its own", "/own", ("Range: bytes=0-0",), 206, own, (0, 1)),
        Case(line, "15.4.5", "304", fields=("If-None-Match: *",), status=304, expect=whole),
        Case(line, "15.4.5", "304 by date", fields=(f"If-Modified-Since: {DATE}",), status=304, expect=whole),
        Case(line, "15.4.5", "304 of a page with fields of its own", "/own", ("If-None-Match: *",), 304, own),
        Case(line, "15.4.5", "304 has no fields of a body", fields=("Accept-Encoding: gzip", "If-None-Match: *"),
             status=304, expect={"content-type": None, "content-encoding": None, "content-length": None}),
        Case(line, "15.4.5", "304 of a page without CDN-Cache-Control", "/own", ("If-None-Match: *",), 304,
             {"cdn-cache-control": None}),
    ]  # fmt: skip


def _methods(line: int = 17) -> list[Case]:
    others = ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "QUERY", "get", "")
    return [
        Case(line, "9.3.1", "GET"),
        Case(line, "9.3.2", "HEAD", method="HEAD"),
        Case(line, "9.3.2", "HEAD of a query", "/top?n=10", method="HEAD"),
        *(
            Case(line, "9.1", f"{method or 'no method'} goes to the app", method=method, status=APP)
            for method in others
        ),
        Case(
            line,
            "9.3.7",
            "a CORS preflight goes to the app",
            method="OPTIONS",
            fields=("Origin: https://example.org", "Access-Control-Request-Method: GET"),
            status=APP,
        ),
    ]


def _paths(line: int = 18) -> list[Case]:
    spellings: list[tuple[str, str]] = [
        ("/%72ows", "/rows"),
        ("/%72%6F%77%73", "/rows"),
        ("/%72%6f%77%73", "/rows"),
        ("/a/b", "/a/b"),
        ("/a%2Fb", "/a%2Fb"),
        ("/a%2fb", "/a%2Fb"),
        ("/%61%2fb", "/a%2Fb"),
        ("/a%20b", "/a%20b"),
        ("/caf%c3%a9", "/caf%C3%A9"),
        ("/plus+sign", "/plus+sign"),
        ("/plus%2Bsign", "/plus+sign"),
        ("/manifest.json", "/manifest.json"),
        ("/fold/KOSPI", "/fold/kospi"),
        ("/Fold/Kospi", "/fold/kospi"),
        ("/FOLD/%4B%4f%53%50%49", "/fold/kospi"),
        ("/", "/"),
    ]
    misses: list[tuple[str, str]] = [
        ("another page", "/other"),
        ("another case", "/ROWS"),
        ("a prefix", "/row"),
        ("a longer name", "/rowss"),
        ("below a page", "/rows/1"),
        ("two slashes", "//rows"),
        ("a slash for %2F", "/a//b"),
        ("%2F for a slash", "/%2Frows"),
        ("encoded twice", "/%2572ows"),
        ("%2F encoded twice", "/a%252Fb"),
        ("NUL", "/rows%00"),
        ("NUL and more", "/rows%00.html"),
        ("a backslash", "/a%5Cb"),
        ("a bare backslash", "/a\\b"),
        ("dot segments", "/x/../rows"),
        ("encoded dot segments", "/x/%2e%2e/rows"),
        ("half-encoded dot segments", "/x/.%2E/rows"),
        ("a dot", "/./rows"),
        ("an encoded dot", "/%2E/rows"),
        ("up and out", "/../../../../etc/passwd"),
        ("up and out, encoded", "/%2e%2e%2f%2e%2e%2fetc/passwd"),
        ("the store's own files", "/../manifest.json"),
        ("the store's pointer", "/current"),
        ("a generation", "/generations/00000001/files/rows"),
        ("a precompressed neighbour", "/rows.json.gz"),
        ("half an escape", "/rows%"),
        ("half an escape more", "/rows%7"),
        ("no escape", "/rows%zz"),
        ("a line end", "/rows%0A"),
        ("a parameter in the path", "/rows;v=1"),
        ("UTF-8 that is too long for its character", "/%c0%afrows"),
        ("not UTF-8", "/%ff%fe"),
        ("bytes above ASCII", "/caf\xc3\xa9x"),
        ("an empty path", ""),
        ("a star", "*"),
        ("a whole URL of another scheme", "ftp://example.org/rows"),
        ("half a URL", "http:/rows"),
        ("a whole URL of no page", "http://example.org/nothing"),
        ("a long path", "/" + "a" * 60_000),
        ("many segments", "/a" * 30_000),
        ("many escapes", "/" + "%61" * 20_000),
    ]
    return [
        *(Case(line, "3986 6.2.2", f"{target} is {page}", target, page=page) for target, page in spellings),
        *(Case(line, "4.2", holds, target, status=APP, scope=_raw(target)) for holds, target in misses),
        Case(line, "3986 6.2.2", "UTF-8 in the raw path", scope={"raw_path": "/café".encode()}, page="/caf%C3%A9"),
        Case(line, "ASGI", "a server that gives no raw_path", scope={"raw_path": None}),
        Case(line, "ASGI", "no raw_path, a space", "/a%20b", scope={"raw_path": None}),
        Case(line, "ASGI", "no raw_path, not ASCII", "/caf%C3%A9", scope={"raw_path": None}),
        Case(line, "ASGI", "no raw_path: %2F has become a slash", "/a%2Fb", scope={"raw_path": None}, page="/a/b"),
        Case(line, "ASGI", "no raw_path: a percent sign is one", "/%2572ows", scope={"raw_path": None}, status=APP),
        Case(line, "ASGI", "no raw_path: dot segments", "/x/../rows", scope={"raw_path": None}, status=APP),
        Case(line, "ASGI", "no raw_path: NUL", "/rows%00", scope={"raw_path": None}, status=APP),
    ]


def _raw(target: str) -> dict[str, Any]:
    """The path of a target as it stands, since the client in ``hotpath.testing`` would mend it."""
    return {"raw_path": target.encode("latin-1")} if target else {"raw_path": b"", "path": ""}


def _mounts(line: int = 19) -> list[Case]:
    rows: list[tuple[str, str, str, int]] = [
        ("the server gives the whole path", "/api/rows", "/api", 200),
        ("the server gives the path below it", "/rows", "/api", 200),
        ("no prefix at a segment boundary", "/apirows", "/api", APP),
        ("no prefix, but longer", "/apix/rows", "/api", APP),
        ("stripped once", "/api/api/rows", "/api", APP),
        ("two segments", "/v1/api/rows", "/v1/api", 200),
        ("half of two segments", "/v1/rows", "/v1/api", APP),
        ("a slash at the end of it", "/api/rows", "/api/", 200),
        ("a slash alone", "/rows", "/", 200),
        ("a space in it", "/a%20b/rows", "/a b", 200),
        ("an escape in it is none", "/a%252/rows", "/a%2", 200),
        ("dot segments below it", "/api/../rows", "/api", APP),
        ("the mount point itself is its root", "/api/", "/api", 200),
    ]
    return [
        *(
            Case(
                line,
                "ASGI",
                holds,
                target,
                status=status,
                scope={"root_path": root},
                page="/" if target == "/api/" else "/rows",
            )
            for holds, target, root, status in rows
        ),
        Case(line, "ASGI", "conditions below a mount", "/api/rows", ("If-None-Match: {tag}",), 304,
             page="/rows", scope={"root_path": "/api"}),
        Case(line, "ASGI", "a query below a mount", "/api/top?n=10", page="/top?n=10", scope={"root_path": "/api"}),
        Case(line, "ASGI", "HEAD below a mount", "/api/rows", method="HEAD", page="/rows",
             scope={"root_path": "/api"}),
        Case(line, "ASGI", "no root_path in the scope", scope={"root_path": None}),
        Case(line, "ASGI", "root_path, and no raw_path", "/api/rows", page="/rows",
             scope={"root_path": "/api", "raw_path": None}),
        Case(line, "3986 6.2.2", "a mount point in another spelling is no part of a key", "/%61/b", status=APP,
             scope={"root_path": "/a"}),
    ]  # fmt: skip


def _queries(line: int = 20) -> list[Case]:
    hits: list[tuple[str, str, str]] = [
        ("declared", "/top?n=10", "/top?n=10"),
        ("declared, in another spelling", "/top?n=%31%30", "/top?n=10"),
        ("its name in another spelling", "/top?%6E=10", "/top?n=10"),
        ("two, sorted", "/top?n=10&q=a%20b", "/top?n=10&q=a%20b"),
        ("two, in the other order", "/top?q=a%20b&n=10", "/top?n=10&q=a%20b"),
        ("a plus for a space", "/top?n=10&q=a+b", "/top?n=10&q=a%20b"),
        ("a tracking parameter is dropped", "/rows?utm_source=mail", "/rows"),
        ("all tracking parameters", "/rows?utm_source=a&utm_campaign=b&gclid=c&fbclid=d&msclkid=e", "/rows"),
        ("a tracking parameter without value", "/rows?gclid", "/rows"),
        ("tracking around a declared one", "/top?fbclid=1&n=10&utm_medium=x", "/top?n=10"),
        ("an empty query", "/rows?", "/rows"),
        ("empty members", "/rows?&&", "/rows"),
        ("empty members around a declared one", "/top?&n=10&", "/top?n=10"),
        ("none of the declared ones", "/top", "/top"),
        ("only tracking on a route with a query", "/top?utm_source=x", "/top"),
    ]
    misses: list[tuple[str, str]] = [
        ("any other parameter", "/rows?x=1"),
        ("any other beside a declared one", "/top?n=10&x=1"),
        ("any other beside tracking", "/rows?utm_source=a&x=1"),
        ("a value that was not built", "/top?n=11"),
        ("a repeated parameter", "/top?n=10&n=10"),
        ("an empty value", "/top?n="),
        ("no value", "/top?n"),
        ("another case of the name", "/top?N=10"),
        ("a declared parameter of another route", "/rows?n=10"),
        ("another case of tracking", "/rows?UTM_SOURCE=a"),
        ("a name that only begins like tracking", "/rows?gclidx=1"),
        ("a name that is not UTF-8", "/rows?%ff=1"),
        ("half an escape", "/rows?%=1"),
        ("a semicolon is no separator", "/top?n=10;utm_source=x"),
        ("a question mark in the query", "/top?n=10?utm_source=x"),
        ("ten thousand parameters", "/rows?" + "&".join(f"p{n}=1" for n in range(10_000))),
    ]
    return [
        *(Case(line, "3986 3.4", holds, target, page=page) for holds, target, page in hits),
        *(Case(line, "3986 3.4", holds, target, status=APP) for holds, target in misses),
        Case(line, "13.1.2", "304 of a page with a query", "/top?n=10", ("If-None-Match: {tag}",), 304),
        Case(line, "14.2", "a part of a page with a query", "/top?n=10&gclid=1", ("Range: bytes=0-1",), 206,
             body=(0, 2), page="/top?n=10"),
    ]  # fmt: skip


def _slashes(line: int = 21) -> list[Case]:
    moved: list[tuple[str, str, str]] = [
        ("a slash too much", "/rows/", "../rows"),
        ("a slash too little", "/slash", "./slash/"),
        ("the query stays", "/rows/?utm_source=x", "../rows?utm_source=x"),
        ("a declared query stays", "/top/?n=10", "../top?n=10"),
        ("two segments", "/a/b/", "../b"),
        ("percent-encoding stays", "/a%20b/", "../a%20b"),
        ("below a mount nothing has to be known", "/api/rows/", "../rows"),
    ]
    return [
        Case(line, "3986 6.2.2", "a slash too much is another key", "/rows/", status=APP),
        Case(line, "3986 6.2.2", "a slash too little is another key", "/slash", status=APP),
        *(
            Case(
                line,
                "15.4.9",
                holds,
                target,
                status=308,
                expect={"location": location, "content-length": "0"},
                site="slashes",
                scope={"root_path": "/api"} if target.startswith("/api") else {},
            )
            for holds, target, location in moved
        ),
        Case(line, "15.4.9", "HEAD is redirected too", "/rows/", method="HEAD", status=308, site="slashes"),
        Case(line, "15.4.9", "a POST is the app's", "/rows/", method="POST", status=APP, site="slashes"),
        Case(line, "15.4.9", "no page on the other side", "/other/", status=APP, site="slashes"),
        Case(line, "15.4.9", "two slashes are not one", "/rows//", status=APP, site="slashes"),
        Case(line, "15.4.9", "another host cannot be named", "//example.org/", status=APP, site="slashes"),
        Case(line, "15.4.9", "a query that makes it a miss", "/rows/?x=1", status=APP, site="slashes"),
        Case(line, "15.4.9", "the page itself", "/slash/", site="slashes"),
        Case(line, "15.4.9", "the root stays", "/", site="slashes"),
    ]


UNKEYED = (
    "Host: other.example",
    "Host: ",
    "X-Forwarded-Host: evil.example",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Prefix: /api",
    "X-Forwarded-For: 203.0.113.9",
    "Forwarded: host=evil.example;proto=https",
    "X-Original-URL: /digits",
    "X-Rewrite-URL: /digits",
    "X-HTTP-Method-Override: DELETE",
    "Authorization: Bearer secret",
    "Cookie: session=secret",
    "Accept: text/html",
    "Accept-Language: ko",
    "Accept-Charset: iso-8859-1",
    "User-Agent: Mozilla/5.0",
    "Origin: https://evil.example",
    "Cache-Control: no-cache",
    "Cache-Control: no-store",
    "Pragma: no-cache",
    "Save-Data: on",
    "TE: trailers",
    "Expect: 100-continue",
    "Upgrade: h2c",
    "Content-Type: text/html",
    "X-Unknown: \xff\xfe\x80",
)


def _unkeyed(line: int = 22) -> list[Case]:
    return [Case(line, "9111 4.1", f"{field_line!r} changes nothing", fields=(field_line,)) for field_line in UNKEYED]


def _freshness(line: int = 23) -> list[Case]:
    both: Mapping[str, str | None] = {"cache-control": CACHE_CONTROL, "cdn-cache-control": CDN_CACHE_CONTROL}
    return [
        Case(line, "9111 5.2.2", "the defaults, with seconds", expect=both),
        Case(line, "9111 5.2.2", "the defaults to HEAD", method="HEAD", expect=both),
        Case(line, "9213 3", "a page with its own, none for the edge", "/own",
             expect={"cache-control": "no-cache", "cdn-cache-control": None}),
    ]  # fmt: skip


def _status(line: int = 24) -> list[Case]:
    hit: Mapping[str, str | None] = {"cache-status": "hotpath; hit; ttl=90000", "x-hotpath-generation": "1"}
    quiet: Mapping[str, str | None] = {"cache-status": "hotpath; hit; ttl=90000", "x-hotpath-generation": None}
    return [
        Case(line, "9211 2", "200", expect=hit),
        Case(line, "9211 2", "HEAD", method="HEAD", expect=hit),
        Case(line, "9211 2", "206", fields=("Range: bytes=0-0",), status=206, body=(0, 1), expect=hit),
        Case(line, "9211 2", "304", fields=("If-None-Match: *",), status=304, expect=hit),
        Case(line, "9211 2", "412", fields=('If-Match: "x"',), status=412, expect=hit),
        Case(line, "9211 2", "the generation switched off", site="quiet", expect=quiet),
        Case(line, "9211 2", "switched off, 304", site="quiet", fields=("If-None-Match: *",), status=304, expect=quiet),
    ]  # fmt: skip


def _stale(line: int = 25) -> list[Case]:
    stale: Mapping[str, str | None] = {"cache-status": "hotpath; hit; ttl=-3540"}
    return [
        Case(line, "9211 2.5", "200 with a negative ttl", "/stale", expect=stale),
        Case(line, "9211 2.5", "304", "/stale", ("If-None-Match: {tag}",), 304, stale),
        Case(
            line, "9211 2.5", "its fields are those of a fresh one", "/stale", expect={"cache-control": CACHE_CONTROL}
        ),
    ]


def _malformed() -> list[Case]:
    """Heads that make no sense get the answer of the section that reads the field, never a 500 (lines by field)."""
    huge = 64 * 1024
    return [
        Case(7, "13.1.2", "64 KiB of tags without the right one", fields=("If-None-Match: " + '"x",' * (huge // 4),)),
        Case(7, "13.1.2", "64 KiB of tags and the right one",
             fields=("If-None-Match: " + '"x",' * (huge // 4) + "{tag}",)),
        Case(7, "13.1.2", "64 KiB of quotes", fields=("If-None-Match: " + '"' * huge,)),
        Case(7, "13.1.2", "64 KiB of commas", fields=("If-None-Match: " + "," * huge,)),
        Case(7, "13.1.2", "64 KiB of spaces", fields=("If-None-Match: " + " " * huge,)),
        Case(7, "13.1.2", "64 KiB of W/", fields=("If-None-Match: " + "W/" * (huge // 2),)),
        Case(7, "13.1.2", "one tag that is never closed", fields=('If-None-Match: "' + "a" * huge,)),
        Case(8, "13.1.1", "64 KiB of tags without the right one", fields=("If-Match: " + '"x",' * (huge // 4),)),
        Case(4, "12.5.3", "64 KiB of codings", fields=("Accept-Encoding: " + "x;q=0.1," * (huge // 8),)),
        Case(4, "12.5.3", "64 KiB of commas", fields=("Accept-Encoding: " + "," * huge,)),
        Case(4, "12.5.3", "64 KiB of digits in a q", fields=("Accept-Encoding: gzip;q=0." + "1" * huge,)),
        Case(4, "12.5.3", "bytes above ASCII", fields=("Accept-Encoding: \xff\xfe, gzip",), body="gzip"),
        Case(4, "12.5.3", "NUL and controls", fields=("Accept-Encoding: gz\x00ip, \x01",)),
        Case(15, "14.2", "64 KiB of ranges", fields=("Range: bytes=" + "0-," * (huge // 3),)),
        Case(15, "14.2", "64 KiB of digits", fields=("Range: bytes=0-" + "1" * huge,)),
        Case(15, "14.2", "64 KiB of dashes", fields=("Range: bytes=" + "-" * huge,)),
        Case(15, "14.2", "bytes above ASCII", fields=("Range: bytes=\xff-\xfe",)),
        Case(9, "13.1.3", "64 KiB of date", fields=("If-Modified-Since: " + "Fri, " * (huge // 5),)),
        Case(9, "13.1.3", "bytes above ASCII", fields=("If-Modified-Since: \xef\xbb\xbf" + DATE,)),
        Case(11, "13.1.5", "64 KiB of tag", fields=("Range: bytes=0-3", 'If-Range: "' + "a" * huge + '"')),
        Case(22, "5.3", "every field twice, and nonsense",
             fields=("Accept-Encoding: ;;", "Accept-Encoding: \x80", "If-None-Match: \x00", "If-None-Match: W/",
                     "If-Modified-Since: x", "If-Modified-Since: y", "Range: ", "Range: =", "If-Range: W/",
                     "If-Range: W/", "If-Unmodified-Since: -1", "If-Unmodified-Since: 99")),
        Case(22, "5.3", "two thousand field lines", fields=tuple(f"X-{n}: 1" for n in range(2000))),
        Case(22, "5.3", "a thousand lines of If-None-Match", fields=('If-None-Match: "x"',) * 1000),
    ]  # fmt: skip


def _bounded(line: int = 33) -> list[Case]:
    """What fits is read, one byte or line more is not; and what stopped a worker once."""
    tags = '"x",' * 2000
    fits = tags + " " * (8192 - len(tags) - 26) + "{tag}"
    one_gzip = ("Accept-Encoding: gzip",)
    return [
        Case(line, "15.5.5", "a list of tags of 8 KiB", fields=("If-None-Match: " + fits,), status=304),
        Case(line, "15.5.5", "64 lines", fields=('If-None-Match: "x"',) * 63 + ("If-None-Match: {tag}",), status=304),
        Case(line, "15.5.5", "65 lines", fields=('If-None-Match: "x"',) * 64 + ("If-None-Match: {tag}",)),
        Case(line, "15.5.5", "65 lines of If-Match", fields=('If-Match: "x"',) * 65),
        Case(line, "15.5.5", "65 lines of a coding: none is named", fields=one_gzip * 65, body="identity"),
        Case(line, "15.5.5", "64 lines of a coding", fields=one_gzip * 64, body="gzip"),
        Case(line, "15.5.5", "a megabyte of commas", fields=("Accept-Encoding: " + "," * 1_000_000 + "gzip",),
             body="identity"),
        Case(line, "15.5.5", "many lines of Range", fields=("Range:a",) * 40_000),
        Case(line, "13.1.5", "without its If-Range a range is not answered",
             fields=("Range: bytes=0-3",) + ("If-Range: x",) * 65),
        Case(line, "13.1.5", "nor with one far down", fields=("Range: bytes=0-3", *("X: y",) * 1000, "If-Range: x")),
        Case(line, "15.5.5", "a field below a thousand lines", fields=(*("X: y",) * 1000, *one_gzip), body="identity"),
        Case(line, "15.5.5", "a field in the first thousand lines", fields=(*("X: y",) * 900, *one_gzip), body="gzip"),
        Case(line, "15.5.15", "60 KB of slashes", "/" * 60_000, status=APP),
        Case(line, "15.5.15", "8 KiB of slashes", "/" * 8192, status=APP),
        Case(line, "15.5.15", "a query of 8 KiB that is dropped", "/rows?" + "&" * 8192, page="/rows"),
        Case(line, "15.5.15", "and of one byte more", "/rows?" + "&" * 8193, status=APP),
        Case(line, "15.5.15", "a declared query of 60 KB", "/top?" + "n=1&" * 15_000, status=APP),
        Case(line, "15.5.15", "a declared query of 8 KB", "/top?" + "n=1&" * 2_000, status=APP),
        Case(line, "15.5.15", "a long path without its bytes", status=APP,
             scope={"raw_path": None, "path": "/é" * 30_000}),
        Case(line, "15.5.15", "a long path at a mount point", "/m" + "/a" * 30_000, status=APP,
             scope={"root_path": "/m"}),
    ]  # fmt: skip


def _without_range(line: int = 34) -> list[Case]:
    gzip, part, outside = "Accept-Encoding: gzip", "Range: bytes=0-9", "Range: bytes=99999999-"
    return [
        Case(line, "13.2.2", "the coded page is there", fields=(gzip, part, "If-None-Match: {tag-gzip}"), status=304),
        Case(line, "13.2.2", "and the range outside", fields=(gzip, outside, "If-None-Match: {tag-gzip}"), status=304),
        Case(line, "13.2.2", "by date", fields=(gzip, part, f"If-Modified-Since: {DATE}"), status=304,
             expect={"etag": "{tag-gzip}"}),
        Case(line, "13.2.2", "the identity is there, and gzip would come",
             fields=(gzip, part, "If-None-Match: {tag}"), status=206, body=(0, 10)),
        Case(line, "13.1.1", "If-Match of the coded page: no part of other bytes",
             fields=(gzip, part, "If-Match: {tag-gzip}"), body="gzip"),
        Case(line, "13.1.1", "nor a 416", fields=(gzip, outside, "If-Match: {tag-gzip}"), body="gzip"),
        Case(line, "13.1.1", "both tags: a part", fields=(gzip, part, "If-Match: {tag-gzip}, {tag}"), status=206,
             body=(0, 10)),
        Case(line, "13.1.1", "star: a part", fields=(gzip, part, "If-Match: *"), status=206, body=(0, 10)),
        Case(line, "13.1.1", "If-Match of the identity where gzip would come", fields=(gzip, part, "If-Match: {tag}"),
             status=412),
        Case(line, "13.1.4", "unmodified since: a part", fields=(gzip, part, f"If-Unmodified-Since: {DATE}"),
             status=206, body=(0, 10)),
        Case(line, "13.1.4", "modified since", fields=(gzip, part, f"If-Unmodified-Since: {EARLIER}"), status=412),
        Case(line, "13.1.5", "If-Range of the identity: a part of it", fields=(gzip, part, "If-Range: {tag}"),
             status=206, body=(0, 10)),
        Case(line, "13.1.5", "If-Range of the coded page: all of it", fields=(gzip, part, "If-Range: {tag-gzip}"),
             body="gzip"),
        Case(line, "13.2.2", "HEAD", method="HEAD", fields=(gzip, outside, "If-None-Match: {tag-gzip}"), status=304),
        Case(line, "12.5.3", "nothing is acceptable", fields=("Accept-Encoding: *;q=0", part), status=406),
    ]  # fmt: skip


def _tracking(line: int = 37) -> list[Case]:
    names = (
        "gad_source gad_campaignid gclid gbraid wbraid dclid fbclid msclkid yclid ysclid ttclid twclid li_fat_id"
        " mc_cid mc_eid _ga _gl srsltid utm_source utm_id igsh igshid epik ScCid mkt_tok _hsenc __hstc _kx mtm_source"
    ).split()
    return [
        *(Case(line, "3986 3.4", f"{name} is dropped", f"/rows?{name}=x", page="/rows") for name in names),
        *(Case(line, "3986 3.4", f"{name} is dropped beside a key", f"/top?n=10&{name}=", page="/top?n=10")
          for name in ("gad_source", "_gl")),
        *(Case(line, "3986 3.4", f"{name} may choose a page", f"/rows?{name}=x", status=APP)
          for name in ("gad", "gadx", "Gad_source", "ref", "source", "id", "ga")),
        Case(line, "3986 3.4", "in another spelling", "/rows?%67ad_source=1", page="/rows"),
        Case(line, "3986 3.4", "a site's own", "/rows?ref=x&partner_a=1&gad_source=1", page="/rows", site="ignoring"),
        Case(line, "3986 3.4", "a site's own, and no other", "/rows?ref=x&refx=1", status=APP, site="ignoring"),
        Case(line, "3986 3.4", "a site's own that a route declares", "/top?q=a%20b&n=10&ref=1",
             page="/top?n=10&q=a%20b", site="ignoring"),
    ]  # fmt: skip


def _locations(line: int = 38) -> list[Case]:
    to_slash: Mapping[str, str | None] = {"location": "./slash/"}
    # Given as a server that lets them through does; many refuse them.
    queries = (
        (b'"<>"', "%22%3C%3E%22"), (b"\xe9", "%E9"), (b"%zz", "%25zz"), (b"%E9", "%E9"), (b"[a]", "%5Ba%5D"),
        (b"a b\r\n", "a%20b%0D%0A"), (b"a/?:@", "a/?:@"), (b"#", "%23"), (b"{|}^`", "%7B%7C%7D%5E%60"),
    )  # fmt: skip
    return [
        *(Case(line, "3986 4.2", f"{path} has an empty segment", path, status=APP, site="slashes")
          for path in ("/rows//", "/slash//", "/a//b/", "//slash", "//rows/", "///", "/slash///")),
        *(Case(line, "3986 3.4", f"{query!r} in a query", "/slash", status=308, site="slashes",
               scope={"query_string": b"utm_a=" + query}, expect={"location": f"./slash/?utm_a={escaped}"})
          for query, escaped in queries),
        Case(line, "3986 4.2", "no query", "/slash", status=308, site="slashes", expect=to_slash),
    ]  # fmt: skip


def _absolute(line: int = 18) -> list[Case]:
    """RFC 9112 §3.2.2: a server has to accept the absolute-form."""
    own: Mapping[str, str | None] = {"etag": "{tag}"}
    return [
        Case(line, "9112 3.2.2", "absolute-form", "http://example.org/rows", page="/rows", expect=own),
        Case(line, "9112 3.2.2", "absolute-form of https, in capitals", "HTTPS://example.org/rows", page="/rows"),
        Case(line, "9112 3.2.2", "absolute-form with a port and a query", "http://a:80/top?n=10", page="/top?n=10"),
        Case(line, "9112 3.2.2", "absolute-form of the root", "http://example.org", page="/"),
        Case(line, "9112 3.2.2", "absolute-form, another spelling", "http://a/%72ows", page="/rows"),
        Case(line, "9112 3.2.2", "absolute-form, HEAD", "http://a/rows", method="HEAD", page="/rows"),
        Case(line, "9112 3.2.2", "absolute-form at a mount point", "http://a/m/rows", page="/rows",
             scope={"root_path": "/m"}),
        Case(line, "9112 3.2.2", "absolute-form of a key with a slash", "http://a/slash", status=308, site="slashes",
             expect={"location": "./slash/"}),
    ]  # fmt: skip


CASES: tuple[Case, ...] = tuple(
    case
    for part in (
        _length, _tags, _dates, _codings, _vary, _if_none_match, _if_match, _if_modified_since, _if_unmodified_since,
        _if_range, _order, _range_scope, _valid_ranges, _refused_ranges, _repeated, _methods, _paths, _mounts, _queries,
        _slashes, _unkeyed, _freshness, _status, _stale, _malformed, _bounded, _without_range, _tracking, _locations,
        _absolute,
    )
    for case in part()
)  # fmt: skip
