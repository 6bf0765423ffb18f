"""The kernel's files fail, lie or stand still: BLIND within three samples, requests bounded, descriptors stable."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hotpath.guard.alarms import Alarm
from hotpath.guard.guard import MemoryGuard
from hotpath.guard.memory import MemoryReader
from hotpath.guard.states import State, Thresholds
from hotpath.testing import FakeClock
from tests.guard.fakes import FakeGuard, state_of
from tests.guard.groups import memory_group, needs_groups
from tests.guard.load import Load, Stream
from tests.guard.rig import HOT, Watch, report, served
from tests.guard.trees import MIB, PAGE, Tree
from tests.guard.waiting import wait_until

LIMIT = 1024 * MIB


@pytest.fixture(params=[1, 2], ids=["version 1", "version 2"])
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Tree:
    tree = Tree(tmp_path, request.param)
    tree.group("/app", limit=LIMIT, usage=300 * MIB)
    tree.joined("/app")
    return tree


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(1000.0)


@pytest.fixture
def alarms() -> list[Alarm]:
    return []


@pytest.fixture
def guard(tree: Tree, clock: FakeClock, alarms: list[Alarm]) -> Iterator[MemoryGuard]:
    reader = MemoryReader(root=tree.root, clock=clock, page_size=PAGE)
    guard = FakeGuard(reader, clock, alarm=alarms.append, thresholds=Thresholds(blind_in_flight=2))
    yield guard
    guard.close()


def resident(tree: Tree, size: int) -> None:
    tree.write("proc/self/statm", f"76500 {size // PAGE} 426 5 0 123 0\n")


def missing(tree: Tree, guard: MemoryGuard) -> None:
    tree.file("/app", "stat").unlink()
    guard.reader.close()  # unlike the kernel's, an open file of a directory can be read after that


def garbage(tree: Tree, guard: MemoryGuard) -> None:
    tree.file("/app", "stat").write_bytes(b"\x00\xffinactive_file many\n")
    tree.file("/app", "usage").write_bytes(b"lots\n")


def empty(tree: Tree, guard: MemoryGuard) -> None:
    tree.file("/app", "usage").write_text("")


def absurd(tree: Tree, guard: MemoryGuard) -> None:
    tree.file("/app", "usage").write_text(f"{1 << 62}\n")


FAULTS: dict[str, Callable[[Tree, MemoryGuard], None]] = {
    "missing": missing,
    "garbage": garbage,
    "empty": empty,
    "absurd": absurd,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_blind_within_three_samples_and_back_after_three_good(
    tree: Tree, guard: MemoryGuard, clock: FakeClock, alarms: list[Alarm], fault: str
) -> None:
    assert guard.sample().state is State.NORMAL
    FAULTS[fault](tree, guard)
    for _ in range(3):
        clock.advance(1)
        guard.sample()
    assert guard.state is State.BLIND
    wait_until(lambda: [alarm.kind for alarm in alarms] == ["blind"], 30, "no alarm")
    assert guard.problem
    assert guard.problem in alarms[0].text, "the alarm says what cannot be read"
    tree.group("/app", limit=LIMIT, usage=800 * MIB)
    for _ in range(3):
        assert guard.state is State.BLIND
        clock.advance(1)
        guard.sample()
    assert state_of(guard) is State.SHED, "it sees again, and what it sees"
    assert guard.problem is None


def test_a_count_that_stands_still_while_the_process_grows(tree: Tree, guard: MemoryGuard, clock: FakeClock) -> None:
    for size in (50, 55, 57):
        resident(tree, size * MIB)
        assert guard.sample().state is State.NORMAL, "a process at rest changes nothing, and that is no fault"
        clock.advance(1)
    for size in (70, 90, 120):
        resident(tree, size * MIB)
        guard.sample()
        clock.advance(1)
    assert guard.state is State.BLIND
    assert "stands still" in (guard.problem or "")


def test_a_bounded_number_of_cold_requests_runs_while_blind(tree: Tree, guard: MemoryGuard, clock: FakeClock) -> None:
    missing(tree, guard)
    for _ in range(3):
        clock.advance(1)
        guard.sample()
    open_for_hours = [{"type": "websocket", "path": "/live", "headers": []} for _ in range(5)]
    assert [guard.admission.enter(scope) for scope in open_for_hours] == [None] * 5
    scopes = [
        {"type": "http", "method": "GET", "path": "/cold", "headers": [], "http_version": "1.1"} for _ in range(3)
    ]
    assert [guard.admission.enter(scope) is None for scope in scopes] == [True, True, False]
    guard.admission.leave(scopes[0])
    assert guard.admission.enter(scopes[2]) is None
    assert guard.admission.shed == {("P2", "blind"): 1}
    alive = {"type": "http", "method": "GET", "path": "/livez", "headers": [], "http_version": "1.1"}
    assert guard.admission.enter(alive) is None


@pytest.mark.parametrize("fault", FAULTS)
def test_descriptors_stay_as_many(tree: Tree, guard: MemoryGuard, clock: FakeClock, fault: str) -> None:
    guard.sample()
    FAULTS[fault](tree, guard)
    counts = set()
    for _ in range(50):
        clock.advance(1)
        guard.sample()
        counts.add(len(os.listdir("/proc/self/fd")))  # noqa: PTH208
    assert max(counts) - min(counts) <= 1
    tree.group("/app", limit=LIMIT, usage=100 * MIB)
    for _ in range(3):
        clock.advance(1)
        guard.sample()
    assert guard.state is State.NORMAL


@pytest.mark.slow
@needs_groups
@pytest.mark.parametrize("tree", [2], indirect=True, ids=["version 2"])
def test_a_real_server_goes_on_and_sees_again(tree: Tree, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The files of a fixture tree, changed under a server that has them open; nobody is refused for it."""

    def grow() -> None:
        for size in (70, 90, 120, 150):
            resident(tree, size * MIB)
            time.sleep(0.3)

    faults: dict[str, Callable[[], object]] = {
        "empty": lambda: tree.file("/app", "stat").write_text(""),
        "garbage": lambda: tree.file("/app", "usage").write_bytes(b"\x00\xfflots\n"),
        "absurd": lambda: tree.file("/app", "usage").write_text(f"{1 << 62}\n"),
        "frozen": grow,
    }
    directory = tmp_path_factory.mktemp("server")
    streams = [Stream("hot", HOT[0], 20), Stream("cold", "/cold", 20), Stream("alive", "/livez", 5)]
    with (
        memory_group() as group,
        served(directory, group, guard={"leave": False}, tree=str(tree.root)) as rig,
    ):
        rig.await_state("NORMAL")
        took, descriptors = [], []
        with Watch(rig) as watch, Load(rig.port, streams) as load:
            for fault in faults.values():
                fault()
                # Three intervals of a second at most; that it is no fourth, the tests above hold, whatever the machine.
                took.append(rig.await_state("BLIND"))
                assert rig.look()["problem"]
                resident(tree, 50 * MIB)
                tree.group("/app", limit=LIMIT, usage=(300 + len(took)) * MIB)
                rig.await_state("NORMAL")
                descriptors.append(rig.look()["descriptors"])
        note = f"{len(faults)} faults, BLIND after {max(took):.1f} s at most, descriptors stable"
        report("11", load, watch, rig, note=note)
        assert max(descriptors) - min(descriptors) <= 2, "the connections of the clients are among them"
        assert {code for _, code in load.answers} == {200}
        assert not load.broken
