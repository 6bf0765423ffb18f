"""What a worker prints is told apart by item, however it is cut into pieces on its way."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from hotpath.batch.output import Printed

MARK = b"\x00mark\x01"


@given(
    texts=st.lists(st.text("abcü", max_size=30), max_size=6),
    rest=st.text("abcü", max_size=30),
    cuts=st.lists(st.integers(0, 400), max_size=20),
)
def test_each_item_has_its_own_text(texts: list[str], rest: str, cuts: list[int]) -> None:
    stream = b"".join(text.encode() + MARK for text in texts) + rest.encode()
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    printed = Printed(MARK, keep_bytes=1000)
    for start, end in itertools.pairwise(places):
        printed.feed(stream[start:end])
    assert [printed.take() for _ in texts] == texts
    assert printed.take() is None
    assert printed.rest() == rest


def test_the_first_and_the_last_part_are_kept_and_what_is_left_out_is_counted() -> None:
    printed = Printed(MARK, keep_bytes=10)
    for part in (b"begin", b"x" * 3000, b"y" * 72, b"e", b"nd\xff"):
        printed.feed(part)
    assert printed.count >= 3072
    printed.feed(MARK + b"next")
    assert printed.take() == "begin\n… 3.0 KiB left out …\nyend\ufffd"
    assert printed.rest() == "next"


def test_a_mark_that_is_never_finished_is_text() -> None:
    printed = Printed(MARK, keep_bytes=100)
    printed.feed(b"ab" + MARK[:-1])
    assert printed.take() is None
    assert printed.rest() == "ab\x00mark"
