"""Bring one generation of the origin into a store: staged, verified byte for byte, and renamed into its place whole.

Nothing here moves a pointer of the store, so nothing here changes what is served.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from hotpath.errors import Corrupt, NothingPublished, StoreError
from hotpath.store import foreign
from hotpath.store.manifest import Manifest, decode
from hotpath.store.origin.bucket import Bucket, blob_key, manifest_key
from hotpath.store.origin.soundness import problem_of
from hotpath.store.pointer import Pointer
from hotpath.store.prune import remove_unread
from hotpath.store.publish import RESERVE_BYTES
from hotpath.store.store import Store

# Blobs of a pull that was interrupted, by their digests, in the root of the store.
KEPT = ".pulled"

# Generations here that bytes are looked for in, the newest. Reading a manifest of 100,000 items takes a second, and
# what is not in these two is nearly always new.
LOOKED_THROUGH = 2


@dataclass(slots=True)
class Pulled:
    """What a pull did: ``blobs`` and ``bytes`` crossed the network, ``linked`` files were here already."""

    blobs: int = 0
    bytes: int = 0
    linked: int = 0


def holds(store: Store, pointer: Pointer) -> bool:
    """Whether the store has the generation that a pointer names, with this very manifest."""
    try:
        return store.pointer_to(pointer.sequence) == pointer
    except (OSError, StoreError):
        return False


def forget_kept(store: Store) -> None:
    """Remove what interrupted pulls have kept. The writer's lock must be held."""
    kept = store.root / KEPT
    if kept.exists():
        store.disk.remove_tree(kept)


def pull(bucket: Bucket, store: Store, pointer: Pointer) -> Pulled:
    """Put the generation in its place below ``generations/``. The writer's lock must be held.

    Raises ``OriginError`` where the origin cannot be read or something there is not what its digest says, ``OSError``,
    or ``StoreError``; then nothing of it stays but the blobs that came, which the next pull does not fetch again.
    """
    data, manifest = _manifest(bucket, pointer)
    if store.generation_path(pointer.sequence).exists():
        _give_way(store, pointer.sequence)
    disk, stage = store.disk, store.root / f".stage-{os.getpid()}"
    with _discarding(store, stage):
        disk.make_directory(stage)
        puller = _Puller(bucket, store, stage / "files", manifest)
        puller.fetch()
        disk.sync_tree(stage)
        path = stage / "manifest.json"
        disk.write_new(path, data)
        disk.sync_file(path)
        disk.write_new(stage / foreign.FILE, f"{bucket.url}\n".encode())
        disk.sync_file(stage / foreign.FILE)
        disk.sync_directory(stage)
        place = store.generation_path(pointer.sequence)
        if place.exists():
            _remove(store, pointer.sequence)
        disk.rename(stage, place)
        disk.sync_directory(store.generations_path)
    return puller.pulled


class _Puller:
    """The files of one generation: second names for what the store has, and the rest from the origin."""

    def __init__(self, bucket: Bucket, store: Store, files: Path, manifest: Manifest) -> None:
        self._bucket = bucket
        self._store = store
        self._disk = store.disk
        self._files = files
        self._names: dict[bytes, list[str]] = {}
        self._lengths: dict[bytes, int] = {}
        for item in manifest.items.values():
            for each in item.representations:
                self._names.setdefault(each.sha256, []).append(each.file)
                self._lengths[each.sha256] = each.length
        self._kept = store.root / KEPT
        self._sources = self._found_kept() | sources(store, self._names.keys(), store.sequences()[-LOOKED_THROUGH:])
        self._counting = Lock()
        self.pulled = Pulled()

    def fetch(self) -> None:
        self._require_room()
        if not self._kept.exists():
            self._disk.make_directory(self._kept)
        self._disk.make_directory(self._files)
        folders = {folder for names in self._names.values() for name in names for folder in _parents(name)}
        for folder in sorted(folders):  # a parent is before its children
            self._disk.make_directory(self._files / folder)
        self._bucket.each(self._fetch, self._names)

    def _require_room(self) -> None:
        lacking = sum(length for sha256, length in self._lengths.items() if sha256 not in self._sources)
        filesystem = os.statvfs(self._store.root)
        free = filesystem.f_bavail * filesystem.f_frsize
        if free < lacking + RESERVE_BYTES:
            raise StoreError(
                f"{free:,} bytes are free, the new generation needs {lacking + RESERVE_BYTES:,}",
                path=self._store.root,
                fix="free some space on this file system, or lower keep=; what is served stays",
            )

    def _fetch(self, sha256: bytes) -> None:
        names = self._names[sha256]
        source = self._sources.get(sha256)
        data = good_bytes(self._store, source, sha256) if source else None
        is_here = source is not None and data is not None
        if source is None or data is None:
            source, data = self._kept / sha256.hex(), self._bucket.blob(sha256)
        if len(data) != self._lengths[sha256]:
            raise self._bucket.error(
                f"the manifest says {self._lengths[sha256]} bytes of {len(data)}", blob_key(sha256), "build again"
            )
        if not is_here:
            self._disk.unlink(source)  # a torn one of a pull that was killed
            self._disk.write_new(source, data)
        for name in names:
            self._link(source, name, data)
        with self._counting:
            self.pulled.linked += len(names) if is_here else len(names) - 1
            if not is_here:
                self.pulled.blobs += 1
                self.pulled.bytes += len(data)

    def _found_kept(self) -> dict[bytes, Path]:
        if not self._kept.exists():
            return {}
        found = {path.name: path for path in self._kept.iterdir()}
        for name in found.keys() - {sha256.hex() for sha256 in self._names}:
            self._disk.unlink(found[name])  # of a generation that nobody asks for any more: room for this one
        return {sha256: found[sha256.hex()] for sha256 in self._names if sha256.hex() in found}

    def _link(self, source: Path, name: str, data: bytes) -> None:
        try:
            self._disk.link(source, self._files / name)
        except OSError:  # another user's file, or as many names as the file system allows
            self._disk.write_new(self._files / name, data)


def _manifest(bucket: Bucket, pointer: Pointer) -> tuple[bytes, Manifest]:
    data = bucket.manifest_bytes(pointer)
    key = manifest_key(pointer.sequence)
    try:
        manifest = decode(data, key)
    except Corrupt as error:
        raise bucket.error(error.problem, key, error.fix) from error
    if manifest.sequence != pointer.sequence:
        raise bucket.error(f"this is the manifest of generation {manifest.sequence}", key)
    problem = problem_of(manifest)
    if problem is not None:
        raise bucket.error(problem, key, "build again on a machine with this version of hotpath")
    return data, manifest


def _give_way(store: Store, sequence: int) -> None:
    """Take what has this number out of use: one of this machine's that lost a race, or whose files are damaged.

    Servers choose another one then, and let go of it within their ``refresh``. Where there is no other one it stays
    what is served until it is replaced.
    """
    if _has_another(store, sequence):
        marks = _marks(store)
        if sequence not in marks:
            store.mark_bad({**marks, sequence: "another generation with this number was accepted at the origin"})
            with contextlib.suppress(NothingPublished):
                store.link_current(store.chosen_sequence())


def _remove(store: Store, sequence: int) -> None:
    """Remove what has this number. Where servers could use another one and still read this, raises ``StoreError``."""
    place = store.generation_path(sequence)
    if not _has_another(store, sequence):
        # Servers go on with what they have in memory until they have looked again.
        trash = store.root / f".trash-{sequence}"
        store.disk.rename(place, trash)
        store.disk.remove_tree(trash)
    elif not remove_unread(store, sequence, may_be_read=False):
        raise StoreError(
            f"generation {sequence} of this machine is not the accepted one, and is still read",
            path=place,
            fix="it is replaced when servers have looked again",
        )


def _has_another(store: Store, sequence: int) -> bool:
    """Whether a generation can be served in place of the one with this number."""
    bad = _marks(store)
    for other in reversed(store.sequences()):
        if other != sequence and other not in bad:
            with contextlib.suppress(OSError, StoreError):
                store.read_manifest(other)
                return True
    return False


def _marks(store: Store) -> dict[int, str]:
    try:
        return store.bad()
    except StoreError:
        return {}  # the origin's take the place of damaged ones


def sources(store: Store, wanted: Iterable[bytes], sequences: Sequence[int]) -> dict[bytes, Path]:
    """Files of these generations that should have these digests."""
    missing, sources = set(wanted), {}
    for sequence in reversed(sequences):
        if not missing:
            break
        try:
            manifest = store.read_manifest(sequence)
        except (OSError, StoreError):
            continue
        for item in manifest.items.values():
            for each in item.representations:
                if each.sha256 in missing:
                    missing.discard(each.sha256)
                    sources[each.sha256] = store.files_path(sequence) / each.file
    return sources


def good_bytes(store: Store, path: Path, sha256: bytes) -> bytes | None:
    try:
        data = store.disk.read(path)
    except (OSError, StoreError):
        return None
    return data if hashlib.sha256(data).digest() == sha256 else None


def _parents(name: str) -> Iterator[str]:
    folder = name.rpartition("/")[0]
    while folder:
        yield folder
        folder = folder.rpartition("/")[0]


@contextmanager
def _discarding(store: Store, stage: Path) -> Iterator[None]:
    try:
        yield
    finally:
        if stage.exists():
            with contextlib.suppress(OSError):  # the next writer removes it; the first error is the one to tell
                store.disk.remove_tree(stage)
