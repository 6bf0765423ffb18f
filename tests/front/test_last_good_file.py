"""The file of last good answers, through fronts that are killed, full disks, and whatever else lies at its path."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.front.failing_origin import Origin, Request, Script, answer
from tests.front.forwarding import wait_until
from tests.front.last_good import front, origin
from tests.front.last_good_scenarios import ask
from tests.front.serving import Serving, make_site

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("HOTPATH_TEST_KILLS", "5"))
MIB = 1 << 20
# What a busy machine adds to a time.
SLACK_SECONDS = 1.0
RETRY_SECONDS = 5.0
# SQLite's log beside a file of 2 MiB, at most.
LOG_BYTES = 2 * MIB
DAY_OLD = {"Cache-Control": "max-age=0"}


def page(target: str, version: int) -> bytes:
    """A page of some kilobytes that says which it is, and ends with a digest of itself."""
    size = random.Random(f"{target} {version}").randrange(100, 60_000)
    body = f"{target} {version} ".encode().ljust(size, b"x")
    return body + hashlib.sha256(body).hexdigest().encode()


def is_whole(target: str, body: bytes) -> bool:
    return body.startswith(target.encode() + b" ") and hashlib.sha256(body[:-64]).hexdigest().encode() == body[-64:]


class Site:
    """A store, a directory for the file, and an app whose pages change with every request."""

    def __init__(self, directory: Path, app: Origin, state: Path) -> None:
        self.directory, self.app, self.state = directory, app, state
        self.version = 0
        app.reply = self._reply

    def _reply(self, request: Request) -> Script:
        self.version += 1
        return answer(page(request.target, self.version), DAY_OLD)

    @contextlib.contextmanager
    def front(self, *options: str, **more: Any) -> Iterator[Serving]:
        with front(
            self.directory, self.app, *options, "--hold", "0.1s", environ={"HOTPATH_STATE": str(self.state)}, **more
        ) as started:
            yield started

    @property
    def file(self) -> Path:
        (file,) = self.state.glob("*.last-good.sqlite")
        return file

    def bytes_on_disk(self) -> int:
        return sum(path.stat().st_size for path in self.state.iterdir())


def get(front: Serving, target: str) -> tuple[int, bytes]:
    reply = ask(front.port, "GET", target, {})
    return (reply.status, reply.body) if reply.is_whole else (0, b"")


def is_kept(front: Serving, target: str) -> bool:
    """Whether there is a good answer. The app has to be dead."""
    status, body = get(front, target)
    assert status != 200 or is_whole(target, body)
    return status == 200


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_site(Path(tmp_path_factory.mktemp("file")) / "site")


@pytest.fixture
def site(directory: Path, tmp_path: Path) -> Iterator[Site]:
    state = tmp_path / "state"
    state.mkdir()
    with origin() as app:
        yield Site(directory, app, state)


def test_answers_outlive_a_restart(site: Site) -> None:
    with site.front() as first:
        came = {target: get(first, target) for target in ("/a", "/b?c", "/robots.txt")}
        first.stop()
    site.app.refuse()
    with site.front() as second:
        assert {target: get(second, target) for target in came} == came


def test_a_front_that_is_killed_while_it_writes_leaves_whole_answers(site: Site) -> None:
    targets = [f"/{number}" for number in range(150)]
    kept: list[int] = []
    for kill in range(KILLS):
        with site.front() as started:
            if kill:
                site.app.refuse()
                kept.append(sum(is_kept(started, target) for target in targets[kill::5]))
                site.app.listen()
            with _load(started, targets):
                time.sleep(random.Random(kill).uniform(0.05, 0.8))
                started.process.kill()
                started.process.wait()
            assert "does not work" not in started.text
            assert "broken" not in started.text
    assert max(kept) > 0
    with contextlib.closing(sqlite3.connect(site.file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@contextlib.contextmanager
def _load(started: Serving, targets: list[str], clients: int = 4) -> Iterator[None]:
    end = threading.Event()

    def run(number: int) -> None:
        rng = random.Random(number)
        while not end.is_set():
            ask(started.port, "GET", rng.choice(targets), {})

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        end.set()
        for thread in threads:
            thread.join(20)


def test_two_fronts_share_a_file_and_one_of_them_is_killed(site: Site) -> None:
    mine, others = [f"/mine/{number}" for number in range(40)], [f"/other/{number}" for number in range(40)]
    with site.front() as first, site.front() as second:
        with _load(first, mine), _load(second, others):
            time.sleep(1.5)
            second.process.send_signal(signal.SIGKILL)
            time.sleep(0.5)
        for target in [*mine, *others]:
            assert get(first, target)[0] == 200
        newest = {target: get(first, target)[1] for target in mine}
        with site.front() as third:
            time.sleep(0.5)
            site.app.refuse()
            assert all(is_kept(first, target) for target in others)
            assert {target: get(third, target)[1] for target in mine} == newest
            for text in (first.text, second.text, third.text):
                assert "does not work" not in text


def test_what_one_front_removes_the_other_does_not_give(site: Site) -> None:
    with site.front() as first, site.front() as second:
        get(first, "/page")
        wait_until(lambda: site.bytes_on_disk() > 0)
        site.app.scripts["/page"] = answer(b"now it is private", {"Cache-Control": "private"})
        assert get(second, "/page") == (200, b"now it is private")
        time.sleep(0.5)
        site.app.refuse()
        assert not is_kept(first, "/page")
        assert not is_kept(second, "/page")


def test_the_file_stays_within_its_bytes_and_what_is_used_stays(site: Site) -> None:
    targets = [f"/many/{number}" for number in range(400)]  # 12 MiB
    most = 0
    with site.front("--last-good", "2MiB") as started:
        for number, target in enumerate(targets):
            get(started, target)
            if number % 10 == 0:
                get(started, "/used")  # the app's answer, kept again and again
                most = max(most, site.bytes_on_disk())
        time.sleep(0.5)
        most = max(most, site.bytes_on_disk())
        site.app.refuse()
        kept = [target for target in targets[3::4] if is_kept(started, target)]
        assert is_kept(started, "/used")
    assert most <= 2 * MIB + LOG_BYTES
    assert 3 < len(kept) < 50
    # Those that went are the oldest ones.
    assert kept[-1] == targets[-1]
    assert min(int(target.rpartition("/")[2]) for target in kept) > 200


def test_an_answer_that_is_too_large_for_the_file_goes_through(site: Site) -> None:
    site.app.scripts["/large"] = answer(b"x" * (8 * MIB), DAY_OLD)
    with site.front("--last-good", "2MiB") as started:
        assert len(get(started, "/large")[1]) == 8 * MIB
        get(started, "/small")
        site.app.refuse()
        assert not is_kept(started, "/large")
        assert is_kept(started, "/small")


def garbage(path: Path) -> None:
    path.write_bytes(random.Random(1).randbytes(200_000))


def another_version(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS later (x)")
        connection.execute("PRAGMA user_version=99")
        connection.commit()


def directory_instead(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def another_program(path: Path) -> None:
    path.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE accounts (name)")
        connection.execute("INSERT INTO accounts VALUES ('alice')")
        connection.commit()


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def warnings_of(started: Serving) -> list[str]:
    """What the log says of the file's troubles, but for the word that a new one begins."""
    lines = [line for line in started.text.splitlines() if "last-good.sqlite" in line and "  cold  " not in line]
    return [line for line in lines if "a new one begins" not in line]


@pytest.mark.parametrize("harm", [garbage, another_version, directory_instead, another_program, cut])
def test_what_lies_at_its_path_at_the_start(site: Site, harm: Callable[[Path], None]) -> None:
    with site.front() as first:
        get(first, "/a")
        first.stop()
    path = site.file
    if harm is not another_version:
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    harm(path)
    with site.front() as started:
        _goes_on(started)
        assert len(warnings_of(started)) == 1, started.text
        if harm in (garbage, cut):  # broken: a new one
            _works(started, site)
    if harm is another_program:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT name FROM accounts").fetchall() == [("alice",)]
    if harm is another_version:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA user_version").fetchone() == (99,)


def _goes_on(started: Serving, count: int = 20) -> None:
    """The living app's pages come, none of them late."""
    for number in range(count):
        began = time.monotonic()
        status, body = get(started, f"/on/{number}")
        assert (status, is_whole(f"/on/{number}", body)) == (200, True)
        assert time.monotonic() - began < SLACK_SECONDS
    time.sleep(0.3)


def _works(started: Serving, site: Site, seconds: float = RETRY_SECONDS + 4) -> None:
    """Answers are kept again after a while."""

    def works() -> bool:
        site.app.listen()
        get(started, "/again")
        time.sleep(0.2)
        site.app.refuse()
        return is_kept(started, "/again")

    wait_until(works, seconds)
    site.app.listen()


@pytest.mark.parametrize("harm", [garbage, cut, Path.unlink], ids=["garbage", "cut", "removed"])
def test_what_happens_to_it_meanwhile(site: Site, harm: Callable[[Path], None]) -> None:
    with site.front() as started:
        for number in range(20):
            get(started, f"/{number}")
        time.sleep(0.3)
        harm(site.file)
        _goes_on(started)
        site.app.refuse()
        for number in range(20):
            is_kept(started, f"/{number}")
        site.app.listen()
        if harm is not Path.unlink:
            _works(started, site)
        _goes_on(started)
        assert len(warnings_of(started)) <= 2, started.text
        assert started.process.poll() is None
    with site.front() as started:
        _works(started, site)


def test_another_program_has_locked_it(site: Site) -> None:
    with site.front() as started:
        get(started, "/before")
        time.sleep(0.3)
        with contextlib.closing(sqlite3.connect(site.file, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            _goes_on(started)
            time.sleep(3)
            _goes_on(started)
            site.app.refuse()
            assert is_kept(started, "/before")
            site.app.listen()
            other.execute("ROLLBACK")
        assert len(warnings_of(started)) == 1, started.text
        _works(started, site)


def test_a_lock_that_keeps_readers_out_too(site: Site) -> None:
    """What a backup or VACUUM of a careless administrator does."""
    with site.front() as first:
        get(first, "/before")
        first.stop()
    with contextlib.closing(sqlite3.connect(site.file, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        other.execute("CREATE TABLE x (y)")
        with site.front() as started:
            _goes_on(started)
            time.sleep(3)
            _goes_on(started)
            assert len(warnings_of(started)) == 1, started.text
            other.execute("ROLLBACK")
            other.close()
            _works(started, site)


@pytest.fixture
def disk(site: Site) -> Iterator[Path]:
    """A file system of one MiB at the place of the file."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(site.state)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small file system needs root and the right to mount: run as root, outside a container")
    yield site.state
    subprocess.run(["umount", "-l", str(site.state)], check=True)


def test_a_full_disk(site: Site, disk: Path) -> None:
    with site.front() as started:
        first = get(started, "/first")[1]
        time.sleep(0.3)
        for _ in range(4):
            _goes_on(started)
        assert len(warnings_of(started)) == 1, started.text
        site.app.refuse()
        assert get(started, "/first") == (200, first)
        for number in range(30):
            is_kept(started, f"/on/{number}")
        site.app.listen()
        assert shutil.disk_usage(disk).free < MIB


def test_a_disk_that_is_full_before_it_begins(site: Site, disk: Path) -> None:
    with contextlib.suppress(OSError):
        (disk / "filler").write_bytes(b"x" * (2 * MIB))
    with site.front() as started:
        _goes_on(started)
        assert len(warnings_of(started)) == 1, started.text
        (disk / "filler").unlink()
        _works(started, site)


def test_a_disk_that_is_read_only(site: Site, disk: Path) -> None:
    with site.front() as first:
        first_page = get(first, "/first")[1]
        first.stop()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with site.front() as started:
        _goes_on(started)
        assert len(warnings_of(started)) == 1, started.text
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        _works(started, site)
        site.app.refuse()
        assert get(started, "/first") == (200, first_page)


def test_a_place_that_cannot_be_made(site: Site) -> None:
    site.state.rmdir()
    site.state.write_text("a file")
    with site.front() as started:
        _goes_on(started)
        assert len(warnings_of(started)) == 1, started.text
