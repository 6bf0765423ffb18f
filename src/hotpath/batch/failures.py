"""Failures of a run by their cause: one that 84 items share is one line, not 84."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote

from hotpath.errors import ItemError

# Keys of a group that are named; the report of the run has all.
MAX_KEYS = 5

# Characters of a problem that tell causes apart.
MAX_CAUSE_CHARACTERS = 500

# What items of one cause have each of its own: addresses, UUIDs and digests, numbers. The status of an answer is no id.
_IDS = re.compile(
    r"0x[0-9a-fA-F]+|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|\b(?=[a-f]*\d)[0-9a-f]{8,}\b"
    r"|(?P<status>\b[45]\d\d [A-Z]\w+|\b(?i:http|status|code|error)\W{1,3}[45]\d\d\b)|\d+"
)


@dataclass(slots=True)
class FailureGroup:
    """Items that failed for one cause: the first of them, the keys of the next ones, and how many there are in all."""

    first: ItemError
    keys: list[str] = field(default_factory=list)
    count: int = 1

    def others(self) -> str:
        """``3 more like it: /r/2, /r/3, /r/4``; empty where the first is alone."""
        more = self.count - 1
        if not more:
            return ""
        return f"{more:,} more like it: {', '.join(self.keys)}" + (" …" if more > len(self.keys) else "")

    def __str__(self) -> str:
        return f"{self.first}" + (f" ({self.others()})" if self.count > 1 else "")


class FailureGroups:
    """Groups failures as they come."""

    def __init__(self, failures: Iterable[ItemError] = ()) -> None:
        self._groups: dict[tuple[str, ...], FailureGroup] = {}
        for failure in failures:
            self.add(failure)

    def add(self, failure: ItemError) -> bool:
        """Whether it is the first of its cause."""
        cause = _cause(failure)
        group = self._groups.get(cause)
        if group is None:
            self._groups[cause] = FailureGroup(failure)
            return True
        group.count += 1
        if len(group.keys) < MAX_KEYS:
            group.keys.append(failure.key or "?")
        return False

    def groups(self) -> Sequence[FailureGroup]:
        """In the order of their first failures."""
        return [*self._groups.values()]


def _cause(failure: ItemError) -> tuple[str, ...]:
    """The place in the code and the text, without numbers and without what the key of the item says."""
    problem = failure.problem[:MAX_CAUSE_CHARACTERS]
    parts = {part for raw in re.split(r"[/?&=]", failure.key or "") for part in (raw, unquote(raw)) if part}
    for part in sorted(parts, key=len, reverse=True):
        problem = re.sub(rf"(?<!\w){re.escape(part)}(?!\w)", "…", problem)
    return (failure.where or "", _IDS.sub(lambda match: match["status"] or "…", problem))
