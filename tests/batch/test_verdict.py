"""One accepted bad night hides no other, and an approval changes the baseline of what was approved only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hotpath.batch.reports import newest_runs
from hotpath.batch.run import build
from hotpath.errors import Implausible
from hotpath.site import Hotpath
from hotpath.store.quarantine import approve
from hotpath.testing import FakeClock

DAY = 86400


class Nights:
    """Routes with as many rows as a night has, on a clock."""

    def __init__(self, root: Path, *routes: str, step: float = DAY) -> None:
        self.clock = FakeClock()
        self.hot = Hotpath(root)
        self.hot.store.clock = self.clock
        self.step = step
        self.rows = dict.fromkeys(routes or ("a",), 100)
        self.nulls = 0
        for name in self.rows:
            self.hot.route(f"/{name}", records="items", row_key="id")(lambda name=name: self.payload(name))

    def payload(self, name: str) -> dict[str, Any]:
        rows = range(self.rows[name])
        return {"items": [{"id": f"R{n}", "pe": None if n < self.nulls else n + self.clock.now} for n in rows]}

    def publish(self, *counts: int, name: str = "a") -> None:
        for count in counts:
            self.rows[name] = count
            self.clock.advance(self.step)
            build(self.hot)

    def refuse(self, count: int, name: str = "a") -> Implausible:
        self.rows[name] = count
        self.clock.advance(self.step)
        with pytest.raises(Implausible) as caught:
            build(self.hot)
        return caught.value

    def approve(self, refused: Implausible) -> None:
        approve(self.hot.store, refused.sequence, "it is right")


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 3600, DAY])
@pytest.mark.parametrize(
    "accepted",
    [
        (100, 50, 100, 100, 100),
        (50, 100, 100, 100),
        (100, 100, 50, 100),
        (100, 50, 100),
        (100, 50, 100, 100, 100, 100),
        (100, 50, *[100] * 13),
        (100, 100, 0, 100),
    ],
)
def test_a_bad_night_that_was_published_hides_no_other(tmp_path: Path, accepted: tuple[int, ...], step: int) -> None:
    nights = Nights(tmp_path, step=step)
    nights.hot = Hotpath(tmp_path)
    nights.hot.store.clock = nights.clock
    nights.hot.route("/a", records="items", row_key="id", min_rows=0)(lambda: nights.payload("a"))
    nights.publish(*accepted)
    nights.refuse(50)
    nights.publish(100)


@pytest.mark.slow
def test_a_night_with_too_much_is_no_standard(tmp_path: Path) -> None:
    nights = Nights(tmp_path)
    nights.publish(100, 100, 100, 200, 100, 100)
    nights.refuse(50)


@pytest.mark.slow
def test_the_third_accepted_run_is_the_last_that_nothing_is_compared_in(tmp_path: Path) -> None:
    """Also of what is measured beside the run before, which the first run has not."""
    nights = Nights(tmp_path)
    nights.publish(100, 100, 100)
    problems = nights.refuse(60).problems
    assert [line for line in problems if line.startswith("/a: rows are gone")]


@pytest.mark.slow
def test_a_site_that_grows_is_followed(tmp_path: Path) -> None:
    nights = Nights(tmp_path)
    nights.publish(*(100 + 3 * night for night in range(20)), 300, 300, 300, 303)
    nights.refuse(120)


@pytest.mark.slow
def test_a_site_that_halves_in_its_first_nights_and_stays_is_published(tmp_path: Path) -> None:
    Nights(tmp_path / "second").publish(100, 50, 50, 50, 50, 51)
    Nights(tmp_path / "third").publish(100, 100, 50, 50, 50, 51)


@pytest.mark.slow
def test_a_site_that_halves_and_stays_is_approved_once(tmp_path: Path) -> None:
    nights = Nights(tmp_path)
    nights.publish(*[100] * 5)
    nights.approve(nights.refuse(50))
    nights.publish(50, 50, 50, 51)
    nights.refuse(25)


@pytest.mark.slow
def test_the_second_quiet_saturday_is_published_with_a_warning_until_saturdays_are_known(tmp_path: Path) -> None:
    nights = Nights(tmp_path)
    warned = []
    for _ in range(6):
        nights.publish(100, 70, *[100] * 5)
        record = next(run for run in newest_runs(nights.hot.store) if run["sequence"] % 7 == 2)
        warned.append([one["found"] for one in record["findings"] if one["metric"] == "rows"])
    assert warned == [[], *[["70 as a week ago"] * 2] * 3, [], []]


@pytest.mark.slow
def test_a_bad_night_that_comes_again_a_week_later_is_not_published_without_a_word(tmp_path: Path) -> None:
    nights = Nights(tmp_path)
    nights.publish(100, 50, *[100] * 6)
    nights.rows["a"] = 50
    nights.clock.advance(DAY)
    warnings = build(nights.hot).warnings
    assert [line for line in warnings if "/a: fewer rows: " in line and line.endswith("found 50 as a week ago")]


@pytest.mark.slow
def test_an_approval_is_of_the_routes_that_were_out_of_line(tmp_path: Path) -> None:
    nights = Nights(tmp_path, "a", "b")
    nights.publish(*[100] * 5)
    nights.approve(nights.refuse(50))
    nights.publish(50)
    nights.refuse(50, name="b")


@pytest.mark.slow
def test_an_approval_is_of_the_metrics_that_were_out_of_line(tmp_path: Path) -> None:
    nights = Nights(tmp_path)
    nights.publish(*[100] * 5)
    nights.approve(nights.refuse(50))
    nights.nulls = 40
    problems = nights.refuse(50).problems
    assert [line for line in problems if line.startswith("/a: pe is null")]


@pytest.mark.slow
def test_a_column_that_was_null_one_night_may_not_be_null_again(tmp_path: Path) -> None:
    nights = Nights(tmp_path)
    nights.publish(100)
    nights.nulls = 100
    nights.publish(100)
    nights.nulls = 0
    nights.publish(100, 100, 100)
    nights.nulls = 100
    nights.refuse(100)
