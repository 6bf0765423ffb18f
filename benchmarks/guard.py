"""What the memory guard costs: letting a request in, refusing one, looking at memory, and a hot page nothing.

    python -m benchmarks.guard --quick      a minute
    python -m benchmarks.guard              two, with more rounds

In-process figures are nanoseconds, floor subtracted, each beside the same app without a guard in the same round.
A refusal is measured end to end on uvicorn, with the new connections that refusals ask for, beside an app that sends no
more than the bytes.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import sys
import tempfile
import threading
import time
from pathlib import Path

from benchmarks.harness import (
    Cores,
    Missing,
    Server,
    free_port,
    machine,
    print_facts,
    print_table,
    start_server,
    start_wrk,
    write_json,
)
from benchmarks.plain import constant
from benchmarks.sample import COLD_PATH, HOST, PATH, ASGIApp, browser_headers, publish
from benchmarks.timing import Case, Figure, Rounds, measure
from hotpath import HotpathMiddleware
from hotpath.guard.guard import MemoryGuard
from hotpath.guard.refusal import Refusals
from hotpath.guard.states import Level, Thresholds
from hotpath.serving import reader_of
from hotpath.testing import asgi_get

# So low that any process is in BRAKE from its first sample on.
ALWAYS_BRAKE = Thresholds(
    trim=Level(3e-9, 1e-9, 0.0, 10.0), shed=Level(6e-9, 4e-9, 0.0, 15.0), brake=Level(9e-9, 8e-9, 0.0, 15.0)
)
WINDOW_SECONDS = 10.0
TARGETS = {"admission": 200.0, "refusal": 50.0, "sampler": 0.1}
SERVED = {
    "guard": ("make_braking", "a refusal on uvicorn"),
    "bare": ("make_bare", "the same bytes from a bare app, each on a new connection"),
    "kept": ("make_kept", "the same bytes from a bare app on connections that stay"),
}


class Unstarted(MemoryGuard):
    """No thread beside the measurement."""

    @property
    def is_started(self) -> bool:
        """So that no request starts it."""
        return True


def in_process(root: Path, rounds: int) -> Rounds:
    """Hits, misses and refusals with and without a guard."""
    hot = publish(root)
    reader_of(hot).close()
    raw = constant(200, [], b"cold")
    open_guard, braking = Unstarted(leave=False), Unstarted(thresholds=ALWAYS_BRAKE, leave=False)
    for guard in (open_guard, braking):
        guard.sample()
    apps: dict[str, ASGIApp] = {
        "without": HotpathMiddleware(raw, hot=hot),
        "with": HotpathMiddleware(raw, hot=hot, guard=open_guard),
        "braking": HotpathMiddleware(raw, hot=hot, guard=braking),
    }
    for app in apps.values():
        asyncio.run(asgi_get(app, PATH))
    assert asyncio.run(asgi_get(apps["braking"], COLD_PATH)).status == 503
    cases = [
        Case(f"{name} {kind} {count}", app, [path], headers)
        for name, app in apps.items()
        for kind, path in (("hit", PATH), ("miss", COLD_PATH))
        for count, headers in (("1 field", [HOST]), ("13 fields", browser_headers()))
    ]
    return measure(cases, rounds=rounds)


def sample_microseconds(rounds: int) -> Figure:
    """Processor time of one sample after another, so with all caches of the processor warm."""
    guard = Unstarted(leave=False)
    guard.sample()
    samples = []
    for _ in range(rounds):
        started = time.process_time_ns()
        for _ in range(100):
            guard.sample()
        samples.append((time.process_time_ns() - started) / 100_000)
    guard.close()
    return Figure.of(samples)


def at_rest_percent(root: Path, windows: int) -> Figure:
    """Percent of a core that the guard's own thread takes in an idle process: a sample a second, each with cold caches,
    a sign of life to the other workers, and every tenth second the walk through all memory."""
    guard = MemoryGuard(leave=False)
    guard.start(str(root / "rest"))
    thread = next(one for one in threading.enumerate() if one.name == "hotpath-guard")
    spent = Path(f"/proc/self/task/{thread.native_id}/schedstat")
    time.sleep(1)
    found = []
    for _ in range(windows):
        before, started = int(spent.read_text().split()[0]), time.monotonic_ns()
        time.sleep(WINDOW_SECONDS)
        found.append((int(spent.read_text().split()[0]) - before) / (time.monotonic_ns() - started) * 100)
    guard.close()
    return Figure.of(found)


def make_braking() -> ASGIApp:
    """Served by uvicorn: everything cold is refused."""
    hot = publish(Path(os.environ["HOTPATH_BENCH_ROOT"], "braking"))
    return HotpathMiddleware(
        constant(200, [], b"cold"), hot=hot, guard=MemoryGuard(thresholds=ALWAYS_BRAKE, leave=False)
    )


def make_bare() -> ASGIApp:
    """Served by uvicorn: the same bytes, from an app that closes the connection and does nothing else."""
    refusal = Refusals(15.0).pick(503, [], 0.0)
    return constant(refusal.status, [*refusal.headers, (b"connection", b"close")], refusal.body)


def make_kept() -> ASGIApp:
    """Served by uvicorn: the same bytes on connections that stay open."""
    refusal = Refusals(15.0).pick(503, [], 0.0)
    return constant(refusal.status, [*refusal.headers], refusal.body)


def refusals(root: Path, rounds: int, seconds: int) -> dict[str, list[float]]:
    """Processor microseconds of the server for each refusal, by server, round by round in turn. Raises ``Missing``."""
    cores = Cores.choose()
    os.environ["HOTPATH_BENCH_ROOT"] = str(root)
    servers: dict[str, Server] = {}
    found: dict[str, list[float]] = {name: [] for name in SERVED}
    try:
        for name, (factory, _) in SERVED.items():
            port = free_port()
            command = [sys.executable, "-m", "uvicorn", "--factory", f"benchmarks.guard:{factory}", "--port", str(port)]
            command += ["--log-level", "error", "--no-access-log"]
            servers[name] = start_server(command, port, cores.server, root / f"{name}.log")
        time.sleep(1)
        for _ in range(rounds):
            for name, server in servers.items():
                before = server.cpu_seconds()
                output, _ = start_wrk(server, COLD_PATH, {}, seconds, cores.client).communicate()
                count = re.search(r"(\d+) requests in", output)
                refused = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
                if count is None or refused is None or refused.group(1) != count.group(1):
                    raise Missing(f"not all were refused: {output}")
                found[name].append((server.cpu_seconds() - before) / int(count.group(1)) * 1e6)
    finally:
        for server in servers.values():
            server.stop()
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args()
    rounds = 5 if options.quick else 15
    with tempfile.TemporaryDirectory(prefix="hotpath-bench-") as directory:
        found = in_process(Path(directory, "hot"), rounds)
        sample = sample_microseconds(rounds)
        resting = at_rest_percent(Path(directory), 1 if options.quick else 4)
        try:
            refused = refusals(Path(directory), 3 if options.quick else 6, 2)
        except Missing as error:
            refused = {}
            print(error)
    print_facts(machine())
    print(f"{found.kept} of {found.tried} rounds count; median, min and max of the rounds")
    print()
    rows: list[list[object]] = []
    for count in ("1 field", "13 fields"):
        added = found.difference(f"with miss {count}", f"without miss {count}")
        rows.append([f"admission: a miss with the guard, {count}, added ns", *_span(added), TARGETS["admission"]])
    for count in ("1 field", "13 fields"):
        ratio = found.ratio(f"with hit {count}", f"without hit {count}")
        rows.append([f"a hit with the guard, {count}, to without", *_span(ratio), 1.0])
        ratio = found.ratio(f"braking hit {count}", f"without hit {count}")
        rows.append([f"a hit under BRAKE, {count}, to without", *_span(ratio), 1.0])
    for count in ("1 field", "13 fields"):
        rows.append([f"a refusal in process, {count}, ns", *_span(found.figure(f"braking miss {count}")), None])
    for name, values in refused.items():
        rows.append([f"{SERVED[name][1]}, CPU µs", *_span(Figure.of(values)), TARGETS["refusal"]])
    if refused:
        pairs = zip(refused["guard"], refused["kept"], strict=True)
        rows.append(["of which the guard, µs", *_span(Figure.of(a - b for a, b in pairs)), None])
    rows.append(["a sample after another, CPU µs", *_span(sample), None])
    rows.append(["the guard's thread at rest, % of a core", *_span(resting), TARGETS["sampler"]])
    print_table(("what", "median", "min", "max", "target"), rows)
    write_json(options.json, {"rows": rows})


def _span(figure: Figure) -> tuple[float, float, float]:
    return figure.median, figure.low, figure.high


if __name__ == "__main__":
    main()
