"""Row 8: lock holder killed or stopped: killed, the next gets it at once; stopped, busy with its pid."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hotpath.errors import StoreBusy
from hotpath.store.store import Store
from tests.store.faults.sites import await_true, command, run, write_module

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A build that has the lock and waits in the middle."""
    write_module(tmp_path, tmp_path / "hot")
    assert run(tmp_path, "build", "nightly:hot")[0] == 0
    (tmp_path / "running").unlink()
    (tmp_path / "hold").touch()
    process = command(tmp_path, "build", "nightly:hot")
    await_true((tmp_path / "running").exists)
    yield process
    process.kill()
    process.communicate(timeout=10)


@pytest.mark.slow
def test_killed_the_next_gets_it_at_once(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait(10)
    (tmp_path / "hold").unlink()
    store = Store(tmp_path / "hot")
    assert [path for path in store.root.iterdir() if path.name.startswith(".stage")], "it was in the middle"
    code, told = run(tmp_path, "build", "nightly:hot")
    assert (code, "published generation 2" in told) == (0, True)
    assert not [path for path in store.root.iterdir() if path.name.startswith(".")]


VALIDATING = """
import pathlib, sys, time
from hotpath.store import Store
from tests.store.faults.sites import POLICY
from hotpath.store.publish import staging

def hang(manifest, previous):
    pathlib.Path(sys.argv[2]).touch()
    time.sleep(600)

with staging(Store(sys.argv[1])) as stage:
    stage.add("/a", "a.json", b"[1]", POLICY)
    stage.publish(hang, timeout_seconds=600)
"""


def test_killed_while_its_validator_hangs_the_next_gets_it_at_once_too(tmp_path: Path) -> None:
    """The validator's process was forked from the holder, and so had the lock as well."""
    asked = tmp_path / "asked"
    holder = subprocess.Popen([sys.executable, "-c", VALIDATING, str(tmp_path / "hot"), str(asked)], cwd=REPOSITORY)
    try:
        await_true(asked.exists)
        (validator,) = Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text().split()
        with pytest.raises(StoreBusy), Store(tmp_path / "hot").locked():
            pass
    finally:
        holder.kill()
        holder.wait(10)
    with Store(tmp_path / "hot").locked():
        pass
    await_true(lambda: _is_dead(validator))


def _is_dead(pid: str) -> bool:
    """Killed and not yet waited for, where nobody does that: in a container without an init."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.slow
def test_stopped_it_is_busy_and_named(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGSTOP)
    for arguments in (
        ("build", "nightly:hot"),
        ("rollback", "nightly:hot"),
        ("prune", "nightly:hot"),
        ("verify", "nightly:hot", "--repair"),
    ):
        code, told = run(tmp_path, *arguments)
        assert code == 75, told
        assert f"process {holder.pid} is changing" in told
    assert run(tmp_path, "status", "nightly:hot")[0] == 0, "looking needs no lock"
    (tmp_path / "hold").unlink()
    holder.send_signal(signal.SIGCONT)
    assert holder.wait(20) == 0
    assert Store(tmp_path / "hot").chosen_sequence() == 2


@pytest.mark.slow
def test_an_old_lock_file_is_no_lock(tmp_path: Path) -> None:
    write_module(tmp_path, tmp_path / "hot")
    assert run(tmp_path, "build", "nightly:hot")[0] == 0
    lock = tmp_path / "hot" / "lock"
    lock.write_text("1\n")
    os.utime(lock, (0, 0))
    assert run(tmp_path, "build", "nightly:hot")[0] == 0
