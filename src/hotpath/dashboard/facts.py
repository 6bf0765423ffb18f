"""What the page shows, as values. Times are seconds since the epoch, sizes bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hotpath.dashboard.traffic import Minute
from hotpath.ops.status import FollowStatus

if TYPE_CHECKING:
    from hotpath.ops.traffic.report import LogReport


@dataclass(frozen=True, slots=True)
class Band:
    """Where a number was expected."""

    least: float
    most: float


@dataclass(frozen=True, slots=True)
class BatchRun:
    """One run of the batch. ``problems`` are why it was refused, ``failed`` pairs of item and problem.

    ``expected_rows`` and ``expected_bytes`` are missing while too few runs were accepted before it.
    """

    time: int
    sequence: int
    outcome: str
    rows: int
    bytes: int
    total: int
    failures: int
    seconds: float
    peak_bytes: int = 0
    is_accepted: bool = False
    problems: tuple[str, ...] = ()
    failed: tuple[tuple[str, str], ...] = ()
    expected_rows: Band | None = None
    expected_bytes: Band | None = None


@dataclass(frozen=True, slots=True)
class StoredGeneration:
    """One generation on disk; ``problem`` says why it cannot be read, ``bad`` why it is never served again."""

    sequence: int
    created: int | None
    is_serving: bool = False
    bad: str | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class HeldBack:
    """A generation in quarantine. ``can_be_approved``: no newer one was accepted since."""

    sequence: int
    problems: tuple[str, ...]
    can_be_approved: bool


@dataclass(frozen=True, slots=True)
class PageLine:
    """One hot page: ``changed`` is when its bytes last became others; ``hits`` of this process, where it serves."""

    key: str
    bytes: int
    changed: int
    is_stale: bool = False
    hits: int | None = None


@dataclass(frozen=True, slots=True)
class PastEvent:
    """A line of a history: what happened to what is served, an alert, a step of a recovery."""

    time: int
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class OpenAlert:
    """An alert that was sent and is not resolved."""

    kind: str
    about: str
    since: int


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """The store. ``hot`` of ``declared`` pages are served; ``stale`` of them are past their lifetime.

    ``notes`` are parts that could not be read, or not all of them.
    """

    root: str
    serving: int | None = None
    created: int | None = None
    pinned: int | None = None
    newest: int | None = None
    degraded: str | None = None
    hot: int = 0
    declared: int = 0
    stale: int = 0
    lifetime: int | None = None
    generations: tuple[StoredGeneration, ...] = ()
    held_back: tuple[HeldBack, ...] = ()
    runs: tuple[BatchRun, ...] = ()
    pages: tuple[PageLine, ...] = ()
    events: tuple[PastEvent, ...] = ()
    alerts: tuple[OpenAlert, ...] = ()
    damages: tuple[str, ...] = ()
    open_recovery: str | None = None
    origin: FollowStatus | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GuardFacts:
    """A memory guard. ``marks`` are the shares at which its states begin, by their names."""

    state: str
    reason: str
    problem: str | None
    share: float | None
    used: int | None
    limit: int | None
    growth: float
    seconds_left: float
    in_flight: int
    shed: int
    recycles: int
    workers: int
    is_suppressed: bool
    marks: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class AppFacts:
    """The app behind a front: whether it takes requests, and how many wait for it."""

    address: str
    is_up: bool
    is_paused: bool
    in_flight: int
    waiting: int
    held: int
    restarts: int = 0
    deploys: int = 0
    failed_deploys: int = 0


@dataclass(frozen=True, slots=True)
class LiveFacts:
    """What this process serves. ``answers`` are by route and result, ``hits`` by page, since it started."""

    generation: int | None
    degraded: str | None
    is_pinned: bool
    pages: int
    corrupt: int
    stale: int
    body_bytes: int
    answers: Mapping[tuple[str, str], int]
    hits: Sequence[PageLine]


@dataclass(frozen=True, slots=True)
class MemorySample:
    """Memory at one time. ``used`` is what the kernel cannot take back, of all that ``limit`` counts.

    ``state`` is the guard's, or of an app behind a front ``up`` or ``down``.
    """

    time: float
    pid: int
    state: str
    limit: int
    used: int


@dataclass(frozen=True, slots=True)
class StatusFacts:
    """Everything the page shows at the time ``at``. ``target`` is what commands call the site."""

    at: float
    target: str
    store: StoreFacts
    live: LiveFacts | None = None
    guard: GuardFacts | None = None
    app: AppFacts | None = None
    memory: tuple[MemorySample, ...] = ()
    minutes: tuple[Minute, ...] = ()
    log: LogReport | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def has_target(self) -> bool:
        """Whether commands can name the declaration, not only the store: what builds needs it."""
        return ":" in self.target and "/" not in self.target
