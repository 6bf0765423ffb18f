"""Memory of a process that serves a store larger than its cap on bodies, over minutes of requests by chance.

    python -m benchmarks.memory             64 MiB of bodies, 8 MiB cap, 20 s
    python -m benchmarks.memory --full      1 GiB of bodies, 64 MiB cap, 10 minutes

Nine requests in ten ask for a few popular pages, whose bodies fill half the cap; one in ten for any page at all. The
cap is on bodies: what the index of all pages takes is measured beside it, in a process whose cap is a single byte.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from benchmarks.harness import ROOT, machine, print_facts, print_table, resident_bytes, write_json
from benchmarks.plain import constant
from benchmarks.sample import HOST, Message, declare_items, item_path
from benchmarks.timing import make_scope
from hotpath import Hotpath, HotpathMiddleware
from hotpath.batch.run import build
from hotpath.options import human_bytes, parse_bytes
from hotpath.serving import reader_of

POPULAR_REQUESTS = 0.9
WORKERS = 8
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Load:
    """What is done: ``count`` bodies of ``body_bytes``, at most ``cap_bytes`` of them in memory, for ``seconds``."""

    count: int
    body_bytes: int
    cap_bytes: int
    seconds: float

    @property
    def popular(self) -> int:
        """How many pages fill half the cap."""
        return min(self.count, max(1, self.cap_bytes // 2 // self.body_bytes))


def declare(root: Path, load: Load, cap_bytes: int) -> Hotpath:
    """Bodies that no coding makes smaller, each its own."""

    def body(number: int) -> bytes:
        return random.Random(number).randbytes(load.body_bytes)

    return declare_items(root, load.count, body, "application/octet-stream", max_body_bytes=cap_bytes)


async def visit(hot: Hotpath, load: Load, chance: random.Random, until: float, seen: Counter[str]) -> None:
    """One client that asks again as soon as it was answered; what is not a whole page is counted."""
    app = HotpathMiddleware(constant(404, [], b""), hot=hot)
    received = 0

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        nonlocal received
        received += len(message.get("body", b""))

    while time.monotonic() < until:
        popular = chance.random() < POPULAR_REQUESTS
        path = item_path(chance.randrange(load.popular if popular else load.count))
        in_memory = path.encode("ascii") in reader_of(hot).snapshot.pages
        received = 0
        await app(make_scope(path, [HOST]), receive, send)
        seen["not answered"] += received != load.body_bytes
        seen["popular" if popular else "any"] += 1
        seen["popular in memory" if popular else "any in memory"] += in_memory
        await asyncio.sleep(0)


async def watch(hot: Hotpath, load: Load) -> dict[str, Any]:
    """Serve for the whole time and look at the memory meanwhile."""
    seen: Counter[str] = Counter()
    until = time.monotonic() + load.seconds
    clients = [asyncio.create_task(visit(hot, load, random.Random(n), until, seen)) for n in range(WORKERS)]
    resident, bodies = [], []
    pause = max(0.2, min(1.0, load.seconds / 100))
    while not all(client.done() for client in clients):
        await asyncio.sleep(pause)
        resident.append(resident_bytes())
        bodies.append(reader_of(hot).loader.body_bytes)
    await asyncio.gather(*clients)
    tenth = max(1, len(resident) // 10)
    return {
        "requests": seen["popular"] + seen["any"],
        "not_answered": seen["not answered"],
        "popular_from_memory": seen["popular in memory"] / max(1, seen["popular"]),
        "any_from_memory": seen["any in memory"] / max(1, seen["any"]),
        "accounted_max_bytes": max(bodies),
        "resident_first_tenth_bytes": max(resident[:tenth]),
        "resident_last_tenth_bytes": max(resident[-tenth:]),
        "resident_max_bytes": max(resident),
    }


async def warm_up() -> None:
    """An event loop and its threads, so that what they take is not put down to the bodies."""
    async with anyio.create_task_group() as group:
        for _ in range(WORKERS):
            group.start_soon(anyio.to_thread.run_sync, time.sleep, 0.02)


def child(root: Path, load: Load) -> dict[str, Any]:
    """In a process of its own: load, then serve for ``load.seconds``; for zero seconds only load."""
    hot = declare(root, load, load.cap_bytes)
    asyncio.run(warm_up())
    gc.collect()
    before = resident_bytes()
    reader_of(hot).start()
    gc.collect()
    found: dict[str, Any] = {"resident_before_bytes": before, "resident_loaded_bytes": resident_bytes()}
    return found | (asyncio.run(watch(hot, load)) if load.seconds else {})


def run_child(root: Path, load: Load) -> dict[str, Any]:
    """``child`` in a new process."""
    numbers = [str(load.count), str(load.body_bytes), str(load.cap_bytes), str(load.seconds)]
    command = [sys.executable, "-m", "benchmarks.memory", "--child", str(root), *numbers]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def run(load: Load) -> dict[str, Any]:
    """Build the store, measure the index alone, then the serving process."""
    with tempfile.TemporaryDirectory(prefix="hotpath-bench-") as directory:
        root = Path(directory, "hot")
        build(declare(root, load, load.cap_bytes))
        index = run_child(root, Load(load.count, load.body_bytes, 1, 0))
        found = run_child(root, load)
    index_bytes = index["resident_loaded_bytes"] - index["resident_before_bytes"]
    above = found["resident_max_bytes"] - found["resident_before_bytes"] - index_bytes
    return found | {"index_bytes": index_bytes, "bodies_max_bytes": above, "to_cap": above / load.cap_bytes}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="1 GiB, 64 MiB cap, 10 minutes")
    parser.add_argument("--store", default=None, help="bytes of all bodies, like 64MiB")
    parser.add_argument("--cap", default=None, help="bytes of bodies in memory, like 8MiB")
    parser.add_argument("--body", default="12KiB", help="bytes of one body")
    parser.add_argument("--seconds", type=float, default=None)
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        root, count, body, cap, seconds = options.child
        print(json.dumps(child(Path(root), Load(int(count), int(body), int(cap), float(seconds)))), flush=True)
        os._exit(0)  # without taking every page apart
    store = parse_bytes(options.store or ("1GiB" if options.full else "64MiB"), "--store")
    cap = parse_bytes(options.cap or ("64MiB" if options.full else "8MiB"), "--cap")
    body = parse_bytes(options.body, "--body")
    seconds = options.seconds if options.seconds is not None else 600.0 if options.full else 20.0
    load = Load(max(1, store // body), body, cap, seconds)
    found = run(load)
    print_facts(machine())
    print(f"{load.count:,} bodies of {human_bytes(body)}, cap {human_bytes(cap)}, {WORKERS} clients, {seconds:.0f} s;")
    print(f"{POPULAR_REQUESTS:.0%} of the requests for {load.popular:,} popular pages, the others for any page.")
    print()
    rows: list[list[object]] = [
        ["requests", found["requests"]],
        ["of these passed on to the app", found["not_answered"]],
        ["popular pages answered from memory", f"{found['popular_from_memory']:.2%}"],
        ["any page answered from memory", f"{found['any_from_memory']:.2%}"],
        ["bodies as the reader counts them, at most", human_bytes(found["accounted_max_bytes"])],
        ["RSS before loading", human_bytes(found["resident_before_bytes"])],
        ["RSS the index of all pages takes", human_bytes(found["index_bytes"])],
        ["RSS at most in the first tenth of the time", human_bytes(found["resident_first_tenth_bytes"])],
        ["RSS at most in the last tenth", human_bytes(found["resident_last_tenth_bytes"])],
        ["RSS at most", human_bytes(found["resident_max_bytes"])],
        ["RSS at most, without interpreter and index", human_bytes(found["bodies_max_bytes"])],
        ["the same as a share of the cap", found["to_cap"]],
    ]
    print_table(("memory", ""), rows)
    write_json(options.json, found)


if __name__ == "__main__":
    main()
