"""From figures to a plot: an SVG that stretches with its place, labels beside it as text, and a table of the same.

Shapes are in a box of 1000 by 100 that fills whatever room there is, so a phone gets letters of full size. Values in,
markup out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from hotpath.dashboard.markup import Markup, join, table, tag

WIDTH: Final = 1000
HEIGHT: Final = 100


@dataclass(frozen=True, slots=True)
class Curve:
    """A line through points; a gap where ``y`` is ``None``. ``kind`` is its class of colour."""

    name: str
    kind: str
    points: Sequence[tuple[float, float | None]]


@dataclass(frozen=True, slots=True)
class Ribbon:
    """An area between two values at each place: what was expected."""

    name: str
    kind: str
    points: Sequence[tuple[float, float, float]]


@dataclass(frozen=True, slots=True)
class Bars:
    """Bars from ``x0`` to ``x1`` of height ``y``, each with its class of colour."""

    name: str
    bars: Sequence[tuple[float, float, float, str]]


@dataclass(frozen=True, slots=True)
class Across:
    """A line straight across at ``y``."""

    name: str
    kind: str
    y: float


@dataclass(frozen=True, slots=True)
class Mark:
    """A line straight up at ``x``, or with ``until`` a coloured stretch behind everything."""

    kind: str
    x: float
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Dot:
    """A point that stands out."""

    kind: str
    x: float
    y: float


Layer = Curve | Ribbon | Bars | Across | Mark | Dot


@dataclass(frozen=True, slots=True)
class Slot:
    """A part of the x axis and the figures there, shown on hover and focus."""

    x0: float
    x1: float
    text: str


@dataclass(frozen=True, slots=True)
class Plot:
    """One plot. ``x`` and ``top`` are the ranges, ``unit`` writes a value, ``labels`` stand below from left to right.

    ``legend`` pairs classes of colour and their meaning. ``heads`` and ``rows`` are the same as a table.
    """

    name: str
    title: str
    summary: str
    x: tuple[float, float]
    top: float
    unit: Callable[[float], str]
    labels: Sequence[str]
    layers: Sequence[Layer]
    slots: Sequence[Slot]
    legend: Sequence[tuple[str, str]]
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


def nice_top(value: float) -> float:
    """The next of 1, 1.5, 2, 3, 4, 5, 6, 8 times a power of ten, so that half of it reads well too."""
    if not math.isfinite(value) or value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * power >= value * (1 - 1e-9))


def nice_top_bytes(value: float) -> float:
    """The same in powers of 1024."""
    unit = 1024.0 ** max(0, math.floor(math.log(value, 1024))) if value >= 1 else 1.0
    return nice_top(value / unit) * unit


# Long, since it is the figure as it stands on the page.
def draw(plot: Plot) -> Markup:
    """The figure. Without a script each slot has its text as a tooltip, and the table has all of them."""
    scale = _Scale(plot.x, plot.top)
    order = {Mark: 0, Ribbon: 1, Bars: 2, Across: 3, Curve: 4, Dot: 5}
    layers = sorted(plot.layers, key=lambda layer: order[type(layer)])
    svg = tag(
        "svg",
        tag("line", class_="grid", x1=0, x2=WIDTH, y1=0, y2=0),
        tag("line", class_="grid", x1=0, x2=WIDTH, y1=50, y2=50),
        tag("line", class_="axis", x1=0, x2=WIDTH, y1=HEIGHT, y2=HEIGHT),
        [scale.shape(layer) for layer in layers],
        [scale.slot(slot) for slot in plot.slots],
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        preserveAspectRatio="none",
        role="img",
        aria_label=f"{plot.title}: {plot.summary}",
    )
    hint = "Point at the plot for figures." if plot.slots else ""
    return tag(
        "figure",
        tag("figcaption", tag("h3", plot.title, id=f"{plot.name}-title"), tag("p", plot.summary, class_="summary")),
        tag(
            "ul", [tag("li", tag("span", class_=f"swatch {kind}"), name) for kind, name in plot.legend], class_="legend"
        )
        if plot.legend
        else tag("div"),
        tag(
            "div",
            tag(
                "div",
                [tag("span", plot.unit(share * plot.top)) for share in (1, 0.5, 0)],
                class_="y",
                aria_hidden="true",
            ),
            tag("div", svg, class_="box"),
            tag("div", [tag("span", label) for label in plot.labels], class_="x", aria_hidden="true"),
            class_="plot",
            tabindex="0",
            role="group",
            aria_labelledby=f"{plot.name}-title",
            aria_describedby=f"{plot.name}-read",
            data_plot=plot.name,
        ),
        tag("p", hint, class_="read", id=f"{plot.name}-read", aria_live="polite"),
        tag(
            "details",
            tag("summary", "Table", tag("span", f" of {plot.title}", class_="hidden")),
            table(plot.heads, plot.rows, plot.title),
            id=f"{plot.name}-table",
        ),
        id=plot.name,
    )


class _Scale:
    """From values to places in the box."""

    def __init__(self, x: tuple[float, float], top: float) -> None:
        self._start, self._span = x[0], (x[1] - x[0]) or 1.0
        self._top = top or 1.0

    def x(self, value: float) -> str:
        return f"{min(max((value - self._start) / self._span, 0), 1) * WIDTH:.1f}".removesuffix(".0")

    def y(self, value: float) -> str:
        return f"{HEIGHT - min(max(value / self._top, 0), 1) * HEIGHT:.1f}".removesuffix(".0")

    def shape(self, layer: Layer) -> Markup:
        match layer:
            case Curve():
                return tag("path", class_=f"line {layer.kind}", d=self._path(layer.points))
            case Ribbon():
                up = [f"{self.x(x)} {self.y(high)}" for x, _, high in layer.points]
                down = [f"{self.x(x)} {self.y(low)}" for x, low, _ in reversed(layer.points)]
                return tag("path", class_=f"ribbon {layer.kind}", d=f"M{'L'.join([*up, *down])}Z")
            case Bars():
                return join(self._bar(*bar) for bar in layer.bars)
            case Across():
                return tag("line", class_=f"level {layer.kind}", x1=0, x2=WIDTH, y1=self.y(layer.y), y2=self.y(layer.y))
            case Mark(until=None):
                return tag("line", class_=f"mark {layer.kind}", x1=self.x(layer.x), x2=self.x(layer.x), y1=0, y2=HEIGHT)
            case Mark():
                width = float(self.x(layer.until or 0)) - float(self.x(layer.x))
                return tag(
                    "rect", class_=f"span {layer.kind}", x=self.x(layer.x), width=f"{width:.1f}", y=0, height=HEIGHT
                )
            case Dot():  # a line of no length with round ends, which stretching leaves round
                return tag("path", class_=f"dot {layer.kind}", d=f"M{self.x(layer.x)} {self.y(layer.y)}h0")

    def slot(self, slot: Slot) -> Markup:
        left, right = float(self.x(slot.x0)), float(self.x(slot.x1))
        return tag(
            "rect",
            tag("title", slot.text),
            class_="slot",
            x=f"{left:.1f}",
            width=f"{max(right - left, 0.5):.1f}",
            y=0,
            height=HEIGHT,
        )

    def _bar(self, x0: float, x1: float, y: float, kind: str) -> Markup:
        left, right, upper = float(self.x(x0)), float(self.x(x1)), float(self.y(y))
        width = f"{max(right - left, 1):.1f}"
        return tag("rect", class_=f"bar {kind}", x=f"{left:.1f}", width=width, y=upper, height=f"{HEIGHT - upper:.1f}")

    def _path(self, points: Sequence[tuple[float, float | None]]) -> str:
        parts, is_down = [], False
        for x, y in points:
            if y is None:
                is_down = False
                continue
            parts.append(f"{'L' if is_down else 'M'}{self.x(x)} {self.y(y)}{'' if is_down else 'h0'}")
            is_down = True
        return "".join(parts) or "M0 0"
