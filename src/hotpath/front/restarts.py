"""When a process that ended is started again: at once, then after 1, 2, 4 … 30 seconds. No clock of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MAX_DELAY_SECONDS: Final = 30.0
# Who has taken requests for so long was no part of a crash loop: it is started again at once, however often it ends.
STEADY_SECONDS: Final = 2.0
# Ends in a row that are called a crash loop.
LOOP_ENDS: Final = 3


@dataclass(slots=True)
class Restarts:
    """The ends of one process in a row. ``total`` counts all of them."""

    in_a_row: int = 0
    total: int = 0

    def ended(self, useful_seconds: float) -> float:
        """Seconds to wait before the next start, after a process that took requests for so long."""
        if useful_seconds >= STEADY_SECONDS:
            self.in_a_row = 0
        self.in_a_row += 1
        self.total += 1
        return 0.0 if self.in_a_row == 1 else min(MAX_DELAY_SECONDS, 2.0 ** (self.in_a_row - 2))

    @property
    def is_loop_now(self) -> bool:
        """Whether this end makes it a crash loop, which is said once."""
        return self.in_a_row == LOOP_ENDS

    def forget(self) -> None:
        """Begin anew: somebody asked for a start, after a fix perhaps."""
        self.in_a_row = 0
