"""Text that is printed, counted or written as JSON, whatever it holds."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotpath.text import counted, json_bytes, printable


@dataclass
class Fact:
    name: str
    parts: tuple[str, ...]


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("삼성\ttab\n", "삼성\ttab\n"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x7f\x9b2J", "\\x7f\\x9b2J"),
        ("a\u202eb\u2066c", "a\\u202eb\\u2066c"),
        ("caf\udce9", "caf\\udce9"),
    ],
)
def test_a_terminal_gets_nothing_that_it_would_obey(text: str, printed: str) -> None:
    assert printable(text) == printed


@given(st.text(st.characters(exclude_categories=())))
def test_whatever_is_printed_can_be_encoded(text: str) -> None:
    printable(text).encode("utf-8")


def test_one_is_singular() -> None:
    assert [counted(number, "item") for number in (0, 1, 2)] == ["0 items", "1 item", "2 items"]


@pytest.mark.parametrize(
    "value",
    ["caf\udce9", ["caf\udce9"], {"caf\udce9": 1}, Fact("caf\udce9", ("\udce9",)), {"a": [Fact("\udce9", ())]}],
)
def test_text_that_is_not_utf_8_is_json_all_the_same(value: object) -> None:
    assert "\\udce9" in str(json.loads(json_bytes(value)))
