"""``hotpath load``: open-loop steps up to the knee, and what limits there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import psutil

from hotpath.errors import DeclarationError, Unreachable
from hotpath.ops.rehearse.client import DueRequest, OpenLoopClient, request_bytes
from hotpath.ops.rehearse.outcomes import Counted
from hotpath.process.fork import descendants

AGENT: Final = "hotpath-load"
STEP_SECONDS: Final = 5.0
FIRST_RATE: Final = 50.0
MAX_RATE: Final = 50_000.0
# Each step is this much above the one before; the knee is known to this.
STEP_FACTOR: Final = 1.5
# Where nobody says what is too slow or too wrong.
DEFAULT_P99: Final = 0.5
DEFAULT_ERRORS: Final = 0.01
BUSY_CORE: Final = 0.9
BUSY_MACHINE: Final = 0.9
TIMEOUT_SECONDS: Final = 10.0
_LOOPBACK: Final = frozenset(("127.0.0.1", "::1", "localhost"))


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """``targets`` of one server, asked for in turn. ``rate`` is one fixed rate instead of steps."""

    host: str
    port: int
    targets: Sequence[str]
    is_tls: bool = False
    host_field: str = ""
    p99: float | None = None
    errors: float | None = None
    rate: float | None = None
    step_seconds: float = STEP_SECONDS
    timeout: float = TIMEOUT_SECONDS

    @property
    def passes(self) -> Callable[[Counted], bool]:
        """Whether a step is good enough."""
        most, share = self.p99 or DEFAULT_P99, DEFAULT_ERRORS if self.errors is None else self.errors

        def judge(outcome: Counted) -> bool:
            p99 = outcome.latencies.quantile(0.99)
            return p99 is not None and p99 <= most and outcome.error_share <= share

        return judge


@dataclass(slots=True)
class LoadStep:
    """One rate for some seconds.

    ``server_cpu`` is in cores, ``None`` where the server's process is not seen; ``machine_cpu`` is the share of all
    cores that were busy, with whatever.
    """

    rate: float
    outcome: Counted
    answered_rate: float
    client_cpu: float
    client_lag_seconds: float
    server_cpu: float | None
    machine_cpu: float
    passed: bool

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        figures = {name: getattr(self, name) for name in ("rate", "answered_rate", "client_cpu", "client_lag_seconds")}
        return {
            **figures,
            "server_cpu": self.server_cpu,
            "machine_cpu": self.machine_cpu,
            "passed": self.passed,
            **self.outcome.as_dict(),
        }


@dataclass(slots=True)
class LoadReport:
    """All steps. ``knee`` is the highest rate that passed, ``limit`` what the next one met."""

    options: LoadOptions
    steps: list[LoadStep] = field(default_factory=list)
    limit: str = ""

    @property
    def knee(self) -> float | None:
        """Requests a second; ``None`` where no step passed."""
        return max((step.rate for step in self.steps if step.passed), default=None)

    @property
    def passed(self) -> bool:
        """Whether the thresholds hold: at the rate that was given, else at the first step."""
        return bool(self.steps) and self.steps[0].passed

    @property
    def exit_code(self) -> int:
        """1 where a threshold was passed."""
        return 0 if self.passed else 1

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "url": f"{self.options.host}:{self.options.port}",
            "knee": self.knee,
            "limit": self.limit,
            "passed": self.passed,
            "steps": [step.as_dict() for step in self.steps],
        }


def options_of(urls: Sequence[str], *, may_leave: bool, **others: Any) -> LoadOptions:
    """What to ask of the server of these URLs. Raises ``DeclarationError`` for others than loopback, unless allowed."""
    if not urls:
        raise DeclarationError("no URL: write http://127.0.0.1:8000/, or a TARGET with --url http://127.0.0.1:8000")
    servers, targets = set(), []
    for url in urls:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise DeclarationError(f"{url}: {error}; write a whole URL, http://127.0.0.1:8000/") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise DeclarationError(f"{url}: write a whole URL, http://127.0.0.1:8000/")
        if parts.hostname not in _LOOPBACK and not may_leave:
            raise DeclarationError(
                f"{url}: this machine only, unless the site is yours and you say so: --url {parts.scheme}://{parts.netloc}"
                " --i-own-this-site"
            )
        servers.add((parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80), parts.netloc))
        targets.append((parts.path or "/") + (f"?{parts.query}" if parts.query else ""))
    if len(servers) > 1:
        raise DeclarationError("the URLs are of more than one server; load one at a time")
    scheme, host, port, netloc = servers.pop()
    return LoadOptions(
        host=host,
        port=port,
        targets=targets,
        is_tls=scheme == "https",
        host_field=netloc.rpartition("@")[2],
        **others,
    )


def load(options: LoadOptions, report: Callable[[LoadStep], object] = lambda step: None) -> LoadReport:
    """Step up until a threshold is passed or something is at its end. Raises ``Unreachable`` for a server not there."""
    return asyncio.run(_load(options, report))


async def _load(options: LoadOptions, report: Callable[[LoadStep], object]) -> LoadReport:
    made = LoadReport(options)
    rate = options.rate or FIRST_RATE
    while rate <= MAX_RATE:
        step = await _step(options, rate)
        if not made.steps and step.outcome.resets == step.outcome.requests:
            raise Unreachable(f"{options.host}:{options.port}", "no request got an answer; is the server running?")
        made.steps.append(step)
        report(step)
        if options.rate is not None or not step.passed:
            break
        rate *= STEP_FACTOR
    made.limit = limit_of(made.steps, options)
    return made


async def _step(options: LoadOptions, rate: float) -> LoadStep:
    outcome = Counted()

    def done(page: int, due: float, status: int, seconds: float) -> None:
        outcome.add(status, seconds)

    requests = [request_bytes(target, options.host_field, AGENT) for target in options.targets]
    client = OpenLoopClient(options.host, options.port, requests, done, timeout=options.timeout, is_tls=options.is_tls)
    psutil.cpu_percent()  # the next one counts from here
    before, cpu = _server_seconds(options.port), time.process_time()
    await client.run(_arrivals(rate, options.step_seconds, len(requests)))
    elapsed = client.elapsed
    after = _server_seconds(options.port)
    used = sum(after[pid] - before[pid] for pid in after.keys() & before.keys()) / elapsed if after else None
    step = LoadStep(
        rate=rate,
        outcome=outcome,
        answered_rate=(outcome.requests - outcome.resets - outcome.timeouts) / elapsed,
        client_cpu=(time.process_time() - cpu) / elapsed,
        client_lag_seconds=client.worst_lag_seconds,
        server_cpu=used,
        machine_cpu=psutil.cpu_percent() / 100,
        passed=False,
    )
    step.passed = options.passes(outcome)
    return step


def _arrivals(rate: float, seconds: float, pages: int) -> Iterator[DueRequest]:
    for number in range(int(rate * seconds)):
        yield DueRequest(number / rate, number % pages)


def limit_of(steps: Sequence[LoadStep], options: LoadOptions) -> str:
    """What limits at the last step: the client's core, the server's, errors, or the time that answers take."""
    last = steps[-1]
    if last.client_cpu > BUSY_CORE:
        return f"this client: it took {last.client_cpu:.0%} of a core, so the server may do more"
    if last.passed:
        return "nothing: every threshold held" + ("" if options.rate else f" up to {last.rate:.0f} requests a second")
    server = last.server_cpu
    cpu = "" if server is None else f"; the server took {server:.0%} of a core"
    if server is not None and server > BUSY_CORE:
        return f"the server's processor: {server:.1f} cores"
    if last.outcome.error_share > (DEFAULT_ERRORS if options.errors is None else options.errors):
        kinds = last.outcome
        return (
            f"errors: {kinds.error_share:.2%} ({kinds.server_errors} 5xx, {kinds.resets} resets,"
            f" {kinds.timeouts} time-outs){cpu}"
        )
    own = (last.client_cpu + (server or 0.0)) / (psutil.cpu_count() or 1)
    if server is not None and last.machine_cpu > BUSY_MACHINE and own < last.machine_cpu / 2:
        return "other programs, which take the processor of this machine: measure again when it is quiet"
    return f"time: the slowest hundredth took longer than {options.p99 or DEFAULT_P99:g} s{cpu}"


def lines(report: LoadReport) -> Iterator[str]:
    """What ``hotpath load`` prints."""
    yield f"{'requests/s':>12}{'p50':>10}{'p99':>10}{'errors':>9}{'client':>8}{'server':>8}"
    yield from map(step_line, report.steps)
    knee = report.knee
    if report.options.rate is None:
        yield f"knee: {knee:.0f} requests a second" if knee is not None else "knee: below the first step"
    yield f"limited by {report.limit}"


def step_line(step: LoadStep) -> str:
    """One row."""
    p50, p99 = (step.outcome.latencies.quantile(share) for share in (0.5, 0.99))
    server = "–" if step.server_cpu is None else f"{step.server_cpu:.0%}"
    shown = [f"{(seconds or 0) * 1000:.1f} ms" for seconds in (p50, p99)]
    return (
        f"{step.rate:>12.0f}{shown[0]:>10}{shown[1]:>10}{step.outcome.error_share:>9.2%}{step.client_cpu:>8.0%}"
        f"{server:>8}{'' if step.passed else '  too much'}"
    )


def _server_seconds(port: int) -> Mapping[int, float]:
    """Seconds of processor by process: who listens on this port here, and who is below. Empty where not seen."""
    used: dict[int, float] = {}
    try:
        listeners = {
            connection.pid
            for connection in psutil.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port
        }
    except psutil.Error:
        return used
    for pid in listeners - {None}:
        try:
            assert pid is not None
            for process in (psutil.Process(pid), *descendants(pid)):
                times = process.cpu_times()
                used[process.pid] = times.user + times.system
        except psutil.Error:
            continue
    return used
