"""Code that hangs, eats memory or kills its process gives an error within its limits, and nothing else happens."""

from __future__ import annotations

import faulthandler
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hotpath.errors import IsolatedFailure
from hotpath.process.fork import MAX_ANSWER_BYTES, run_isolated

MEBIBYTE = 1024 * 1024


def run(function: Callable[[], Any], timeout_seconds: float = 20.0, memory_bytes: int = 64 * MEBIBYTE) -> Any:
    return run_isolated(function, timeout_seconds=timeout_seconds, memory_bytes=memory_bytes)


def children() -> str:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii")


def eat() -> None:
    held = []
    while True:
        held.append(bytearray(MEBIBYTE))


def test_the_answer_comes_back() -> None:
    assert run(lambda: {"problems": ["half the rows", "Größe"]}) == {"problems": ["half the rows", "Größe"]}
    assert run(lambda: None) is None


def test_what_it_changes_stays_with_it() -> None:
    state = [1]
    run(state.clear)
    assert state == [1]


def crash() -> None:
    faulthandler.disable()  # pytest's would fill the output with it
    os.kill(os.getpid(), signal.SIGSEGV)


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda: 1 / 0, r"raised ZeroDivisionError: division by zero at .*test_fork\.py:\d+"),
        (eat, r"ran out of memory \(its budget is 64\.0 MiB\)"),
        (lambda: os._exit(3), r"ended its process with status 3"),
        (crash, r"was killed by SIGSEGV"),
        (object, r"raised TypeError"),
        (lambda: "x" * (MAX_ANSWER_BYTES + 1), r"sent more than 16\.0 MiB"),
    ],
    ids=["raises", "memory", "exits", "crashes", "no JSON", "endless"],
)
def test_each_way_to_fail_is_told(function: Callable[[], Any], told: str) -> None:
    before = children()
    with pytest.raises(IsolatedFailure, match=told):
        run(function)
    assert children() == before, "no zombie, nothing left running"


def test_a_hang_ends_at_its_timeout_and_takes_its_own_children_along(tmp_path: Path) -> None:
    written = tmp_path / "pid"

    def hang() -> None:
        sleeper = subprocess.Popen(["sleep", "600"])
        written.write_text(str(sleeper.pid))
        sleeper.wait()

    started = time.monotonic()
    with pytest.raises(IsolatedFailure, match=r"gave no answer within 1 s"):
        run(hang, timeout_seconds=1.0)
    assert time.monotonic() - started < 10
    pid = int(written.read_text())
    deadline = time.monotonic() + 10
    while _is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _is_running(pid)


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_signals_reach_the_child_as_usual_and_the_caller_as_before() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    handler = signal.getsignal(signal.SIGINT)  # ignored where pytest runs in the background of a shell

    def told() -> list[bool]:
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        return [blocked == before, signal.getsignal(signal.SIGINT) == signal.SIG_DFL, os.getsid(0) == os.getpid()]

    assert run(told) == [True, True, True]
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
    assert signal.getsignal(signal.SIGINT) == handler


def test_it_works_where_the_kernel_keeps_no_status_of_children() -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert run(lambda: [1]) == [1]
        with pytest.raises(IsolatedFailure, match="ended its process"):
            run(lambda: os._exit(3))
    finally:
        signal.signal(signal.SIGCHLD, before)
