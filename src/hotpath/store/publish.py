"""Publish a generation: lock, stage, hash, sync, manifest last, rename, pointer, prune.

Until the pointer is replaced nothing a reader looks at has changed; whatever goes wrong before that discards the
stage and leaves the store as it was.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hotpath.errors import Corrupt, Implausible, IsolatedFailure, ItemError, StoreError
from hotpath.pages.codings import SUFFIXES, Coding, available, encode_all
from hotpath.pages.file_names import MAX_NAME_BYTES, PRECOMPRESSED, length_problem
from hotpath.pages.policy import Policy
from hotpath.pages.site_wide import SiteWide
from hotpath.process.fork import run_isolated
from hotpath.process.signals import uninterrupted
from hotpath.store.directories import closed_to_others, longest_prefix_bytes
from hotpath.store.manifest import Head, Item, Manifest, Representation, decode, encode, encode_item
from hotpath.store.os_errors import explain
from hotpath.store.prune import tidy
from hotpath.store.quarantine import quarantine
from hotpath.store.store import Store

# The preflight wants room for the last generation once more, a fifth of it for growth, and this much for the rest.
RESERVE_BYTES = 1024 * 1024

# A validator compares counts; it is stuck where it needs more than this.
VALIDATION_SECONDS = 60.0
VALIDATION_MEMORY_BYTES = 512 * 1024 * 1024

Validator = Callable[[Manifest, Manifest | None], list[str]]


@dataclass(frozen=True, slots=True)
class Published:
    """What a publish did: ``unchanged`` items kept bytes, ETag and Last-Modified; ``bytes`` are of all codings."""

    generation: int
    items: int
    unchanged: int
    bytes: int
    warnings: tuple[str, ...]


class Stage:
    """A generation in the making. Made by ``staging``; add items, then publish once."""

    def __init__(
        self,
        store: Store,
        directory: Path,
        previous: Manifest | None,
        codings: tuple[Coding, ...],
        warnings: Sequence[str] = (),
        site: SiteWide | None = None,
    ) -> None:
        self._store = store
        self._site = site
        self._disk = store.disk
        self._directory = directory
        self._files = directory / "files"
        self._previous = previous
        self._warnings = warnings
        self.codings = codings
        self._coding_names = tuple(coding.name for coding in codings)
        # As lines of the manifest, which are a quarter of what the items would take.
        self._lines: dict[str, bytes] = {}
        self._policies: list[Policy] = []
        self._bytes = 0
        self._names: set[str] = set()
        # Files of items that have the name of a coding, by the file that it would be a coding of.
        self._codings_of: dict[str, str] = {}
        self._directories = {""}
        # Below an encrypted directory a name may be shorter: eCryptfs has 143 bytes. A file system may name no limit.
        with store.explained():
            self._max_name_bytes = min(os.statvfs(directory).f_namemax or MAX_NAME_BYTES, MAX_NAME_BYTES)
        self._prefix_bytes = longest_prefix_bytes(store.root)
        self._unchanged = 0
        self.now = int(store.clock())

    def add(
        self,
        key: str,
        file: str,
        body: bytes,
        policy: Policy,
        metrics: Mapping[str, int] | None = None,
        encoded: Mapping[str, bytes] | None = None,
    ) -> Item:
        """Write one item in all its codings; ``encoded`` are those of the stage where they were made already.

        An item whose bytes are those of the generation before takes over its files, its codings and its
        ``Last-Modified``. Raises ``ItemError`` when another item has the same key or file, or its file's name is too
        long for the file system; then nothing of it was written.
        """
        self._require_new(key, file)
        digest = hashlib.sha256(body).digest()
        self._make_parents(file)
        before = self._previous.items.get(key) if self._previous else None
        unchanged = before is not None and before.identity.sha256 == digest
        last_modified = before.last_modified if before is not None and unchanged else self.now
        representations = None
        if before is not None and unchanged and before.policy.media_type == policy.media_type:
            representations = self._take_over(before, file)
        if representations is None:
            if encoded is None:
                encoded = encode_all(body, policy.media_type, self.codings)
            representations = self._write(file, body, digest, encoded)
        # A clock that went back must not give a date later than now (RFC 9110 §8.8.2.1).
        item = Item(key, policy, representations, min(last_modified, self.now), None, metrics)
        self._enter(item)
        self._unchanged += unchanged
        return item

    def carry(self, key: str, file: str, policy: Policy, *, stale: bool = True) -> Item | None:
        """The item as it is in the generation before, or ``None`` where that has no good bytes of it.

        Also ``None`` for an item that ``add`` would refuse: its error is raised there, and once.
        ``stale`` marks it ``stale_since`` the time it was last made, so that every answer says how old it is.
        """
        try:
            self._require_new(key, file)
        except ItemError:
            return None
        before = self._previous.items.get(key) if self._previous else None
        if self._previous is None or before is None or before.policy.media_type != policy.media_type:
            return None
        self._make_parents(file)
        representations = self._take_over(before, file, any_codings=True)
        if representations is None:
            return None
        since = before.stale_since
        if stale and since is None:
            since = self._previous.head.created
        item = Item(key, policy, representations, min(before.last_modified, self.now), since, before.metrics)
        self._enter(item)
        self._unchanged += 1
        return item

    def _require_new(self, key: str, file: str) -> None:
        for name, taken, what in ((key, self._lines, "key"), (file, self._names, "file")):
            if name in taken:
                raise ItemError(f"two items have the {what} {name!r}; make their parameters differ", key=key)
        problem = length_problem(file, prefix_bytes=self._prefix_bytes, max_name_bytes=self._max_name_bytes)
        if problem is not None:
            raise ItemError(f"{problem}; give it a shorter name", key=key)
        other = self._codings_of.get(file)
        if other is not None:
            raise ItemError(
                f"the file {other!r} of another item has the name of a coding of {file!r}; rename one", key=key
            )
        is_new_folder = file.rpartition("/")[0] not in self._directories
        folders = [file[:place] for place, letter in enumerate(file) if letter == "/"] if is_new_folder else ()
        if file in self._directories or not self._names.isdisjoint(folders):
            raise ItemError(
                f"the file {file!r} and that of another item need one name as a file and as a folder; "
                "give files an ending (file='….json')",
                key=key,
            )
        if any(part in ("", ".", "..") for part in file.split("/")):
            raise ItemError(
                f"the file {file!r} could leave the generation; write a relative name without '..'", key=key
            )
        if file.endswith(PRECOMPRESSED):
            self._codings_of[file.rpartition(".")[0]] = file

    def _enter(self, item: Item) -> None:
        if item.policy not in self._policies:
            self._policies.append(item.policy)
        self._lines[item.key] = encode_item(item, self._policies)
        for representation in item.representations:
            self._names.add(representation.file)
            self._bytes += representation.length

    @property
    def previous(self) -> Manifest | None:
        """The generation before: what unchanged and failed items are taken over from."""
        return self._previous

    def publish(
        self,
        validate: Validator | None = None,
        *,
        problems: Sequence[str] = (),
        timeout_seconds: float = VALIDATION_SECONDS,
    ) -> Published:
        """Make the stage the current generation, when there are no ``problems`` and ``validate`` finds none.

        ``validate`` gets the new manifest and the one before, and returns problems; it runs in a process of its own
        for at most ``timeout_seconds``, and one that raises, hangs or eats memory counts as a problem. Raises
        ``Implausible`` when there are any (the stage is in quarantine then), or ``StoreError``; nothing has changed.
        """
        store = self._store
        if not self._lines:
            raise StoreError("there is nothing to publish: no item was added", path=store.root)
        with self._store.explained():
            sequence = store.next_sequence()
        manifest = self._write_manifest(sequence)
        problems = [*problems, *(self._validate(validate, manifest, timeout_seconds) if validate else ())]
        if problems:
            with self._store.explained():
                where = quarantine(store, self._directory, sequence, problems)
            raise Implausible(sequence, problems, path=where / "report.json")
        record: dict[str, object] = {
            "event": "publish",
            "sequence": sequence,
            "accepted": True,
            "items": len(self._lines),
            "unchanged": self._unchanged,
            "bytes": self._bytes,
        }
        with uninterrupted():
            self._commit(sequence)
            warnings = [*self._warnings, *tidy(store, record)]
        return Published(sequence, len(self._lines), self._unchanged, self._bytes, tuple(warnings))

    def _write_manifest(self, sequence: int) -> Manifest:
        """Everything else is durable before the manifest is written, and it is read again before anybody needs it."""
        disk, path = self._disk, self._directory / "manifest.json"
        parent = self._previous.sequence if self._previous else None
        head = Head(sequence, self.now, parent, self._coding_names, tuple(self._policies), self._site)
        data = b"".join(encode(head, self._lines.values()))
        with self._store.explained():
            disk.sync_tree(self._directory)
            disk.write_new(path, data)
            disk.sync_file(path)
            disk.sync_directory(self._directory)
            if disk.read(path) != data:
                raise Corrupt("the manifest reads back other than it was written", path=path)
        return decode(data, str(path))

    def _commit(self, sequence: int) -> None:
        """Put the stage in its place and move the pointer; after an error, see and say which generation is current."""
        store, disk = self._store, self._disk
        place = store.generation_path(sequence)
        try:
            disk.rename(self._directory, place)
            disk.sync_directory(store.generations_path)
            store.commit(sequence)
        except OSError as error:
            if _is_current(store, sequence):
                raise StoreError(
                    f"generation {sequence} is current and valid, but could not be made durable "
                    f"({error.strerror or error}): after a power loss the one before may be served again",
                    path=error.filename or store.root,
                    fix="look at the kernel's log (dmesg), then build again; nothing was pruned",
                ) from error
            with contextlib.suppress(OSError):  # a stage again, which is discarded; the first error is the one to tell
                disk.rename(place, self._directory)
            raise explain(error, store.root) from error

    def _validate(self, validate: Validator, manifest: Manifest, timeout_seconds: float) -> list[str]:
        def problems_of() -> list[str]:
            return [str(problem) for problem in validate(manifest, self._previous)]

        try:
            problems: list[str] = run_isolated(
                problems_of, timeout_seconds=timeout_seconds, memory_bytes=VALIDATION_MEMORY_BYTES
            )
        except IsolatedFailure as failure:
            return [f"the validator {failure}"]
        return problems

    def _write(self, file: str, body: bytes, digest: bytes, encoded: Mapping[str, bytes]) -> tuple[Representation, ...]:
        representations = [Representation("identity", file, len(body), digest)]
        with self._store.explained():
            self._disk.write_new(self._files / file, body)
            for coding, data in encoded.items():
                name = file + SUFFIXES[coding]
                self._disk.write_new(self._files / name, data)
                representations.append(Representation(coding, name, len(data), hashlib.sha256(data).digest()))
        return tuple(representations)

    def _take_over(self, before: Item, file: str, *, any_codings: bool = False) -> tuple[Representation, ...] | None:
        """Second names for the files of the generation before, or ``None`` where they are not what they were."""
        assert self._previous is not None
        if not any_codings and self._previous.head.codings != self._coding_names:
            return None  # an extra was installed or removed since
        source = self._store.files_path(self._previous.sequence)
        taken: list[Representation] = []
        for representation in before.representations:
            data = self._good_bytes(source / representation.file, representation.sha256)
            if data is None and any_codings and representation.coding != "identity":
                continue
            with self._store.explained():
                if data is None:
                    for other in taken:
                        self._disk.unlink(self._files / other.file)
                    return None
                name = file + SUFFIXES[representation.coding]
                try:
                    self._disk.link(source / representation.file, self._files / name)
                except OSError:  # another user's file, or another file system
                    self._disk.write_new(self._files / name, data)
            taken.append(Representation(representation.coding, name, representation.length, representation.sha256))
        return tuple(taken)

    def _good_bytes(self, path: Path, sha256: bytes) -> bytes | None:
        try:
            data = self._disk.read(path)
        except (OSError, StoreError):
            return None
        return data if hashlib.sha256(data).digest() == sha256 else None

    def _make_parents(self, file: str) -> None:
        directory = file.rpartition("/")[0]
        missing = []
        while directory not in self._directories:
            missing.append(directory)
            directory = directory.rpartition("/")[0]
        if missing:
            with self._store.explained():
                for parent in reversed(missing):
                    self._disk.make_directory(self._files / parent)
                    self._directories.add(parent)


@contextmanager
def staging(store: Store, site: SiteWide | None = None) -> Iterator[Stage]:
    """Take the writer's lock and open a stage; what is not published when the block ends is discarded.

    ``site`` is what is declared for all pages, for readers that have only the store.

    Raises ``StoreBusy`` where another process is publishing, ``StoreError`` where the store cannot be written.
    """
    with store.locked():
        with store.explained():
            previous = _previous(store)
            _preflight(store, previous)
            warnings = [*closed_to_others(store.root)]
        directory = store.root / f".stage-{os.getpid()}"
        try:
            with store.explained():
                store.disk.make_directory(directory)
                store.disk.make_directory(directory / "files")
            yield Stage(store, directory, previous, available(), warnings, site)
        finally:
            if directory.exists():
                with contextlib.suppress(OSError):  # the next writer removes it; the first error is the one to tell
                    store.disk.remove_tree(directory)


def _is_current(store: Store, sequence: int) -> bool:
    """Whether readers see this generation as the current one. Raises ``StoreError`` where that cannot be found out."""
    try:
        pointer = store.pointer(store.current_path)
        if pointer is None or pointer.sequence != sequence:
            return False
        store.read_manifest(sequence, pointer.sha256)
    except (OSError, StoreError) as error:
        raise StoreError(
            f"making generation {sequence} current failed, then {error}: it is not known which one is current",
            path=store.current_path,
            fix="look at the kernel's log (dmesg), then see 'hotpath status'",
        ) from error
    return True


def _previous(store: Store) -> Manifest | None:
    """The newest generation that is not marked bad and whose manifest holds: what items are taken over from."""
    bad = store.bad()
    for sequence in reversed(store.sequences()):
        if sequence in bad:
            continue
        try:
            return store.read_manifest(sequence)
        except (StoreError, OSError):
            continue
    return None


def needed_bytes(last: int) -> int:
    """Room for a new generation beside one of ``last`` bytes."""
    return last + last // 5 + RESERVE_BYTES


def _preflight(store: Store, previous: Manifest | None) -> None:
    last = (
        sum(representation.length for item in previous.items.values() for representation in item.representations)
        if previous
        else 0
    )
    needed = needed_bytes(last)
    filesystem = os.statvfs(store.root)
    free = filesystem.f_bavail * filesystem.f_frsize
    if free < needed:
        raise StoreError(
            f"{free:,} bytes are free, a new generation needs {needed:,}",
            path=store.root,
            fix="free some space on this file system, or lower keep=; nothing was changed",
        )
