"""An object store in memory that fails at a chosen request, in every way that a network and an engine have."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, TypeVar

from hotpath.errors import OriginConflict, OriginError
from hotpath.store.origin.objects import UNCHANGED, Entry, Object, Unchanged
from hotpath.testing import FakeClock

URL = "s3://bucket/site"

Fault = Literal["killed before", "killed after", "500", "503", "409", "412", "timeout", "reset after"]
FAULTS: tuple[Fault, ...] = ("killed before", "killed after", "500", "503", "409", "412", "timeout", "reset after")

_Result = TypeVar("_Result")


class Killed(BaseException):
    """The process that made the request is gone; what it would do on the way out makes no request any more."""


class FakeObjects:
    """Objects by key. The ETag is the digest of the bytes, as S3 makes it: equal bytes bring an ETag back."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self.url = URL
        self.clock = clock or FakeClock()
        self.objects: dict[str, tuple[bytes, float]] = {}
        self.fields: dict[str, dict[str, str]] = {}
        self.requests: list[tuple[str, str]] = []
        self.faults: dict[int, Fault] = {}
        self.on_request: Callable[[str, str], None] = lambda operation, key: None
        self.is_down = False
        self._is_dead = False

    def fail(self, index: int, fault: Fault) -> None:
        """Let the request with this number, counted from now on, fail."""
        self.requests.clear()
        self.faults = {index: fault}

    def heal(self) -> None:
        """No fault any more, and another process than the one that was killed."""
        self.requests.clear()
        self.faults = {}
        self._is_dead = False
        self.is_down = False

    def get(self, key: str) -> Object | None:
        return self._request("get", key, lambda: self._object(key))

    def get_if_changed(self, key: str, etag: str) -> Object | Unchanged | None:
        def get() -> Object | Unchanged | None:
            there = self._object(key)
            return UNCHANGED if there is not None and there.etag == etag else there

        return self._request("get_if_changed", key, get)

    def put_new(self, key: str, data: bytes) -> str:
        return self._request("put_new", key, lambda: self._write("put_new", key, data, self._object(key) is None))

    def put_if(self, key: str, data: bytes, etag: str) -> str:
        def put() -> str:
            there = self._object(key)
            return self._write("put_if", key, data, there is not None and there.etag == etag)

        return self._request("put_if", key, put)

    def put(self, key: str, data: bytes, fields: Mapping[str, str] | None = None) -> None:
        def put() -> None:
            self._write("put", key, data, True)
            self.fields[key] = dict(fields or {})

        self._request("put", key, put)

    def list(self, prefix: str) -> Iterator[Entry]:
        def entries() -> list[Entry]:
            there = sorted(self.objects.items())
            return [Entry(key, len(data), modified) for key, (data, modified) in there if key.startswith(prefix)]

        return iter(self._request("list", prefix, entries))

    def delete(self, keys: Sequence[str]) -> None:
        def delete() -> None:
            for key in keys:
                self.objects.pop(key, None)

        self._request("delete", keys[0], delete)

    def edit(self, key: str, change: Callable[[bytes], bytes]) -> None:
        """Other bytes in place of an object, as nobody of ours would put them."""
        data, modified = self.objects[key]
        self.objects[key] = change(data), modified

    def _object(self, key: str) -> Object | None:
        there = self.objects.get(key)
        return None if there is None else Object(there[0], etag_of(there[0]))

    def _write(self, operation: str, key: str, data: bytes, holds: bool) -> str:
        if not holds:
            raise conflict(operation, key, 412)
        self.objects[key] = data, self.clock()
        return etag_of(data)

    def _request(self, operation: str, key: str, work: Callable[[], _Result]) -> _Result:
        if self._is_dead:
            raise Killed
        fault = self.faults.get(len(self.requests))
        self.requests.append((operation, key))
        self.on_request(operation, key)
        if self.is_down:
            raise transient(operation, key, None)
        if fault is None:
            return work()
        if fault in ("killed after", "reset after"):
            work()
        if fault in ("killed before", "killed after"):
            self._is_dead = True
            raise Killed
        if fault in ("409", "412"):
            raise conflict(operation, key, int(fault))
        raise transient(operation, key, int(fault) if fault.isdigit() else None)


def etag_of(data: bytes) -> str:
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


def conflict(operation: str, key: str, status: int) -> OriginConflict:
    return OriginConflict("another machine was first", url=URL, operation=operation, key=key, status=status)


def transient(operation: str, key: str, status: int | None) -> OriginError:
    return OriginError("no answer", url=URL, operation=operation, key=key, status=status, is_transient=True)
