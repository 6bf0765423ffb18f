"""Which containers of this process grow, and where they are held: for a server that grows for no known reason."""

from __future__ import annotations

import gc
import heapq
import itertools
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from hotpath.audit.holders import UNKNOWN, held_by

_KINDS = (dict, list, set, deque)

# Containers of plain values may be unknown to the collector; they are looked for in what it knows, where that is small
# enough to be a namespace and not a heap of data.
_MAX_LOOKED_INTO = 10_000
_CHUNK = 2_000

# Minimum of new entries that counts: requests and modules get a few while they work; a leak does not stop at ten.
_LEAST = 10

# Candidates whose first and last entries are compared with those before, for each container that is shown.
_CANDIDATES = 10

_NOTHING = 0
_PLAIN = frozenset({str, bytes, int, float})


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
    """The sizes of all live containers at one moment. Holds none of them: only addresses, sizes and hashes."""

    containers: int
    grown: tuple[Grown, ...]
    seconds_apart: float | None
    _seen: _Columns
    _at: float
    _clock: Callable[[], float]

    def again(self, top: int = 10) -> Reading:
        """A second reading, which ranks the ``top`` containers that have grown most since this one.

        Left out are those that got fewer than ten entries more.
        """
        return _read(self, top, self._clock)

    def __str__(self) -> str:
        if self.seconds_apart is None:
            return f"{self.containers:,} containers; call again() after a while to see which of them have grown"
        if not self.grown:
            return f"none of {self.containers:,} containers has grown in {self.seconds_apart:.1f} s"
        rows = [f"{grown.added:>+12,}  {grown.after:>12,}  {grown.kind:<12}  {grown.held_by}" for grown in self.grown]
        head = f"{self.containers:,} containers, {self.seconds_apart:.1f} s after the reading before"
        return "\n".join([head, f"{'grown by':>12}  {'entries':>12}  {'kind':<12}  held by", *rows])

    def __repr__(self) -> str:
        return f"<Reading of {self.containers} containers, {len(self.grown)} have grown>"


class _Columns:
    """Columns: where a container is, how large, and what it begins and ends with."""

    __slots__ = ("addresses", "firsts", "lasts", "sizes")

    def __init__(self) -> None:
        self.addresses, self.sizes = array("Q"), array("q")
        self.firsts, self.lasts = array("q"), array("q")

    def add(self, container: object, size: int) -> None:
        first, last = _ends(container) if size else (_NOTHING, _NOTHING)
        self.addresses.append(id(container))
        self.sizes.append(size)
        self.firsts.append(first)
        self.lasts.append(last)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A container at whose address a smaller one was."""

    added: int
    size: int
    container: object
    first: int
    last: int

    @property
    def was_empty(self) -> bool:
        return self.size == self.added

    @property
    def is_proven(self) -> bool:
        """Whether it is the container that was there before, and not a new one where the other was freed.

        A deque is taken for the same: as a queue it may have nothing left of what it held.
        """
        base = _base(type(self.container))
        if base is deque or _ends(self.container)[0] == self.first:
            return True
        try:
            entries = itertools.islice(base.__iter__(self.container), _MAX_LOOKED_INTO)
            return any(_mark(entry) == self.last for entry in entries)
        except RuntimeError:  # another thread adds to it
            return True


def growth(*, clock: Callable[[], float] = time.monotonic) -> Reading:
    """A first reading of all live dicts, lists, sets and deques; ``again()`` on it finds those that grow.

    Costs the processor a few passes over all objects that the collector knows, while other threads wait for most of
    the time; see ``docs/reference/audit.md`` for figures. Where an address was freed and used anew between two
    readings, the new container is recognised by its first and last entry.
    """
    return _read(None, 0, clock)


def _read(before: Reading | None, top: int, clock: Callable[[], float]) -> Reading:
    seen = _Columns()
    earlier = {address: row for row, address in enumerate(before._seen.addresses)} if before else {}
    old = before._seen if before else seen
    largest: list[tuple[int, int, _Candidate]] = []
    ours = {id(earlier), id(largest)}
    for number, (container, size) in enumerate(_containers()):
        address = id(container)
        if address in ours:
            continue
        seen.add(container, size)
        row = earlier.get(address)
        if row is None or (added := size - old.sizes[row]) < _LEAST:
            continue
        if len(largest) < top * _CANDIDATES or added > largest[0][0]:
            put = heapq.heappush if len(largest) < top * _CANDIDATES else heapq.heapreplace
            put(largest, (added, -number, _Candidate(added, size, container, old.firsts[row], old.lasts[row])))
    del container
    now = clock()
    apart = None if before is None else now - before._at
    ranked = [candidate for _, _, candidate in sorted(largest, reverse=True)]
    largest.clear()
    return Reading(len(seen.addresses), _named(ranked, top), apart, seen, now, clock)


def _named(ranked: list[_Candidate], top: int) -> tuple[Grown, ...]:
    """The ``top`` candidates with who holds them.

    One that was empty had no first entry to recognise it by: it counts where it has a name of its own, and is no entry.
    """
    shown = [candidate for candidate in ranked if candidate.was_empty or candidate.is_proven][:top]
    if not shown:
        return ()
    containers = [candidate.container for candidate in shown]
    names = held_by(containers, not_by=[ranked, shown, *ranked])
    return tuple(
        Grown(type(candidate.container).__name__, candidate.size - candidate.added, candidate.size, name)
        for candidate, name in zip(shown, names, strict=True)
        if not candidate.was_empty or (name != UNKNOWN and "[" not in name)
    )


def _ends(container: object) -> tuple[int, int]:
    """Marks of the first and last entry: the keys of a dict, and any entry of a set."""
    base = _base(type(container))
    try:
        if base is dict:
            return _mark(next(dict.__iter__(container))), _mark(next(dict.__reversed__(container)))  # type: ignore[arg-type]
        if base is list:
            return _mark(list.__getitem__(container, 0)), _mark(list.__getitem__(container, -1))  # type: ignore[call-overload]
        if base is set:
            mark = _mark(next(set.__iter__(container)))  # type: ignore[arg-type]
            return mark, mark
    except (IndexError, StopIteration, RuntimeError):  # another thread changes it
        pass
    return _NOTHING, _NOTHING


def _mark(entry: object) -> int:
    """By value where that runs no code of others; by address where not."""
    return hash(entry) if type(entry) in _PLAIN else id(entry)


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
            if kind not in measures:  # by the base's own method: a subclass's ``__len__`` could do anything
                measures[kind] = getattr(_base(kind), "__len__", None)
            measure = measures[kind]
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


def _base(kind: type) -> Any:
    return next((base for base in _KINDS if issubclass(kind, base)), None)
