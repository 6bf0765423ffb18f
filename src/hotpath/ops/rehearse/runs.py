"""One run: start the site in one of three ways, replay the crawl, let the faults strike, and measure."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import orjson
import psutil

from hotpath.errors import DeclarationError
from hotpath.ops.rehearse.client import DueRequest, OpenLoopClient, request_bytes
from hotpath.ops.rehearse.outcomes import RunRecord
from hotpath.ops.rehearse.process import Kept, Machine
from hotpath.ops.rehearse.schedule import Fault
from hotpath.ops.rehearse.switches import ENVIRONMENT, Switches
from hotpath.options import human_bytes
from hotpath.store.sharing import OFF, ORIGIN

AGENT: Final = "Mozilla/5.0 (compatible; hotpath-rehearsal; crawler)"
# Steps of the plots.
MOMENTS: Final = 240
# Interval of looking at processes and memory: a death is seen late by as much.
LOOK_SECONDS: Final = 0.02
SAMPLE_SECONDS: Final = 0.1
START_SECONDS: Final = 60.0
# After the last request: leaks that were ordered and not finished, as after a slow start.
GRACE_SECONDS: Final = 60.0
# Share of the time between two leaks in which one fills the memory; the rest is for the new process.
FILL_SHARE: Final = 0.2
# What the front itself takes, beside the bodies of hot pages.
FRONT_BYTES: Final = 64 * 1024 * 1024
_NO_PATH: Final = "/hotpath-rehearsal-is-there"


@dataclass(frozen=True, slots=True)
class RunKind:
    """How the site is run."""

    name: str
    title: str
    uses_middleware: bool = False
    uses_front: bool = False


ALONE: Final = RunKind("alone", "the app alone")
GUARDED: Final = RunKind("middleware", "middleware and guard", uses_middleware=True)
FRONT: Final = RunKind("front", "behind the front", uses_front=True)
WAYS: Final = (ALONE, GUARDED, FRONT)


@dataclass(frozen=True, slots=True)
class Site:
    """What is rehearsed: ``app`` is module:attribute, ``store`` the path of its store.

    ``knows_store`` says that the app's own declaration names the store; else the front must be given it.
    """

    app: str
    store: Path
    knows_store: bool
    host: str
    memory_bytes: int
    front_bytes: int
    serve_options: Sequence[str] = ()
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    @property
    def app_bytes_behind_front(self) -> int:
        """What is left for the app where the front shares its limit."""
        return self.memory_bytes - self.front_bytes


@dataclass(frozen=True, slots=True)
class Load:
    """The requests of a run, the same for each. Pages are targets with their numbers as places."""

    targets: Sequence[str]
    is_hot: Sequence[bool]
    templates: Sequence[str]
    arrivals: Sequence[DueRequest]
    faults: Sequence[Fault]
    seconds: float
    timeout: float

    @property
    def cold_rate(self) -> float:
        """Requests a second that only the app can answer."""
        return sum(not self.is_hot[arrival.page] for arrival in self.arrivals) / self.seconds

    @property
    def rate(self) -> float:
        """Requests a second."""
        return len(self.arrivals) / self.seconds


@dataclass(slots=True)
class RunResult:
    """What one run has measured. ``recoveries`` are seconds from the death of the app to its next good answer."""

    way: RunKind
    limit_bytes: int
    base_bytes: int
    peak_bytes: int
    record: RunRecord
    recoveries: list[float]
    deaths: int
    oom_kills: int
    kills: int
    is_simulated: bool
    client_cpu: float
    client_lag_seconds: float

    @property
    def recovery_median(self) -> float | None:
        """The recovery in the middle."""
        return sorted(self.recoveries)[len(self.recoveries) // 2] if self.recoveries else None

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        record = self.record
        both = record.both
        return {
            "run": self.way.name,
            "limit_bytes": self.limit_bytes,
            "base_bytes": self.base_bytes,
            "peak_bytes": self.peak_bytes,
            "simulated": self.is_simulated,
            "all": both.as_dict(),
            "hot": record.hot.as_dict(),
            "cold": record.cold.as_dict(),
            "templates_hurt": dict(sorted(record.hurt.items())),
            "templates_hurt_share": dict(record.hurt_share),
            "recovery_seconds": {"median": self.recovery_median, "longest": max(self.recoveries, default=None)},
            "deaths": self.deaths,
            "oom_kills": self.oom_kills,
            "kills": self.kills,
            "client_cpu": self.client_cpu,
            "client_lag_seconds": self.client_lag_seconds,
            "moments": [
                [moment.requests, moment.hot_errors, moment.cold_errors, moment.memory_bytes]
                for moment in record.moments
            ],
        }


class Running:
    """The site, started in one ``way``; ``async with`` ends it. Raises ``DeclarationError`` where it does not start."""

    def __init__(self, site: Site, way: RunKind, machine: Machine, directory: Path) -> None:
        self.port = free_port()
        self.way = way
        self.switches = Switches(directory / f"switches-{way.name}-{self.port}")
        self._site = site
        told = {
            "app": site.app,
            "middleware": way.uses_middleware,
            # The control must be killed as often as planned, however long its starts take.
            "catches_up": way.name == ALONE.name,
            "switches": str(directory / f"switches-{way.name}-{self.port}"),
            "store": str(site.store),
        }
        environ = {**site.environ, ENVIRONMENT: orjson.dumps(told).decode(), "PYTHONUNBUFFERED": "1"}
        environ[ORIGIN] = OFF  # a rehearsal is no machine of the site
        faulty = "hotpath.ops.rehearse.faulty:app"
        if way.uses_front:
            runtime = directory / "run"
            runtime.mkdir(exist_ok=True, mode=0o700)
            environ["HOTPATH_RUN"] = str(runtime)
            store = [] if site.knows_store else ["--store", str(site.store)]
            command = [
                *(sys.executable, "-m", "hotpath", "serve", faulty, "--port", str(self.port), *store),
                *("--memory", str(site.app_bytes_behind_front)),
                *site.serve_options,
            ]
        else:
            # As a unit of systemd with Restart=always, which is how the guard knows that it may leave.
            environ["INVOCATION_ID"] = "0" * 32
            environ.pop("SYSTEMD_EXEC_PID", None)
            command = [
                *(sys.executable, "-m", "uvicorn", faulty, "--port", str(self.port)),
                *("--log-level", "warning", "--no-access-log"),
            ]
        self.process = Kept(command, environ, machine=machine, limit=site.memory_bytes, is_whole=way.uses_front)

    async def __aenter__(self) -> Self:
        self.process.start()
        try:
            await self._become_ready()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.process.end()
        self.switches.close()

    async def _become_ready(self) -> None:
        """Wait for any answer of the app: a 404 will do, what the front says while there is none will not."""
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            if self.switches["starts"] and await fetch(self.port, _NO_PATH, self._site.host) is not None:
                return
            if self.process.ends > 2 or (self.process.ends and not self.process.oom_kills()):
                break
            await asyncio.sleep(0.05)
        limit = human_bytes(self._site.memory_bytes)
        if self.process.oom_kills():
            raise DeclarationError(
                f"--memory {limit} is too small: {self._site.app} is killed while it starts; write more"
            )
        lines = "".join(f"\n  {line}" for line in self.process.last_lines())
        raise DeclarationError(f"{self._site.app} does not start ({self.way.title}, within {limit}):{lines}")


async def rehearse_once(
    site: Site, way: RunKind, load: Load, machine: Machine, directory: Path, tick: Callable[[float], object]
) -> RunResult:
    """One run from start to end. ``tick`` gets the seconds that have passed, about once a second."""
    async with Running(site, way, machine, directory) as running:
        return await _Run(site, running, load, tick).measure()


class _Run:
    """What happens while the crawl is replayed: faults, looks at processes and memory, and answers."""

    def __init__(self, site: Site, running: Running, load: Load, tick: Callable[[float], object]) -> None:
        self._site, self._running, self._load, self._tick = site, running, load, tick
        self._switches = running.switches
        self._record = RunRecord(load.is_hot, load.templates, load.seconds, MOMENTS)
        self._recoveries: list[float] = []
        self._deaths = 0
        self._kills = 0
        # When the app died, until a request that was due later has had a good answer from the app.
        self._down_at: float | None = None
        self._has_cold = not all(load.is_hot)
        self._base = 0
        self._peak = 0
        requests = [request_bytes(target, site.host, AGENT) for target in load.targets]
        self._client = OpenLoopClient("127.0.0.1", running.port, requests, self._answered, timeout=load.timeout)

    async def measure(self) -> RunResult:
        process, load = self._running.process, self._load
        self._base = process.memory_bytes()
        self._switches["leak_bytes"] = self._leak_bytes()
        cpu = time.process_time()
        self._client.started = asyncio.get_running_loop().time()
        around = [asyncio.create_task(self._look()), asyncio.create_task(self._strike())]
        try:
            await self._client.run(load.arrivals)
            await self._finish_leaks()
        finally:
            for task in around:
                task.cancel()
        for task in around:
            with suppress(asyncio.CancelledError):
                await task
        return RunResult(
            way=self._running.way,
            limit_bytes=self._site.memory_bytes,
            base_bytes=self._base,
            peak_bytes=max(self._peak, process.measured_peak()),
            record=self._record,
            recoveries=self._recoveries,
            deaths=self._deaths,
            oom_kills=process.oom_kills(),
            kills=self._kills,
            is_simulated=process.group is None,
            client_cpu=(time.process_time() - cpu) / self._client.elapsed,
            client_lag_seconds=self._client.worst_lag_seconds,
        )

    def _leak_bytes(self) -> int:
        """What each request must leak so that the memory is full in time, with the traffic that reaches the app."""
        way, load = self._running.way, self._load
        leaks = [fault.at for fault in load.faults if fault.kind == "leak"]
        if not leaks:
            return 0
        limit = self._site.app_bytes_behind_front if way.uses_front else self._site.memory_bytes
        step = (leaks[-1] - leaks[0]) / (len(leaks) - 1) if len(leaks) > 1 else load.seconds
        reaches = load.rate if way.name == ALONE.name else load.cold_rate
        requests = max(2.0, reaches * step * FILL_SHARE)
        base = 0 if way.uses_front else self._base
        return int((limit - base) / requests) + 4096

    def _answered(self, page: int, due: float, status: int, seconds: float) -> None:
        self._record.add(page, due, status, seconds)
        down = self._down_at
        if down is not None and due >= down and 0 < status < 500 and not (self._has_cold and self._load.is_hot[page]):
            self._recoveries.append(due + seconds - down)
            self._down_at = None

    async def _look(self) -> None:
        """Watch the app's process and the memory."""
        process, client = self._running.process, self._client
        pid, sampled, ticked = self._switches["pid"], 0.0, 0.0
        while True:
            now = client.elapsed
            current = self._switches["pid"]
            if pid and (current != pid or not _lives(pid)):
                self._deaths += 1
                if self._down_at is None:
                    self._down_at = now
                pid = 0
            if not pid and _lives(current):
                pid = current
            if now - sampled >= SAMPLE_SECONDS:
                sampled = now
                held = process.memory_bytes()
                self._peak = max(self._peak, held)
                moment = self._record.at(now)
                moment.memory_bytes = max(moment.memory_bytes, held)
            if now - ticked >= 1:
                ticked = now
                self._tick(min(now, self._load.seconds))
            await asyncio.sleep(LOOK_SECONDS)

    async def _strike(self) -> None:
        for fault in self._load.faults:
            await asyncio.sleep(max(0.0, fault.at - self._client.elapsed))
            # What ends a process waits for one.
            while fault.kind in ("kill", "deploy") and not self._running.process.owns(self._switches["pid"]):  # noqa: ASYNC110
                await asyncio.sleep(LOOK_SECONDS)
            self._do(fault)

    def _do(self, fault: Fault) -> None:
        until = time.monotonic_ns() // 1_000_000 + int(fault.lasts * 1000)
        if fault.kind in ("kill", "deploy") and self._switches["is_leaking"]:
            self._switches["leaks_ordered"] += 1  # this leak will not come to its end
        if fault.kind == "leak":
            self._switches["leaks_ordered"] += 1
        elif fault.kind == "kill":
            self._kills += 1
            with suppress(ProcessLookupError):
                os.kill(self._switches["pid"], signal.SIGKILL)
        elif fault.kind == "deploy":
            # What an operator does: hotpath reload, or systemctl restart.
            self._running.process.signal(signal.SIGHUP if self._running.way.uses_front else signal.SIGTERM)
        else:
            self._switches[f"{fault.kind}_until"] = until

    async def _finish_leaks(self) -> None:
        """Give the last leak its requests: what comes after the end of the schedule is not counted."""
        if self._running.way is not ALONE:
            return
        until = time.monotonic() + GRACE_SECONDS
        while time.monotonic() < until and self._switches["leaks_done"] < self._switches["leaks_ordered"]:
            await fetch(self._running.port, self._load.targets[0], self._site.host)
            await asyncio.sleep(0.01)


async def fetch(port: int, target: str, host: str, seconds: float = 10.0) -> tuple[int, bytes] | None:
    """Status and body of one GET; ``None`` where there is no answer, or one that says the app is not there."""
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request_bytes(target, host, AGENT, [("Connection", "close")]))
            answer = await reader.read(4 * 1024 * 1024)
            while not reader.at_eof() and len(answer) < 4 * 1024 * 1024:
                answer += await reader.read(1024 * 1024)
    except (OSError, TimeoutError):
        return None
    finally:
        if writer is not None:
            writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head[9:12]
    if not status.isdigit() or int(status) in (502, 503):
        return None
    return int(status), body


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    import socket

    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _lives(pid: int) -> bool:
    if not pid:
        return False
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
