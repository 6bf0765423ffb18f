"""Page cache that could be had back is no pressure: 150 MiB of it in a group of 256 MiB, and nothing is shed."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.guard.groups import memory_group, needs_groups
from tests.guard.load import Load, Stream
from tests.guard.rig import HOT, MIB, Watch, report, served
from tests.guard.waiting import wait_until

pytestmark = [pytest.mark.slow, needs_groups]


def test_page_cache_sheds_nothing(tmp_path: Path) -> None:
    with memory_group(256 * MIB) as group, served(tmp_path, group, guard={"leave": False}) as rig, Watch(rig) as watch:
        with Load(rig.port, [Stream("hot", HOT[0], 20), Stream("cold", "/cold", 40, 2)]) as load:
            for _ in range(3):
                assert rig.get("/decoy?mib=150", timeout=120) == "written"
            wait_until(lambda: rig.look()["usage"] > 0.6 * 256 * MIB, 30, "there is no page cache: it proves nothing")
            time.sleep(3)
        found = rig.look()
        report("02", load, watch, rig, note=f"usage {found['usage'] / MIB:.0f} MiB, u = {found['share']:.2f}")
        assert found["share"] < 0.70
        # "" is no answer: the app blocks its loop while it writes.
        states = {state for _, state, _ in watch.seen}
        assert "NORMAL" in states or "TRIM" in states
        assert states <= {"NORMAL", "TRIM", ""}
        assert load.count("cold", 200) == load.count("cold") > 0
        assert group.oom_kills() == 0
