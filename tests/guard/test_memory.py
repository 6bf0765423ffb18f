"""What a reading says for trees of groups of every shape, and that nonsense is an error and never a figure."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from hotpath.errors import DeclarationError, UnreadableMemory
from hotpath.guard.memory import CHILDREN_SECONDS, LOOK_SECONDS, MemoryReader, MemoryReading
from hotpath.testing import FakeClock
from tests.guard.trees import HUGE, MIB, PAGE, Tree, meminfo

TOTAL = 8192 * MIB


@pytest.fixture(params=[1, 2], ids=["version 1", "version 2"])
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Tree:
    return Tree(tmp_path, request.param)


def no_children() -> int:
    return 0


def reader(tree: Tree, *, clock: Callable[[], float] | None = None, budget: int | None = None) -> MemoryReader:
    return MemoryReader(
        budget=budget, root=tree.root, clock=clock or FakeClock(7.0), page_size=PAGE, children=no_children
    )


def read(tree: Tree, *, budget: int | None = None) -> MemoryReading:
    found = reader(tree, budget=budget)
    try:
        return found.read()
    finally:
        found.close()


def test_a_group_with_a_limit(tree: Tree) -> None:
    tree.joined("/app")
    tree.group("/app", limit=512 * MIB, usage=300 * MIB, active=20 * MIB, inactive=80 * MIB)
    assert read(tree) == MemoryReading(
        at=7.0,
        limit=512 * MIB,
        usage=300 * MIB,
        unreclaimable=200 * MIB,
        available=4096 * MIB,
        resident=50 * MIB,
        anonymous=50 * MIB - 426 * PAGE,
        source=f"cgroup{tree.version}",
    )
    assert read(tree).left == 312 * MIB


def test_what_has_to_be_written_first_does_not_count_as_reclaimable(tree: Tree) -> None:
    tree.joined("/app")
    tree.group("/app", usage=300 * MIB, inactive=80 * MIB, dirty=30 * MIB, writeback=10 * MIB)
    assert read(tree).unreclaimable == 260 * MIB


def test_slab_counts_as_reclaimable_where_the_kernel_tells(tmp_path: Path) -> None:
    tree = Tree(tmp_path, 2)
    tree.joined("/app")
    tree.group("/app", usage=300 * MIB, inactive=80 * MIB, slab=15 * MIB)
    assert read(tree).unreclaimable == 205 * MIB
    stat = tree.file("/app", "stat")
    tree.write(stat, stat.read_text().replace("slab_reclaimable", "slab_renamed"))
    assert read(tree).unreclaimable == 220 * MIB


def test_more_to_reclaim_than_is_used_leaves_nothing_below_zero(tree: Tree) -> None:
    tree.joined("/app")
    tree.group("/app", usage=100 * MIB, active=120 * MIB)
    assert read(tree).unreclaimable == 0
    tree.group("/app", usage=100 * MIB, active=1 * MIB, dirty=5 * MIB)
    assert read(tree).unreclaimable == 100 * MIB


def test_without_any_limit_the_machine_is_the_limit(tree: Tree) -> None:
    tree.joined("/app")
    tree.group("/app")
    assert read(tree).limit == TOTAL
    assert read(tree).source == f"cgroup{tree.version}"


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ((None, None, 128), 128),
        ((None, 128, 256), 128),
        ((128, 256, None), 128),
        ((256, 128, 512), 128),
        ((512, 256, 128), 128),
        ((None, None, 16384), 8192),
    ],
)
def test_the_smallest_limit_of_the_group_and_all_above_it_holds(
    tree: Tree, limits: tuple[int | None, ...], expected: int
) -> None:
    tree.joined("/pod/app/worker")
    for path, limit in zip(("/pod", "/pod/app", "/pod/app/worker"), limits, strict=True):
        tree.group(path, limit=limit and limit * MIB, usage=60 * MIB)
    assert read(tree).limit == expected * MIB


def test_a_wider_group_that_is_nearer_to_full_comes_first(tree: Tree) -> None:
    tree.joined("/pod/app")
    tree.group("/pod", limit=1024 * MIB, usage=1000 * MIB, inactive=100 * MIB)
    tree.group("/pod/app", limit=512 * MIB, usage=100 * MIB)
    assert (read(tree).limit, read(tree).usage, read(tree).unreclaimable) == (1024 * MIB, 1000 * MIB, 900 * MIB)
    tree.group("/pod", limit=1024 * MIB, usage=400 * MIB)
    assert (read(tree).limit, read(tree).usage) == (512 * MIB, 100 * MIB)


@pytest.mark.parametrize(("budget", "expected"), [(200, 200), (600, 512), (20_000, 512)])
def test_a_budget_bounds_the_group_too(tree: Tree, budget: int, expected: int) -> None:
    tree.joined("/app")
    tree.group("/app", limit=512 * MIB)
    assert read(tree, budget=budget * MIB).limit == expected * MIB


def test_a_changed_limit_is_seen_within_a_second_at_any_pace(tree: Tree) -> None:
    tree.joined("/pod/app")
    for pace in (0.05, 0.3, LOOK_SECONDS - 0.01, LOOK_SECONDS, 0.7, 1.0):
        tree.group("/pod", limit=512 * MIB)
        tree.group("/pod/app")
        clock = FakeClock(100.0)
        kept = reader(tree, clock=clock)
        assert kept.read().limit == 512 * MIB
        for limit in (256, 1024):
            tree.group("/pod", limit=limit * MIB)
            changed = clock()
            while kept.read().limit != limit * MIB:
                clock.advance(pace)
                assert clock() - changed <= 1.0
        kept.close()


def test_a_move_to_another_group_is_followed_within_a_second(tree: Tree) -> None:
    tree.joined("/one")
    tree.group("/one", limit=512 * MIB)
    tree.group("/two/app", limit=256 * MIB, usage=30 * MIB)
    clock = FakeClock(100.0)
    kept = reader(tree, clock=clock)
    assert kept.read().limit == 512 * MIB
    before = descriptors()
    tree.joined("/two/app")
    clock.advance(LOOK_SECONDS)
    assert (kept.read().limit, kept.read().usage) == (256 * MIB, 30 * MIB)
    assert descriptors() == before
    kept.close()


def test_values_may_have_spaces_behind_them(tree: Tree) -> None:
    tree.joined("/app")
    tree.group("/app", limit=f"{512 * MIB} ", usage=300 * MIB)
    tree.write(tree.file("/app", "usage"), f"{300 * MIB}  \n\n")
    stat = tree.file("/app", "stat")
    tree.write(stat, stat.read_text().replace("\n", " \n"))
    assert (read(tree).limit, read(tree).usage) == (512 * MIB, 300 * MIB)


# Where a group is found


def test_a_container_whose_groups_have_a_namespace(tree: Tree) -> None:
    (tree.point / "release_agent").unlink(missing_ok=True)
    tree.joined("/")
    tree.group("/", limit=512 * MIB)
    assert (read(tree).limit, read(tree).source) == (512 * MIB, f"cgroup{tree.version}")


def test_a_container_that_sees_its_group_under_the_path_of_the_host(tree: Tree) -> None:
    (tree.point / "release_agent").unlink(missing_ok=True)
    tree.mounted("/docker/4f2a", tree.point)
    tree.group("/", limit=512 * MIB)
    tree.group("/worker", limit=256 * MIB)
    tree.joined("/docker/4f2a")
    assert read(tree).limit == 512 * MIB
    tree.joined("/docker/4f2a/worker")
    assert read(tree).limit == 256 * MIB


@pytest.mark.parametrize(
    "path", ["/docker/4f2", "/docker/4f2a1", "/kubepods/pod1/c1", "/../../elsewhere", "/../worker"]
)
def test_a_path_that_leads_nowhere_gets_what_is_mounted(tree: Tree, path: str) -> None:
    (tree.point / "release_agent").unlink(missing_ok=True)
    tree.mounted("/docker/4f2a", tree.point)
    tree.group("/", limit=512 * MIB)
    for name in ("/worker", "/1"):
        tree.group(name, limit=128 * MIB)
    tree.joined(path)
    assert read(tree).limit == 512 * MIB


def test_a_path_out_of_the_namespace_does_not_lead_out_of_the_mount(tree: Tree) -> None:
    (tree.point / "release_agent").unlink(missing_ok=True)
    tree.group("/", limit=512 * MIB)
    tree.group("/../worker", limit=128 * MIB)
    tree.joined("/../worker")
    assert read(tree).limit == 512 * MIB


@pytest.mark.parametrize(("top", "path"), [("/../..", "/"), ("/..", "/../app/worker"), ("/", "/../app")])
def test_a_container_that_was_given_the_hosts_tree_finds_its_group_by_who_is_in_it(
    tree: Tree, top: str, path: str
) -> None:
    """Its paths begin at its namespace, and the mount above it: ``docker run -v /sys/fs/cgroup:/sys/fs/cgroup``."""
    tree.mounted(top, tree.point)
    tree.joined(path)
    tree.group("/app", limit=512 * MIB, usage=200 * MIB)
    tree.group("/app/worker", usage=100 * MIB)
    tree.group("/other", limit=64 * MIB)
    tree.write(tree.point / "other/cgroup.procs", f"1\n{os.getpid()}0\n")
    tree.write(tree.point / "app/worker/cgroup.procs", f"17\n{os.getpid()}\n")
    assert (read(tree).limit, read(tree).usage) == (512 * MIB, 200 * MIB)


def test_a_mount_that_shows_all_of_the_tree_is_taken_before_one_that_shows_a_part(tree: Tree) -> None:
    mountinfo = tree.root / "proc/self/mountinfo"
    whole = mountinfo.read_text()
    tree.mounted("/pod/app", tree.root / "mnt/part")
    tree.write(mountinfo, mountinfo.read_text() + whole)
    tree.joined("/pod/app")
    tree.group("/pod", limit=128 * MIB, usage=100 * MIB)
    tree.group("/pod/app", usage=90 * MIB)
    (tree.root / "mnt").mkdir()
    (tree.root / "mnt/part").symlink_to(tree.point / "pod/app")
    assert read(tree).limit == 128 * MIB


def test_a_mount_point_with_a_space_in_its_name(tree: Tree) -> None:
    tree.joined("/app")
    moved = tree.root / "sys" / "cgroup of memory"
    tree.point.rename(moved)
    tree.point = moved
    tree.mounted("/", moved)
    tree.group("/app", limit=512 * MIB)
    assert read(tree).limit == 512 * MIB


def test_a_limit_above_what_a_container_sees_is_known_in_version_1(tmp_path: Path) -> None:
    tree = Tree(tmp_path, 1)
    tree.mounted("/docker/4f2a", tree.point)
    (tree.point / "release_agent").unlink()
    tree.joined("/docker/4f2a")
    tree.group("/", inherited=128 * MIB)
    assert read(tree).limit == 128 * MIB


def test_a_version_2_group_without_the_controller_is_counted_by_the_one_above(tmp_path: Path) -> None:
    tree = Tree(tmp_path, 2)
    tree.joined("/service/threads")
    tree.group("/service", limit=512 * MIB, usage=200 * MIB)
    (tree.point / "service/threads").mkdir()
    assert (read(tree).limit, read(tree).usage) == (512 * MIB, 200 * MIB)


def test_hybrid_the_tree_that_has_the_memory_controller_counts(tmp_path: Path) -> None:
    tree = Tree(tmp_path, 1)
    tree.joined("/app")
    tree.group("/app", limit=512 * MIB)
    membership = tree.root / "proc/self/cgroup"
    tree.write(membership, membership.read_text() + "0::/app\n")
    mountinfo = tree.root / "proc/self/mountinfo"
    tree.write(mountinfo, mountinfo.read_text() + "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n")
    (tree.root / "sys/fs/cgroup/unified/app").mkdir(parents=True)
    assert (read(tree).limit, read(tree).source) == (512 * MIB, "cgroup1")


@pytest.mark.parametrize("where", ["/app", "/app/worker"])
def test_what_throttles_is_a_limit_too(tmp_path: Path, where: str) -> None:
    """``memory.high`` of version 2, ``MemoryHigh=`` of systemd."""
    tree = Tree(tmp_path, 2)
    tree.joined("/app/worker")
    tree.group("/app", limit=512 * MIB, usage=300 * MIB)
    tree.group("/app/worker", usage=200 * MIB)
    for group in ("/app", "/app/worker"):
        tree.write(tree.file(group, "high"), "max\n")
    assert read(tree).limit == 512 * MIB
    tree.write(tree.file(where, "high"), f"{320 * MIB}\n")
    found = read(tree)
    assert (found.limit, found.unreclaimable) == (320 * MIB, 300 * MIB if where == "/app" else 200 * MIB)


def test_version_1_groups_that_do_not_count_those_below_them_bound_nothing(tmp_path: Path) -> None:
    tree = Tree(tmp_path, 1)
    tree.joined("/pod/app")
    tree.write(tree.group("/pod", limit=128 * MIB) / "memory.use_hierarchy", "0\n")
    tree.group("/pod/app", limit=512 * MIB)
    assert read(tree).limit == 512 * MIB
    tree.write(tree.point / "pod/memory.use_hierarchy", "1\n")
    assert read(tree).limit == 128 * MIB


def test_memory_and_swap_together_may_be_nearer_to_full_than_memory(tmp_path: Path) -> None:
    tree = Tree(tmp_path, 1)
    tree.joined("/app")
    directory = tree.group("/app", limit=512 * MIB, usage=400 * MIB)
    tree.write(directory / "memory.memsw.limit_in_bytes", f"{600 * MIB}\n")
    tree.write(directory / "memory.memsw.usage_in_bytes", f"{400 * MIB}\n")
    assert (read(tree).limit, read(tree).usage) == (512 * MIB, 400 * MIB)
    tree.write(directory / "memory.memsw.usage_in_bytes", f"{590 * MIB}\n")
    assert (read(tree).limit, read(tree).usage) == (600 * MIB, 590 * MIB)


# Without a group


def alone(tree: Tree, *, budget: int | None = None) -> MemoryReading:
    """With two children of 7 MiB together."""
    found = MemoryReader(budget=budget, root=tree.root, page_size=PAGE, children=lambda: 7 * MIB)
    try:
        return found.read()
    finally:
        found.close()


def no_membership(tree: Tree) -> None:
    (tree.root / "proc/self/cgroup").unlink()


def no_memory_line(tree: Tree) -> None:
    tree.write("proc/self/cgroup", "9:name=systemd:/\n3:cpu,cpuacct:/\n")


def not_mounted(tree: Tree) -> None:
    tree.joined("/app")
    tree.write("proc/self/mountinfo", "23 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n")


def at_the_top(tree: Tree) -> None:
    tree.joined("/")
    if tree.version == 1:
        tree.group("/", usage=3000 * MIB)


def no_controller(tree: Tree) -> None:
    tree.joined("/app")
    (tree.point / "app").mkdir()


def login(tree: Tree) -> None:
    path = "/user.slice/user-1000.slice/session-3.scope"
    tree.joined(path)
    tree.group("/user.slice", usage=6000 * MIB)
    tree.group("/user.slice/user-1000.slice", usage=6000 * MIB)
    tree.group(path, usage=6000 * MIB)


@pytest.mark.parametrize(
    "arrange",
    [no_membership, no_memory_line, not_mounted, at_the_top, no_controller, login],
    ids=lambda one: one.__name__,
)
def test_without_a_group_of_its_own_the_process_is_what_counts(tree: Tree, arrange: Callable[[Tree], None]) -> None:
    arrange(tree)
    found = alone(tree)
    assert (found.source, found.limit, found.usage, found.unreclaimable) == ("process", TOTAL, 57 * MIB, 57 * MIB)
    assert (found.resident, found.available) == (50 * MIB, 4096 * MIB)
    assert alone(tree, budget=100 * MIB).limit == 100 * MIB


def test_a_limit_on_a_login_session_makes_its_group_count(tree: Tree) -> None:
    login(tree)
    tree.group("/user.slice/user-1000.slice", usage=6000 * MIB, limit=7000 * MIB)
    assert (read(tree).limit, read(tree).usage) == (7000 * MIB, 6000 * MIB)


def test_a_group_that_outgrows_its_budget_later_still_counts(tree: Tree) -> None:
    tree.joined("/app")
    tree.group("/app", usage=500 * MIB)
    kept = reader(tree, budget=1000 * MIB)
    assert kept.read().usage == 500 * MIB
    tree.group("/app", usage=3000 * MIB)
    assert (kept.read().usage, kept.read().source[:6]) == (3000 * MIB, "cgroup")
    kept.close()


def test_children_are_looked_for_every_ten_seconds_only(tree: Tree) -> None:
    no_membership(tree)
    clock, grown = FakeClock(), iter((1 * MIB, 2 * MIB))
    kept = MemoryReader(root=tree.root, clock=clock, page_size=PAGE, children=lambda: next(grown))
    usages = []
    for _ in range(20):
        usages.append(kept.read().usage)
        clock.advance(CHILDREN_SECONDS / 10)
    assert usages == [51 * MIB] * 10 + [52 * MIB] * 10
    kept.close()


def test_elsewhere_than_on_linux_psutil_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = SimpleNamespace(total=TOTAL, available=1000 * MIB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: machine)
    monkeypatch.setattr(psutil.Process, "memory_info", lambda self: SimpleNamespace(rss=70 * MIB))
    monkeypatch.setattr(psutil.Process, "memory_full_info", lambda self: SimpleNamespace(uss=60 * MIB))
    found = MemoryReader(root=tmp_path, clock=FakeClock(3.0), children=no_children)
    assert found.read() == MemoryReading(3.0, TOTAL, 70 * MIB, 70 * MIB, 1000 * MIB, 70 * MIB, 70 * MIB, "process")
    assert found.unique_bytes() == 60 * MIB
    assert found.host_total() == TOTAL
    assert found.oom_kills() is None


# Nonsense

GARBAGE = ["", "\n", "garbage\n", "-5\n", "1.5\n", "12 34\n", "0x10\n", "1_000\n", "٣\n", "9" * 400, "max max\n"]


def limit(tree: Tree) -> Path:
    return tree.file("/app", "limit")


def usage(tree: Tree) -> Path:
    return tree.file("/app", "usage")


def stat(tree: Tree) -> Path:
    return tree.file("/app", "stat")


@pytest.mark.parametrize("error", [FileNotFoundError("/proc/meminfo"), psutil.AccessDenied(1)])
def test_nothing_to_ask_is_the_error_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """A chroot without /proc: BLIND, and no error when the guard is made."""

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(
        "hotpath.guard.memory.psutil", SimpleNamespace(virtual_memory=fail, Process=fail, Error=psutil.Error)
    )
    found = MemoryReader(root=tmp_path, budget=MIB)
    for ask in (found.read, found.host_total, found.unique_bytes):
        with pytest.raises(UnreadableMemory, match="psutil failed"):
            ask()
    found.check_budget()


def proc(name: str) -> Callable[[Tree], Path]:
    return lambda tree: tree.root / "proc" / name


FILES = {
    "limit": limit,
    "usage": usage,
    "stat": stat,
    "meminfo": proc("meminfo"),
    "statm": proc("self/statm"),
    "cgroup": proc("self/cgroup"),
    "mountinfo": proc("self/mountinfo"),
}


def well(tree: Tree) -> Tree:
    tree.joined("/pod/app")
    tree.joined("/app")
    tree.group("/app", limit=512 * MIB)
    return tree


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("name", FILES)
def test_garbage_in_a_file_is_an_error_that_names_it(tree: Tree, name: str, garbage: str) -> None:
    if (name, garbage.strip()) in {("cgroup", ""), ("statm", "12 34")}:
        garbage = "\0\n"  # a process in no group, and one of 34 pages
    kept = reader(well(tree))
    path = FILES[name](tree)
    good = path.read_text()
    tree.write(path, garbage)
    with pytest.raises(UnreadableMemory) as caught:
        kept.read()
    assert caught.value.path == path
    assert str(path) in str(caught.value)
    assert caught.value.problem
    tree.write(path, good)
    assert kept.read().limit == 512 * MIB
    kept.close()


@pytest.mark.parametrize("name", [name for name in FILES if name != "cgroup"])
def test_a_file_that_is_not_there_is_an_error_that_names_it(tree: Tree, name: str) -> None:
    kept = reader(well(tree))
    path = FILES[name](tree)
    path.unlink()
    if name == "usage":  # then the directory is no memory group at all
        path.mkdir()
    with pytest.raises(UnreadableMemory) as caught:
        kept.read()
    assert caught.value.path == path
    kept.close()


def test_a_file_that_goes_away_later_is_an_error(tree: Tree) -> None:
    clock = FakeClock()
    kept = reader(well(tree), clock=clock)
    kept.read()
    kept.close()
    (tree.root / "proc/self/cgroup").unlink()
    with pytest.raises(UnreadableMemory, match="No such file"):
        kept.read()
    kept.close()


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("usage", "0\n", "0 bytes are used"),
        ("limit", "0\n", "a limit of 0 bytes"),
        ("statm", "0 0 0 0 0 0 0\n", "0 pages are resident"),
        ("statm", "12\n", "no number"),
        ("meminfo", meminfo(0, 1024), "a machine of 0 bytes"),
        ("meminfo", meminfo(TOTAL, MIB).replace("MemAvailable", "MemAvail"), "has no line 'MemAvailable:'"),
        ("cgroup", "4:memory:app\n", "is not 'number:controllers:/path'"),
        ("mountinfo", "35 23 0:29 / /sys rw - cgroup2\n", "is no line of mountinfo"),
        ("stat", "active_file \ntotal_active_file\n", "has no line '(total_)?active_file'|is no number"),
    ],
)
def test_figures_that_cannot_be_are_errors(tree: Tree, name: str, text: str, told: str) -> None:
    kept = reader(well(tree))
    tree.write(FILES[name](tree), text)
    with pytest.raises(UnreadableMemory, match=told):
        kept.read()
    kept.close()


@pytest.mark.parametrize("line", ["active_file", "inactive_file"])
def test_a_stat_without_the_page_cache_is_an_error(tree: Tree, line: str) -> None:
    name = f"total_{line}" if tree.version == 1 else line
    path = stat(well(tree))
    lines = path.read_text().splitlines(keepends=True)
    tree.write(path, "".join(one for one in lines if not one.startswith(name + " ")))
    with pytest.raises(UnreadableMemory, match=f"has no line '{name}'"):
        read(tree)


def test_a_group_above_that_makes_no_sense_is_an_error_too(tree: Tree) -> None:
    tree.joined("/pod/app")
    tree.group("/pod", limit="garbage")
    tree.group("/pod/app", limit=512 * MIB)
    with pytest.raises(UnreadableMemory, match="pod/memory"):
        read(tree)


# Besides


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_as_many_descriptors_after_ten_thousand_readings_good_and_bad(tree: Tree) -> None:
    well(tree)
    clock = FakeClock()
    kept = reader(tree, clock=clock)
    kept.read()
    before = descriptors()
    for number in range(10_000):
        clock.advance(0.25)
        if number % 500 == 250:
            tree.write(stat(tree), "garbage\n")
            with pytest.raises(UnreadableMemory):
                kept.read()
            tree.group("/app", limit=512 * MIB)
        kept.read()
    assert descriptors() == before
    kept.close()
    assert descriptors() < before
    kept.close()


def test_a_bad_reading_leaves_no_descriptor_behind(tree: Tree) -> None:
    before = descriptors()
    kept = reader(well(tree))
    tree.write(limit(tree), "garbage\n")
    for _ in range(3):
        with pytest.raises(UnreadableMemory):
            kept.read()
        assert descriptors() == before


def test_unique_bytes_are_the_share_of_this_process(tree: Tree) -> None:
    assert reader(tree).unique_bytes() == 30 * MIB
    tree.write("proc/self/smaps_rollup", "Rss:  51200 kB\n")
    with pytest.raises(UnreadableMemory, match="has no line 'Pss:'"):
        reader(tree).unique_bytes()


def test_oom_kills_of_the_own_group(tree: Tree) -> None:
    tree.joined("/app")
    tree.group("/app", kills=3)
    assert reader(tree).oom_kills() == 3
    tree.write(tree.file("/app", "events"), "garbage\n")
    assert reader(tree).oom_kills() is None
    no_membership(tree)
    assert reader(tree).oom_kills() is None


def test_host_total(tree: Tree) -> None:
    assert reader(tree).host_total() == TOTAL


@pytest.mark.parametrize("budget", [0, -1])
def test_a_budget_of_nothing_fails_at_construction(tree: Tree, budget: int) -> None:
    with pytest.raises(DeclarationError, match=f"budget={budget}"):
        reader(tree, budget=budget)


def test_a_budget_above_the_machine_or_below_the_process_is_an_error(tree: Tree) -> None:
    for budget in (1500 * MIB, TOTAL):
        reader(tree, budget=budget).check_budget()
    with pytest.raises(DeclarationError, match=r"more than this machine has, 8\.0 GiB; write less"):
        reader(tree, budget=TOTAL + 1).check_budget()
    with pytest.raises(DeclarationError, match=r"less than this process holds already, 50\.0 MiB.*well above"):
        reader(tree, budget=50 * MIB).check_budget()


def test_an_unlimited_version_1_group_looks_like_one(tmp_path: Path) -> None:
    tree = Tree(tmp_path, 1)
    tree.joined("/app")
    tree.group("/app", limit=HUGE)
    assert read(tree).limit == TOTAL
