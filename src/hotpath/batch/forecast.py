"""What a number should be tonight, by the nights before it: robust, so that a bad night among them moves little.

There are three simple predictors, and the one with the smallest error over the same nights is used: the trend fits a
table that grows, weekdays a table that rests at weekends, the last night a table that moves in steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import fmean, median

from hotpath.batch.rules import Rules

Point = tuple[int, float]  # seconds since the epoch, value

DAY = 86400

# The level of a table that moves in steps is the middle of so many nights: one that was out of line sets none, and a
# real step is followed on its second night.
LEVEL_NIGHTS = 3

LAST_RUNS = "the last accepted runs"

# A trend is followed no faster than a count may fall in this many nights without a run: a holiday of the batch.
GROWTH_DAYS = 5

# The median absolute deviation of a normal distribution is this part of its standard deviation.
MAD_TO_SIGMA = 1.4826


@dataclass(frozen=True, slots=True)
class Expectation:
    """The value a number is expected at, its scatter (one sigma), and the nights both are taken from.

    ``week_ago`` is what it was then, where that is the only hint at a habit of the weekday.
    """

    centre: float
    spread: float
    basis: str
    week_ago: float | None = None


def expect_count(at: int, points: Sequence[Point], rules: Rules) -> Expectation:
    """A count at ``at`` (seconds since the epoch) from ``points``, the oldest first, at least one.

    Up to ``robust_runs`` points it is the middle of the last three or the last, moved on by the usual step. A trend
    carries growth, at most ``share`` in five days; downward it is held to ``share`` in ``window_days``, or a
    table that loses a little every night would never be missed.
    """
    past = f"the last {rules.window_days} days"
    values = [value for _, value in points]
    if min(values) == max(values):
        return Expectation(values[0], 0.0, LAST_RUNS if len(points) < rules.robust_runs else past)
    is_known = len(points) >= rules.robust_runs
    scale = rules.share * min(abs(median(values)), abs(values[-1]))
    slope = _slope(points) if is_known else _usual_step(points)
    slope = min(max(slope, -scale / (rules.window_days * DAY)), scale / (GROWTH_DAYS * DAY))
    levelled = [(then, value + slope * (at - then)) for then, value in points]
    levels = [value for _, value in levelled]
    same = same_weekday(at, levelled)
    steps = [after - before for before, after in pairwise(levels)]
    # What is lower than that since the last run was accepted so, and may stay: only a return shows that it was wrong.
    last = _predictor(min(levels[-1], median(levels[-LEVEL_NIGHTS:])), steps, LAST_RUNS)
    centre = median(levels)
    trend = _predictor(centre, [value - centre for value in levels], past)
    if not is_known:
        # A night out of line is two large steps of few, and one value of few far from the middle; a step of the level
        # is the other way round. Noise is both.
        spread = min(last.expectation.spread, trend.expectation.spread)
        return _or_weekday(replace(last.expectation, spread=spread), same)
    best = min(trend, last, key=lambda predictor: predictor.error)
    if len(same) >= rules.weekday_runs:
        by_day = _by_weekday(levelled)
        middles = {day: median(of_day) for day, of_day in by_day.items()}
        off = [value - middles[weekday(then)] for then, value in levelled]
        weekly = _predictor(median(same), off, f"the same weekday of {past}")
        return min(weekly, best, key=lambda predictor: predictor.error).expectation
    return _or_weekday(best.expectation, same)


def expect_share(at: int, points: Sequence[Point], rules: Rules, *, odd: int = 1) -> Expectation:
    """A share at ``at`` from ``points``: it has no trend. What is allowed is what lies above it.

    Up to ``robust_runs`` points it is the most that was usual: some nights bring a change that others do not. A night
    out of line leaves ``odd`` of the points, which say nothing of what is usual.
    """
    past = f"the last {rules.window_days} days"
    values = [value for _, value in points]
    if len(points) < rules.robust_runs:
        return Expectation(max([usual_most(values, odd), *same_weekday(at, points)[-1:]]), 0.0, "the accepted runs")
    if min(values) == max(values):
        return Expectation(values[0], 0.0, past)
    by_day = _by_weekday(points)
    middles = {day: median(of_day) for day, of_day in by_day.items()}
    spread = MAD_TO_SIGMA * median(abs(value - middles[weekday(then)]) for then, value in points)
    same = same_weekday(at, points)
    if len(same) >= rules.weekday_runs:
        return Expectation(median(same), spread, f"the same weekday of {past}")
    return Expectation(max([median(values), *same]), spread, past)


def usual_most(values: Sequence[float], odd: int = 1) -> float:
    """The largest of ``values`` but for ``odd``, or the smallest: what one accepted night had is no habit."""
    return sorted(values)[-1 - odd :][0]


def same_weekday(at: int, points: Sequence[Point]) -> list[float]:
    """The values of the same weekday in other weeks: of two runs in one day neither is a habit of that weekday."""
    return [value for then, value in points if weekday(then) == weekday(at) and abs(at - then) > DAY]


def weekday(at: int) -> int:
    """A number for the weekday of a time, in UTC; which one does not matter."""
    return at // DAY % 7


def binomial_tail(count: int, of: int, share: float) -> float:
    """How likely ``count`` or more of ``of`` are, where each is with the probability ``share``."""
    if count <= 0:
        return 1.0
    if count > of:
        return 0.0
    share = min(max(share, 1e-12), 1 - 1e-12)
    if count <= of * share:
        return 1.0  # not even unusual; the exact value would need half of all terms
    logarithm = math.lgamma(of + 1) - math.lgamma(count + 1) - math.lgamma(of - count + 1)
    term = math.exp(logarithm + count * math.log(share) + (of - count) * math.log1p(-share))
    total, odds = 0.0, share / (1 - share)
    while count <= of and term > total * 1e-9:
        total += term
        term *= (of - count) / (count + 1) * odds
        count += 1
    return min(total, 1.0)


@dataclass(frozen=True, slots=True)
class _Predictor:
    expectation: Expectation
    error: float


def _predictor(centre: float, misses: Sequence[float], basis: str) -> _Predictor:
    """Chosen by the mean of its misses: their median would not see that it is wrong on two days of seven."""
    sizes = [abs(miss) for miss in misses] or [0.0]
    return _Predictor(Expectation(centre, MAD_TO_SIGMA * median(sizes), basis), fmean(sizes))


def _or_weekday(usual: Expectation, same: Sequence[float]) -> Expectation:
    """Of few the last one of the same weekday may be right too: a first quiet Saturday fails, a second warns."""
    return replace(usual, week_ago=same[-1] if same else None)


def _by_weekday(points: Sequence[Point]) -> dict[int, list[float]]:
    by_day: dict[int, list[float]] = {}
    for then, value in points:
        by_day.setdefault(weekday(then), []).append(value)
    return by_day


def _slope(points: Sequence[Point]) -> float:
    """Change a second: the median of the slopes between every two points (Theil 1950, Sen 1968)."""
    slopes = [
        (later - earlier) / (then - before)
        for index, (before, earlier) in enumerate(points)
        for then, later in points[index + 1 :]
        if then > before
    ]
    return median(slopes) if slopes else 0.0


def _usual_step(points: Sequence[Point]) -> float:
    """Change a second, as the median from one night to the next."""
    steps = [
        (later - earlier) / (then - before) for (before, earlier), (then, later) in pairwise(points) if then > before
    ]
    return median(steps) if steps else 0.0
