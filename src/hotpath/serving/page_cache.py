"""The pages whose bodies are in memory, up to a number of bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from hotpath.serving.snapshot import Chosen, Page

# Memory of a page beside its bodies: its variants with their header lists, about 1.5 KB a coding.
PAGE_OVERHEAD_BYTES = 4096


class PageCache:
    """The pages of one generation that are in memory; ``pages`` is read by requests, ``bytes`` is what they take.

    Second chance, an approximation of LRU that costs a request nothing but the counter it keeps anyway. Pages of
    watched directories lie among the others and are neither counted nor let go of. ``retire`` is called with each page
    that goes.
    """

    def __init__(self, max_bytes: int, retire: Callable[[Page], None]) -> None:
        self.pages: dict[bytes, Page] = {}
        self.chosen = Chosen(self.pages)
        self.bytes = 0
        self._max_bytes = max_bytes
        self._retire = retire
        # The pages of the generation, with their uses when the hand of the clock last passed.
        self._uses: OrderedDict[bytes, int] = OrderedDict()

    def __contains__(self, key: bytes) -> bool:
        """Whether the page of the generation, not of a directory, is in memory."""
        return key in self._uses

    def keys(self) -> list[bytes]:
        """The keys of the generation's pages, those unused for longest first."""
        return [*self._uses]

    def has_room(self, page: Page) -> bool:
        """Whether the page fits without another one going."""
        return self.bytes + cost_of(page) <= self._max_bytes

    def add(self, key: bytes, page: Page) -> None:
        """Keep a page, and let go of others until the maximum is kept."""
        self.pages[key] = page
        self.chosen.forget(key)
        self._uses[key] = 0
        self.bytes += cost_of(page)
        self._evict(self._max_bytes, key)

    def replace(self, key: bytes, page: Page) -> None:
        """Put better bytes in the place of a page that is here."""
        old = self.pages[key]
        self.bytes += cost_of(page) - cost_of(old)
        self.pages[key] = page
        self._let_go(key, old)

    def lay_over(self, key: bytes, page: Page) -> None:
        """Put the page of a directory in front of the generation's."""
        old = self.pages.get(key)
        if self._uses.pop(key, None) is not None:
            self.bytes -= cost_of(self.pages[key])
        self.pages[key] = page
        if old is not None and old is not page:
            self._let_go(key, old)

    def take_off(self, key: bytes) -> None:
        """Forget the page of a directory."""
        page = self.pages.pop(key, None)
        if page is not None:
            self._let_go(key, page)

    def shrink(self, fraction: float) -> int:
        """Keep this share of the maximum at most, but one page. Returns the bytes that were let go of."""
        before = self.bytes
        self._evict(int(fraction * self._max_bytes))
        return before - self.bytes

    def _evict(self, maximum: int, newest: bytes | None = None) -> None:
        while self.bytes > maximum and len(self._uses) > 1:
            key, seen = self._uses.popitem(last=False)
            uses = self.pages[key].uses
            if key == newest or uses != seen:
                self._uses[key] = uses
            else:
                page = self.pages.pop(key)
                self.bytes -= cost_of(page)
                self._let_go(key, page)

    def _let_go(self, key: bytes, page: Page) -> None:
        """What was ``pages[key]`` is not any more."""
        self.chosen.forget(key)
        self._retire(page)


def cost_of(page: Page) -> int:
    """Bytes of memory that a page accounts for: its bodies and what is beside them."""
    return PAGE_OVERHEAD_BYTES + sum(len(body) for body in page.bodies.values())
