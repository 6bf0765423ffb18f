"""The site's objects: which keys there are, what is in them, and how the pointers are replaced."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

from hotpath.errors import Corrupt, OriginError
from hotpath.store.manifest import Manifest, Representation, decode
from hotpath.store.origin.objects import UNCHANGED, Object, Objects, Unchanged
from hotpath.store.origin.pointers import BAD, COPY, CURRENT, PIN, Bad, Copy, Current, OriginState, Pin
from hotpath.store.pointer import Pointer

BLOBS = "blobs/"
GENERATIONS = "generations/"

# Requests at once. One takes 20 to 100 ms at a large provider, nearly all of it waiting.
THREADS = 16

_Item = TypeVar("_Item")


class _Content(Protocol):
    @classmethod
    def decode(cls, data: bytes) -> Self: ...

    def encode(self) -> bytes: ...


_Kind = TypeVar("_Kind", bound=_Content)


def manifest_key(sequence: int) -> str:
    """``generations/00000042.json``."""
    return f"{GENERATIONS}{sequence:08d}.json"


def blob_key(sha256: bytes) -> str:
    """``blobs/3f/3fa9…``."""
    name = sha256.hex()
    return f"{BLOBS}{name[:2]}/{name}"


def representations(manifest: Manifest) -> dict[bytes, Representation]:
    """Every different file of a generation by its digest."""
    return {each.sha256: each for item in manifest.items.values() for each in item.representations}


@dataclass(frozen=True, slots=True)
class Seen:
    """The pointers as they were read, with the ETags that a change of them is conditional on."""

    state: OriginState
    current_etag: str | None
    pin_etag: str | None
    bad_etag: str | None


class Bucket:
    """An origin's objects by what they mean; all methods raise ``OriginError``."""

    def __init__(self, objects: Objects, *, clock: Callable[[], float], threads: int = THREADS) -> None:
        self.objects = objects
        self.clock = clock
        self._threads = threads

    @property
    def url(self) -> str:
        return self.objects.url

    def read(self) -> Seen:
        """All three pointers. ``CURRENT`` is the first: what belongs to it was written before it."""
        current, current_etag = self._read(CURRENT, Current)
        pin, pin_etag = self._read(PIN, Pin)
        bad, bad_etag = self._read(BAD, Bad)
        return Seen(OriginState(current, pin or Pin(), bad or Bad()), current_etag, pin_etag, bad_etag)

    def look(self, etag: str | None) -> tuple[Current, str] | Unchanged | None:
        """``CURRENT`` with its ETag, unless it still has this one."""
        found = self.objects.get_if_changed(CURRENT, etag) if etag else self.objects.get(CURRENT)
        if found is None or found is UNCHANGED:
            return found
        return self._decoded(CURRENT, Current, found), found.etag

    def pin(self) -> Pin:
        return self._read(PIN, Pin)[0] or Pin()

    def bad(self) -> Bad:
        return self._read(BAD, Bad)[0] or Bad()

    def copy(self) -> tuple[Copy | None, str | None]:
        """What the copy of the site's pages is, with its ETag."""
        return self._read(COPY, Copy)

    def replace(self, key: str, content: _Content, etag: str | None) -> str:
        """Put a pointer in place of the one with this ETag, ``None``: of none. Raises ``OriginConflict``."""
        data = content.encode()
        return self.objects.put_if(key, data, etag) if etag else self.objects.put_new(key, data)

    def manifest_bytes(self, pointer: Pointer) -> bytes:
        """A manifest as it was published."""
        return self._holding(manifest_key(pointer.sequence), pointer.sha256)

    def manifest(self, pointer: Pointer) -> Manifest:
        key = manifest_key(pointer.sequence)
        try:
            return decode(self.manifest_bytes(pointer), key)
        except Corrupt as error:
            raise self.error(error.problem, key, error.fix) from error

    def blob(self, sha256: bytes) -> bytes:
        """The bytes with this digest."""
        return self._holding(blob_key(sha256), sha256)

    def error(self, problem: str, key: str | None = None, fix: str | None = None) -> OriginError:
        """The error about an object that was read and is not as it should be."""
        return OriginError(problem, url=self.url, operation="reading", key=key, fix=fix)

    def each(self, work: Callable[[_Item], object], items: Iterable[_Item]) -> None:
        """Call ``work`` with each item, many at a time; after the first error no other one is begun."""
        remaining = iter(items)
        if self._threads == 1:
            for item in remaining:
                work(item)
            return
        turn, stopped, end = threading.Lock(), threading.Event(), object()

        def drain() -> None:
            try:
                while not stopped.is_set():
                    with turn:
                        item = next(remaining, end)
                    if item is end:
                        return
                    work(item)  # type: ignore[arg-type]
            except BaseException:
                stopped.set()
                raise

        with ThreadPoolExecutor(self._threads, thread_name_prefix="hotpath-origin") as pool:
            drains = [pool.submit(drain) for _ in range(self._threads)]
            try:
                for drained in drains:
                    drained.result()
            except BaseException:  # also an interrupt, which only this thread gets
                stopped.set()
                raise

    def _holding(self, key: str, sha256: bytes) -> bytes:
        found = self.objects.get(key)
        if found is None:
            raise self.error("is missing", key, "send the generation again from a machine that has it")
        if hashlib.sha256(found.data).digest() != sha256:
            raise self.error("is not what was published (its digest differs)", key, "'hotpath verify' lists all of it")
        return found.data

    def _read(self, key: str, kind: type[_Kind]) -> tuple[_Kind | None, str | None]:
        found = self.objects.get(key)
        return (None, None) if found is None else (self._decoded(key, kind, found), found.etag)

    def _decoded(self, key: str, kind: type[_Kind], found: Object) -> _Kind:
        try:
            return kind.decode(found.data)
        except Corrupt as error:
            raise self.error(error.problem, key, error.fix) from error
