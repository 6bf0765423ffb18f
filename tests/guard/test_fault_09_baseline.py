"""A baseline above the threshold: nobody is recycled for ever. Two recycles, then an alarm, and hot pages go on.

The times are shortened: 60 s between two recycles are 2, 20 s of BRAKE are 1. The ten minutes within which two recycles
without help are the most stay ten minutes.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from hotpath.guard.states import State
from tests.guard.groups import memory_group, needs_groups
from tests.guard.load import Load, Stream
from tests.guard.rig import HOT, MIB, Watch, report, served, workers_of
from tests.guard.waiting import wait_until

pytestmark = [pytest.mark.slow, needs_groups]

TIMES = {"brake_seconds": 1.0}
GUARD = {"recycle": {"drain_seconds": 1.0}, "sampling": {"most_interval": 0.25}}


def count_that_stay(root: Path) -> int:
    return sum(worker.state != State.DRAIN for worker in workers_of(root))


def test_two_recycles_and_no_more(tmp_path: Path) -> None:
    with (
        memory_group(256 * MIB) as group,
        served(tmp_path, group, guard=GUARD, workers=2, times=TIMES, apart_seconds=2, ballast_mib=86) as rig,
    ):
        with Watch(rig) as watch, Load(rig.port, [Stream("hot", HOT[0], 30, 2), Stream("cold", "/cold", 10)]) as load:
            wait_until(lambda: rig.look()["suppressed"] is True, 120, "nobody gave up")
            # The second may still be on its way out, its successor still read its modules from a slow disk, and uvicorn
            # wait five seconds for a word of the one that is gone.
            wait_until(lambda: count_that_stay(tmp_path) == 2, 60, "nobody came in the place of the second")
            time.sleep(5)  # more than twice the time between two of them, and nobody goes
            ready = rig.status("/readyz")
        recycles = rig.log.read_text().count("→ DRAIN")
        report("09", load, watch, rig, note=f"{recycles} recycles, then none")
        assert recycles == 2
        assert count_that_stay(tmp_path) == 2
        assert ready == 503
        assert "did not help" in rig.said()
        assert load.count("hot", 200) == load.count("hot") > 0
        assert load.count("cold", 503) > 0
        assert group.oom_kills() == 0
