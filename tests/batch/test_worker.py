"""What a worker sends is a result only when all of it has come, and nonsense is refused."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotpath.batch.worker import Result, decode_result, read_page
from hotpath.pages.payload import Built

MOST = 64
ITEM = 7
RESULT = Result(
    index=ITEM,
    lengths={"identity": 50, "gzip": 20},
    has_codings=True,
    metrics={"rows": 3},
    problem=None,
    where=None,
    path=None,
    seconds=0.5,
    peak_bytes=1000,
    is_spent=False,
    is_last=False,
)


def framed(facts: object) -> bytes:
    data = orjson.dumps(facts)
    return struct.pack("!I", len(data)) + data


@pytest.fixture
def pages() -> Iterator[int]:
    descriptor = os.memfd_create("pages")
    yield descriptor
    os.close(descriptor)


@given(st.integers(0, 400))
def test_a_result_counts_when_all_of_it_has_come(cut: int) -> None:
    data = framed(RESULT)
    assert decode_result(data, ITEM, MOST) == RESULT
    if cut < len(data):
        assert decode_result(data[:cut], ITEM, MOST) is None


@pytest.mark.parametrize("encoded", [None, {}, {"gzip": b"y" * 20, "br": b"z"}])
def test_a_page_comes_out_of_the_file_as_it_was_built(pages: int, encoded: dict[str, bytes] | None) -> None:
    body = b"x" * 50
    os.pwrite(pages, body + b"".join((encoded or {}).values()) + b"of the page before", 0)
    lengths = {"identity": 50} | {name: len(data) for name, data in (encoded or {}).items()}
    result = decode_result(framed(changed(lengths=lengths, has_codings=encoded is not None)), ITEM, MOST)
    assert result is not None
    assert read_page(pages, result) == Built(body, {"rows": 3}, encoded)


def test_a_large_page_does_not_stay_in_the_file(pages: int) -> None:
    body = os.urandom(2**21)
    os.pwrite(pages, body, 0)
    result = decode_result(framed(changed(lengths={"identity": len(body)}, has_codings=False)), ITEM, 2**21)
    assert result is not None
    assert read_page(pages, result).body == body
    assert os.fstat(pages).st_size == 0


def test_a_file_that_holds_less_than_the_page_is_refused(pages: int) -> None:
    os.pwrite(pages, b"x" * 69, 0)
    with pytest.raises(ValueError, match="no page"):
        read_page(pages, RESULT)


def changed(**facts: Any) -> dict[str, Any]:
    return {**orjson.loads(orjson.dumps(RESULT)), **facts}


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("!I", 2**31),
        b"\xff" * 100,
        framed(RESULT) + b"x",
        framed([]),
        framed({}),
        struct.pack("!I", 3) + b"\xff\xfe\xfd",
        framed(changed(index=ITEM + 1)),
        framed(changed(more=1)),
        *(
            framed(changed(lengths=lengths))
            for lengths in (
                {},
                {"identity": MOST + 1},
                {"identity": 9, "gzip": 9},
                {"identity": 9, "gzip": -1},
                {"identity": 9, "gzip": "1"},
                {"identity": 9, "gzip": True},
                [1],
            )
        ),
    ],
)
def test_nonsense_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  whatever it says: the worker is ended
        decode_result(data, ITEM, MOST)


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    taken: Result | None = None
    try:
        taken = decode_result(data, ITEM, MOST)
    except ValueError:
        return
    assert taken is None
