"""What the demo saw before and after the attack, what it means, and how it is shown."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TextIO

from hotpath.ops.crawler import Seen, percentile


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: a page with what was seen of it before and after the attack."""

    path: str
    hot: bool
    before: Seen
    after: Seen


def problems(rows: Iterable[Row]) -> list[str]:
    """Everything that makes the demo's claim untrue; empty when hot pages stood and the backend was really broken."""
    texts = []
    for row in rows:
        if row.before.status != 200:
            texts.append(f"{row.path} was {_status(row.before)} while all was well")
        elif not row.hot:
            if row.after.status == 200:
                texts.append(f"{row.path} still answered 200, so the backend was not broken and nothing is shown")
        elif row.before.generation is None:
            texts.append(f"{row.path} is hot and was answered by the app, not from a generation")
        elif row.after.status != 200:
            texts.append(f"{row.path} is hot and was {_status(row.after)} without its backend")
        elif row.after.generation is None:
            texts.append(f"{row.path} is hot and was answered by the app while its backend was gone")
        elif len(row.before.digests | row.after.digests) != 1:
            texts.append(f"{row.path} changed its bytes between before and after")
    return texts


def _status(seen: Seen) -> str:
    return str(seen.status) if seen.status else "no answer"


def _cells(row: Row) -> tuple[str, ...]:
    def half(seen: Seen) -> tuple[str, str, str]:
        generation = f"gen {seen.generation}" if seen.generation else "app"
        return _status(seen), generation if seen.status else "-", f"{statistics.median(seen.seconds) * 1000:.2f} ms"

    return row.path, "hot" if row.hot else "cold", *half(row.before), *half(row.after)


def latency(kind: str, seen: Iterable[Seen]) -> str:
    """Median and 99th percentile over all requests of ``seen``, in one line."""
    seconds = [duration for page in seen for duration in page.seconds]
    median, worst = statistics.median(seconds), percentile(seconds, 0.99)
    return f"{kind}: median {median * 1000:.2f} ms, p99 {worst * 1000:.2f} ms ({len(seconds)} requests)"


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
        for name in ("path", "kind", "before", "from", "median", "after", "from", "median"):
            table.add_column(name, justify="right" if name == "median" else "left", overflow="fold")
        for row in rows:
            cells = [Text(cell) for cell in _cells(row)]
            cells[1].stylize("bold yellow" if row.hot else "blue")
            for position, seen in ((2, row.before), (5, row.after)):
                cells[position].stylize("bold green" if seen.status == 200 else "bold red")
            table.add_row(*cells)
        self._console.print(table)
