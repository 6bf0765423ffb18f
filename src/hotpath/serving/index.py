"""Which keys a generation has: the lines of its manifest by key, still undecoded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from hotpath.pages.policy import Policy
from hotpath.store.manifest import Head, item_lines, key_of, route_of, stale_since_of

# Lines between two pauses of a load.
LINES_PER_PAUSE = 1000


@dataclass(slots=True)
class Index:
    """What is known of all pages of a generation without reading one.

    ``lines`` has the line of the manifest of each key: a quarter of what its decoded item would take, and nothing for
    the garbage collector to visit. ``expiries`` says how many items expire when, in seconds since the epoch.
    ``folded`` and ``query_names`` are as in ``Snapshot``. ``head`` is ``None`` while there is no generation.
    """

    head: Head | None = None
    lines: dict[bytes, bytes] = field(default_factory=dict)
    expiries: Counter[int] = field(default_factory=Counter)
    folded: set[bytes] = field(default_factory=set)
    query_names: dict[bytes, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def read(cls, head: Head, data: bytes, pause: Callable[[], None]) -> Index:
        """The index of the manifest ``data``; ``pause`` is called every now and then.

        Raises ``ValueError``, ``IndexError`` or ``KeyError`` for lines that are not a manifest's.
        """
        index = cls(head)
        lines, policies = index.lines, head.policies
        for count, line in enumerate(item_lines(data), start=1):
            key = key_of(line)
            lines[key] = line
            policy = policies[route_of(line)]
            if policy.fold_case:
                index.folded.add(key)
            if policy.query:
                index.query_names[key.partition(b"?")[0]] = frozenset(policy.query)
            since = stale_since_of(line)
            index.expiries[(head.created if since is None else since) + policy.lifetime_seconds] += 1
            if count % LINES_PER_PAUSE == 0:
                pause()
        return index

    @property
    def routes(self) -> frozenset[str]:
        """The routes that the generation was built with."""
        return frozenset(policy.route for policy in self.head.policies) if self.head else frozenset()

    def policy_of(self, key: bytes) -> Policy | None:
        """The policy of a key that a line of the manifest is there for."""
        line = self.lines.get(key)
        return self.head.policies[route_of(line)] if line and self.head else None

    def stale_items(self, now: float) -> int:
        """How many items are past their lifetime at ``now``."""
        return sum(count for expires, count in self.expiries.items() if expires < now)
