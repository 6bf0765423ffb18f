"""The thread that follows: one of all the processes of a store, lines for what changed, no page that waits for it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hotpath.errors import DeclarationError
from hotpath.store.follow_record import read_record
from hotpath.store.locks import give_back, take
from hotpath.store.origin.follower import Follower
from hotpath.store.origin.following import Following, Witness, hints_of
from hotpath.store.origin.origin import Origin
from hotpath.store.sharing import Sharing
from hotpath.store.store import Store
from hotpath.testing import FakeClock
from tests.store.origin.fake import FakeObjects
from tests.store.origin.machines import Machine, pages

Lines = list[tuple[str, bool]]


def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.fixture
def lines() -> Lines:
    return []


@pytest.fixture
def witness(machine: Machine, lines: Lines) -> Witness:
    return Witness(machine.follower, lambda text, is_problem: lines.append((text, is_problem)))


def look(machine: Machine, witness: Witness) -> None:
    witness.saw(machine.follower.look())


def send(builder: Machine, number: int) -> None:
    builder.publish(pages(number))
    builder.origin.send(builder.store)


def test_each_change_is_a_line_and_nothing_new_is_none(
    builder: Machine, machine: Machine, witness: Witness, lines: Lines
) -> None:
    look(machine, witness)
    send(builder, 1)
    look(machine, witness)
    look(machine, witness)
    send(builder, 2)
    look(machine, witness)
    assert [text for text, _ in lines] == [
        "generation 1 is served: 4 files (88 B) fetched, 0 were here",
        "generation 2 is served: 2 files (44 B) fetched, 2 were here",
    ]


def test_each_new_error_is_a_line_once_until_it_is_over(
    builder: Machine, machine: Machine, objects: FakeObjects, witness: Witness, lines: Lines
) -> None:
    send(builder, 1)
    look(machine, witness)
    lines.clear()
    for _ in range(2):
        objects.is_down = True
        for _ in range(4):
            look(machine, witness)
        # Two, as the fake names the first request after a success otherwise than those that follow.
        assert [(text.rpartition(": ")[2], is_problem) for text, is_problem in lines] == [
            ("no answer (generation 1 stays served)", True)
        ] * 2
        lines.clear()
        objects.heal()
        look(machine, witness)
        look(machine, witness)
        assert lines == [("the origin is followed again", False)]
        lines.clear()


def test_the_record_says_since_when_the_machine_is_behind_also_after_a_restart(
    builder: Machine, machine: Machine, objects: FakeObjects, clock: FakeClock, witness: Witness
) -> None:
    send(builder, 1)
    look(machine, witness)
    in_step = read_record(machine.store)
    assert in_step is not None
    assert (in_step.generation, in_step.origin_generation, in_step.behind_since, in_step.error) == (1, 1, None, None)
    assert in_step.name == "machine"
    objects.is_down = True
    began = clock()
    clock.advance(100)
    look(machine, witness)
    machine.restart()
    witness = Witness(machine.follower, lambda text, is_problem: None)
    clock.advance(100)
    look(machine, witness)
    record = read_record(machine.store)
    assert record is not None
    assert record.error is not None
    assert record.lag_seconds(clock()) == pytest.approx(clock() - began)
    objects.heal()
    look(machine, witness)
    again = read_record(machine.store)
    assert again is not None
    assert again.behind_since is None


def test_a_record_that_cannot_be_written_is_no_error(
    builder: Machine, machine: Machine, witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    send(builder, 1)
    look(machine, witness)
    (machine.store.root / "origin.json").unlink()
    (machine.store.root / "origin.json").mkdir()
    look(machine, witness)
    look(machine, witness)
    assert caplog.text.count("do not show what the follower saw") == 1
    assert machine.served() == 1


@pytest.fixture
def shared(tmp_path: Path) -> Sharing:
    (tmp_path / "origin").mkdir()
    return Sharing(f"file://{tmp_path}/origin")


@pytest.fixture
def start(tmp_path: Path, shared: Sharing, lines: Lines) -> Iterator[Callable[[], Following]]:
    started = []

    def start() -> Following:
        store = Store(tmp_path / "web")
        following = Following(store, shared, every=0.02, report=lambda *line: lines.append(line))
        following.start()
        started.append(following)
        return following

    yield start
    for following in started:
        assert following.stop(5.0)


def served(store: Store) -> int | None:
    try:
        return store.chosen_sequence()
    except Exception:
        return None


def publish(tmp_path: Path, shared: Sharing, number: int) -> None:
    assert shared.origin is not None
    machine = Machine(tmp_path / "builder", FakeObjects(), FakeClock())
    machine.publish(pages(number))
    Origin(shared.origin).send(machine.store)


def test_one_of_several_follows_and_another_goes_on_where_it_ends(
    tmp_path: Path, shared: Sharing, start: Callable[[], Following], lines: Lines
) -> None:
    first, second = start(), start()
    first.start()  # idempotent
    publish(tmp_path, shared, 1)
    until(lambda: served(Store(tmp_path / "web")) == 1)
    until(lambda: lines)
    assert lines == [("generation 1 is served: 4 files (88 B) fetched, 0 were here", False)]
    leaders = [thread for thread in threading.enumerate() if thread.name == "hotpath-follow"]
    assert len(leaders) == 2
    first.stop(5.0)
    publish(tmp_path, shared, 2)
    until(lambda: served(Store(tmp_path / "web")) == 2)
    assert second.stop(5.0)
    until(lambda: len(lines) == 2)


def test_a_build_that_writes_meanwhile_is_no_error(
    tmp_path: Path, shared: Sharing, start: Callable[[], Following], lines: Lines
) -> None:
    store = Store(tmp_path / "web")
    publish(tmp_path, shared, 1)
    with store.locked():
        start()
        until(lambda: (record := read_record(store)) is not None and record.origin_generation == 1)
        assert lines == []
    until(lambda: served(store) == 1)


def test_a_store_that_cannot_be_written_is_one_line(
    tmp_path: Path, start: Callable[[], Following], lines: Lines
) -> None:
    (tmp_path / "web").write_bytes(b"a file")
    start()
    until(lambda: lines)
    time.sleep(0.1)
    assert len(lines) == 1
    assert lines[0][1]
    assert lines[0][0].startswith("the origin is not followed: ")


def test_a_child_of_a_fork_follows_when_it_is_started_and_keeps_no_lock(
    tmp_path: Path, shared: Sharing, start: Callable[[], Following]
) -> None:
    following = start()
    store = Store(tmp_path / "web")
    until(lambda: read_record(store) is not None)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:  # as a server forks: without a word to hotpath
        try:
            publish(tmp_path, shared, 1)
            os.read(reading, 1)  # the parent follows no more
            following.start()
            until(lambda: served(store) == 1)
            os._exit(0)
        finally:
            os._exit(1)
    until(lambda: served(store) == 1)
    assert following.stop(5.0)
    # With the child alive that did not start: the lock is free.
    give_back(store.disk, take(store.disk, store.root / "follow.lock", store.root))
    publish(tmp_path, shared, 2)
    os.write(writing, b"x")
    assert os.waitpid(child, 0)[1] == 0


def test_without_an_origin_or_with_a_wrong_one_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match="there is no origin to follow"):
        Following(Store(tmp_path), Sharing(hints="redis://host/0"))
    with pytest.raises(DeclarationError):
        Following(Store(tmp_path), Sharing("s3://"))


def test_sites_that_share_a_server_of_hints_do_not_hear_each_other() -> None:
    pytest.importorskip("redis", reason="pip install 'asgi-hotpath[redis]'")
    made = [hints_of(Sharing(f"s3://bucket/{site}", "redis://:hush@host/0")) for site in ("a", "b", "a/")]
    channels = [hints.channel for hints in made if hints is not None]
    assert channels == ["hotpath:s3://bucket/a:generations", "hotpath:s3://bucket/b:generations", channels[0]]
    assert hints_of(Sharing("s3://bucket/a")) is None


def test_a_follower_that_makes_no_reports_leaves_no_object(
    builder: Machine, tmp_path: Path, objects: FakeObjects
) -> None:
    send(builder, 1)
    follower = Follower(Store(tmp_path / "quiet", clock=builder.clock), builder.origin, reports=False)
    assert follower.look().generation == 1
    assert not [key for key in objects.objects if key.startswith("machines/")]
