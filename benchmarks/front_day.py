"""Memory of a front over a compressed day of crawling: a million requests, new generations, deploys and kills.

    python -m benchmarks.front_day                       1,000,000 requests
    python -m benchmarks.front_day --requests 100000     a short form

Of 100 requests 80 are for hot pages, 8 for hot pages with their ETag, 10 for cold pages, 2 are no good requests. In
each of 24 hours a generation is published; in every third the app is killed, and in every eighth a new version replaces
it. Prints the resident memory of the front after each hour, without the app, which is a process of its own. The exit
code is 1 where a hot page failed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.front_faults import Site, build, built
from benchmarks.harness import machine, print_facts, print_table, resident_bytes, write_json

CONNECTIONS = 32
MIB = 1024 * 1024
BAD = (
    b"GET /\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01\x02\x00",
    b"GET /hot/k1 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
)


async def crawl(port: int, paths: Sequence[str], count: int, seen: Counter[str], chance: random.Random) -> None:
    """``count`` requests on one connection at a time."""
    reader = writer = None
    etags: dict[str, str] = {}
    for _ in range(count):
        kind = chance.choices(("hot", "conditional", "cold", "bad"), (80, 8, 10, 2))[0]
        if writer is None or writer.is_closing():
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert reader is not None
        if kind == "bad":
            writer.write(chance.choice(BAD))
            with contextlib.suppress(OSError, TimeoutError):
                await asyncio.wait_for(reader.read(), 0.1)
            writer.close()
            seen["bad"] += 1
            continue
        path = "/cold" if kind == "cold" else chance.choice(paths)
        condition = f"If-None-Match: {etags[path]}\r\n" if kind == "conditional" and path in etags else ""
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: a\r\n{condition}\r\n".encode())
            head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)).decode("latin-1").lower()
            fields = dict(line.split(": ", 1) for line in head.splitlines()[1:] if ": " in line)
            status = head.split()[1]
            if status != "304":
                await reader.readexactly(int(fields["content-length"]))
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            status = "lost"
            writer.close()
        else:
            etags[path] = fields.get("etag", "")
        seen[f"{'cold' if kind == 'cold' else 'hot'} {status}"] += 1
    if writer is not None:
        writer.close()


async def hour(site: Site, number: int, paths: Sequence[str], count: int, seen: Counter[str]) -> None:
    """One of the hours: what happens in it, beside the crawl."""
    clients = [
        asyncio.create_task(crawl(site.port, paths, count // CONNECTIONS, seen, random.Random(number * 100 + client)))
        for client in range(CONNECTIONS)
    ]
    await asyncio.to_thread(build, site.directory)
    if number % 3 == 0:
        os.kill(await asyncio.to_thread(site.app_pid), signal.SIGKILL)
    if number % 8 == 0:
        await asyncio.to_thread(site.reload)
    await asyncio.gather(*clients)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--hours", type=int, default=24)
    parser.add_argument("--json", type=Path, help="write the figures into this file")
    options = parser.parse_args(arguments)
    print_facts(machine())
    seen: Counter[str] = Counter()
    with built() as (directory, pages):
        site = Site(directory, has_front=True, is_limited=False)
        try:
            site.app_pid()
            memory = [resident_bytes(site.process.pid)]
            for number in range(1, options.hours + 1):
                asyncio.run(hour(site, number, [*pages], options.requests // options.hours, seen))
                memory.append(resident_bytes(site.process.pid))
        finally:
            site.close()
    print_table(("after hour", "MiB"), [(number, f"{size / MIB:.1f}") for number, size in enumerate(memory)])
    print("; ".join(f"{kind}: {count:,}" for kind, count in sorted(seen.items())), f"; restarts {site.restarts}")
    write_json(options.json, {"memory": memory, "seen": seen})
    return 0 if all(kind in ("hot 200", "hot 304") for kind in seen if kind.startswith("hot")) else 1


if __name__ == "__main__":
    sys.exit(main())
