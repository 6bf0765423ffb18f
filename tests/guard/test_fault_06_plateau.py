"""A plateau whose load is removed ends: back to NORMAL within three minutes, and cold requests are served again."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.guard.groups import memory_group, needs_groups
from tests.guard.load import Load, Stream
from tests.guard.rig import HOT, MIB, Watch, report, served

pytestmark = [pytest.mark.slow, needs_groups]


def test_back_to_normal(tmp_path: Path) -> None:
    guard = {"leave": False, "priority": {"/free": 0, "/leak": 0}}
    with memory_group(256 * MIB) as group, served(tmp_path, group, guard=guard) as rig:
        with Watch(rig) as watch, Load(rig.port, [Stream("hot", HOT[0], 20), Stream("cold", "/cold", 20)]) as load:
            rig.get("/leak?mib=195")
            rig.await_state("BRAKE")
            time.sleep(1)
            assert rig.get("/free") == "freed"
            took = rig.await_state("NORMAL", seconds=180)
            assert rig.status("/cold") == 200
        report("06", load, watch, rig, note=f"NORMAL again after {took:.0f} s")
        assert took >= 14, "the dwell time of BRAKE was not kept"
        assert load.count("hot", 200) == load.count("hot")
        assert group.oom_kills() == 0
