"""The guard's states as a table: where a process stands and what one sample says → where it stands next.

Nothing here reads memory or a clock: samples carry their time. ``TABLE`` has every arrow there is; of those that
leave a state, the first whose condition holds is taken. The diagram in docs/explanation/guard.md is drawn from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum
from math import inf
from typing import Final

from hotpath.errors import DeclarationError
from hotpath.options import parse_count


class State(IntEnum):
    """What the guard does now. Up to DRAIN a higher one refuses more."""

    NORMAL = 0
    TRIM = 1
    SHED = 2
    BRAKE = 3
    DRAIN = 4
    BLIND = 5


@dataclass(frozen=True, slots=True)
class Level:
    """When a state is entered and left.

    ``enter`` and ``leave`` are shares of the limit, ``seconds_left`` the time to exhaustion below which it is entered
    too, ``dwell_seconds`` how long the share has to be below ``leave`` before the state is left.
    """

    enter: float
    leave: float
    seconds_left: float
    dwell_seconds: float

    def check(self, name: str) -> None:
        """Raise ``DeclarationError`` for numbers that cannot work; ``name`` is the option."""
        _check_numbers(name, self.enter, self.leave, self.seconds_left, self.dwell_seconds)
        if not 0 < self.leave < self.enter <= 1:
            raise DeclarationError(
                f"{name}: enter={self.enter:g} and leave={self.leave:g} are shares of the limit with 0 < leave < enter"
                f" ≤ 1; write for instance Level(.80, .72, 8, 15)"
            )
        if not (0 <= self.seconds_left < inf and 0 < self.dwell_seconds < inf):
            raise DeclarationError(f"{name}: seconds_left and dwell_seconds are seconds, the second more than 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """All numbers of the table. Raises ``DeclarationError`` where they are out of order.

    Coming back into a state within ``return_seconds`` of leaving it, for the same reason, doubles its dwell time, up
    to ``max_dwell_seconds``: one client that comes back with the same load must not keep others out for minutes.
    BRAKE ends in DRAIN after ``brake_seconds``, SHED after ``shed_seconds``, or after ``trimmed_seconds`` where
    trimming gives memory back again and again and it is not enough. Below the share ``exhaustion_from`` no time to
    exhaustion refuses anything, it only trims: growth there is as often a file that is written, or a cache that fills,
    as a leak. In BLIND at most ``blind_in_flight`` cold requests run.
    """

    trim: Level = Level(0.70, 0.62, 60.0, 10.0)
    shed: Level = Level(0.80, 0.72, 8.0, 15.0)
    brake: Level = Level(0.90, 0.82, 2.0, 15.0)
    brake_seconds: float = 20.0
    shed_seconds: float = 120.0
    trimmed_seconds: float = 600.0
    return_seconds: float = 60.0
    max_dwell_seconds: float = 30.0
    exhaustion_from: float = 0.70
    bad_readings: int = 3
    good_readings: int = 3
    blind_in_flight: int = 16

    def __post_init__(self) -> None:
        for name in ("trim", "shed", "brake"):
            level = getattr(self, name)
            if not isinstance(level, Level):
                raise DeclarationError(f"{name}={level!r}: write Level(enter, leave, seconds_left, dwell_seconds)")
            level.check(name)
        for low, high in (("trim", "shed"), ("shed", "brake")):
            below, above = getattr(self, low), getattr(self, high)
            if not (below.enter < above.enter and below.leave < above.leave):
                raise DeclarationError(
                    f"the watermarks are out of order: {low} is {below.enter:g}/{below.leave:g} and {high}"
                    f" {above.enter:g}/{above.leave:g}; each of {high}'s has to be above {low}'s"
                )
            if below.seconds_left < above.seconds_left:
                raise DeclarationError(
                    f"{low} is entered {below.seconds_left:g} s before exhaustion and {high} {above.seconds_left:g} s;"
                    f" {low} has to come first"
                )
        for name in ("brake_seconds", "shed_seconds", "trimmed_seconds", "return_seconds", "max_dwell_seconds"):
            _check_numbers(name, getattr(self, name))
            if not 0 < getattr(self, name) < inf:
                raise DeclarationError(f"{name}={getattr(self, name)!r}: write seconds, more than 0")
        longest = max(level.dwell_seconds for level in self.levels)
        if self.max_dwell_seconds < longest:
            raise DeclarationError(
                f"max_dwell_seconds={self.max_dwell_seconds:g} is below a state's own dwell time, {longest:g} s"
            )
        if self.trimmed_seconds < self.shed_seconds:
            raise DeclarationError(
                f"trimmed_seconds={self.trimmed_seconds:g} is below shed_seconds={self.shed_seconds:g}: trimming that"
                " helps puts the end of SHED off"
            )
        _check_numbers("exhaustion_from", self.exhaustion_from)
        if not 0 <= self.exhaustion_from <= 1:
            raise DeclarationError(f"exhaustion_from={self.exhaustion_from!r} is a share of the limit: write .70")
        for name in ("bad_readings", "good_readings", "blind_in_flight"):
            parse_count(getattr(self, name), name)

    @property
    def levels(self) -> tuple[Level, Level, Level]:
        """Those of TRIM, SHED and BRAKE."""
        return self.trim, self.shed, self.brake


def _check_numbers(name: str, *values: object) -> None:
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise DeclarationError(f"{name}: {value!r} is no number")


@dataclass(frozen=True, slots=True)
class Signal:
    """One good sample: ``share`` of the limit in use, seconds to exhaustion at the present growth.

    ``is_tight`` says that the bytes left are fewer than BRAKE's reserve. ``at`` is a monotonic time in seconds.
    """

    at: float
    share: float
    seconds_left: float = inf
    is_tight: bool = False


@dataclass(frozen=True, slots=True)
class Blank:
    """A sample that could not be taken, or that made no sense."""

    at: float


@dataclass(frozen=True, slots=True)
class Position:
    """Where the guard stands: its state and what the table has to remember. Tuples go by TRIM, SHED, BRAKE.

    ``overdue`` says that a deadline has passed and the process may not leave: readiness says 503, an alarm is raised.
    """

    state: State = State.NORMAL
    since: float = -inf
    reason: str = "start"
    calm_since: tuple[float | None, float | None, float | None] = (-inf, -inf, -inf)
    dwell_seconds: tuple[float, float, float] | None = None
    left_at: tuple[float, float, float] = (-inf, -inf, -inf)
    entered_for: tuple[str, str, str] = ("", "", "")
    shedding_since: float | None = None
    trims_asked: tuple[bool, ...] = ()
    bad: int = 0
    good: int = 0
    overdue: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """What a row of the table is asked: a position that has taken in the sample. ``trim_helps``: trimming gives memory
    back.
    """

    position: Position
    signal: Signal | Blank
    thresholds: Thresholds
    trim_helps: bool

    @property
    def is_due(self) -> bool:
        """Whether a deadline of the present state has passed with this sample, so that the process should leave."""
        position, thresholds = self.position, self.thresholds
        if position.state not in (State.SHED, State.BRAKE) or isinstance(self.signal, Blank):
            return False
        if position.state is State.BRAKE:
            since: float | None = position.since
            seconds = thresholds.brake_seconds
        else:
            since = position.shedding_since
            seconds = thresholds.trimmed_seconds if self.trim_helps else thresholds.shed_seconds
        is_calm = position.calm_since[position.state - 1] is not None
        return not is_calm and since is not None and self.signal.at - since >= seconds


_LEVELS: Final = (State.TRIM, State.SHED, State.BRAKE)
_SEEING: Final = (State.NORMAL, *_LEVELS)
# TRIM costs processor time and no request, so one sample out of line must not start it.
_TRIM_OUT_OF: Final = 3
_TRIM_NEEDED: Final = 2


def _is_used(thresholds: Thresholds, state: State, signal: Signal) -> bool:
    return signal.share >= thresholds.levels[state - 1].enter


def _is_ending(thresholds: Thresholds, state: State, signal: Signal) -> bool:
    ends = signal.seconds_left < thresholds.levels[state - 1].seconds_left
    return ends and (state is State.TRIM or signal.share >= thresholds.exhaustion_from)


def _is_calm(thresholds: Thresholds, state: State, signal: Signal) -> bool:
    below = signal.share < thresholds.levels[state - 1].leave
    return below and not _is_ending(thresholds, state, signal) and not (state is State.BRAKE and signal.is_tight)


def released_to(case: Case) -> State:
    """The highest state that is not released yet: its share has not been below ``leave`` for its dwell time."""
    position = case.position
    dwells = position.dwell_seconds or tuple(level.dwell_seconds for level in case.thresholds.levels)
    for state in reversed(_LEVELS):
        since = position.calm_since[state - 1]
        if state <= position.state and (since is None or case.signal.at - since < dwells[state - 1]):
            return state
    return State.NORMAL


# The conditions of the table: whether the arrow to ``target`` is taken. All but the first need a reading.


def _unreadable(case: Case, _: State) -> bool:
    return case.position.bad >= case.thresholds.bad_readings


def _readable(case: Case, target: State) -> bool:
    """After BLIND: the highest state whose ``leave`` the sample is not below, whatever was before."""
    if isinstance(case.signal, Blank) or case.position.good < case.thresholds.good_readings:
        return False
    raised = (state for state in reversed(_LEVELS) if not _is_calm(case.thresholds, state, case.signal))
    return next(raised, State.NORMAL) is target


def _calm(case: Case, target: State) -> bool:
    return isinstance(case.signal, Signal) and released_to(case) is target


def _usage(case: Case, target: State) -> bool:
    return isinstance(case.signal, Signal) and _is_used(case.thresholds, target, case.signal) and _repeats(case, target)


def _exhaustion(case: Case, target: State) -> bool:
    return (
        isinstance(case.signal, Signal) and _is_ending(case.thresholds, target, case.signal) and _repeats(case, target)
    )


def _repeats(case: Case, target: State) -> bool:
    # The reason is that of the newest sample; where that one has none, the next one says it.
    return target is not State.TRIM or sum(case.position.trims_asked) >= _TRIM_NEEDED


def _headroom(case: Case, _: State) -> bool:
    return isinstance(case.signal, Signal) and case.signal.is_tight


def _deadline(case: Case, _: State) -> bool:
    return case.is_due


@dataclass(frozen=True, slots=True)
class Transition:
    """Arrows from each of ``sources`` to ``target``, taken when ``holds``. ``text`` is for people, ``reason`` for a
    metric.
    """

    sources: tuple[State, ...]
    target: State
    reason: str
    text: str
    holds: Callable[[Case, State], bool]


_NORMAL, _TRIM, _SHED, _BRAKE, _DRAIN, _BLIND = State
_BELOW_LEAVE: Final = "below leave for the dwell time"
_SHED_ENDS: Final = "120 s of shedding that trimming did not help, 600 s that it did not end"
_BY_THE_LAST: Final = "3 good readings, by the last"

TABLE: Final = (
    Transition((_NORMAL, _TRIM, _SHED, _BRAKE), _BLIND, "unreadable", "3 bad readings", _unreadable),
    Transition((_BRAKE, _SHED, _TRIM), _NORMAL, "calm", _BELOW_LEAVE, _calm),
    Transition((_BRAKE, _SHED), _TRIM, "calm", _BELOW_LEAVE, _calm),
    Transition((_BRAKE,), _SHED, "calm", _BELOW_LEAVE, _calm),
    Transition((_BRAKE,), _DRAIN, "brake_deadline", "20 s in BRAKE", _deadline),
    Transition((_NORMAL, _TRIM, _SHED), _BRAKE, "usage", "u ≥ .90", _usage),
    Transition((_NORMAL, _TRIM, _SHED), _BRAKE, "exhaustion", "TTE < 2 s from u = .70 on", _exhaustion),
    Transition((_NORMAL, _TRIM, _SHED), _BRAKE, "headroom", "H below the reserve", _headroom),
    Transition((_SHED,), _DRAIN, "shed_deadline", _SHED_ENDS, _deadline),
    Transition((_NORMAL, _TRIM), _SHED, "usage", "u ≥ .80", _usage),
    Transition((_NORMAL, _TRIM), _SHED, "exhaustion", "TTE < 8 s from u = .70 on", _exhaustion),
    Transition((_NORMAL,), _TRIM, "usage", "u ≥ .70 in 2 of 3", _usage),
    Transition((_NORMAL,), _TRIM, "exhaustion", "TTE < 60 s in 2 of 3", _exhaustion),
    Transition((_BLIND,), _BRAKE, "readable", _BY_THE_LAST, _readable),
    Transition((_BLIND,), _SHED, "readable", _BY_THE_LAST, _readable),
    Transition((_BLIND,), _TRIM, "readable", _BY_THE_LAST, _readable),
    Transition((_BLIND,), _NORMAL, "readable", _BY_THE_LAST, _readable),
)
_BY_SOURCE: Final = {state: tuple(row for row in TABLE if state in row.sources) for state in State}


def step(case: Case, *, may_leave: bool = True) -> Position:
    """Where a sample leads. ``may_leave`` says that DRAIN is open now."""
    for row in _BY_SOURCE[case.position.state]:
        if (may_leave or row.target is not State.DRAIN) and row.holds(case, row.target):
            return _enter(case.position, row, case.signal.at, case.thresholds)
    # Once overdue it stays so until the state is left: a moment of calm is no recovery.
    return replace(case.position, overdue=True) if case.is_due else case.position


def drain(position: Position, at: float, reason: str) -> Position:
    """Enter DRAIN for a cause that is no sample: the reserve of a hard limit was used, a person asked."""
    return replace(position, state=State.DRAIN, since=at, reason=reason, overdue=False)


def take_in(position: Position, signal: Signal | Blank, thresholds: Thresholds, *, trim_helps: bool = False) -> Case:
    """Add one sample to what a position remembers."""
    if isinstance(signal, Blank):
        return Case(replace(position, bad=position.bad + 1, good=0), signal, thresholds, trim_helps)
    trim, shed, brake = (
        (signal.at if since is None else since) if _is_calm(thresholds, state, signal) else None
        for state, since in zip(_LEVELS, position.calm_since, strict=True)
    )
    asked = _is_used(thresholds, State.TRIM, signal) or _is_ending(thresholds, State.TRIM, signal)
    seen = replace(
        position,
        calm_since=(trim, shed, brake),
        trims_asked=(*position.trims_asked, asked)[-_TRIM_OUT_OF:],
        bad=0,
        good=position.good + 1,
    )
    return Case(seen, signal, thresholds, trim_helps)


def _enter(position: Position, row: Transition, at: float, thresholds: Thresholds) -> Position:
    target, reason = row.target, row.reason
    base = tuple(level.dwell_seconds for level in thresholds.levels)
    dwells, left, causes = list(position.dwell_seconds or base), list(position.left_at), list(position.entered_for)
    if position.state in _SEEING and target in _SEEING:
        for state in _LEVELS:
            index = state - 1
            if position.state < state <= target:
                again = at - left[index] < thresholds.return_seconds and causes[index] == reason
                causes[index] = reason
                dwells[index] = min(2 * dwells[index], thresholds.max_dwell_seconds) if again else base[index]
            elif target < state <= position.state:
                left[index] = at
    sheds = target in (State.SHED, State.BRAKE)
    return replace(
        position,
        state=target,
        since=at,
        reason=reason,
        dwell_seconds=(dwells[0], dwells[1], dwells[2]),
        left_at=(left[0], left[1], left[2]),
        entered_for=(causes[0], causes[1], causes[2]),
        shedding_since=(at if position.shedding_since is None else position.shedding_since) if sheds else None,
        overdue=position.overdue and sheds,
        bad=0 if target is State.BLIND else position.bad,
        good=0 if target is State.BLIND else position.good,
    )


def seconds_to_leave(position: Position, at: float, thresholds: Thresholds) -> float:
    """How long the present state lasts at least, from ``at`` on: the wait that a refused client gets."""
    if position.state not in _LEVELS:
        return thresholds.shed.dwell_seconds
    index = position.state - 1
    dwell = (position.dwell_seconds or tuple(level.dwell_seconds for level in thresholds.levels))[index]
    since = position.calm_since[index]
    return dwell if since is None else max(0.0, dwell - (at - since))
