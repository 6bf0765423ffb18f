"""Row 7: 2–8 publishers, prune and rollback at once: one winner; losers exit 75; the sequence strictly increases."""

from __future__ import annotations

import os
from pathlib import Path

import orjson
import pytest

from hotpath.store import Store
from tests.faults.sites import command, run, write_module


@pytest.mark.parametrize("publishers", [2, 8])
def test_one_at_a_time(tmp_path: Path, publishers: int) -> None:
    root = tmp_path / "hot"
    write_module(tmp_path, root, keep=3)
    assert run(tmp_path, "build", "nightly:hot")[0] == 0
    assert run(tmp_path, "build", "nightly:hot")[0] == 0
    (tmp_path / "hold").touch()
    started = [command(tmp_path, "build", "nightly:hot") for _ in range(publishers)]
    others = [command(tmp_path, "prune", "nightly:hot"), command(tmp_path, "rollback", "nightly:hot")]
    # All but the one that has the lock end by themselves; only then may that one go on.
    waiting = [*started, *others]
    ended: list[int] = []
    while len(ended) < len(waiting) - 1:
        pid, status = os.waitpid(-1, 0)
        for process in waiting:
            if process.pid == pid:
                process.returncode = os.waitstatus_to_exitcode(status)
                ended.append(process.returncode)
        if len(ended) >= len(waiting) - 1:
            break
    (tmp_path / "hold").unlink()
    for process in waiting:
        _, err = process.communicate(timeout=60)
        assert "Traceback" not in err
        assert process.returncode in (0, 75), err
        if process.returncode == 75:
            assert "is publishing to this store" in err
    codes = [process.returncode for process in started]
    assert codes.count(0) <= 1, "the lock was held all the time by the one that went on"
    store = Store(root)
    published = [
        line["sequence"]
        for line in map(orjson.loads, store.history_path.read_bytes().splitlines())
        if line["event"] == "publish"
    ]
    assert published == sorted(set(published))
    assert all(store.verify_generation(sequence) == [] for sequence in store.sequences())
    assert run(tmp_path, "verify", "nightly:hot")[0] == 0


def test_a_storm_without_order(tmp_path: Path) -> None:
    """Nobody waits for anybody; whatever wins, the store is whole and numbers never come twice."""
    root = tmp_path / "hot"
    write_module(tmp_path, root, keep=2)
    assert run(tmp_path, "build", "nightly:hot")[0] == 0
    processes = [
        command(tmp_path, *arguments)
        for _ in range(3)
        for arguments in (
            ("build", "nightly:hot"),
            ("rollback", "nightly:hot"),
            ("prune", "nightly:hot"),
            ("unpin", "nightly:hot"),
        )
    ]
    for process in processes:
        _, err = process.communicate(timeout=120)
        assert "Traceback" not in err
        assert process.returncode in (0, 1, 75), err  # 1: there was nothing before to go back to
    store = Store(root)
    published = [
        line["sequence"]
        for line in map(orjson.loads, store.history_path.read_bytes().splitlines())
        if line["event"] == "publish"
    ]
    assert published == sorted(set(published))
    assert store.verify_generation(store.chosen_sequence()) == []
    assert not [path.name for path in root.iterdir() if path.name.startswith(".")]
