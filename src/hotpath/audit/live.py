"""Which containers of this process grow, and where they are held: for a server that gets larger, nobody knows why."""

from __future__ import annotations

import gc
import heapq
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hotpath.audit.holders import held_by

_KINDS = (dict, list, set, deque)

# Containers of plain values may be unknown to the collector; they are looked for in what it knows, where that is small
# enough to be a namespace and not a heap of data.
_MAX_LOOKED_INTO = 10_000
_CHUNK = 2_000


@dataclass(frozen=True, slots=True)
class Grown:
    """A container that got larger. ``held_by`` is ``module.name`` or ``module.Class.name`` where that was found."""

    kind: str
    before: int
    after: int
    held_by: str

    @property
    def added(self) -> int:
        """Entries more than at the reading before."""
        return self.after - self.before


@dataclass(frozen=True, slots=True)
class Reading:
    """How large every live container was at one moment. Holds none of them: only their addresses and sizes."""

    containers: int
    grown: tuple[Grown, ...]
    seconds_apart: float | None
    _addresses: array[int]
    _sizes: array[int]
    _at: float
    _clock: Callable[[], float]

    def again(self, top: int = 10) -> Reading:
        """A second reading, which ranks the ``top`` containers that have grown most since this one."""
        return _read(self, top, self._clock)

    def __str__(self) -> str:
        if self.seconds_apart is None:
            return f"{self.containers:,} containers; call again() after a while to see which of them have grown"
        if not self.grown:
            return f"none of {self.containers:,} containers has grown in {self.seconds_apart:.1f} s"
        rows = [f"{one.added:>+12,}  {one.after:>12,}  {one.kind:<12}  {one.held_by}" for one in self.grown]
        head = f"{self.containers:,} containers, {self.seconds_apart:.1f} s after the reading before"
        return "\n".join([head, f"{'grown by':>12}  {'entries':>12}  {'kind':<12}  held by", *rows])

    def __repr__(self) -> str:
        return f"<Reading of {self.containers} containers, {len(self.grown)} have grown>"


def growth(*, clock: Callable[[], float] = time.monotonic) -> Reading:
    """A first reading of all live dicts, lists, sets and deques; ``again()`` on it finds those that grow.

    Costs a pass over all objects that the collector knows, during which no other thread runs; see
    ``docs/reference/audit.md`` for figures. An address that was freed and used anew between two readings can look
    like growth: read a third time before you believe a container that nobody seems to hold.
    """
    return _read(None, 0, clock)


def _read(before: Reading | None, top: int, clock: Callable[[], float]) -> Reading:
    addresses, sizes = array("Q"), array("q")
    earlier = dict(zip(before._addresses, before._sizes, strict=True)) if before else {}
    ours = {id(earlier)}
    largest: list[tuple[int, int, int, object]] = []
    for number, (container, size) in enumerate(_containers()):
        address = id(container)
        if address in ours:
            continue
        addresses.append(address)
        sizes.append(size)
        added = size - earlier.get(address, size)
        if added > 0 and (len(largest) < top or added > largest[0][0]):
            put = heapq.heappush if len(largest) < top else heapq.heapreplace
            put(largest, (added, number, size, container))
    del container
    now = clock()
    ranked = sorted(largest, key=lambda one: (-one[0], one[1]))
    largest.clear()
    found = [one[3] for one in ranked]
    names = held_by(found, not_by=[ranked, *ranked]) if found else []
    grown = tuple(
        Grown(type(container).__name__, size - added, size, name)
        for (added, _, size, container), name in zip(ranked, names, strict=True)
    )
    apart = None if before is None else now - before._at
    return Reading(len(addresses), grown, apart, addresses, sizes, now, clock)


def _containers() -> Iterator[tuple[object, int]]:
    """Every live container with its size, each once."""
    known = gc.get_objects()
    seen: set[int] = set()
    measures: dict[type, Callable[[object], int] | None] = {}
    while known:
        chunk = known[-_CHUNK:]
        del known[-_CHUNK:]
        small = []
        for item in chunk:
            kind = type(item)
            measure = measures.get(kind, _UNKNOWN)
            if measure is _UNKNOWN:
                measure = measures[kind] = _measure(kind)
            if measure is None:
                small.append(item)
                continue
            size = measure(item)
            if item is not known and item is not chunk and item is not small:
                yield item, size
            if size <= _MAX_LOOKED_INTO:
                small.append(item)
        for item in gc.get_referents(*small):
            if type(item) is dict and not gc.is_tracked(item) and id(item) not in seen:
                seen.add(id(item))
                yield item, len(item)


def _unknown(_: object) -> int:
    raise AssertionError


_UNKNOWN = _unknown


def _measure(kind: type) -> Callable[[object], int] | None:
    """The size of containers of a type, by the base's own method: a subclass's ``__len__`` could do anything."""
    for base in _KINDS:
        if issubclass(kind, base):
            return base.__len__  # type: ignore[return-value]
    return None
