"""Memory of one front over a day of a small site's crawl, as fast as it goes.

    python -m benchmarks.front_day                      1,000,000 requests
    python -m benchmarks.front_day --requests 20000     a look

Of 100 requests 80 are hits, 12 conditions and ranges, 6 for the app, and 2 are heads that nobody should send. Meanwhile
the app is deployed and killed, and the store gets new generations. Prints the resident memory of the front at the
start, after each tenth, and at the end, and what the loaded bodies take of it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import psutil

from benchmarks.front_faults import publish_again, repeated
from benchmarks.harness import machine, print_facts
from tests.front.served_site import KEYS
from tests.front.serving import Serving, make_site, serving

CLIENTS = 4
# Requests of one client that are sent at once: what costs the client most is a call of the kernel.
BATCH = 50
COLD_OF_BATCH, BAD_OF_BATCH = 3, 1
TENTHS = 10
MAX_MIB = 60.0
# What the front may be larger by at the end than after the first tenth.
MAX_GROWTH_MIB = 4.0
SECONDS = 60.0

BEGINNING = re.compile(rb"HTTP/1\.1 (\d\d\d)")
BEGINNING_BYTES = 12

CONDITIONS = (
    b"If-None-Match: *\r\n",
    b"Range: bytes=0-99\r\n",
    b"Range: bytes=9999999-\r\n",
    b"If-Modified-Since: x\r\n",
)
BAD_HEADS = (
    b"GET /rankings/k1 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET /rankings/k1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET /rankings/k1 HTTP/1.1\r\nHo",
    b"G" * 20_000,
    b"POST /cold/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf",
)


class Crawl:
    """Clients that ask until ``most`` requests were sent, together."""

    def __init__(self, port: int, most: int) -> None:
        self.sent = 0
        self.statuses: Counter[bytes] = Counter()
        self._port = port
        self._most = most
        self._lock = threading.Lock()
        self.threads = [threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def _run(self, number: int) -> None:
        sock = self._connect()
        while self.sent < self._most:
            number += CLIENTS
            try:
                self._ask(sock, b"".join(self._heads(number)), BATCH - COLD_OF_BATCH - BAD_OF_BATCH)
                for cold in range(COLD_OF_BATCH):
                    self._ask(sock, b"GET /cold/%d HTTP/1.1\r\nHost: a\r\n\r\n" % (number * 10 + cold), 1)
            except OSError:
                with self._lock:
                    self.statuses[b"lost"] += 1
                sock.close()
                sock = self._connect()
            self._send_bad(BAD_HEADS[number // CLIENTS % len(BAD_HEADS)])
        sock.close()

    def _heads(self, number: int) -> Sequence[bytes]:
        heads = []
        for position in range(BATCH - COLD_OF_BATCH - BAD_OF_BATCH):
            field = (
                CONDITIONS[number % len(CONDITIONS)]
                if position % 8 == 0
                else b"User-Agent: bot/%d\r\n" % (number % 3000)
            )
            key = KEYS[(number + position) % len(KEYS)].encode()
            heads.append(b"GET /rankings/%b HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n%b\r\n" % (key, field))
        return heads

    def _connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._port), SECONDS)

    def _ask(self, sock: socket.socket, data: bytes, count: int) -> None:
        """Send, and read so many answers; no body has the beginning of one in it."""
        sock.sendall(data)
        seen, rest = 0, b""
        while seen < count:
            more = sock.recv(262_144)
            if not more:
                raise ConnectionError("closed")
            data = rest + more
            statuses, end = [], 0
            for beginning in BEGINNING.finditer(data):
                statuses.append(beginning[1])
                end = beginning.end()
            # A beginning that is cut off is whole with what comes next.
            rest = data[max(end, len(data) - BEGINNING_BYTES + 1) :]
            seen += len(statuses)
            with self._lock:
                self.statuses.update(statuses)
                self.sent += len(statuses)

    def _send_bad(self, head: bytes) -> None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), SECONDS) as sock:
            sock.settimeout(0.02)
            sock.sendall(head)
            sock.recv(4096)
        with self._lock:
            self.sent += 1


def drive(serve: Serving, most: int) -> tuple[list[float], Crawl, Counter[str]]:
    """Resident memory of the front in MiB: at the start, after each tenth, at the end."""
    process = psutil.Process(serve.process.pid)
    done: Counter[str] = Counter()

    def kill() -> None:
        os.kill(serve.app_pid(), signal.SIGKILL)
        done["kills"] += 1

    def deploy() -> None:
        serve.process.send_signal(signal.SIGHUP)
        done["deploys"] += 1

    def swap() -> None:
        publish_again(serve.directory / "store")
        done["generations"] += 1

    memory = [process.memory_info().rss / 2**20]
    crawl = Crawl(serve.port, most)
    with repeated(kill, 7.0), repeated(deploy, 11.0), repeated(swap, 0.5):
        for tenth in range(1, TENTHS + 1):
            while crawl.sent < most * tenth / TENTHS and any(thread.is_alive() for thread in crawl.threads):
                time.sleep(0.05)
            memory.append(process.memory_info().rss / 2**20)
            print(f"  {crawl.sent:,} requests: {memory[-1]:.1f} MiB", flush=True)
        for thread in crawl.threads:
            thread.join(SECONDS)
    time.sleep(2)
    memory.append(process.memory_info().rss / 2**20)
    return memory, crawl, done


def main() -> None:
    """Print the figures; the exit status is 1 where memory is not flat, or too large."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000_000)
    options = parser.parse_args()
    print_facts(machine())
    with tempfile.TemporaryDirectory(prefix="hotpath-day-") as root:
        site = make_site(Path(root) / "site")
        with serving(site, "--store", "store") as serve:
            began = time.monotonic()
            memory, crawl, done = drive(serve, options.requests)
            seconds = time.monotonic() - began
            bodies = sum(path.stat().st_size for path in (site / "store" / "current").resolve().rglob("*"))
    print(
        f"start {memory[0]:.1f} MiB, end {memory[-1]:.1f} MiB, most {max(memory):.1f} MiB;"
        f" {bodies / 2**20:.2f} MiB of bodies"
    )
    statuses = ", ".join(f"{count:,} × {status.decode()}" for status, count in sorted(crawl.statuses.items()))
    what = ", ".join(f"{count:,} {name}" for name, count in sorted(done.items()))
    print(f"{crawl.sent:,} requests in {seconds:.0f} s: {statuses}; {what}")
    if max(memory) - bodies / 2**20 > MAX_MIB or memory[-1] - memory[1] > MAX_GROWTH_MIB:
        sys.exit("the front's memory is not flat, or too large")


if __name__ == "__main__":
    main()
