"""Send a generation of this machine to the origin: its bytes, its manifest, and then the pointer.

Until ``CURRENT`` is replaced no machine looks at anything of it. What was sent before an interruption is found there
by the next attempt, and not sent again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Protocol

from hotpath.errors import Corrupt, NothingPublished, OriginConflict, OriginError, StoreError
from hotpath.store.manifest import Representation, decode
from hotpath.store.origin.bucket import Bucket, Seen, blob_key, manifest_key, representations
from hotpath.store.origin.pointers import CURRENT, Current
from hotpath.store.pointer import Pointer
from hotpath.store.store import Store

# A prune ends itself after ten minutes, and clocks differ by less than the rest: engines refuse more.
PRUNING_SECONDS = 15 * 60

# Pins, rollbacks and prunes that move CURRENT beside a new generation.
MOVES = 10


@dataclass(frozen=True, slots=True)
class Sent:
    """What a send did: ``blobs`` and ``bytes`` crossed the network. ``already`` says that the origin had it."""

    generation: int
    blobs: int
    bytes: int
    already: bool = False


class SendProgress(Protocol):
    """Is called with what a send is about to send, and with each file that is there; for a progress bar."""

    def start(self, blobs: int, size: int) -> None:
        """So many files of ``size`` bytes together may have to be sent."""

    def sent(self, size: int) -> None:
        """A file of so many bytes is there. Called from several threads, one at a time."""


def send(bucket: Bucket, store: Store, since: Seen | None = None, progress: SendProgress | None = None) -> Sent:
    """Make the current generation of ``store`` that of the origin.

    ``since`` are the pointers as they were before the build began. Raises ``OriginConflict`` where another generation
    was accepted meanwhile, ``OriginError``, ``StoreError`` where this machine's own files are damaged.
    """
    pointer = store.pointer(store.current_path)
    if pointer is None:
        raise NothingPublished("nothing is published here yet", path=store.root, fix="run 'hotpath build TARGET' first")
    sender = Sender(bucket, store, store.generation_path(pointer.sequence), pointer.sha256, progress)

    def send_objects(seen: Seen) -> None:
        sender.send_blobs(seen)
        put_manifest(bucket, pointer, sender.data)

    is_new = accept(bucket, since or bucket.read(), pointer, send_objects)
    return Sent(pointer.sequence, sender.blobs, sender.bytes, already=not is_new)


def accept(
    bucket: Bucket,
    seen: Seen,
    pointer: Pointer,
    send_objects: Callable[[Seen], None],
    reason: str | None = None,
) -> bool:
    """Make ``pointer`` the current one, on the condition that the current generation is the one that was seen.

    ``send_objects`` puts its blobs and its manifest there first; ``reason`` is that of an approval.
    Returns ``False`` where it was accepted before.
    """
    for _ in range(MOVES):
        if _has(seen, pointer):
            return False
        # A person may bring back what is older than a bad one; what a builder has made before that may be bad too.
        _require_newer(bucket, seen, pointer, seen.state.highest if reason is None else seen.state.newest)
        send_objects(seen)
        try:
            _publish(bucket, seen, pointer, reason)
            return True
        except OriginConflict:
            before, seen = seen, bucket.read()
            # Pins, rollbacks of others and prunes replace CURRENT too, and are in nobody's way.
            if not _has(seen, pointer) and current_pointer(seen) != current_pointer(before):
                break
    raise lost(bucket, pointer, CURRENT)


class Sender:
    """What is sent of the generation in ``directory``, and how much it was. ``sha256`` is that of its manifest."""

    def __init__(
        self,
        bucket: Bucket,
        store: Store,
        directory: Path,
        sha256: bytes | None = None,
        progress: SendProgress | None = None,
    ) -> None:
        self._bucket = bucket
        self._store = store
        self._directory = directory
        path = directory / "manifest.json"
        self.data = store.disk.read(path)
        if sha256 is not None and hashlib.sha256(self.data).digest() != sha256:
            raise Corrupt("the manifest is not the one that the pointer names (its digest differs)", path=path)
        self._files = representations(decode(self.data, str(path)))
        self._progress = progress
        self._counting = Lock()
        self.blobs = 0
        self.bytes = 0

    def send_blobs(self, seen: Seen) -> None:
        """Those that the origin lacks."""
        known = self._known(seen)
        lacking = [each for sha256, each in self._files.items() if sha256 not in known]
        if self._progress is not None:
            self._progress.start(len(lacking), sum(each.length for each in lacking))
        self._bucket.each(self._send_blob, lacking)

    def _known(self, seen: Seen) -> set[bytes]:
        """The digests of what the origin has for certain: the files of its current generation."""
        before = current_pointer(seen)
        if before is None:
            return set()
        try:
            manifest = self._store.read_manifest(before.sequence, before.sha256)
        except (StoreError, OSError):
            try:
                manifest = self._bucket.manifest(before)
            except OriginError as error:
                if error.is_transient:
                    raise
                return set()  # damaged there: everything is sent
        return set(representations(manifest))

    def _send_blob(self, file: Representation) -> None:
        path = self._directory / "files" / file.file
        data = self._store.disk.read(path)
        if hashlib.sha256(data).digest() != file.sha256:
            raise Corrupt(
                "is not what was published (its digest differs)", path=path, fix="run 'hotpath verify --repair' first"
            )
        key = blob_key(file.sha256)
        try:
            self._bucket.objects.put_new(key, data)
        except OriginConflict:
            self._bucket.objects.put(key, data)  # other bytes under this digest are damaged ones
        with self._counting:
            self.blobs += 1
            self.bytes += len(data)
            if self._progress is not None:
                self._progress.sent(len(data))


def put_manifest(bucket: Bucket, pointer: Pointer, data: bytes) -> None:
    """Create the manifest. Raises ``OriginConflict`` where another generation has this number."""
    key = manifest_key(pointer.sequence)
    try:
        bucket.objects.put_new(key, data)
    except OriginConflict:
        raise lost(bucket, pointer, key) from None


def _publish(bucket: Bucket, seen: Seen, pointer: Pointer, reason: str | None) -> None:
    state = seen.state
    if state.current is None:
        # Where CURRENT was lost, its PIN and BAD may still be there, and are in force again.
        content = Current.first(pointer, pin=state.pin, bad=state.bad)
    else:
        content = state.current.published(pointer, reason)
    bucket.replace(CURRENT, content, seen.current_etag)


def _require_newer(bucket: Bucket, seen: Seen, pointer: Pointer, newest: int) -> None:
    state = seen.state
    if pointer.sequence <= newest:
        raise OriginConflict(
            f"generation {pointer.sequence} of this machine is not newer than the origin's {newest}",
            url=bucket.url,
            operation="replacing",
            key=CURRENT,
            fix="run 'hotpath follow --once' and build again",
        )
    began = state.current.pruning if state.current else None
    if began is not None and 0 <= bucket.clock() - began < PRUNING_SECONDS:
        raise OriginConflict(
            "old objects are being removed at this moment",
            url=bucket.url,
            operation="replacing",
            key=CURRENT,
            fix="try again in some minutes",
        )


def _has(seen: Seen, pointer: Pointer) -> bool:
    current = seen.state.current
    return current is not None and current.accepted.get(pointer.sequence) == pointer.sha256


def current_pointer(seen: Seen) -> Pointer | None:
    """What ``CURRENT`` names."""
    return seen.state.current.pointer if seen.state.current else None


def lost(bucket: Bucket, pointer: Pointer, key: str) -> OriginConflict:
    """The error of a generation that another machine's came before."""
    return OriginConflict(
        f"another machine was first; generation {pointer.sequence} of this one was not accepted",
        url=bucket.url,
        operation="replacing",
        key=key,
        fix="build again: that goes on from what was accepted",
    )
