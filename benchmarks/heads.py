"""What a request head costs hotpath by its size, whatever it holds.

    python -m benchmarks.heads

Each head goes through ``HotpathMiddleware`` in one process, without a server: the milliseconds are what hotpath adds to
what the server took for reading it. The best of a few calls, with new bytes objects each. The aim is 5 ms for 4 MB.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.harness import print_table
from hotpath import Hotpath
from hotpath.asgi import HotpathMiddleware
from hotpath.batch.run import build
from hotpath.serving import reader_of
from hotpath.types import Header, Message, Receive, Scope, Send

SIZES = (8_000, 64_000, 1_000_000, 4_000_000)
CALLS = 5

Head = tuple[str, bytes, list[Header]]


def lines(name: bytes, value: bytes, size: int) -> list[Header]:
    """So many field lines as fit into ``size`` bytes on the wire."""
    return [(name, value)] * (size // (len(name) + len(value) + 3))


# For each kind of head: path, query and fields of about so many bytes.
KINDS: Mapping[str, Callable[[int], Head]] = {
    "lines Range:a": lambda size: ("/page", b"", lines(b"range", b"a", size)),
    "lines x:": lambda size: ("/page", b"", lines(b"x", b"", size)),
    "Accept-Encoding: ,,,": lambda size: ("/page", b"", [(b"accept-encoding", b"," * size)]),
    "Accept-Encoding: br;q=1,": lambda size: ("/page", b"", [(b"accept-encoding", b"br;q=1," * (size // 7))]),
    "lines Accept-Encoding: gzip": lambda size: ("/page", b"", lines(b"accept-encoding", b"gzip", size)),
    'If-None-Match: "x",': lambda size: ("/page", b"", [(b"if-none-match", b'"x",' * (size // 4))]),
    "Range: bytes=000": lambda size: ("/page", b"", [(b"range", b"bytes=" + b"0" * size + b"-")]),
    "path of slashes": lambda size: ("/" * size, b"", []),
    "path of /%41": lambda size: ("/%41" * (size // 4), b"", []),
    "declared query n&n": lambda size: ("/page", b"n&" * (size // 2), []),
    "tracking query _ga&": lambda size: ("/page", b"_ga&" * (size // 4), []),
}


async def nobody(scope: Scope, receive: Receive, send: Send) -> None:
    """The app, which answers nothing."""


async def receive() -> Message:
    """No body."""
    return {"type": "http.request", "body": b"", "more_body": False}


async def send(message: Message) -> None:
    """Nobody reads the answer."""


def make_app(root: Path) -> HotpathMiddleware:
    """A site on which every way of a lookup is in use: folded keys, declared parameters, redirects."""
    hot = Hotpath(root, refresh=3600, redirect_slashes=True)
    hot.route("/page", each=[{"n": None}], query=("n",), fold_case=True)(lambda n: {"rows": ["text"] * 100})
    build(hot)
    reader_of(hot).start()
    return HotpathMiddleware(nobody, hot=hot)


def make_scope(head: Head) -> Scope:
    """A scope with bytes objects of its own, whose hashes nobody knows yet."""
    path, query, headers = head
    fresh = [(bytes(bytearray(name)), bytes(bytearray(value))) for name, value in headers]
    return {
        "type": "http", "http_version": "1.1", "method": "GET", "scheme": "http", "root_path": "", "path": path,
        "raw_path": path.encode("ascii"), "query_string": bytes(bytearray(query)), "headers": fresh,
    }  # fmt: skip


def milliseconds(app: HotpathMiddleware, head: Head) -> float:
    """The best of a few calls."""

    async def ask() -> float:
        best = float("inf")
        for _ in range(CALLS):
            scope = make_scope(head)
            before = time.perf_counter()
            await app(scope, receive, send)
            best = min(best, time.perf_counter() - before)
        return best * 1000

    return asyncio.run(ask())


def main() -> None:
    """Command line."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    with tempfile.TemporaryDirectory(prefix="hotpath-bench-") as directory:
        app = make_app(Path(directory, "hot"))
        rows = [[kind, *(milliseconds(app, make(size)) for size in SIZES)] for kind, make in KINDS.items()]
        reader_of(app.hot).close()
    print_table(("head, ms", *(f"{size:,} B" for size in SIZES)), rows)


if __name__ == "__main__":
    main()
