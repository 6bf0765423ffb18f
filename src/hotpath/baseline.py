"""Is what a batch has built plausible beside what was accepted in the last thirty days?

Numbers in, findings out. The run that is judged is never part of what it is compared with: inside a sample of ten a
single value cannot be three standard deviations away from the mean, however wrong it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

Metrics = Mapping[str, int]
Point = tuple[int, float]  # seconds since the epoch, value

DAY = 86400

# A share of rows or items, in the metrics that are shares.
PPM = 1_000_000

# The median absolute deviation of a normal distribution is this part of its standard deviation.
MAD_TO_SIGMA = 1.4826


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The numbers of the comparison.

    A count may fall by ``share`` of what is expected, by ``sigmas`` robust standard deviations or by ``floor_rows``,
    whichever is most. With fewer than ``cold_runs`` accepted runs nothing is compared; below ``robust_runs`` only with
    the last one; weekdays count from ``weekday_runs`` of the same one. ``bytes_share`` is what a size may fall by:
    shorter text is no lost row. ``nulls_share``, ``jumped_share``, ``changed_share`` and ``removed_share`` are shares
    of all rows by which a share may rise; ``late_seconds`` is how much older the source may be than it ever was.
    """

    share: float = 0.05
    sigmas: float = 3.0
    floor_rows: float = 3.0
    bytes_share: float = 0.20
    nulls_share: float = 0.05
    jumped_share: float = 0.20
    changed_share: float = 0.30
    removed_share: float = 0.05
    unchanged_share: float = 0.60
    late_seconds: int = 12 * 3600
    window_days: int = 30
    cold_runs: int = 3
    robust_runs: int = 14
    weekday_runs: int = 4


@dataclass(frozen=True, slots=True)
class Finding:
    """One number that is not as it was, of the item or route ``subject``. Only one that ``fails`` stops a run."""

    subject: str
    rule: str
    expected: str
    found: str
    fails: bool

    def __str__(self) -> str:
        return f"{self.subject}: {self.rule}: expected {self.expected}, found {self.found}"


@dataclass(frozen=True, slots=True)
class Run:
    """The metrics of one run by subject. ``at`` is seconds since the epoch."""

    at: int
    subjects: Mapping[str, Metrics]


def judge(candidate: Run, history: Sequence[Run], rules: Rules | None = None) -> list[Finding]:
    """Everything that is wrong with ``candidate`` beside ``history``, the accepted runs in any order."""
    rules = rules or Rules()
    accepted = window(candidate.at, history, rules)
    findings: list[Finding] = []
    for subject, metrics in candidate.subjects.items():
        past = [(run.at, run.subjects[subject]) for run in accepted if subject in run.subjects]
        findings += judge_subject(subject, candidate.at, metrics, past, rules)
    return findings


def window(at: int, history: Sequence[Run], rules: Rules) -> list[Run]:
    """The runs of the last ``window_days``, the oldest first. A run from the future is of a clock that was wrong."""
    return sorted(
        (run for run in history if at - rules.window_days * DAY <= run.at <= at + DAY), key=lambda run: run.at
    )


def judge_subject(
    subject: str, at: int, metrics: Metrics, past: Sequence[tuple[int, Metrics]], rules: Rules
) -> list[Finding]:
    """One item or route beside its own past, the oldest first."""
    if len(past) < rules.cold_runs:
        return []
    findings = []
    rows = metrics.get("rows", 0)
    gone = {name: PPM for name in past[-1][1] if name.startswith("nulls:") and name not in metrics} if rows else {}
    for name, value in {**metrics, **gone}.items():
        kind = name.partition(":")[0]
        judge_one = _KINDS.get(kind)
        points = [(then, float(old[name])) for then, old in past if name in old]
        if judge_one is None or len(points) < rules.cold_runs:
            continue
        finding = judge_one(_Question(subject, name, at, float(value), points, rows, rules))
        if finding is not None:
            findings.append(finding)
    return findings


@dataclass(frozen=True, slots=True)
class _Question:
    """One number with its past."""

    subject: str
    name: str
    at: int
    value: float
    points: Sequence[Point]
    rows: int
    rules: Rules

    @property
    def field(self) -> str:
        return self.name.partition(":")[2]


@dataclass(frozen=True, slots=True)
class Expectation:
    """Around which value a number is expected, how far it was scattered, and from what that was taken."""

    centre: float
    spread: float
    basis: str


def expect(at: int, points: Sequence[Point], rules: Rules, lenient: Callable[..., float] = min) -> Expectation:
    """What the past says of ``at``: the last value, or a robust trend, of the same weekday where there are enough.

    The trend is the median of all slopes (Theil 1950, Sen 1968): a third of the nights may be anything. While there
    are few of the same weekday, ``lenient`` chooses between them and all others: a first quiet Saturday is an alarm,
    the second is not.
    """
    ordered = sorted(points)
    if len(ordered) < rules.robust_runs:
        last = ordered[-1][1]
        same = [value for then, value in ordered if _weekday(then) == _weekday(at)]
        return Expectation(lenient([last, *same]), 0.0, "the last accepted run")
    slope = _slope(ordered)
    levelled = [(then, value + slope * (at - then)) for then, value in ordered]
    centre = median(value for _, value in levelled)
    basis = f"the last {rules.window_days} days"
    # How far nights are from the middle of their own weekday: quiet weekends are no scatter.
    middles = {day: median(v for then, v in levelled if _weekday(then) == day) for day in map(_weekday_of, levelled)}
    spread = MAD_TO_SIGMA * median(abs(value - middles[_weekday(then)]) for then, value in levelled)
    same = [value for then, value in levelled if _weekday(then) == _weekday(at)]
    if len(same) >= rules.weekday_runs:
        return Expectation(median(same), spread, f"the same weekday of {basis}")
    return Expectation(lenient([centre, *same]), spread, basis)


def _weekday_of(point: Point) -> int:
    return _weekday(point[0])


def _slope(points: Sequence[Point]) -> float:
    """Change a second, as the median of the slopes between every two points."""
    slopes = [
        (later - earlier) / (then - before)
        for index, (before, earlier) in enumerate(points)
        for then, later in points[index + 1 :]
        if then > before
    ]
    return median(slopes) if slopes else 0.0


def _weekday(at: int) -> int:
    return at // DAY % 7


def _count(question: _Question) -> Finding | None:
    """Fewer is a failure, more is worth a look."""
    return _fallen(question, question.rules.share, question.rules.floor_rows)


def _size(question: _Question) -> Finding | None:
    return _fallen(question, question.rules.bytes_share, 200.0)


def _fallen(question: _Question, share: float, floor: float) -> Finding | None:
    rules = question.rules
    expected = expect(question.at, question.points, rules)
    tolerance = max(share * expected.centre, rules.sigmas * expected.spread, floor)
    least, most = expected.centre - tolerance, expected.centre + tolerance
    what = f"({expected.centre:,.0f} ± {tolerance:,.0f}, {expected.basis})"
    if question.value < least:
        return Finding(
            question.subject, f"fewer {question.name}", f"at least {least:,.0f} {what}", f"{question.value:,.0f}", True
        )
    if question.value > most + tolerance:
        return Finding(
            question.subject, f"more {question.name}", f"at most {most:,.0f} {what}", f"{question.value:,.0f}", False
        )
    return None


def _risen(
    allowed: Callable[[Rules], float], rule: str, *, rows: float = 2.5, early: bool = True
) -> Callable[[_Question], Finding | None]:
    """A judge of shares that may not rise by more than ``allowed``, nor by that of so many ``rows``.

    One that is not ``early`` only warns until the past is long enough to know the habit.
    """

    def judge_share(question: _Question) -> Finding | None:
        rules = question.rules
        expected = expect(question.at, question.points, rules, max)
        # Two rows of a small table are a large share of it.
        grain = rows * PPM / max(question.rows, 1)
        most = expected.centre + max(allowed(rules) * PPM, rules.sigmas * expected.spread, grain)
        if question.value <= most or most >= PPM:
            return None
        told = rule.format(question.field)
        usual = f"at most {most / PPM:.0%} (usually {max(expected.centre, 0) / PPM:.1%}, {expected.basis})"
        fails = early or len(question.points) >= rules.robust_runs
        return Finding(question.subject, told, usual, f"{question.value / PPM:.1%}", fails)

    return judge_share


def _source(question: _Question) -> Finding | None:
    """The newest source time: it never goes back, and is never older than it was at such a run."""
    rules = question.rules
    ages = [(then, then - newest) for then, newest in question.points]
    age = question.at - question.value
    same = [old for then, old in ages if _weekday(then) == _weekday(question.at)]
    oldest = max(same) if len(same) >= rules.weekday_runs else max(old for _, old in ages)
    if age <= oldest + rules.late_seconds:
        return None
    return Finding(
        question.subject,
        "the source is old",
        f"at most {(oldest + rules.late_seconds) / 3600:.0f} h old at the time of the run",
        f"{age / 3600:.0f} h",
        True,
    )


# By the part of a metric's name before the colon. What is not here is kept and not judged.
_KINDS: Mapping[str, Callable[[_Question], Finding | None]] = {
    "items": _count,
    "rows": _count,
    "bytes": _size,
    "nulls": _risen(lambda rules: rules.nulls_share, "{} is null"),
    "jumped": _risen(lambda rules: rules.jumped_share, "{} is less than half or more than twice of what it was"),
    "changed": _risen(lambda rules: rules.changed_share, "{} is another value for the same row"),
    "removed": _risen(lambda rules: rules.removed_share, "rows are gone"),
    "unchanged": _risen(
        lambda rules: rules.unchanged_share, "pages are the same bytes as the night before", rows=0, early=False
    ),
    "newest": _source,
}
