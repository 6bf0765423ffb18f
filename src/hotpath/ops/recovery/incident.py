"""What the steps of a recovery work on: the options, the journal so far, and the store as it is.

A step decides from the store as it is, not from what an earlier run meant to do; so it can be killed at any moment and
run again. The few facts that the store does not show are in the journal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from hotpath.errors import HotpathError, Implausible, NothingPublished, StoreError
from hotpath.ops.check import CheckOptions
from hotpath.ops.purge.purger import Purger
from hotpath.ops.recovery.journal import BEGIN, DOING, Journal, JournalEntry
from hotpath.site import Hotpath
from hotpath.store.manifest import Manifest
from hotpath.store.store import Store


class Stopped(HotpathError):
    """A step cannot be done; ``next_step`` says what to do about it."""

    def __init__(self, problem: str, next_step: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.next_step = next_step


@dataclass(frozen=True, slots=True)
class RecoveryOptions:
    """What a recovery does beyond verifying the store.

    ``rollback`` says that the generation served now is wrong; ``build`` runs the batch. With ``base_url`` the edge is
    purged by ``purgers``, the pages are warmed and the public answers are checked. ``purge_all`` also purges what did
    not change in this recovery: for use after a rollback by hand.
    """

    rollback: bool = False
    build: bool = False
    base_url: str | None = None
    purgers: Sequence[Purger] = ()
    check: CheckOptions = field(default_factory=CheckOptions)
    purge_all: bool = False


@dataclass(frozen=True, slots=True)
class Begin:
    """The store when the recovery began: the generation ``serving``, the one ``pinned``, the ``newest`` number."""

    serving: int | None
    newest: int
    pinned: int | None


@dataclass(slots=True)
class Incident:
    """One recovery over all of its runs. ``entries`` are its lines of the journal, those of this run included.

    ``implausible`` is what the batch of this run raised; ``wrote`` says whether this run changed anything. ``facts``
    are the newest that each step left, by the names of step and fact.
    """

    hot: Hotpath
    options: RecoveryOptions
    target: str
    run_batch: Callable[[Hotpath], object]
    number: int
    entries: list[JournalEntry]
    journal: Journal | None = None
    report: Callable[[JournalEntry], object] = lambda entry: None
    implausible: Implausible | None = None
    wrote: bool = False
    facts: dict[tuple[str, str], Any] = field(init=False)

    def __post_init__(self) -> None:
        self.facts = {(entry.step, name): fact for entry in self.entries for name, fact in entry.facts.items()}

    @property
    def store(self) -> Store:
        return self.hot.store

    @property
    def begin(self) -> Begin:
        return Begin(**self.entries[0].facts) if self.entries else begin_now(self.store)

    @property
    def serving(self) -> int | None:
        return serving(self.store)

    @property
    def served(self) -> set[int]:
        """The generations that were served since the recovery began."""
        noted = {entry.facts.get("serving") for entry in self.entries}
        return {sequence for sequence in {*noted, self.serving} if sequence is not None}

    @property
    def built(self) -> int | None:
        """The newest generation that was accepted since the recovery began."""
        bad = self.store.bad()
        newest = self.begin.newest
        return max((n for n in self.store.sequences() if n > newest and n not in bad), default=None)

    def manifest(self, sequence: int | None) -> Manifest | None:
        """``None`` where it cannot be read."""
        try:
            return self.store.read_manifest(sequence) if sequence is not None else None
        except (StoreError, OSError):
            return None

    def was_begun(self, step: str) -> bool:
        return any(entry.step == step and entry.state == DOING for entry in self.entries)

    def last(self, step: str) -> JournalEntry | None:
        return next((entry for entry in reversed(self.entries) if entry.step == step), None)

    def note(
        self,
        state: str,
        step: str = "",
        text: str = "",
        next_step: str | None = None,
        facts: Mapping[str, object] | None = None,
    ) -> None:
        """Write a line of the journal, on the disk before anything goes on."""
        assert self.journal is not None
        noted = asdict(begin_now(self.store)) if state == BEGIN else {"serving": self.serving, **(facts or {})}
        entry = JournalEntry(int(self.store.clock()), self.number, state, step, text, next_step, noted)
        self.journal.append(entry)
        self.entries.append(entry)
        self.wrote = True
        self.report(entry)


def begin_now(store: Store) -> Begin:
    try:
        pin = store.pointer(store.pin_path)
    except (StoreError, OSError):
        pin = None
    return Begin(serving(store), store.next_sequence() - 1, pin.sequence if pin else None)


def serving(store: Store) -> int | None:
    """The generation that is served now."""
    try:
        return store.chosen_sequence()
    except NothingPublished:
        return None
