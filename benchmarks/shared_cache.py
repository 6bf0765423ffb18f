"""The shared cache of values: a hit in the server, a hit in this process, and misses over a server that is gone.

Run by ``python -m benchmarks.machines``.
"""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import Missing, print_table
from hotpath.caching import Valkey, cached
from tests.caching.shared.conftest import SERVER as REDIS
from tests.caching.shared.conftest import Proxy as SlowWay
from tests.caching.shared.conftest import Server, free_port

# The contract's figure.
MAX_SHARED_HIT_MICROSECONDS = 150.0

Figures = dict[str, Any]


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` of them are."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


@contextlib.contextmanager
def redis_server() -> Iterator[Server]:
    """A server of its own. Raises ``Missing``."""
    if REDIS is None:
        raise Missing("no valkey-server or redis-server (apt-get install redis-server)")
    with tempfile.TemporaryDirectory() as directory:
        server = Server(Path(directory))
        try:
            yield server
        finally:
            server.stop()


def cache(rounds: int, calls: int) -> Figures:
    """A hit in the shared cache, a hit in the local one with and without ``shared=``, and misses over a dead server."""
    with redis_server() as server:
        shared = [_shared_hit(server, calls) for _ in range(rounds)]
        valkey = Valkey(server.url, prefix="local")
        pairs = [(_local_hit(valkey, calls), _local_hit(None, calls)) for _ in range(rounds)]
        valkey.close()
        dead = _dead(server)
    return {
        "shared_hit_us": round(statistics.median(shared), 1),
        "local_hit_ns": round(statistics.median(one for one, _ in pairs)),
        "local_hit_without_shared_ns": round(statistics.median(other for _, other in pairs)),
        "dead": dead,
    }


def _shared_hit(server: Server, calls: int) -> float:
    """Median microseconds of a value that another process made, a kilobyte of JSON."""
    writer, reader = Valkey(server.url, prefix="bench"), Valkey(server.url, prefix="bench")

    def page(n: int) -> dict[str, Any]:
        return {"n": n, "rows": list(range(180))}

    fill = cached(ttl=600, max_entries=calls, shared=writer, name="page")(page)
    read = cached(ttl=600, max_entries=calls, shared=reader, name="page")(page)
    read(-1)  # connects
    for number in range(calls):
        fill(number)
    hits, times = reader.hits, []
    for number in range(calls):
        began = time.perf_counter()
        read(number)
        times.append(time.perf_counter() - began)
    assert reader.hits - hits == calls
    writer.close()
    reader.close()
    return statistics.median(times) * 1e6


def _local_hit(valkey: Valkey | None, calls: int) -> float:
    """Nanoseconds of a value that this process has."""

    def page(n: int) -> int:
        return n

    function = cached(ttl=600, name="local")(page) if valkey is None else _shared(valkey, page)
    function(1)
    began = time.perf_counter()
    for _ in range(calls):
        function(1)
    return (time.perf_counter() - began) / calls * 1e9


def _shared(valkey: Valkey, function: Callable[[int], int]) -> Callable[[int], int]:
    return cached(ttl=600, shared=valkey, name="local")(function)


def _dead(server: Server) -> dict[str, dict[str, float]]:
    """Milliseconds of 1,000 misses of a function that takes 1 ms: without a server, with one, and with dead ones."""
    hanging = SlowWay(server.port)
    hanging.delay = 60.0
    ways = {
        "without shared=": None,
        "a server that answers": server.url,
        "refuses connections": f"redis://127.0.0.1:{free_port()}/0",
        "never answers": f"redis://127.0.0.1:{hanging.port}/0",
    }
    rows = {}
    for name, url in ways.items():
        valkey = None if url is None else Valkey(url, prefix="dead")

        def page(n: int) -> int:
            time.sleep(0.001)
            return n

        function = cached(ttl=600, max_entries=1000)(page) if valkey is None else _shared(valkey, page)
        times = []
        for number in range(1000):
            began = time.perf_counter()
            function(number)
            times.append((time.perf_counter() - began) * 1e3)
        rows[name] = {
            "median": round(percentile(times, 0.5), 2),
            "p99": round(percentile(times, 0.99), 2),
            "slowest": round(max(times), 2),
        }
        if valkey is not None:
            valkey.close()
    hanging.close()
    return rows


def print_cache(figures: Figures) -> None:
    """The tables of ``cache``."""
    print_table(
        ("shared cache", "measured", "limit"),
        [
            ("hit in the server, µs", figures["shared_hit_us"], MAX_SHARED_HIT_MICROSECONDS),
            ("hit in this process, ns", figures["local_hit_ns"], None),
            ("the same without shared=, ns", figures["local_hit_without_shared_ns"], None),
        ],
    )
    print()
    rows = [(name, *row.values()) for name, row in figures["dead"].items()]
    print_table(("1,000 misses of 1 ms, ms", "median", "p99", "slowest"), rows)
