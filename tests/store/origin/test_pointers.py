"""The pointers as values: written and read the same, never the same bytes twice, and which generation they choose."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotpath.errors import Corrupt
from hotpath.store.origin.pointers import MAX_ACCEPTED, Bad, Copy, Current, OriginState, Pin
from hotpath.store.pointer import Pointer


def pointer(sequence: int) -> Pointer:
    return Pointer(sequence, bytes([sequence % 256]) * 32)


def published(*sequences: int) -> Current:
    current = Current.first(pointer(sequences[0]), pin=Pin(), bad=Bad())
    for sequence in sequences[1:]:
        current = current.published(pointer(sequence))
    return current


SEQUENCES = st.integers(1, 10**15)


@given(st.lists(SEQUENCES, min_size=1, max_size=8, unique=True).map(sorted), st.one_of(st.none(), SEQUENCES))
def test_current_is_read_as_it_was_written(sequences: list[int], began: int | None) -> None:
    current = published(*sequences)
    current = current.published(pointer(10**15 + 1), "right after all")
    current = current.pruned(began, current.accepted)
    assert current.approved == {10**15 + 1: "right after all"}
    assert Current.decode(current.encode()) == current


@given(st.dictionaries(SEQUENCES, st.text(max_size=20)), st.tuples(SEQUENCES, SEQUENCES), SEQUENCES)
def test_pin_and_bad_are_read_as_they_were_written(
    marks: dict[int, str], rollback: tuple[int, int], sequence: int
) -> None:
    bad = Bad().moved(marks, rollback)
    read = Bad.decode(bad.encode())
    assert (read.change, read.rollback, set(read.marks)) == (1, rollback, set(marks))
    for pin in (Pin().moved(pointer(sequence)), Pin().moved(None), Pin()):
        assert Pin.decode(pin.encode()) == pin


@pytest.mark.parametrize("kind", [Current, Pin, Bad])
@given(st.binary(max_size=60))
def test_anything_else_is_refused(kind: type[Current | Pin | Bad], data: bytes) -> None:
    with pytest.raises(Corrupt):
        kind.decode(data)


@pytest.mark.parametrize(
    "wrong",
    [
        {"pruning": "x"},
        {"pruning": [1]},
        {"pruning": 1e300},
        {"accepted": {"1": "ab" * 32, "9" * 100: "ab" * 32}},
        {"approved": {"-1": "x"}},
        {"change": -1},
        {"change": 2**64 - 1},
        {"current": {"sequence": 10**18, "sha256": "ab" * 32}, "accepted": {str(10**18): "ab" * 32}},
        {"approved": [1]},
        {"hotpath": 2},
    ],
)
def test_a_current_with_another_kind_of_value_is_refused(wrong: dict[str, object]) -> None:
    facts = orjson.loads(published(1, 2).encode())
    with pytest.raises(Corrupt):
        Current.decode(orjson.dumps(facts | wrong))


@pytest.mark.parametrize(
    ("kind", "facts"),
    [
        (Bad, {"bad": {"9" * 30: "x"}, "rollback": None}),
        (Bad, {"bad": {}, "rollback": [1e300, 1]}),
        (Copy, {"copied": None, "copying": {"a": {"since": 1e300, "targets": []}}}),
        (Copy, {"copied": None, "copying": {"a": {"since": -1, "targets": []}}}),
    ],
)
def test_numbers_that_could_not_be_written_again_are_refused(kind: type[Bad | Copy], facts: dict[str, object]) -> None:
    with pytest.raises(Corrupt):
        kind.decode(orjson.dumps({"hotpath": 1, "change": 1, **facts}))


def test_an_error_about_a_format_is_short() -> None:
    with pytest.raises(Corrupt) as refused:
        Pin.decode(orjson.dumps({"hotpath": "x" * 1_000_000, "change": 1}))
    assert len(str(refused.value)) < 200


def test_no_content_comes_back() -> None:
    """There and back again: the same generation is named, and the bytes are others."""
    first = published(1, 2)
    there = first.changed(pointer(1), Pin(), Bad())
    back = there.changed(pointer(2), Pin(), Bad())
    assert back.pointer == first.pointer
    assert len({each.encode() for each in (first, there, back)}) == 3
    pin = Pin().moved(pointer(1))
    assert pin.moved(None).moved(pointer(1)).encode() != pin.encode()


def test_current_stays_small() -> None:
    current = published(*range(1, 200))
    assert sorted(current.accepted) == [*range(200 - MAX_ACCEPTED, 200)]
    assert len(current.encode()) < 5000


@pytest.mark.parametrize(
    ("current", "pin", "bad", "chosen"),
    [
        (None, None, (), None),
        (published(1, 2, 3), None, (), 3),
        (published(1, 2, 3), 1, (), 1),
        (published(1, 2, 3), None, (3,), 2),
        (published(1, 2, 3), None, (2, 3), 1),
        (published(1, 2, 3), 2, (3,), 2),
        (published(1, 2, 3), 2, (2, 3), 2),
        (published(3), None, (3,), 3),
    ],
)
def test_which_generation_is_chosen(
    current: Current | None, pin: int | None, bad: tuple[int, ...], chosen: int | None
) -> None:
    state = OriginState(current, Pin(1, pointer(pin) if pin else None), Bad(1, dict.fromkeys(bad, "")))
    assert state.chosen == (pointer(chosen) if chosen else None)


def test_the_highest_number_counts_what_was_rolled_back_and_pruned() -> None:
    current = published(1, 2, 3)
    kept = current.pruned(None, {1: current.accepted[1], 3: current.accepted[3]})
    assert OriginState(kept, Pin(), Bad(1, {7: ""})).highest == 7
    assert OriginState(kept).highest == 3
    assert OriginState().highest == 0
