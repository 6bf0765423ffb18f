"""From a return value to bytes: what JSON cannot say is named by its place, never changed in silence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from hotpath.errors import ItemError
from hotpath.pages.payload import encode_payload

JSON = "application/json"


@dataclass
class Row:
    ticker: str
    pe: float | None


class Model(BaseModel):
    ticker: str
    pe: float | None


class Priced(BaseModel):
    price: Decimal
    tags: set[int]


@dataclass(slots=True)
class Slotted:
    model: object
    _hidden: float = math.nan


@dataclass
class Holding:
    rows: list[object]
    note: str | None = None


class Limit(Enum):
    OPEN = math.inf
    ONE = 1


class Share(float, Enum):
    UNKNOWN = math.nan


@pytest.mark.parametrize(
    ("value", "body"),
    [
        ({"a": [1, None, "ü"]}, '{"a":[1,null,"ü"]}'.encode()),
        ([Row("A", None)], b'[{"ticker":"A","pe":null}]'),
        (Model(ticker="A", pe=1.5), b'{"ticker":"A","pe":1.5}'),
        ({1: datetime(2026, 11, 23, tzinfo=UTC)}, b'{"1":"2026-11-23T00:00:00+00:00"}'),
        # A model in a dataclass, with a null or the word beside it.
        (Holding([Model(ticker="null", pe=1.5)]), b'{"rows":[{"ticker":"null","pe":1.5}],"note":null}'),
        (Slotted(Priced(price=Decimal("1.5"), tags={1})), b'{"model":{"price":"1.5","tags":[1]}}'),
        ([None, Slotted(Priced(price=Decimal("1.5"), tags={1}))], b'[null,{"model":{"price":"1.5","tags":[1]}}]'),
        ({None: 1, True: 2, Limit.ONE: 3, 2.5: None}, b'{"null":1,"true":2,"1":3,"2.5":null}'),
        ('{"ready": true}', b'{"ready": true}'),
        (b"[1]", b"[1]"),
        (0, b"0"),
    ],
)
def test_json(value: object, body: bytes) -> None:
    assert encode_payload(value, JSON) == body


def test_text_goes_out_as_it_is() -> None:
    assert encode_payload("User-agent: *\n", "text/plain; charset=utf-8") == b"User-agent: *\n"
    assert encode_payload("ü", "text/html; charset=utf-8") == "ü".encode()


@pytest.mark.parametrize(
    ("value", "path", "told"),
    [
        ({"items": [{"pe": 1.0}, {"pe": math.nan}]}, "$.items[1].pe", "nan"),
        ({"items": [{"pe": math.inf}]}, "$.items[0].pe", "inf"),
        ([Model(ticker="A", pe=math.nan)], "$[0].pe", "nan"),
        ([Row("A", math.nan)], "$[0].pe", "nan"),
        (Holding([Row("A", 1.0), Row("B", -math.inf)]), "$.rows[1].pe", "inf"),
        (Holding([Model(ticker="A", pe=math.nan)]), "$.rows[0].pe", "nan"),
        (Slotted([Slotted({"pe": math.nan})]), "$.model[0].model.pe", "nan"),
        ([Limit.OPEN], "$[0]", "inf"),
        ({"share": Share.UNKNOWN}, "$.share", "nan"),
        ({math.nan: 1}, "$[nan]", "key nan"),
        ({"by": {Limit.OPEN: 1}}, "$.by[<Limit.OPEN: inf>]", "key inf"),
        ({1: "a", "1": "b"}, "$['1']", "one member"),
        ({"x": {None: 1, "null": 2}}, "$.x.null", "one member"),
        ({True: 1, "true": 2}, "$.true", "one member"),
        ({Limit.ONE: 1, 1: 2}, "$[1]", "one member"),
        ([{(1, 2): 3}], "$[0][(1, 2)]", "tuple"),
        (Holding([Decimal(1)]), "$.rows[0]", "Decimal"),
        ({"a": Decimal("1.5")}, "$.a", r"Decimal.*float\(\)"),
        ({"a b": {1, 2}}, "$['a b']", "set.*sort"),
        ([object()], "$[0]", "object"),
        ({"name": "\udcff"}, "$.name", "surrogates"),
    ],
)
def test_what_json_cannot_say_is_named_by_its_place(value: object, path: str, told: str) -> None:
    with pytest.raises(ItemError, match=told) as caught:
        encode_payload(value, JSON)
    assert caught.value.path == path


def test_a_payload_that_contains_itself_is_an_error() -> None:
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(ItemError, match="deep"):
        encode_payload(loop, JSON)


@pytest.mark.parametrize(
    ("value", "media_type", "told"),
    [
        (None, JSON, "returned None"),
        ("", "text/plain", "empty"),
        ("<p>", JSON, "media_type='text/html'"),
        ({"a": 1}, "text/html", "return str or bytes"),
    ],
)
def test_what_is_no_page(value: object, media_type: str, told: str) -> None:
    with pytest.raises(ItemError, match=told):
        encode_payload(value, media_type)


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats() | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=20,
)


def _is_finite(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(_is_finite(inner) for inner in value.values())
    return all(_is_finite(inner) for inner in value) if isinstance(value, list) else True


@given(st.lists(_json, max_size=4))
def test_what_is_published_reads_back_as_what_was_returned(value: list[object]) -> None:
    if _is_finite(value):
        assert orjson.loads(encode_payload(value, JSON)) == value
    else:
        with pytest.raises(ItemError):
            encode_payload(value, JSON)
