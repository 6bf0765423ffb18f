"""Row 8: lock holder killed or stopped: killed, the next gets it at once; stopped, busy with its pid."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hotpath.store import Store
from tests.faults.sites import await_true, command, run, write_module


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


def test_killed_the_next_gets_it_at_once(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait(10)
    (tmp_path / "hold").unlink()
    store = Store(tmp_path / "hot")
    assert [path for path in store.root.iterdir() if path.name.startswith(".stage")], "it was in the middle"
    code, told = run(tmp_path, "build", "nightly:hot")
    assert (code, "published generation 2" in told) == (0, True)
    assert not [path for path in store.root.iterdir() if path.name.startswith(".")]


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


def test_an_old_lock_file_is_no_lock(tmp_path: Path) -> None:
    write_module(tmp_path, tmp_path / "hot")
    assert run(tmp_path, "build", "nightly:hot")[0] == 0
    lock = tmp_path / "hot" / "lock"
    lock.write_text("1\n")
    os.utime(lock, (0, 0))
    assert run(tmp_path, "build", "nightly:hot")[0] == 0
