"""What keeps a process answering while it loads a generation of many pages."""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from hotpath.manifest import Head, item_lines, key_of, route_of, stale_since_of
from hotpath.snapshot import Page

# The interpreter is given away after so many steps, for as long as a waiting thread needs to take it: the event loop of
# the same process goes on answering.
LINES_A_BREATH = 1000
BREATH_SECONDS = 0.0001

# What a page costs in memory beside its bodies: its variants with their header lists, about 1.5 KB a coding.
PAGE_OVERHEAD_BYTES = 4096

# The garbage collector's thresholds before the load that goes on, if any; and one that is never reached.
_thresholds: list[tuple[int, int, int]] = []
_NEVER = 2**31 - 1

Index = tuple[dict[bytes, bytes], Counter[int], set[bytes], dict[bytes, frozenset[str]]]


def index_of(head: Head, data: bytes) -> Index:
    """Of the lines of a manifest: by key, how many expire when, which keys are folded, and names of queries by path."""
    lines: dict[bytes, bytes] = {}
    folded: set[bytes] = set()
    query_names: dict[bytes, frozenset[str]] = {}
    expiries: Counter[int] = Counter()
    policies = head.policies
    for count, line in enumerate(item_lines(data), start=1):
        key = key_of(line)
        lines[key] = line
        policy = policies[route_of(line)]
        if policy.fold_case:
            folded.add(key)
        if policy.query:
            query_names[key.partition(b"?")[0]] = frozenset(policy.query)
        since = stale_since_of(line)
        expiries[(head.created if since is None else since) + policy.lifetime_seconds] += 1
        if count % LINES_A_BREATH == 0:
            time.sleep(BREATH_SECONDS)
    return lines, expiries, folded, query_names


@contextmanager
def no_full_collection() -> Iterator[None]:
    """The garbage collector must not stop every thread to visit old and new pages together; younger objects it may."""
    if _thresholds:  # another reader is loading
        yield
        return
    young, middle, old = gc.get_threshold()
    _thresholds.append((young, middle, old))
    gc.set_threshold(young, middle, _NEVER)
    try:
        yield
    finally:
        collect_again()


def collect_again() -> None:
    if _thresholds:
        gc.set_threshold(*_thresholds.pop())


def cost_of(page: Page) -> int:
    """Bytes of memory that a page accounts for: its bodies and what is beside them."""
    return PAGE_OVERHEAD_BYTES + sum(len(body) for body in page.bodies.values())
