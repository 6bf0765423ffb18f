"""Nanoseconds of hotpath's own code, without a server: hits, misses, and what the number of items costs.

    python -m benchmarks.inprocess --quick        hits and misses, ten seconds
    python -m benchmarks.inprocess                the same with more rounds, and 10 / 1,000 / 100,000 items

"fresh" asks with new bytes objects each time, as a server does; "reused" with one scope again and again, whose bytes
know their hash. Ratios are to the naive lookup of ``plain`` with the same request in the same round.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import items
from benchmarks.harness import machine, print_facts, print_table, write_json
from benchmarks.plain import Prepared, constant, naive
from benchmarks.sample import (
    COLD_PATH,
    HOST,
    PATH,
    ASGIApp,
    Header,
    Receive,
    Scope,
    Send,
    browser_headers,
    publish,
)
from benchmarks.timing import Case, Figure, Rounds, measure
from hotpath import HotpathMiddleware
from hotpath.serving import reader_of
from hotpath.testing import asgi_get


@dataclass(frozen=True, slots=True)
class Apps:
    """Raw app, naive lookup in front of it, hotpath in front of it, and nothing but one more call in front of it."""

    raw: ASGIApp
    naive: ASGIApp
    hotpath: ASGIApp
    wrapped: ASGIApp
    etag: bytes


def make_apps(root: Path) -> Apps:
    """All of them with the same page, in a new store at ``root``."""
    hot = publish(root)
    reader_of(hot).close()  # no thread beside the measurement; the snapshot stays
    hotpath = HotpathMiddleware(constant(404, [], b""), hot=hot)
    identity = asyncio.run(asgi_get(hotpath, PATH))
    gzip = asyncio.run(asgi_get(hotpath, PATH, headers=[(b"accept-encoding", b"gzip")]))
    raw = constant(200, identity.headers[:5], identity.body)

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        await raw(scope, receive, send)

    def etag(headers: Sequence[Header]) -> bytes:
        return next(value for name, value in headers if name == b"etag")

    pair = tuple(Prepared(etag(one.headers), one.headers[:5], one.body, one.headers[3:5]) for one in (identity, gzip))
    pages = {PATH.encode("ascii"): (pair[0], pair[1])}
    return Apps(raw, naive(pages, raw), HotpathMiddleware(raw, hot=hot), wrapped, etag(identity.headers))


def requests(etag: bytes) -> dict[str, list[Header]]:
    """The request fields of each kind of hit."""
    return {
        "1 field": [HOST],
        "13 fields": browser_headers(b"identity"),
        "13 fields, browser's codings": browser_headers(),
        "gzip": [HOST, (b"accept-encoding", b"gzip")],
        "304": [HOST, (b"if-none-match", etag)],
        "304, 14 fields": [*browser_headers(b"identity"), (b"if-none-match", etag)],
    }


def cases(apps: Apps) -> list[Case]:
    """Everything that is measured, fresh and reused."""
    made = []
    for kind, reused in (("fresh", False), ("reused", True)):
        made.append(Case(f"{kind} raw", apps.raw, [PATH], [HOST], reused))
        for name, headers in requests(apps.etag).items():
            made.append(Case(f"{kind} naive {name}", apps.naive, [PATH], headers, reused))
            made.append(Case(f"{kind} hotpath {name}", apps.hotpath, [PATH], headers, reused))
        for name, headers in (("miss", [HOST]), ("miss, 13 fields", browser_headers())):
            for peer, app in (
                ("raw", apps.raw),
                ("wrapped", apps.wrapped),
                ("naive", apps.naive),
                ("hotpath", apps.hotpath),
            ):
                made.append(Case(f"{kind} {peer} {name}", app, [COLD_PATH], headers, reused))
    return made


def hit_rows(found: Rounds, etag: bytes) -> list[list[object]]:
    """One line for each kind of hit."""
    rows: list[list[object]] = []
    rows.append(
        ["raw app", None, *_span(found.figure("fresh raw")), None, None, None, found.figure("reused raw").median]
    )
    for name in requests(etag):
        ratio = found.ratio(f"fresh hotpath {name}", f"fresh naive {name}")
        rows.append(
            [
                f"hit, {name}",
                found.figure(f"fresh naive {name}").median,
                *_span(found.figure(f"fresh hotpath {name}")),
                *_span(ratio),
                found.figure(f"reused hotpath {name}").median,
            ]
        )
    return rows


def miss_rows(found: Rounds) -> list[list[object]]:
    """What stands in front of the app adds to it, when the app answers."""
    rows: list[list[object]] = []
    for name in ("miss", "miss, 13 fields"):
        added = {
            (kind, peer): found.difference(f"{kind} {peer} {name}", f"{kind} raw {name}")
            for kind in ("fresh", "reused")
            for peer in ("wrapped", "naive", "hotpath")
        }
        row: list[object] = [f"{name}, added", added["fresh", "naive"].median, *_span(added["fresh", "hotpath"])]
        ratio = Figure.of(
            (hotpath - raw) / (by_hand - raw)
            for hotpath, by_hand, raw in zip(
                *(found.nanoseconds[f"fresh {peer} {name}"] for peer in ("hotpath", "naive", "raw")), strict=True
            )
        )
        rows.append([*row, *_span(ratio), added["reused", "hotpath"].median])
    only_call = found.difference("fresh wrapped miss", "fresh raw miss")
    rows.append(["one more call, added", None, *_span(only_call), None, None, None, None])
    return rows


def _span(figure: Figure) -> tuple[float, float, float]:
    return figure.median, figure.low, figure.high


TITLES = ("request", "naive ns", "hotpath ns", "min", "max", "to naive", "min", "max", "reused ns")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="5 rounds, without the number of items")
    parser.add_argument("--rounds", type=int, help="rounds that have to count (default: 15, with --quick 5)")
    parser.add_argument("--keep-noisy", action="store_true", help="use every batch, whatever ran beside it")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args()
    rounds = options.rounds or (5 if options.quick else 15)
    with tempfile.TemporaryDirectory(prefix="hotpath-bench-") as directory:
        apps = make_apps(Path(directory, "hot"))
        found = measure(cases(apps), rounds=rounds, keep_noisy=options.keep_noisy)
    print_facts(machine())
    print(f"{found.kept} of {found.tried} rounds count. ns a request, the cost of sending two messages subtracted;")
    if options.keep_noisy:
        print("Noisy batches were kept: other users of the machine are in these figures.")
    print("median, min and max of the rounds; fresh bytes objects, but for the last column.")
    print()
    print_table(TITLES, [*hit_rows(found, apps.etag), *miss_rows(found)])
    figures: dict[str, object] = {
        "hits": {case: asdict(found.figure(case)) for case in found.nanoseconds},
        "rounds": found.kept,
    }
    if not options.quick:
        print()
        figures["items"] = items.report(items.COUNTS, "one", items.DEFAULT_CAP, rounds=7, keep_noisy=options.keep_noisy)
    write_json(options.json, figures)


if __name__ == "__main__":
    main()
