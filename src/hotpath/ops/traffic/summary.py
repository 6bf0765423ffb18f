"""What a log says, counted in one pass: nothing is kept of a line but figures, and those are bounded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from hotpath.ops.traffic.crawlers import Crawlers
from hotpath.ops.traffic.lines import MAX_LINE_BYTES, Hit, Parse, parser_of
from hotpath.ops.traffic.templates import Templates

MINUTES_OF_DAY: Final = 1440
# Bad lines that are shown; all are counted.
MAX_BAD_SHOWN: Final = 3
# Minutes with 5xx or resets that are kept one by one, and days of the crawl table.
MAX_BAD_MINUTES: Final = 20_000
MAX_DAYS: Final = 800
# The client went away before it was answered (nginx's 499), or the server closed without an answer (444).
RESETS: Final = frozenset({0, 444, 499})
MISSING: Final = frozenset({404, 410})

CLASSES: Final = ("2xx", "3xx", "4xx", "5xx", "reset")


@dataclass(slots=True)
class Crawl:
    """One crawler's requests, all or of one day: by class of status."""

    requests: int = 0
    classes: list[int] = field(default_factory=lambda: [0] * len(CLASSES))

    @property
    def errors(self) -> int:
        """5xx and resets: what counts against a site."""
        return self.classes[3] + self.classes[4]

    @property
    def error_share(self) -> float:
        """Of all requests, 0 to 1."""
        return self.errors / self.requests if self.requests else 0.0


@dataclass(slots=True)
class Summary:
    """Everything ``hotpath logs`` reports is worked out from this.

    ``crawls`` are by crawler, whether its address was verified, and day since the epoch (``None``: lines without a
    time). ``minutes_of_week`` are verified crawlers' requests by minute of the week, from Monday 00:00 UTC.
    ``bad_minutes`` are requests that got 5xx or no answer, by minute, status and crawler (empty: none).
    """

    crawlers: Crawlers
    lines: int = 0
    bad_lines: int = 0
    bad_shown: list[bytes] = field(default_factory=list)
    first_minute: int | None = None
    last_minute: int | None = None
    untimed: int = 0
    hits: int = 0
    crawled: int = 0
    crawls: dict[tuple[str, bool, int | None], Crawl] = field(default_factory=dict)
    minutes_of_week: Counter[int] = field(default_factory=Counter)
    bad_minutes: Counter[tuple[int, int, str]] = field(default_factory=Counter)
    bad_minutes_dropped: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    templates: Templates = field(default_factory=Templates)

    @property
    def observed_minutes(self) -> int:
        """How much time the log covers; 0 where its lines have none."""
        return 0 if self.first_minute is None or self.last_minute is None else self.last_minute - self.first_minute + 1

    def read(self, lines: Iterable[bytes]) -> None:
        """Count every line. What is in none of the known formats is counted as bad; the format may change midway."""
        parse: Parse | None = None
        take = self._take
        for line in lines:
            self.lines += 1
            try:
                if parse is None:
                    raise ValueError("no format yet")
                hit = parse(line)
            except (ValueError, IndexError, KeyError, TypeError):
                other = None if len(line) > MAX_LINE_BYTES or not line.strip() else parser_of(line)
                if other is None:
                    self._bad(line)
                    continue
                parse = other
                hit = parse(line)
            take(hit)

    def _take(self, hit: Hit) -> None:
        minute, address, _, target, status, size, agent, seconds = hit
        self.hits += 1
        self.statuses[status] += 1
        if minute is None:
            self.untimed += 1
        elif self.last_minute is None or minute > self.last_minute:
            self.last_minute = minute
            if self.first_minute is None:
                self.first_minute = minute
        elif self.first_minute is not None and minute < self.first_minute:
            self.first_minute = minute

        is_error = status >= 500 or status in RESETS
        crawler = self.crawlers.claimed(agent)
        verified = crawler is not None and self.crawlers.is_verified(crawler, address)
        if crawler is not None:
            self._crawl(crawler, verified, minute, status, is_error)
        if is_error and minute is not None:
            self._bad_minute(minute, status, crawler or "")

        mark = target.find(b"?")
        path = target if mark < 0 else target[:mark]
        tally = self.templates.tally(path if path[:1] == b"/" else b"/(not a path)")
        tally.hits += 1
        tally.size += size
        if seconds is not None:
            tally.seconds += seconds
            tally.timed += 1
        if is_error:
            tally.errors += 1
        elif status in MISSING:
            tally.missing += 1
        if verified:
            tally.crawled += 1

    def _crawl(self, crawler: str, verified: bool, minute: int | None, status: int, is_error: bool) -> None:
        day = None if minute is None else minute // MINUTES_OF_DAY
        key = (crawler, verified, day)
        crawl = self.crawls.get(key)
        if crawl is None:
            if len(self.crawls) >= MAX_DAYS * 20:
                key = (crawler, verified, None)
            crawl = self.crawls.setdefault(key, Crawl())
        crawl.requests += 1
        crawl.classes[4 if is_error and status < 500 else max(0, min(3, status // 100 - 2))] += 1
        if not verified:
            return
        self.crawled += 1
        if minute is not None:
            # The epoch began on a Thursday.
            self.minutes_of_week[(minute + 3 * MINUTES_OF_DAY) % (7 * MINUTES_OF_DAY)] += 1

    def _bad_minute(self, minute: int, status: int, crawler: str) -> None:
        key = (minute, status, crawler)
        if key in self.bad_minutes or len(self.bad_minutes) < MAX_BAD_MINUTES:
            self.bad_minutes[key] += 1
        else:
            self.bad_minutes_dropped += 1

    def _bad(self, line: bytes) -> None:
        self.bad_lines += 1
        if len(self.bad_shown) < MAX_BAD_SHOWN and line.strip():
            self.bad_shown.append(line[:200])
