"""Row 7: 2–8 publishers, prune and rollback at once: one winner; losers exit 75; the sequence strictly increases."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from hotpath.store.store import Store
from tests.store.faults.sites import await_true, command, litter, published_numbers, run, write_module


@contextmanager
def started(directory: Path, *commands: Sequence[str]) -> Iterator[list[subprocess.Popen[str]]]:
    """These commands, all at once; whatever happens none of them outlives the block."""
    processes = [command(directory, *arguments) for arguments in commands]
    try:
        yield processes
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.communicate(timeout=10)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """(exit code, all it said) of a command, when it has ended."""
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in err, err
    return process.returncode, out + err


@pytest.mark.slow
@pytest.mark.parametrize("publishers", [2, 8])
def test_exactly_one_of_the_publishers_wins(tmp_path: Path, publishers: int) -> None:
    """The winner stays in the middle until every other one has given up, and prune and rollback come meanwhile."""
    write_module(tmp_path, tmp_path / "hot", keep=3)
    for _ in range(2):
        assert run(tmp_path, "build", "nightly:hot")[0] == 0
    (tmp_path / "running").unlink()
    (tmp_path / "hold").touch()
    with started(tmp_path, *[("build", "nightly:hot")] * publishers) as builds:
        await_true((tmp_path / "running").exists)
        with started(tmp_path, ("prune", "nightly:hot"), ("rollback", "nightly:hot")) as others:
            await_true(lambda: sum(process.poll() is not None for process in [*builds, *others]) == publishers + 1, 60)
            (winner,) = [process for process in builds if process.poll() is None]
            (tmp_path / "hold").unlink()
            found = [ended(process) for process in [*builds, *others]]
    codes = [code for code, _ in found]
    assert codes[:publishers].count(0) == 1
    assert codes.count(75) == publishers + 1
    for code, told in found:
        assert code == 0 or f"process {winner.pid} is changing this store" in told
    store = Store(tmp_path / "hot")
    assert published_numbers(store) == [1, 2, 3]
    assert (store.chosen_sequence(), store.sequences(), store.bad()) == (3, [1, 2, 3], {})
    assert run(tmp_path, "verify", "nightly:hot")[0] == 0


@pytest.mark.slow
def test_a_storm_without_order(tmp_path: Path) -> None:
    """Nobody waits for anybody; each one works or is told to wait."""
    root = tmp_path / "hot"
    write_module(tmp_path, root, keep=2)
    assert run(tmp_path, "build", "nightly:hot")[0] == 0
    names = ("build", "rollback", "prune", "unpin") * 3
    with started(tmp_path, *[(name, "nightly:hot") for name in names]) as processes:
        found = [ended(process) for process in processes]
    for name, (code, told) in zip(names, found, strict=True):
        assert code in (0, 75) or (name, code) == ("rollback", 1), told  # 1: there was nothing before to go back to
        assert (code == 75) == ("is changing this store" in told)
    store = Store(root)
    built = sum(name == "build" and code == 0 for name, (code, _) in zip(names, found, strict=True))
    assert len(published_numbers(store)) == 1 + built
    assert store.verify_generation(store.chosen_sequence()) == []
    assert litter(store) == []
