"""What the serving benchmarks share: servers on one core, the client on another, rounds in turn, a rule for noise.

A slot is one run of the client against one server. Before and after it the speed of both cores is probed, and the
system's own count of processor time says what ran beside it. A slot in which something else used the machine is
discarded and done again; the rule never looks at what the slot measured.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import re
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).resolve().parent.parent

# Processor time of others during a slot, and the drop of a core's speed, above which a slot is discarded.
OTHERS_SHARE = 0.10
SLOW = 1.15
ATTEMPTS = 4

# How long to wait for a quiet machine, in a whole run, and over what time to look.
PATIENCE_SECONDS = 300.0
LOOK_SECONDS = 0.2

READY_SECONDS = 60.0
CONNECTIONS = 32

_TICK = os.sysconf("SC_CLK_TCK")
_PACKAGES = (
    "asgi-hotpath uvicorn uvloop httptools starlette fastapi a2wsgi whitenoise servestatic fastapi-cache2 cashews"
).split()


class Missing(Exception):
    """A peer or a tool is not there; says what to install."""


class Broken(Exception):
    """A peer does not answer as it should."""


@dataclass(frozen=True, slots=True)
class Cores:
    """Where server and client run; the same core where the machine has one."""

    server: int
    client: int

    @classmethod
    def choose(cls) -> Cores:
        available = sorted(os.sched_getaffinity(0))
        return cls(available[0], available[-1])


@contextlib.contextmanager
def pinned(core: int) -> Iterator[None]:
    """Run on one core; what is started meanwhile stays there."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@dataclass(slots=True)
class Server:
    """A server process that answers on 127.0.0.1."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cpu_seconds(self) -> float:
        """Processor time of all its threads until now, of those that ended too."""
        # clock_getcpuclockid(3), which Python does not have: the process id in the upper bits, 2 for nanoseconds.
        return time.clock_gettime(~self.process.pid << 3 | 2)

    def stop(self) -> None:
        """End it by its process id."""
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start_server(command: Sequence[str], port: int, core: int, log: Path) -> Server:
    """Start a server on one core and wait until it accepts. Raises ``Broken`` with the end of its output."""
    paths = [str(ROOT), str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONHASHSEED": "0"}
    with log.open("wb") as output, pinned(core):
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment, cwd=ROOT)
    server = Server(process, port)
    until = time.monotonic() + READY_SECONDS
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return server
        time.sleep(0.02)
    server.stop()
    raise Broken(f"did not start: {log.read_text(errors='replace').strip()[-400:]}")


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True, slots=True)
class Slot:
    """What one run of the client found, and how quiet the machine was meanwhile."""

    requests_per_second: float
    cpu_microseconds: float
    others: float
    slowness: float

    @property
    def is_quiet(self) -> bool:
        """The rule for noise."""
        return self.others <= OTHERS_SHARE and self.slowness <= SLOW


def parse_wrk(output: str) -> tuple[float, int]:
    """Requests a second and the number of requests. Raises ``Broken`` for errors and for refusals."""
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    total = re.search(r"(\d+) requests in", output)
    errors = re.search(r"Socket errors:.*|Non-2xx or 3xx responses:.*", output)
    if rate is None or total is None or errors is not None:
        raise Broken(errors.group() if errors else f"wrk said: {output.strip()[:200]}")
    if total.group(1) == "0":
        raise Broken("no request was answered")
    return float(rate.group(1)), int(total.group(1))


@dataclass(slots=True)
class Probe:
    """How fast a core is now, compared to the fastest it has been in this run; and how long one still may wait."""

    fastest: dict[int, float] = field(default_factory=dict)
    patience_seconds: float = PATIENCE_SECONDS

    def slowness(self, core: int) -> float:
        """1.0 at full speed; a rented core is at 1.5 and more when another guest uses its twin."""
        with pinned(core):
            taken = min(_spin() for _ in range(5))
        self.fastest[core] = min(taken, self.fastest.get(core, taken))
        return taken / self.fastest[core]


def _spin() -> float:
    started = time.perf_counter()
    total = 0
    for number in range(20_000):
        total += number
    return time.perf_counter() - started


def busy_seconds() -> float:
    """Processor time that was used or stolen since the machine started, all cores together."""
    user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:9])
    return (user + nice + system + irq + softirq + steal) / _TICK


def wait_until_quiet(cores: Cores, probe: Probe) -> None:
    """Return when nothing else has run for a moment and both cores are fast, or when patience has ended."""
    while probe.patience_seconds > 0:
        busy, own, started = busy_seconds(), time.process_time(), time.perf_counter()
        slowness = max(probe.slowness(core) for core in (cores.server, cores.client))
        time.sleep(LOOK_SECONDS)
        wall = time.perf_counter() - started
        others = (busy_seconds() - busy - (time.process_time() - own)) / wall
        if slowness <= SLOW and others <= OTHERS_SHARE:
            return
        probe.patience_seconds -= wall


def start_wrk(
    server: Measured, path: str, headers: Mapping[str, str], seconds: int, core: int, script: Path | None = None
) -> subprocess.Popen[str]:
    """Start the client on its core; ``script`` is one of wrk's own, in Lua. Raises ``Missing`` without wrk."""
    wrk = shutil.which("wrk")
    if wrk is None:
        raise Missing("wrk is not installed (apt-get install wrk)")
    command = [wrk, "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s"]
    for name, value in headers.items():
        command += ["-H", f"{name}: {value}"]
    if script is not None:
        command += ["-s", str(script)]
    with pinned(core):
        return subprocess.Popen(
            [*command, server.url + path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )


class Measured(Protocol):
    """A server, or several that work together for one request."""

    @property
    def url(self) -> str:
        """Where it listens."""

    def cpu_seconds(self) -> float:
        """Processor time until now."""


@dataclass(frozen=True, slots=True)
class Target:
    """What one client asks: a server, a path and the request fields; or what a ``script`` of wrk's says."""

    server: Measured
    path: str
    headers: Mapping[str, str]
    script: Path | None = None


def run_pair(one: Target, other: Target, seconds: int, cores: Cores) -> tuple[float, float]:
    """Processor microseconds a request of two servers that are under load at the same time, on the same core.

    The kernel gives them the core in turn, some milliseconds each, so whatever makes the machine slow makes both
    slow. Raises ``Broken`` for errors.
    """
    targets = (one, other)
    before = [target.server.cpu_seconds() for target in targets]
    clients = [start_wrk(t.server, t.path, t.headers, seconds, cores.client, t.script) for t in targets]
    outputs = [client.communicate()[0] for client in clients]
    used = [target.server.cpu_seconds() - start for target, start in zip(targets, before, strict=True)]
    first, second = (seconds / parse_wrk(said)[1] * 1e6 for seconds, said in zip(used, outputs, strict=True))
    return first, second


def run_slot(target: Target, seconds: int, cores: Cores, probe: Probe) -> Slot:
    """One run of wrk against one server. Raises ``Broken`` for errors, ``Missing`` without wrk."""
    slowness = [probe.slowness(core) for core in (cores.server, cores.client)]
    busy, cpu = busy_seconds(), target.server.cpu_seconds()
    client = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    client_process = start_wrk(target.server, target.path, target.headers, seconds, cores.client, target.script)
    output, _ = client_process.communicate()
    wall = time.perf_counter() - started
    served = target.server.cpu_seconds() - cpu
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = served + after.ru_utime + after.ru_stime - client.ru_utime - client.ru_stime
    others = max(0.0, busy_seconds() - busy - used) / wall
    slowness += [probe.slowness(core) for core in (cores.server, cores.client)]
    rate, total = parse_wrk(output)
    return Slot(rate, served / total * 1e6, others, max(slowness))


def run_pairs(
    names: Sequence[str], rounds: int, measure: Callable[[str], tuple[float, float]], told: Callable[[str], None]
) -> dict[str, list[tuple[float, float]]]:
    """The pairs of each name, in turn. A peer that breaks is told of and left out from then on."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in list(found):
            try:
                found[name].append(measure(name))
            except Broken as error:
                told(f"{name}: left out, {error}")
                del found[name]
    return found


@dataclass(slots=True)
class Series:
    """The slots of one peer, by round, and how many were discarded."""

    slots: dict[int, Slot] = field(default_factory=dict)
    discarded: int = 0


def run_rounds(
    names: Sequence[str],
    rounds: int,
    measure: Callable[[str], Slot],
    told: Callable[[str], None],
    *,
    keep_noisy: bool = False,
) -> dict[str, Series]:
    """A B C … A B C: each name once a round. A noisy slot is done again, up to ``ATTEMPTS`` times.

    A peer that breaks is told of and left out from then on. ``keep_noisy`` switches the rule off.
    """
    found = {name: Series() for name in names}
    for number in range(rounds):
        for name in list(found):
            try:
                for _ in range(ATTEMPTS):
                    slot = measure(name)
                    if slot.is_quiet or keep_noisy:
                        found[name].slots[number] = slot
                        break
                    found[name].discarded += 1
            except Broken as error:
                told(f"{name}: left out, {error}")
                del found[name]
    return found


@dataclass(frozen=True, slots=True)
class Ratio:
    """Median, lowest and highest over the rounds in which both were measured."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Ratio:
        return cls(statistics.median(values), min(values), max(values), len(values))


def ratio_of(peer: Series, limit: Series, value: Callable[[Slot], float]) -> Ratio | None:
    """``peer`` over ``limit``, both of the same round; ``None`` where no round has both."""
    ratios = [value(peer.slots[number]) / value(limit.slots[number]) for number in peer.slots if number in limit.slots]
    return Ratio.of(ratios) if ratios else None


def machine() -> dict[str, str]:
    """What the figures depend on."""
    facts = {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "kernel": platform.release(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "date": time.strftime("%Y-%m-%d"),
    }
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            facts[package] = importlib.metadata.version(package)
    for tool, arguments in (("nginx", ["-v"]), ("wrk", ["-v"])):
        path = shutil.which(tool)
        if path is not None:
            said = subprocess.run([path, *arguments], capture_output=True, text=True, check=False)
            version = re.search(r"\d+\.\d+(\.\d+)?", said.stdout + said.stderr)
            facts[tool] = version.group() if version else "?"
    return facts


def _processor() -> str:
    found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return found.group(1) if found else platform.machine()


def resident_bytes(pid: int | str = "self") -> int:
    """Resident size of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def print_facts(facts: Mapping[str, str]) -> None:
    """Above the figures, always."""
    print("; ".join(f"{name} {value}" for name, value in facts.items()))


def print_table(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Plain text: the first column to the left, all others to the right."""
    texts = [list(titles), *([_text(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in texts) for column in range(len(titles))]
    for row in texts:
        first, *rest = (
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join([first, *rest]).rstrip())
    sys.stdout.flush()


def _text(cell: object) -> str:
    if cell is None:
        return "—"
    if isinstance(cell, float):
        return f"{cell:,.0f}" if abs(cell) >= 100 else f"{cell:.3g}" if abs(cell) >= 10 else f"{cell:.3f}"
    return f"{cell:,}" if isinstance(cell, int) else str(cell)


def write_json(path: Path | None, figures: Mapping[str, Any]) -> None:
    """For ``--json``: the machine and everything that was measured."""
    if path is not None:
        path.write_text(json.dumps({"machine": machine(), **figures}, indent=2) + "\n")
