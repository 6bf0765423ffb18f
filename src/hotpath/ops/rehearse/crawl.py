"""The site's own crawl: which pages are asked for, how often, and when, from a log of any length in bounded memory."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from hotpath.errors import DeclarationError
from hotpath.ops.traffic.crawlers import Crawlers, shipped
from hotpath.ops.traffic.files import blocks
from hotpath.ops.traffic.lines import MAX_LINE_BYTES, Hit, Parse, parser_of

# Requests of a log that are kept, drawn evenly from all of it, whatever its length.
MAX_KEPT: Final = 50_000
# Longer targets are attacks; kept whole they would make the bound on memory meaningless.
MAX_TARGET_BYTES: Final = 1024
# Fewer requests of crawlers than this say nothing: then everybody's are replayed.
MIN_CRAWLED: Final = 100
MINUTES_OF_DAY: Final = 1440
_SEED: Final = 18

Visit = tuple[int | None, bytes]


@dataclass(frozen=True, slots=True)
class Replay:
    """What to replay: ``visits`` are (minute since the first, target), a sample of ``requests`` in ``minutes``.

    ``minutes`` is ``None`` where no time is known. ``source`` says in one line where it is from, ``notes`` what a
    reader of the result must know.
    """

    visits: Sequence[tuple[int | None, str]]
    requests: int
    minutes: int | None
    source: str
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class _Reservoir:
    """An even sample of any number of visits (algorithm R, Vitter 1985)."""

    dice: random.Random
    most: int
    seen: int = 0
    kept: list[Visit] = field(default_factory=list)

    def add(self, visit: Visit) -> None:
        self.seen += 1
        if len(self.kept) < self.most:
            self.kept.append(visit)
        elif (place := self.dice.randrange(self.seen)) < self.most:
            self.kept[place] = visit


class LogSample:
    """Reads lines, counts what cannot be replayed, and keeps ``keep`` of the rest. ``hosts`` are the site's own."""

    def __init__(self, crawlers: Crawlers, hosts: Sequence[str] = (), *, keep: int = MAX_KEPT) -> None:
        dice = random.Random(_SEED)
        self.crawled = _Reservoir(dice, keep)
        self.all = _Reservoir(dice, keep)
        self.lines = self.bad = self.foreign = self.other_methods = self.untimed = self.too_long = 0
        self.first: int | None = None
        self.last: int | None = None
        self._crawlers = crawlers
        self._hosts = {host.lower() for host in hosts}
        self._parse: Parse | None = None

    def read(self, lines: Sequence[bytes]) -> None:
        """Take in a block of lines."""
        for line in lines:
            self.lines += 1
            hit = self._hit(line)
            if hit is None:
                self.bad += 1
            else:
                self._take(hit)

    def _hit(self, line: bytes) -> Hit | None:
        if self._parse is not None:
            try:
                return self._parse(line)
            except (ValueError, IndexError, KeyError, TypeError):
                pass
        self._parse = None if len(line) > MAX_LINE_BYTES or not line.strip() else parser_of(line)
        return self._parse(line) if self._parse is not None else None

    def _take(self, hit: Hit) -> None:
        if hit.method != b"GET":
            self.other_methods += 1
            return
        target = hit.target
        if not target.startswith(b"/") or target.startswith(b"//"):
            own = self._own_path(target)
            if own is None:
                self.foreign += 1
                return
            target = own
        if len(target) > MAX_TARGET_BYTES or any(byte <= 32 or byte == 127 for byte in target):
            self.too_long += 1
            return
        if hit.minute is None:
            self.untimed += 1
        else:
            self.first = hit.minute if self.first is None else min(self.first, hit.minute)
            self.last = hit.minute if self.last is None else max(self.last, hit.minute)
        visit = (hit.minute, target)
        self.all.add(visit)
        if self._crawlers.claimed(hit.agent) is not None:
            self.crawled.add(visit)

    def _own_path(self, target: bytes) -> bytes | None:
        """The path of an absolute target of this site: somebody who tries for an open proxy names other hosts."""
        try:
            parts = urlsplit(target.decode("ascii"))
            host = (parts.hostname or "").lower()
        except ValueError:
            return None
        if host not in self._hosts:
            return None
        return (parts.path or "/").encode() + (b"?" + parts.query.encode() if parts.query else b"")


def read_log(files: Sequence[str], hosts: Sequence[str] = ()) -> Replay:
    """The crawl of these logs, in any of the formats of ``hotpath logs``.

    Raises ``DeclarationError`` where no request can be replayed.
    """
    sample = LogSample(shipped(), hosts)
    warnings: list[str] = []
    for file in files:
        for block in blocks(file, warnings):
            sample.read(block)
    return crawl_of(sample, ", ".join(files), warnings)


def crawl_of(sample: LogSample, name: str, warnings: Sequence[str] = ()) -> Replay:
    """What was kept of a log, as a crawl. Raises ``DeclarationError`` where that is nothing."""
    if not sample.all.seen:
        raise DeclarationError(
            f"no request in {name} can be replayed: {sample.lines} lines, {sample.bad} in no known format,"
            f" {sample.other_methods} not GET, {sample.foreign} for other hosts"
        )
    is_crawl = sample.crawled.seen >= MIN_CRAWLED
    chosen = sample.crawled if is_crawl else sample.all
    notes = [*warnings]
    if not is_crawl:
        notes.append(
            f"{sample.crawled.seen} requests of crawlers are too few to replay, so everybody's are ({sample.all.seen})"
        )
    if sample.foreign:
        notes.append(f"{sample.foreign} requests for other hosts are left out")
    if sample.bad:
        notes.append(f"{sample.bad} of {sample.lines} lines are in no known format and left out")
    if sample.too_long:
        notes.append(f"{sample.too_long} requests with targets over {MAX_TARGET_BYTES} bytes, or no URL, are left out")
    first, last = sample.first, sample.last
    minutes = None
    if first is None or last is None or sample.untimed > sample.all.seen // 2:
        first = None
        notes.append("the lines of the log have no time: its requests are spread evenly")
    else:
        minutes = last - first + 1
        if minutes < MINUTES_OF_DAY:
            notes.append(
                f"the log has {_span(minutes)} only: that is repeated, and what the other hours are like is not known"
            )
    visits = [
        (None if first is None or minute is None else minute - first, target.decode("utf-8", "surrogateescape"))
        for minute, target in chosen.kept
    ]
    whose = "crawlers" if is_crawl else "everybody"
    span = "without times" if minutes is None else f"in {_span(minutes)}"
    source = f"the log {name}: {chosen.seen} requests of {whose} {span}"
    return Replay(visits, chosen.seen, minutes, source, tuple(notes))


def from_pages(hot: Sequence[str], cold: Sequence[str], cold_share: float, source: str) -> Replay:
    """A crawl where there is no log: every hot page alike, and ``cold_share`` of all for cold ones."""
    dice = random.Random(_SEED)
    visits: list[tuple[int | None, str]] = []
    for place in range(10_000):
        is_cold = bool(cold) and dice.random() < cold_share
        pages = cold if is_cold else hot
        visits.append((None, pages[place % len(pages)] if not is_cold else dice.choice(cold)))
    return Replay(visits, 0, None, source)


def _span(minutes: int) -> str:
    if minutes < 2 * 60:
        return f"{minutes} min"
    return f"{minutes / 60:.1f} h" if minutes < 2 * MINUTES_OF_DAY else f"{minutes / MINUTES_OF_DAY:.1f} days"
