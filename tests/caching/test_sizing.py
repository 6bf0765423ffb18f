"""Bytes of values."""

from __future__ import annotations

import sys
from typing import Any
from uuid import UUID

import pytest
from cachetools.keys import hashkey, typedkey

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
