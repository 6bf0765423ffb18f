"""Many real followers on a virtual clock: what they ask of an origin, and how soon all serve a build."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.simulation.followers import MAX_READS_A_SECOND, NOTES, TITLES, Case, row, simulate

SMALL = Case(followers=20, minutes=10)
# The longest pause with jitter; then a look of some requests.
LAST_POLL_SECONDS = 11.0
TRANSFER_SECONDS = 0.5


def test_followers_that_poll_serve_a_build_after_one_interval(tmp_path: Path) -> None:
    outcome = simulate(replace(SMALL, hints=False), tmp_path)
    assert 2 < outcome.percentile(0.5) < 9
    assert outcome.percentile(1) <= LAST_POLL_SECONDS + TRANSFER_SECONDS


def test_a_hint_is_served_at_once_and_a_lost_one_at_the_next_look(tmp_path: Path) -> None:
    outcome = simulate(replace(SMALL, lost=0.25), tmp_path)
    assert outcome.percentile(0.5) < 0.1 + TRANSFER_SECONDS
    assert 1 < outcome.percentile(1) <= LAST_POLL_SECONDS + TRANSFER_SECONDS


def test_what_followers_ask_when_nothing_is_new_is_one_conditional_request(tmp_path: Path) -> None:
    outcome = simulate(replace(SMALL, builds=1, hints=False), tmp_path)
    looks = 20 * 10 * 60 / 10
    assert 0.95 * looks < outcome.not_modified < 1.05 * looks
    # Of a build: CURRENT, the manifest and what changed, in its two codings at most.
    assert outcome.gets <= 20 * (2 + 2 * 3)
    # Two reports of each machine, a sign of life and the news, and what the builder sends.
    assert outcome.puts <= 20 * 2 + 8


def test_followers_do_not_ask_in_step(tmp_path: Path) -> None:
    outcome = simulate(Case(followers=40, minutes=5, builds=0), tmp_path)
    assert outcome.busiest_second < 20


@pytest.mark.slow
def test_a_thousand_followers(tmp_path: Path) -> None:
    """The table is printed with ``-s``."""
    rows = {}
    for hints in (True, False):
        case = Case(minutes=10, builds=1, hints=hints)
        rows[hints] = simulate(case, tmp_path / str(hints))
    for line in (TITLES, *map(row, rows.values())):
        print(*line, sep="\t")
    print(NOTES)
    hinted, polled = rows[True], rows[False]
    assert polled.percentile(1) <= LAST_POLL_SECONDS + TRANSFER_SECONDS
    assert hinted.percentile(0.5) < 0.1 + TRANSFER_SECONDS
    assert hinted.percentile(0.985) < 1  # 1 % of hints are lost
    assert hinted.percentile(1) <= LAST_POLL_SECONDS + TRANSFER_SECONDS
    assert 350_000 < polled.requests_an_hour < 420_000
    assert polled.dollars_a_month < 200
    assert polled.busiest_second < MAX_READS_A_SECOND / 5
    # A hint brings all within the time of a look: a machine asks for CURRENT, a manifest and six files.
    assert hinted.busiest_second < 1000 * 9
