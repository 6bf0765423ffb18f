"""The table of a rehearsal as a person reads it. Computes only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from hotpath.ops.rehearse.outcomes import Counted
from hotpath.ops.rehearse.rehearsal import Rehearsal
from hotpath.ops.rehearse.runs import RunResult
from hotpath.options import human_bytes

# A client that is later than this has measured the machine, not the site.
LATE_SECONDS: Final = 0.25

Row = tuple[str, Callable[[RunResult], str]]


def rows(rehearsal: Rehearsal) -> list[tuple[str, ...]]:
    """The table: the first row has the names of the runs."""
    count = rehearsal.templates
    table: list[Row] = [
        ("peak memory", lambda run: human_bytes(run.peak_bytes) + (" (simulated)" if run.is_simulated else "")),
        ("crawl errors, all", lambda run: _share(run.record.both)),
        ("  hot pages", lambda run: _share(run.record.hot)),
        ("  cold pages", lambda run: _share(run.record.cold)),
        ("  5xx / resets / time-outs", lambda run: _kinds(run.record.both)),
        ("  of them shed (503)", lambda run: str(run.record.both.sheds)),
        ("blast radius: routes hurt", lambda run: f"{len(run.record.hurt)} of {count}"),
        ("  of routes with hot pages", lambda run: f"{run.record.hurt_share['hot']:.0%}"),
        ("deaths of the app", _deaths),
        ("recovery, median", lambda run: _seconds(run.recovery_median)),
        ("recovery, longest", lambda run: _seconds(max(run.recoveries, default=None))),
        ("hot p50 / p99", lambda run: _quantiles(run.record.hot)),
        ("cold p50 / p99", lambda run: _quantiles(run.record.cold)),
    ]
    head = ("", *(run.way.title for run in rehearsal.runs))
    return [head, *((name, *(show(run) for run in rehearsal.runs)) for name, show in table)]


def lines(rehearsal: Rehearsal) -> Iterator[str]:
    """What ``hotpath rehearse`` prints."""
    table = rows(rehearsal)
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    for first, *others in table:
        cells = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        yield "  ".join((first.ljust(widths[0]), *cells)).rstrip()
    yield ""
    yield from summary(rehearsal)


def summary(rehearsal: Rehearsal) -> Iterator[str]:
    """The lines below the table: what was done, and what it says."""
    struck = ", ".join(f"{count} × {kind}" for kind, count in rehearsal.faults.items())
    factor = rehearsal.days * 86400 / rehearsal.seconds
    yield (
        f"{rehearsal.days:g} day{'' if rehearsal.days == 1 else 's'} in {rehearsal.seconds:g} s a run:"
        f" one second of a run is {factor / 60:.0f} minutes."
        f" Faults: {struck}." + (" The runs were at the same time." if rehearsal.at_once else "")
    )
    yield (
        "Starts, time-outs and the guard's times are real seconds, so their share of the days is larger than in real"
        " time; no command was needed in any run, since the app is started again by itself."
    )
    yield f"Replayed: {rehearsal.source}."
    yield from (f"Note: {note}." for note in rehearsal.notes)
    if rehearsal.group_problem is not None:
        yield f"Simulated: {rehearsal.group_problem}; a watcher killed the app at the limit."
    busy = max(run.client_cpu for run in rehearsal.runs)
    if busy > 0.8:
        yield f"The client itself took {busy:.0%} of a core: times are too long by what it was late."
    lag = max(run.client_lag_seconds for run in rehearsal.runs)
    if lag > LATE_SECONDS:
        yield f"The client was up to {lag:.1f} s late, so the machine was too busy for the longest times to say much."
    if rehearsal.problem is not None:
        yield f"This proves nothing: {rehearsal.problem}."
    elif rehearsal.failed_hot_pages:
        yield f"{rehearsal.failed_hot_pages} requests for hot pages failed behind the front."
    else:
        yield f"No hot page failed behind the front: 0 of {rehearsal.runs[-1].record.hot.requests}."


def _share(outcome: Counted) -> str:
    if not outcome.requests:
        return "–"
    share = outcome.error_share
    text = f"{share:.2%}" if share >= 0.0001 or not share else "<0.01%"
    return f"{text} ({outcome.errors} of {outcome.requests})"


def _deaths(run: RunResult) -> str:
    return f"{run.deaths} ({run.oom_kills} for memory)" if run.oom_kills else str(run.deaths)


def _kinds(outcome: Counted) -> str:
    return f"{outcome.server_errors} / {outcome.resets} / {outcome.timeouts}"


def _seconds(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds:.2f} s"


def _quantiles(outcome: Counted) -> str:
    return " / ".join(_milliseconds(outcome.latencies.quantile(share)) for share in (0.5, 0.99))


def _milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"
