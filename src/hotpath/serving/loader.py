"""From a store on disk to the snapshot that requests are answered from."""

from __future__ import annotations

import functools
import itertools
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from hotpath.errors import NothingPublished, StoreError
from hotpath.log import Once
from hotpath.pages.site_wide import ReadOptions, SiteWide
from hotpath.serving.index import Index
from hotpath.serving.loading_thread import full_collections
from hotpath.serving.page_cache import PageCache
from hotpath.serving.page_source import RETRY_SECONDS, PageSource
from hotpath.serving.snapshot import UNREAD, Page, Snapshot, static_headers
from hotpath.serving.usage import Usage
from hotpath.serving.watched import Overlay
from hotpath.site import Directory, directories_of
from hotpath.store.foreign import is_foreign
from hotpath.store.locks import hold
from hotpath.store.os_errors import explain
from hotpath.store.store import Choice, Store
from hotpath.types import Header

# Minimum share of the bodies that stays in memory.
MIN_BODIES = 0.25

# Pages between two pauses of a load.
PAGES_PER_PAUSE = 20

# Maximum pages that are read again at one look after a transient failure.
MAX_RETRIES_PER_LOOK = 200

_PERCENT = ord("%")


class Loader:
    """Holds the snapshot of one store and its directories, and replaces it when these change.

    All methods may be called from any thread; those that read the disk block, so they are not for an event loop.
    ``degraded`` says why another generation than the wanted one is served, or is ``None``. ``pause`` is called every
    now and then during a long load. ``clock`` gives seconds since the epoch. With ``on_site`` the
    directories and options are those that the manifest of a generation names, and it is called with them.
    """

    def __init__(
        self,
        store: Store,
        directories: Sequence[Directory],
        options: ReadOptions,
        *,
        pause: Callable[[], None],
        clock: Callable[[], float] = time.time,
        on_site: Callable[[SiteWide], None] | None = None,
    ) -> None:
        self.snapshot = UNREAD
        self.degraded: str | None = None
        self.pinned = False
        self.clock = clock
        self._store = store
        self._directories = directories
        self._options = options
        self._on_site = on_site
        self.pause = pause
        self._once = Once()
        self._lock = threading.RLock()
        self._overlay = Overlay(directories, options)
        self.usage = Usage()
        self._cache = PageCache(options.max_body_bytes, self._retire)
        self._source = PageSource(store, Index(), self._once, options)
        self._signature: tuple[object, ...] | None = None
        # When the store is looked at again though nothing has changed, since something was wrong the last time.
        self._look_again_at = float("inf")
        # Of the manifest, with the lock that keeps the generation from being pruned where that could be had.
        self._descriptor: int | None = None
        self._is_held = False

    @property
    def keys(self) -> list[bytes]:
        """Every key that is served now."""
        return [*self._source.index.lines]

    @property
    def built_routes(self) -> frozenset[str]:
        """The routes that the generation was built with; empty where none is loaded."""
        return self._source.index.routes

    @property
    def damaged(self) -> Mapping[bytes, str]:
        """What is wrong with the bytes of the generation, for each key whose bytes could not be used when read."""
        return self._source.damaged

    @property
    def body_bytes(self) -> int:
        """Bytes that loaded pages account for."""
        return self._cache.bytes

    @property
    def corrupt_items(self) -> int:
        """Items whose bytes on disk were not what was published, when they were read."""
        return self._source.corrupt_items

    @property
    def answers(self) -> Mapping[tuple[str, str], int]:
        """How often a hot page was answered, by its route and the result, since this process started."""
        return self.usage.totals([*self.snapshot.pages.values()])

    @property
    def stale_items(self) -> int:
        """How many items of the generation are past their lifetime now. They are served all the same."""
        return self._source.index.stale_items(self.clock())

    def load_first(self) -> None:
        """Look once; afterwards a snapshot is in place, an empty one where nothing is published."""
        with self._lock:
            self.look()
            if not self.snapshot.is_loaded:
                self._swap()

    def look(self) -> bool:
        """Look at the store and the directories; whether a new snapshot is in place."""
        with self._lock:
            now = self.clock()
            has_changed = False
            if self._descriptor is not None and not self._is_held:
                self._is_held = hold(self._store.disk, self._descriptor)
            signature = self._store.signature()
            if signature != self._signature or time.monotonic() >= self._look_again_at:
                with full_collections.off():
                    has_changed = self._load(now, is_new=signature != self._signature)
                self._signature = signature
                self._look_again_at = time.monotonic() + RETRY_SECONDS if self.degraded else float("inf")
                if has_changed:
                    self._swap()  # before the directories are looked at, which may fail
            self._retry(now)
            has_other_files = self._overlay.poll(now)
            self._source.update_freshness(now)
            if has_other_files:
                self._swap()
            return has_changed or has_other_files

    def load_page(self, key: bytes) -> Page | None:
        """The page of one key, read from disk where it is not in memory.

        It is returned, not only kept: the next page that is loaded may already put this one out again. ``None`` where
        no valid bytes exist anywhere; the key is taken out then.
        """
        with self._lock:
            page = self._cache.pages.get(key)
            if page is None and self._source.may_load(key):
                page = self._source.load(key, self.clock())
                if page is not None:
                    self._cache.add(key, page)
            return page

    def shrink(self, fraction: float) -> int:
        """Keep this share of the bodies at most, now; returns the bytes let go of. They are read again when needed.

        A quarter always stays: a page that is asked for all the time would only be read again and again. While a
        generation is loaded nothing is let go of, so that nobody waits.
        """
        if not self._lock.acquire(blocking=False):
            return 0
        try:
            return self._cache.shrink(max(fraction, MIN_BODIES))
        finally:
            self._lock.release()

    def release(self) -> None:
        """Let the generation be pruned; the snapshot stays."""
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def restart_after_fork(self) -> None:
        """Load anew when asked to: the lock may be held by a thread that is gone, half through a change.

        Bodies that are still what the store says stay, and stay shared with the parent.
        """
        self._lock = threading.RLock()
        self._signature = None
        self.snapshot = UNREAD
        self.usage = Usage()

    def _retire(self, page: Page) -> None:
        self.usage.retire(page)

    def _retry(self, now: float) -> None:
        """Read again the pages that are older than they have to be, since reading failed transiently."""
        due = [key for key, at in self._source.retry_at.items() if at <= time.monotonic() and key in self._cache]
        for key in due[:MAX_RETRIES_PER_LOOK]:
            old = self._cache.pages[key]
            page = self._source.load(key, now, old)
            if page is not None and page is not old:
                self._cache.replace(key, page)

    def _load(self, now: float, *, is_new: bool) -> bool:
        """Make pages of the generation to serve. On any problem the old ones stay.

        ``is_new`` says that something has changed in the store; else what was loaded is not loaded again.
        """
        choice = self._choose()
        if choice is None:
            return False
        if not is_new and self._is_loaded(choice):
            os.close(choice.descriptor)
            return False
        try:
            index = Index.read(choice.head, choice.data, self.pause)
        except BaseException as error:
            os.close(choice.descriptor)
            if not isinstance(error, ValueError | IndexError | KeyError):
                raise
            self._degrade(f"the lines of {choice.path} are not as a manifest has them ({error!r})")
            return False
        self.release()
        self._descriptor, self._is_held = choice.descriptor, choice.is_held
        self.degraded, self.pinned = choice.degraded, choice.pinned
        if choice.degraded:
            self._once.warn(f"serving generation {choice.sequence}, because {choice.degraded}")
        else:
            self._once.clear()
        self._overlay.forget()
        if choice.head.site is not None and self._on_site is not None:
            site = self._own_files(choice.head.site, choice.sequence)
            self._use(site, now)
            self._on_site(site)
        self._source = PageSource(
            self._store,
            index,
            self._once,
            self._options,
            detail=b"degraded" if choice.degraded else b"pinned" if choice.pinned else b"",
            corrupt_items=self._source.corrupt_items,
        )
        self._fill(now)
        return True

    def _own_files(self, site: SiteWide, sequence: int) -> SiteWide:
        """Without directories where the manifest came from an origin.

        Whoever can write to the bucket must not be able to name files of this machine for everybody to read.
        """
        if not site.directories or not is_foreign(self._store.generation_path(sequence)):
            return site
        self._once.warn(
            f"the directories of generation {sequence} are not served here, as it came from an origin; let the app"
            " declare them: 'hotpath serve APP' without --store, or 'hotpath front TARGET'",
            "directories",
        )
        return replace(site, directories=())

    def _use(self, site: SiteWide, now: float) -> None:
        """Other directories are looked at now, so that there is no moment without their pages."""
        directories = directories_of(site)
        if (directories, site.reading) == (self._directories, self._options):
            return
        self._directories, self._options = directories, site.reading
        self._overlay = Overlay(directories, site.reading)
        try:
            self._overlay.poll(now)
        except OSError as error:  # the next look tries again
            self._once.warn(f"a hot directory cannot be read: {error}")

    def _choose(self) -> Choice | None:
        """The generation to serve, or ``None`` where the store has none or cannot be read."""
        try:
            return self._store.choose()
        except NothingPublished as error:
            # A site of watched directories alone never publishes.
            if not self._directories or self._store.current_path.exists() or self._store.sequences():
                self._degrade(str(error))
        except (StoreError, OSError) as error:
            kept = "every hot page goes to the app" if self.snapshot.generation is None else "what was loaded stays"
            problem = str(explain(error, self._store.root) if isinstance(error, OSError) else error)
            self._degrade(problem, f"the store cannot be read, {kept}: {problem}")
        return None

    def _degrade(self, problem: str, text: str | None = None) -> None:
        self.degraded = problem
        self._once.warn(text or problem)

    def _is_loaded(self, choice: Choice) -> bool:
        """Whether this generation was loaded before, in the same circumstances."""
        head = self._source.index.head
        loaded = head.sequence if head is not None and self.snapshot.is_loaded else None
        return (choice.sequence, choice.degraded, choice.pinned) == (loaded, self.degraded, self.pinned)

    def _fill(self, now: float) -> None:
        """Load the pages that were in memory before, then the others in their order while there is room."""
        before, self._cache = self._cache, PageCache(self._options.max_body_bytes, self._retire)
        source, cache = self._source, self._cache
        try:
            for count, key in enumerate(itertools.chain(before.keys(), [*source.index.lines]), start=1):
                if key not in source.index.lines or key in cache:
                    continue
                page = source.load(key, now, before.pages.get(key))
                if page is not None:
                    if not cache.has_room(page):
                        source.retry_at.pop(key, None)
                        break
                    cache.add(key, page)
                if count % PAGES_PER_PAUSE == 0:
                    self.pause()
        finally:
            source.forget_older()

    def _swap(self) -> None:
        """Put a snapshot of what there is now in place, with the pages of directories among those of the generation."""
        index = self._source.index
        pages, gone = self._overlay.lay(index.lines)
        for key in gone:
            self._cache.take_off(key)
        for key, page in pages.items():
            self._cache.lay_over(key, page)
        folded = index.folded | {key for key, page in pages.items() if page.policy.fold_case}
        is_encoded = any(_PERCENT in key for key in index.lines)
        before = self.snapshot.pages
        self.snapshot = Snapshot(
            generation=index.head.sequence if index.head else None,
            created=index.head.created if index.head else None,
            keys=index.lines,
            pages=self._cache.pages,
            chosen=self._cache.chosen,
            folded=folded,
            query_names=index.query_names,
            redirect_slashes=self._options.redirect_slashes,
            ignored=self._options.ignored,
            begin_redirect=functools.partial(_begin_redirect, self.usage, index, pages, self._options.headers),
            is_exact=not (folded or is_encoded or self._options.redirect_slashes),
        )
        if before is not self._cache.pages:
            for key, page in before.items():
                if self._cache.pages.get(key) is not page:
                    self._retire(page)


def _begin_redirect(
    usage: Usage, index: Index, overlay: Mapping[bytes, Page], site_headers: Sequence[tuple[str, str]], key: bytes
) -> list[Header]:
    policy = overlay[key].policy if key in overlay else index.policy_of(key)
    if policy is None:
        return []
    usage.redirect(policy.route)
    return static_headers(policy, site_headers)
