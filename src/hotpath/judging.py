"""Whether what a run has built is plausible beside the runs that were accepted before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hotpath.store import Store


@dataclass(frozen=True, slots=True)
class Verdict:
    """``problems`` keep a run from being published, ``warnings`` are told; ``findings`` are both, as JSON has them."""

    problems: Sequence[str] = ()
    warnings: Sequence[str] = ()
    findings: Sequence[Mapping[str, Any]] = ()


def judge_run(store: Store, record: Mapping[str, Any]) -> Verdict:
    """Judge a run before it is published."""
    return Verdict()
