"""The reading side of a process: one snapshot, kept current by one thread, with bodies up to a number of bytes.

The thread looks at the store about once a second, so a new generation is found without a restart, without a request
having to look, and without any lifespan protocol. Requests read one attribute, ``snapshot``.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hotpath.directory import WatchedDirectory
from hotpath.errors import NothingPublished, StoreError
from hotpath.manifest import Item, decode_items
from hotpath.snapshot import Freshness, Page, Snapshot, Variants, is_key, prepare, target_paths
from hotpath.store import Choice, Store

logger = logging.getLogger("hotpath")

# What a page costs in memory beside its bodies: its variants with their header lists, about 1.5 KB a coding.
PAGE_OVERHEAD_BYTES = 4096

# While a generation is loaded the interpreter is given away after this many items, for as long as a waiting thread
# needs to take it: the event loop of the same process goes on answering.
ITEMS_A_BREATH = 200
BREATH_SECONDS = 0.0001

# Files of other programs have to show within two seconds and be seen twice before they count.
DIRECTORY_REFRESH_SECONDS = 0.5


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
        self.snapshot = Snapshot(is_loaded=False)
        self.degraded: str | None = None
        self.corrupt_items = 0
        self._store = store
        self._directories = directories
        self._options = options
        self._clock = clock
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._loaded = False
        self._signature: tuple[object, ...] | None = None
        self._descriptor: int | None = None
        self._freshness: dict[tuple[int, int], Freshness] = {}
        self._sequence: int | None = None
        self._created: int | None = None
        self._generation_pages: dict[bytes, Page] = {}
        # Pages with bodies in memory, with their uses when the hand of the clock last passed (second chance: an
        # approximation of LRU that costs a request nothing but the counter it keeps anyway).
        self._resident: OrderedDict[Page, int] = OrderedDict()
        self._resident_bytes = 0
        self._told: set[str] = set()
        _readers.add(self)

    @property
    def started(self) -> bool:
        """Whether the first load has happened in this process."""
        return self._loaded

    @property
    def body_bytes(self) -> int:
        """Bytes that loaded pages account for."""
        return self._resident_bytes

    def start(self) -> None:
        """Load what there is and keep it current from now on. Idempotent; blocks while loading, so not for a loop."""
        with self._lock:
            if not self._loaded:
                self.refresh()
                if not self.snapshot.is_loaded:
                    self._swap()  # there is nothing yet, and that is known now
                self._loaded = True
            if self._thread is None:
                self._thread = threading.Thread(target=_watch, args=(weakref.ref(self),), name="hotpath", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Let go of the generation's lock and stop watching; the snapshot stays."""
        with self._lock:
            self._thread = None
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def refresh(self) -> bool:
        """Look once; whether a new snapshot is in place."""
        with self._lock:
            now = self._clock()
            changed = False
            signature = self._store.signature()
            if signature != self._signature:
                changed = self._load(now)
                self._signature = signature
            for directory in self._directories:
                changed |= directory.poll(now)
            for freshness in self._freshness.values():
                freshness.update(now)
            for directory in self._directories:
                for page in directory.pages.values():
                    page.freshness.update(now)
            if changed:
                self._swap()
            return changed

    def load_page(self, page: Page) -> Variants | None:
        """The variants of one page, read from disk where they are not in memory. Blocks.

        They are returned, not only kept: the next page that is loaded may already put this one out again. ``None``
        where no valid bytes exist anywhere; the page is taken out then.
        """
        with self._lock:
            if page.variants is None and not self._bring_in(page, self._clock()):
                self._generation_pages = {key: one for key, one in self._generation_pages.items() if one is not page}
                self._swap()
            return page.variants

    def _load(self, now: float) -> bool:
        """Make pages of the generation to serve. On any problem the old ones stay."""
        try:
            choice = self._store.choose()
        except NothingPublished as error:
            if not self._directories:  # a site of watched directories alone never publishes
                self._tell(str(error))
                self.degraded = str(error)
            return False
        except (StoreError, OSError) as error:
            self._tell(f"the store cannot be read, the last generation keeps serving: {error}")
            self.degraded = str(error)
            return False
        freshness: dict[tuple[int, int], Freshness] = {}
        try:
            pages = self._make_pages(choice, freshness, now)
        except StoreError as error:
            os.close(choice.descriptor)
            self._tell(f"generation {choice.sequence} cannot be read, the last one keeps serving: {error}")
            self.degraded = str(error)
            return False
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = choice.descriptor
        self.degraded = choice.degraded
        if choice.degraded:
            self._tell(f"serving generation {choice.sequence}, because {choice.degraded}")
        else:
            self._told.clear()
        self._sequence, self._created, self._freshness = choice.sequence, choice.head.created, freshness
        self._take_in(pages, now)
        return True

    def _make_pages(self, choice: Choice, freshness: dict[tuple[int, int], Freshness], now: float) -> dict[bytes, Page]:
        pages: dict[bytes, Page] = {}
        for count, item in enumerate(decode_items(choice.head, choice.lines, str(choice.path)), start=1):
            if is_key(item.key):
                fresh = _freshness_of(item, choice.head.created, freshness, now)
                pages[item.key.encode("ascii")] = Page(item, choice.sequence, fresh)
            if count % ITEMS_A_BREATH == 0:
                time.sleep(BREATH_SECONDS)
        return pages

    def _take_in(self, pages: dict[bytes, Page], now: float) -> None:
        """Fill the pages from memory where their bytes are known, from disk while there is room."""
        before = self._generation_pages
        resident, self._resident, self._resident_bytes = self._resident, OrderedDict(), 0
        bad = []
        for count, (key, page) in enumerate(pages.items(), start=1):
            old = before.get(key)
            if old is not None and old in resident and _same_bytes(old.item, page.item):
                self._admit(page, old.bodies, now)
            elif self._has_room_for(page) and not self._bring_in(page, now, old):
                bad.append(key)
            if count % ITEMS_A_BREATH == 0:
                time.sleep(BREATH_SECONDS)
        for key in bad:
            del pages[key]
        self._generation_pages = pages

    def _has_room_for(self, page: Page) -> bool:
        return self._resident_bytes + page.weight + PAGE_OVERHEAD_BYTES <= self._options.max_body_bytes

    def _bring_in(self, page: Page, now: float, old: Page | None = None) -> bool:
        """Read and verify the bodies of a page; where they are bad, its last good ones. ``False`` where none are."""
        assert page.generation is not None  # pages of directories are never without bodies
        bodies = self._read_bodies(page.item, page.generation)
        if bodies is None:
            self.corrupt_items += 1
            if old is not None and old.variants is not None:
                page.item, page.generation, page.freshness = old.item, old.generation, old.freshness
                bodies = old.bodies
            else:
                bodies = self._older_bodies(page, now)
            if bodies is None:
                return False
        self._admit(page, bodies, now)
        return True

    def _older_bodies(self, page: Page, now: float) -> dict[str, bytes] | None:
        """The newest valid bytes of a key in the generations before, whose number the page then carries."""
        newest = page.generation or 0
        for sequence in reversed(self._store.sequences()):
            if sequence >= newest:
                continue
            try:
                manifest = self._store.read_manifest(sequence)
            except (StoreError, OSError):
                continue
            item = manifest.items.get(page.item.key)
            bodies = self._read_bodies(item, sequence) if item is not None else None
            if item is not None and bodies is not None:
                page.item, page.generation = item, sequence
                page.freshness = _freshness_of(item, manifest.head.created, self._freshness, now)
                return bodies
        return None

    def _read_bodies(self, item: Item, sequence: int) -> dict[str, bytes] | None:
        """The verified bodies by coding. A bad coding is left out; without a good identity there are none."""
        bodies = {}
        for representation in item.representations:
            path = self._store.files_path(sequence) / representation.file
            try:
                data = self._store.disk.read(path)
                problem = None if hashlib.sha256(data).digest() == representation.sha256 else "its digest differs"
            except (OSError, StoreError) as error:
                problem = str(error)
            if problem is None:
                bodies[representation.coding] = data
            else:
                self._tell(f"{item.key}: {path} is not what was published ({problem})")
                if representation.coding == "identity":
                    return None
        return bodies

    def _admit(self, page: Page, bodies: dict[str, bytes], now: float) -> None:
        prepare(page, bodies, generation_header=self._options.generation_header, now=now)
        self._resident[page] = 0
        self._resident_bytes += page.weight + PAGE_OVERHEAD_BYTES
        while self._resident_bytes > self._options.max_body_bytes and len(self._resident) > 1:
            candidate, seen = self._resident.popitem(last=False)
            uses = candidate.uses
            if candidate is page or uses != seen:
                self._resident[candidate] = uses
            else:
                candidate.variants = None
                self._resident_bytes -= candidate.weight + PAGE_OVERHEAD_BYTES

    def _swap(self) -> None:
        pages = self._generation_pages
        for directory in self._directories:
            pages = {**pages, **directory.pages}
        self.snapshot = Snapshot(
            generation=self._sequence,
            created=self._created,
            pages=pages,
            folded={key: page for key, page in pages.items() if page.item.policy.fold_case},
            query_names=target_paths(pages.values()),
            redirect_slashes=self._options.redirect_slashes,
        )

    def _tell(self, problem: str) -> None:
        """One log line for one problem, not one a second or one a request."""
        if problem not in self._told:
            if len(self._told) < 1000:
                self._told.add(problem)
            logger.warning("%s", problem)

    def _forget_after_fork(self) -> None:
        # Threads do not survive fork(2), and the lock may have been held by one of them.
        self._lock = threading.RLock()
        self._thread = None
        if self._loaded:
            self.start()


def _freshness_of(item: Item, created: int, known: dict[tuple[int, int], Freshness], now: float) -> Freshness:
    """The one ``Freshness`` that all items of the same age and lifetime share."""
    since = item.stale_since if item.stale_since is not None else created
    lifetime = item.policy.lifetime_seconds
    found = known.get((since, lifetime))
    if found is None:
        found = known[since, lifetime] = Freshness(since + lifetime, now)
    return found


def _same_bytes(one: Item, other: Item) -> bool:
    return [r.sha256 for r in one.representations] == [r.sha256 for r in other.representations]


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
    for reader in list(_readers):
        reader._forget_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_restart_after_fork)
