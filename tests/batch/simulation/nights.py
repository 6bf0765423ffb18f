"""Run the sites through the real measuring and judging, with incidents planted, beside the naive rule.

python -m tests.batch.simulation.nights           400 nights a site, and the table of docs/explanation/validation.md
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import mean

from hotpath.batch.forecast import DAY
from hotpath.batch.measure import measure
from hotpath.batch.plausibility import Run, deviations
from hotpath.errors import ItemError
from tests.batch.simulation.sites import INCIDENTS, Row, Site, sites

# A site has its first month in peace; then one night in this many goes wrong.
PEACE_NIGHTS = 35
INCIDENT_EVERY = 8


@dataclass
class Result:
    """What was said of one site."""

    site: str
    nights: int = 0
    false_alarms: int = 0
    naive_alarms: int = 0
    planted: Counter[str] = field(default_factory=Counter)
    caught: Counter[str] = field(default_factory=Counter)
    naive_caught: Counter[str] = field(default_factory=Counter)
    told: list[str] = field(default_factory=list)


def problems_of(rows: list[Row], before: list[Row] | None, at: int, history: list[Run]) -> tuple[list[str], Run]:
    """What would keep a candidate from being published, and its run."""
    subject = "/stocks"
    try:
        metrics = measure(
            {"items": rows},
            records="items",
            required=("ticker",),
            row_key="ticker",
            source_time="day",
            min_rows=1,
            before={"items": before} if before else None,
        )
    except ItemError as error:
        return [error.problem], Run(at, {})
    run = Run(at, {subject: metrics})
    return [str(finding) for finding in deviations(run, history) if finding.fails], run


def simulate(site: Site, count: int, seed: int) -> Result:
    """Night after night; what is refused is not published, and a false alarm is approved, which starts history anew."""
    result = Result(site.name)
    chance = random.Random(seed)
    history: list[Run] = []
    published: list[Row] | None = None
    accepted_rows: list[tuple[int, int]] = []
    for night, (at, rows) in enumerate(site.nights(count, seed)):
        recent = [rows_then for then, rows_then in accepted_rows if then >= at - 30 * DAY]
        usual = mean(recent) if recent else 0.0
        rests = site.rests and night % 7 in (5, 6)
        # A stale source on a night without news is what is right.
        if night >= PEACE_NIGHTS and night % INCIDENT_EVERY == 0 and published and not rests:
            incident = INCIDENTS[sum(result.planted.values()) % len(INCIDENTS)]
            name = incident.__name__
            wrong = incident(rows, published, chance)
            result.planted[name] += 1
            problems, _ = problems_of(wrong, published, at, history)
            result.caught[name] += bool(problems)
            result.naive_caught[name] += len(wrong) < 0.95 * usual
            if not problems:
                result.told.append(f"{site.name}, night {night}: {name} was not caught")
            continue  # mended before the next night
        result.nights += 1
        problems, run = problems_of(rows, published, at, history)
        result.naive_alarms += bool(recent) and len(rows) < 0.95 * usual
        if problems:
            result.false_alarms += 1
            result.told.append(f"{site.name}, night {night}: {problems[0]}")
            history = []
        history.append(run)
        published = rows
        accepted_rows.append((at, len(rows)))
    return result


def simulate_all(count: int, seed: int) -> list[Result]:
    return [simulate(site, count, seed) for site in sites()]


def table(results: Iterable[Result]) -> str:
    """As the docs have it."""
    results = list(results)
    lines = [
        "| site | nights | false alarms | naive | incidents | caught on the first night | naive |",
        "|---" * 7 + "|",
    ]
    for one in results:
        lines.append(
            f"| {one.site} | {one.nights} | {one.false_alarms} | {one.naive_alarms} | {one.planted.total()}"
            f" | {one.caught.total()} | {one.naive_caught.total()} |"
        )
    lines += ["", "| incident | planted | caught on the first night | by the naive rule |", "|---" * 4 + "|"]
    for incident in INCIDENTS:
        name = incident.__name__
        planted = sum(one.planted[name] for one in results)
        caught = sum(one.caught[name] for one in results)
        naive = sum(one.naive_caught[name] for one in results)
        lines.append(f"| {name.replace('_', ' ')} | {planted} | {caught} | {naive} |")
    return "\n".join(lines)


def main() -> None:
    results = simulate_all(400, seed=1)
    print(table(results))
    for one in results:
        for line in one.told:
            print(line, file=sys.stderr)


if __name__ == "__main__":
    main()
