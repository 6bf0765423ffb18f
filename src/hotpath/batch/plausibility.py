"""Is what a batch has built plausible beside what was accepted in the last thirty days?

Numbers in, deviations out. The checked run is never part of the sample that it is compared with: inside a sample of ten
a single value cannot be three standard deviations away from the mean, however wrong it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from hotpath.batch.forecast import (
    DAY,
    Expectation,
    Point,
    binomial_tail,
    expect_count,
    expect_share,
    same_weekday,
    usual_most,
)
from hotpath.batch.rules import Rules

Metrics = Mapping[str, int]

# A share of rows or items, in the metrics that are shares.
PPM = 1_000_000

# Bytes by which a size may always fall.
BYTES_FLOOR = 200.0


@dataclass(frozen=True, slots=True)
class Deviation:
    """The number ``metric`` of the item or route ``subject`` that is not as it was.

    Only a deviation that ``fails`` stops a run.
    """

    subject: str
    metric: str
    rule: str
    expected: str
    found: str
    fails: bool

    def __str__(self) -> str:
        return f"{self.subject}: {self.rule}: expected {self.expected}, found {self.found}"


@dataclass(frozen=True, slots=True)
class Run:
    """The metrics of one run by subject. ``at`` is seconds since the epoch.

    ``kept`` are subjects that are there but were not made in this run; ``None`` says that they are not known, and then
    no subject counts as gone.
    """

    at: int
    subjects: Mapping[str, Metrics]
    kept: Container[str] | None = None

    def has(self, subject: str) -> bool:
        return subject in self.subjects or (self.kept is not None and subject in self.kept)


def deviations(candidate: Run, history: Sequence[Run], rules: Rules | None = None) -> Iterator[Deviation]:
    """Everything that is wrong with ``candidate`` beside ``history``, the accepted runs in any order.

    An iterator, since there may be more of them than fit into memory: a column that is lost in each of many items.
    """
    rules = rules or Rules()
    accepted = window(candidate.at, history, rules)
    yield from missing(candidate, accepted, rules)
    for subject, metrics in candidate.subjects.items():
        if metrics.get("error"):
            yield Deviation(
                subject,
                "error",
                "an error is in the place of the page",
                "the members that it had the night before",
                "only members of an error",
                True,
            )
        past = [(run.at, run.subjects[subject]) for run in accepted if subject in run.subjects]
        yield from deviations_of(subject, candidate.at, metrics, past, rules, asked=len(candidate.subjects))


def window(at: int, history: Sequence[Run], rules: Rules) -> list[Run]:
    """The runs of the last ``window_days``, the oldest first. A run from the future is of a clock that was wrong."""
    return sorted(
        (run for run in history if at - rules.window_days * DAY <= run.at <= at + DAY), key=lambda run: run.at
    )


def missing(candidate: Run, accepted: Sequence[Run], rules: Rules) -> list[Deviation]:
    """Subjects of the last accepted run that are no more; ``accepted`` has the oldest first.

    Where pages never go, one that does fails. Where they come and go, as with one a stock, twice the usual may.
    """
    if candidate.kept is None or len(accepted) < rules.cold_runs:
        return []
    gone = [subject for subject in accepted[-1].subjects if not candidate.has(subject)]
    if not gone:
        return []
    losses = [_gone(before, after) for before, after in pairwise(accepted)]
    usual = usual_most(losses) if losses else 0
    allowed = max(2 * usual, rules.gone_share * len(accepted[-1].subjects))
    fails = len(gone) > allowed
    expected = f"at most {allowed:,.0f} gone" if fails else "to be there as in the last accepted run"
    return [Deviation(subject, "gone", "it is gone", expected, f"{len(gone):,} gone", fails) for subject in gone]


def _gone(before: Run, after: Run) -> int:
    return sum(not after.has(subject) for subject in before.subjects) if after.kept is not None else 0


def deviations_of(
    subject: str, at: int, metrics: Metrics, past: Sequence[tuple[int, Metrics]], rules: Rules, *, asked: int = 1
) -> list[Deviation]:
    """One item or route beside its own past, the oldest first; it needs nothing of any other.

    ``asked`` is how many subjects this run has: of ten thousand some are unusual every night, and a run fails
    with the first of them, so each has to be more unusual.
    """
    if len(past) < rules.cold_runs:
        return []
    findings = []
    rows = metrics.get("rows", 0)
    # A column that is not there has no value in any row.
    gone = {name: PPM for name in past[-1][1] if name.startswith("nulls:") and name not in metrics} if rows else {}
    for name, value in {**metrics, **gone}.items():
        compare = _KINDS.get(name.partition(":")[0])
        points = [(then, float(old[name])) for then, old in past if name in old]
        # The first run has none of what is measured beside the run before it.
        needed = rules.cold_runs - _is_beside_the_run_before(name)
        if compare is None or len(points) < max(needed, 1):
            continue
        finding = compare(_Question(subject, name, at, float(value), points, rows, metrics, past, rules, asked))
        if finding is not None:
            findings.append(finding)
    return findings


def _is_beside_the_run_before(name: str) -> bool:
    """Whether a metric is of what became of the rows of the run before."""
    return name.partition(":")[0] in ("removed", "changed", "jumped", "vanished")


@dataclass(frozen=True, slots=True)
class _Question:
    """One number with its past."""

    subject: str
    name: str
    at: int
    value: float
    points: Sequence[Point]
    rows: int
    metrics: Metrics
    past: Sequence[tuple[int, Metrics]]
    rules: Rules
    asked: int

    @property
    def field(self) -> str:
        return self.name.partition(":")[2]

    @property
    def sigmas(self) -> float:
        """The largest of so many normal numbers is about √(2 ln n) deviations out (extreme value theory)."""
        return math.sqrt(self.rules.sigmas**2 + 2 * math.log(max(self.asked, 1)))

    @property
    def chance(self) -> float:
        """How likely something may be and still count as unusual: what lies beyond the sigmas, shared by all asked."""
        return math.erfc(self.rules.sigmas / math.sqrt(2)) / 2 / max(self.asked, 1)

    def usual_count(self) -> Expectation:
        return expect_count(self.at, self.points, self.rules)

    def usual_share(self) -> Expectation:
        # Values that were wrong for a night are others than before in that night, and in the next.
        return expect_share(self.at, self.points, self.rules, odd=1 + _is_beside_the_run_before(self.name))


def _count(question: _Question) -> Deviation | None:
    """Fewer is a failure, more is worth a look."""
    return _fallen(question, question.rules.share, question.rules.floor_rows)


def _size(question: _Question) -> Deviation | None:
    return _fallen(question, question.rules.bytes_share, BYTES_FLOOR)


def tolerance_of(usual: Expectation, share: float, floor: float, sigmas: float) -> float:
    """How far a count may be from what is expected: a share of it, its scatter, or a few, whichever is most."""
    return max(share * usual.centre, sigmas * usual.spread, min(floor, max(1.0, usual.centre / 3)))


def _fallen(question: _Question, share: float, floor: float) -> Deviation | None:
    usual = question.usual_count()
    tolerance = tolerance_of(usual, share, floor, question.sigmas)
    least, most = usual.centre - tolerance, usual.centre + tolerance
    what = f"({usual.centre:,.0f} ± {tolerance:,.0f}, {usual.basis})"
    actual = f"{question.value:,.0f}"
    if question.value < least:
        # A quiet Saturday after a quiet Saturday, or the same accident twice: a person has to look at it.
        as_a_week_ago = usual.week_ago is not None and question.value >= usual.week_ago - tolerance
        return Deviation(
            question.subject,
            question.name,
            f"fewer {question.name}",
            f"at least {least:,.0f} {what}",
            actual + (" as a week ago" if as_a_week_ago else ""),
            not as_a_week_ago,
        )
    if question.value > most + tolerance:
        return Deviation(
            question.subject, question.name, f"more {question.name}", f"at most {most:,.0f} {what}", actual, False
        )
    return None


def _risen(allowed: Callable[[Rules], float], rule: str) -> Callable[[_Question], Deviation | None]:
    """A comparison of shares of the rows that may not rise by more than ``allowed``.

    In a small table chance alone does that: three of twelve rows are a quarter. So it must not be likely either, were
    each row on its own.
    """

    def compare_share(question: _Question) -> Deviation | None:
        share = allowed(question.rules) * PPM
        if question.value <= min(value for _, value in question.points) + share:
            return None  # whatever is usual
        usual = question.usual_share()
        most = usual.centre + max(share, question.sigmas * usual.spread)
        if question.value <= most or most >= PPM:
            return None
        rows = question.rows
        if rows:
            # A quarter of a row more than was seen: what never happened is not impossible.
            likely = (max(usual.centre, 0.0) / PPM * rows + 0.25) / (rows + 0.5)
            if binomial_tail(round(question.value * rows / PPM), rows, likely) > question.chance:
                return None
        described = rule.format(question.field)
        usually = f"at most {most / PPM:.0%} (usually {max(usual.centre, 0) / PPM:.1%}, {usual.basis})"
        return Deviation(question.subject, question.name, described, usually, f"{question.value / PPM:.1%}", True)

    return compare_share


_more_removed = _risen(lambda rules: rules.removed_share, "rows are gone")


def _removed(question: _Question) -> Deviation | None:
    """Rows that are gone, but for those that the run before had too many: a table that is as it was lost nothing."""
    points = [(then, float(old["rows"])) for then, old in question.past if "rows" in old]
    if points:
        before = points[-1][1]
        excess = max(0.0, before - expect_count(question.at, points, question.rules).centre)
        value = max(0.0, question.value - excess * PPM / max(before, 1.0))
        question = replace(question, value=value)
    return _more_removed(question)


def _unchanged(question: _Question) -> Deviation | None:
    """Pages that used to change and are all as they were; only a warning until weekends are known."""
    rules = question.rules
    usual = question.usual_share()
    most = usual.centre + max(rules.unchanged_share * PPM, question.sigmas * usual.spread)
    if question.value <= most or most >= PPM:
        return None
    return Deviation(
        question.subject,
        question.name,
        "pages are the same bytes as the night before",
        f"at most {most / PPM:.0%} (usually {max(usual.centre, 0) / PPM:.1%}, {usual.basis})",
        f"{question.value / PPM:.1%}",
        len(question.points) >= rules.robust_runs,
    )


def _vanished(question: _Question) -> Deviation | None:
    """All rows of one sector are gone, where no sector ever went. How likely is that, were each row to go on its own?

    A small sector is less than 5 % of a table; that it went as a whole is what gives it away.
    """
    size, rows = int(question.value), question.rows
    if len(question.points) < question.rules.robust_runs or size <= usual_most([value for _, value in question.points]):
        return None
    before = [(old["rows"], old.get("removed", 0) * old["rows"] / PPM) for _, old in question.past if "rows" in old]
    total = sum(count for count, _ in before)
    going = (sum(removed for _, removed in before) + 1) / (total + 2)
    groups = (before[-1][0] if before else rows) / max(size, 1)
    if groups * min(going, 1.0) ** size > question.chance:
        return None
    return Deviation(
        question.subject,
        question.name,
        f"all rows of one {question.field} are gone",
        f"every {question.field} to be there as in the last accepted run",
        f"one of {size:,} rows gone",
        True,
    )


def _source(question: _Question) -> Deviation | None:
    """The newest source time: it is never older than it usually was at such a run."""
    rules = question.rules
    ages = [(then, then - newest) for then, newest in question.points]
    age = question.at - question.value
    same = same_weekday(question.at, ages)
    is_known = len(same) >= rules.weekday_runs
    oldest = usual_most(same) if is_known else max([usual_most([old for _, old in ages]), *same])
    if age <= oldest + rules.late_seconds:
        return None
    return Deviation(
        question.subject,
        question.name,
        "the source is old",
        f"at most {(oldest + rules.late_seconds) / 3600:.0f} h old at the time of the run",
        f"{age / 3600:.0f} h",
        True,
    )


# By the part of a metric's name before the colon. Other metrics are kept and not compared.
_KINDS: Mapping[str, Callable[[_Question], Deviation | None]] = {
    "items": _count,
    "rows": _count,
    "bytes": _size,
    "nulls": _risen(lambda rules: rules.nulls_share, "{} is null"),
    "common": _risen(lambda rules: rules.common_share, "{} has one and the same value"),
    "jumped": _risen(lambda rules: rules.jumped_share, "{} is a quite different number for the same row"),
    "changed": _risen(lambda rules: rules.changed_share, "{} is another value for the same row"),
    "removed": _removed,
    "repeated": _risen(lambda rules: rules.repeated_share, "rows are there twice"),
    "vanished": _vanished,
    "unchanged": _unchanged,
    "newest": _source,
}
