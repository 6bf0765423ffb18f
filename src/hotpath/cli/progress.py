"""What a person sees of a build: a bar on a terminal, plain lines in cron."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import TextIO

from hotpath.batch.run import Done, Progress
from hotpath.options import human_bytes

# A plain line this often: a log of a nightly run stays readable, a run that hangs is still seen.
PLAIN_SECONDS = 5.0

# Of what a failed item printed so many lines are shown; the report of the run has more.
SHOWN_LINES = 5


def progress_for(stream: TextIO | None = None, *, quiet: bool = False) -> Progress:
    """A bar where ``stream`` (stderr by default) is a terminal, plain lines elsewhere; with ``quiet`` failures only."""
    stream = stream or sys.stderr
    if quiet:
        return Unheard(Failures(stream))
    return Unheard(Bar() if stream.isatty() else PlainLines(stream))


class Unheard:
    """Tells ``progress`` as long as anybody hears it: a reader that went, or a log on a full disk, ends no batch."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def start(self, total: int) -> None:
        with suppress(OSError):
            self._progress.start(total)

    def done(self, done: Done) -> None:
        with suppress(OSError):
            self._progress.done(done)

    def finish(self) -> None:
        with suppress(OSError):
            self._progress.finish()


def _failure(done: Done) -> str:
    told = f"FAILED {done.error}" + ("; its last good bytes stay" if done.carried else "")
    printed = [ascii(line)[1:-1] if not line.isprintable() else line for line in done.output.splitlines()]
    return "\n".join([told, *(f"    {line}" for line in printed[-SHOWN_LINES:])])


class Failures:
    """A line for each failure, and nothing else."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def start(self, total: int) -> None:
        return None

    def done(self, done: Done) -> None:
        if done.error is not None:
            print(_failure(done), file=self._stream, flush=True)

    def finish(self) -> None:
        return None


class PlainLines:
    """Lines for a log: the start, each failure, and now and then how far it is."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._total = self._done = self._failed = self._carried = self._bytes = self._peak = 0
        self._told = time.monotonic()

    def start(self, total: int) -> None:
        self._total = total
        self._say(f"building {total} items")

    def done(self, done: Done) -> None:
        self._done += 1
        self._bytes += done.length
        self._peak = max(self._peak, done.peak_bytes)
        if done.error is not None:
            self._failed += 1
            self._carried += done.carried
            self._say(_failure(done))
        elif time.monotonic() - self._told > PLAIN_SECONDS:
            self._say_how_far()

    def finish(self) -> None:
        self._say_how_far()

    def _say_how_far(self) -> None:
        self._told = time.monotonic()
        carried = f" ({self._carried} carried forward)" if self._carried else ""
        self._say(
            f"{self._done}/{self._total} items, {self._failed} failed{carried}, {human_bytes(self._bytes)},"
            f" memory at most {human_bytes(self._peak)}"
        )

    def _say(self, line: str) -> None:
        print(line, file=self._stream, flush=True)


class Bar:
    """A progress bar with items done, failed, carried forward, bytes, peak memory and time left."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self._bar = RichProgress(
            TextColumn("building"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._failed = self._carried = self._bytes = self._peak = 0

    def start(self, total: int) -> None:
        self._bar.start()
        self._task = self._bar.add_task("build", total=total, state="")

    def done(self, done: Done) -> None:
        from rich.markup import escape

        self._bytes += done.length
        self._peak = max(self._peak, done.peak_bytes)
        if done.error is not None:
            self._failed += 1
            self._carried += done.carried
            self._bar.console.print(f"[red]FAILED[/]{escape(_failure(done).removeprefix('FAILED'))}", highlight=False)
        state = f"{human_bytes(self._bytes)}, memory {human_bytes(self._peak)}"
        if self._failed:
            state += f" [red]{self._failed} failed[/], {self._carried} carried forward"
        self._bar.update(self._task, advance=1, state=state)

    def finish(self) -> None:
        self._bar.stop()
