"""Python code blocks the event loop: the guard goes on sampling, and the first request in the queue meets its state."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from tests.guard.groups import memory_group, needs_groups
from tests.guard.rig import MIB, report, served

pytestmark = [pytest.mark.slow, needs_groups]


def test_the_guard_sees_while_the_loop_is_blocked(tmp_path: Path) -> None:
    guard = {"leave": False}
    with memory_group(256 * MIB) as group, served(tmp_path, group, guard=guard) as rig:
        rig.await_state("NORMAL", seconds=5)
        blocked = threading.Thread(target=rig.get, args=("/block?seconds=3",))
        blocked.start()
        time.sleep(0.5)  # until the loop has the request; it is blocked for 2.5 s more
        group.set_limit(rig_used(group.usage()))
        # Both wait in the queue behind the blocked loop, and are answered the moment that it is free.
        answers: dict[str, object] = {}
        queued = [
            threading.Thread(target=lambda: answers.update(cold=rig.status("/cold"))),
            threading.Thread(target=lambda: answers.update(look=rig.look())),
        ]
        for thread in queued:
            thread.start()
        for thread in (blocked, *queued):
            thread.join(20)
        look = answers["look"]
        assert isinstance(look, dict)
        report("04", None, None, rig, note=f"age of the sample {look['age'] * 1000:.0f} ms, first cold request 503")
        assert look["age"] <= 0.2
        assert look["state"] == "BRAKE"
        assert answers["cold"] == 503


def rig_used(usage: int) -> int:
    """A limit of which this much is more than nine tenths."""
    return int(usage / 0.93)
