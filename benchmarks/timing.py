"""Nanoseconds of one call of an ASGI app, without a server: batches, interleaved rounds, the floor subtracted.

An app that never suspends runs to its end in one step of its coroutine, so no event loop is needed. The floor is an
app that sends two messages made in advance: it costs what any answer costs, so what is left is the app's own work.

Rented cores change their speed by half for seconds at a time, when something else runs beside them. The floor shows
that: it does the same work before every batch. Batches beside a slow floor are discarded, and a round that keeps too
few of them is done again; the rule looks at the floor alone, never at what is measured.
"""

from __future__ import annotations

import gc
import math
import random
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.sample import ASGIApp, Header, Message, Receive, Scope, Send

# Few enough that the objects of one batch stay in the first level cache, as those of one request do.
BATCH = 16
BATCHES_A_ROUND = 150

# A batch counts when the floors before and after it were not more than this above the lowest tenth of the run's; the
# slow state of the machines seen so far is at 1.5.
SLOW = 1.12
FEWEST_BATCHES = 20
ATTEMPTS = 5

# (floor before, time, floor after) of one batch, in nanoseconds.
Batch = tuple[int, int, int]


class TooNoisy(Exception):
    """No round was fit to be used."""


@dataclass(frozen=True, slots=True)
class Case:
    """An app and what it is asked for: one path, or one of ``paths`` after the other, in an order by chance.

    ``reused`` asks with one scope object again and again, whose bytes objects know their hash already.
    """

    name: str
    app: ASGIApp
    paths: Sequence[str]
    headers: Sequence[Header]
    reused: bool = False


@dataclass(frozen=True, slots=True)
class Figure:
    """Median, lowest and highest of the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Figure:
        ordered = sorted(values)
        return cls(statistics.median(ordered), ordered[0], ordered[-1])


@dataclass(frozen=True, slots=True)
class Rounds:
    """The nanoseconds of each case in each round, floor subtracted."""

    nanoseconds: Mapping[str, Sequence[float]]
    kept: int
    tried: int

    def figure(self, name: str) -> Figure:
        return Figure.of(self.nanoseconds[name])

    def ratio(self, name: str, base: str) -> Figure:
        """``name`` over ``base``, both of the same round."""
        return Figure.of(a / b for a, b in zip(self.nanoseconds[name], self.nanoseconds[base], strict=True))

    def difference(self, name: str, base: str) -> Figure:
        """``name`` minus ``base``, both of the same round."""
        return Figure.of(a - b for a, b in zip(self.nanoseconds[name], self.nanoseconds[base], strict=True))


def make_scope(path: str, headers: Iterable[Header]) -> Scope:
    """A scope as uvicorn makes it. Every bytes object is new, as from a socket: none has its hash worked out."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50000),
        "scheme": "http",
        "method": "GET",
        "root_path": "",
        "path": path,
        "raw_path": _new(path.encode("ascii")),
        "query_string": b"",
        "headers": [(_new(name), _new(value)) for name, value in headers],
        "state": {},
    }


def _new(value: bytes) -> bytes:
    return bytes(bytearray(value))


_START: Message = {"type": "http.response.start", "status": 200, "headers": []}
_BODY: Message = {"type": "http.response.body", "body": b""}


async def floor(scope: Scope, receive: Receive, send: Send) -> None:
    """What every answer costs."""
    await send(_START)
    await send(_BODY)


async def _receive() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(message: Message) -> None:
    return None


async def _ask(app: ASGIApp, scopes: Iterable[Scope]) -> None:
    for scope in scopes:
        await app(scope, _receive, _send)


def _time(app: ASGIApp, scopes: Sequence[Scope]) -> int:
    coroutine: Any = _ask(app, scopes)
    step: Callable[[None], object] = coroutine.send
    started = time.perf_counter_ns()
    try:
        step(None)
    except StopIteration:
        return time.perf_counter_ns() - started
    coroutine.close()
    raise RuntimeError("the app suspended: it cannot be timed without an event loop")


def measure(cases: Sequence[Case], *, rounds: int, batches: int = BATCHES_A_ROUND, keep_noisy: bool = False) -> Rounds:
    """Time all cases in turn until ``rounds`` rounds count. Collections of garbage are kept out.

    Raises ``TooNoisy`` when not one round of ``ATTEMPTS`` times as many counts. ``keep_noisy`` counts every batch.
    """
    slow = math.inf if keep_noisy else SLOW
    tried: list[list[list[Batch]]] = []
    kept: list[list[float]] = []
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        while len(kept) < rounds and len(tried) < rounds * ATTEMPTS:
            tried.append([_round(case, batches) for case in cases])
            kept = accept(tried, slow)
    finally:
        if was_enabled:
            gc.enable()
    if not kept:
        raise TooNoisy(f"the machine kept changing its speed in each of {len(tried)} rounds")
    nanoseconds = {case.name: [one[index] / BATCH for one in kept] for index, case in enumerate(cases)}
    return Rounds(nanoseconds, kept=len(kept), tried=len(tried))


def accept(tried: Sequence[Sequence[Sequence[Batch]]], slow: float = SLOW) -> list[list[float]]:
    """Of each round that counts, the time of each case without its floor."""
    floors = sorted(floor for one in tried for batches in one for floor, _, _ in batches)
    limit = floors[len(floors) // 10] * slow
    kept = []
    for one in tried:
        times = [_without_floor([batch for batch in batches if max(batch[0], batch[2]) <= limit]) for batches in one]
        if None not in times:
            kept.append([time for time in times if time is not None])
    return kept


def _without_floor(batches: Sequence[Batch]) -> float | None:
    if len(batches) < FEWEST_BATCHES:
        return None
    return statistics.median(time for _, time, _ in batches) - statistics.median(floor for floor, _, _ in batches)


def _round(case: Case, batches: int) -> list[Batch]:
    timed = []
    kept = [make_scope(case.paths[0], case.headers)] * BATCH
    for _ in range(batches):
        asked = random.choices(case.paths, k=BATCH)
        scopes = kept if case.reused else [make_scope(path, case.headers) for path in asked]
        timed.append((_time(floor, scopes), _time(case.app, scopes), _time(floor, scopes)))
    return timed
