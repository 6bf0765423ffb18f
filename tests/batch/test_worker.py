"""What a worker sends is put together again however the pipe divides it, and nonsense is refused."""

from __future__ import annotations

import struct
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotpath.batch.worker import Received
from hotpath.pages.payload import Built

MOST = 64
BODIES = st.binary(max_size=MOST)


def frame(index: int, built: Built, problem: str | None = None) -> bytes:
    lengths = None if built.encoded is None else {name: len(data) for name, data in built.encoded.items()}
    facts = orjson.dumps((index, built.metrics, problem, None, None, 0.5, 1000, False, False, lengths))
    parts = (built.encoded or {}).values()
    return b"".join((struct.pack("!II", len(facts), len(built.body)), facts, built.body, *parts))


@st.composite
def pages(draw: st.DrawFn) -> Built:
    body = draw(BODIES)
    shorter = st.binary(max_size=max(0, len(body) - 1))
    names = st.sampled_from(["gzip", "br", "zstd"])
    encoded = draw(st.none() | st.dictionaries(names, shorter, max_size=3 if body else 0))
    return Built(body, draw(st.none() | st.just({"rows": 3})), encoded)


@given(st.lists(pages(), max_size=6), st.lists(st.integers(1, 200), min_size=1, max_size=40))
def test_however_it_is_divided(sent: list[Built], sizes: list[int]) -> None:
    data = b"".join(frame(index, built) for index, built in enumerate(sent))
    received, found, at, turn = Received(), [], 0, 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        received.feed(data[at : at + size])
        at, turn = at + size, turn + 1
        while (answer := received.take(MOST)) is not None:
            found.append(answer)
    assert [(answer.index, answer.built) for answer in found] == list(enumerate(sent))
    assert len(received) == 0


def test_an_answer_that_has_begun_counts_with_all_that_will_come() -> None:
    received = Received()
    received.feed(frame(0, Built(b"x" * 50, None, {"gzip": b"y" * 20}))[:-60])
    assert received.take(MOST) is None
    assert len(received) == 70


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("!II", 2**31, 0),
        struct.pack("!II", 2, MOST + 1) + b"[]",
        struct.pack("!II", 2, 0) + b"[]",
        struct.pack("!II", 3, 0) + b"\xff\xfe\xfd",
        *(
            struct.pack("!II", len(facts), 9) + facts
            for facts in (
                orjson.dumps([0, None, None, None, None, 0.5, 1, False, False, lengths])
                for lengths in (
                    {"gzip": 9},
                    {"gzip": -1},
                    {"gzip": "1"},
                    {"gzip": True},
                    {str(n): 1 for n in range(9)},
                    [1],
                )
            )
        ),
    ],
)
def test_nonsense_is_refused(data: bytes) -> None:
    received = Received()
    received.feed(data)
    with pytest.raises(ValueError):  # noqa: PT011  whatever it says: the worker is ended
        received.take(MOST)


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    received = Received()
    received.feed(data)
    taken: Any = None
    try:
        taken = received.take(MOST)
    except ValueError:
        return
    assert taken is None
