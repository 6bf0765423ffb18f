"""Forked workers that share 100 MiB hold it once: four of them shed nothing, though their sizes add up to the limit."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path

import psutil
import pytest

from tests.guard.groups import memory_group, needs_groups
from tests.guard.load import Load, Stream
from tests.guard.rig import GUNICORN, HOT, MIB, Watch, report, served, workers_of
from tests.guard.waiting import wait_until

pytestmark = [
    pytest.mark.slow,
    needs_groups,
    pytest.mark.skipif(importlib.util.find_spec("gunicorn") is None, reason="needs gunicorn"),
]

LIMIT = 400 * MIB


def test_shared_pages_count_once(tmp_path: Path) -> None:
    with (
        memory_group(LIMIT) as group,
        served(tmp_path, group, guard={}, workers=4, ballast_mib=100, server=GUNICORN) as rig,
    ):
        wait_until(lambda: len(workers_of(tmp_path)) == 4, 60, "the workers did not start")
        with (
            Watch(rig) as watch,
            Load(rig.port, [Stream("hot", HOT[0], 20, 2), Stream("cold", "/cold", 40, 4)]) as load,
        ):
            time.sleep(4)
        workers = workers_of(tmp_path)
        added = sum(psutil.Process(worker.pid).memory_info().rss for worker in workers)
        share = rig.look()["share"]
        report("10", load, watch, rig, note=f"resident sizes add up to {added / MIB:.0f} MiB, u = {share:.2f}")
        assert added > LIMIT, "the sizes do not add up to the limit, so the test proves nothing"
        assert share < 0.70
        assert len({worker.pid for worker in workers}) == 4
        # "" is an answer that took more than a second.
        seen = {state for _, state, _ in watch.seen} - {""}
        assert seen
        assert seen <= {"NORMAL", "TRIM"}
        assert rig.look()["state"] in {"NORMAL", "TRIM"}
        assert load.count("cold", 200) == load.count("cold") > 0
