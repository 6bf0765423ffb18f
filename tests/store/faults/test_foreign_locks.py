"""Locks that strangers hold, and no locks at all: readers and commands go on, and nothing that is read is deleted."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hotpath.errors import StoreBusy, StoreError, UnsafePath
from hotpath.ops.alerts import sent
from hotpath.ops.recovery.incident import RecoveryOptions
from hotpath.ops.recovery.journal import Journal
from hotpath.ops.recovery.recover import recover
from hotpath.ops.status import status
from hotpath.serving import reader_of
from hotpath.store.disk import Disk
from hotpath.store.prune import MAX_HELD, Pruned, prune
from hotpath.store.repair import repair
from hotpath.store.store import Store
from hotpath.store.verify import verify
from tests.store.faults.mounts import needs_root
from tests.store.faults.sites import get, publish, site_of

STRANGER = """
import fcntl, os, sys
os.setgid(65534)
os.setuid(65534)
refused = []
files = []
for path in sys.argv[2:]:
    try:
        files.append(open(path))
        fcntl.flock(files[-1], getattr(fcntl, sys.argv[1]) | fcntl.LOCK_NB)
    except OSError as error:
        refused.append(path)
print(*refused, flush=True)
sys.stdin.readline()
"""


@contextmanager
def stranger(kind: str, *paths: Path) -> Iterator[list[Path]]:
    """Another user of the machine locks what he can of these; those that he could not are given."""
    command = [sys.executable, "-c", STRANGER, kind, *map(str, paths)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield [Path(path) for path in process.stdout.readline().split()]
    finally:
        process.kill()
        process.communicate(timeout=10)


@pytest.fixture
def store() -> Iterator[Store]:
    """Three generations in a store that every user can look into, unlike those in a directory of pytest."""
    directory = Path(tempfile.mkdtemp(prefix="hotpath-"))
    directory.chmod(0o755)
    store = Store(directory / "hot", keep=3)
    for number in range(1, 4):
        publish(store, n=b"[%d]" % number)
    yield store
    shutil.rmtree(directory)


def recover_nothing(store: Store) -> None:
    hot = site_of(store)
    recover(hot, RecoveryOptions())
    reader_of(hot).close()


def everything(store: Store) -> list[Path]:
    return sorted(path for path in store.root.rglob("*") if path.is_file() and not path.is_symlink())


@needs_root
@pytest.mark.parametrize("kind", ["LOCK_EX", "LOCK_SH"])
def test_a_stranger_who_locks_all_he_can_read_stops_nothing(store: Store, kind: str) -> None:
    recover_nothing(store)  # so that the files of a recovery are there
    with stranger(kind, *everything(store)) as refused:
        assert store.manifest_path(3) not in refused, "he has locked what he may read"
        hot = site_of(store)
        assert get(hot, "/n").body == b"[3]"
        assert (status(store).serving, status(store).degraded) == (3, None)
        found = verify(store)
        assert (found.is_sound, found.generations) == (True, 3)
        assert publish(store, n=b"[4]").warnings == ()
        reader_of(hot).refresh()
        assert get(hot, "/n").body == b"[4]"
        store.rollback()
        store.unpin()
        assert repair(store).is_sound
        with Journal(store).held():
            pass
        reader_of(hot).close()


@needs_root
@pytest.mark.parametrize("kind", ["LOCK_EX", "LOCK_SH"])
def test_prune_keeps_what_a_stranger_has_locked_and_removes_it_later(store: Store, kind: str) -> None:
    with stranger(kind, store.manifest_path(1)) as refused:
        assert refused == []
        assert prune(store, 1) == Pruned((2,), (1,))
    assert prune(store, 1) == Pruned((1,), ())


@needs_root
def test_a_publish_says_where_more_and_more_is_locked(store: Store) -> None:
    store.keep = 1
    with stranger("LOCK_SH", *(store.manifest_path(number) for number in (1, 2, 3))):
        assert MAX_HELD == 3
        assert publish(store, n=b"[4]").warnings == ()
        with stranger("LOCK_SH", store.manifest_path(4)):
            (warning,) = publish(store, n=b"[5]").warnings
            assert "the generations 1, 2, 3, 4 stay, since their manifests are locked" in warning
            assert "lslocks" in warning
    assert publish(store, n=b"[6]").warnings == ()
    assert store.sequences() == [6]


@needs_root
def test_what_is_for_one_process_at_a_time_cannot_be_locked_by_strangers(store: Store) -> None:
    recover_nothing(store)
    with sent.held(store):
        sent.append(store, [("failed", "build.failed", "", "mail")], 0)
    private = ["alerts.jsonl", "alerts.lock", "history.jsonl", "lock", "recover.jsonl", "recover.lock"]
    paths = [store.root / name for name in private]
    with stranger("LOCK_EX", *paths) as refused:
        assert refused == paths
    # Their group, which may be the web server's, reads what it cannot lock to any effect.
    assert [path.stat().st_mode & 0o777 for path in paths] == [0o640, 0o600, 0o640, 0o600, 0o640, 0o600]
    with sent.alerts_path(store).open() as alerts, Journal(store).path.open() as journal:
        for file in (alerts, journal):
            fcntl.flock(file, fcntl.LOCK_EX)
        began = time.monotonic()
        with Journal(store).held(), sent.held(store):
            pass
        assert time.monotonic() - began < sent.WAIT_SECONDS / 2


@pytest.mark.parametrize("name", ["recover.lock", "alerts.lock"])
def test_a_link_planted_at_a_lock_is_not_followed(store: Store, name: str) -> None:
    victim = store.root.parent / "victim"
    victim.write_text("precious")
    (store.root / name).symlink_to(victim)
    with sent.held(store):
        pass  # an alert beats a lock
    if name == "recover.lock":
        with pytest.raises(UnsafePath, match="the lock is a symbolic link"), Journal(store).held():
            pass
    assert (victim.read_text(), victim.stat().st_mode & 0o777) == ("precious", 0o644)


def test_a_reader_gets_its_lock_when_a_stranger_lets_go(store: Store) -> None:
    path = store.manifest_path(3)
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        hot = site_of(store)
        assert get(hot, "/n").body == b"[3]"
    reader_of(hot).refresh()
    store.keep = 1
    publish(store, n=b"[4]")
    assert 3 in store.sequences(), "it is read"
    reader_of(hot).refresh()
    publish(store, n=b"[5]")
    assert 3 not in store.sequences()
    reader_of(hot).close()


class Overtaken(Disk):
    """Something happens when a reader asks for its lock, which it does not get."""

    meanwhile: Callable[[], object] | None = None

    def try_lock(self, descriptor: int, *, shared: bool = False) -> bool:
        meanwhile, self.meanwhile = self.meanwhile, None
        if not (shared and meanwhile):
            return super().try_lock(descriptor, shared=shared)
        meanwhile()
        return False


@pytest.mark.parametrize("keep", [1, 9])
def test_a_reader_without_its_lock_sees_that_the_pointer_has_moved(store: Store, keep: int) -> None:
    """Whether what it opened was pruned meanwhile, or may be from now on."""
    disk = Overtaken()
    disk.meanwhile = lambda: publish(Store(store.root, keep=keep), n=b"[4]")
    choice = Store(store.root, disk=disk).choose()
    os.close(choice.descriptor)
    assert (choice.sequence, choice.is_held, choice.degraded) == (4, True, None)
    assert (3 in store.sequences()) == (keep == 9)


# Without locks.


@pytest.fixture(params=[errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def no_locks(request: pytest.FixtureRequest, store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The store lies on a file system that has none."""

    def refuse(descriptor: object, operation: int) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", refuse)
    return store


WRITERS: dict[str, Callable[[Store], object]] = {
    "publish": lambda store: publish(store, n=b"[4]"),
    "rollback": lambda store: store.rollback(),
    "pin": lambda store: store.pin(2),
    "prune": lambda store: prune(store, 1),
    "repair": repair,
    "recover": lambda store: recover(site_of(store), RecoveryOptions(rollback=True)),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_commands_and_readers_work_without_locks(no_locks: Store, writer: str) -> None:
    for _ in range(2):
        hot = site_of(no_locks)
        assert get(hot, "/n").status == 200
        assert (status(no_locks).degraded, verify(no_locks).is_sound) == (None, True)
        WRITERS[writer](no_locks)
        reader_of(hot).close()


def test_without_locks_one_writer_at_a_time_all_the_same(no_locks: Store) -> None:
    with no_locks.locked():
        with pytest.raises(StoreBusy) as caught:
            publish(Store(no_locks.root), n=b"[4]")
        assert caught.value.pid == os.getpid()
        refused: list[StoreBusy] = []

        def attempt() -> None:
            try:
                publish(Store(no_locks.root), n=b"[5]")
            except StoreBusy as error:
                refused.append(error)

        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join(10)
        assert len(refused) == 1
    publish(no_locks, n=b"[6]")
    assert get(site_of(no_locks), "/n").body == b"[6]"


def test_without_locks_a_living_holder_is_busy_and_a_dead_one_is_not(no_locks: Store) -> None:
    lock = no_locks.root / "lock"
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as holder:
        lock.write_text(f"{holder.pid}\n")
        with pytest.raises(StoreBusy) as caught:
            publish(no_locks, n=b"[4]")
        assert caught.value.pid == holder.pid
        os.utime(lock, (0, 0))  # of a process before it that had the same number
        publish(no_locks, n=b"[4]")
        lock.write_text(f"{holder.pid}\n")
        holder.kill()
        os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)  # dead, and its parent has not looked yet
        publish(no_locks, n=b"[5]")
    lock.write_text(f"{holder.pid}\n")
    publish(no_locks, n=b"[6]")


def test_without_locks_prune_leaves_what_was_served_last(no_locks: Store) -> None:
    """A reader that has not looked since may be reading it."""
    assert prune(no_locks, 1) == Pruned((1,), (2,))
    publish(no_locks, n=b"[4]")
    no_locks.keep = 1
    publish(no_locks, n=b"[5]")
    assert no_locks.sequences() == [4, 5]
    no_locks.rollback()
    assert prune(no_locks, 1) == Pruned((), (5,))


def test_another_error_of_the_lock_is_an_error(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: object, operation: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", fail)
    assert get(site_of(store), "/n").body == b"[3]", "to a reader the lock is a protection, no condition"
    with pytest.raises(StoreError, match="Input/output error"):
        publish(store, n=b"[4]")
