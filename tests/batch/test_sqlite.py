"""All items of a run see a database as it was when the run began, and its writers notice nothing."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import hotpath.batch.sqlite
from hotpath.batch.item import ItemBuilder
from hotpath.batch.limits import ItemLimits
from hotpath.batch.pool import Outcome, run_items
from hotpath.batch.sqlite import one_view, sqlite_snapshot
from hotpath.errors import DeclarationError, UnreadableDatabase
from hotpath.site import Hotpath
from tests.store.faults.mounts import needs_root


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "prices #1?.db"
    with closing(sqlite3.connect(path)) as db, db:
        db.executescript("CREATE TABLE left (n INTEGER); CREATE TABLE right (n INTEGER); CREATE TABLE tick (n INTEGER)")
        db.executescript("INSERT INTO left VALUES (500); INSERT INTO right VALUES (500); INSERT INTO tick VALUES (0)")
    return path


@pytest.fixture
def hot(tmp_path: Path) -> Hotpath:
    return Hotpath(tmp_path / "hot")


def run(hot: Hotpath, tmp_path: Path, **limits: Any) -> list[Outcome]:
    with one_view(tmp_path / "view"):
        return list(run_items(hot.plan(), ItemBuilder(None, None), ItemLimits(**limits)))


def answers(outcomes: list[Outcome]) -> list[Any]:
    assert [one.error for one in outcomes] == [None] * len(outcomes)
    return [json.loads(one.body or b"") for one in outcomes]


def tick(db: sqlite3.Connection) -> int:
    (n,) = db.execute("SELECT n FROM tick").fetchone()
    return int(n)


def set_tick(path: Path, n: int) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE tick SET n = ?", (n,))


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


# Moves money between two tables for ever: their sum is 1000 after every commit, and in between it is not.
WRITER = """
import random, sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
db.execute("PRAGMA journal_mode=" + sys.argv[2])
longest, last = 0.0, time.monotonic()
while True:
    amount = random.randint(-50, 50)
    db.execute("BEGIN IMMEDIATE")
    db.execute("UPDATE left SET n = n - ?", (amount,))
    db.execute("UPDATE right SET n = n + ?", (amount,))
    db.execute("UPDATE tick SET n = n + 1")
    db.execute("COMMIT")
    now = time.monotonic()
    longest, last = max(longest, now - last), now
    open(sys.argv[3], "w").write(str(longest))
"""


@pytest.fixture(params=["wal", "delete"])
def writer(request: pytest.FixtureRequest, database: Path, tmp_path: Path) -> Iterator[Path]:
    """Another process that never stops writing, and the file where it says its longest wait for a commit."""
    longest = tmp_path / "longest"
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(database), request.param, str(longest)])
    wait_for(lambda: longest.exists() and bool(longest.read_text()))
    yield longest
    process.kill()
    process.wait(10)


@pytest.mark.slow
def test_every_item_sees_one_moment_while_a_writer_goes_on(
    hot: Hotpath, database: Path, writer: Path, tmp_path: Path
) -> None:
    snapshot = sqlite_snapshot(database)

    @hot.route("/{n}", each={"n": list(range(40))})
    def page(n: int) -> list[int]:
        with snapshot.connect() as db:
            (left,) = db.execute("SELECT n FROM left").fetchone()
            # Long enough that the live file, read in two statements, would show the writer between them.
            time.sleep(0.02)
            (right,) = db.execute("SELECT n FROM right").fetchone()
            return [left + right, left, tick(db)]

    def live_tick() -> int:
        with snapshot.connect() as db:
            return tick(db)

    started = live_tick()
    seen = answers(run(hot, tmp_path, workers=2))
    ended = live_tick()
    assert len({tuple(one) for one in seen}) == 1
    assert seen[0][0] == 1000
    assert started <= seen[0][2] < ended
    wait_for(lambda: live_tick() > ended)
    assert float(writer.read_text() or 0) < 5, "no commit waited long, whatever the journal mode"


def test_outside_a_run_it_is_the_live_file(database: Path, tmp_path: Path) -> None:
    snapshot = sqlite_snapshot(database)
    for n in (1, 2):
        set_tick(database, n)
        with snapshot.connect() as db:
            assert tick(db) == n
    with one_view(tmp_path / "view"):
        set_tick(database, 3)
        with snapshot.connect() as db:
            assert tick(db) == 2
    with snapshot.connect() as db:
        assert tick(db) == 3


def test_what_is_only_in_the_log_of_a_writer_is_seen(database: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(database)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA wal_autocheckpoint=0")
        with db:
            db.execute("UPDATE tick SET n = 7")
        with one_view(tmp_path / "view"), sqlite_snapshot(database).connect() as view:
            assert tick(view) == 7


@pytest.mark.parametrize("inside", [True, False])
def test_nothing_can_be_written(database: Path, tmp_path: Path, inside: bool) -> None:
    snapshot = sqlite_snapshot(database)

    def refuse() -> None:
        with snapshot.connect() as db, pytest.raises(sqlite3.OperationalError, match="readonly"):
            db.execute("UPDATE tick SET n = 9")
        with snapshot.connect() as db, pytest.raises(sqlite3.OperationalError, match="readonly"):
            db.execute("CREATE TEMP TABLE left_for_the_next_item (n)")
        with closing(snapshot.open()) as db, pytest.raises(sqlite3.OperationalError, match="readonly"):
            db.execute("DROP TABLE tick")

    if inside:
        with one_view(tmp_path / "view"):
            refuse()
    else:
        refuse()


def test_a_connection_is_kept_for_the_next_item_and_what_was_set_on_it_is_not(
    hot: Hotpath, database: Path, tmp_path: Path
) -> None:
    snapshot = sqlite_snapshot(database)

    def each() -> list[dict[str, object]]:
        with snapshot.connect() as db:  # in the batch itself, before any worker is forked
            return [{"n": tick(db) + n} for n in range(3)]

    @hot.route("/{n}", each=each)
    def page(n: int) -> list[Any]:
        with snapshot.connect() as db:
            row = db.execute("SELECT n FROM tick").fetchone()
            db.row_factory = sqlite3.Row
            db.execute("BEGIN")
            return [os.getpid(), id(db), type(row).__name__, db.in_transaction]

    seen = answers(run(hot, tmp_path))
    assert len({tuple(one) for one in seen}) == 1, "one process, one connection"
    assert seen[0][2] == "tuple"
    with one_view(tmp_path / "view"):
        with snapshot.connect() as first, snapshot.connect() as second:
            assert first is not second
        with pytest.raises(sqlite3.OperationalError), snapshot.connect() as third:
            third.execute("SELECT * FROM nowhere")
        assert third in (first, second)
        with pytest.raises(sqlite3.ProgrammingError):
            third.execute("SELECT 1")
    for one in (first, second):
        with pytest.raises(sqlite3.ProgrammingError):
            one.execute("SELECT 1")


def test_a_forked_process_leaves_the_connections_of_its_parent_alone(database: Path, tmp_path: Path) -> None:
    snapshot = sqlite_snapshot(database)
    with one_view(tmp_path / "view"):
        with snapshot.connect() as kept:
            pass
        hot = Hotpath(tmp_path / "hot")

        @hot.route("/a")
        def page() -> list[bool]:
            with snapshot.connect() as db:
                return [db is kept]

        assert answers(list(run_items(hot.plan(), ItemBuilder(None, None), ItemLimits()))) == [[False]]
        with snapshot.connect() as db:
            assert db is kept


def test_one_that_is_declared_late_is_still_one_view(hot: Hotpath, database: Path, tmp_path: Path) -> None:
    @hot.route("/{n}", each={"n": list(range(8))})
    def page(n: int) -> int:
        with closing(sqlite3.connect(database, timeout=20)) as db, db:
            db.execute("UPDATE tick SET n = n + 1")
        with sqlite_snapshot(database).connect() as db:
            return tick(db)

    seen = answers(run(hot, tmp_path, workers=2))
    assert len(set(seen)) == 1
    assert seen[0] in (1, 2), "as it was at the first item, of two that ran at once"


def test_workers_that_ask_for_it_at_once_share_one_copy(hot: Hotpath, database: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(database)) as db, db:  # large, so that it is being copied when the other one asks
        db.execute("CREATE TABLE filler AS SELECT zeroblob(50000000) AS b")

    @hot.route("/{n}", each={"n": [0, 1]})
    def page(n: int) -> list[int]:
        (tmp_path / str(n)).touch()
        wait_for((tmp_path / str(1 - n)).exists)
        with sqlite_snapshot(database).connect() as db:
            ((_, _, file),) = db.execute("PRAGMA database_list")
            (length,) = db.execute("SELECT length(b) FROM filler").fetchone()
            return [Path(file).stat().st_ino, length]

    first, second = answers(run(hot, tmp_path, workers=2))
    assert first == second
    assert first[1] == 50_000_000


def test_two_names_of_a_file_are_one_view(database: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(database)
    late = []
    with one_view(tmp_path / "view"):
        for path in (database, link):
            late.append(sqlite_snapshot(path))
            with late[-1].connect() as db:
                assert tick(db) == 0
            set_tick(database, 1)


def test_the_copy_is_nobody_elses_and_goes_with_the_run(database: Path, tmp_path: Path) -> None:
    snapshot = sqlite_snapshot(database)
    before = os.umask(0)
    try:
        with one_view(tmp_path / "view"):
            assert stat.S_IMODE((tmp_path / "view").stat().st_mode) == 0o700
            copies = [*(tmp_path / "view").glob("*.db")]  # also of snapshots that tests before have left
            assert {stat.S_IMODE(copy.stat().st_mode) for copy in copies} == {0o600}
    finally:
        os.umask(before)
    assert not (tmp_path / "view").exists()
    with pytest.raises(ZeroDivisionError), one_view(tmp_path / "view"):
        raise ZeroDivisionError
    assert not (tmp_path / "view").exists()
    with snapshot.connect() as db:
        assert tick(db) == 0


def said_of(path: Path, tmp_path: Path) -> str:
    snapshot = sqlite_snapshot(path)
    with one_view(tmp_path / "view"), pytest.raises(UnreadableDatabase) as caught, snapshot.connect():
        pass
    assert caught.value.path == path
    return caught.value.problem


def test_only_the_items_of_a_database_that_is_gone_fail(hot: Hotpath, database: Path, tmp_path: Path) -> None:
    good, gone = sqlite_snapshot(database), sqlite_snapshot(tmp_path / "gone.db")

    @hot.route("/{name}", each={"name": ["good", "gone", "again"]})
    def page(name: str) -> int:
        with (good if name == "good" else gone).connect() as db:
            return tick(db)

    first, *others = run(hot, tmp_path)
    assert first.error is None
    for one in others:
        assert one.error is not None
        assert "gone.db: there is no such file" in one.error.problem


def test_what_is_no_database_is_told(tmp_path: Path) -> None:
    junk = tmp_path / "junk.db"
    junk.write_bytes(b"x" * 5000)
    assert said_of(junk, tmp_path) == "file is not a database"


def test_one_that_is_kept_locked_is_told_once_and_then_at_once(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hotpath.batch.sqlite, "LOCK_SECONDS", 0.3)
    snapshot = sqlite_snapshot(database)
    with closing(sqlite3.connect(database, isolation_level=None)) as db:
        db.execute("BEGIN EXCLUSIVE")
        with one_view(tmp_path / "view"):
            started = time.monotonic()
            for _ in range(20):
                with (
                    pytest.raises(UnreadableDatabase, match=r"locked for 0\.3 s; put it into WAL mode"),
                    snapshot.open(),
                ):
                    pass
            assert time.monotonic() - started < 3, "20 times 0.3 s are 6"


def test_one_whose_writer_was_killed_is_told_and_left_as_it_is(database: Path, tmp_path: Path) -> None:
    code = (
        "import sqlite3, sys, os\n"
        "db = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "db.execute('PRAGMA cache_size=1')\n"
        "db.execute('BEGIN')\n"
        "db.execute('CREATE TABLE large (b)')\n"
        "db.execute('INSERT INTO large VALUES (zeroblob(1000000))')\n"
        f"os.kill(os.getpid(), {int(signal.SIGKILL)})\n"
    )
    subprocess.run([sys.executable, "-c", code, str(database)], check=False, timeout=60)
    journal = Path(f"{database}-journal")
    assert journal.exists()
    assert said_of(database, tmp_path).startswith("its last writer was killed in the middle of a change")
    assert journal.exists()


def test_a_copy_that_has_no_room_is_not_begun(database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hotpath.batch.sqlite, "RESERVE_BYTES", 1 << 60)
    problem = said_of(database, tmp_path)
    assert "a copy of 16.0 KiB has no room in " in problem
    assert "of them are kept free for others" in problem


@pytest.mark.parametrize("path", ["", ":memory:", "file:a.db?mode=ro", b"a.db"])
def test_what_is_no_path_is_refused(path: Any) -> None:
    with pytest.raises(DeclarationError, match="write the path of a database file"):
        sqlite_snapshot(path)


def test_a_later_chdir_does_not_move_it(database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    snapshot = sqlite_snapshot(database.name)
    monkeypatch.chdir("/")
    with snapshot.connect() as db:
        assert tick(db) == 0
    monkeypatch.chdir(tmp_path)
    with one_view(Path("view")):
        monkeypatch.chdir("/")
        with snapshot.connect() as db:
            assert tick(db) == 0
    assert not (tmp_path / "view").exists()


STRANGER = """
import json, os, sys
from pathlib import Path
from hotpath.batch.sqlite import one_view, sqlite_snapshot

own, path = Path(sys.argv[1]), sys.argv[2]
os.chown(own, 65534, 65534)
os.setgid(65534)
os.setuid(65534)
snapshot = sqlite_snapshot(path)

def read(wait):
    try:
        with snapshot.connect() as db:
            if wait:
                print("open", flush=True)
                sys.stdin.readline()
            return str(db.execute("SELECT n FROM tick").fetchone()[0])
    except Exception as error:
        return f"{type(error).__name__}: {error}"

with one_view(own / "view"):
    inside = read(False)
print(json.dumps({"run": inside, "live": read(True)}))
"""


def read_as_stranger(database: Path, meanwhile: Callable[[], object] = lambda: None) -> dict[str, str]:
    """What user 65534 reads in a run, and outside of one with ``meanwhile`` done between opening and reading."""
    own = Path(tempfile.mkdtemp(prefix="hotpath-own-"))
    command = [sys.executable, "-c", STRANGER, str(own), str(database)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if line == "open\n":
                meanwhile()
                process.stdin.write("\n")
                process.stdin.flush()
                line = process.stdout.readline()
            seen: dict[str, str] = json.loads(line)
        finally:
            process.kill()
            shutil.rmtree(own)
    return seen


@pytest.fixture
def foreign() -> Iterator[Path]:
    """A database in WAL mode, closed by its writer, in a directory that others may read and not write."""
    directory = Path(tempfile.mkdtemp(prefix="hotpath-"))
    directory.chmod(0o755)
    path = directory / "prices.db"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA journal_mode=WAL")
        db.executescript("CREATE TABLE tick (n INTEGER); INSERT INTO tick VALUES (5)")
    yield path
    shutil.rmtree(directory)


@needs_root
@pytest.mark.parametrize("log", ["none", "empty"])
def test_a_database_at_rest_of_another_user_is_read(foreign: Path, log: str) -> None:
    assert [path.name for path in foreign.parent.iterdir()] == ["prices.db"]
    if log == "empty":
        Path(f"{foreign}-wal").touch()
    before = foreign.read_bytes()
    assert read_as_stranger(foreign) == {"run": "5", "live": "5"}
    assert foreign.read_bytes() == before


@needs_root
def test_a_link_to_a_database_at_rest_of_another_user_is_read(foreign: Path) -> None:
    (foreign.parent / "link.db").symlink_to(foreign)
    assert read_as_stranger(foreign.parent / "link.db") == {"run": "5", "live": "5"}


@needs_root
def test_a_database_in_use_by_another_user_is_read_with_its_last_changes(foreign: Path) -> None:
    with closing(sqlite3.connect(foreign)) as db:
        with db:
            db.execute("UPDATE tick SET n = 6")
        assert Path(f"{foreign}-wal").stat().st_size
        assert read_as_stranger(foreign) == {"run": "6", "live": "6"}


@needs_root
def test_the_message_says_what_to_do_where_changes_are_in_a_log_that_nobody_has_open(foreign: Path) -> None:
    log = Path(f"{foreign}-wal")
    with closing(sqlite3.connect(foreign)) as db:
        with db:
            db.execute("UPDATE tick SET n = 6")
        changes = log.read_bytes()
    with closing(sqlite3.connect(foreign)) as db, db:
        db.execute("UPDATE tick SET n = 5")
    log.write_bytes(changes)
    for answer in read_as_stranger(foreign).values():
        assert answer.startswith(f"UnreadableDatabase: {foreign}: its last changes are in {log}"), answer
        assert "let the owner of the database open and close it once, or run the batch as that user" in answer


@needs_root
def test_a_file_that_changes_while_it_is_taken_for_immutable_is_not_believed(foreign: Path) -> None:
    seen = read_as_stranger(foreign, lambda: set_tick(foreign, 6))
    assert seen["run"] == "5"
    assert seen["live"].startswith(f"UnreadableDatabase: {foreign}: it was changed while it was read")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS])
def test_a_view_is_made_where_the_file_system_has_no_locks(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(descriptor: object, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with one_view(tmp_path / "view"), sqlite_snapshot(database).connect() as db:
        assert tick(db) == 0
