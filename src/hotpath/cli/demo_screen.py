"""What the demo saw before and after the attack, what it means, and how it is shown."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TextIO

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
    found = []
    for row in rows:
        if row.before.status != 200:
            found.append(f"{row.path} was {_status(row.before)} while all was well")
        elif not row.hot:
            if row.after.status == 200:
                found.append(f"{row.path} still answered 200, so the backend was not broken and nothing is shown")
        elif row.before.generation is None:
            found.append(f"{row.path} is hot and was answered by the app, not from a generation")
        elif row.after.status != 200:
            found.append(f"{row.path} is hot and was {_status(row.after)} without its backend")
        elif row.after.generation is None:
            found.append(f"{row.path} is hot and was answered by the app while its backend was gone")
        elif len(row.before.digests | row.after.digests) != 1:
            found.append(f"{row.path} changed its bytes between before and after")
    return found


def _status(seen: Seen) -> str:
    return str(seen.status) if seen.status else "no answer"


def _cells(row: Row) -> tuple[str, ...]:
    def half(seen: Seen) -> tuple[str, str, str]:
        generation = f"gen {seen.generation}" if seen.generation else "app"
        return _status(seen), generation if seen.status else "-", f"{statistics.median(seen.seconds) * 1000:.2f} ms"

    return row.path, "hot" if row.hot else "cold", *half(row.before), *half(row.after)


def latency(kind: str, seen: Iterable[Seen]) -> str:
    """Median and 99th percentile over all requests of ``seen``, in one line."""
    seconds = [one for each in seen for one in each.seconds]
    median, worst = statistics.median(seconds), percentile(seconds, 0.99)
    return f"{kind}: median {median * 1000:.2f} ms, p99 {worst * 1000:.2f} ms ({len(seconds)} requests)"


class Screen(Protocol):
    """Where the demo speaks: colour and a drawn table on a terminal, plain lines elsewhere."""

    def say(self, text: str = "") -> None: ...

    def command(self, text: str) -> None: ...

    def table(self, rows: Sequence[Row]) -> None: ...

    def verdict(self, good: bool, text: str) -> None: ...


class PlainLines:
    """For pipes and logs."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def say(self, text: str = "") -> None:
        print(text, file=self._out, flush=True)

    def command(self, text: str) -> None:
        self.say(f"$ {text}")

    def table(self, rows: Sequence[Row]) -> None:
        lines = [("path", "kind", "before", "", "", "after", "", ""), *map(_cells, rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            padded = [
                cell.rjust(width) if cell.endswith(" ms") else cell.ljust(width)
                for cell, width in zip(line, widths, strict=True)
            ]
            self.say("  ".join(padded).rstrip())

    def verdict(self, good: bool, text: str) -> None:
        self.say(f"{'OK' if good else 'FAILED'}: {text}")


class Terminal:
    """For people."""

    def __init__(self, out: TextIO) -> None:
        from rich.console import Console

        self._console = Console(file=out, highlight=False)

    def say(self, text: str = "") -> None:
        self._console.print(text, markup=False, soft_wrap=True)

    def command(self, text: str) -> None:
        self._console.print(f"$ {text}", markup=False, soft_wrap=True, style="bold cyan")

    def table(self, rows: Sequence[Row]) -> None:
        from rich.table import Table
        from rich.text import Text

        table = Table(header_style="bold")
        for name in ("path", "kind", "before", "from", "median", "after", "from", "median"):
            table.add_column(name, justify="right" if name == "median" else "left", overflow="fold")
        for row in rows:
            cells = [Text(cell) for cell in _cells(row)]
            cells[1].stylize("bold yellow" if row.hot else "blue")
            for position, seen in ((2, row.before), (5, row.after)):
                cells[position].stylize("bold green" if seen.status == 200 else "bold red")
            table.add_row(*cells)
        self._console.print(table)

    def verdict(self, good: bool, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True, style="bold green" if good else "bold red")


def screen_for(out: TextIO) -> Screen:
    """Drawn where ``out`` is a terminal, plain lines elsewhere."""
    return Terminal(out) if out.isatty() else PlainLines(out)
