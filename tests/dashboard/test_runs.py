"""Runs of the batch with what was expected of them."""

from __future__ import annotations

from typing import Any

import pytest

from hotpath.dashboard.runs import KEPT_RUNS, run_of, with_expectations

DAY = 86400


def record(night: int, rows: int, outcome: str = "published", **more: Any) -> dict[str, Any]:
    routes = {"/a": {"rows": rows - 1, "bytes": rows * 10}, "/b": {"rows": 1, "bytes": 0}}
    return {"sequence": night, "time": night * DAY, "outcome": outcome, "total": 2, "routes": routes} | more


def test_a_run_is_expected_where_the_accepted_ones_before_it_were() -> None:
    records = [record(night, 1000 + night) for night in range(1, 41)]
    records[20] = record(21, 400, "quarantined")
    runs = with_expectations(map(run_of, records))
    assert runs[2].expected_rows is None
    band = runs[20].expected_rows
    assert band is not None
    assert band.least > 900
    assert not runs[20].is_accepted
    after = runs[21].expected_rows
    assert after is not None
    assert after.least < 1022 < after.most


def test_an_approved_run_counts_and_a_bad_one_does_not() -> None:
    records = [record(1, 100), record(2, 50, "quarantined"), record(3, 100)]
    runs = with_expectations(map(run_of, records), approved=[2], bad=[3])
    assert [(run.outcome, run.is_accepted) for run in runs] == [
        ("published", True),
        ("approved", True),
        ("published", False),
    ]


def test_sixty_are_kept_in_the_order_of_time() -> None:
    runs = with_expectations([run_of(record(night, 10)) for night in range(100, 0, -1)])
    assert [run.sequence for run in runs] == [*range(101 - KEPT_RUNS, 101)]


def test_why_it_was_refused_is_said_in_a_few_lines() -> None:
    finding = {"subject": "/a", "rule": "fewer rows", "expected": "at least 9", "found": "4", "fails": True}
    warning = finding | {"fails": False}
    failures = [{"key": f"/{n}", "problem": "boom"} for n in range(9)]
    run = run_of(record(1, 5, "failed", reason="too many", findings=[finding] * 9 + [warning], failures=failures))
    assert run.problems[:2] == ("too many", "/a: fewer rows: expected at least 9, found 4")
    assert run.problems[-1] == "and 5 more"
    assert (run.failures, len(run.failed)) == (9, 5)


@pytest.mark.parametrize("broken", [{}, {"time": 5}, {"time": "x", "sequence": 1, "outcome": "published"}])
def test_a_report_that_makes_no_sense_raises(broken: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError, AttributeError)):
        run_of(broken)
