"""``Alerts``: a failure is sent by every configured way once, again after a day, and once when it is over.

Nothing here raises for a way that does not work, nor blocks for longer than the slowest way's timeout: the batch has
done its work by then. What did not work comes back as warnings. An event loop calls it in a thread.
"""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from hotpath.errors import DeclarationError, StoreBusy, StoreError, Unreachable
from hotpath.ops.alerts import sent as state
from hotpath.ops.alerts.message import FAILED, REMINDER, RESOLVED, TEST, Message, details_of, kind_of
from hotpath.ops.alerts.ping import FAIL, START, SUCCESS, Ping
from hotpath.ops.alerts.stuck import stuck
from hotpath.options import printable
from hotpath.store.store import Store

# Interval of reminders: often enough not to be forgotten, and seldom enough not to be filtered away.
REMIND_SECONDS = 24 * 3600

# A reminder may come this much early: a nightly job starts at another second each night, and once a year an hour early.
EARLY_SECONDS = 2 * 3600


# A way that failed after WAITED_SECONDS is not tried again for AGAIN_SECONDS: the messages of one night come together,
# and a dead server costs its timeout once. A way that fails at once costs nothing, and is tried with each message.
WAITED_SECONDS = 1.0
AGAIN_SECONDS = 60.0


class Way(Protocol):
    """One way to reach people; ``name`` may be shown to anybody."""

    @property
    def name(self) -> str: ...

    def send(self, message: Message) -> str | None:
        """Deliver; what is worth a warning all the same. Raises ``Unreachable``."""
        ...


@dataclass(frozen=True, slots=True)
class Delivery:
    """What one way did with one message: ``problem`` is ``None`` where it was delivered, ``warning`` may be there."""

    way: str
    problem: str | None = None
    warning: str | None = None

    def as_dict(self) -> dict[str, object]:
        """For ``--json``."""
        return {"way": self.way, "sent": self.problem is None, "problem": self.problem, "warning": self.warning}


class Alerts:
    """The ways to reach people. ``site`` says in each message whose it is, the machine's name by default.

    A failure that lasts is sent again after ``remind_seconds``. Raises ``DeclarationError``.
    """

    def __init__(
        self,
        ways: Sequence[Way] = (),
        *,
        ping: Ping | None = None,
        site: str | None = None,
        remind_seconds: int = REMIND_SECONDS,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        if remind_seconds <= 0:
            raise DeclarationError(f"remind_seconds={remind_seconds}: write a number of seconds above 0")
        names = [way.name for way in ways]
        if len(set(names)) < len(names):
            raise DeclarationError(f"two of the ways are the same: {', '.join(sorted(names))}")
        self.ways = tuple(ways)
        self.ping = ping
        self.site = site or socket.gethostname()
        self.remind_seconds = remind_seconds
        self._clock = clock
        self._monotonic = monotonic
        # By the name of a way: when it was last waited for in vain, and the problem.
        self._dead: dict[str, tuple[float, str]] = {}

    def __bool__(self) -> bool:
        """Whether anything is configured."""
        return bool(self.ways or self.ping)

    def test(self) -> list[Delivery]:
        """Send a message by every way, and a start and a success to the dead man's switch; what each did."""
        deliveries = self._sent_to_all(self._message(TEST, "test", "this is a test: alerts of this site reach you"))
        if self.ping is not None:
            # The start alone would be a run that hangs.
            deliveries.append(Delivery(self.ping.name, self._pinged(START) or self._pinged(SUCCESS)))
        return deliveries

    def unit_failed(self, unit: str, details: Sequence[str]) -> list[Delivery]:
        """Send by every way that a systemd unit failed, each time; what each did. ``details`` are its last lines."""
        return self._sent_to_all(self._message(FAILED, "unit.failed", f"{unit} failed", details, about=unit))

    def started(self) -> list[str]:
        """Ping that a run begins. Returns warnings."""
        return self._ping_warnings(START)

    def succeeded(self, store: Store, summary: str, area: str = "build") -> list[str]:
        """Send that a run was right, and that failures before it are resolved. Returns warnings."""
        return [*self._ping_warnings(SUCCESS, summary), *self.resolved(store, area, summary)]

    def failed(self, store: Store | None, error: BaseException, area: str = "build") -> list[str]:
        """Send that a run failed, unless it only met another run that is not stuck. Returns warnings.

        Without a ``store`` it is not known what was sent before, so it is sent each time.
        """
        if isinstance(error, StoreBusy) and store is not None:
            problem = stuck(store, self._clock())
            if problem is None:
                return []
            return [problem, *self._ping_warnings(FAIL, problem), *self.wrong(store, f"{area}.busy", problem)]
        kind = kind_of(error, area)
        if kind is None:
            return []
        summary = str(error).partition("\n")[0] or type(error).__name__
        warnings = self._ping_warnings(FAIL, str(error))
        if store is None:
            return warnings + _warnings(self._sent_to_all(self._message(FAILED, kind, summary, details_of(error))))
        return [*warnings, *self.wrong(store, kind, summary, details_of(error))]

    def wrong(
        self, store: Store, kind: str, summary: str, details: Sequence[str] = (), *, about: str = ""
    ) -> list[str]:
        """Send a failure by each way that has sent none of this ``kind`` for a while. Returns warnings.

        ``kind`` is ``area.name``; ``resolved`` takes the area. Failures ``about`` different things (a base URL each)
        are different failures.
        """
        if not self.ways:
            return []
        with state.held(store):
            known, warnings = self._open(store)
            now = int(self._clock())
            due = []
            for way in self.ways:
                sent = known.get((kind, about), {}).get(way.name)
                if sent is None:
                    due.append((way, self._message(FAILED, kind, summary, details, about=about)))
                elif now - sent.last >= self.remind_seconds - min(self.remind_seconds // 10, EARLY_SECONDS):
                    due.append((way, self._message(REMINDER, kind, summary, details, now - sent.first, about)))
            return warnings + self._send(store, due)

    def resolved(self, store: Store, area: str, summary: str, *, about: str = "") -> list[str]:
        """Send that it is over by each way that has sent a failure of ``area``, ``about`` the same or nothing.

        Returns warnings.
        """
        if not self.ways:
            return []
        with state.held(store):
            known, warnings = self._open(store)
            now = int(self._clock())
            due = [
                (way, self._message(RESOLVED, kind, summary, (), now - ways[way.name].first, subject))
                for (kind, subject), ways in known.items()
                if kind.startswith(f"{area}.") and subject in ("", about)
                for way in self.ways
                if way.name in ways
            ]
            return warnings + self._send(store, due)

    def _message(
        self, event: str, kind: str, summary: str, details: Sequence[str] = (), seconds: int = 0, about: str = ""
    ) -> Message:
        shown = tuple(printable(detail) for detail in details)
        return Message(self.site, event, kind, printable(summary), int(self._clock()), shown, seconds, about)

    def _open(self, store: Store) -> tuple[state.Open, list[str]]:
        try:
            return state.read_open(store), []
        except (OSError, StoreError) as error:
            return {}, [f"which alerts were sent before cannot be read, so they are sent again: {error}"]

    def _send(self, store: Store, due: Sequence[tuple[Way, Message]]) -> list[str]:
        if not due:
            return []
        delivered = self._deliver(due)
        warnings = _warnings(delivered)
        records = [
            (message.event, message.kind, message.about, way.name)
            for (way, message), delivery in zip(due, delivered, strict=True)
            if delivery.problem is None
        ]
        if records:
            try:
                state.append(store, records, int(self._clock()))
            except (OSError, StoreError) as error:
                warnings.append(f"that alerts were sent could not be noted, so they will be sent again: {error}")
        return warnings

    def _sent_to_all(self, message: Message) -> list[Delivery]:
        return self._deliver([(way, message) for way in self.ways])

    def _deliver(self, due: Sequence[tuple[Way, Message]]) -> list[Delivery]:
        """All at once: one dead server must not keep the others waiting."""
        if not due:
            return []
        with ThreadPoolExecutor(max_workers=len(due), thread_name_prefix="hotpath-alert") as workers:
            return list(workers.map(lambda pair: self._sent(*pair), due))

    def _sent(self, way: Way, message: Message) -> Delivery:
        begun = self._monotonic()
        since, problem = self._dead.get(way.name, (-math.inf, ""))
        if begun < since + AGAIN_SECONDS:
            return Delivery(way.name, problem=f"not tried again so soon: {problem}")
        try:
            return Delivery(way.name, warning=way.send(message))
        except Unreachable as error:
            problem = error.problem
        except Exception as error:  # a way of somebody else's may raise anything; its text may hold what is secret
            problem = type(error).__name__
        ended = self._monotonic()
        if ended >= begun + WAITED_SECONDS:
            self._dead[way.name] = (ended, problem)
        return Delivery(way.name, problem=problem)

    def _pinged(self, signal: str, text: str = "") -> str | None:
        """Ping; what is wrong with it."""
        assert self.ping is not None
        try:
            self.ping.send(signal, printable(text))
        except Unreachable as error:
            return error.problem
        return None

    def _ping_warnings(self, signal: str, text: str = "") -> list[str]:
        if self.ping is None:
            return []
        problem = self._pinged(signal, text)
        return [f"not pinged: {self.ping.name}: {problem}"] if problem else []


def _warnings(delivered: Sequence[Delivery]) -> list[str]:
    return [f"alert not sent: {delivery.way}: {delivery.problem}" for delivery in delivered if delivery.problem] + [
        f"alert: {delivery.way}: {delivery.warning}" for delivery in delivered if delivery.warning
    ]
