"""What is counted in a payload, and which rules hold on the first night already."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotpath.batch.measure import measure
from hotpath.errors import ItemError

HALF, WHOLE = 500_000, 1_000_000


def run(rows: object, **options: Any) -> dict[str, int]:
    settings: dict[str, Any] = {
        "records": "items", "required": (), "row_key": None, "source_time": None, "min_rows": 1, "before": None,
    }  # fmt: skip
    return dict(measure({"items": rows}, **settings | options))


def test_without_records_nothing_is_counted() -> None:
    assert run([1], records=None) == {}


def test_rows_and_nulls_of_every_field() -> None:
    found = run([{"a": 1, "b": None}, {"a": None}])
    assert found == {"rows": 2, "repeated": 0, "nulls:a": HALF, "nulls:b": WHOLE, "common:a": HALF, "common:b": WHOLE}


def test_rows_that_are_there_twice() -> None:
    rows = [{"a": 1, "b": [1]}, {"b": [1], "a": 1}, {"a": 2, "b": [1]}, {"a": 2, "b": [2]}]
    assert run(rows)["repeated"] == HALF // 2
    named = [{"id": "x", "n": 1}, {"id": "x", "n": 2}]
    assert run(named, required=("id",), before={"items": [{"id": "x"}, {"id": "y"}]})["repeated"] == HALF


def test_the_most_common_value_is_that_of_rows_that_were_there_before() -> None:
    before = {"items": [{"id": str(n), "s": f"S{n % 2}"} for n in range(10)]}
    grown = [*before["items"], *({"id": f"new {n}", "s": "S0"} for n in range(30))]
    assert run(grown, row_key="id", before=before)["common:s"] == HALF
    assert run([{"id": str(n), "s": "S0"} for n in range(10)], row_key="id", before=before)["common:s"] == WHOLE


def test_a_group_that_is_gone_as_a_whole() -> None:
    before = [{"id": str(n), "sector": f"S{n % 5}", "name": f"name {n}"} for n in range(50)]

    def vanished(rows: list[dict[str, str]]) -> dict[str, int]:
        found = run(rows, row_key="id", before={"items": before})
        return {name: value for name, value in found.items() if name.startswith("vanished")}

    assert vanished(before) == {"vanished:sector": 0}
    assert vanished([row for row in before if row["sector"] != "S3"]) == {"vanished:sector": 10}
    assert vanished([row for row in before if row["sector"] != "S3" or row["id"] == "3"]) == {"vanished:sector": 0}


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
        ([{"a": 1795466060123}], {"source_time": "a"}, "$.items[0].a", "not milliseconds"),
        (
            [{"a": 1}, {"c": 2}],
            {"required": ("b",)},
            "$.items",
            "'b', which the route calls required; they have 'a', 'c'",
        ),
        ([{"a": 1}], {"row_key": "b"}, "$.items", "'b', which the route calls row_key; they have 'a'"),
        ([{"a": 1}], {"source_time": "b"}, "$.items", "'b', which the route calls source_time; they have 'a'"),
        ([{}], {"required": ("b",)}, "$.items", "they have no fields"),
        ([{"a": None}], {"source_time": "a"}, "$.items", "is null in every row"),
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
    rows[0] |= {"name": BEFORE[1]["name"], "cap": 1000.0}
    found = compare([*rows, {"id": "9", "name": "new", "cap": 1.0, "pe": 1}])
    assert (found["removed"], found["changed:name"], found["jumped:cap"]) == (HALF, HALF, HALF)
    rows[0]["name"] = "a name that no row had"
    assert compare(rows)["changed:name"] == 0


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
