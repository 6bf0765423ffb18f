"""Which arguments are one value, and which are not, in every process."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import subprocess
import sys
import uuid
from collections.abc import Callable

import pytest
from cachetools.keys import hashkey
from hypothesis import given
from hypothesis import strategies as st

from hotpath.caching.shared.keys import digest_of, version_of
from hotpath.errors import DeclarationError


class Color(enum.Enum):
    RED = 1
    BLUE = 2


DIFFERENT = [
    None, True, 1, 1.0, "1", b"1", (1,), ((1,),), ("1",), (1, 2), ("1,2",), ("1", "2"), frozenset({1}),
    frozenset({1, 2}),
    "", b"", (), "None", "int:1", decimal.Decimal(1), decimal.Decimal("1.0"), dt.date(2026, 1, 1), "2026-01-01",
    dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.timedelta(1), dt.time(1),
    uuid.UUID(int=1), str(uuid.UUID(int=1)), Color.RED, Color.BLUE, "RED",
    hashkey(1, a=1), hashkey(1, "a", 1),
    hashkey(a=1), hashkey("a", 1), "\ud800", -0.0, 0.0,
]  # fmt: skip


def test_different_arguments_have_different_digests() -> None:
    assert len({digest_of(value) for value in DIFFERENT}) == len(DIFFERENT)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=4),
    max_leaves=8,
)


@given(plain, plain)
def test_texts_are_equal_only_where_values_and_types_are(one: object, other: object) -> None:
    assert (digest_of(one) == digest_of(other)) == (repr(one) == repr(other) or (one == other and alike(one, other)))


def alike(one: object, other: object) -> bool:
    """Whether equal values have equal types all the way down, and zeros one sign."""
    if type(one) is not type(other):
        return False
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, frozenset) and isinstance(other, frozenset):
        return all(any(alike(a, b) and a == b for b in other) for a in one)
    return repr(one) == repr(other)


def test_a_digest_is_the_same_in_every_process() -> None:
    code = "from hotpath.caching.shared.keys import *\nprint(digest_of(('a', frozenset('xyz'))), version_of(digest_of))"
    seen = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True, timeout=30
        ).stdout
        for seed in ("1", "2")
    }
    assert len(seen) == 1


@pytest.mark.parametrize("value", [object(), [1], {"a": 1}, (1, object()), lambda: 1])
def test_what_has_no_text_of_its_own_is_refused(value: object) -> None:
    with pytest.raises(DeclarationError, match=r"write key=lambda"):
        digest_of(value)


def compiled(source: str) -> Callable[..., object]:
    names: dict[str, Callable[..., object]] = {}
    exec(source, names)
    return names["f"]


def test_a_version_is_of_the_code() -> None:
    sources = [
        "def f(x):\n return x + 1",
        "def f(x):\n return x + 2",
        "def f(x):\n return x.a",
        "def f(x):\n return x.b",
        "def f(x):\n return x in {1, 2}",
        "def f(x):\n return x in {1, 3}",
        "def f(x):\n return [y + 1 for y in x]",
        "def f(x):\n return [y + 2 for y in x]",
    ]
    assert len({version_of(compiled(source)) for source in sources}) == len(sources)
    assert version_of(compiled(sources[0])) == version_of(compiled("\n\n# moved\n" + sources[0]))
    assert version_of(len) == "0"
