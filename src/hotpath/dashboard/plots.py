"""The plots of the page, each made of its figures. Values in, values out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from hotpath.dashboard.facts import Band, BatchRun, StoreFacts
from hotpath.dashboard.plot import (
    Across,
    Bars,
    Curve,
    Dot,
    Layer,
    Plot,
    Ribbon,
    Slot,
    nice_top,
    nice_top_bytes,
)
from hotpath.dashboard.traffic import Minute, quantile
from hotpath.options import counted, human_seconds

HOUR: Final = 3600.0
DAY: Final = 86400.0


def clock(at: float) -> str:
    """``22:14`` in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M")


def moment(at: float) -> str:
    """``2026-11-28 22:14`` in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")


def size(value: float) -> str:
    """``600 MiB``, short enough for an axis."""
    for unit in ("B", "KiB", "MiB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1024
    return f"{value:.3g} GiB"


def day(at: float) -> str:
    """``28 Nov`` in UTC."""
    when = datetime.fromtimestamp(at, UTC)
    return f"{when.day} {when:%b}"


# Labels of time


def time_labels(start: float, end: float) -> list[str]:
    """What stands below an axis of time."""
    if end - start <= DAY:
        return [clock(start), clock((start + end) / 2), f"{clock(end)} UTC"]
    return [day(start), day((start + end) / 2), day(end)]


# The batch


def run_plots(runs: Sequence[BatchRun]) -> list[Plot]:
    """Rows, bytes, failures and seconds of each run."""
    if not runs:
        return []
    return [
        _counted_runs("rows", "Rows of each run", runs, [float(run.rows) for run in runs],
                      [run.expected_rows for run in runs], _number),
        _counted_runs("bytes", "Bytes of each run", runs, [float(run.bytes) for run in runs],
                      [run.expected_bytes for run in runs], size),
        _measured_runs("failures", "Failed items of each run", runs, [float(run.failures) for run in runs], _number),
        _measured_runs("seconds", "Seconds of each run", runs, [run.seconds for run in runs], _seconds),
    ]  # fmt: skip


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"


def _kind_of(run: BatchRun) -> str:
    return "good" if run.is_accepted else "refused"


def _counted_runs(
    name: str,
    title: str,
    runs: Sequence[BatchRun],
    values: Sequence[float],
    bands: Sequence[Band | None],
    write: Callable[[float], str],
) -> Plot:
    ceiling = max([*values, *(band.most for band in bands if band is not None)], default=1.0)
    top = (nice_top_bytes if write is size else nice_top)(ceiling)
    ribbon = [(place + 0.5, band.least, band.most) for place, band in enumerate(bands) if band is not None]
    accepted = [
        (place + 0.5, value if run.is_accepted else None)
        for place, (run, value) in enumerate(zip(runs, values, strict=True))
    ]
    refused = [place for place, run in enumerate(runs) if not run.is_accepted]
    slots, rows = [], []
    for place, (run, value, band) in enumerate(zip(runs, values, bands, strict=True)):
        expected = f"{write(band.least)} to {write(band.most)}" if band is not None else "not known yet"
        slots.append(Slot(place, place + 1, f"{moment(run.time)}: {write(value)}, expected {expected}, {run.outcome}"))
        rows.append((moment(run.time), write(value), expected, run.outcome))
    last = runs[-1]
    held = f"; {counted(len(refused), 'run')} refused" if refused else ""
    layers: list[Layer] = [
        Curve("accepted", "main", _without_gaps(accepted)),
        *(Dot("refused", place + 0.5, values[place]) for place in refused),
        *([Ribbon("expected", "band", ribbon)] if ribbon else []),
    ]
    legend = [
        ("line main", "accepted"),
        *([("band", "expected")] if ribbon else []),
        *([("dot refused", "refused")] if refused else []),
    ]
    return Plot(
        name, title, f"{write(values[-1])} in the last run, {last.outcome}{held}", (0, len(runs)), top, write,
        _run_labels(runs), layers, slots, legend,
        ("Run (UTC)", title.partition(" ")[0], "Expected", "Outcome"), rows[::-1],
    )  # fmt: skip


def _without_gaps(points: Sequence[tuple[float, float | None]]) -> list[tuple[float, float | None]]:
    """The line goes on over a run that was refused."""
    return [point for point in points if point[1] is not None]


def _measured_runs(
    name: str, title: str, runs: Sequence[BatchRun], values: Sequence[float], write: Callable[[float], str]
) -> Plot:
    bars = [
        (place + 0.15, place + 0.85, value, _kind_of(run))
        for place, (run, value) in enumerate(zip(runs, values, strict=True))
    ]
    slots = [
        Slot(place, place + 1, f"{moment(run.time)}: {write(value)}, {run.outcome}")
        for place, (run, value) in enumerate(zip(runs, values, strict=True))
    ]
    rows = [(moment(run.time), write(value), run.outcome) for run, value in zip(runs, values, strict=True)]
    kinds = {kind for *_, kind in bars}
    legend = [(f"bar {kind}", text) for kind, text in (("good", "accepted"), ("refused", "refused")) if kind in kinds]
    return Plot(
        name, title, f"{write(values[-1])} in the last run, {write(max(values))} at most", (0, len(runs)),
        nice_top(max(values)), write, _run_labels(runs), [Bars(title, bars)], slots, legend,
        ("Run (UTC)", title.partition(" of ")[0], "Outcome"), rows[::-1],
    )  # fmt: skip


def _seconds(value: float) -> str:
    return f"{value:,.1f} s" if value < 100 else f"{value:,.0f} s"


def _run_labels(runs: Sequence[BatchRun]) -> list[str]:
    if len(runs) == 1:
        return [day(runs[0].time)]
    return [day(runs[0].time), *([day(runs[len(runs) // 2].time)] if len(runs) > 4 else []), day(runs[-1].time)]


# Requests


def share_plot(minutes: Sequence[Minute], end: float) -> Plot | None:
    """How much of all requests hot pages answered, by minute."""
    if not minutes:
        return None
    start = min(minutes[0].start, end - 300)
    slots, rows = [], []
    points: list[tuple[float, float | None]] = []
    for minute in minutes:
        share = minute.share
        shown = "no request" if share is None else f"{share:.1%}"
        figures = f"{minute.hot:,} hot, {minute.cold:,} to the app"
        if points and minute.start + 30 - points[-1][0] > 90:
            points.append((minute.start, None))
        points.append((minute.start + 30, share))
        slots.append(Slot(minute.start, minute.start + 60, f"{clock(minute.start)} UTC: {shown} ({figures})"))
        rows.append((clock(minute.start), shown, f"{minute.hot:,}", f"{minute.cold:,}"))
    hot, total = sum(each.hot for each in minutes), sum(each.hot + each.cold for each in minutes)
    summary = f"{hot / total:.1%} of {total:,} requests in the last hour" if total else "no request in the last hour"
    return Plot(
        "share", "Share that hot pages answered", summary, (start, end), 1.0, lambda value: f"{value:.0%}",
        time_labels(start, end), _with_dot("hot", "main", points), slots, [("line main", "hot pages")],
        ("Minute (UTC)", "Share", "Hot", "To the app"), rows[::-1],
    )  # fmt: skip


def latency_plot(minutes: Sequence[Minute], end: float) -> Plot | None:
    """How long answers took, by minute: half of them, and all but one of a hundred."""
    timed = [each for each in minutes if any(each.hot_seconds) or any(each.cold_seconds)]
    if not timed:
        return None
    start = min(timed[0].start, end - 300)
    curves: dict[str, list[tuple[float, float | None]]] = {}
    slots, rows = [], []
    for minute in timed:
        figures = []
        for name, buckets in (("hot", minute.hot_seconds), ("app", minute.cold_seconds)):
            for label, part in (("p50", 0.5), ("p99", 0.99)):
                value = quantile(buckets, part)
                figures.append(duration(value) if value is not None else "–")
                curves.setdefault(f"{name} {label}", []).append((minute.start + 30, value))
        slots.append(
            Slot(
                minute.start,
                minute.start + 60,
                "{} UTC: hot p50 {}, p99 {}; app p50 {}, p99 {}".format(clock(minute.start), *figures),
            )
        )
        rows.append((clock(minute.start), *figures))
    shown = {name: points for name, points in curves.items() if any(y is not None for _, y in points)}
    most = max(y for points in shown.values() for _, y in points if y is not None)
    kinds = {"hot p50": "main", "hot p99": "main thin", "app p50": "second", "app p99": "second thin"}
    return Plot(
        "latency", "How long answers took", "; ".join(f"{name} {_last(points)}" for name, points in shown.items()),
        (start, end), nice_top(most), duration, time_labels(start, end),
        [layer for name, points in shown.items() for layer in _with_dot(name, kinds[name], points)], slots,
        [(f"line {kinds[name]}", name) for name in shown],
        ("Minute (UTC)", "Hot p50", "Hot p99", "App p50", "App p99"), rows[::-1],
    )  # fmt: skip


def last_dot(kind: str, points: Sequence[tuple[float, float | None]]) -> list[Dot]:
    """The newest value stands out, and one that is alone can be seen at all."""
    values = [(x, y) for x, y in points if y is not None]
    return [Dot(kind, *values[-1])] if values else []


def _with_dot(name: str, kind: str, points: Sequence[tuple[float, float | None]]) -> list[Layer]:
    return [Curve(name, kind, points), *last_dot(kind.partition(" ")[0], points)]


def _last(points: Sequence[tuple[float, float | None]]) -> str:
    values = [y for _, y in points if y is not None]
    return duration(values[-1]) if values else "–"


def duration(seconds: float) -> str:
    """``120 µs``, ``3.4 ms``, ``1.2 s``."""
    if seconds < 0.0009995:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g} ms"
    return f"{seconds:.3g} s"


# Generations and crawlers


def age_plot(store: StoreFacts, now: float) -> Plot | None:
    """How old each generation on disk is, beside the lifetime of its pages."""
    known = [(each, max(0.0, now - each.created)) for each in store.generations if each.created is not None]
    if not known:
        return None
    oldest = max(age for _, age in known)
    lifetime = float(store.lifetime) if store.lifetime is not None else None
    unit = DAY if oldest > 2 * DAY else HOUR if oldest > 2 * HOUR else 60.0
    top = nice_top(max(oldest, lifetime or 0) / unit) * unit
    bars, slots, rows = [], [], []
    for place, (each, age) in enumerate(known):
        state = "serving" if each.is_serving else "marked bad" if each.bad else "kept"
        bars.append((place + 0.25, place + 0.75, age, {"serving": "good", "kept": "kept"}.get(state, "refused")))
        text = human_seconds(int(age))
        made = moment(each.created or 0)
        slots.append(Slot(place, place + 1, f"Generation {each.sequence}: {text} old, {state}, made {made}"))
        rows.append((str(each.sequence), text, made, f"{state}: {each.bad}" if each.bad else state))
    names = {kind for *_, kind in bars}
    legend = [
        (f"bar {kind}", name)
        for kind, name in (("good", "serving"), ("kept", "kept"), ("refused", "marked bad"))
        if kind in names
    ]
    across = [Across("lifetime", "limit", lifetime)] if lifetime is not None else []
    serving = next((human_seconds(int(age)) + " old" for each, age in known if each.is_serving), "none of them")
    return Plot(
        "ages", "Age of each generation", f"serving {serving}", (0, len(known)), top, lambda value: _age(value, unit),
        [str(each.sequence) for each, _ in known], [Bars("age", bars), *across], slots,
        [*legend, *([("level limit", f"lifetime {human_seconds(int(lifetime))}")] if lifetime is not None else [])],
        ("Generation", "Age", "Made (UTC)", "State"), rows[::-1],
    )  # fmt: skip


def _age(seconds: float, unit: float) -> str:
    name = {DAY: "d", HOUR: "h"}.get(unit, "min")
    return f"{seconds / unit:.3g} {name}"


def crawl_plot(days: Mapping[str, tuple[int, int]]) -> Plot | None:
    """Requests of verified crawlers by day, and those that got 5xx or no answer."""
    if not days:
        return None
    bars, slots, rows = [], [], []
    for place, (name, (asked, wrong)) in enumerate(sorted(days.items())):
        bars += [
            (place + 0.15, place + 0.85, float(asked), "kept"),
            (place + 0.15, place + 0.85, float(wrong), "refused"),
        ]
        share = f"{wrong / asked:.2%}" if asked else "–"
        slots.append(Slot(place, place + 1, f"{name}: {asked:,} requests, {wrong:,} without a good answer ({share})"))
        rows.append((name, f"{asked:,}", f"{wrong:,}", share))
    asked, wrong = (sum(pair[place] for pair in days.values()) for place in (0, 1))
    names = sorted(days)
    summary = f"{wrong / asked:.2%} of {asked:,} requests got 5xx or no answer" if asked else "none"
    return Plot(
        "crawl", "Verified crawlers", summary,
        (0, len(days)), nice_top(max(pair[0] for pair in days.values())), _number, [names[0], names[-1]][: len(names)],
        [Bars("requests", bars)], slots, [("bar kept", "requests"), ("bar refused", "5xx or no answer")],
        ("Day", "Requests", "5xx or no answer", "Share"), rows[::-1],
    )  # fmt: skip
