"""Figures become shapes in their places, labels and a table."""

from __future__ import annotations

import pytest

from hotpath.dashboard.plot import Across, Bars, Curve, Dot, Mark, Plot, Ribbon, Slot, draw, nice_top, nice_top_bytes


@pytest.mark.parametrize(
    ("value", "top"), [(0, 1), (-3, 1), (0.9, 1), (1.2, 1.5), (7, 8), (812, 1000), (61_000, 80_000), (float("nan"), 1)]
)
def test_the_axis_ends_at_a_number_that_reads_well(value: float, top: float) -> None:
    assert nice_top(value) == pytest.approx(top)


def test_bytes_end_at_a_power_of_1024_times_such_a_number() -> None:
    assert nice_top_bytes(500 * 1024**2) == 500 * 1024**2
    assert nice_top_bytes(700 * 1024**2) == 800 * 1024**2
    assert nice_top_bytes(0) == 1


def plot(*layers: object) -> Plot:
    return Plot(
        "p", "Rows", "12 now", (0, 10), 100, lambda value: f"{value:g}", ["a", "b"], layers,  # type: ignore[arg-type]
        [Slot(0, 5, "first"), Slot(5, 10, "<second>")], [("line main", "rows")],
        ["At", "Rows"], [["a", "1"], ["b", "2"]],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (Curve("c", "main", [(0, 0), (5, 50), (6, None), (10, 100)]), 'd="M0 100h0L500 50M1000 0h0"'),
        (Curve("c", "main", []), 'd="M0 0"'),
        (Ribbon("r", "band", [(0, 10, 20), (10, 30, 40)]), 'd="M0 80L1000 60L1000 70L0 90Z"'),
        (Bars("b", [(2, 4, 25, "good")]), 'class="bar good" x="200.0" width="200.0" y="75.0" height="25.0"'),
        (Across("l", "limit", 90), 'y1="10" y2="10"'),
        (Mark("start", 5), 'x1="500" x2="500"'),
        (Mark("state-shed", 5, 7.5), 'class="span state-shed" x="500" width="250.0"'),
        (Dot("refused", 5, 50), 'd="M500 50h0"'),
        (Dot("refused", 99, 500), 'd="M1000 0h0"'),  # beside the plot: at its edge
    ],
)
def test_each_layer_is_drawn_where_its_figures_are(layer: object, shape: str) -> None:
    assert shape in draw(plot(layer))


def test_each_slot_has_its_figures_as_a_tooltip_and_the_table_has_all() -> None:
    drawn = draw(plot())
    assert "<title>first</title>" in drawn
    assert "<title>&lt;second&gt;</title>" in drawn
    assert '<th scope="row">b</th><td>2</td>' in drawn
    assert 'aria-label="Rows: 12 now"' in drawn
