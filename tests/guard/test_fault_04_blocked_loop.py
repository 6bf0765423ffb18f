"""Python code blocks the event loop: the guard goes on sampling, and the first request in the queue meets its state."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hotpath.guard.guard import STALLED_SECONDS
from tests.guard.groups import memory_group, needs_groups
from tests.guard.rig import MIB, Rig, report, served
from tests.guard.waiting import wait_until

MOST_AGE = 0.2
# A machine that others use too may stop any process for longer than that, once.
TRIES = 3

pytestmark = [pytest.mark.slow, needs_groups]


def test_the_guard_sees_while_the_loop_is_blocked(tmp_path: Path) -> None:
    guard = {"leave": False, "priority": {"/block": 0}}
    with memory_group(256 * MIB) as group, served(tmp_path, group, guard=guard) as rig:
        rig.await_sample()
        assert rig.status("/cold") == 200
        ages: list[float] = []
        while not ages or (ages[-1] > MOST_AGE and len(ages) < TRIES):
            answers = ask_while_blocked(rig, lambda: group.set_limit(rig_used(group.usage())))
            look = answers["look"]
            assert isinstance(look, dict)
            assert look["state"] == "BRAKE"
            assert answers["cold"] == 503
            ages.append(look["age"])
        told = f"age of the sample {ages[-1] * 1000:.0f} ms at try {len(ages)}, first cold request 503"
        report("04", None, None, rig, note=told)
        assert ages[-1] <= MOST_AGE, f"samples as old as {ages}"


def test_a_process_that_was_stopped_goes_on_as_it_was(tmp_path: Path) -> None:
    """SIGSTOP and SIGCONT, as a debugger or a frozen container: the guard is not blind, and nothing has grown."""
    with memory_group(256 * MIB) as group, served(tmp_path, group, guard={"leave": False}) as rig:
        rig.await_sample()
        rig.process.send_signal(signal.SIGSTOP)
        time.sleep(STALLED_SECONDS + 2)
        rig.process.send_signal(signal.SIGCONT)
        wait_until(lambda: rig.look()["age"] < 1.5, 30, "no sample")
        time.sleep(2)  # a few ticks of the loop
        assert [arrow for arrow in rig.look()["transitions"] if "BLIND" in arrow] == []
        assert rig.status("/cold") == 200


def ask_while_blocked(rig: Rig, meanwhile: Callable[[], None]) -> dict[str, object]:
    """What the first requests behind a blocked loop get: they are answered the moment that it is free."""
    blocked = threading.Thread(target=rig.get, args=("/block?seconds=3",))
    blocked.start()
    time.sleep(0.5)  # until the loop has the request; it is blocked for 2.5 s more
    meanwhile()
    answers: dict[str, object] = {}
    queued = [
        threading.Thread(target=lambda: answers.update(cold=rig.status("/cold"))),
        threading.Thread(target=lambda: answers.update(look=rig.look())),
    ]
    for thread in queued:
        thread.start()
    for thread in (blocked, *queued):
        thread.join(60)
    return answers


def rig_used(usage: int) -> int:
    """A limit of which this much is more than nine tenths."""
    return int(usage / 0.93)
