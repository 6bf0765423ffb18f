"""Memory over time as a plot: no peak is lost, and states, limits and new processes are to be seen."""

from __future__ import annotations

from dataclasses import replace

from hotpath.dashboard.facts import MemorySample
from hotpath.dashboard.memory_plot import MAX_PARTS, MAX_ROWS, memory_plot
from hotpath.dashboard.plot import Curve, Mark, Plot
from tests.dashboard.stores import incident_memory

NOW = 1_800_000_000.0


def marks(plot: Plot, kind: str) -> list[Mark]:
    return [layer for layer in plot.layers if isinstance(layer, Mark) and layer.kind == kind]


def test_a_leak_shows_its_states_and_each_new_process() -> None:
    plot = memory_plot("m", "Memory", incident_memory(NOW), NOW - 6 * 3600, NOW, {"shed": 0.8})
    assert plot is not None
    assert len(marks(plot, "start")) == 3
    assert len(marks(plot, "state-shed")) == 3 + ("SHED" in plot.summary)
    assert len(plot.slots) <= MAX_PARTS
    assert len(plot.rows) <= MAX_ROWS
    legend = [text for _, text in plot.legend]
    assert "SHED" in legend
    assert "shed 80%" in legend


def test_a_peak_of_a_moment_is_not_averaged_away() -> None:
    samples = [MemorySample(NOW - 3600 + n, 1, "NORMAL", 1000, 100) for n in range(3600)]
    samples[1777] = replace(samples[1777], used=990, state="BRAKE")
    plot = memory_plot("m", "Memory", samples, NOW - 3600, NOW, {})
    assert plot is not None
    (curve,) = [layer for layer in plot.layers if isinstance(layer, Curve)]
    assert max(y for _, y in curve.points if y is not None) == 990
    assert len(marks(plot, "state-brake")) == 1


def test_where_nothing_was_measured_the_line_has_a_gap() -> None:
    samples = [MemorySample(NOW - at, 1, "NORMAL", 1000, 100) for at in (3000, 2990, 100, 90)]
    plot = memory_plot("m", "Memory", samples, NOW - 3600, NOW, {})
    assert plot is not None
    (curve,) = [layer for layer in plot.layers if isinstance(layer, Curve)]
    assert [y for _, y in curve.points].count(None) == 1


def test_nothing_measured_is_no_plot() -> None:
    assert memory_plot("m", "Memory", [], 0, 1, {}) is None
