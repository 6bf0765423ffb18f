"""Runs of the batch as the page shows them, each with what was expected of it by the runs before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from hotpath.batch.forecast import DAY, Point, expect_count
from hotpath.batch.plausibility import BYTES_FLOOR, tolerance_of
from hotpath.batch.reports import PUBLISHED, QUARANTINED
from hotpath.batch.rules import Rules
from hotpath.dashboard.facts import Band, BatchRun

# Problems and failed items of one run that are shown; the report has all.
MAX_SHOWN: Final = 5
KEPT_RUNS: Final = 60


def run_of(record: Mapping[str, Any]) -> BatchRun:
    """One report. Raises what indexing and converting raise, for one that makes no sense."""
    counts = list(record.get("routes", {}).values())
    failures = record.get("failures") or []
    problems = [_sentence(finding) for finding in record.get("findings") or [] if finding.get("fails")]
    if record.get("reason"):
        problems.insert(0, str(record["reason"]))
    return BatchRun(
        time=int(record["time"]),
        sequence=int(record["sequence"]),
        outcome=str(record["outcome"]),
        rows=sum(int(each.get("rows", 0)) for each in counts),
        bytes=sum(int(each.get("bytes", 0)) for each in counts),
        total=int(record.get("total") or 0),
        failures=len(failures),
        seconds=float(record.get("seconds") or 0.0),
        peak_bytes=int(record.get("peak_bytes") or 0),
        is_accepted=record["outcome"] == PUBLISHED,
        problems=_first(problems),
        failed=tuple((str(each.get("key")), str(each.get("problem"))) for each in failures[:MAX_SHOWN]),
    )


def _sentence(finding: Mapping[str, Any]) -> str:
    subject, rule, expected, actual = (str(finding.get(name, "?")) for name in ("subject", "rule", "expected", "found"))
    return f"{subject}: {rule}: expected {expected}, found {actual}"


def _first(problems: Sequence[str]) -> tuple[str, ...]:
    more = [f"and {len(problems) - MAX_SHOWN:,} more"] if len(problems) > MAX_SHOWN else []
    return (*problems[:MAX_SHOWN], *more)


def with_expectations(
    runs: Iterable[BatchRun], *, approved: Iterable[int] = (), bad: Iterable[int] = (), rules: Rules | None = None
) -> tuple[BatchRun, ...]:
    """The newest runs, the oldest first, each with the band that the accepted runs before it set.

    The same forecast that judges a run, of all routes together; a run itself is judged by each item and route.
    """
    rules = rules or Rules()
    approved, bad = set(approved), set(bad)
    accepted: list[BatchRun] = []
    judged = []
    for made in sorted(runs, key=lambda run: (run.time, run.sequence)):
        is_approved = made.outcome == QUARANTINED and made.sequence in approved
        run = replace(
            made,
            outcome="approved" if is_approved else made.outcome,
            is_accepted=(made.is_accepted or is_approved) and made.sequence not in bad,
            expected_rows=_band([(past.time, float(past.rows)) for past in accepted], made.time, rules, rows=True),
            expected_bytes=_band([(past.time, float(past.bytes)) for past in accepted], made.time, rules, rows=False),
        )
        judged.append(run)
        if run.is_accepted:
            accepted.append(run)
    return tuple(judged[-KEPT_RUNS:])


def _band(points: Sequence[Point], at: int, rules: Rules, *, rows: bool) -> Band | None:
    past = [point for point in points if at - rules.window_days * DAY <= point[0] <= at]
    if len(past) < rules.cold_runs:
        return None
    usual = expect_count(at, past, rules)
    share, floor = (rules.share, rules.floor_rows) if rows else (rules.bytes_share, BYTES_FLOOR)
    tolerance = tolerance_of(usual, share, floor, rules.sigmas)
    return Band(max(0.0, usual.centre - tolerance), usual.centre + tolerance)
