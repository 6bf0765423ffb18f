"""Whose memory is in a group: this service's, or that of programs that it has nothing to do with."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from hotpath.guard.memory import STRANGERS_SECONDS, MemoryReader
from hotpath.guard.strangers import find_crowd
from hotpath.testing import FakeClock
from tests.guard.fakes import FakeGuard
from tests.guard.trees import MIB, PAGE, Tree

INIT, SHELL, SERVER, OWN, CHILD, OTHER = 1, 10, 20, 30, 40, 90


@pytest.fixture(params=[1, 2], ids=["version 1", "version 2"])
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Tree:
    tree = Tree(tmp_path, request.param)
    tree.joined("/app")
    tree.group("/app", usage=500 * MIB)
    return tree


def live(tree: Tree, *processes: tuple[int, int, str], group: str = "/app") -> None:
    """Processes in a group: id, parent, command; each with 50 MiB resident."""
    for pid, parent, command in processes:
        tree.write(f"proc/{pid}/stat", f"{pid} ({command} (x) y) S {parent} 1 1 0 -1\n")
        tree.write(f"proc/{pid}/cmdline", f"{command}\0--port\0")
        tree.write(f"proc/{pid}/comm", f"{command}\n")
        tree.write(f"proc/{pid}/statm", f"76500 {50 * MIB // PAGE} 426 5 0 123 0\n")
    pids = "".join(f"{pid}\n" for pid, _, _ in processes)
    tree.write(tree.point / group.strip("/") / "cgroup.procs", pids)


def strangers(tree: Tree, *, is_worker: bool = False) -> tuple[str, ...]:
    crowd = find_crowd(tree.root, tree.point / "app", PAGE, own_pid=OWN, is_worker=lambda: is_worker)
    assert crowd is not None
    return crowd.strangers


def test_a_service_with_its_init_and_its_children_has_no_strangers(tree: Tree) -> None:
    live(
        tree, (INIT, 0, "tini"), (SHELL, INIT, "sh"), (OWN, SHELL, "python"), (CHILD, OWN, "convert"), (0, 0, "hidden")
    )
    assert strangers(tree) == ()


def test_workers_and_their_parent_are_one_family(tree: Tree) -> None:
    live(tree, (SERVER, 7, "uvicorn"), (OWN, SERVER, "spawn"), (31, SERVER, "spawn"), (32, 31, "convert"))
    assert strangers(tree, is_worker=True) == ()
    live(tree, (SERVER, 7, "gunicorn"), (OWN, SERVER, "gunicorn"), (31, SERVER, "gunicorn"), (32, 31, "convert"))
    assert strangers(tree) == ()


def test_servers_that_one_parent_started_with_one_command_are_one_family(tree: Tree) -> None:
    live(tree, (SHELL, 7, "sh"), (OWN, SHELL, "python"), (31, SHELL, "python"), (OTHER, SHELL, "redis"))
    assert strangers(tree) == ("redis (90)",)


def test_other_programs_are_strangers_also_in_a_group_below(tree: Tree) -> None:
    live(tree, (SHELL, 7, "sh"), (OWN, SHELL, "python"), (OTHER, SHELL, "redis"))
    live(tree, (91, 1, "postgres"), group="/app/db")
    assert strangers(tree) == ("redis (90)", "postgres (91)")


def test_a_group_that_cannot_be_looked_at_is_no_crowd(tree: Tree) -> None:
    assert find_crowd(tree.root, tree.point / "app", PAGE, own_pid=OWN) is None
    live(tree, (OTHER, 1, "redis"))
    assert find_crowd(tree.root, tree.point / "app", PAGE, own_pid=OWN) is None


def reader(tree: Tree, clock: FakeClock, budget: int | None) -> MemoryReader:
    def crowd(root: Path, directory: Path, page_size: int) -> object:
        return find_crowd(root, directory, page_size, own_pid=OWN, is_worker=lambda: False)

    return MemoryReader(
        budget=budget,
        root=tree.root,
        clock=clock,
        page_size=PAGE,
        children=lambda: 7 * MIB,
        crowd=crowd,  # type: ignore[arg-type]
    )


def test_the_memory_of_another_program_does_not_count_against_the_budget(tree: Tree) -> None:
    live(tree, (SHELL, 7, "sh"), (OWN, SHELL, "python"), (OTHER, SHELL, "redis"))
    found = reader(tree, FakeClock(7.0), 400 * MIB)
    reading = found.read()
    assert (reading.source, reading.limit, reading.unreclaimable) == ("process", 400 * MIB, 57 * MIB)
    assert found.basis.startswith("this process and those below it, not the control group ")
    assert "redis (90) in it hold about 450.0 MiB" in found.basis
    found.close()
    found = reader(tree, FakeClock(7.0), None)
    assert found.read().source == f"cgroup{tree.version}", "without a budget the machine is what bounds the group"
    found.close()


def test_the_limit_of_a_shared_group_counts_beside_the_budget(tree: Tree) -> None:
    live(tree, (SHELL, 7, "sh"), (OWN, SHELL, "python"), (OTHER, SHELL, "redis"))
    tree.group("/app", usage=500 * MIB, limit=600 * MIB)
    found = reader(tree, FakeClock(7.0), 400 * MIB)
    reading = found.read()
    assert (reading.source[:6], reading.limit, reading.unreclaimable) == ("cgroup", 600 * MIB, 500 * MIB)
    assert "the group's own limit, 600.0 MiB, counts beside" in found.basis
    found.close()


@pytest.mark.parametrize("unlimited", [2**63 - 4096, None])
def test_a_limit_that_no_machine_reaches_is_not_named(tree: Tree, unlimited: int | None) -> None:
    """Version 1 writes the largest number that its pages fit into where there is no limit."""
    live(tree, (SHELL, 7, "sh"), (OWN, SHELL, "python"), (OTHER, SHELL, "redis"))
    tree.group("/app", usage=500 * MIB, limit=unlimited)
    found = reader(tree, FakeClock(7.0), 400 * MIB)
    found.read()
    assert "redis (90) in it hold about 450.0 MiB" in found.basis
    assert "own limit" not in found.basis
    found.close()


def test_a_program_that_holds_little_changes_nothing_until_it_holds_much(tree: Tree) -> None:
    clock = FakeClock(7.0)
    live(tree, (SHELL, 7, "sh"), (OWN, SHELL, "python"), (OTHER, SHELL, "backup"))
    tree.group("/app", usage=80 * MIB)
    found = reader(tree, clock, 400 * MIB)
    assert found.read().source[:6] == "cgroup"
    tree.group("/app", usage=390 * MIB)
    clock.advance(STRANGERS_SECONDS)
    assert found.read().source == "process"
    found.close()


def test_a_service_that_outgrows_its_budget_by_itself_is_no_stranger(tree: Tree) -> None:
    clock = FakeClock(7.0)
    live(tree, (SHELL, 7, "sh"), (OWN, SHELL, "python"))
    tree.group("/app", usage=3000 * MIB)
    found = reader(tree, clock, 400 * MIB)
    assert (found.read().source[:6], found.read().limit) == ("cgroup", 400 * MIB)
    found.close()


def test_the_first_line_of_the_log_says_what_is_counted_and_why(tree: Tree, caplog: pytest.LogCaptureFixture) -> None:
    live(tree, (SHELL, 7, "sh"), (OWN, SHELL, "python"), (OTHER, SHELL, "redis"))
    clock = FakeClock(1000.0)
    with caplog.at_level(logging.INFO, "hotpath"):
        guard = FakeGuard(reader(tree, clock, 400 * MIB), clock, leave=False)
        for _ in range(3):
            guard.sample()
            clock.advance(1)
        guard.close()
    first = caplog.records[0]
    assert first.levelno == logging.WARNING
    assert "redis (90) in it hold" in first.getMessage()
    assert caplog.text.count("redis") == 1


def test_what_the_group_of_one_service_is_counted_by_is_information(
    tree: Tree, caplog: pytest.LogCaptureFixture
) -> None:
    live(tree, (SHELL, 7, "sh"), (OWN, SHELL, "python"))
    clock = FakeClock(1000.0)
    with caplog.at_level(logging.INFO, "hotpath"):
        guard = FakeGuard(reader(tree, clock, None), clock, leave=False)
        guard.sample()
        guard.close()
    assert caplog.records[0].levelno == logging.INFO
    assert f"it counts the control group {tree.point / 'app'}" in caplog.records[0].getMessage()
