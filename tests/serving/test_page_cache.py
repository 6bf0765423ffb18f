"""What is remembered of pages in memory is never of one that is there no more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hotpath.batch.run import build
from hotpath.serving import reader_of
from hotpath.serving.page_cache import PageCache, cost_of
from hotpath.serving.rfc9110 import IDENTITY
from hotpath.serving.snapshot import Chosen, Page, Variant
from hotpath.site import Hotpath

KEY = b"/p/0"
ROUNDS = 5000


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Page]]:
    root: Path = tmp_path_factory.mktemp("pages")
    hot = Hotpath(root / "hot", refresh=3600)
    hot.route("/p/{i}", each={"i": [0, 1, 2]})(lambda i: {"i": i})
    build(hot)
    reader_of(hot).start()
    yield [*reader_of(hot).loader.snapshot.pages.values()]
    reader_of(hot).close()


def variant_of(page: Page) -> Variant:
    variant = page.variants[IDENTITY]
    assert variant is not None
    return variant


def make_cache(page: Page, max_bytes: int) -> PageCache:
    cache = PageCache(max_bytes, lambda _: None)
    cache.add(KEY, page)
    cache.chosen.note(IDENTITY, KEY, page, variant_of(page))
    cache.chosen.note(7, KEY, page, variant_of(page))
    assert cache.chosen.by_mask == {IDENTITY: {KEY: variant_of(page)}, 7: {KEY: variant_of(page)}}
    return cache


CHANGES: dict[str, Callable[[PageCache, Page], object]] = {
    "better bytes": lambda cache, page: cache.replace(KEY, page),
    "a directory's": lambda cache, page: cache.lay_over(KEY, page),
    "no longer a directory's": lambda cache, _: cache.take_off(KEY),
    "read again": lambda cache, page: cache.add(KEY, page),
    "no room": lambda cache, page: cache.add(b"/p/1", page),
}


@pytest.mark.parametrize("name", CHANGES)
def test_an_answer_is_forgotten_with_its_page(pages: list[Page], name: str) -> None:
    first, second, _ = pages
    cache = make_cache(first, max(cost_of(first), cost_of(second)) if name == "no room" else 1 << 20)
    CHANGES[name](cache, second)
    assert cache.pages.get(KEY) is not first
    assert cache.chosen.by_mask == {IDENTITY: {}, 7: {}}


def test_an_answer_of_a_page_that_has_just_gone_is_not_remembered(pages: list[Page]) -> None:
    first, second, _ = pages
    cache = make_cache(first, 1 << 20)
    cache.replace(KEY, second)
    cache.chosen.note(IDENTITY, KEY, first, variant_of(first))
    assert cache.chosen.by_mask[IDENTITY] == {}
    cache.chosen.note(IDENTITY, KEY, second, variant_of(second))
    assert cache.chosen.by_mask[IDENTITY] == {KEY: variant_of(second)}


def test_clients_cannot_make_more_tables_than_a_few(pages: list[Page]) -> None:
    cache = make_cache(pages[0], 1 << 20)
    for mask in range(16):
        cache.chosen.note(mask, KEY, pages[0], variant_of(pages[0]))
    assert len(cache.chosen.by_mask) == Chosen.MAX_MASKS
    assert IDENTITY in cache.chosen.by_mask


def test_pages_that_change_while_others_ask_leave_nothing_old(pages: list[Page]) -> None:
    cache = make_cache(pages[0], 1 << 20)
    is_over = threading.Event()

    def ask() -> None:
        while not is_over.is_set():
            page = cache.pages[KEY]
            cache.chosen.note(IDENTITY, KEY, page, variant_of(page))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(ROUNDS):
        cache.replace(KEY, pages[number % 3])
    is_over.set()
    for thread in threads:
        thread.join()
    known = cache.chosen.by_mask[IDENTITY].get(KEY)
    assert known in (None, variant_of(cache.pages[KEY]))
