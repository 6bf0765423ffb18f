"""What a person sees of a build: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

from hotpath.batch.failures import FailureGroups
from hotpath.batch.progress import Done, Progress
from hotpath.options import counted, human_bytes, printable

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

# Seconds between plain lines: a log of a nightly run stays readable, and a run that hangs is still seen.
PLAIN_SECONDS = 5.0

# Seconds between two pictures of the bar.
BAR_SECONDS = 0.1

# Lines of a failed item's output that are shown; the report of the run has more.
SHOWN_LINES = 5


def progress_for(stream: TextIO | None = None, *, quiet: bool = False) -> Progress:
    """A bar where ``stream`` (stderr by default) is a terminal, plain lines elsewhere; with ``quiet`` failures only."""
    stream = stream or sys.stderr
    return Bar(stream) if stream.isatty() and not quiet else PlainLines(stream, quiet=quiet)


def _failure(done: Done) -> str:
    text = f"FAILED {done.error}" + ("; its last good bytes stay" if done.carried else "")
    return printable("\n".join([text, *(f"    {line}" for line in done.output.splitlines()[-SHOWN_LINES:])]))


class PlainLines:
    """Lines for a log: the start, the first failure of each cause, the counts now and then, and at the end how many
    failed of each cause. With ``quiet`` the failures only.

    A reader that is gone, or a log on a full disk, ends no batch.
    """

    def __init__(self, stream: TextIO, *, quiet: bool = False) -> None:
        self._stream = stream
        self._quiet = quiet
        self._total = self._done = self._failed = self._carried = self._bytes = self._peak = 0
        self._printed = time.monotonic()
        self._failures = FailureGroups()

    def start(self, total: int) -> None:
        self._total = total
        self._print(f"building {counted(total, 'item')}")

    def done(self, done: Done) -> None:
        self._done += 1
        self._bytes += done.length
        self._peak = max(self._peak, done.peak_bytes)
        self._failed += done.error is not None
        self._carried += done.carried
        self._show(done)

    def finish(self) -> None:
        for line in self._others():
            self._print(line, always=True)
        self._print_counts()

    def _others(self) -> list[str]:
        groups = self._failures.groups()
        return [printable(f"FAILED as {group.first.key}: {group.others()}") for group in groups if group.count > 1]

    def _print_counts(self) -> None:
        self._print(f"{self._done}/{counted(self._total, 'item')}, {self._counts()}")

    def _counts(self) -> str:
        carried = f" ({self._carried} carried forward)" if self._carried else ""
        peak = human_bytes(self._peak)
        return f"{self._failed} failed{carried}, {human_bytes(self._bytes)}, memory at most {peak}"

    def _show(self, done: Done) -> None:
        if done.error is not None:
            if self._failures.add(done.error):
                self._print(_failure(done), always=True)
        elif time.monotonic() - self._printed > PLAIN_SECONDS:
            self._printed = time.monotonic()
            self._print_counts()

    def _print(self, text: str, *, always: bool = False) -> None:
        if always or not self._quiet:
            with suppress(OSError):
                print(text, file=self._stream, flush=True)


def _bar(stream: TextIO, doing: str) -> RichProgress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    counts = TextColumn("{task.fields[counts]}", markup=False)
    columns = (TextColumn(doing), BarColumn(), MofNCompleteColumn(), counts, TimeRemainingColumn())
    # Without rich's thread, beside which the batch could not fork.
    return RichProgress(*columns, console=Console(file=stream), auto_refresh=False)


class Bar(PlainLines):
    """A progress bar with the same counts and the time left."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._bar = _bar(stream, "building")

    def start(self, total: int) -> None:
        with suppress(OSError):
            self._bar.start()
        self._task = self._bar.add_task("build", total=total, counts="")
        with suppress(OSError):
            self._bar.refresh()

    def finish(self) -> None:
        from rich.text import Text

        with suppress(OSError):
            for line in self._others():
                self._bar.console.print(Text(line, style="red"))
            self._bar.stop()

    def _show(self, done: Done) -> None:
        from rich.text import Text

        with suppress(OSError):
            if done.error is not None and self._failures.add(done.error):
                self._bar.console.print(Text(_failure(done), style="red"))
            self._bar.update(self._task, advance=1, counts=self._counts())
            if time.monotonic() - self._printed > BAR_SECONDS:
                self._printed = time.monotonic()
                self._bar.refresh()


def sending_progress(stream: TextIO | None = None, *, quiet: bool = False) -> SendingLines:
    """The same for what is sent to an origin."""
    stream = stream or sys.stderr
    return SendingBar(stream) if stream.isatty() and not quiet else SendingLines(stream, quiet=quiet)


class SendingLines:
    """Lines for a log: how much is to be sent, and now and then how much was."""

    def __init__(self, stream: TextIO, *, quiet: bool = False) -> None:
        self._stream = stream
        self._quiet = quiet
        self._blobs = self._size = self._sent_blobs = self._sent_size = 0
        self._printed = time.monotonic()

    def start(self, blobs: int, size: int) -> None:
        self._blobs, self._size = blobs, size
        self._sent_blobs = self._sent_size = 0
        self._show_start()

    def sent(self, size: int) -> None:
        self._sent_blobs += 1
        self._sent_size += size
        self._show()

    def finish(self) -> None:
        """Leave the terminal in order."""

    def _counts(self) -> str:
        return f"{human_bytes(self._sent_size)} of {human_bytes(self._size)}"

    def _show_start(self) -> None:
        self._print(f"sending {counted(self._blobs, 'new file')}, {human_bytes(self._size)}")

    def _show(self) -> None:
        if time.monotonic() - self._printed > PLAIN_SECONDS:
            self._printed = time.monotonic()
            self._print(f"sent {self._sent_blobs}/{counted(self._blobs, 'file')}, {self._counts()}")

    def _print(self, text: str) -> None:
        if not self._quiet:
            with suppress(OSError):
                print(text, file=self._stream, flush=True)


class SendingBar(SendingLines):
    """A bar of files, with their bytes and the time left."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._bar = _bar(stream, "sending")
        self._task: TaskID | None = None

    def finish(self) -> None:
        with suppress(OSError):
            self._bar.stop()

    def _show_start(self) -> None:
        with suppress(OSError):
            if self._task is not None:  # another attempt
                self._bar.remove_task(self._task)
            self._bar.start()
            self._task = self._bar.add_task("send", total=self._blobs, counts="")
            self._bar.refresh()

    def _show(self) -> None:
        with suppress(OSError):
            if self._task is not None:
                self._bar.update(self._task, completed=self._sent_blobs, counts=self._counts())
            if time.monotonic() - self._printed > BAR_SECONDS:
                self._printed = time.monotonic()
                self._bar.refresh()
