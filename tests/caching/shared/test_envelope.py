"""What is kept comes back as it was, or not at all."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotpath.caching.shared.envelope import packed, unpacked

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(json_values | st.binary())
def test_a_value_comes_back(value: object) -> None:
    try:
        data = packed(value, None, 10, 15, 20)
    except TypeError:  # half a surrogate pair
        return
    came = unpacked(data, 20_000, None)
    assert came is not None
    assert came == (value, 10, 15, 20)


@pytest.mark.parametrize("value", [(1, 2), {1: 2}, {"a": (1,)}, {1, 2}, object(), float("nan")])
def test_what_json_would_change_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        packed(value, None, 1, 1, 1)


def test_a_codec_holds_others() -> None:
    data = packed((1, {2}), pickle, 1, 1, 1)
    came = unpacked(data, 1000, pickle)
    assert came is not None
    assert came.value == (1, {2})
    assert unpacked(data, 1000, None) is None, "it was written with a codec"
    assert unpacked(packed(1, None, 1, 1, 1), 1000, pickle) is None


def test_its_age_is_what_the_server_says() -> None:
    came = unpacked(packed("x", None, 10, 15, 20), 7_500, None)
    assert came == ("x", -2.5, 2.5, 7.5)


@given(st.binary(max_size=60), st.integers(-2, 10_000))
def test_any_other_bytes_are_no_value(data: bytes, left: int) -> None:
    came = unpacked(data, left, None)
    assert came is None or data.startswith(b"hp1")


def test_a_damaged_value_is_none() -> None:
    data = packed({"a": [1, 2, 3]}, None, 1, 1, 1)
    assert unpacked(data[:-1], 1000, None) is None
    assert unpacked(data, -2, None) is None, "it has ended meanwhile"
    assert unpacked(data, -1, None) is None, "somebody set it without an end"
