"""The plot of memory over time: what is in use, the limit, the guard's states, and each new process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from hotpath.dashboard.facts import MemorySample
from hotpath.dashboard.plot import Across, Curve, Layer, Mark, Plot, Slot, nice_top_bytes
from hotpath.dashboard.plots import DAY, clock, last_dot, moment, size, time_labels
from hotpath.options import human_bytes

# Parts of the x axis that samples are gathered into, and rows of the table.
MAX_PARTS: Final = 120
MAX_ROWS: Final = 60
# Between two samples of one process; after a longer time the line has a gap.
GAP_SECONDS: Final = 200.0
# Starts of processes that are marked; more are a smear.
MAX_STARTS: Final = 40

# The one that refuses most stands for a part; quiet ones have no colour.
_STATES: Final = ("up", "NORMAL", "TRIM", "SHED", "BRAKE", "DRAIN", "down", "BLIND")
_QUIET: Final = frozenset({"up", "NORMAL"})


@dataclass(frozen=True, slots=True)
class _Gathered:
    """The samples of one part of the x axis: the most in use and the worst state, so that no peak is averaged away."""

    at: float
    until: float
    most: int
    limit: int
    state: str
    pids: tuple[int, ...]

    @property
    def share(self) -> str:
        return f"{self.most / self.limit:.0%}"


def memory_plot(
    name: str, title: str, samples: Sequence[MemorySample], start: float, end: float, marks: Mapping[str, float]
) -> Plot | None:
    """Memory from ``start`` to ``end``; ``marks`` are shares of the limit by their names. ``None`` without samples."""
    inside = [sample for sample in samples if start <= sample.time <= end]
    if not inside:
        return None
    start, now = max(start, inside[0].time), inside[-1]
    parts = _parts(inside, start, max((end - start) / MAX_PARTS, 1.0))
    points, stretches, starts = _points(parts), _stretches(parts), _starts(inside)
    layers: list[Layer] = [
        *(Mark(f"state-{state.lower()}", x0, x1) for state, x0, x1 in stretches if state not in _QUIET),
        *(Mark("start", at) for at in starts[-MAX_STARTS:]),
        *(Across(label, "threshold", share * now.limit) for label, share in marks.items()),
        Across("limit", "limit", float(now.limit)),
        Curve("in use", "main", points),
        *last_dot("main", points),
    ]
    seen = {state for state, *_ in stretches} - _QUIET
    legend = [
        ("line main", "in use"),
        ("level limit", "limit"),
        *([("level threshold", " · ".join(f"{label} {share:.0%}" for label, share in marks.items()))] if marks else []),
        *((f"span state-{state.lower()}", state) for state in _STATES if state in seen),
        *([("mark start", f"a process began ({len(starts)})")] if starts else []),
    ]
    summary = f"{human_bytes(now.used)} of {human_bytes(now.limit)} in use ({now.used / now.limit:.0%}), {now.state}"
    top = nice_top_bytes(max(now.limit, *(part.most for part in parts)))
    return Plot(
        name, title, summary, (start, end), top, size, time_labels(start, end), layers,
        [_slot(part, is_short=end - start <= DAY) for part in parts], legend,
        ("Time (UTC)", "In use", "Of the limit", "State", "Processes"),
        [_row(part) for part in parts[-MAX_ROWS:][::-1]],
    )  # fmt: skip


def _parts(samples: Sequence[MemorySample], start: float, width: float) -> list[_Gathered]:
    parts = []
    for place, members in groupby(samples, lambda sample: min(int((sample.time - start) / width), MAX_PARTS - 1)):
        group = [*members]
        state = max((sample.state for sample in group), key=_badness)
        pids = tuple(sorted({sample.pid for sample in group if sample.pid}))
        at = start + place * width
        parts.append(_Gathered(at, at + width, max(each.used for each in group), group[-1].limit, state, pids))
    return parts


def _badness(state: str) -> int:
    return _STATES.index(state) if state in _STATES else -1


def _points(parts: Sequence[_Gathered]) -> list[tuple[float, float | None]]:
    points: list[tuple[float, float | None]] = []
    for part in parts:
        middle = (part.at + part.until) / 2
        if points and middle - points[-1][0] > max(GAP_SECONDS, 3 * (part.until - part.at)):
            points.append((part.at, None))
        points.append((middle, float(part.most)))
    return points


def _slot(part: _Gathered, *, is_short: bool) -> Slot:
    when = clock(part.at) if is_short else moment(part.at)
    who = f", {len(part.pids)} processes" if len(part.pids) > 1 else ""
    text = f"{when} UTC: {human_bytes(part.most)} of {human_bytes(part.limit)} ({part.share}), {part.state}{who}"
    return Slot(part.at, part.until, text)


def _row(part: _Gathered) -> tuple[str, ...]:
    return moment(part.at), human_bytes(part.most), part.share, part.state, ", ".join(map(str, part.pids[:6]))


def _stretches(parts: Sequence[_Gathered]) -> list[tuple[str, float, float]]:
    """Neighbours of one state together: state, from, until. One lasts until the next, but not over a gap."""
    found: list[tuple[str, float, float]] = []
    for part in parts:
        if found:
            state, begun, until = found[-1]
            if part.at - until <= max(GAP_SECONDS, 2 * (part.until - part.at)):
                found[-1] = (state, begun, part.at)
                if state == part.state:
                    found[-1] = (state, begun, part.until)
                    continue
        found.append((part.state, part.at, part.until))
    return found


def _starts(samples: Sequence[MemorySample]) -> list[float]:
    """When each process was first seen, but for those that were there from the beginning."""
    first: dict[int, float] = {}
    for sample in samples:
        if sample.pid:
            first.setdefault(sample.pid, sample.time)
    return [at for at in first.values() if at > samples[0].time]
