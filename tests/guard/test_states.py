"""The state machine: every arrow of the table, and what holds for all samples there can be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotpath.errors import DeclarationError
from hotpath.guard.states import (
    TABLE,
    Blank,
    Level,
    Position,
    Signal,
    State,
    Thresholds,
    drain,
    seconds_to_leave,
    take_in,
)
from hotpath.guard.states import step as step_from

DEFAULTS = Thresholds()
SEEING = (State.NORMAL, State.TRIM, State.SHED, State.BRAKE)


def run(
    shares: Sequence[float | None],
    *,
    interval: float = 1.0,
    position: Position | None = None,
    may_leave: bool = False,
    trim_helps: bool = False,
    start: float = 0.0,
) -> list[Position]:
    """The positions after each sample; ``None`` is a reading that failed."""
    position = position or Position()
    found = []
    for number, share in enumerate(shares):
        at = start + number * interval
        signal = Blank(at) if share is None else Signal(at, share)
        position = step(position, signal, DEFAULTS, may_leave=may_leave, trim_helps=trim_helps)
        found.append(position)
    return found


def step(
    position: Position,
    signal: Signal | Blank,
    thresholds: Thresholds,
    *,
    may_leave: bool = True,
    trim_helps: bool = False,
) -> Position:
    """Where one sample leads."""
    return step_from(take_in(position, signal, thresholds, trim_helps=trim_helps), may_leave=may_leave)


def states(positions: Sequence[Position]) -> list[State]:
    """Each state once, in the order in which they were."""
    found = [State.NORMAL]
    for position in positions:
        if position.state is not found[-1]:
            found.append(position.state)
    return found


def transitions(positions: Sequence[Position]) -> list[float]:
    return [after.since for before, after in pairwise([Position(), *positions]) if before.state != after.state]


def test_each_watermark_is_entered_and_left_with_its_dwell_time() -> None:
    for share, state, leave, dwell in (
        (0.70, State.TRIM, 0.62, 10),
        (0.80, State.SHED, 0.72, 15),
        (0.90, State.BRAKE, 0.82, 15),
    ):
        entered = run([share - 0.001] * 5 + [share] * 3)
        assert entered[4].state == state - 1
        assert entered[-1].state is state
        assert run([leave] * 300, position=entered[-1], start=8)[-1].state is state, "at the watermark it stays"
        after = run([leave - 0.001] * 40, position=entered[-1], start=8)
        left = next(position for position in after if position.state is not state)
        assert left.since - 8 == dwell
        assert left.reason == "calm"


def test_trim_needs_two_of_three_samples() -> None:
    assert states(run([0.71, 0.5, 0.5, 0.71, 0.5, 0.5])) == [State.NORMAL]
    assert states(run([0.71, 0.5, 0.71])) == [State.NORMAL, State.TRIM]


@pytest.mark.parametrize(
    ("seconds", "share", "state"),
    [
        (59, 0.1, State.TRIM),
        (7.9, 0.69, State.TRIM),
        (1.9, 0.69, State.TRIM),
        (7.9, 0.70, State.SHED),
        (8.0, 0.70, State.TRIM),
        (1.9, 0.70, State.BRAKE),
    ],
)
def test_time_to_exhaustion_trims_at_any_share_and_refuses_from_the_first_watermark_on(
    seconds: float, share: float, state: State
) -> None:
    position = Position()
    for at in range(2):
        position = step(position, Signal(at, share, seconds), DEFAULTS)
    assert position.state is state
    assert position.reason == ("usage" if seconds == 8 else "exhaustion")


def test_too_few_bytes_left_is_brake_and_is_left_with_its_dwell_time() -> None:
    position = step(Position(), Signal(0, 0.3, inf, is_tight=True), DEFAULTS)
    assert (position.state, position.reason) == (State.BRAKE, "headroom")
    after = run([0.3] * 20, position=position, start=1)
    assert states(after)[1:] == [State.BRAKE, State.NORMAL]
    assert transitions(after)[-1] == 16


def test_a_state_is_left_to_the_highest_one_that_is_not_calm() -> None:
    braking = run([0.95])[-1]
    assert states(run([0.75] * 20, position=braking, start=1)) == [State.NORMAL, State.BRAKE, State.SHED]
    assert states(run([0.65] * 20, position=braking, start=1)) == [State.NORMAL, State.BRAKE, State.TRIM]
    assert states(run([0.30] * 20, position=braking, start=1)) == [State.NORMAL, State.BRAKE, State.NORMAL]


def test_coming_back_within_a_minute_doubles_the_time_to_leave_up_to_half_a_minute() -> None:
    held: list[float] = []
    position, at = Position(), 0.0
    for _ in range(6):
        position = step(position, Signal(at, 0.95), DEFAULTS, may_leave=False)
        assert position.state is State.BRAKE
        entered = at
        while position.state is State.BRAKE:
            at += 1
            position = step(position, Signal(at, 0.1), DEFAULTS, may_leave=False)
        held.append(at - entered - 1)  # calm from the second sample on
        at += 5
    assert held == [15, 30, 30, 30, 30, 30]
    at += 61
    position = step(position, Signal(at, 0.95), DEFAULTS, may_leave=False)
    assert seconds_to_leave(position, at, DEFAULTS) == 15, "after more than a minute it starts again"


def test_coming_back_for_another_reason_is_no_return() -> None:
    position, at = Position(), 0.0
    signals = (Signal(0, 0.95), Signal(0, 0.3, inf, is_tight=True), Signal(0, 0.75, 1.0))
    for signal, reason in zip(signals, ("usage", "headroom", "exhaustion"), strict=True):
        position = step(position, replace(signal, at=at), DEFAULTS, may_leave=False)
        assert (position.state, position.reason) == (State.BRAKE, reason)
        entered = at
        while position.state is not State.NORMAL:
            at += 1
            position = step(position, Signal(at, 0.1), DEFAULTS, may_leave=False)
        assert at - entered == 16
        at += 5


def test_a_deadline_ends_in_drain_and_drain_in_nothing_else() -> None:
    found = run([0.95] * 30, may_leave=True)
    assert states(found) == [State.NORMAL, State.BRAKE, State.DRAIN]
    assert (found[-1].since, found[-1].reason) == (20, "brake_deadline")
    assert states(run([0.1, None] * 300, position=found[-1], start=30, may_leave=True))[-1] is State.DRAIN
    found = run([0.85] * 130, may_leave=True)
    assert states(found) == [State.NORMAL, State.SHED, State.DRAIN]
    assert (found[-1].since, found[-1].reason) == (120, "shed_deadline")


def test_trimming_that_helps_puts_the_end_of_shedding_off_and_is_no_way_to_shed_for_ever() -> None:
    found = run([0.85] * 1000, may_leave=True, trim_helps=True)
    assert states(found) == [State.NORMAL, State.SHED, State.DRAIN]
    assert (found[-1].since, found[-1].reason) == (600, "shed_deadline")


def test_a_process_that_is_already_calm_is_not_drained_for_its_dwell_time() -> None:
    """Doubled dwell times are longer than BRAKE's deadline."""
    position = replace(run([0.95])[-1], dwell_seconds=(10.0, 60.0, 60.0))
    assert states(run([0.3] * 70, position=position, start=1, may_leave=True))[-1] is State.NORMAL


def test_who_may_not_leave_is_overdue_until_the_state_is_left() -> None:
    found = run([0.95] * 30)
    assert states(found) == [State.NORMAL, State.BRAKE]
    assert [position.overdue for position in found] == [False] * 20 + [True] * 10
    after = run([0.1] * 16, position=found[-1], start=30)
    assert after[-2].overdue
    assert (after[-1].state, after[-1].overdue) == (State.NORMAL, False)
    assert step(found[-1], Signal(30, 0.95), DEFAULTS, may_leave=True).state is State.DRAIN


def test_three_bad_readings_are_blind_and_three_good_ones_see_where_it_stands() -> None:
    assert states(run([None, None, 0.1, None, None])) == [State.NORMAL]
    for share, state in ((0.1, State.NORMAL), (0.65, State.TRIM), (0.75, State.SHED), (0.85, State.BRAKE)):
        found = run([None] * 3 + [share] * 3)
        assert states(found) == [State.NORMAL, State.BLIND, *([state] if state else [State.NORMAL])]
        assert found[4].state is State.BLIND
    tight = run([None] * 3)[-1]
    for at in (3, 4, 5):
        tight = step(tight, Signal(at, 0.1, inf, is_tight=True), DEFAULTS)
    assert tight.state is State.BRAKE


def test_drain_can_be_asked_for() -> None:
    position = drain(run([0.5])[-1], 7.0, "reserve")
    assert (position.state, position.since, position.reason) == (State.DRAIN, 7.0, "reserve")


@pytest.mark.parametrize("period", [4, 10, 20, 31, 44, 60, 100, 130, 240])
@pytest.mark.parametrize(("low", "high"), [(0.79, 0.81), (0.69, 0.71), (0.89, 0.91), (0.3, 0.95), (0.6, 0.75)])
def test_a_square_wave_makes_at_most_two_transitions_a_minute(period: int, low: float, high: float) -> None:
    wave = [high if second % period < period / 2 else low for second in range(1200)]
    found = transitions(run(wave))
    assert len(found) <= 2 * 1200 / 60
    if high - low < 0.05:
        assert len(found) <= 3, "inside the hysteresis it goes up and stays"


def test_the_table_has_an_arrow_for_each_way_and_none_out_of_drain() -> None:
    arrows = {(source, row.target) for row in TABLE for source in row.sources}
    seeing = {(one, other) for one in SEEING for other in SEEING if one is not other}
    blind = {(state, State.BLIND) for state in SEEING} | {(State.BLIND, state) for state in SEEING}
    assert arrows == seeing | blind | {(State.BRAKE, State.DRAIN), (State.SHED, State.DRAIN)}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"shed": Level(0.65, 0.60, 8, 15)}, "out of order: trim is 0.7/0.62 and shed 0.65/0.6"),
        ({"brake": Level(0.90, 0.70, 2, 15)}, "out of order"),
        ({"trim": Level(0.70, 0.70, 60, 10)}, "0 < leave < enter"),
        ({"trim": Level(70, 62, 60, 10)}, "shares of the limit"),
        ({"brake": Level(1.2, 0.82, 2, 15)}, "shares of the limit"),
        ({"shed": Level(0.80, 0.72, 90, 15)}, "trim has to come first"),
        ({"shed": Level(0.80, 0.72, 8, 0)}, "dwell_seconds are seconds"),
        ({"brake_seconds": 0}, "brake_seconds=0"),
        ({"shed_seconds": float("nan")}, "shed_seconds=nan"),
        ({"trimmed_seconds": 60}, "is below shed_seconds=120"),
        ({"max_dwell_seconds": 5}, "below a state's own dwell time"),
        ({"bad_readings": 0}, "bad_readings=0 is no whole number"),
        ({"good_readings": 2.5}, "good_readings=2.5 is no whole number"),
        ({"shed": 0.8}, "shed=0.8: write Level"),
        ({"shed": Level("0.80", 0.72, 8, 15)}, "shed: '0.80' is no number"),  # type: ignore[arg-type]
        ({"brake_seconds": "20s"}, "brake_seconds: '20s' is no number"),
        ({"exhaustion_from": 70}, "is a share of the limit"),
    ],
)
def test_numbers_that_cannot_work_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(DeclarationError, match=said):
        Thresholds(**options)  # type: ignore[arg-type]


# For all samples there can be.

SHARES = st.floats(0, 1.2)
SIGNALS = st.tuples(
    SHARES,
    st.one_of(st.just(inf), st.floats(0, 120)),
    st.booleans(),
    st.floats(0.05, 5),
    st.booleans(),
)
READINGS = st.lists(st.one_of(SIGNALS, st.floats(0.05, 5)), max_size=200)


def positions(readings: list[object], *, may_leave: bool) -> list[tuple[float, Position]]:
    at, position, found = 0.0, Position(), []
    for reading in readings:
        if isinstance(reading, tuple):
            share, seconds, tight, pause, helps = reading
            at += pause
            signal: Signal | Blank = Signal(at, share, seconds, tight)
            position = step(position, signal, DEFAULTS, may_leave=may_leave, trim_helps=helps)
        else:
            assert isinstance(reading, float)
            at += reading
            position = step(position, Blank(at), DEFAULTS, may_leave=may_leave)
        found.append((at, position))
    return found


@given(READINGS)
def test_a_state_is_never_left_for_a_lower_one_before_its_dwell_time(readings: list[object]) -> None:
    entered: dict[State, float] = {}
    before = Position()
    for at, position in positions(readings, may_leave=False):
        if position.state != before.state:
            if position.state in SEEING and before.state in SEEING:
                for state in (State.TRIM, State.SHED, State.BRAKE):
                    if before.state < state <= position.state:
                        entered[state] = at
                    elif position.state < state <= before.state and state in entered:
                        assert at - entered[state] >= DEFAULTS.levels[state - 1].dwell_seconds
            else:
                entered.clear()  # out of BLIND it is as it is found
        before = position


@given(READINGS, st.floats(0, 0.61))
def test_without_pressure_every_state_is_left_for_normal(readings: list[object], share: float) -> None:
    found = positions(readings, may_leave=False)
    at, position = found[-1] if found else (0.0, Position())
    end = at + DEFAULTS.max_dwell_seconds + 5
    while at < end:
        at += 1
        position = step(position, Signal(at, share), DEFAULTS, may_leave=False)
    assert position.state is State.NORMAL
    assert not position.overdue


@given(READINGS, st.floats(0.80, 1.2), st.booleans())
def test_under_lasting_pressure_every_state_ends_in_drain(readings: list[object], share: float, helps: bool) -> None:
    found = positions(readings, may_leave=False)
    at, position = found[-1] if found else (0.0, Position())
    end = at + (DEFAULTS.trimmed_seconds if helps else DEFAULTS.shed_seconds) + 5 + DEFAULTS.max_dwell_seconds
    while at < end and position.state is not State.DRAIN:
        at += 1
        position = step(position, Signal(at, share), DEFAULTS, may_leave=True, trim_helps=helps)
    assert position.state is State.DRAIN


@given(READINGS, SIGNALS, SIGNALS, st.booleans(), st.booleans())
def test_more_pressure_never_gives_a_lower_state(
    readings: list[object],
    one: tuple[float, float, bool, float, bool],
    other: tuple[float, float, bool, float, bool],
    may_leave: bool,
    helps: bool,
) -> None:
    found = positions(readings, may_leave=may_leave)
    at, position = found[-1] if found else (0.0, Position())
    at += one[3]
    low = Signal(at, min(one[0], other[0]), max(one[1], other[1]), one[2] and other[2])
    high = Signal(at, max(one[0], other[0]), min(one[1], other[1]), one[2] or other[2])
    results = [step(position, signal, DEFAULTS, may_leave=may_leave, trim_helps=helps).state for signal in (low, high)]
    assert results[0] <= results[1]
