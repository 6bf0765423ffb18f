"""What is counted in a payload, and which rules hold on the first night already."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotpath.errors import ItemError
from hotpath.measure import measure

HALF, WHOLE = 500_000, 1_000_000


def run(rows: object, **options: Any) -> dict[str, int]:
    settings: dict[str, Any] = {
        "records": "items", "required": (), "row_key": None, "source_time": None, "min_rows": 1, "before": None,
    }  # fmt: skip
    return dict(measure({"items": rows}, **settings | options))


def test_without_records_nothing_is_counted() -> None:
    assert run([1], records=None) == {}


def test_rows_and_nulls_of_every_field() -> None:
    assert run([{"a": 1, "b": None}, {"a": None}]) == {"rows": 2, "nulls:a": HALF, "nulls:b": WHOLE}


@pytest.mark.parametrize(
    ("rows", "options", "path", "told"),
    [
        ("text", {}, "$.items", "no list"),
        ([{"a": 1}, 7], {}, "$.items[1]", "expected an object"),
        ([], {}, "$.items", "min_rows=0"),
        ([{"a": 1}], {"min_rows": 2}, "$.items", "expected at least 2"),
        ([{"a": 1}, {"a": None}], {"required": ("a",)}, "$.items[1].a", "null or missing"),
        ([{"a": 1}, {}], {"required": ("a",)}, "$.items[1].a", "null or missing"),
        ([{"a": "x"}, {"a": "x"}], {"row_key": "a"}, "$.items[1].a", "as in a row before"),
        ([{"a": 1.5}], {"row_key": "a"}, "$.items[0].a", "text or a number"),
        ([{"a": "yesterday"}], {"source_time": "a"}, "$.items[0].a", "ISO 8601"),
        ([{"a": 1}], {"source_time": "b"}, None, "source_time"),
    ],
)
def test_a_broken_rule_names_its_place(rows: object, options: dict[str, Any], path: str | None, told: str) -> None:
    with pytest.raises(ItemError) as caught:
        run(rows, **options)
    assert told in caught.value.problem
    assert path is None or caught.value.path == path


def test_no_rows_where_none_are_right() -> None:
    assert run([], min_rows=0) == {"rows": 0}


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("2026-11-23", 1_795_392_000),
        ("2026-11-23T01:00:00Z", 1_795_395_600),
        ("2026-11-23T01:00:00", 1_795_395_600),
        ("2026-11-23T10:00:00+09:00", 1_795_395_600),
        (1_795_395_600, 1_795_395_600),
        (1_795_395_600.9, 1_795_395_600),
    ],
)
def test_the_newest_source_time(value: object, seconds: int) -> None:
    assert run([{"t": value}, {"t": "2020-01-01"}, {"t": None}], source_time="t")["newest"] == seconds


BEFORE = [{"id": str(n), "name": f"N{n}", "cap": 100.0 + n, "pe": None} for n in range(4)]


def compare(rows: list[dict[str, Any]], **options: Any) -> dict[str, int]:
    return run(rows, **{"required": ("id",), "before": {"items": BEFORE}} | options)


def test_the_same_rows_have_not_changed() -> None:
    found = compare(BEFORE)
    assert (found["removed"], found["changed:name"], found["jumped:cap"]) == (0, 0, 0)


def test_rows_that_are_gone_and_values_that_are_others() -> None:
    rows = [dict(row) for row in BEFORE[:2]]
    rows[0] |= {"name": "other", "cap": 1000.0}
    found = compare([*rows, {"id": "9", "name": "new", "cap": 1.0, "pe": 1}])
    assert (found["removed"], found["changed:name"], found["jumped:cap"]) == (HALF, HALF, HALF)


def test_a_number_has_jumped_when_it_halves_doubles_or_changes_sign() -> None:
    changes = {50.0: 0, 49.0: 1, 200.0: 0, 201.0: 1, -100.0: 1, 0.0: 1, 100.0: 0}
    for now, jumped in changes.items():
        found = run([{"id": "a", "n": now}], row_key="id", before={"items": [{"id": "a", "n": 100.0}]})
        assert found["jumped:n"] == jumped * WHOLE, now


def test_without_a_key_rows_cannot_be_compared() -> None:
    rows = [{"name": "same"}, {"name": "same"}]
    assert "changed:name" not in run(rows, required=("name",), before={"items": rows})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=20,
)


@given(JSON, JSON, st.sampled_from([None, "a"]), st.sampled_from([None, "b"]))
def test_any_payload_gives_whole_numbers_or_a_named_place(
    payload: object, before: object, row_key: str | None, source_time: str | None
) -> None:
    found = {}
    with suppress(ItemError):
        found = dict(
            measure(
                payload, records="a", required=(), row_key=row_key, source_time=source_time, min_rows=0, before=before
            )
        )
    assert all(type(value) is int for value in found.values())
