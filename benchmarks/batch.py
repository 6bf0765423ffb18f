"""What the worker processes of a batch cost, beside a plain loop in one process over the same items.

    python -m benchmarks.batch            10,000 items of 4 KB from SQLite, five rounds
    python -m benchmarks.batch --quick    1,000 items, three rounds

The plain loop does what a script would: it asks SQLite, encodes with orjson, compresses with every coding there is,
writes the files and calls one syncfs(2). The batch does that too, under limits of memory and time for each item,
and measures, compares, hashes and publishes. Both leave the same bytes. With "identity" nothing is compressed; with
"2 ms each" a tenth of the items is built, each with some statistics in Python. The workers compress; the batch's own
process writes while they are at the next items, so one worker has two cores at work already where an item costs little.
Rounds in turn; wall time; ratios are to the plain loop of the same round.

The time that ext4 takes to make a file varies tenfold from one round to the next on some virtual disks, and all three
ways make the same files; ``--directory /dev/shm`` shows what is left without.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from benchmarks.harness import machine, print_facts, print_table, write_json
from hotpath import Hotpath
from hotpath.batch import ItemLimits, build, sqlite_snapshot
from hotpath.pages.codings import SUFFIXES, available, encode_all
from hotpath.store.disk import Disk

ROWS = 24
WORKERS = (1, 2)


@dataclass(frozen=True, slots=True)
class Case:
    """What is built: ``passes`` is how often a page goes through its rows, ``share`` the part of the items built."""

    name: str
    media_type: str = "application/json"
    passes: int = 0
    share: float = 1.0


CASES = (Case("all codings"), Case("identity", "application/octet-stream"), Case("2 ms each", passes=50, share=0.1))


def make_database(path: Path, count: int) -> None:
    """``count`` groups of rows that come to about 4 KB of JSON each."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE prices (stock INTEGER, day INTEGER, text TEXT, close REAL)")
        rows = (
            (stock, day, f"{stock * 7919 + day * 104729:032x}" * 4, stock * 1.5 + day)
            for stock in range(count)
            for day in range(ROWS)
        )
        db.executemany("INSERT INTO prices VALUES (?, ?, ?, ?)", rows)
        db.execute("CREATE INDEX by_stock ON prices (stock)")


def page_of(db: sqlite3.Connection, stock: int, passes: int) -> dict[str, Any]:
    rows = db.execute("SELECT day, text, close FROM prices WHERE stock = ? ORDER BY day", (stock,)).fetchall()
    spread = [statistics.stdev(close * factor for _, _, close in rows) for factor in range(passes)]
    items = [{"day": day, "text": text, "close": close} for day, text, close in rows]
    return {"stock": stock, "items": items, "spread": max(spread, default=0.0)}


def plain_loop(database: Path, count: int, case: Case, target: Path) -> None:
    """A script without hotpath."""
    codings = available()
    with closing(sqlite3.connect(database)) as db:
        for stock in range(count):
            body = orjson.dumps(page_of(db, stock, case.passes))
            (target / f"{stock}.json").write_bytes(body)
            for coding, data in encode_all(body, case.media_type, codings).items():
                (target / f"{stock}.json{SUFFIXES[coding]}").write_bytes(data)
    Disk().sync_tree(target)


def batch(database: Path, count: int, case: Case, root: Path, workers: int) -> None:
    """The same pages, as the hot route of a site."""
    hot = Hotpath(root)
    snapshot = sqlite_snapshot(database)

    @hot.route("/stocks/{stock}", each={"stock": range(count)}, media_type=case.media_type)
    def page(stock: int) -> bytes:
        with snapshot.connect() as db:
            return orjson.dumps(page_of(db, stock, case.passes))

    report = build(hot, limits=ItemLimits(workers=workers))
    assert report.published.items == count, report.failures


def run(count: int, rounds: int, where: Path | None) -> dict[str, Any]:
    """Measure and print; items a second of each way and round, case by case."""
    figures: dict[str, Any] = {"items": count}
    with tempfile.TemporaryDirectory(dir=where) as directory:
        database = Path(directory, "prices.db")
        make_database(database, count)
        with closing(sqlite3.connect(database)) as db:
            length = len(orjson.dumps(page_of(db, 1, 0)))
        print(f"{count:,} items of {length:,} bytes from SQLite, {rounds} rounds in turn: median (min–max)")
        for case in CASES:
            figures[case.name] = compare(database, int(count * case.share), rounds, case, Path(directory, "out"))
            show(case.name, figures[case.name])
    return figures


def compare(database: Path, count: int, rounds: int, case: Case, target: Path) -> dict[str, list[float]]:
    ways: dict[str, Callable[[], None]] = {"plain loop": partial(plain_loop, database, count, case, target)}
    for workers in WORKERS:
        name = f"batch, {workers} worker{'s' * (workers > 1)}"
        ways[name] = partial(batch, database, count, case, target, workers)
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            target.mkdir()
            os.sync()
            started = time.perf_counter()
            way()
            rates[name].append(count / (time.perf_counter() - started))
            shutil.rmtree(target)
    return rates


def show(name: str, rates: Mapping[str, list[float]]) -> None:
    plain = rates["plain loop"]
    rows = [
        [
            way,
            f"{statistics.median(values):,.0f} ({min(values):,.0f}–{max(values):,.0f})",
            _figure([value / base for value, base in zip(values, plain, strict=True)]),
        ]
        for way, values in rates.items()
    ]
    print_table([name, "items a second", "of the plain loop"], rows)
    one, two = (rates[way] for way in list(rates)[1:])
    print(f"two workers to one: {_figure([b / a for a, b in zip(one, two, strict=True)])}")


def _figure(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f})"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="What the worker processes of a batch cost.")
    parser.add_argument("--quick", action="store_true", help="1,000 items, three rounds")
    parser.add_argument("--directory", type=Path, help="where the store is, /dev/shm say; else a temporary directory")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args()
    facts: Mapping[str, str] = machine()
    print_facts(facts)
    count, rounds = (1000, 3) if options.quick else (10_000, 5)
    figures = run(count, rounds, options.directory)
    write_json(options.json, {"machine": facts, **figures})


if __name__ == "__main__":
    main()
