"""Bytes of values."""

from __future__ import annotations

import array
import ctypes
import io
import mmap
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from cachetools.keys import hashkey, typedkey

from hotpath.caching.lru import LRUCache
from hotpath.caching.sizing import is_simple, size_of


def test_sizes() -> None:
    assert size_of(b"x" * 1000) - size_of(b"") == 1000
    shared = ["x" * 1000]
    assert size_of([shared, shared]) < size_of([["x" * 1000], ["y" * 1000]])
    assert size_of(list(range(100_000))) > 800_000
    loop: list[Any] = []
    loop.append(loop)
    assert size_of(loop) > 0

    class Slotted:
        __slots__ = ("held",)

        def __init__(self) -> None:
            self.held = "x" * 5000

    assert size_of(Slotted()) > 5000


def test_large_lists_are_weighed_by_all_they_hold() -> None:
    texts = ["x" * 1000 + str(n) for n in range(100_000)]
    real = sys.getsizeof(texts) + sum(map(sys.getsizeof, texts))
    assert 0.8 * real < size_of(texts) < 1.25 * real
    rows = [{"id": n, "name": f"name {n}", "note": "x" * 300 + str(n)} for n in range(20_000)]
    real = sys.getsizeof(rows) + sum(sys.getsizeof(row) + sum(map(sys.getsizeof, row.values())) for row in rows)
    assert 0.7 * real < size_of(rows) < 1.4 * real


@pytest.mark.parametrize("key", [hashkey(1, "a"), hashkey(1, n="a"), typedkey(1, n="a")])
def test_a_key_of_cachetools_runs_no_python_code_so_hits_take_no_lock(key: object) -> None:
    assert is_simple(key)
    assert not is_simple((key, UUID(int=1)))


MB8 = 8_000_000
BYTES = b"x" * MB8


def array_of(count: int = MB8) -> Any:
    return np.zeros(count, dtype="u1")


class Frame:
    """A frame whose data is outside of Python."""

    def estimated_size(self) -> int:
        return MB8


class Lazy:
    """A lazy object: whatever is asked of it loads it."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)


@pytest.mark.parametrize(
    "make",
    [
        array_of,
        lambda: array_of()[:10],
        lambda: array_of()[:100][:10],
        lambda: np.lib.stride_tricks.as_strided(array_of(), (3,), (1,)),
        lambda: np.frombuffer(BYTES, dtype="u1")[:3],
        lambda: np.ma.array(array_of())[:3],
        lambda: np.array([BYTES[: MB8 // 8] + bytes([n]) for n in range(8)], dtype=object),
        lambda: memoryview(BYTES)[:3],
        lambda: memoryview(memoryview(bytearray(BYTES))[:7]).toreadonly(),
        lambda: memoryview(array_of())[:3],
        lambda: io.BytesIO(BYTES),
        lambda: io.BytesIO(BYTES).getbuffer()[:3],
        lambda: io.StringIO("x" * MB8),
        lambda: io.BufferedReader(io.BytesIO(BYTES)),
        lambda: io.TextIOWrapper(io.BytesIO(BYTES)),
        lambda: array.array("d", [0]) * (MB8 // 8),
        lambda: memoryview(array.array("d", [0]) * (MB8 // 8))[:1],
        lambda: mmap.mmap(-1, MB8),
        lambda: memoryview(mmap.mmap(-1, MB8))[:3],
        ctypes.c_char * MB8,
        lambda: bytearray(BYTES),
        Frame,
        lambda: [array_of(MB8 // 8)[:1] for _ in range(8)],
        lambda: {"rows": (array_of()[:1],)},
    ],
)
def test_a_buffer_counts_what_it_keeps_alive(make: Callable[[], Any]) -> None:
    assert MB8 <= size_of(make()) < 1.01 * MB8


def test_files_that_are_in_memory_or_mapped_count_it(tmp_path: Path) -> None:
    with tempfile.SpooledTemporaryFile() as file:
        file.write(BYTES)
        assert MB8 <= size_of(file) < 1.01 * MB8
    mapped = np.memmap(tmp_path / "data", dtype="u1", mode="w+", shape=MB8)
    assert MB8 <= size_of(mapped[:3]) < 1.01 * MB8


def test_views_of_one_base_count_it_once_and_a_wide_view_counts_its_base() -> None:
    base = array_of()
    assert MB8 < size_of([base[:1], base[5:9], base]) < 1.01 * MB8
    assert size_of(np.broadcast_to(np.zeros(1), (10_000, 10_000))) < 1000


def test_a_value_that_shows_no_bytes_any_more_or_must_not_be_asked_is_measured_as_before() -> None:
    released, closed = memoryview(b"x"), io.BytesIO(b"x")
    released.release()
    closed.close()
    for value in (released, closed, Lazy(), Frame, np.float64(1)):
        assert 0 < size_of(value) < 3000


def test_sixty_views_in_a_cache_of_20_mib_keep_20_mib() -> None:
    cache: LRUCache[int, Any] = LRUCache(None, 20 * 1024**2)
    for number in range(60):
        cache[number] = array_of()[:10]
    assert sorted(cache) == [58, 59]
    assert 2 * MB8 < cache.bytes <= 20 * 1024**2
