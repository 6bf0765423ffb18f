"""Memory that swings across a threshold makes at most two transitions a minute.

``test_pressure`` holds this for many waves with a clock of its own; here it is a real process and a real minute. The
watermarks are lower, so that a swing of 70 MiB crosses one, and the dwell times are those by default.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.guard.groups import memory_group, needs_groups
from tests.guard.rig import MIB, Watch, report, served

pytestmark = [pytest.mark.slow, needs_groups]

SECONDS = 60.0
LEVELS = {"trim": (0.40, 0.32, 0.0, 10.0), "shed": (0.50, 0.42, 0.0, 15.0), "brake": (0.90, 0.82, 0.0, 15.0)}
TIMES = {"shed_seconds": 600.0}


def test_a_swing_across_a_threshold(tmp_path: Path) -> None:
    guard = {"leave": False, "reserve": "1MiB", "priority": {"/free": 0, "/leak": 0}}
    with (
        memory_group(256 * MIB) as group,
        served(tmp_path, group, guard=guard, ballast_mib=60, levels=LEVELS, times=TIMES) as rig,
    ):
        with Watch(rig) as watch:
            rig.get("/leak?mib=70")  # above SHED's watermark, to begin with
            rig.await_state("SHED")
            before = rig.look()["transitions"]
            until = time.monotonic() + SECONDS
            while time.monotonic() < until:
                rig.get("/free")
                time.sleep(0.7)
                rig.get("/leak?mib=70")
                time.sleep(0.7)
        made = sum(n for *_, n in rig.look()["transitions"]) - sum(n for *_, n in before)
        report("07", None, watch, rig, note=f"{made} transitions in {SECONDS:g} s")
        used = [used for _, _, used in watch.seen]
        assert max(used) - min(used) > 50 * MIB, "it did not swing, so the test proves nothing"
        assert made <= 2
