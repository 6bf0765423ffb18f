"""What every benchmark serves and asks for: a page of 11 KB, the request heads of a bare client and of a browser."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from hotpath import Hotpath
from hotpath.batch.run import build
from hotpath.serving import reader_of

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Header = tuple[bytes, bytes]

ROUTE = "/rankings/{market}/{metric}.json"
PATH = "/rankings/kospi/volume.json"
COLD_PATH = "/api/portfolio/positions"
ROWS = 100

HOST: Header = (b"host", b"127.0.0.1:8000")

# A navigation of Chromium on Linux: 12 fields and the Host, in the order they are sent.
_BROWSER: tuple[Header, ...] = (
    HOST,
    (b"connection", b"keep-alive"),
    (b"sec-ch-ua", b'"Chromium";v="142", "Not_A Brand";v="99"'),
    (b"sec-ch-ua-mobile", b"?0"),
    (b"sec-ch-ua-platform", b'"Linux"'),
    (b"upgrade-insecure-requests", b"1"),
    (
        b"user-agent",
        b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0 Safari/537.36",
    ),
    (b"accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"),
    (b"sec-fetch-site", b"none"),
    (b"sec-fetch-mode", b"navigate"),
    (b"sec-fetch-dest", b"document"),
    (b"accept-encoding", b"gzip, deflate, br, zstd"),
    (b"accept-language", b"en-GB,en;q=0.9,ko;q=0.8"),
)


def browser_headers(accept_encoding: bytes = b"gzip, deflate, br, zstd") -> list[Header]:
    """The 13 request fields of a browser, with the content codings it is to accept."""
    return [(name, accept_encoding if name == b"accept-encoding" else value) for name, value in _BROWSER]


def rows() -> list[dict[str, object]]:
    """A screener's table, the same in every run."""
    chance = random.Random(20)
    return [
        {
            "rank": rank,
            "code": f"{chance.randrange(10**6):06d}",
            "name": f"Company {chance.randrange(10**4)}",
            "price": round(chance.uniform(1e3, 9e5), 1),
            "change": round(chance.uniform(-9, 9), 2),
            "volume": chance.randrange(10**8),
            "pe": round(chance.uniform(2, 60), 2),
        }
        for rank in range(1, ROWS + 1)
    ]


def declare(root: Path, **options: Any) -> Hotpath:
    """The declaration of the one page; ``options`` go to ``Hotpath``."""
    hot = Hotpath(root, **options)
    hot.route(ROUTE, each={"market": ["kospi"], "metric": ["volume"]})(lambda market, metric: {"rows": rows()})
    return hot


def publish(root: Path) -> Hotpath:
    """Build the page into a new store at ``root`` and load it."""
    hot = declare(root)
    build(hot)
    reader_of(hot).start()
    return hot


def item_path(number: int) -> str:
    """The path of one of many items."""
    return f"/items/{number:06d}.json"


def declare_items(root: Path, count: int, body: Callable[[int], bytes], media_type: str, **options: Any) -> Hotpath:
    """The declaration of ``count`` items; a media type that is not compressible keeps them at one coding."""
    hot = Hotpath(root, refresh=3600, **options)
    numbers = [f"{number:06d}" for number in range(count)]
    hot.route("/items/{number}.json", each={"number": numbers}, media_type=media_type)(lambda number: body(int(number)))
    return hot
