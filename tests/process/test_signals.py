"""Ctrl-C, SIGTERM and SIGHUP: a command ends in order, with its exit code, and never in the middle of a commit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from hotpath.batch.reports import last_run
from hotpath.batch.run import build
from hotpath.process.signals import NUMBERS, Interrupted, describe, exit_code_of, interruptible, uninterrupted
from hotpath.site import Hotpath
from hotpath.store.store import Store
from tests.cli.test_commands import APP
from tests.cli.test_failures import People, people
from tests.store.crash.operations import BEFORE, NumberedDisk, Operation

__all__ = ["people"]


@pytest.fixture(autouse=True)
def signals_as_in_a_terminal() -> Iterator[None]:
    """Ignored ones are inherited: SIGINT where pytest runs in the background of a shell, SIGHUP under nohup."""
    before = {number: signal.getsignal(number) for number in NUMBERS}
    for number in NUMBERS:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_build_that_is_ended_leaves_everything_in_order(
    number: signal.Signals, code: int, tmp_path: Path, people: People
) -> None:
    slow = APP.replace('    return {"market"', '    import time; time.sleep(60)\n    return {"market"')
    (tmp_path / "myapp.py").write_text(slow)
    command = [sys.executable, "-m", "hotpath", "build", "myapp:hot", "--workers", "2", "--alert"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    try:
        itself = psutil.Process(process.pid)
        deadline = time.monotonic() + 60
        while len(workers := itself.children()) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(number)
        _, told = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == code
    assert told.splitlines()[-1] == (
        f"hotpath: {'interrupted' if code == 130 else f'ended by {number.name}'}; 'hotpath status' says what is served"
    )
    assert "Traceback" not in told
    assert len(workers) == 2
    assert psutil.wait_procs(workers, timeout=30)[1] == []
    store = Store(tmp_path / "var" / "hot")
    assert sorted(path.name for path in store.root.iterdir()) == ["alerts.jsonl", "alerts.lock", "generations", "lock"]
    with store.locked():
        assert store.sequences() == []
    assert people.kinds == ["build.interrupted"]
    assert people.pings == ["/ping/start", "/ping/fail"]


@dataclass
class Signalling(NumberedDisk):
    """Sends SIGTERM to its own process before operation ``number``."""

    number: int = -1

    def reach(self, number: int, moment: str, operation: Operation) -> None:
        if (number, moment) == (self.number, BEFORE):
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.slow
def test_a_signal_at_any_operation_of_a_build_publishes_all_or_nothing(tmp_path: Path) -> None:
    undisturbed = NumberedDisk(base=tmp_path)
    build(site(tmp_path / "undisturbed", undisturbed, 1))
    outcomes = set()
    for number in range(len(undisturbed.trace)):
        disk = Signalling(base=tmp_path, number=number)
        hot = site(tmp_path / f"hot-{number}", disk, 1)
        with pytest.raises(Interrupted), interruptible():
            build(hot)
        store = hot.store
        names = {path.name for path in store.root.iterdir()} if store.root.exists() else set()
        assert not [name for name in names if name.startswith(".")], disk.trace[number]
        if store.sequences():
            assert store.chosen_sequence() == 1, disk.trace[number]
            run = last_run(store)
            assert run is not None, "what is published is in the history"
            assert run["outcome"] == "published"
        outcomes.add(tuple(store.sequences()))
        with store.locked():
            pass  # free at once
    after = build(site(tmp_path / f"hot-{number}", NumberedDisk(base=tmp_path), 2))
    assert store.chosen_sequence() == after.published.generation == 2
    assert outcomes == {(), (1,)}


def site(root: Path, disk: NumberedDisk, value: int) -> Hotpath:
    hot = Hotpath(root)
    hot.store = Store(root, disk=disk)
    hot.route("/page")(lambda: [value])
    return hot


def test_what_must_not_be_divided_ends_before_the_signal_is_heard() -> None:
    done = []

    def work() -> None:
        with uninterrupted():
            with uninterrupted():
                os.kill(os.getpid(), signal.SIGTERM)
                done.append(1)
            done.append(2)
        done.append(3)

    with pytest.raises(Interrupted, match="ended by SIGTERM") as caught, interruptible():
        work()
    assert done == [1, 2]
    assert exit_code_of(caught.value) == 143


def test_an_error_inside_is_what_ends_it() -> None:
    def work() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        raise ValueError("no data")

    with pytest.raises(ValueError, match="no data"), interruptible(), uninterrupted():
        work()
    with interruptible(), uninterrupted():
        pass  # and the signal is forgotten with it


def test_a_second_hangup_disturbs_nobody_and_ctrl_c_still_does() -> None:
    def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGHUP)
        finally:
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGTERM)
            with pytest.raises(Interrupted, match="interrupted"):
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted) as caught, interruptible():
        work()
    assert exit_code_of(caught.value) == 129
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL, "as it was before"


def test_what_is_ignored_stays_so_and_other_threads_have_no_signals() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with interruptible():
        os.kill(os.getpid(), signal.SIGHUP)
    seen: list[object] = []

    def elsewhere() -> None:
        with interruptible(), uninterrupted():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join(30)
    assert seen == [signal.SIG_DFL]


def test_a_ctrl_c_of_pythons_own() -> None:
    assert (exit_code_of(KeyboardInterrupt()), describe(KeyboardInterrupt())) == (130, "interrupted")
