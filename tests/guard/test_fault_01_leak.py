"""A leak of 50 MiB/s through requests, 256 MiB, load on hot and cold: nobody is killed, and every hot page is a 200."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.guard.groups import memory_group, needs_groups
from tests.guard.load import Load, Stream
from tests.guard.rig import HOT, MIB, Watch, report, served

pytestmark = [pytest.mark.slow, needs_groups]

SECONDS = 9.0
# A slow machine leaks less: until it would have been killed, or was.
MOST_SECONDS = 60.0
LEAKS = 400
STREAMS = (
    *(Stream("hot", path, 10) for path in HOT[:4]),
    Stream("cold", "/cold", 20, 2),
    Stream("leak", "/leak?mib=1", 50, 2),
)


def attack(root: Path, *, guarded: bool) -> tuple[int, Load, bool]:
    """Kills, what the clients saw, whether the server lived."""
    guard = {"leave": False} if guarded else None
    with memory_group(256 * MIB) as group, served(root, group, guard=guard) as rig, Watch(rig) as watch:
        with Load(rig.port, STREAMS) as load:
            begun = time.monotonic()
            while rig.is_alive() and (took := time.monotonic() - begun) < MOST_SECONDS:
                if guarded and took > SECONDS and load.count("leak") > LEAKS:
                    break
                time.sleep(0.1)
        report("01", load, watch, rig, guarded=guarded)
        return group.oom_kills(), load, rig.is_alive()


def test_hot_pages_stay_and_nobody_is_killed(tmp_path: Path) -> None:
    kills, load, lives = attack(tmp_path, guarded=False)
    assert kills > 0, "the control was not killed, so the test proves nothing"
    assert not lives
    kills, load, lives = attack(tmp_path, guarded=True)
    assert (kills, lives) == (0, True)
    assert load.count("hot", 200) == load.count("hot") > 100
    assert load.count("leak") > LEAKS, "too few to be killed by, so the test proves nothing"
    assert not load.broken
    assert load.count("leak", 503) > 0
    assert {code for _, code in load.answers} <= {200, 503}
