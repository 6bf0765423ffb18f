"""Makes the pages of one generation from verified bytes on disk; where those are bad, from the last good ones."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping

from hotpath.errors import Corrupt, StoreError
from hotpath.log import Once
from hotpath.pages.site_wide import ReadOptions
from hotpath.serving.index import Index
from hotpath.serving.snapshot import Freshness, Page, make_page
from hotpath.store.manifest import Item, Manifest, decode_item
from hotpath.store.store import Store

# Interval of reading again after a transient failure: rights, a disk, the number of open files.
RETRY_SECONDS = 5.0

# Maximum decoded items of older generations; they take four times the memory of an index.
MAX_OLDER_ITEMS = 200_000


class PageSource:
    """Loads pages of the generation that ``index`` is of. Not safe for two threads at once.

    ``detail`` is what ``Cache-Status`` says about the whole generation. ``corrupt_items`` counts items whose bytes
    were not what was published; ``damaged`` says what is wrong, for each such key of this generation. ``retry_at`` has
    the keys whose reading failed for a reason that may pass, with the time (``time.monotonic``) of the next attempt.
    """

    def __init__(
        self,
        store: Store,
        index: Index,
        once: Once,
        options: ReadOptions,
        *,
        detail: bytes = b"",
        corrupt_items: int = 0,
    ) -> None:
        self.index = index
        self.corrupt_items = corrupt_items
        self.retry_at: dict[bytes, float] = {}
        self.damaged: dict[bytes, str] = {}
        self._store = store
        self._once = once
        self._options = options
        self._detail = detail
        self._freshness: dict[tuple[int, int], Freshness] = {}
        self._kept_freshness: set[Freshness] = set()  # of pages that were kept from a generation before
        self._older: dict[int, Manifest] = {}
        self._failed_transiently = False
        self._problem = ""

    def load(self, key: bytes, now: float, old: Page | None = None) -> Page | None:
        """The page of a key; ``old`` is the one of the generation before, whose bytes are taken where they are equal.

        ``None`` where no valid bytes exist; the key is removed from the index then, or noted in ``retry_at``.
        """
        self._failed_transiently = False
        self.damaged.pop(key, None)
        page = self._load(key, now, old)
        if self._failed_transiently:
            self.retry_at[key] = time.monotonic() + RETRY_SECONDS
        else:
            self.retry_at.pop(key, None)
            if page is None:
                del self.index.lines[key]
        return page

    def may_load(self, key: bytes) -> bool:
        """Whether ``load`` may find the page now: the generation has the key, and did not fail on it just before."""
        return bool(self.index.lines.get(key)) and self.retry_at.get(key, 0.0) <= time.monotonic()

    def update_freshness(self, now: float) -> None:
        """Say in all pages how long they are still fresh at ``now``."""
        for freshness in (*self._freshness.values(), *self._kept_freshness):
            freshness.update(now)

    def forget_older(self) -> None:
        """Free the manifests of generations before; they are read again when needed."""
        self._older.clear()

    def _load(self, key: bytes, now: float, old: Page | None) -> Page | None:
        head = self.index.head
        assert head is not None  # lines are a generation's
        sequence = head.sequence
        try:
            item = decode_item(head, self.index.lines[key], str(self._store.manifest_path(sequence)))
        except Corrupt as error:  # of a version that knows more: this page falls back, the others do not
            self._once.warn(str(error))
            self.damaged[key] = str(error)
            self.corrupt_items += 1
            return self._fall_back(key.decode("ascii"), sequence, now, old)
        # A page that lacks a coding is read again: the file may be good now.
        if old is not None and old.digests == item.digests and len(old.bodies) == len(item.representations):
            return self._make_page(item, sequence, head.created, old.bodies, now)
        bodies = self._read_bodies(item, sequence)
        if bodies is not None:
            return self._make_page(item, sequence, head.created, bodies, now)
        self.damaged[key] = self._problem
        self.corrupt_items += key not in self.retry_at
        return self._fall_back(item.key, sequence, now, old)

    def _fall_back(self, key: str, newest: int, now: float, old: Page | None) -> Page | None:
        """The newest valid page of a key in the generations before, whose number it then carries."""
        if old is not None:
            self._kept_freshness.add(old.freshness)
            return old
        try:
            sequences = self._store.sequences()
        except (StoreError, OSError) as error:  # one page less, and no generation that cannot be loaded
            self._note(error)
            return None
        for sequence in reversed(sequences):
            manifest = self._older_manifest(sequence) if sequence < newest else None
            item = manifest.items.get(key) if manifest is not None else None
            bodies = self._read_bodies(item, sequence) if item is not None else None
            if manifest is not None and item is not None and bodies is not None:
                return self._make_page(item, sequence, manifest.head.created, bodies, now)
        return None

    def _older_manifest(self, sequence: int) -> Manifest | None:
        """Read once for all pages that are looked for there."""
        if sequence not in self._older:
            try:
                manifest = self._store.read_manifest(sequence)
            except (StoreError, OSError) as error:
                self._note(error)
                return None
            if sum(len(older.items) for older in self._older.values()) > MAX_OLDER_ITEMS:
                self._older.clear()
            self._older[sequence] = manifest
        return self._older[sequence]

    def _note(self, error: Exception) -> None:
        # A file that is not there, or not as it was published, does not come back by itself.
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError | NotADirectoryError):
            self._failed_transiently = True

    def _make_page(self, item: Item, sequence: int, created: int, bodies: Mapping[str, bytes], now: float) -> Page:
        since = item.stale_since if item.stale_since is not None else created
        lifetime = item.policy.lifetime_seconds
        freshness = self._freshness.get((since, lifetime))
        if freshness is None:
            freshness = self._freshness[since, lifetime] = Freshness(since + lifetime, now, self._detail)
        header, site_headers = self._options.generation_header, self._options.headers
        return make_page(item, sequence, freshness, bodies, now, site_headers, generation_header=header)

    def _read_bodies(self, item: Item, sequence: int) -> dict[str, bytes] | None:
        """The verified bodies by coding. A bad coding is left out; without a good identity there are none."""
        bodies = {}
        for representation in item.representations:
            path = self._store.files_path(sequence) / representation.file
            try:
                data = self._store.disk.read(path)
                problem = None if hashlib.sha256(data).digest() == representation.sha256 else "its digest differs"
            except (OSError, StoreError) as error:
                self._note(error)
                problem = str(error)
            if problem is None:
                bodies[representation.coding] = data
            else:
                self._problem = f"{path} is not what was published ({problem})"
                self._once.warn(f"{item.key}: {self._problem}")
                if representation.coding == "identity":
                    return None
        return bodies
