"""When each request and each fault is due: virtual days in the seconds of a run. Computes only."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from hotpath.errors import DeclarationError

DAY_SECONDS: Final = 86_400
HOUR_SECONDS: Final = 3_600
# Faults of each kind in a run where nobody says how often, by day of virtual time.
DEFAULT_EVERY_HOURS: Final = {"leak": 24.0, "kill": 24.0, "block": 48.0, "slow": 48.0, "database": 48.0, "deploy": 24.0}
LASTING: Final = frozenset(("block", "slow", "database"))
# Share of the time between two faults of one kind that a lasting one lasts, and the most of it.
LASTING_SHARE: Final = 0.25
MAX_LASTING_SECONDS: Final = 5.0
_SEED: Final = 18


@dataclass(frozen=True, slots=True)
class Clock:
    """``days`` of virtual time in ``seconds`` of a run."""

    days: float
    seconds: float

    @property
    def factor(self) -> float:
        """Virtual seconds in one second."""
        return self.days * DAY_SECONDS / self.seconds

    def real(self, virtual_seconds: float) -> float:
        """Seconds of the run at a virtual time."""
        return virtual_seconds / self.factor


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that is due ``at`` seconds of the run; one that lasts ends ``lasts`` seconds later."""

    at: float
    kind: str
    lasts: float = 0.0


def times(minutes: Sequence[int | None], span: int | None, count: int, clock: Clock) -> list[tuple[float, int]]:
    """``count`` requests as (second of the run, number of the visit), in order.

    Visits are drawn evenly; their minute says when. A log shorter than the virtual time is repeated; of a longer one
    its last days count. Without times (``span`` is ``None``) they are spread evenly.
    """
    dice = random.Random(_SEED)
    total = clock.days * DAY_SECONDS
    period = None if span is None else max(60.0, span * 60.0)
    if period is not None and period > total:
        oldest = period / 60 - total / 60
        places = [place for place, minute in enumerate(minutes) if minute is not None and minute >= oldest]
    else:
        oldest = 0.0
        places = [*range(len(minutes))]
    if not places:
        places = [*range(len(minutes))]
    repeats = 1 if period is None else max(1, -int(-total // period))
    made: list[tuple[float, int]] = []
    while len(made) < count:
        place = dice.choice(places)
        minute = minutes[place]
        if minute is None or period is None:
            virtual = dice.random() * total
        else:
            virtual = (minute - oldest) * 60 + dice.random() * 60 + dice.randrange(repeats) * period
            if not 0 <= virtual < total:
                # The last repetition is cut off by the end; an hour after it is drawn again.
                continue
        made.append((clock.real(virtual), place))
    made.sort()
    return made


def busiest(arrivals: Iterable[float], clock: Clock, hours: float) -> float:
    """The middle of the busiest hour of the virtual day, in seconds after midnight of the virtual days."""
    counts = [0] * 24
    for at in arrivals:
        counts[int(at * clock.factor // HOUR_SECONDS) % 24] += 1
    return (counts.index(max(counts)) + hours / 2) * HOUR_SECONDS


def plan_faults(kinds: Sequence[str], arrivals: Sequence[float], clock: Clock) -> list[Fault]:
    """The faults of a run in order. A kind is ``leak``, or ``leak@2h``: one every two virtual hours.

    Deploys strike in the busiest hour. Raises ``DeclarationError`` for what is no fault, or would come too fast.
    """
    faults: list[Fault] = []
    for number, text in enumerate(kinds):
        kind, every = parse_fault(text)
        step = clock.real(every * HOUR_SECONDS)
        if step < 0.5:
            raise DeclarationError(
                f"--fault {text}: one every {step:.2g} s of the run is faster than any process starts; write longer"
                " --seconds, fewer --days or another @ time"
            )
        if step > clock.seconds:
            raise DeclarationError(f"--fault {text}: the run ends before the first one; write another @ time")
        # Kinds do not strike at the same moment: each begins at another part of its first step.
        begin = step * (number + 0.5) / len(kinds)
        if kind == "deploy":
            begin = clock.real(busiest(arrivals, clock, 1.0))
        lasts = min(MAX_LASTING_SECONDS, step * LASTING_SHARE) if kind in LASTING else 0.0
        count = int((clock.seconds - begin - lasts) / step) + 1
        faults += [Fault(begin + step * place, kind, lasts) for place in range(count)]
    return sorted(faults, key=lambda fault: fault.at)


def parse_fault(text: str) -> tuple[str, float]:
    """``leak@2h`` as its kind and its virtual hours. Raises ``DeclarationError``."""
    kind, at, every = text.partition("@")
    units = {"h": 1.0, "d": 24.0, "m": 1 / 60}
    if kind in DEFAULT_EVERY_HOURS:
        if not at:
            return kind, DEFAULT_EVERY_HOURS[kind]
        number = every[:-1] if every else ""
        if every and every[-1] in units and number.replace(".", "", 1).isdigit() and float(number) > 0:
            return kind, float(number) * units[every[-1]]
    raise DeclarationError(
        f"--fault {text}: write {', '.join(DEFAULT_EVERY_HOURS)}, with @ and the virtual time between two: leak@2h"
    )
