"""The table, the page and the verdict of a rehearsal."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from hotpath.ops.rehearse.outcomes import RESET, RunRecord
from hotpath.ops.rehearse.page import html
from hotpath.ops.rehearse.rehearsal import Rehearsal, proves_nothing
from hotpath.ops.rehearse.runs import ALONE, FRONT, GUARDED, RunKind, RunResult
from hotpath.ops.rehearse.table import lines, rows

MIB = 2**20


def run(way: RunKind, *, oom_kills: int = 0, deaths: int = 0, hot: int = 200, cold: int = 200) -> RunResult:
    record = RunRecord([True, False], ["/a", "/b/{b}"], seconds=10, moments=10)
    for second in range(10):
        record.add(0, second, hot, 0.002)
        record.add(1, second, cold, 0.02)
        record.moments[second].memory_bytes = (50 + 10 * second) * MIB
    recoveries = [0.5, 2.0, 0.7][:deaths]
    return RunResult(way, 192 * MIB, 50 * MIB, 150 * MIB, record, recoveries, deaths, oom_kills, 0, False, 0.1, 0.001)


def rehearsal(*runs: RunResult, faults: dict[str, int] | None = None) -> Rehearsal:
    return Rehearsal(
        app="site:app",
        source="the log <access.log>",
        notes=("the log has 1 h only",),
        days=30,
        seconds=120,
        requests=20,
        hot_pages=1,
        cold_pages=1,
        templates=2,
        faults=faults or {"leak": 3},
        runs=[*runs],
        group_problem=None,
        at_once=False,
    )


WHOLE = rehearsal(run(ALONE, oom_kills=3, deaths=3, hot=RESET, cold=500), run(GUARDED, cold=503), run(FRONT, deaths=3))


def test_the_table_has_a_row_for_each_figure_of_the_issue() -> None:
    table = {row[0].strip(): row[1:] for row in rows(WHOLE)}
    assert table[""] == ("the app alone", "middleware and guard", "behind the front")
    assert table["peak memory"] == ("150.0 MiB",) * 3
    assert table["crawl errors, all"] == ("100.00% (20 of 20)", "50.00% (10 of 20)", "0.00% (0 of 20)")
    assert table["5xx / resets / time-outs"] == ("10 / 10 / 0", "10 / 0 / 0", "0 / 0 / 0")
    assert table["of them shed (503)"] == ("0", "10", "0")
    assert table["blast radius: routes hurt"] == ("2 of 2", "1 of 2", "0 of 2")
    assert table["of routes with hot pages"] == ("100%", "0%", "0%")
    assert table["deaths of the app"] == ("3 (3 for memory)", "0", "3")
    assert table["recovery, median"] == ("0.70 s", "–", "0.70 s")
    assert table["hot p50 / p99"] == ("– / –", "2.0 ms / 2.0 ms", "2.0 ms / 2.0 ms")


def test_what_is_printed_says_what_was_replayed_and_that_no_hot_page_failed() -> None:
    text = "\n".join(lines(WHOLE))
    assert "Faults: 3 × leak." in text
    assert "Replayed: the log <access.log>." in text
    assert "Note: the log has 1 h only." in text
    assert text.endswith("No hot page failed behind the front: 0 of 10.")


def test_a_client_that_was_late_is_said() -> None:
    assert "late" not in "\n".join(lines(WHOLE))
    late = run(FRONT)
    late.client_lag_seconds = 4.8
    text = "\n".join(lines(rehearsal(*WHOLE.runs[:2], late)))
    assert "The client was up to 4.8 s late" in text


def test_the_page_has_a_plot_for_each_run_and_nothing_from_elsewhere() -> None:
    page = html(WHOLE)
    assert page.count("<svg") == page.count("</svg>") == 3
    assert page.count('class="memory" points="') == 3
    assert len(re.findall(r'<rect class="hot"', page)) == 10
    assert "the log &lt;access.log&gt;" in page
    assert not re.search(r"(src|href)=|<script|http://|https://", page)


def test_the_json_has_every_run() -> None:
    facts = WHOLE.as_dict()
    assert [each["run"] for each in facts["runs"]] == ["alone", "middleware", "front"]
    assert facts["runs"][0]["all"]["errors"] == 20
    assert facts["runs"][2]["recovery_seconds"] == {"median": 0.7, "longest": 2.0}


@pytest.mark.parametrize(
    ("faults", "alone", "why"),
    [
        ({"leak": 3}, run(ALONE, oom_kills=3, deaths=3, hot=RESET), None),
        ({"leak": 4}, run(ALONE, oom_kills=3, deaths=3, hot=RESET), "killed for memory 3 times, and 4 were planned"),
        ({"kill": 4}, run(ALONE, deaths=3, hot=RESET), "was killed 0 times, and 4 were planned"),
        ({"slow": 2}, run(ALONE), "answered every request"),
        ({"slow": 2}, run(ALONE, cold=500), None),
    ],
)
def test_the_control_proves_itself(faults: dict[str, int], alone: RunResult, why: str | None) -> None:
    problem = proves_nothing(faults, alone)
    assert problem is None if why is None else why in str(problem)


def test_the_exit_code_is_1_where_a_hot_page_failed_behind_the_front_and_2_where_nothing_was_proven() -> None:
    made = rehearsal(*WHOLE.runs)
    assert made.exit_code == 0
    made.failed_hot_pages = 1
    assert made.exit_code == 1
    assert "1 requests for hot pages failed behind the front." in "\n".join(lines(made))
    made.problem = "the app alone was not killed"
    assert made.exit_code == 2
    assert "This proves nothing: the app alone was not killed." in "\n".join(lines(made))


@pytest.mark.parametrize(("days", "says"), [(1, "1 day in 120 s a run: "), (30, "30 days in 120 s a run: ")])
def test_days_are_counted(days: float, says: str) -> None:
    assert any(line.startswith(says) for line in lines(replace(WHOLE, days=days)))
