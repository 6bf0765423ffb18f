"""What became of requests: counts and latencies in bounded memory, however many there are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

# Statuses of a request that got none.
RESET: Final = 0
TIMED_OUT: Final = -1
# A crawler that is told to come back later.
SHED: Final = 503

# As HdrHistogram: each power of two in so many equal parts, so a quantile is exact to 3 %.
_PARTS_BITS: Final = 5
_PARTS: Final = 1 << _PARTS_BITS


class Latencies:
    """A histogram of seconds, exact to 3 % from a microsecond to hours; about a thousand counters at most."""

    def __init__(self) -> None:
        self.count = 0
        self._buckets: dict[int, int] = {}

    def add(self, seconds: float) -> None:
        """Count one."""
        microseconds = max(0, int(seconds * 1e6))
        shift = max(0, microseconds.bit_length() - 1 - _PARTS_BITS)
        place = (shift << (_PARTS_BITS + 1)) + (microseconds >> shift)
        self._buckets[place] = self._buckets.get(place, 0) + 1
        self.count += 1

    def quantile(self, share: float) -> float | None:
        """The seconds that ``share`` of all took at most; ``None`` where there are none."""
        wanted, seen = share * self.count, 0
        for place in sorted(self._buckets):
            seen += self._buckets[place]
            if seen >= wanted:
                shift, part = place >> (_PARTS_BITS + 1), place & (2 * _PARTS - 1)
                return (((part + 1) << shift) - 1) / 1e6
        return None

    def take_in(self, other: Latencies) -> None:
        """Count all of another one too."""
        self.count += other.count
        for place, number in other._buckets.items():
            self._buckets[place] = self._buckets.get(place, 0) + number


@dataclass(slots=True)
class Counted:
    """Requests of one kind. An error is 5xx, no answer (a reset or refused connection), or one that came too late."""

    requests: int = 0
    server_errors: int = 0
    sheds: int = 0
    resets: int = 0
    timeouts: int = 0
    statuses: dict[int, int] = field(default_factory=dict)
    latencies: Latencies = field(default_factory=Latencies)

    @property
    def errors(self) -> int:
        """All that failed; sheds are among the 5xx."""
        return self.server_errors + self.resets + self.timeouts

    @property
    def error_share(self) -> float:
        """Of all requests, 0 to 1."""
        return self.errors / self.requests if self.requests else 0.0

    def add(self, status: int, seconds: float) -> bool:
        """Count one request; whether it failed. ``seconds`` count from when it was due."""
        self.requests += 1
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if status == RESET:
            self.resets += 1
            return True
        self.latencies.add(seconds)
        if status == TIMED_OUT:
            self.timeouts += 1
            return True
        if status < 500:
            return False
        self.server_errors += 1
        self.sheds += status == SHED
        return True

    def take_in(self, other: Counted) -> None:
        """Count all of another one too."""
        for name in ("requests", "server_errors", "sheds", "resets", "timeouts"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for status, number in other.statuses.items():
            self.statuses[status] = self.statuses.get(status, 0) + number
        self.latencies.take_in(other.latencies)

    def as_dict(self) -> dict[str, object]:
        """For ``--json``."""
        return {
            "requests": self.requests,
            "errors": self.errors,
            "error_share": self.error_share,
            "5xx": self.server_errors,
            "sheds": self.sheds,
            "resets": self.resets,
            "timeouts": self.timeouts,
            "statuses": {str(status): number for status, number in sorted(self.statuses.items()) if status > 0},
            "p50_seconds": self.latencies.quantile(0.50),
            "p99_seconds": self.latencies.quantile(0.99),
        }


def total(outcomes: Iterable[Counted]) -> Counted:
    """All of them together."""
    together = Counted()
    for outcome in outcomes:
        together.take_in(outcome)
    return together


@dataclass(slots=True)
class Moment:
    """One step of a run's time, for plots: requests that were due in it, and what became of them."""

    requests: int = 0
    hot_errors: int = 0
    cold_errors: int = 0
    memory_bytes: int = 0


class RunRecord:
    """Everything that one run keeps of its requests. ``templates`` names the route of each page, by its number."""

    def __init__(self, is_hot: Sequence[bool], templates: Sequence[str], seconds: float, moments: int) -> None:
        self.hot = Counted()
        self.cold = Counted()
        self.hurt: dict[str, int] = {}
        self.moments = [Moment() for _ in range(moments)]
        self._is_hot = is_hot
        self._templates = templates
        self._step = seconds / moments

    def add(self, page: int, due: float, status: int, seconds: float) -> None:
        """One request: the page's number, when it was due (seconds of the run), its status, and how long it took."""
        hot = self._is_hot[page]
        moment = self.at(due)
        moment.requests += 1
        if (self.hot if hot else self.cold).add(status, seconds):
            template = self._templates[page]
            self.hurt[template] = self.hurt.get(template, 0) + 1
            if hot:
                moment.hot_errors += 1
            else:
                moment.cold_errors += 1

    @property
    def both(self) -> Counted:
        """Hot and cold together."""
        return total((self.hot, self.cold))

    def at(self, seconds: float) -> Moment:
        """The step that this time of the run belongs to; what is late belongs to the last."""
        return self.moments[max(0, min(len(self.moments) - 1, int(seconds / self._step)))]

    @property
    def hurt_share(self) -> Mapping[str, float]:
        """Templates with a failed request, and their share of all templates: all, and those with a hot page."""
        hot = {name for name, is_hot in zip(self._templates, self._is_hot, strict=True) if is_hot}
        everything = set(self._templates)
        return {
            "all": len(self.hurt) / len(everything) if everything else 0.0,
            "hot": len(hot & set(self.hurt)) / len(hot) if hot else 0.0,
        }
