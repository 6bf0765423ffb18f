"""What the steps of a recovery have in common: the wish, the store as it was, and what a step is.

A step knows what to do from the store as it is, not from what an earlier run meant to do; so it can be killed at any
moment and run again. The few facts that the store does not show stand in ``Begin`` and in the journal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from hotpath.errors import HotpathError, Implausible, NothingPublished, StoreError
from hotpath.ops.check import CheckOptions
from hotpath.ops.purge.purger import Purger
from hotpath.site import Hotpath
from hotpath.store.manifest import Manifest


class Stopped(HotpathError):
    """A step could not be done; ``next_step`` is what to do about it."""

    def __init__(self, problem: str, next_step: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.next_step = next_step


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked of a recovery.

    ``rollback`` says that the generation served now is wrong; ``build`` runs the batch. With ``base_url`` the edge is
    purged by ``purgers``, the pages are warmed and the public answers are checked. ``purge_all`` purges what did not
    change in this recovery too: who went back by hand before has changed it then.
    """

    rollback: bool = False
    build: bool = False
    base_url: str | None = None
    purgers: Sequence[Purger] = ()
    check: CheckOptions = field(default_factory=CheckOptions)
    purge_all: bool = False


@dataclass(frozen=True, slots=True)
class Begin:
    """The store as it was when the recovery began, over all runs of it: what was ``serving`` and what was ``pinned``.

    ``newest`` is the highest number that any generation had.
    """

    serving: int | None
    newest: int
    pinned: int | None


@dataclass(frozen=True, slots=True)
class Look:
    """What a step sees: whether there is something to do. ``skipped`` is one that was not asked for."""

    needed: bool
    told: str
    skipped: bool = False


class Step(Protocol):
    """One step. All three raise ``Stopped`` where the recovery cannot go on."""

    name: str

    def look(self) -> Look:
        """Whether there is something to do. Changes nothing."""
        ...

    def apply(self) -> str:
        """Do it; what was done."""
        ...

    def plan(self) -> str:
        """What it would do, also where a step before has not been done yet. Changes nothing, asks nobody."""
        ...


@dataclass(slots=True)
class Incident:
    """What all steps work on.

    ``facts`` are those that ``DONE`` entries of this recovery left, by step; ``begun`` are the steps that were begun,
    ``served`` the generations that were served meanwhile. ``refused`` is what the batch of this run made in vain.
    """

    hot: Hotpath
    target: str
    wish: Wish
    begin: Begin
    facts: Mapping[str, Mapping[str, Any]]
    begun: frozenset[str]
    served: frozenset[int]
    run_batch: Callable[[Hotpath], object]
    refused: Implausible | None = None

    @property
    def serving(self) -> int | None:
        try:
            return self.hot.store.chosen_sequence()
        except NothingPublished:
            return None

    @property
    def built(self) -> int | None:
        """The newest generation that was accepted since the recovery began."""
        store = self.hot.store
        bad = store.bad()
        return max((n for n in store.sequences() if n > self.begin.newest and n not in bad), default=None)

    def manifest(self, sequence: int | None) -> Manifest | None:
        if sequence is None:
            return None
        try:
            return self.hot.store.read_manifest(sequence)
        except (StoreError, OSError):
            return None
