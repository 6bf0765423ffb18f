"""What the number of items costs: time of a hit, memory, loading, and the longest stall of the event loop meanwhile.

    python -m benchmarks.items                     10, 1,000 and 100,000 items of one coding
    python -m benchmarks.items --codings all       the same with every coding (building 100,000 takes minutes)

Each count is measured in a process of its own, since memory that was used once seldom goes back to the system.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import machine, print_facts, print_table, resident_bytes, write_json
from benchmarks.plain import constant
from benchmarks.sample import HOST, declare_items, item_path
from benchmarks.timing import Case, measure
from hotpath import Hotpath, HotpathMiddleware
from hotpath.batch.run import build
from hotpath.serving import reader_of

COUNTS = (10, 1_000, 100_000)
TICK_SECONDS = 0.001
DEFAULT_CAP = "64MiB"  # what a site has that says nothing
MEDIA_TYPES = {"one": "application/octet-stream", "all": "application/json"}


def body(number: int) -> bytes:
    """Half a kilobyte that every coding makes smaller."""
    return b'{"code":%d,"name":"Company %d","fill":"%s"}' % (number, number, b"volume " * 64)


def declare(root: Path, count: int, codings: str, max_body_bytes: str) -> Hotpath:
    """The same declaration for the batch and for the processes that load."""
    return declare_items(root, count, body, MEDIA_TYPES[codings], max_body_bytes=max_body_bytes)


async def longest_stall(work: Awaitable[object]) -> float:
    """Seconds the loop was late at most while ``work`` was awaited."""
    task = asyncio.ensure_future(work)
    longest = 0.0
    before = time.perf_counter()
    while not task.done():
        await asyncio.sleep(TICK_SECONDS)
        now = time.perf_counter()
        longest = max(longest, now - before - TICK_SECONDS)
        before = now
    await task
    return longest


def load(root: Path, count: int, codings: str, max_body_bytes: str) -> dict[str, float | None]:
    """Load a generation beside a running event loop, then the next one over it."""
    hot = declare(root, count, codings, max_body_bytes)
    idle = asyncio.run(longest_stall(asyncio.sleep(0.5)))
    gc.collect()
    before = resident_bytes()
    started = time.perf_counter()
    stall = asyncio.run(longest_stall(asyncio.to_thread(reader_of(hot).start)))
    seconds = time.perf_counter() - started
    gc.collect()
    resident = resident_bytes() - before
    pages = reader_of(hot).snapshot.pages.values()
    bodies = sum(len(body) for page in pages for body in page.bodies.values())
    # The same store again, as if it had been published anew: what a running process does every night.
    hot.store.current_path.touch()
    started = time.perf_counter()
    reload_stall = asyncio.run(longest_stall(asyncio.to_thread(reader_of(hot).refresh)))
    return {
        "load_seconds": seconds,
        "stall_ms": stall * 1e3,
        "reload_seconds": time.perf_counter() - started,
        "reload_stall_ms": reload_stall * 1e3,
        "idle_stall_ms": idle * 1e3,
        # Below some thousand items the interpreter's own growth is all there is to see.
        "resident_bytes_per_item": (resident - bodies) / count if count >= 1000 else None,
        "items_in_memory": len(pages),
    }


def trace(root: Path, count: int, codings: str, max_body_bytes: str) -> dict[str, float | None]:
    """Live bytes of Python objects an item, beyond the bodies: what the allocator handed out, without its waste."""
    hot = declare(root, count, codings, max_body_bytes)
    gc.collect()
    tracemalloc.start()
    reader_of(hot).start()
    gc.collect()
    live, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    pages = reader_of(hot).snapshot.pages.values()
    bodies = sum(len(body) for page in pages for body in page.bodies.values())
    return {"traced_bytes_per_item": (live - bodies) / count}


def child(work: str, *arguments: str) -> dict[str, float | None]:
    """Run ``load`` or ``trace`` in a new process."""
    command = [sys.executable, "-m", "benchmarks.items", "--child", work, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    facts: dict[str, float | None] = json.loads(done.stdout)
    return facts


def hit_cost(
    roots: dict[int, Path], codings: str, max_body_bytes: str, rounds: int, keep_noisy: bool
) -> dict[int, dict[str, float]]:
    """Nanoseconds of a hit for each count, interleaved: always the same page, and pages by chance.

    Pages by chance are seldom in the processor's cache where there are many: that is the machine's cost, not the
    lookup's, so both are shown.
    """
    fallback = constant(404, [], b"")
    hots = {count: declare(root, count, codings, max_body_bytes) for count, root in roots.items()}
    cases = []
    for count, hot in hots.items():
        reader_of(hot).start()
        app = HotpathMiddleware(fallback, hot=hot)
        in_memory = [key.decode("ascii") for key in reader_of(hot).snapshot.pages]
        cases.append(Case(f"{count} one", app, [item_path(0)], [HOST]))
        cases.append(Case(f"{count} any", app, in_memory, [HOST]))
    rates = measure(cases, rounds=rounds, keep_noisy=keep_noisy)
    for hot in hots.values():
        reader_of(hot).close()
    return {
        count: {
            "hit_ns": rates.figure(f"{count} one").median,
            "hit_ratio": rates.ratio(f"{count} one", f"{next(iter(roots))} one").median,
            "hit_any_ns": rates.figure(f"{count} any").median,
        }
        for count in roots
    }


def run(
    counts: Sequence[int], codings: str, max_body_bytes: str, rounds: int, keep_noisy: bool
) -> list[dict[str, Any]]:
    """All figures of all counts."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="hotpath-bench-") as directory:
        roots = {}
        for count in counts:
            roots[count] = Path(directory, str(count))
            started = time.perf_counter()
            build(declare(roots[count], count, codings, max_body_bytes))
            facts: dict[str, Any] = {"items": count, "build_seconds": time.perf_counter() - started}
            arguments = (str(roots[count]), str(count), codings, max_body_bytes)
            facts |= child("load", *arguments) | child("trace", *arguments)
            rows.append(facts)
        costs = hit_cost(roots, codings, max_body_bytes, rounds, keep_noisy)
    return [facts | costs[facts["items"]] for facts in rows]


COLUMNS = (
    ("items", "items"),
    ("items_in_memory", "in memory"),
    ("hit_ns", "hit ns"),
    ("hit_ratio", "to first"),
    ("hit_any_ns", "any page ns"),
    ("traced_bytes_per_item", "B/item live"),
    ("resident_bytes_per_item", "B/item RSS"),
    ("load_seconds", "load s"),
    ("stall_ms", "stall ms"),
    ("reload_seconds", "reload s"),
    ("reload_stall_ms", "stall ms"),
    ("idle_stall_ms", "idle stall"),
    ("build_seconds", "build s"),
)


def report(
    counts: Sequence[int], codings: str, max_body_bytes: str, *, rounds: int, keep_noisy: bool
) -> list[dict[str, Any]]:
    """Measure and print the table."""
    rows = run(counts, codings, max_body_bytes, rounds, keep_noisy)
    print(f"Items of half a kilobyte, codings: {codings}, body cap {max_body_bytes}.")
    print("B/item is memory beyond the bodies: live Python objects, and resident size of the process.")
    print("stall: the longest time the event loop of the loading process was late (idle: without any load).")
    print_table([title for _, title in COLUMNS], [[facts[name] for name, _ in COLUMNS] for facts in rows])
    return rows


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="What the number of items costs.")
    parser.add_argument("--counts", type=int, nargs="+", default=list(COUNTS), help="numbers of items")
    parser.add_argument("--codings", choices=sorted(MEDIA_TYPES), default="one", help="content codings an item has")
    parser.add_argument("--max-body-bytes", default=DEFAULT_CAP, help="the cap on bodies (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--keep-noisy", action="store_true", help="use every batch, whatever ran beside it")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        work, root, count, codings, max_body_bytes = options.child
        function = {"load": load, "trace": trace}[work]
        print(json.dumps(function(Path(root), int(count), codings, max_body_bytes)), flush=True)
        os._exit(0)  # taking a hundred thousand pages apart again is nobody's gain
    print_facts(machine())
    rows = report(
        options.counts, options.codings, options.max_body_bytes, rounds=options.rounds, keep_noisy=options.keep_noisy
    )
    write_json(options.json, {"items": rows})


if __name__ == "__main__":
    main()
