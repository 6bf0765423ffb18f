"""Read everything that an origin holds of its accepted generations."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock

from hotpath.errors import OriginError, StoreError
from hotpath.store.manifest import Representation
from hotpath.store.origin.bucket import Bucket, blob_key, representations
from hotpath.store.origin.pull import good_bytes, sources
from hotpath.store.pointer import Pointer
from hotpath.store.store import Store


@dataclass(slots=True)
class OriginVerification:
    """What was read and what is wrong with it; ``repaired`` was put there again from this machine's store."""

    generations: int = 0
    blobs: int = 0
    problems: list[str] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        return not self.problems


def verify(bucket: Bucket, store: Store | None = None) -> OriginVerification:
    """Read every accepted generation that is not marked bad.

    With ``store``, what is damaged or missing is put there again where it has it.

    Raises ``OriginError`` where the engine cannot be asked, or ``CURRENT`` cannot be read.
    """
    result = OriginVerification()
    state = bucket.read().state
    if state.current is None:
        return result
    if not state.is_in_force:
        result.problems.append(f"{bucket.url}: a rollback or a pin was interrupted, and is not in force; run it again")
    accepted = state.current.accepted.items()
    pointers = {Pointer(n, sha256) for n, sha256 in accepted if n not in state.bad.marks} | {state.current.pointer}
    if state.pin.pointer is not None:
        pointers.add(state.pin.pointer)
    checks = _Checks(bucket, store, result)
    for pointer in sorted(pointers, key=lambda each: each.sequence):
        checks.check_generation(pointer)
    result.problems.sort()
    return result


class _Checks:
    """The blobs that were read already are not read again: generations share most of them."""

    def __init__(self, bucket: Bucket, store: Store | None, result: OriginVerification) -> None:
        self._bucket = bucket
        self._store = store
        self._result = result
        self._read: set[bytes] = set()
        self._adding = Lock()

    def check_generation(self, pointer: Pointer) -> None:
        try:
            files = representations(self._bucket.manifest(pointer))
        except OriginError as error:
            if error.is_transient:
                raise
            files = self._send_manifest(pointer, error)
        self._result.generations += 1
        wanted = files.keys() - self._read
        here = sources(self._store, wanted, self._store.sequences()) if self._store is not None else {}

        def check(sha256: bytes) -> None:
            try:
                self._bucket.blob(sha256)
            except OriginError as error:
                if error.is_transient:
                    raise
                data = good_bytes(self._store, here[sha256], sha256) if self._store and sha256 in here else None
                self._note(blob_key(sha256), data, error)

        self._bucket.each(check, wanted)
        self._read |= wanted
        self._result.blobs += len(wanted)

    def _send_manifest(self, pointer: Pointer, error: OriginError) -> dict[bytes, Representation]:
        """That of the store again, where it has this generation; the files that it names."""
        assert error.key is not None  # it is about the manifest
        files, data = {}, None
        if self._store is not None:
            try:
                files = representations(self._store.read_manifest(pointer.sequence, pointer.sha256))
                data = self._store.disk.read(self._store.manifest_path(pointer.sequence))
            except (StoreError, OSError):
                files, data = {}, None
        self._note(error.key, data, error)
        return files

    def _note(self, key: str, data: bytes | None, error: OriginError) -> None:
        if data is not None:
            self._bucket.objects.put(key, data)
        with self._adding:
            if data is None:
                self._result.problems.append(str(error))
            else:
                self._result.repaired.append(key)
