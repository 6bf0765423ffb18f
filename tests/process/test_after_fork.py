"""What holds a thread or a lock starts anew in a child, as long as it lives."""

from __future__ import annotations

import gc
import os
import weakref

from hotpath.process import after_fork


class Counting:
    def __init__(self) -> None:
        self.restarts = 0
        after_fork.register(self)

    def restart_after_fork(self) -> None:
        self.restarts += 1


def in_child(counting: Counting) -> int:
    """How often it was restarted in a child."""
    pid = os.fork()
    if pid == 0:
        os._exit(counting.restarts)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_it_is_restarted_in_the_child_only() -> None:
    counting = Counting()
    assert in_child(counting) == 1
    assert counting.restarts == 0


def test_it_is_held_weakly() -> None:
    counting = Counting()
    reference = weakref.ref(counting)
    del counting
    gc.collect()
    assert reference() is None
