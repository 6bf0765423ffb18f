"""Keep the copy of a site's pages: plain objects that a CDN serves when every machine is gone.

Objects are put beside each other, so a copy that is interrupted is a mixture of generations. ``COPY`` says of which:
whoever copies writes its generation there before its first object and takes it out after its last one, by
compare-and-swap. Any number may copy at once; who finds at its end that somebody else was there looks again.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from hotpath.errors import OriginConflict, OriginError, StoreError
from hotpath.options import counted
from hotpath.store.manifest import Manifest
from hotpath.store.origin.bucket import Bucket
from hotpath.store.origin.copy_plan import PageObject, SitePages, pages_of, plan
from hotpath.store.origin.pointers import COPY, Copier, Copy
from hotpath.store.origin.prune import BATCH
from hotpath.store.pointer import Pointer
from hotpath.store.store import Store

# A copy of 100,000 pages takes ten minutes. Who takes longer ends itself, and counts as dead an hour later.
MAX_SECONDS = 2 * 3600
DEAD_SECONDS = 3 * 3600

# How often others, or a new generation, may come in between.
ROUNDS = 20

# Pages that a line names; ``Copied.left_out`` has all.
_NAMED = 3


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy did: ``pages`` objects are there now; ``put`` (``bytes``) were sent, ``removed`` others went.

    ``left_out`` are keys of pages that cannot be objects, by the reason; ``fields`` the declared header fields that an
    engine does not send; ``is_unknown`` says that what was there before could not be known: everything was put, and
    pages that are gone may still be there.
    """

    generation: int
    pages: int
    put: int
    removed: int
    bytes: int
    left_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    fields: tuple[str, ...] = ()
    is_unknown: bool = False

    @property
    def notes(self) -> list[str]:
        """What the copy cannot have, a line each: the same every night."""
        lines = []
        for reason, keys in self.left_out.items():
            names = ", ".join(keys[:_NAMED]) + (", …" if len(keys) > _NAMED else "")
            lines.append(f"{counted(len(keys), 'page')} left out of the site copy: {reason} ({names})")
        if self.fields:
            lines.append(f"the site copy is served without {', '.join(self.fields)}: let the CDN add what is needed")
        return lines

    @property
    def warnings(self) -> list[str]:
        """What somebody has to look at, a line each."""
        unknown = "what the site copy was before could not be known: pages that are gone may still be in it"
        return [unknown] if self.is_unknown else []


def copy_site(bucket: Bucket, store: Store | None = None) -> Copied:
    """Make the copy that of the generation which all machines have to serve.

    ``store`` may have its bytes; they come from the origin otherwise. Raises ``OriginError``; the same again does the
    rest.
    """
    copier = _Copier(bucket, store)
    for _ in range(ROUNDS):
        with contextlib.suppress(OriginConflict):
            return copier.copy()
    raise OriginError(
        "other machines go on changing it",
        url=bucket.url,
        operation="replacing",
        key=COPY,
        fix="run the same again",
        is_transient=True,
    )


def update_copy(bucket: Bucket, store: Store | None = None) -> Copied | None:
    """The same where there is a copy; else ``None``, with one request. For whatever moves ``CURRENT``."""
    return copy_site(bucket, store) if bucket.copy()[0] is not None else None


class _Copier:
    """One machine that copies, with what it has done in all of its rounds."""

    def __init__(self, bucket: Bucket, store: Store | None) -> None:
        self._bucket = bucket
        self._store = store
        self._token = secrets.token_hex(8)
        self._since = bucket.clock()
        self._targets: tuple[Pointer, ...] = ()
        self._counting = Lock()
        self._put = self._bytes = self._removed = 0
        self._is_unknown = False

    def copy(self) -> Copied:
        """One round. Raises ``OriginConflict`` where another machine changed ``COPY`` in it."""
        bucket = self._bucket
        pointer = bucket.read().state.chosen
        if pointer is None:
            raise bucket.error("is missing", "CURRENT", "run 'hotpath build TARGET --origin …' first")
        copy, etag = bucket.copy()
        manifest = self._manifest(pointer)
        now = pages_of(manifest)
        if copy is None or copy.copied != pointer or copy.copying:
            copy, etag = self._enter(copy or Copy(0), etag, pointer)
            self._change(manifest, now, copy, pointer)
            bucket.replace(COPY, copy.finished(self._token, pointer, bucket.clock() - DEAD_SECONDS), etag)
        return Copied(
            pointer.sequence,
            len(now.objects),
            self._put,
            self._removed,
            self._bytes,
            now.left_out,
            now.fields,
            self._is_unknown,
        )

    def _enter(self, copy: Copy, etag: str | None, pointer: Pointer) -> tuple[Copy, str]:
        """Say that objects of this generation may be there from now on."""
        if pointer not in self._targets:
            self._targets = (*self._targets, pointer)
        entered = copy.entered(self._token, Copier(int(self._since), self._targets))
        if etag is not None and entered.copying == copy.copying:
            return copy, etag
        return entered, self._bucket.replace(COPY, entered, etag)

    def _change(self, manifest: Manifest, now: SitePages, copy: Copy, pointer: Pointer) -> None:
        before = {target for each in copy.copying.values() for target in each.targets} | {copy.copied}
        changes = plan(now, (self._pages(each) for each in before if each != pointer))
        files = self._files(manifest, {page.sha256 for page in changes.put.values()})
        self._bucket.each(lambda item: self._put_page(*item, files), changes.put.items())
        for start in range(0, len(changes.remove), BATCH):
            self._require_time()
            self._bucket.objects.delete(changes.remove[start : start + BATCH])
        self._removed += len(changes.remove)

    def _pages(self, pointer: Pointer | None) -> SitePages | None:
        """What the copy of a generation was; ``None`` where nobody has its manifest any more."""
        if pointer is None:
            return None
        try:
            return pages_of(self._manifest(pointer))
        except OriginError as error:
            if error.is_transient:
                raise
            self._is_unknown = True
            return None

    def _manifest(self, pointer: Pointer) -> Manifest:
        if self._store is not None:
            with contextlib.suppress(StoreError, OSError):
                return self._store.read_manifest(pointer.sequence, pointer.sha256)
        return self._bucket.manifest(pointer)

    def _files(self, manifest: Manifest, wanted: AbstractSet[bytes]) -> Mapping[bytes, Path]:
        """Where the store has bytes of this generation, if it has it, by their digests."""
        if self._store is None or not wanted:
            return {}
        folder = self._store.files_path(manifest.sequence)
        files = (item.identity for item in manifest.items.values() if item.identity.sha256 in wanted)
        return {file.sha256: folder / file.file for file in files}

    def _put_page(self, key: str, page: PageObject, files: Mapping[bytes, Path]) -> None:
        self._require_time()
        data = self._read(page.sha256, files)
        self._bucket.objects.put(key, data, dict(page.fields))
        with self._counting:
            self._put += 1
            self._bytes += len(data)

    def _read(self, sha256: bytes, files: Mapping[bytes, Path]) -> bytes:
        if self._store is not None and sha256 in files:
            with contextlib.suppress(OSError):
                data = self._store.disk.read(files[sha256])
                if hashlib.sha256(data).digest() == sha256:
                    return data
        return self._bucket.blob(sha256)

    def _require_time(self) -> None:
        if self._bucket.clock() - self._since >= MAX_SECONDS:
            raise OriginError(
                f"this takes longer than {MAX_SECONDS // 3600} hours",
                url=self._bucket.url,
                operation="writing",
                key="pages/",
                fix="run the same again: it goes on from there",
                is_transient=True,
            )
