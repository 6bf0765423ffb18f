"""Objects by their keys: the few requests that an origin is made of, and what is done when one of them fails.

A request may fail and have taken effect all the same: the answer was lost, not the write. So after each refused
condition the object is read back, and what this writer wrote itself is no conflict.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from hotpath.errors import OriginConflict, OriginError

# A restart of an engine takes seconds; what is gone for longer is for the next look, or for a person.
ATTEMPTS = 6
FIRST_PAUSE_SECONDS = 0.2
MAX_PAUSE_SECONDS = 5.0
MAX_SECONDS = 60.0

_Result = TypeVar("_Result")


class _Same(enum.Enum):
    UNCHANGED = "unchanged"


UNCHANGED = _Same.UNCHANGED
Unchanged = Literal[_Same.UNCHANGED]


@dataclass(frozen=True, slots=True)
class Object:
    """The bytes of an object, and the ETag that they had when they were read."""

    data: bytes
    etag: str


@dataclass(frozen=True, slots=True)
class Entry:
    """An object in a list. ``modified`` is the engine's time, seconds since the epoch."""

    key: str
    length: int
    modified: float


class Objects(Protocol):
    """An object store with compare-and-swap. Keys are relative to the site's prefix.

    Every method raises ``OriginError``; one with ``is_transient`` may have taken effect.
    """

    url: str

    def get(self, key: str) -> Object | None:
        """The object, ``None`` where there is none."""

    def get_if_changed(self, key: str, etag: str) -> Object | Unchanged | None:
        """The object unless it still has this ETag."""

    def put_new(self, key: str, data: bytes) -> str:
        """Create an object; returns its ETag. Raises ``OriginConflict`` where there is one."""

    def put_if(self, key: str, data: bytes, etag: str) -> str:
        """Replace the object that has this ETag; returns the new one. Raises ``OriginConflict`` for any other."""

    def put(self, key: str, data: bytes, fields: Mapping[str, str] | None = None) -> None:
        """Create or replace an object; ``fields`` are the header fields that it is served with."""

    def list(self, prefix: str) -> Iterator[Entry]:
        """Every object whose key begins with ``prefix``, a folder's name with its slash."""

    def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; one that is not there is not an error."""


class Retrying:
    """``Objects`` whose every request is tried again, a bounded number of times, where that may help.

    ``sleep``, ``random`` (0 to 1) and ``monotonic`` are for tests and simulations.
    """

    def __init__(
        self,
        objects: Objects,
        *,
        sleep: Callable[[float], object],
        random: Callable[[], float],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url = objects.url
        self._objects = objects
        self._sleep = sleep
        self._random = random
        self._monotonic = monotonic

    def get(self, key: str) -> Object | None:
        return self._try(lambda: self._objects.get(key))

    def get_if_changed(self, key: str, etag: str) -> Object | Unchanged | None:
        return self._try(lambda: self._objects.get_if_changed(key, etag))

    def put_new(self, key: str, data: bytes) -> str:
        def put() -> str:
            try:
                return self._objects.put_new(key, data)
            except OriginConflict as conflict:
                there = self._objects.get(key)
                if there is None:
                    raise _again(conflict) from conflict
                if there.data != data:
                    raise
                return there.etag

        return self._try(put)

    def put_if(self, key: str, data: bytes, etag: str) -> str:
        def put() -> str:
            try:
                return self._objects.put_if(key, data, etag)
            except OriginConflict as conflict:
                there = self._objects.get(key)
                if there is not None and there.data == data:
                    return there.etag
                if there is not None and there.etag == etag:
                    raise _again(conflict) from conflict
                raise

        return self._try(put)

    def put(self, key: str, data: bytes, fields: Mapping[str, str] | None = None) -> None:
        self._try(lambda: self._objects.put(key, data, fields))

    def list(self, prefix: str) -> Iterator[Entry]:
        return iter(self._try(lambda: [*self._objects.list(prefix)]))

    def delete(self, keys: Sequence[str]) -> None:
        self._try(lambda: self._objects.delete(keys))

    def _try(self, request: Callable[[], _Result]) -> _Result:
        """Full jitter, so that machines that failed together do not come back together (AWS, "Exponential Backoff")."""
        end = self._monotonic() + MAX_SECONDS
        for attempt in range(ATTEMPTS - 1):
            try:
                return request()
            except OriginError as error:
                if not error.is_transient or self._monotonic() >= end:
                    raise
            self._sleep(self._random() * min(MAX_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2**attempt))
        return request()


def _again(conflict: OriginConflict) -> OriginError:
    """A condition that was refused and does hold: S3's 409 asks for another attempt in these words."""
    return OriginError(
        "the engine refused a condition that holds",
        url=conflict.url,
        operation=conflict.operation,
        key=conflict.key,
        status=conflict.status,
        reason=conflict.reason,
        fix="try again",
        is_transient=True,
    )
