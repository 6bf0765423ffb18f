"""Row 4: no space left: the publish fails and says so, the old one serves, the next run works once space is freed."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hotpath.batch.run import build
from hotpath.errors import BuildFailed, StoreError
from hotpath.serving import reader_of
from hotpath.site import Hotpath
from hotpath.store.publish import staging
from hotpath.store.store import Store
from tests.store.crash.bench import Bench, quiet, seen
from tests.store.crash.errors import failures
from tests.store.crash.operations import FailingDisk, NumberedDisk
from tests.store.crash.scenarios import SCENARIOS, Scenario, faults, litter, served, state_of
from tests.store.crash.scenarios import publish as publish_content
from tests.store.faults.mounts import free, leave_bytes, leave_inodes, needs_root, tmpfs
from tests.store.faults.sites import POLICY, Calls, get, refusal, run, site_of, write_module

PAGES = [f"p{number}" for number in range(6)]

# More than a publish of these pages makes, and few enough to use them up in no time.
INODES = 120


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB on which not many files can be made."""
    with tmpfs(tmp_path / "disk", f"size=8m,nr_inodes={INODES}") as disk:
        yield disk


def publish(store: Store, number: int, when_open: Callable[[], None] = lambda: None) -> None:
    """All pages with this number in them, two blocks each; ``when_open`` is called when the stage is open."""
    with staging(store) as stage:
        when_open()
        for name in PAGES:
            body = b'{"n":%d,"fill":"%s"}' % (number, os.urandom(3000).hex().encode())
            stage.add(f"/{name}", f"sub/{name}.json", body, POLICY)
        stage.publish()


def number_served(store: Store) -> int:
    """The number in all pages that a process which starts now answers."""
    hot = site_of(store)
    answers = [get(hot, f"/{name}") for name in PAGES]
    reader_of(hot).close()
    assert {answer.status for answer in answers} == {200}
    (number,) = {int(answer.body.split(b",")[0].removeprefix(b'{"n":')) for answer in answers}
    return number


def fails_cleanly(store: Store, number: int, when_open: Callable[[], None]) -> bool:
    """Publish where there may be no room; whether there was none.

    Before, ``number - 1`` is served; after, all of the new one, or the old one and nothing is left of the new.
    """
    before = store.current_path.read_bytes()
    error = refusal(lambda: publish(store, number, when_open))
    if error is None:
        assert number_served(store) == number
        return False
    assert "No space left on device; free some space on this file system" in str(error)
    assert error.path.is_relative_to(store.root)
    assert error.exit_code == 1
    assert store.current_path.read_bytes() == before
    assert number_served(store) == number - 1
    assert not list(store.root.glob(".stage-*"))
    return True


@pytest.mark.slow
@needs_root
@pytest.mark.parametrize("fill", [leave_bytes, leave_inodes])
def test_at_every_moment_at_which_a_disk_can_become_full(
    small_disk: Path, fill: Callable[[Path, int], None], record_property: Callable[[str, object], None]
) -> None:
    """With no room left, then room for one block (or file) more, and so on until the publish succeeds."""
    disk = NumberedDisk(base=small_disk / "hot", syncs=True)
    store = Store(small_disk / "hot", keep=1, disk=disk)
    publish(store, 1)
    number = 1
    failed_at: list[str] = []
    while True:
        disk.trace.clear()
        # After the stage is open: the preflight, which is tried below, would see it.
        failed = fails_cleanly(store, number + 1, lambda: fill(small_disk, len(failed_at)))
        free(small_disk)
        if not failed:
            break
        failed_at.append(next(operation.path.split("/", 1)[-1] for operation in disk.trace if operation.failed))
        publish(store, number := number + 1)
        assert number_served(store) == number
        assert litter(store) == []
        assert store.verify_generation(store.chosen_sequence()) == []
    assert len(failed_at) > 20
    assert {"files/sub/p0.json", "files/sub/p5.json.gz", "manifest.json", ".new-CURRENT"} <= {*failed_at}
    record_property("cases", len(failed_at))
    print(f"{len(failed_at)} moments, at {len(set(failed_at))} files")


@needs_root
@pytest.mark.parametrize("fill", [leave_bytes, leave_inodes])
def test_the_first_publish_on_a_full_disk(small_disk: Path, fill: Callable[[Path, int], None]) -> None:
    store = Store(small_disk / "hot")
    for left in range(3):
        fill(small_disk, left)
        with pytest.raises(StoreError, match="free some space") as caught:
            publish(store, 1)
        assert caught.value.path.is_relative_to(store.root)
        free(small_disk)
    publish(store, 1)
    assert number_served(store) == 1


LARGE = """
@hot.route("/large", media_type="application/octet-stream")
def large():
    return os.urandom(6_000_000)
"""


@pytest.mark.slow
@needs_root
@pytest.mark.parametrize(
    "free_bytes",
    [0, *(size for size in (4096, 500_000, 1_100_000, 3_000_000, 5_000_000))],
)
def test_the_command_on_a_disk_that_was_filled_before(small_disk: Path, free_bytes: int) -> None:
    """Refused by the preflight or failed half-way: exit code 1, one line that names path and fix."""
    write_module(small_disk, small_disk / "hot")
    assert run(small_disk, "build", "nightly:hot")[0] == 0
    module = (small_disk / "nightly.py").read_text()
    (small_disk / "nightly.py").write_text(module + LARGE)
    leave_bytes(small_disk, free_bytes // 4096)
    code, told = run(small_disk, "build", "nightly:hot")
    assert (code, told.count("hotpath: ")) == (1, 1), told
    assert f"{small_disk / 'hot'}" in told
    assert "free some space" in told
    assert ("bytes are free, a new generation needs" in told) == (free_bytes < 1_050_000)
    store = Store(small_disk / "hot")
    assert (store.chosen_sequence(), store.verify_generation(1)) == (1, [])
    assert litter(store) == []
    free(small_disk)
    (small_disk / "nightly.py").write_text(module)
    assert run(small_disk, "build", "nightly:hot")[0] == 0


@needs_root
def test_too_little_room_is_told_before_a_function_is_run(small_disk: Path) -> None:
    hot = Hotpath(small_disk / "hot")
    ran = Calls()

    def page() -> dict[str, int]:
        ran.add()
        return {"n": len(ran)}

    hot.route("/a")(page)
    build(hot)
    before = len(ran)
    assert before
    leave_bytes(small_disk, 120)
    with pytest.raises(StoreError, match=r"491,520 bytes are free, a new generation needs 1,0"):
        build(hot)
    assert len(ran) == before


def test_functions_that_fail_on_a_full_disk_are_failures_of_their_item(tmp_path: Path) -> None:
    hot = Hotpath(tmp_path / "hot")

    def page() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    hot.route("/a")(page)
    with pytest.raises(BuildFailed) as caught:
        build(hot)
    assert caught.value.failures[0].key == "/a"


# A disk of which every command finds no room, at each operation that takes some.


def full_at_each_operation(bench: Bench) -> Iterator[tuple[str, FailingDisk]]:
    root = bench.fresh()
    disk = NumberedDisk(base=root.parent)
    bench.scenario.command(bench.scenario.store(root, disk))
    for failure in failures(disk.trace):
        if failure.code in (errno.ENOSPC, errno.EDQUOT):
            torn = {failure.number} if failure.moment == "in the middle of" else set()
            failing = FailingDisk(base=bench.fresh().parent, errors={failure.number: failure.code}, torn=torn)
            yield f"{failure} ({disk.trace[failure.number]})", failing


def wrong(bench: Bench, scenario: Scenario, disk: FailingDisk) -> Iterator[str]:
    """What is wrong with a command for which there is no room at one operation, and with what comes after."""
    root = disk.base / "hot"
    store = scenario.store(root, disk)
    before = state_of(scenario.store(root)) if root.exists() else None
    error = refusal(lambda: scenario.command(store))
    if error is not None:
        if "space" not in str(error) or not error.path.is_relative_to(root.parent):
            yield f"it says {error}"
        if root.exists():
            after = state_of(scenario.store(root))
            changed = before is not None and any(
                name in after.difference(before) for name in ("served", "pointer", "pinned", "bad")
            )
            if changed and "nothing was changed" in str(error):
                yield f"it says that nothing was changed: {error}, {before and after.difference(before)}"
        if list(root.glob(".stage-*")):
            yield "the stage was not removed"
    yield from seen(bench, root)
    again = scenario.store(root, quiet(root.parent))
    scenario.command(again)
    difference = state_of(again).difference(bench.expected)
    if difference:
        yield f"run again with room, it ends otherwise: {difference}"
    publish_content(again, 8)
    if served(again) != 8 and bench.expected.pinned is None:
        yield "the next publish is not served"
    yield from litter(again)
    yield from faults(again)


# A few with every run of the tests.
QUICK = ("pin",)


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in SCENARIOS]
)
def test_every_command_with_no_room_at_any_operation(
    name: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    bench = Bench(SCENARIOS[name], tmp_path)
    count = 0
    found = []
    for what, disk in full_at_each_operation(bench):
        count += 1
        found += [f"{what}: {problem}" for problem in wrong(bench, bench.scenario, disk)]
    record_property("cases", count)
    print(f"{name}: {count} failures, {len(found)} wrong")
    assert not found, "\n".join(found)
