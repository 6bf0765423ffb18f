"""One request allocates past the limit: with the hard limit it gets a 503, everyone else a 200, nobody is killed."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.guard.groups import memory_group, needs_groups
from tests.guard.load import Load, Stream
from tests.guard.rig import HOT, MIB, Watch, report, served
from tests.guard.waiting import wait_until

pytestmark = [pytest.mark.slow, needs_groups]

STREAMS = (Stream("hot", HOT[0], 20, 2), Stream("alive", "/livez", 10))


def attack(root: Path, *, guarded: bool) -> tuple[int | None, int, Load]:
    """What the request got (``None``: no answer), how many were killed, what the others saw."""
    guard = {"leave": False, "hard_limit": True} if guarded else None
    status: int | None = None
    with memory_group(256 * MIB) as group, served(root, group, guard=guard) as rig, Watch(rig) as watch:
        if guarded:
            rig.await_sample()
        time.sleep(0.5)
        with Load(rig.port, STREAMS) as load:
            try:
                status, headers = rig.refusal("/allocate?mib=400")
                assert headers["retry-after"].isdigit()
            except OSError:
                assert not guarded, rig.said()
            if guarded:
                time.sleep(1)
                assert rig.status("/allocate?mib=20") in (200, 503), "it lives, in whatever state"
        report("12", load, watch, rig, guarded=guarded, note=f"the request got {status or 'no answer'}")
        return status, group.oom_kills(), load


def test_only_that_request_fails(tmp_path: Path) -> None:
    status, kills, _ = attack(tmp_path, guarded=False)
    assert status is None
    assert kills > 0, "the control was not killed, so the test proves nothing"
    status, kills, load = attack(tmp_path, guarded=True)
    assert status == 503
    assert kills == 0
    assert not load.broken
    assert {code for _, code in load.answers} == {200}


def test_millions_of_small_objects_fail_alone_too(tmp_path: Path) -> None:
    """They leave not a byte, so that nothing that answers for them may need one before the reserve is open."""
    guard = {"leave": False, "hard_limit": True}
    with memory_group(256 * MIB) as group, served(tmp_path, group, guard=guard) as rig:
        rig.await_sample()
        with Load(rig.port, STREAMS) as load:
            for _ in range(5):
                status, headers = rig.refusal("/allocate-small?count=5000000")
                assert status == 503, rig.said()
                assert headers["retry-after"].isdigit()
            time.sleep(1)
        assert rig.is_alive()
        assert group.oom_kills() == 0
        assert not load.broken
        assert {code for _, code in load.answers} == {200}


def test_who_has_used_the_reserve_leaves_when_it_may(tmp_path: Path) -> None:
    guard = {"leave": True, "hard_limit": True, "recycle": {"drain_seconds": 2.0}}
    with memory_group(256 * MIB) as group, served(tmp_path, group, guard=guard) as rig:
        rig.await_sample()
        status, _ = rig.refusal("/allocate?mib=400")
        assert status == 503
        wait_until(lambda: not rig.is_alive(), 60, "it did not leave")
        assert rig.process.returncode in (0, -15), rig.said()
        assert "→ DRAIN (reserve)" in rig.said()
        assert group.oom_kills() == 0
