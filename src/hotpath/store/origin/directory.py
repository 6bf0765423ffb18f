"""``Objects`` in a directory: a mounted share that several machines have, or a test without an engine.

obstore's own has no compare-and-swap. Here a lock makes it, so the file system must have locks that all machines see.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from hotpath.errors import OriginConflict, OriginError
from hotpath.store.origin.objects import UNCHANGED, Entry, Object, Unchanged
from hotpath.store.origin.url import OriginUrl
from hotpath.store.os_errors import explain

# No key begins so.
_PRIVATE = ".hotpath-"


class DirectoryObjects:
    """The directory of a ``file:///…`` URL. The ETag of an object is the digest of its bytes."""

    def __init__(self, url: OriginUrl) -> None:
        self.url = str(url)
        self._root = Path("/", url.prefix)

    def get(self, key: str) -> Object | None:
        with self._explained("reading", key):
            try:
                data = (self._root / key).read_bytes()
            except FileNotFoundError:
                return None
            return Object(data, _etag_of(data))

    def get_if_changed(self, key: str, etag: str) -> Object | Unchanged | None:
        found = self.get(key)
        return UNCHANGED if found is not None and found.etag == etag else found

    def put_new(self, key: str, data: bytes) -> str:
        with self._explained("creating", key), self._written(key, data) as temporary:
            try:
                os.link(temporary, self._root / key)
            except FileExistsError:
                raise self._conflict("creating", key) from None
        return _etag_of(data)

    def put_if(self, key: str, data: bytes, etag: str) -> str:
        with self._explained("replacing", key), self._locked():
            there = self.get(key)
            if there is None or there.etag != etag:
                raise self._conflict("replacing", key)
            with self._written(key, data) as temporary:
                temporary.replace(self._root / key)
        return _etag_of(data)

    def put(self, key: str, data: bytes, fields: Mapping[str, str] | None = None) -> None:
        assert not fields  # files have none, and the URL is refused for whom needs them
        with self._explained("writing", key), self._written(key, data) as temporary:
            temporary.replace(self._root / key)

    def list(self, prefix: str) -> Iterator[Entry]:
        with self._explained("listing", prefix):
            entries = []
            for path in sorted((self._root / prefix).rglob("*")):
                with suppress(FileNotFoundError):  # removed since
                    state = path.stat()
                    if stat.S_ISREG(state.st_mode) and not path.name.startswith(_PRIVATE):
                        entries.append(Entry(path.relative_to(self._root).as_posix(), state.st_size, state.st_mtime))
        return iter(entries)

    def delete(self, keys: Sequence[str]) -> None:
        with self._explained("removing", keys[0]):
            for key in keys:
                (self._root / key).unlink(missing_ok=True)

    @contextmanager
    def _written(self, key: str, data: bytes) -> Iterator[Path]:
        """A file with these bytes, to be given the name of ``key``; both are durable afterwards."""
        folder = (self._root / key).parent
        missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f"{_PRIVATE}{secrets.token_hex(8)}"  # machines have equal process numbers
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield temporary
            # The name too, before a pointer can lead to it, and those of new folders.
            for changed in (folder, *(parent.parent for parent in missing)):
                _sync(changed)
        finally:
            temporary.unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self._root / f"{_PRIVATE}lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def _explained(self, operation: str, key: str) -> Iterator[None]:
        if not self._root.is_dir():  # else a share that is not mounted would be an empty origin
            raise OriginError(
                "there is no such directory",
                url=self.url,
                operation=operation,
                key=key,
                fix="mount the share that the machines have in common, or make the directory",
            )
        try:
            yield
        except OSError as error:
            problem = explain(error, self._root)
            raise OriginError(
                f"{problem.path}: {problem.problem}", url=self.url, operation=operation, key=key, fix=problem.fix
            ) from error

    def _conflict(self, operation: str, key: str) -> OriginConflict:
        return OriginConflict("another machine was first", url=self.url, operation=operation, key=key, fix="try again")


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _etag_of(data: bytes) -> str:
    return f'"{hashlib.sha256(data).hexdigest()}"'
