"""Options and results: one meaning for each spelling, an error that shows the spellings, printable text, JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotpath.errors import DeclarationError
from hotpath.options import (
    check_between,
    counted,
    human_bytes,
    human_seconds,
    json_bytes,
    parse_bytes,
    parse_seconds,
    parse_whole_seconds,
    printable,
    to_json,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (1024, 1024),
        ("1024", 1024),
        ("64MiB", 64 * 1024**2),
        ("64M", 64 * 1024**2),
        ("64mb", 64 * 1000**2),
        ("1.5G", 1536 * 1024**2),
        ("1500 MiB", 1500 * 1024**2),
        ("2KB", 2000),
        ("7B", 7),
    ],
)
def test_bytes(text: int | str, value: int) -> None:
    assert parse_bytes(text, "limit") == value


@pytest.mark.parametrize(("text", "value"), [(90, 90), ("90s", 90), ("10m", 600), ("26h", 93600), ("7d", 604800)])
def test_seconds(text: int | str, value: int) -> None:
    assert parse_seconds(text, "timeout") == parse_whole_seconds(text, "lifetime") == value


def test_parts_of_a_second_are_kept_or_refused() -> None:
    assert (parse_seconds("0.2s", "timeout"), parse_seconds(1.9, "timeout")) == (0.2, 1.9)
    assert (parse_seconds("50ms", "timeout"), parse_seconds("1500 MS", "timeout")) == (0.05, 1.5)
    assert parse_seconds("0s", "wait", least=0) == 0
    for wrong in ("0.2s", "1.5s", 0.5):
        with pytest.raises(DeclarationError, match="no whole number of seconds"):
            parse_whole_seconds(wrong, "lifetime")


def test_a_time_that_no_wait_can_last_is_refused() -> None:
    assert parse_seconds("3652d", "every") == 3652 * 86400
    for wrong in ("99999999999d", 1e18):
        with pytest.raises(DeclarationError, match="more than ten years"):
            parse_seconds(wrong, "every")


@pytest.mark.parametrize("wrong", ["", "lots", "-1", "5 parsecs", 0, -3, math.nan, math.inf, True, None])
def test_what_is_no_quantity(wrong: object) -> None:
    with pytest.raises(DeclarationError, match=r"limit=.*'64MiB'"):
        parse_bytes(wrong, "limit")  # type: ignore[arg-type]
    with pytest.raises(DeclarationError, match=r"lifetime=.*'26h'"):
        parse_seconds(wrong, "lifetime")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 * 1024**2, "3.0 MiB"), (5 * 1024**4, "5120.0 GiB")],
)
def test_bytes_for_people(count: int, text: str) -> None:
    assert human_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (200_000, "2 d")]
)
def test_seconds_for_people(seconds: int, text: str) -> None:
    assert human_seconds(seconds) == text


@dataclass(frozen=True, slots=True)
class Outer:
    path: Path | None
    parts: tuple[object, ...] = ()
    counts: Mapping[int, float] = field(default_factory=dict)


def test_a_dataclass_as_json_has_it() -> None:
    value = Outer(Path("a\udcff"), (Outer(None), ValueError("no data"), True, frozenset({"x"})), {1: 0.5})
    assert to_json(value) == {
        "path": "a\udcff",
        "parts": [{"path": None, "parts": [], "counts": {}}, "no data", True, ["x"]],
        "counts": {"1": 0.5},
    }


@pytest.mark.parametrize("wrong", [0, 65, True, math.nan, None, "3"])
def test_a_number_that_is_not_between_its_bounds_is_named_with_the_advice(wrong: object) -> None:
    check_between(1, "workers", 1, 64, "write 1 to 64")
    check_between(64, "workers", 1, 64, "write 1 to 64")
    with pytest.raises(DeclarationError, match=r"^workers=.*: write 1 to 64$"):
        check_between(wrong, "workers", 1, 64, "write 1 to 64")  # type: ignore[arg-type]


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
