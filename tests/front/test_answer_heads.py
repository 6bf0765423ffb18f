"""Heads of answers that come again: the same meaning, of the same bytes alone, and not more of them than a maximum."""

from __future__ import annotations

import pytest

from hotpath.front.answer_heads import MAX_HEADS, MAX_KEPT_BYTES, AnswerHeads, parse_answer

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-A: b\r\n"
END = b"\r\nEND"


def test_the_same_bytes_are_read_once() -> None:
    heads = AnswerHeads()
    first = heads.read(PLAIN + END)
    assert first == parse_answer(PLAIN + END)
    assert heads.read(PLAIN + b"\r\nEN") is first, "the body is none of the head's affair"
    assert heads.read(PLAIN + b"\r\n\r\n\r\n") is first


@pytest.mark.parametrize(
    "other",
    [
        PLAIN.replace(b"200", b"201"),
        PLAIN.replace(b" OK", b""),
        PLAIN.replace(b": b", b": c"),
        PLAIN.replace(b": 3", b": 4"),
        PLAIN + b"Set-Cookie: a=b\r\n",
        PLAIN + b"Cache-Control: private\r\n",
        PLAIN + b"Date: Sun, 29 Nov 2026 00:00:00 GMT\r\n",
        PLAIN + b"Server: a\r\n",
        PLAIN + b"Vary: Cookie\r\n",
    ],
)
def test_other_bytes_have_their_own_meaning(other: bytes) -> None:
    heads = AnswerHeads()
    known = heads.read(PLAIN + END)
    for _ in range(2):
        head = heads.read(other + END)
        assert head == parse_answer(other + END)
        assert head is not None
        assert head is not known
        assert heads.read(PLAIN + END) is known


@pytest.mark.parametrize(
    "data",
    [PLAIN, PLAIN[:20], b"", b"\r\n\r\n", PLAIN + b"Content-Length: 3\r\n" + END, PLAIN + b"Upgrade: a\r\n" + END],
)
def test_what_is_not_understood_is_not_remembered(data: bytes) -> None:
    heads = AnswerHeads()
    assert heads.read(PLAIN + END) is not None
    for _ in range(2):
        assert heads.read(data) is None


def test_what_an_app_sends_does_not_fill_memory() -> None:
    heads = AnswerHeads()
    first = heads.read(PLAIN + END)
    for number in range(MAX_HEADS - 1):
        heads.read(PLAIN + b"X-N: %d\r\n" % number + END)
    assert heads.read(PLAIN + END) is first
    heads.read(PLAIN + b"X-N: more\r\n" + END)
    assert heads.read(PLAIN + END) is not first
    for extra in (b"X-N: " + b"n" * MAX_KEPT_BYTES, b"Set-Cookie: session=1"):
        data = PLAIN + extra + b"\r\n" + END
        assert heads.read(data) is not heads.read(data)
        assert heads.read(data) == parse_answer(data)
