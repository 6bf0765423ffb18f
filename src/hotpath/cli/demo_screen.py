"""What the demo saw before, during and after the attacks, what it means, and how it is shown."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TextIO

from hotpath.ops.crawler import PageAnswers, percentile


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: a page with what was seen of it before, during and after the attacks.

    ``killed`` is while the app was killed and started again, ``broken`` while it had no database.
    """

    path: str
    hot: bool
    before: PageAnswers
    killed: PageAnswers
    broken: PageAnswers
    after: PageAnswers


def problems(rows: Iterable[Row]) -> list[str]:
    """Everything that makes the demo's claim untrue; empty when hot pages stood and the attacks were real."""
    return [problem for row in rows if (problem := (_hot_problem if row.hot else _cold_problem)(row)) is not None]


def _hot_problem(row: Row) -> str | None:
    for seen, when in (
        (row.before, "while all was well"),
        (row.killed, "while the app was killed"),
        (row.broken, "without its backend"),
        (row.after, "afterwards"),
    ):
        if seen.status != 200:
            return f"{row.path} is hot and was {_status(seen)} {when}"
        if seen.generation is None:
            return f"{row.path} is hot and was answered by the app, not from a generation, {when}"
    if len(row.before.digests | row.killed.digests | row.broken.digests | row.after.digests) != 1:
        return f"{row.path} changed its bytes between before and after"
    return None


def _cold_problem(row: Row) -> str | None:
    for seen, when in (
        (row.before, "while all was well"),
        (row.killed, "while the app was killed"),
        (row.after, "afterwards"),
    ):
        if seen.status != 200:
            return f"{row.path} was {_status(seen)} {when}"
    if row.broken.status != 200 or row.broken.last_good != len(row.broken.statuses):
        return f"{row.path} did not get its last good answer without its database"
    return None


def _status(seen: PageAnswers) -> str:
    return str(seen.status) if seen.status else "no answer"


def _cells(row: Row) -> tuple[str, ...]:
    def answer(seen: PageAnswers) -> str:
        source = f" gen {seen.generation}" if seen.generation else " kept" if seen.last_good else " app"
        if not seen.status:
            source = ""
        return f"{_status(seen)}{source}"

    longest_ms = f"{max(row.killed.seconds) * 1000:.1f} ms"
    kind = "hot" if row.hot else "cold"
    return row.path, kind, answer(row.before), answer(row.killed), longest_ms, answer(row.broken), answer(row.after)


# Columns of ``_cells`` that hold a status, and what was seen.
_STATUSES = ((2, "before"), (3, "killed"), (5, "broken"), (6, "after"))


def latency(kind: str, seen: Iterable[PageAnswers]) -> str:
    """Median and 99th percentile over all requests of ``seen``, in one line."""
    seconds = [duration for page in seen for duration in page.seconds]
    median, worst = statistics.median(seconds), percentile(seconds, 0.99)
    return f"{kind}: median {median * 1000:.2f} ms, p99 {worst * 1000:.2f} ms ({len(seconds)} requests)"


def longest(kind: str, seen: Sequence[PageAnswers]) -> str:
    """How many of all requests were answered with 200, and the longest wait, in one line."""
    statuses = [status for page in seen for status in page.statuses]
    wait = max(duration for page in seen for duration in page.seconds)
    return f"{kind}: {statuses.count(200)} of {len(statuses)} were 200, the longest took {wait * 1000:.1f} ms"


class Screen:
    """Where the demo prints: colour and a drawn table on a terminal, plain lines elsewhere."""

    def __init__(self, out: TextIO) -> None:
        from rich.console import Console

        self._draws = out.isatty()
        # A log has no width: nothing is folded.
        width = None if self._draws else 1000
        self._console = Console(file=out, width=width, force_terminal=self._draws, highlight=False)

    def say(self, text: str = "", style: str = "") -> None:
        self._console.print(text, markup=False, soft_wrap=True, style=style)

    def command(self, text: str) -> None:
        self.say(f"$ {text}", "bold cyan")

    def verdict(self, good: bool, text: str) -> None:
        self.say(f"{'OK' if good else 'FAILED'}: {text}", "bold green" if good else "bold red")

    def table(self, rows: Sequence[Row]) -> None:
        from rich.box import HEAVY_HEAD
        from rich.table import Table
        from rich.text import Text

        table = Table(header_style="bold", box=HEAVY_HEAD if self._draws else None)
        for name in ("path", "kind", "before", "killed", "longest", "no database", "after"):
            table.add_column(name, justify="right" if name == "longest" else "left", overflow="fold")
        for row in rows:
            cells = [Text(cell) for cell in _cells(row)]
            cells[1].stylize("bold yellow" if row.hot else "blue")
            for position, name in _STATUSES:
                cells[position].stylize("bold green" if getattr(row, name).status == 200 else "bold red")
            table.add_row(*cells)
        self._console.print(table)
