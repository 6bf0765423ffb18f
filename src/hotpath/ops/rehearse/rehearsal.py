"""``hotpath rehearse``: what is replayed, the three runs, and what they prove."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from hotpath.errors import DeclarationError
from hotpath.log import held_back
from hotpath.ops.rehearse.client import DueRequest
from hotpath.ops.rehearse.crawl import Replay, from_pages, read_log
from hotpath.ops.rehearse.links import links
from hotpath.ops.rehearse.process import Machine
from hotpath.ops.rehearse.runs import (
    ALONE,
    FRONT,
    FRONT_BYTES,
    WAYS,
    Load,
    RunKind,
    Running,
    RunResult,
    Site,
    fetch,
    rehearse_once,
)
from hotpath.ops.rehearse.schedule import Clock, Fault, parse_fault, plan_faults, times
from hotpath.ops.traffic.templates import Templates
from hotpath.options import human_bytes
from hotpath.serving.reader import Reader, reader_of
from hotpath.serving.resolver import Miss, find_key
from hotpath.site import Hotpath

DEFAULT_SECONDS: Final = 120.0
DEFAULT_DAYS: Final = 30.0
# Requests a second where the log has more, or says nothing.
MAX_RATE: Final = 200.0
DEFAULT_FAULTS: Final = ("leak",)
COLD_SHARE: Final = 0.2
# Cold pages that are looked for, and pages that are fetched for it.
MAX_COLD: Final = 200
MAX_FETCHED: Final = 400
MAX_TEMPORARY_CHARACTERS: Final = 40
# The app must fit with room for work, or each start would be a kill.
ROOM: Final = 1.25


@dataclass(frozen=True, slots=True, kw_only=True)
class RehearsalOptions:
    """What is asked for. ``requests`` of each run; ``None``: as many as the log has in ``days``, at most 200/s."""

    app: str
    memory_bytes: int
    logs: Sequence[str] = ()
    days: float = DEFAULT_DAYS
    seconds: float = DEFAULT_SECONDS
    requests: int | None = None
    faults: Sequence[str] = DEFAULT_FAULTS
    at_once: bool = False
    timeout: float = 20.0
    host: str | None = None
    serve_options: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not 0.01 <= self.days <= 3650:
            raise DeclarationError(f"--days {self.days:g}: write 0.01 to 3650")
        if not 5 <= self.seconds <= 24 * 3600:
            raise DeclarationError(f"--seconds {self.seconds:g}: a run takes 5 s to 1 d")
        if self.requests is not None and self.requests < 10:
            raise DeclarationError(f"--requests {self.requests}: write 10 or more")
        for fault in self.faults:
            parse_fault(fault)


@dataclass(slots=True)
class Rehearsal:
    """Everything that was measured. ``problem`` says why it proves nothing, if so."""

    app: str
    source: str
    notes: tuple[str, ...]
    days: float
    seconds: float
    requests: int
    hot_pages: int
    cold_pages: int
    templates: int
    faults: dict[str, int]
    runs: list[RunResult]
    group_problem: str | None
    at_once: bool
    problem: str | None = None
    failed_hot_pages: int = field(default=0)

    @property
    def exit_code(self) -> int:
        """0; 1 where a hot page failed behind the front; 2 where nothing was proven."""
        if self.problem is not None:
            return 2
        return int(self.failed_hot_pages > 0)

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        names = ("app", "source", "notes", "days", "seconds", "requests", "hot_pages", "cold_pages", "templates")
        return {
            **{name: getattr(self, name) for name in (*names, "faults", "problem", "failed_hot_pages")},
            "simulated": self.group_problem,
            "exit_code": self.exit_code,
            "runs": [run.as_dict() for run in self.runs],
        }


def rehearse(
    options: RehearsalOptions,
    hot: Hotpath,
    machine: Machine,
    *,
    knows_store: bool,
    report: Callable[[str], object] = lambda line: None,
    tick: Callable[[str, float, float], object] = lambda title, now, seconds: None,
) -> Rehearsal:
    """Rehearse the outage of the site ``hot``.

    ``report`` gets a line for each step, ``tick`` the run's title, its second and how many there are. Raises
    ``DeclarationError`` for what cannot be rehearsed.
    """
    # The path of the front's Unix socket has 107 bytes at most, unix(7).
    above = None if len(tempfile.gettempdir()) <= MAX_TEMPORARY_CHARACTERS else "/tmp"
    with tempfile.TemporaryDirectory(prefix="hotpath-rehearsal-", dir=above) as directory:
        made = _Rehearsing(options, hot, machine, Path(directory), knows_store)
        return asyncio.run(made.run(report, tick))


class _Rehearsing:
    def __init__(
        self, options: RehearsalOptions, hot: Hotpath, machine: Machine, directory: Path, knows_store: bool
    ) -> None:
        self._options, self._machine, self._directory = options, machine, directory
        self._reader = reader_of(hot)
        with held_back() as records:
            for _ in hot.directories:
                self._reader.refresh()  # a file has to be seen twice before it counts
            self._reader.refresh()
            self._hot_targets = [key.decode("ascii") for key in self._reader.loader.keys]
            if not self._hot_targets:
                records.clear()
                why = self._reader.loader.degraded or f"{hot.store.root}; run 'hotpath build'"
                raise DeclarationError(f"no page is hot, so there is nothing that could outlive the app: {why}")
        names = sorted(hot.reading.hosts.names) if hot.reading.hosts is not None else []
        host = options.host or (names[0].decode("ascii") if names else "127.0.0.1")
        self._site = Site(
            app=options.app,
            store=hot.store.root.absolute(),
            knows_store=knows_store,
            host=host,
            memory_bytes=options.memory_bytes,
            front_bytes=FRONT_BYTES + _bodies(hot, self._reader),
            serve_options=options.serve_options,
        )

    async def run(self, report: Callable[[str], object], tick: Callable[[str, float, float], object]) -> Rehearsal:
        options = self._options
        if self._machine.problem is not None:
            report(f"{self._machine.problem}: a watcher kills at the limit instead (simulated)")
        crawl = read_log(options.logs, [self._site.host]) if options.logs else None
        async with Running(self._site, ALONE, self._machine, self._directory) as running:
            base = running.process.memory_bytes()
            if crawl is None:
                crawl = await self._crawled(running.port)
        self._check_room(base)
        async with Running(self._site, FRONT, self._machine, self._directory):
            pass  # whatever keeps it from starting is said before the first run
        load, faults = self._load(crawl)
        report(f"replayed: {crawl.source}")
        for note in crawl.notes:
            report(f"note: {note}")
        runs = await self._runs(load, report, tick)
        made = Rehearsal(
            app=options.app,
            source=crawl.source,
            notes=crawl.notes,
            days=options.days,
            seconds=options.seconds,
            requests=len(load.arrivals),
            hot_pages=sum(load.is_hot),
            cold_pages=len(load.is_hot) - sum(load.is_hot),
            templates=len(set(load.templates)),
            faults=dict(Counter(fault.kind for fault in faults)),
            runs=runs,
            group_problem=self._machine.problem,
            at_once=options.at_once,
        )
        made.problem = proves_nothing(made.faults, runs[0])
        made.failed_hot_pages = runs[-1].record.hot.errors
        return made

    async def _runs(
        self, load: Load, report: Callable[[str], object], tick: Callable[[str, float, float], object]
    ) -> list[RunResult]:
        def once(way: RunKind) -> Awaitable[RunResult]:
            report(f"{way.title}: {len(load.arrivals)} requests in {load.seconds:g} s")

            def show(now: float) -> object:
                return tick(way.title, now, load.seconds)

            return rehearse_once(self._site, way, load, self._machine, self._directory, show)

        if self._options.at_once:
            return [*await asyncio.gather(*map(once, WAYS))]
        return [await once(way) for way in WAYS]

    def _check_room(self, base: int) -> None:
        least = int(base * ROOM) + self._site.front_bytes
        if self._site.memory_bytes < least:
            raise DeclarationError(
                f"--memory {human_bytes(self._site.memory_bytes)} is too small: {self._site.app} holds"
                f" {human_bytes(base)} when it has started and the front {human_bytes(self._site.front_bytes)};"
                f" write {-(-least // 2**20)}MiB or more"
            )

    def _load(self, crawl: Replay) -> tuple[Load, list[Fault]]:
        options = self._options
        clock = Clock(options.days, options.seconds)
        count = options.requests
        if count is None:
            asked = crawl.requests
            if crawl.minutes is not None:
                asked = int(asked * options.days * 1440 / max(crawl.minutes, 1))
            most = int(MAX_RATE * options.seconds)
            count = max(10, min(asked or most, most))
        drawn = times([minute for minute, _ in crawl.visits], crawl.minutes, count, clock)
        pages: dict[str, int] = {}
        arrivals = [DueRequest(at, pages.setdefault(crawl.visits[place][1], len(pages))) for at, place in drawn]
        targets = [*pages]
        faults = plan_faults(options.faults, [arrival.at for arrival in arrivals], clock)
        is_hot = [self._is_hot(target) for target in targets]
        if not any(is_hot):
            raise DeclarationError(
                f"none of the {len(targets)} pages that are asked for is hot ({crawl.source}): nothing would be"
                " proven; 'hotpath logs' says which should be"
            )
        load = Load(targets, is_hot, _templates(targets), arrivals, faults, options.seconds, options.timeout)
        return load, faults

    def _is_hot(self, target: str) -> bool:
        path, _, query = target.partition("?")
        found = find_key(
            self._reader.snapshot,
            path.encode("utf-8", "surrogateescape"),
            query.encode("utf-8", "surrogateescape"),
        )
        return not isinstance(found, Miss)

    async def _crawled(self, port: int) -> Replay:
        """Hot pages by the manifest, cold ones by following links; where there are none, hot ones with a query."""
        cold: dict[str, None] = {}
        seen = dict.fromkeys(self._hot_targets)
        queue = [*self._hot_targets]
        fetched = 0
        while queue and fetched < MAX_FETCHED and len(cold) < MAX_COLD:
            target = queue.pop(0)
            fetched += 1
            answer = await fetch(port, target, self._site.host)
            if answer is None or not 200 <= answer[0] < 300:
                continue
            if not self._is_hot(target):
                cold[target] = None
            for link in links(answer[1], target, self._site.host):
                if link not in seen:
                    seen[link] = None
                    queue.append(link)
        how = f"{len(cold)} cold pages that they link to"
        if not cold:
            asked = [f"{target}{'&' if '?' in target else '?'}rehearsal=1" for target in self._hot_targets[:MAX_COLD]]
            cold = dict.fromkeys(target for target in asked if not self._is_hot(target))
            how = f"{len(cold)} of them with a query that makes them cold, since they link to no cold page"
        source = f"the manifest, no log: {len(self._hot_targets)} hot pages, and {COLD_SHARE:.0%} of requests for {how}"
        return from_pages(self._hot_targets, [*cold], COLD_SHARE, source)


def proves_nothing(faults: dict[str, int], alone: RunResult) -> str | None:
    """Why the comparison says nothing: the app alone was not hurt as planned. ``None`` where it was."""
    leaks, kills = faults.get("leak", 0), faults.get("kill", 0)
    if alone.oom_kills < leaks:
        return f"the app alone was killed for memory {alone.oom_kills} times, and {leaks} were planned"
    if alone.kills < kills:
        return f"the app alone was killed {alone.kills} times, and {kills} were planned"
    if not alone.record.both.errors:
        return "the app alone answered every request, so the faults did not strike"
    return None


def _templates(targets: Sequence[str]) -> list[str]:
    """The route of each, by the structure of all paths."""
    tree = Templates()
    paths = [target.partition("?")[0].encode("utf-8", "surrogateescape") for target in targets]
    for path in paths:
        tree.tally(path)
    # A second look: the first may have been before a family of paths was folded into one.
    tallies = [tree.tally(path) for path in paths]
    names = {id(tally): name for name, tally in tree.items()}
    return [names[id(tally)] for tally in tallies]


def _bodies(hot: Hotpath, reader: Reader) -> int:
    """Bytes of bodies that a front keeps in memory: what there is, up to what the site allows."""
    generation = reader.snapshot.generation
    if generation is None:
        return 0
    sizes = (path.stat().st_size for path in hot.store.files_path(generation).rglob("*") if path.is_file())
    return min(sum(sizes), hot.reading.max_body_bytes)
