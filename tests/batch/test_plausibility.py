"""Drops fail, growth does not; what is judged is never in its own sample."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotpath.batch.forecast import DAY, binomial_tail, expect_count
from hotpath.batch.plausibility import Deviation, Run, deviations
from hotpath.batch.rules import Rules
from hotpath.errors import DeclarationError

START = 1_767_578_400


def runs(values: list[int], name: str = "rows", **others: int) -> list[Run]:
    return [Run(START + night * DAY, {"/a": {name: value, **others}}) for night, value in enumerate(values)]


def tonight(values: list[int], value: int, name: str = "rows", **others: int) -> list[Deviation]:
    """What is said of ``value`` on the night after ``values``."""
    candidate = Run(START + len(values) * DAY, {"/a": {name: value, **others}})
    return list(deviations(candidate, runs(values, name, **others)))


def fails(values: list[int], value: int, name: str = "rows", **others: int) -> bool:
    return any(finding.fails for finding in tonight(values, value, name, **others))


@pytest.mark.parametrize("accepted", [0, 1, 2])
def test_with_fewer_than_three_runs_nothing_is_compared(accepted: int) -> None:
    assert tonight([500] * accepted, 1) == []


@pytest.mark.parametrize("accepted", [3, 13, 14, 29])
def test_a_drop_of_six_percent_fails_and_one_of_four_does_not(accepted: int) -> None:
    assert fails([500] * accepted, 470)
    assert not fails([500] * accepted, 480)


@pytest.mark.parametrize("share", [0.001, 0.004, 0.006])
def test_growth_never_fails_and_a_drop_out_of_it_does(share: float) -> None:
    values = [int(500 * (1 + share) ** night) for night in range(29)]
    assert not fails(values, int(500 * (1 + share) ** 29))
    assert fails(values, int(500 * (1 + share) ** 29 * 0.93))


def test_growth_goes_on_after_a_holiday_of_the_batch() -> None:
    values = [int(500 * 1.006**night) for night in range(24)]
    candidate = Run(START + 29 * DAY, {"/a": {"rows": int(500 * 1.006**29)}})
    assert list(deviations(candidate, runs(values))) == []


def test_more_is_a_warning() -> None:
    (finding,) = tonight([500] * 20, 700)
    assert not finding.fails
    assert str(finding) == "/a: more rows: expected at most 525 (500 ± 25, the last 30 days), found 700"


def test_a_quiet_saturday_is_compared_with_saturdays() -> None:
    values = [350 if night % 7 == 5 else 500 for night in range(33)]
    assert not fails(values, 350)
    assert fails(values, 320)
    assert fails([*values, 350], 350), "a Sunday like a Saturday"


def test_small_tables_may_lose_a_few_rows() -> None:
    assert not fails([10] * 20, 7)
    assert fails([10] * 20, 6)


def test_noise_widens_what_is_allowed() -> None:
    noisy = [500 + (night * 37 % 11 - 5) * 12 for night in range(29)]
    assert not fails(noisy, 440)
    assert fails(noisy, 250)


def test_a_fifth_of_the_nights_may_be_anything() -> None:
    values = [5 if night in (1, 4, 9, 13, 19, 23) else 500 for night in range(28)]
    points = [(run.at, run.subjects["/a"]["rows"]) for run in runs(values)]
    found = expect_count(START + 28 * DAY, points, Rules())
    assert found.centre > 400


def test_what_is_older_than_thirty_days_is_not_looked_at() -> None:
    old = [Run(START - 40 * DAY + night * DAY, {"/a": {"rows": 5000}}) for night in range(9)]
    new = runs([500] * 5)
    assert list(deviations(Run(START + 5 * DAY, {"/a": {"rows": 500}}), [*old, *new])) == []


@pytest.mark.parametrize(
    ("name", "usual", "allowed", "refused"),
    [
        ("nulls:pe", 170_000, 210_000, 240_000),
        ("jumped:cap", 10_000, 150_000, 250_000),
        ("changed:sector", 0, 250_000, 350_000),
        ("removed", 0, 40_000, 60_000),
    ],
)
def test_shares_of_rows_may_rise_so_far(name: str, usual: int, allowed: int, refused: int) -> None:
    assert not fails([usual] * 20, allowed, name, rows=500)
    assert fails([usual] * 20, refused, name, rows=500)
    assert not fails([usual] * 20, 0, name, rows=500)


def test_a_field_that_is_gone_is_null_in_every_row() -> None:
    history = [Run(START + night * DAY, {"/a": {"rows": 500, "nulls:pe": 0}}) for night in range(20)]
    (finding,) = deviations(Run(START + 20 * DAY, {"/a": {"rows": 500}}), history)
    assert (finding.rule, finding.fails) == ("pe is null", True)


def test_an_old_source_fails_on_its_first_night_and_a_weekend_does_not() -> None:
    def newest(night: int) -> int:
        return START + (night - max(0, night % 7 - 4)) * DAY - 6 * 3600

    def at(night: int, value: int) -> list[Deviation]:
        history = [Run(START + n * DAY, {"/a": {"newest": newest(n), "rows": 1}}) for n in range(night)]
        return list(deviations(Run(START + night * DAY, {"/a": {"newest": value, "rows": 1}}), history))

    assert at(33, newest(33)) == [], "a Saturday, the data is Friday's"
    assert [finding.rule for finding in at(31, newest(30))] == ["the source is old"], "a Thursday with Wednesday's data"


def test_pages_that_never_change_any_more_warn_first_and_fail_when_the_habit_is_known() -> None:
    assert [one.fails for one in tonight([0] * 5, 1_000_000, "unchanged", items=20)] == [False]
    assert [one.fails for one in tonight([0] * 20, 1_000_000, "unchanged", items=20)] == [True]
    assert tonight([1_000_000] * 20, 1_000_000, "unchanged", items=20) == []


VALUES = st.lists(st.integers(0, 10**6), min_size=3, max_size=30)
NAMES = st.sampled_from(["rows", "items", "bytes", "nulls:a", "jumped:a", "changed:a", "removed", "newest", "unknown"])


@given(VALUES, st.integers(-(10**9), 10**12), NAMES)
def test_any_numbers_can_be_judged(values: list[int], value: int, name: str) -> None:
    for finding in tonight(values, value, name):
        assert finding.expected
        assert finding.found


@given(VALUES, st.integers(0, 10**6), st.integers(0, 10**6))
def test_fewer_rows_never_turn_a_failure_into_a_pass(values: list[int], one: int, other: int) -> None:
    low, high = sorted((one, other))
    assert fails(values, low) or not fails(values, high)


@given(st.integers(0, 10**6), st.integers(3, 30))
def test_the_same_as_always_never_fails(value: int, nights: int) -> None:
    assert not fails([value] * nights, value)


@pytest.mark.parametrize("wrong", [{"share": -0.1}, {"share": 5}, {"sigmas": float("nan")}, {"cold_runs": 20}])
def test_rules_that_cannot_be_right_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(DeclarationError, match=next(iter(wrong))):
        Rules(**wrong)  # type: ignore[arg-type]


@given(st.integers(0, 60), st.integers(1, 60), st.floats(0, 1))
def test_the_tail_of_a_binomial_distribution(count: int, of: int, share: float) -> None:
    """Beside the sum of its definition."""
    exact = sum(math.comb(of, k) * share**k * (1 - share) ** (of - k) for k in range(count, of + 1))
    found = binomial_tail(count, of, share)
    assert math.isclose(found, 1.0 if 0 < count <= of * share else exact, rel_tol=1e-6, abs_tol=1e-9)


def test_a_small_sector_that_is_gone_as_a_whole_is_missed() -> None:
    """3 % of the rows are less than a count may lose."""
    usual = {"rows": 500, "vanished:sector": 0, "removed": 2000}
    history = [Run(START + night * DAY, {"/a": usual}) for night in range(20)]
    lost = {"rows": 485, "vanished:sector": 15, "removed": 30_000}
    (finding,) = deviations(Run(START + 20 * DAY, {"/a": lost}), history)
    assert (finding.rule, finding.fails) == ("all rows of one sector are gone", True)
    scattered = {"rows": 485, "vanished:sector": 0, "removed": 30_000}
    assert list(deviations(Run(START + 20 * DAY, {"/a": scattered}), history)) == []
