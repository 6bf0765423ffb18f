"""What this process serves and how its guard stands, read from memory: no disk is touched, and nothing waits."""

from __future__ import annotations

import heapq
from typing import Final

from hotpath.dashboard.facts import GuardFacts, LiveFacts, PageLine
from hotpath.guard.guard import MemoryGuard
from hotpath.serving.reader import reader_of
from hotpath.serving.rfc9110 import CODING_BITS
from hotpath.serving.snapshot import Page
from hotpath.site import Hotpath

MAX_PAGES: Final = 50


def live_facts(hot: Hotpath) -> LiveFacts | None:
    """What is served here; ``None`` where this process serves nothing."""
    reader = reader_of(hot)
    if not reader.is_started:
        return None
    loader = reader.loader
    pages = [*loader.snapshot.pages.values()]
    most = heapq.nlargest(MAX_PAGES, ((page.uses, page.key, page) for page in pages), key=lambda entry: entry[:2])
    return LiveFacts(
        generation=loader.snapshot.generation,
        degraded=loader.degraded,
        is_pinned=loader.pinned,
        pages=len(loader.keys),
        corrupt=loader.corrupt_items,
        stale=loader.stale_items,
        body_bytes=loader.body_bytes,
        answers=dict(loader.answers),
        hits=[_line(page, uses) for uses, _, page in most if uses],
    )


def _line(page: Page, uses: int) -> PageLine:
    identity = page.variants[CODING_BITS["identity"]]
    length, changed = (len(identity.body), identity.last_modified) if identity is not None else (0, 0)
    return PageLine(page.key, length, changed, hits=uses)


def guard_facts(guard: MemoryGuard) -> GuardFacts | None:
    """How the guard stands; ``None`` before it has started."""
    if not guard.is_started:
        return None
    reading, outlook, thresholds = guard.reading, guard.outlook, guard.thresholds
    return GuardFacts(
        state=guard.state.name,
        reason=guard.position.reason,
        problem=guard.problem,
        share=outlook.share if outlook is not None else None,
        used=reading.unreclaimable if reading is not None else None,
        limit=reading.limit if reading is not None else None,
        growth=outlook.growth if outlook is not None else 0.0,
        seconds_left=outlook.seconds_left if outlook is not None else float("inf"),
        in_flight=guard.admission.in_flight,
        shed=sum(guard.admission.shed.values()),
        recycles=sum(guard.recycling.begun.values()),
        workers=max(1, len(guard.recycling.workers())),
        is_suppressed=guard.recycling.is_suppressed,
        marks={"trim": thresholds.trim.enter, "shed": thresholds.shed.enter, "brake": thresholds.brake.enter},
    )
