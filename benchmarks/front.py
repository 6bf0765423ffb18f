"""A hit through the door, beside nginx, a raw ASGI app with the same bytes, and today's middleware on uvicorn.

    python -m benchmarks.front --quick             2 rounds of 1 s
    python -m benchmarks.front                     6 rounds of 3 s, each of them once a round
    python -m benchmarks.front --paired            where other users of the machine leave no quiet moment
    python -m benchmarks.front --keys 1000         instead of the 100,000 keys that take a minute to build

One process for each server on one core, wrk with one thread and 32 connections on another. Then the time of a hit while
the event loop in the same process sleeps, runs pure Python, and runs C code that does not let go of the interpreter.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import resource
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.harness import (
    CONNECTIONS,
    Broken,
    Cores,
    Missing,
    Probe,
    Ratio,
    Series,
    Server,
    Slot,
    Target,
    free_port,
    machine,
    print_facts,
    print_table,
    ratio_of,
    run_pair,
    run_pairs,
    run_rounds,
    run_slot,
    start_server,
    write_json,
)
from benchmarks.sample import PATH, browser_headers, declare, declare_items, item_path, publish
from benchmarks.serving import ask
from hotpath import Hotpath, HotpathMiddleware
from hotpath.batch.run import build
from hotpath.serving import reader_of
from hotpath.serving.rfc9110 import IDENTITY
from hotpath.types import ASGIApp, Receive, Scope, Send

FEW_KEYS = 10
IDLE = 1000
ITEM_MEDIA_TYPE = "application/octet-stream"
NAP_SECONDS = 0.2
LATENCY_REQUESTS = 2000
LATENCY_SECONDS = 10.0
# About NAP_SECONDS on a core of 2024.
C_STEPS = 20_000_000
LOAD_SECONDS = 120.0

LIMIT = "raw ASGI"
LIMIT_304 = "raw ASGI, always 304"
# As in the table: how each is started, and the store that it reads.
SERVERS: Mapping[str, tuple[str, str]] = {
    LIMIT: ("peer same-identity", "hot"),
    LIMIT_304: ("peer same-304", "hot"),
    "nginx": ("nginx", "hot"),
    "middleware": ("peer hotpath", "hot"),
    "protocol": ("protocol", "hot"),
    "door": ("door", "hot"),
    f"door, {IDLE:,} idle": ("door", "hot"),
    f"door, {FEW_KEYS} keys": ("door", "few"),
    "door, many keys": ("door", "many"),
    f"raw ASGI, {FEW_KEYS} keys": ("raw", "few"),
    "raw ASGI, many keys": ("raw", "many"),
    f"nginx, {FEW_KEYS} keys": ("nginx", "few"),
    "nginx, many keys": ("nginx", "many"),
}


@dataclass(frozen=True, slots=True)
class Profile:
    """One kind of request, and who is asked it; ratios are to the first."""

    name: str
    headers: Mapping[str, str]
    servers: tuple[str, ...]
    status: int = 200


_BROWSER = {
    name.decode("ascii"): value.decode("ascii") for name, value in browser_headers(b"identity") if name != b"host"
}
_ALL = (LIMIT, "nginx", "middleware", "protocol", "door")
PROFILES = (
    Profile("plain", {}, (*_ALL, f"door, {IDLE:,} idle")),
    Profile("13 fields", _BROWSER, _ALL),
    Profile("304", {}, (LIMIT_304, "nginx", "middleware", "protocol", "door"), 304),
    # What many keys cost whoever serves them: the memory of that many pages is in no cache of the processor.
    *(
        Profile(f"keys, {name}", {}, (f"{name}, {FEW_KEYS} keys", f"{name}, many keys"))
        for name in ("door", "raw ASGI", "nginx")
    ),
)


def body(number: int) -> bytes:
    """Half a kilobyte."""
    return b'{"code":%d,"fill":"%s"}' % (number, b"volume " * 70)


def hot_of(root: Path, store: str, keys: int) -> Hotpath:
    """The declaration that belongs to a store."""
    if store == "hot":
        return declare(root / store)
    count = FEW_KEYS if store == "few" else keys
    return declare_items(root / store, count, body, ITEM_MEDIA_TYPE, max_body_bytes="1GiB")


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Behind the door: sleeps, or computes, for a fifth of a second, as its path says."""
    if scope["type"] == "http":
        until = time.perf_counter() + NAP_SECONDS
        if scope["path"] == "/c":
            sum(repeat(1, C_STEPS))  # one call, in which no other thread runs
        if scope["path"] == "/sleep":
            time.sleep(NAP_SECONDS)  # noqa: ASYNC251 # the loop is to be blocked
        while scope["path"] == "/compute" and time.perf_counter() < until:
            pass
        await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})


def raw_of(hot: Hotpath) -> ASGIApp:
    """The same answers from a dictionary that somebody wrote by hand."""
    reader = reader_of(hot)
    reader.start()
    answers = {}
    for key, page in reader.snapshot.pages.items():
        answer = page.variants[IDENTITY]
        assert answer is not None  # every page has it
        headers = [*answer.headers, *answer.freshness.headers]
        answers[key.decode("ascii")] = (
            {"type": "http.response.start", "status": 200, "headers": headers},
            {"type": "http.response.body", "body": bytes(bytearray(answer.body))},
        )
    reader.close()

    async def raw(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            start, end = answers[scope["path"]]
            await send(start)
            await send(end)

    return raw


def serve(kind: str, hot: Hotpath, port: int) -> None:
    """One server of ours until terminated."""
    wrapped = HotpathMiddleware(app, hot=hot)
    if kind == "raw":
        import uvicorn

        uvicorn.run(raw_of(hot), port=port, loop="uvloop", http="httptools", access_log=False, log_level="warning")
        return
    if kind == "protocol":
        import uvicorn

        http = "hotpath.front.protocol:HotpathProtocol"
        reader_of(hot).start()
        uvicorn.run(wrapped, port=port, loop="uvloop", http=http, access_log=False, log_level="warning")
        return
    asyncio.run(_serve_door(wrapped, hot, port))


async def _serve_door(wrapped: HotpathMiddleware, hot: Hotpath, port: int) -> None:
    from hotpath.front.door import Door
    from hotpath.front.server import FrontServer

    server = FrontServer(wrapped)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.begin_shutdown)
    with socket.create_server(("127.0.0.1", port), backlog=2048) as listener:
        door = Door(hot, [listener], server.take, idle_seconds=3600)
        door.start()
        await server.serve()
        door.stop(0)


class Field:
    """All servers, started when they are first asked for; with the scripts and the idle clients."""

    def __init__(self, root: Path, keys: int, cores: Cores, stack: contextlib.ExitStack) -> None:
        self.cores = cores
        self._root = root
        self._keys = keys
        self._stack = stack
        self._servers: dict[str, Server] = {}

    def target(self, name: str, profile: Profile) -> Target:
        """What wrk asks this server. Raises ``Missing`` or ``Broken``."""
        server = self.server(name)
        store = SERVERS[name][1]
        if store != "hot":
            count = FEW_KEYS if store == "few" else self._keys
            _ask_each(server, count)
            return Target(server, item_path(0), {}, self._script(store, count))
        fields = dict(profile.headers)
        if profile.status == 304:
            fields["if-none-match"] = ask(server, {})[1]["etag"]
        status, _, sent = ask(server, fields)
        if status != profile.status or bool(sent) is (status == 304):
            raise Broken(f"{name} answers {status} with {len(sent)} bytes")
        return Target(server, PATH, fields)

    def server(self, name: str) -> Server:
        """The server of this name."""
        if name not in self._servers:
            server = self._servers[name] = self._start(name)
            self._stack.callback(server.stop)
            if name.endswith("idle"):
                for _ in range(IDLE):
                    self._stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        return self._servers[name]

    def _start(self, name: str) -> Server:
        kind, store = SERVERS[name]
        port = free_port()
        files = peers.Files(self._root, self._root / store)
        if kind == "nginx":
            nginx = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/bin")
            if nginx is None:
                raise Missing("nginx is not installed (apt-get install nginx-light)")
            configuration = self._root / f"nginx-{store}.conf"
            # It keeps files open; where it may not as many as there are pages, it opens the others each time.
            allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0] * 3 // 4
            open_files = min(self._keys, allowed) if store == "many" else 100
            configuration.write_text(peers.nginx_configuration(files, port, open_files))
            command = [nginx, "-p", str(self._root), "-c", str(configuration)]
        elif kind.startswith("peer "):
            command = [sys.executable, "-m", "benchmarks.peers", kind[5:], "--root", str(self._root)]
            command += ["--port", str(port)]
        else:
            command = [sys.executable, "-m", "benchmarks.front", "--serve", kind, "--store", store]
            command += ["--root", str(self._root), "--keys", str(self._keys), "--port", str(port)]
        return start_server(command, port, self.cores.server, self._root / f"{port}.log")

    def _script(self, store: str, count: int) -> Path:
        """All keys, in an order that no cache of the processor likes."""
        path = self._root / f"{store}.lua"
        path.write_text(
            f"local n, count = 0, {count}\n"
            "local requests = {}\n"
            "function init(args)\n"
            "  for i = 0, count - 1 do\n"
            '    requests[i] = wrk.format("GET", string.format("/items/%06d.json", i))\n'
            "  end\n"
            "end\n"
            "function request()\n"
            "  n = (n + 7919) % count\n"
            "  return requests[n]\n"
            "end\n"
        )
        return path


def _ask_each(server: Server, count: int) -> None:
    """Each key once: a server that accepts already loads its pages first, and makes some things when first asked."""
    with socket.create_connection(("127.0.0.1", server.port), LOAD_SECONDS) as client:
        for number in range(count):
            client.sendall(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % item_path(number).encode())
            _read_answer(client)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; ratios are to the first server of the profile, above 1 is better."""

    profile: str
    server: str
    rate_ratio: Ratio | None
    cpu_ratio: Ratio
    requests_per_second: float | None
    cpu_microseconds: float


@dataclass(frozen=True, slots=True)
class Plan:
    """How to measure: servers in turn, or each together with the first one, on the same core."""

    rounds: int
    seconds: int
    keep_noisy: bool
    paired: bool


def compare(profile: Profile, field: Field, plan: Plan, probe: Probe) -> list[Row]:
    """All servers of one profile. What cannot be measured is said on standard error."""
    targets = {}
    for name in profile.servers:
        try:
            targets[name] = field.target(name, profile)
        except (Missing, Broken, OSError) as error:
            tell(f"{profile.name}: {name} is left out: {error}")
    if not targets:
        return []
    return list(_pairs(profile, targets, field, plan) if plan.paired else _slots(profile, targets, field, plan, probe))


def _pairs(profile: Profile, targets: Mapping[str, Target], field: Field, plan: Plan) -> Iterator[Row]:
    first, *others = targets
    found = run_pairs(
        others, plan.rounds, lambda name: run_pair(targets[first], targets[name], plan.seconds, field.cores), tell
    )
    for name, pairs in found.items():
        ratio = Ratio.of([limit / own for limit, own in pairs])
        yield Row(profile.name, name, None, ratio, None, Ratio.of([own for _, own in pairs]).median)


def _slots(profile: Profile, targets: Mapping[str, Target], field: Field, plan: Plan, probe: Probe) -> Iterator[Row]:
    found = run_rounds(
        list(targets),
        plan.rounds,
        lambda name: run_slot(targets[name], plan.seconds, field.cores, probe),
        tell,
        keep_noisy=plan.keep_noisy,
    )
    if not found:
        return
    limit = found[next(iter(found))]
    for name, series in found.items():
        rate, cpu = ratio_of(series, limit, _rate), ratio_of(series, limit, lambda slot: 1 / slot.cpu_microseconds)
        if rate is None or cpu is None:
            tell(f"{profile.name}: {name} has no quiet round together with the first ({series.discarded} discarded)")
            continue
        yield Row(profile.name, name, rate, cpu, _median(series, _rate), _median(series, _cpu))


def _rate(slot: Slot) -> float:
    return slot.requests_per_second


def _cpu(slot: Slot) -> float:
    return slot.cpu_microseconds


def _median(series: Series, value: Any) -> float:
    return Ratio.of([value(slot) for slot in series.slots.values()]).median


def latencies(server: Server, busy_with: str | None) -> tuple[float, float, float]:
    """Median, 99th percentile and longest time of hits, in ms, on one connection, while the loop does something."""
    done = threading.Event()

    def keep_busy() -> None:
        while not done.is_set():
            with socket.create_connection(("127.0.0.1", server.port)) as cold:
                cold.sendall(b"GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % str(busy_with).encode())
                while cold.recv(65536):
                    pass

    thread = threading.Thread(target=keep_busy)
    if busy_with is not None:
        thread.start()
        time.sleep(NAP_SECONDS)
    request = b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % PATH.encode()
    taken: list[float] = []
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        until = time.perf_counter() + LATENCY_SECONDS
        while len(taken) < LATENCY_REQUESTS and (before := time.perf_counter()) < until:
            client.sendall(request)
            _read_answer(client)
            taken.append((time.perf_counter() - before) * 1000)
    done.set()
    if busy_with is not None:
        thread.join()
    taken.sort()
    return taken[len(taken) // 2], taken[len(taken) * 99 // 100], taken[-1]


def _read_answer(client: socket.socket) -> None:
    data = b""
    while b"\r\n\r\n" not in data:
        data += client.recv(65536)
    head, _, rest = data.partition(b"\r\n\r\n")
    left = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]) - len(rest)
    while left:
        left -= len(client.recv(65536))


def tell(line: str) -> None:
    """What is not a figure."""
    print(line, file=sys.stderr, flush=True)


def run(options: argparse.Namespace, plan: Plan, cores: Cores) -> tuple[list[Row], list[list[object]]]:
    """Make the stores, start the servers, measure, stop the servers."""
    if shutil.which("wrk") is None:
        raise Missing("wrk is not installed (apt-get install wrk)")
    with tempfile.TemporaryDirectory(prefix="hotpath-bench-") as directory, contextlib.ExitStack() as stack:
        root = Path(directory)
        reader_of(publish(root / "hot")).close()
        profiles = [profile for profile in PROFILES if options.profiles is None or profile.name in options.profiles]
        if any(profile.name.startswith("keys") for profile in profiles):
            for store in ("few", "many"):
                tell(f"building {store} keys")
                build(hot_of(root, store, options.keys))
        field = Field(root, options.keys, cores, stack)
        probe = Probe()
        rows: list[Row] = []
        for profile in profiles:
            tell(f"{time.strftime('%H:%M:%S')} {profile.name}")
            rows += compare(profile, field, plan, probe)
        door = field.server("door")
        hits = [
            [name, *latencies(door, path)]
            for name, path in (("idle", None), ("asleep", "/sleep"), ("in pure Python", "/compute"), ("in C", "/c"))
        ]
        return rows, hits


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2 rounds of 1 s instead of 6 of 3 s")
    parser.add_argument("--rounds", type=int, help="how often each server is measured")
    parser.add_argument("--seconds", type=int, help="how long, each time")
    parser.add_argument("--keys", type=int, default=100_000, help="of the store with many")
    parser.add_argument("--profiles", nargs="+", choices=[p.name for p in PROFILES], help="kinds of requests")
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--paired", action="store_true", help="load each together with the first: for busy machines")
    way.add_argument("--keep-noisy", action="store_true", help="use every slot, whatever ran beside it")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    for name in ("serve", "store", "root", "port"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; 1 when nothing could be measured."""
    options = parse_arguments(arguments)
    if options.serve:
        serve(options.serve, hot_of(Path(options.root), options.store, options.keys), int(options.port))
        return 0
    plan = Plan(
        options.rounds or (2 if options.quick else 6),
        options.seconds or (1 if options.quick else 3),
        options.keep_noisy,
        options.paired,
    )
    cores = Cores.choose()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers end too
    try:
        rows, hits = run(options, plan, cores)
    except Missing as error:
        tell(str(error))
        return 1
    if not rows:
        tell("nothing could be measured; on a machine that others use, try --keep-noisy")
        return 1
    print_facts(machine())
    print(f"servers on core {cores.server}, wrk with {CONNECTIONS} connections on core {cores.client};")
    how = "each server together with the first of its profile" if plan.paired else "in turn"
    print(f"{plan.rounds} rounds of {plan.seconds} s, {how}; {options.keys:,} keys where there are many.")
    print("Ratios to the first server of each profile in the same round, median (min to max); above 1 is better.\n")
    cells = [
        [f"{row.profile}: {row.server}", *_span(row.cpu_ratio), *_span(row.rate_ratio),
         row.requests_per_second, row.cpu_microseconds]
        for row in rows
    ]  # fmt: skip
    titles = ("request: server", "CPU ratio", "min", "max", "req/s ratio", "min", "max", "req/s", "CPU µs")
    print_table(titles, cells)
    count = f"{LATENCY_REQUESTS:,} in a row or as many as {LATENCY_SECONDS:g} s allow"
    print(f"\nMilliseconds of a hit through the door, {count}, by what the loop does:\n")
    print_table(("loop", "median", "p99", "longest"), hits)
    write_json(options.json, {"rows": [_as_json(row) for row in rows], "latency_ms": hits})
    return 0


def _span(ratio: Ratio | None) -> tuple[float | None, float | None, float | None]:
    return (ratio.median, ratio.low, ratio.high) if ratio else (None, None, None)


def _as_json(row: Row) -> dict[str, Any]:
    return {
        "profile": row.profile,
        "server": row.server,
        "cpu_ratio": _span(row.cpu_ratio),
        "rate_ratio": _span(row.rate_ratio),
        "requests_per_second": row.requests_per_second,
        "cpu_microseconds": row.cpu_microseconds,
    }


if __name__ == "__main__":
    sys.exit(main())
