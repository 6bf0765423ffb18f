"""Memory groups for the app: from tables as the kernel writes them, and for real where that is allowed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hotpath.errors import DeclarationError
from hotpath.front.group import GroupMaker, MemoryGroup, check_limit, free_bytes, set_own_oom_score, tree_bytes
from tests.guard.groups import memory_group, needs_groups

MIB = 1024 * 1024


def tree(root: Path, version: int, *, controllers: str = "") -> Path:
    """``/proc/self`` and the group of this process below ``root``, as files."""
    own = root / "sys/fs/cgroup/system.slice/site.service"
    own.mkdir(parents=True)
    proc = root / "proc/self"
    proc.mkdir(parents=True)
    kind = "cgroup2 cgroup2 rw" if version == 2 else "cgroup cgroup rw,memory"
    (proc / "mountinfo").write_text(f"30 24 0:26 / /sys/fs/cgroup rw - {kind}\n")
    (proc / "cgroup").write_text(
        "0::/system.slice/site.service\n" if version == 2 else "4:memory:/system.slice/site.service\n"
    )
    names = ("memory.current", "memory.max") if version == 2 else ("memory.usage_in_bytes", "memory.limit_in_bytes")
    for name in names:
        (own / name).write_text("1000\n")
    (own / "cgroup.procs").write_text(f"{os.getpid()}\n")
    (own / "cgroup.subtree_control").write_text(controllers)
    return own


def test_version_2_moves_the_front_aside_and_gives_the_app_a_limit(tmp_path: Path) -> None:
    own = tree(tmp_path, 2)
    groups = GroupMaker(tmp_path)
    assert groups.problem is None
    assert (own / "hotpath-front/cgroup.procs").read_text() == str(os.getpid())
    assert (own / "cgroup.subtree_control").read_text() == "+memory"
    first, second = groups.make(900 * MIB), groups.make(900 * MIB)
    assert first is not None
    assert second is not None
    assert first.joined != second.joined
    assert first.joined.parent.parent == own
    assert (first.joined.parent / "memory.max").read_text() == str(900 * MIB)


def test_version_2_leaves_the_front_where_it_is_if_groups_below_have_limits_already(tmp_path: Path) -> None:
    own = tree(tmp_path, 2, controllers="cpu memory")
    assert GroupMaker(tmp_path).problem is None
    assert not (own / "hotpath-front").exists()


def test_version_1_needs_no_place_of_its_own_for_the_front(tmp_path: Path) -> None:
    own = tree(tmp_path, 1)
    group = GroupMaker(tmp_path).make(5 * MIB)
    assert group is not None
    assert group.joined.parent.parent == own
    assert (group.joined.parent / "memory.limit_in_bytes").read_text() == str(5 * MIB)


def test_where_no_group_can_be_made_it_says_why(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/\n")
    (tmp_path / "proc/self/mountinfo").write_text("30 24 0:26 / /proc rw - proc proc rw\n")
    groups = GroupMaker(tmp_path)
    assert groups.problem == "no memory controller counts this process"
    assert groups.make(MIB) is None


@pytest.mark.parametrize("missing", ["proc/self/cgroup", "proc/self/mountinfo"])
def test_tables_that_cannot_be_read_are_no_fault(tmp_path: Path, missing: str) -> None:
    tree(tmp_path, 2)
    (tmp_path / missing).unlink()
    groups = GroupMaker(tmp_path)
    assert groups.problem is not None
    assert groups.problem.startswith("no memory group for the app could be made")
    assert groups.make(MIB) is None


def test_a_group_that_is_refused_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        MemoryGroup(tmp_path / "group", 3, MIB)
    own = tree(tmp_path / "root", 1)
    groups = GroupMaker(tmp_path / "root")
    own.rename(own.with_name("gone"))
    assert groups.make(MIB) is None
    assert groups.problem is not None


@needs_groups
def test_a_real_group_counts_kills_and_goes_away() -> None:
    with memory_group() as parent:
        group = MemoryGroup(parent.directory / "app", parent.version, 30 * MIB)
        code = f"open({str(group.joined)!r}, 'w').write('0'); print(len(bytearray(b'x') * {100 * MIB}))"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
        assert group.oom_kills() == 1
        process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        group.joined.write_text(str(process.pid))
        assert not group.remove()
        group.kill()
        assert process.wait(10) == -9
        process.stdin.close()  # type: ignore[union-attr]
        assert group.remove()
        assert group.remove()  # as often as one likes


def test_more_than_the_machine_has_is_refused() -> None:
    assert check_limit(64 * MIB) == 64 * MIB
    with pytest.raises(DeclarationError, match=r"--memory 1024.0 GiB is more than there is \(.* GiB\)"):
        check_limit(1 << 40)


def test_what_is_free_and_what_a_process_holds() -> None:
    assert MIB < free_bytes() < 1 << 40
    assert 5 * MIB < tree_bytes(os.getpid()) < 4096 * MIB
    assert tree_bytes(2**22 + 1) == 0


def test_the_score_of_a_process_is_written_where_that_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "oom_score_adj").touch()
    assert set_own_oom_score(-500, tmp_path / "oom_score_adj")
    assert (tmp_path / "oom_score_adj").read_text() == "-500"
    assert not set_own_oom_score(-500, tmp_path / "no" / "such")
