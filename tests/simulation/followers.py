"""Many followers of one origin on a clock of their own: what they ask, how soon they serve, and what it costs.

The followers are the real ones, with stores on disk; time, network, origin and hints are simulated.
"""

from __future__ import annotations

import functools
import math
import random
from dataclasses import dataclass, field
from pathlib import Path

from hotpath.pages.policy import Policy
from hotpath.store.origin import Follower, Look
from hotpath.store.origin import Origin as RealOrigin
from hotpath.store.publish import staging
from hotpath.store.store import Store
from tests.dashboard.stores import QuickDisk
from tests.simulation.world import Event, Origin, Requests, World

# Amazon S3 Standard, us-east-1, as published at aws.amazon.com/s3/pricing and quoted by others in 2024 and 2025 (that
# page cannot be read from where this was written). A 304 costs as much as a GET. Transfer to machines in the same
# region is free; DOLLARS_A_GB_OUT is to the internet, for the first 10 TB of a month.
PRICES_FROM = "Amazon S3 Standard, us-east-1, list prices of 2025"
DOLLARS_A_GET = 0.0004 / 1000
DOLLARS_A_PUT = 0.005 / 1000
DOLLARS_A_GB_OUT = 0.09
HOURS_A_MONTH = 730
# The rate from which S3 may answer 503 SlowDown, in requests a second and prefix ("Optimizing Amazon S3 performance").
MAX_READS_A_SECOND = 5500

# A request within a region takes some 20 ms, and sometimes many times that.
MEDIAN_REQUEST_SECONDS = 0.02
SPREAD_OF_REQUESTS = 0.5
HINT_SECONDS = 0.002
ITEMS = 3
# What each machine fetches in a night in which 1 % of 100 MB changed; in the simulation itself pages are tiny.
NIGHT_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Case:
    """What is simulated. ``hints`` are sent or not, and each machine misses one with the probability ``lost``."""

    followers: int = 1000
    every: float = 10.0
    minutes: float = 20.0
    builds: int = 2
    hints: bool = True
    lost: float = 0.01
    seed: int = 1


@dataclass(slots=True)
class Outcome:
    """What the origin saw and how long each machine took, from the moment in which ``CURRENT`` was replaced."""

    case: Case
    gets: int = 0
    not_modified: int = 0
    puts: int = 0
    sent_bytes: int = 0
    busiest_second: int = 0
    seconds: list[float] = field(default_factory=list)

    @property
    def requests_an_hour(self) -> float:
        return (self.gets + self.not_modified + self.puts) * 60 / self.case.minutes

    @property
    def dollars_a_month(self) -> float:
        """For all requests, as if every hour were as the simulated time."""
        hours = self.case.minutes / 60
        reads, writes = (self.gets + self.not_modified) / hours, self.puts / hours
        return (reads * DOLLARS_A_GET + writes * DOLLARS_A_PUT) * HOURS_A_MONTH

    @property
    def dollars_out_a_month(self) -> float:
        """For sending ``NIGHT_BYTES`` every night to machines that are not in the region of the origin."""
        return self.case.followers * 30 * NIGHT_BYTES / 1e9 * DOLLARS_A_GB_OUT

    def percentile(self, share: float) -> float:
        """Seconds after which this share of machines served a new generation."""
        return sorted(self.seconds)[min(len(self.seconds) - 1, math.ceil(share * len(self.seconds)) - 1)]


class Machine(Follower):
    """A follower that notes when it serves what."""

    served: list[tuple[int, float]]

    def look(self) -> Look:
        look = super().look()
        if look.error is not None:
            raise AssertionError(look.error)
        if look.changed and look.generation is not None:
            self.served.append((look.generation, self._clock()))
        return look


def simulate(case: Case, directory: Path) -> Outcome:
    """Start all machines, let them settle, build ``case.builds`` times, and count meanwhile."""
    chance = random.Random(case.seed)
    world = World()
    origin, stop = Origin(world), Event(world)

    def latency() -> float:
        return MEDIAN_REQUEST_SECONDS * chance.lognormvariate(0, SPREAD_OF_REQUESTS)

    def origin_of_a_machine() -> RealOrigin:
        way = Requests(origin, latency)
        return RealOrigin(
            "s3://memory/site", objects=way, clock=world.clock, sleep=world.sleep, random=chance.random, threads=1
        )

    builder, builds = Store(directory / "builder", clock=world.clock), origin_of_a_machine()

    def build() -> None:
        _publish(builder, int(world.now))
        builds.send(builder)
        published.append(world.now)
        if case.hints:
            for _, wakeup in machines:
                if chance.random() >= case.lost:
                    world.start(wakeup.set, HINT_SECONDS * chance.uniform(0.5, 2))

    published: list[float] = []
    machines: list[tuple[Machine, Event]] = []
    world.start(build)
    world.run(10)
    for number in range(case.followers):
        store = Store(directory / str(number), clock=world.clock, keep=1, disk=QuickDisk())
        machine = Machine(store, origin_of_a_machine(), every=case.every, name=str(number), random=chance.random)
        machine.served = []
        wakeup = Event(world)
        machines.append((machine, wakeup))
        world.start(functools.partial(machine.run, stop, wakeup), chance.uniform(0, case.every))
    world.run(3 * case.every + 60)
    origin.forget()
    published.clear()
    for machine, _ in machines:
        machine.served.clear()
    pause = case.minutes * 60 / max(1, case.builds)
    for number in range(case.builds):
        world.start(build, (number + 0.5) * pause + chance.uniform(0, case.every))
    world.run(case.minutes * 60)
    outcome = _outcome(case, origin, [machine for machine, _ in machines], published)
    stop.set()
    for _, wakeup in machines:
        wakeup.set()
    world.run(60)
    return outcome


def _publish(store: Store, salt: int) -> None:
    policy = Policy("/items/{number}", "application/json", "public, max-age=60", None, 3600)
    with staging(store) as stage:
        for number in range(ITEMS):
            stage.add(f"/items/{number}", f"items/{number}.json", b'{"number":%d,"salt":%d}' % (number, salt), policy)
        stage.publish()


def _outcome(case: Case, origin: Origin, machines: list[Machine], published: list[float]) -> Outcome:
    outcome = Outcome(
        case,
        gets=origin.requests["GET"],
        not_modified=origin.requests["304"],
        puts=origin.requests["PUT"],
        sent_bytes=origin.sent_bytes,
        busiest_second=max(origin.seconds.values()),
    )
    for machine in machines:
        generations = [generation for generation, _ in machine.served]
        assert len(generations) == len(published), "a machine did not serve every generation"
        assert generations == sorted(generations), "a machine went back"
        outcome.seconds += [served - sent for (_, served), sent in zip(machine.served, published, strict=True)]
    return outcome


TITLES = (
    *("followers", "every s", "hints", "requests/h", "of them 304", "busiest s", "p50 s", "p99 s", "last s"),
    *("$/month", "out"),
)
NOTES = f"""busiest s: requests in the busiest second; S3 may refuse more than {MAX_READS_A_SECOND:,} reads of a prefix
p50, p99, last: seconds from the moment CURRENT moved until a machine served it
$/month: all requests, and out: 1 MB a night to each machine, outside the region; {PRICES_FROM}"""


def row(outcome: Outcome) -> tuple[object, ...]:
    """One line of the table."""
    case = outcome.case
    total = outcome.gets + outcome.not_modified + outcome.puts
    return (
        f"{case.followers:,}",
        f"{case.every:g}",
        f"{case.lost:.0%} lost" if case.hints else "none",
        round(outcome.requests_an_hour),
        f"{outcome.not_modified / total:.1%}",
        outcome.busiest_second,
        f"{outcome.percentile(0.5):.2f}",
        f"{outcome.percentile(0.99):.2f}",
        f"{outcome.percentile(1):.2f}",
        f"{outcome.dollars_a_month:.2f}",
        f"{outcome.dollars_out_a_month:.2f}",
    )
