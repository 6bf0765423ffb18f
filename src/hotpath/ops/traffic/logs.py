"""``hotpath logs``: read the access logs of a site once, and report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from hotpath.errors import DeclarationError
from hotpath.ops.traffic.crawlers import shipped
from hotpath.ops.traffic.damage import Restart, bursts, restarts_of
from hotpath.ops.traffic.files import blocks
from hotpath.ops.traffic.quiet import MINUTES_OF_DAY, quietest
from hotpath.ops.traffic.report import DAYS, LogReport, report
from hotpath.ops.traffic.summary import Summary

WINDOW_MINUTES: Final = 10


def summarize(files: Sequence[str], warnings: list[str], *, ranges: Mapping[str, Path] | None = None) -> Summary:
    """Count every line of every file, in any order; ``warnings`` gets what could not be read to its end.

    Raises ``DeclarationError`` for files that are not there, and where no line can be read.
    """
    summary = Summary(shipped(ranges))
    for file in files:
        for block in blocks(file, warnings):
            summary.read(block)
    if not summary.hits:
        first_bad = summary.bad_shown[0][:80].decode("utf-8", "backslashreplace") if summary.bad_shown else None
        shown = f"; its first line is {first_bad!r}" if first_bad else ", which has no line"
        raise DeclarationError(
            f"no line of an access log in {', '.join(files)}{shown}; the formats read are the combined and the common"
            " one, JSON lines of nginx, Caddy and hotpath, and uvicorn's"
        )
    return summary


def read(
    files: Sequence[str],
    *,
    declared: Sequence[str] | None = None,
    days: int = DAYS,
    window_minutes: int = WINDOW_MINUTES,
    unit: str | None = None,
    ranges: Mapping[str, Path] | None = None,
) -> LogReport:
    """Read every file, in any order. ``declared`` are the paths of the site's hot routes, where there is a site.

    ``unit`` is the systemd unit whose restarts are shown beside errors; ``ranges`` are newer files of crawlers'
    addresses, by crawler. Raises ``DeclarationError`` for files that are not there, and where no line can be read.
    """
    if not 1 <= window_minutes <= MINUTES_OF_DAY:
        raise DeclarationError(f"window={window_minutes} minutes: write 1 minute to 1 day")
    if not 1 <= days <= 3650:
        raise DeclarationError(f"days={days}: write 1 to 3650")
    warnings: list[str] = []
    summary = summarize(files, warnings, ranges=ranges)
    if summary.bad_minutes_dropped:
        warnings.append(f"{summary.bad_minutes_dropped} errors are in the totals, and in no burst: there are too many")
    first, last = summary.first_minute, summary.last_minute
    found, quiet = [], None
    if first is not None and last is not None:
        quiet = quietest(summary.minutes_of_week, summary.observed_minutes, window_minutes)
        restarts: list[Restart] = []
        if unit is not None:
            restarts, problem = restarts_of(unit, first, last)
            warnings += [problem] if problem else []
        found = bursts(summary.bad_minutes, restarts)
    elif summary.untimed:
        warnings.append("the lines have no time: nothing is known of days, of quiet hours and of when errors were")
    return report(summary, days=days, declared=declared, quiet=quiet, damage=found, warnings=warnings)
