"""The reading side of a process: one snapshot, kept current by one thread, with bodies up to a number of bytes.

The thread looks at the store about once a second, so a new generation is found without a restart, without a request
having to look, and without any lifespan protocol. Requests read one attribute, ``snapshot``.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import threading
import time
import weakref
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hotpath.errors import Corrupt, NothingPublished, StoreError
from hotpath.serving.loader import PAGES_A_BREATH, Loader, collect_again, cost_of, index_of, no_full_collection
from hotpath.serving.snapshot import UNREAD, Freshness, Page, Snapshot, make_page
from hotpath.serving.watched import Overlay, WatchedDirectory
from hotpath.store.manifest import Head, Item, Manifest, decode_item
from hotpath.store.os_errors import explain
from hotpath.store.store import Choice, Store

logger = logging.getLogger("hotpath")

# What stays of the bodies however short memory is.
LEAST_BODIES = 0.25

# What was wrong may be mended without a new pointer: rights, a disk, the number of open files.
LOOK_AGAIN_SECONDS = 5.0

# How many pages are read again in one look.
MOST_TRIED_A_LOOK = 200

# Decoded manifests take memory, four times what this process keeps of its own generation.
MOST_OLDER_ITEMS = 200_000

# Files of other programs have to show within two seconds and be seen twice before they count.
DIRECTORY_REFRESH_SECONDS = 0.5

_PERCENT = ord("%")


@dataclass(frozen=True, slots=True)
class ReaderOptions:
    """How a process reads: look at the store every ``refresh_seconds``, keep at most ``max_body_bytes`` of bodies."""

    refresh_seconds: float
    max_body_bytes: int
    generation_header: bool
    redirect_slashes: bool


class Reader:
    """Holds the snapshot of one store and its directories. Safe to use from any thread."""

    def __init__(
        self,
        store: Store,
        directories: Sequence[WatchedDirectory],
        options: ReaderOptions,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.snapshot = UNREAD
        self.degraded: str | None = None
        self.pinned = False
        self.corrupt_items = 0
        self._store = store
        self._directories = directories
        self._options = options
        self._clock = clock
        self._lock = threading.RLock()
        self._loader = Loader()
        self._thread: threading.Thread | None = None
        self._loaded = False
        self._signature: tuple[object, ...] | None = None
        # When the store is looked at again though nothing has changed, since something was wrong the last time.
        self._look_again_at = float("inf")
        self._descriptor: int | None = None
        self._freshness: dict[tuple[int, int], Freshness] = {}
        self._kept_freshness: set[Freshness] = set()  # of pages that were kept from a generation before
        # Manifests of older generations, while pages of this one have to be looked for there.
        self._older: dict[int, Manifest] = {}
        # Whether reading failed of what may pass (too many open files); when such pages are tried again.
        self._may_pass = False
        self._try_again_at: dict[bytes, float] = {}
        # How many items expire when, in seconds since the epoch.
        self._expiries: Counter[int] = Counter()
        self._head: Head | None = None
        self._folded: set[bytes] = set()
        self._query_names: dict[bytes, frozenset[str]] = {}
        self._overlay = Overlay(directories)
        # Each key of the generation with its line of the manifest, still undecoded: a line is a quarter of what its
        # decoded item would take, and nothing for the garbage collector to visit.
        self._lines: dict[bytes, bytes] = {}
        self._pages: dict[bytes, Page] = {}
        # What is in ``_pages``, with its uses when the hand of the clock last passed (second chance: an approximation
        # of LRU that costs a request nothing but the counter it keeps anyway).
        self._resident: OrderedDict[bytes, int] = OrderedDict()
        self._resident_bytes = 0
        self._told: set[str] = set()
        _readers.add(self)

    @property
    def started(self) -> bool:
        """Whether the first load has happened in this process."""
        return self._loaded

    @property
    def keys(self) -> list[bytes]:
        """Every key that is served now."""
        return [*self._lines]

    @property
    def built_routes(self) -> frozenset[str]:
        """The routes that the generation was built with; empty where none is loaded."""
        return frozenset(policy.route for policy in self._head.policies) if self._head else frozenset()

    @property
    def body_bytes(self) -> int:
        """Bytes that loaded pages account for."""
        return self._resident_bytes

    @property
    def stale_items(self) -> int:
        """How many items of the generation are past their lifetime now. They are served all the same."""
        now = self._clock()
        return sum(count for expires, count in self._expiries.items() if expires < now)

    def start(self) -> None:
        """Load what there is and keep it current from now on. Idempotent; blocks while loading, so not for a loop."""
        self._loader.run(self._start)

    def close(self) -> None:
        """Let go of the generation's lock and stop watching; the snapshot stays."""
        with self._lock:
            self._thread = None
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None
        self._loader.close()

    def refresh(self) -> bool:
        """Look once; whether a new snapshot is in place. Blocks, so not for a loop."""
        return self._loader.run(self._refresh)

    def load_page(self, key: bytes) -> Page | None:
        """The page of one key, read from disk where it is not in memory. Blocks, so not for a loop.

        It is returned, not only kept: the next page that is loaded may already put this one out again. ``None`` where
        no valid bytes exist anywhere; the key is taken out then.
        """
        return self._loader.run_soon(self._load_page, key)

    def shrink(self, fraction: float) -> int:
        """Keep this share of the bodies at most, now; what was let go of, in bytes. It is read again when asked for.

        A quarter always stays: a page that is asked for all the time would only be read again and again. While a
        generation is loaded nothing is let go of, rather than that somebody waits.
        """
        if not self._lock.acquire(blocking=False):
            return 0
        try:
            before = self._resident_bytes
            self._evict(int(max(fraction, LEAST_BODIES) * self._options.max_body_bytes))
            return before - self._resident_bytes
        finally:
            self._lock.release()

    def _start(self) -> None:
        with self._lock:
            if not self._loaded:
                self._refresh()
                if not self.snapshot.is_loaded:
                    self._swap()  # there is nothing yet, and that is known now
                self._loaded = True
            if self._thread is None:
                self._thread = threading.Thread(target=_watch, args=(weakref.ref(self),), name="hotpath", daemon=True)
                try:
                    self._thread.start()
                except RuntimeError:  # no more threads now
                    self._thread, self._loaded = None, False
                    raise

    def _refresh(self) -> bool:
        with self._lock:
            now = self._clock()
            changed = False
            signature = self._store.signature()
            if signature != self._signature or time.monotonic() >= self._look_again_at:
                with no_full_collection():
                    changed = self._load(now, is_new=signature != self._signature)
                self._signature = signature
                self._look_again_at = time.monotonic() + LOOK_AGAIN_SECONDS if self.degraded else float("inf")
                if changed:
                    self._swap()  # before the directories are looked at, which may fail
            if self._try_again_at:
                self._try_kept(now)
            polled = self._overlay.poll(now)
            for freshness in (*self._freshness.values(), *self._kept_freshness):
                freshness.update(now)
            if polled:
                self._swap()
            return changed or polled

    def _load_page(self, key: bytes) -> Page | None:
        with self._lock:
            page = self._pages.get(key)
            if page is None and self._lines.get(key) and self._try_again_at.get(key, 0.0) <= time.monotonic():
                self._may_pass = False
                page = self._bring_in(key, self._clock())
                if page is not None:
                    self._admit(key, page)
                else:
                    self._lose(key)
            return page

    def _try_kept(self, now: float) -> None:
        """Pages that are older than they would have to be, since reading failed of what may pass: read those again."""
        due = [key for key, at in self._try_again_at.items() if at <= time.monotonic() and key in self._resident]
        for key in due[:MOST_TRIED_A_LOOK]:
            self._may_pass = False
            old = self._pages[key]
            page = self._bring_in(key, now, old)
            if self._may_pass:
                self._try_again_at[key] = time.monotonic() + LOOK_AGAIN_SECONDS
            else:
                del self._try_again_at[key]
            if page is not None and page is not old:
                self._resident_bytes += cost_of(page) - cost_of(old)
                self._pages[key] = page

    def _lose(self, key: bytes) -> None:
        """There are no good bytes of it: for a while where that may pass, else until the next generation."""
        if self._may_pass:
            self._try_again_at[key] = time.monotonic() + LOOK_AGAIN_SECONDS
        else:
            del self._lines[key]

    def _load(self, now: float, *, is_new: bool) -> bool:
        """Make pages of the generation to serve. On any problem the old ones stay.

        ``is_new`` says that something has changed in the store; else what was loaded is not loaded again.
        """
        try:
            choice = self._store.choose()
        except NothingPublished as error:
            # A site of watched directories alone never publishes.
            if not self._directories or self._store.current_path.exists() or self._store.sequences():
                self._tell(str(error))
                self.degraded = str(error)
            return False
        except (StoreError, OSError) as raised:
            told = explain(raised, self._store.root) if isinstance(raised, OSError) else raised
            kept = "every hot page goes to the app" if self.snapshot.generation is None else "what was loaded stays"
            self._tell(f"the store cannot be read, {kept}: {told}")
            self.degraded = str(told)
            return False
        if not is_new and self._is_the_same(choice):
            os.close(choice.descriptor)
            return False
        try:
            index = index_of(choice.head, choice.data, self._loader.breathe)
        except BaseException as error:
            os.close(choice.descriptor)
            if not isinstance(error, ValueError | IndexError | KeyError):
                raise
            self.degraded = f"the lines of {choice.path} are not as a manifest has them ({error!r})"
            self._tell(self.degraded)
            return False
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = choice.descriptor
        self.degraded, self.pinned = choice.degraded, choice.pinned
        if choice.degraded:
            self._tell(f"serving generation {choice.sequence}, because {choice.degraded}")
        else:
            self._told.clear()
        self._head, self._freshness, self._kept_freshness = choice.head, {}, set()
        self._lines, self._expiries, self._folded, self._query_names = index
        self._overlay.forget()
        self._try_again_at.clear()
        try:
            self._fill(now)
        finally:
            self._older.clear()
        return True

    def _is_the_same(self, choice: Choice) -> bool:
        """Whether it was loaded before, with the same to say of it."""
        loaded = self._head.sequence if self._head is not None and self.snapshot.is_loaded else None
        return (choice.sequence, choice.degraded, choice.pinned) == (loaded, self.degraded, self.pinned)

    def _fill(self, now: float) -> None:
        """Pages for a new generation: those that were in memory, then the others in their order while there is room."""
        before, wanted = self._pages, [*self._resident]
        self._pages, self._resident, self._resident_bytes = {}, OrderedDict(), 0
        for count, key in enumerate(itertools.chain(wanted, list(self._lines)), start=1):
            if key not in self._lines or key in self._pages:
                continue
            self._may_pass = False
            page = self._bring_in(key, now, before.get(key))
            if page is None:
                self._lose(key)
            elif self._resident_bytes + cost_of(page) > self._options.max_body_bytes:
                break
            else:
                self._admit(key, page)
            if count % PAGES_A_BREATH == 0:
                self._loader.breathe()

    def _bring_in(self, key: bytes, now: float, old: Page | None = None) -> Page | None:
        """The page of a key of this generation, from verified bytes; where they are bad, from the last good ones."""
        assert self._head is not None
        sequence = self._head.sequence
        try:
            item = decode_item(self._head, self._lines[key], str(self._store.manifest_path(sequence)))
        except Corrupt as error:  # of a version that knows more: this page falls back, the others do not
            self._tell(str(error))
            self.corrupt_items += 1
            return self._keep(old) if old is not None else self._older_page(key.decode("ascii"), sequence, now)
        # One that lacks a coding is read again: that may have been mended.
        if old is not None and old.digests == item.digests and len(old.bodies) == len(item.representations):
            return self._make_page(item, sequence, self._head.created, old.bodies, now)
        bodies = self._read_bodies(item, sequence)
        if bodies is not None:
            return self._make_page(item, sequence, self._head.created, bodies, now)
        self.corrupt_items += key not in self._try_again_at
        return self._keep(old) if old is not None else self._older_page(item.key, sequence, now)

    def _keep(self, old: Page) -> Page:
        """A page of the generation before, in whose place there is nothing good."""
        self._kept_freshness.add(old.freshness)
        return old

    def _older_page(self, key: str, newest: int, now: float) -> Page | None:
        """The newest valid page of a key in the generations before, whose number it then carries."""
        try:
            sequences = self._store.sequences()
        except (StoreError, OSError) as error:  # one page less, and no generation that cannot be loaded
            self._note_passing(error)
            return None
        for sequence in reversed(sequences):
            if sequence >= newest:
                continue
            manifest = self._older_manifest(sequence)
            if manifest is None:
                continue
            item = manifest.items.get(key)
            bodies = self._read_bodies(item, sequence) if item is not None else None
            if item is not None and bodies is not None:
                return self._make_page(item, sequence, manifest.head.created, bodies, now)
        return None

    def _older_manifest(self, sequence: int) -> Manifest | None:
        """Read once for all pages that are looked for there."""
        if sequence not in self._older:
            try:
                manifest = self._store.read_manifest(sequence)
            except (StoreError, OSError) as error:
                self._note_passing(error)
                return None
            if sum(len(one.items) for one in self._older.values()) > MOST_OLDER_ITEMS:
                self._older.clear()
            self._older[sequence] = manifest
        return self._older[sequence]

    def _note_passing(self, error: Exception) -> None:
        # A file that is not there, or not as it was published, does not come back by itself.
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError | NotADirectoryError):
            self._may_pass = True

    def _make_page(self, item: Item, sequence: int, created: int, bodies: Mapping[str, bytes], now: float) -> Page:
        since = item.stale_since if item.stale_since is not None else created
        lifetime = item.policy.lifetime_seconds
        freshness = self._freshness.get((since, lifetime))
        if freshness is None:
            freshness = self._freshness[since, lifetime] = Freshness(since + lifetime, now, self._detail())
        header = self._options.generation_header
        return make_page(item, sequence, freshness, bodies, generation_header=header, now=now)

    def _detail(self) -> bytes:
        return b"degraded" if self.degraded else b"pinned" if self.pinned else b""

    def _read_bodies(self, item: Item, sequence: int) -> dict[str, bytes] | None:
        """The verified bodies by coding. A bad coding is left out; without a good identity there are none."""
        bodies = {}
        for representation in item.representations:
            path = self._store.files_path(sequence) / representation.file
            try:
                data = self._store.disk.read(path)
                problem = None if hashlib.sha256(data).digest() == representation.sha256 else "its digest differs"
            except (OSError, StoreError) as error:
                self._note_passing(error)
                problem = str(error)
            if problem is None:
                bodies[representation.coding] = data
            else:
                self._tell(f"{item.key}: {path} is not what was published ({problem})")
                if representation.coding == "identity":
                    return None
        return bodies

    def _admit(self, key: bytes, page: Page) -> None:
        if self._may_pass:
            self._try_again_at[key] = time.monotonic() + LOOK_AGAIN_SECONDS
        self._pages[key] = page
        self._resident[key] = 0
        self._resident_bytes += cost_of(page)
        self._evict(self._options.max_body_bytes, key)

    def _evict(self, maximum: int, key: bytes | None = None) -> None:
        """Let go of pages until ``maximum`` bytes are left, or one page; never of ``key``, which has just come."""
        while self._resident_bytes > maximum and len(self._resident) > 1:
            candidate, seen = self._resident.popitem(last=False)
            uses = self._pages[candidate].uses
            if candidate == key or uses != seen:
                self._resident[candidate] = uses
            else:
                self._resident_bytes -= cost_of(self._pages.pop(candidate))

    def _swap(self) -> None:
        """Put a snapshot of what there is now in place, with the pages of directories among those of the generation."""
        present, gone = self._overlay.lay(self._lines)
        for key in gone:
            self._pages.pop(key, None)
        for key, page in present.items():
            if self._resident.pop(key, None) is not None:
                self._resident_bytes -= cost_of(self._pages[key])
            self._pages[key] = page
        folded = self._folded | {key for key, page in present.items() if page.policy.fold_case}
        encoded = any(_PERCENT in key for key in self._lines)
        self.snapshot = Snapshot(
            generation=self._head.sequence if self._head else None,
            created=self._head.created if self._head else None,
            keys=self._lines,
            pages=self._pages,
            folded=folded,
            query_names=self._query_names,
            redirect_slashes=self._options.redirect_slashes,
            is_exact=not (folded or encoded or self._options.redirect_slashes),
        )

    def _tell(self, problem: str) -> None:
        """One log line for one problem, not one a second or one a request."""
        if problem not in self._told:
            if len(self._told) < 1000:
                self._told.add(problem)
            logger.warning("hotpath: %s", problem)

    def _forget_after_fork(self) -> None:
        """Start anew with the first request, if one ever comes: most children never serve.

        Threads do not survive fork(2), the lock may have been held by one of them, and it may have been half through
        a change. Bodies that are still what the store says stay, and stay shared with the parent.
        """
        self._lock = threading.RLock()
        self._loader = Loader()
        self._thread = None
        self._signature = None
        self._loaded = False
        self.snapshot = UNREAD


def _watch(reference: weakref.ref[Reader]) -> None:
    """The thread: ends when its reader is gone, was closed, or has another thread."""
    this = threading.current_thread()
    while True:
        reader = reference()
        if reader is None or reader._thread is not this:
            return
        pause = reader._options.refresh_seconds
        if reader._directories:
            pause = min(pause, DIRECTORY_REFRESH_SECONDS)
        try:
            reader.refresh()
        except Exception:  # the watcher must outlive any surprise, or a site would silently stay on old pages
            logger.exception("hotpath: refreshing failed, will try again in %s s", pause)
        del reader
        time.sleep(pause)


_readers: weakref.WeakSet[Reader] = weakref.WeakSet()


def _restart_after_fork() -> None:
    collect_again()  # the load that would do it goes on in the parent
    for reader in list(_readers):
        reader._forget_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_restart_after_fork)
