"""Requests a second over a real socket, as ratios to a raw ASGI app measured in the same round.

    python -m benchmarks.serving --quick      2 rounds of 1 s, about two minutes
    python -m benchmarks.serving              6 rounds of 3 s, about fifteen
    python -m benchmarks.serving --paired     where other users of the machine leave no quiet moment
    python -m benchmarks.serving --profiles identity --peers naive hotpath

uvicorn with uvloop and httptools, one worker on one core; wrk with one thread and 32 connections on another.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.harness import (
    ATTEMPTS,
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
    wait_until_quiet,
    write_json,
)
from benchmarks.sample import PATH, browser_headers, publish
from hotpath.serving import reader_of

LIMIT_SERVERS = 3

ANSWERS = ("naive", "hotpath", "hotpath-added")
STATIC = ("whitenoise", "servestatic", "staticfiles", "nginx")
DYNAMIC = ("sqlite", "fastapi-cache2", "cashews")


@dataclass(frozen=True, slots=True)
class Profile:
    """One kind of request: its fields beside Host, what must come back, who can answer it, and the limit for all."""

    name: str
    headers: Mapping[str, str]
    status: int
    coding: str | None  # "any" where the peer may choose
    limit: str
    peers: tuple[str, ...]
    conditional: bool = False


def _browser(coding: str) -> dict[str, str]:
    fields = browser_headers(coding.encode("ascii"))
    return {name.decode("ascii"): value.decode("ascii") for name, value in fields if name != b"host"}


PROFILES = (
    Profile("identity", {}, 200, None, "raw", ("same-identity", *ANSWERS, *STATIC, *DYNAMIC)),
    Profile("identity, same bytes", {}, 200, None, "same-identity", ("hotpath",)),
    Profile("gzip", {"accept-encoding": "gzip"}, 200, "gzip", "same-gzip", (*ANSWERS, *STATIC[:2], "nginx")),
    Profile("304", {}, 304, None, "same-304", (*ANSWERS, *STATIC, *DYNAMIC[1:]), conditional=True),
    Profile("13 fields, identity", _browser("identity"), 200, None, "raw", ("same-identity", *ANSWERS)),
    Profile("13 fields, same bytes", _browser("identity"), 200, None, "same-identity", ("hotpath",)),
    Profile("13 fields, browser", _browser("gzip, deflate, br, zstd"), 200, "any", "same-browser", ANSWERS[1:]),
)


def ask(server: Server, headers: Mapping[str, str]) -> tuple[int, dict[str, str], bytes]:
    """One request, by another client than the one that measures."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request("GET", PATH, headers={"accept-encoding": "identity", **headers})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def fields_for(server: Server, profile: Profile) -> dict[str, str]:
    """The request fields for this peer, with its own ETag. Raises ``Broken`` when the answer is not as it must be."""
    fields = dict(profile.headers)
    if profile.conditional:
        etag = ask(server, fields)[1].get("etag")
        if etag is None:
            raise Broken("it sends no ETag")
        fields["if-none-match"] = etag
    status, headers, body = ask(server, fields)
    if status != profile.status:
        raise Broken(f"it answers {status}, not {profile.status}")
    coding = headers.get("content-encoding")
    if status == 200 and (not body or profile.coding not in ("any", coding)):
        raise Broken(f"it sends {coding or 'no coding'} with {len(body)} bytes, not {profile.coding or 'identity'}")
    return fields


class Field:
    """All servers, started when they are first asked for."""

    def __init__(self, files: peers.Files, cores: Cores, stack: contextlib.ExitStack) -> None:
        self._files = files
        self._cores = cores
        self._stack = stack
        self._servers: dict[tuple[str, int], Server] = {}

    def server(self, name: str, copy: int = 1) -> Server:
        """The server of this name, or another of the same kind. Raises ``Missing`` or ``Broken``."""
        if (name, copy) not in self._servers:
            server = self._start(name)
            self._servers[name, copy] = server
            self._stack.callback(server.stop)
        return self._servers[name, copy]

    def _start(self, name: str) -> Server:
        port = free_port()
        root = self._files.root
        if name == "nginx":
            nginx = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/bin")
            if nginx is None:
                raise Missing("nginx is not installed (apt-get install nginx-light)")
            configuration = root / "nginx.conf"
            configuration.write_text(peers.nginx_configuration(self._files, port))
            command = [nginx, "-p", str(root), "-c", str(configuration)]
        else:
            command = [sys.executable, "-m", "benchmarks.peers", name, "--root", str(root), "--port", str(port)]
        return start_server(command, port, self._cores.server, root / f"{name}-{port}.log")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; what a way of measuring does not give is ``None``."""

    profile: str
    peer: str
    to_limit: Ratio | None
    cpu_to_limit: Ratio
    requests_per_second: Ratio | None
    cpu_microseconds: Ratio
    discarded: int


@dataclass(frozen=True, slots=True)
class Plan:
    """How to measure; ``wanted`` are the peers beside the limit, ``None`` for all."""

    wanted: Sequence[str] | None
    rounds: int
    seconds: int
    keep_noisy: bool
    paired: bool
    cores: Cores


def compare(profile: Profile, field: Field, plan: Plan, probe: Probe) -> list[Row]:
    """All peers of one profile. What cannot be measured is told on standard error."""
    targets = {}
    for name in (profile.limit, *profile.peers):
        if plan.wanted is None or name in plan.wanted or name == profile.limit:
            try:
                server = field.server(name)
                targets[name] = Target(server, PATH, fields_for(server, profile))
            except (Missing, Broken, OSError) as error:
                tell(f"{profile.name}: {name} is left out: {error}")
    if profile.limit not in targets:
        return []
    rows = _pairs(profile, targets, field, plan) if plan.paired else _slots(profile, targets, plan, probe)
    return list(rows)


def _slots(profile: Profile, targets: Mapping[str, Target], plan: Plan, probe: Probe) -> Iterable[Row]:
    def measure(name: str) -> Slot:
        if not plan.keep_noisy:
            wait_until_quiet(plan.cores, probe)
        return run_slot(targets[name], plan.seconds, plan.cores, probe)

    found = run_rounds(list(targets), plan.rounds, measure, tell, keep_noisy=plan.keep_noisy)
    limit = found.get(profile.limit, Series())
    for name, series in found.items():
        to_limit = ratio_of(series, limit, lambda slot: slot.requests_per_second)
        cpu = ratio_of(series, limit, lambda slot: 1 / slot.cpu_microseconds)
        if to_limit is None or cpu is None:
            tell(f"{profile.name}: {name} has no quiet round together with the limit ({series.discarded} discarded)")
            continue
        slots = list(series.slots.values())
        rate = Ratio.of([slot.requests_per_second for slot in slots])
        time_used = Ratio.of([slot.cpu_microseconds for slot in slots])
        yield Row(profile.name, name, to_limit, cpu, rate, time_used, series.discarded)


def _pairs(profile: Profile, targets: Mapping[str, Target], field: Field, plan: Plan) -> Iterable[Row]:
    # Two processes of the same code differ by some percent, by where their memory happens to lie. So the limit is
    # several servers, used in turn; how far they are from each other, on its own line, says what to think of the rest.
    limits = [
        Target(field.server(profile.limit, copy), PATH, targets[profile.limit].headers)
        for copy in range(1, LIMIT_SERVERS + 1)
    ]
    turns = dict.fromkeys(targets, 0)

    def measure(name: str) -> tuple[float, float]:
        turns[name] += 1
        limit = limits[turns[name] % LIMIT_SERVERS]
        other = limits[(turns[name] + 1) % LIMIT_SERVERS] if name == profile.limit else targets[name]
        return run_pair(limit, other, plan.seconds, plan.cores)

    for name, pairs in run_pairs(list(targets), plan.rounds, measure, tell).items():
        ratio = Ratio.of([of_limit / of_peer for of_limit, of_peer in pairs])
        yield Row(profile.name, name, None, ratio, None, Ratio.of([of_peer for _, of_peer in pairs]), 0)


def tell(line: str) -> None:
    """What is not a figure."""
    print(line, file=sys.stderr, flush=True)


HOW_SLOTS = f"""\
A slot beside which something else ran, or a core was slow, is done again, at most {ATTEMPTS} times. Ratios are to the
first line of each block in the same round, median with min and max: of requests a second; and of the server's
processor time a request, which other users of the machine disturb less."""

HOW_NOISY = """\
Noisy slots were kept: other users of the machine are in these figures. Ratios as without --keep-noisy."""

HOW_PAIRS = """\
Each peer was under load together with the limit, the first line of its block, on one core, which the kernel gave them
in turn: what made the machine slow made both slow. Ratios are of the servers' processor time a request, median with
min and max; the first line is the limit beside other servers of its own kind."""

TITLES = ("request, peer", "req/s ratio", "min", "max", "CPU ratio", "min", "max", "req/s", "CPU µs", "rounds", "again")


def table(rows: Sequence[Row]) -> list[list[object]]:
    """The table's cells: ratios first, they are what can be compared."""
    cells: list[list[object]] = []
    profile = None
    for row in rows:
        if row.profile != profile:
            profile = row.profile
            cells.append([profile, *[""] * (len(TITLES) - 1)])
        rate = round(row.requests_per_second.median) if row.requests_per_second else None
        ratios = [*_span(row.to_limit), *_span(row.cpu_to_limit)]
        rounds = row.cpu_to_limit.rounds
        cells.append([f"  {row.peer}", *ratios, rate, row.cpu_microseconds.median, rounds, row.discarded])
    return cells


def _span(ratio: Ratio | None) -> tuple[float | None, float | None, float | None]:
    return (ratio.median, ratio.low, ratio.high) if ratio else (None, None, None)


def run(profiles: Sequence[Profile], plan: Plan) -> list[Row]:
    """Make the store, start the servers, measure, stop the servers."""
    if shutil.which("wrk") is None:
        raise Missing("wrk is not installed (apt-get install wrk)")
    with tempfile.TemporaryDirectory(prefix="hotpath-bench-") as directory, contextlib.ExitStack() as stack:
        root = Path(directory)
        files = peers.Files(root, root / "hot")
        reader_of(publish(files.store)).close()
        peers.fill_database(files)
        field = Field(files, plan.cores, stack)
        probe = Probe()
        rows: list[Row] = []
        for profile in profiles:
            tell(f"{time.strftime('%H:%M:%S')} {profile.name}")
            rows += compare(profile, field, plan, probe)
        return rows


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2 rounds of 1 s instead of 6 of 3 s")
    parser.add_argument("--rounds", type=int, help="how often each peer is measured")
    parser.add_argument("--seconds", type=int, help="how long, each time")
    parser.add_argument("--profiles", nargs="+", choices=[p.name for p in PROFILES], help="kinds of requests")
    parser.add_argument("--peers", nargs="+", choices=[*peers.PEERS, "nginx"], help="beside the limit")
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--paired", action="store_true", help="load each peer together with the limit: for busy machines")
    way.add_argument("--keep-noisy", action="store_true", help="use every slot, whatever ran beside it")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 when nothing could be measured."""
    options = parse_arguments(arguments)
    rounds = options.rounds or (2 if options.quick else 6)
    seconds = options.seconds or (1 if options.quick else 3)
    profiles = [p for p in PROFILES if options.profiles is None or p.name in options.profiles]
    cores = Cores.choose()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers end too
    try:
        rows = run(profiles, Plan(options.peers, rounds, seconds, options.keep_noisy, options.paired, cores))
    except Missing as error:
        tell(str(error))
        return 1
    if not rows:
        tell("nothing could be measured; on a machine that others use, try --paired")
        return 1
    print_facts(machine())
    print(f"uvicorn (uvloop, httptools, one worker) on core {cores.server}, wrk on core {cores.client}")
    print(f"with one thread and {CONNECTIONS} connections; {rounds} rounds of {seconds} s, in turn.")
    print(HOW_PAIRS if options.paired else HOW_NOISY if options.keep_noisy else HOW_SLOTS)
    for profile in profiles:
        sent: dict[str, Any] = dict(profile.headers)
        if profile.conditional:
            sent["if-none-match"] = "its own ETag"
        print(f"request {profile.name!r}: GET {PATH}, Host{''.join(f'; {name}: {sent[name]}' for name in sent)}")
    print()
    print_table(TITLES, table(rows))
    write_json(options.json, {"rounds": rounds, "seconds": seconds, "rows": [asdict(row) for row in rows]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
