"""Lines of an access log that ``hotpath logs`` reads a second, and the memory that takes.

python -m benchmarks.logs [FILE]     without FILE: lines of a made site, the same each time
"""

from __future__ import annotations

import gzip
import random
import sys
import time
from pathlib import Path

from benchmarks.harness import machine, print_facts
from hotpath.ops.traffic.crawlers import shipped
from hotpath.ops.traffic.summary import Summary
from hotpath.process.fork import status_bytes

ROUNDS = 5
LINES = 200_000
AGENTS = (
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0 Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:120.0) Gecko/20100101 Firefox/120.0",
)


def made() -> list[bytes]:
    """A day of a site with 8,000 stocks."""
    source = random.Random(7)
    lines = []
    for number in range(LINES):
        second = number * 86_400 // LINES
        at = f"02/Mar/2026:{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02} +0000"
        path = source.choice(("/", "/rankings/kospi", f"/stocks/{source.randrange(8000):06}", f"/search?q={second}"))
        address = f"66.249.66.{source.randrange(256)}" if number % 5 == 0 else f"198.18.{number % 250}.{number % 199}"
        lines.append(f'{address} - - [{at}] "GET {path} HTTP/1.1" 200 5831 "-" "{AGENTS[number % 3]}" 0.012'.encode())
    return lines


def main() -> None:
    """Measure and print."""
    print_facts(machine())
    if len(sys.argv) > 1:
        data = Path(sys.argv[1]).read_bytes()
        lines = (gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data).splitlines()
    else:
        lines = made()
    rates = []
    for _ in range(ROUNDS):
        summary = Summary(shipped())
        started = time.process_time()
        summary.read(lines)
        rates.append(len(lines) / (time.process_time() - started))
    held = sum(map(len, lines))
    print(f"{len(lines)} lines, {ROUNDS} rounds: {' '.join(f'{rate:,.0f}' for rate in rates)} lines a second of a core")
    print(f"memory beside the lines themselves: {(status_bytes('self', 'VmHWM') - held) >> 20} MiB at most")


if __name__ == "__main__":
    main()
