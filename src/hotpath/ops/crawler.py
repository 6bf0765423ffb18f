"""Ask a server as a crawler does, and keep what was seen: statuses, generations, bytes, latency."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from hotpath.ops.http import Client, Reply

REQUEST_SECONDS = 5.0
MAX_PAGE_BYTES = 64 * 1024 * 1024


@dataclass(slots=True)
class PageAnswers:
    """All answers of one page in one pass. ``last_good`` of them a front gave in place of a failing app's."""

    statuses: list[int] = field(default_factory=list)
    generations: list[str | None] = field(default_factory=list)
    digests: set[str] = field(default_factory=set)
    last_good: int = 0
    seconds: list[float] = field(default_factory=list)

    def add(self, answer: Reply) -> None:
        self.statuses.append(answer.status)
        self.generations.append(answer.generation)
        self.last_good += "stale-if-error" in answer.headers.get("cache-status", "")
        self.digests.add(hashlib.sha256(answer.body).hexdigest())
        self.seconds.append(answer.seconds)

    @property
    def status(self) -> int:
        """200 only where every answer was; else the first that was not."""
        return next((status for status in self.statuses if status != 200), 200)

    @property
    def generation(self) -> str | None:
        """``None`` where at least one answer was the app's; several are joined by a slash."""
        known = {generation for generation in self.generations if generation is not None}
        return "/".join(sorted(known)) if None not in self.generations else None


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` of all are not above (nearest rank)."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


class Crawler(Client):
    """Asks one server over one kept-alive connection."""

    def __init__(self, port: int, timeout_seconds: float = REQUEST_SECONDS) -> None:
        url = f"http://127.0.0.1:{port}"
        super().__init__(url, timeout_seconds=timeout_seconds, shown=url, max_bytes=MAX_PAGE_BYTES)

    def measure(self, paths: Sequence[str], rounds: int) -> dict[str, PageAnswers]:
        """``rounds`` rounds over all paths. One that gives no answer at all is not asked again: it may hang."""
        seen = {path: PageAnswers() for path in paths}
        for _ in range(rounds):
            self.add_round(seen)
        return seen

    def add_round(self, seen: dict[str, PageAnswers]) -> None:
        """Ask once for each path of ``seen``."""
        for path, answers in seen.items():
            if 0 not in answers.statuses:
                answers.add(self.get(path, {"Accept-Encoding": "gzip"}))
