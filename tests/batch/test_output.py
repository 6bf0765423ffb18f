"""Of what an item prints the first and the last part are kept, however it is cut into pieces on its way."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from hotpath.batch.output import Printed


@given(text=st.text("abcü", max_size=200), cuts=st.lists(st.integers(0, 400), max_size=20))
def test_a_short_text_is_kept_whole(text: str, cuts: list[int]) -> None:
    stream = text.encode()
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    printed = Printed(keep_bytes=1000)
    for start, end in itertools.pairwise(places):
        printed.feed(stream[start:end])
    assert printed.count == len(stream)
    assert printed.take() == text
    assert (printed.count, printed.take()) == (0, "")


def test_the_first_and_the_last_part_are_kept_and_what_is_left_out_is_counted() -> None:
    printed = Printed(keep_bytes=10)
    for part in (b"begin", b"x" * 3000, b"y" * 72, b"e", b"nd\xff"):
        printed.feed(part)
    assert printed.count == 3081
    assert printed.take() == "begin\n… 3.0 KiB left out …\nyend\ufffd"
    printed.feed(b"next")
    assert printed.take() == "next"
