"""What whoever watches a batch sees of it: every item as it is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from hotpath.errors import ItemError


@dataclass(frozen=True, slots=True)
class Done:
    """One item of a run, for a progress bar: ``length`` is its body in bytes, 0 where ``error`` says what went wrong.

    ``carried`` says that the last good bytes stay in its place; ``peak_bytes`` is the most memory of the worker,
    ``output`` the end of a failed item's output.
    """

    key: str
    length: int
    error: ItemError | None
    carried: bool
    peak_bytes: int
    output: str = ""


class Progress(Protocol):
    """Gets every item as it is done; for a progress bar, lines in cron, or nothing."""

    def start(self, total: int) -> None:
        return None

    def done(self, done: Done) -> None:
        return None

    def finish(self) -> None:
        return None


class Silent(Progress):
    """No progress at all."""
