"""Caches that fill a control group are let go of, and what that gave back is measured."""

from __future__ import annotations

import json

import pytest

from tests.guard.groups import memory_group, needs_groups
from tests.guard.rig import MIB

pytestmark = [pytest.mark.slow, needs_groups]

CODE = """
import json, time
from hotpath.caching.lru import LRUCache; from hotpath.caching.ttl import TTLCache
from hotpath.guard import MemoryGuard
MIB = 1024 * 1024
guard = MemoryGuard(leave=False)
entries = LRUCache(max_entries=10_000, name="entries")
timed = TTLCache(max_bytes=100 * MIB, ttl=3600, name="timed")
for number in range(60):
    entries[number] = b"x" * MIB
    timed[number] = b"y" * MIB
guard.sample()
before = guard.reading.unreclaimable
states = []
until = time.monotonic() + 20
while len(entries) + len(timed) and time.monotonic() < until:
    states.append(guard.sample().state.name)
    time.sleep(0.1)
guard.sample()
print(json.dumps({
    "states": sorted(set(states)),
    "before": before,
    "after": guard.reading.unreclaimable,
    "released": guard.trimmer.released_bytes,
}))
"""


def test_caches_give_back_what_they_hold() -> None:
    with memory_group(180 * MIB) as group:
        found = json.loads(group.run(CODE))
        assert group.oom_kills() == 0
    assert found["before"] > 0.70 * 180 * MIB, "there was no pressure, so the test proves nothing"
    assert found["before"] - found["after"] > 100 * MIB
    assert sum(found["released"].values()) > 100 * MIB
    assert set(found["states"]) & {"TRIM", "SHED", "BRAKE"}
