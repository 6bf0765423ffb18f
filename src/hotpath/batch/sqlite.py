"""One consistent, read-only view of a SQLite database for all items of a run, while its writers go on.

A connection cannot be shared over fork(2), and Python's sqlite3 cannot open a second connection at the moment of a
first one, so a run reads a copy: made once with SQLite's backup API inside one read transaction, opened immutable by
every worker, removed at the end. Outside a run the same code reads the live file.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from weakref import WeakSet

from hotpath.errors import DeclarationError, UnreadableDatabase
from hotpath.options import human_bytes

# A commit that is under way is over long before; a lock that lasts longer is meant to (locking_mode=EXCLUSIVE).
LOCK_SECONDS = 30.0

# Left free on the file system of the copy, for others that write there.
RESERVE_BYTES = 16 * 1024 * 1024

# Connections kept open for the next item of one database and process. One is enough unless a function uses threads.
_KEPT = 4

_CHANGED = "it was changed while it was read; this user may not write in its directory, so SQLite could not lock it"

# Inode, times of change and size of a file.
_State = tuple[int, int, int, int]


class SqliteSnapshot:
    """Read-only connections to one database; made by ``sqlite_snapshot``."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        text = os.fspath(path)
        if not isinstance(text, str) or not text or text.startswith((":memory:", "file:")):
            raise DeclarationError(
                f"sqlite_snapshot({path!r}): write the path of a database file like 'data/prices.db'"
            )
        # Absolute from the start: a later chdir(2) must not change what is read.
        self.path = Path(text).absolute()
        _declared.add(self)

    def __repr__(self) -> str:
        return f"sqlite_snapshot({str(self.path)!r})"

    @contextmanager
    def connect(self) -> Iterator[sqlite3.Connection]:
        """A connection for one ``with`` block; what was set on it (``row_factory``) ends with the block.

        Within a run connections stay open from item to item. Raises ``UnreadableDatabase``, or what sqlite3 raises.
        """
        if not _views:
            with _open_live(self.path) as connection:
                yield connection
            return
        view = _views[-1]
        connection = view.take(self.path)
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        view.give_back(self.path, connection)

    def open(self) -> sqlite3.Connection:
        """A connection of your own, to be closed by you or by the pool of an ORM (``creator=snapshot.open``).

        Outside a run it has to be closed before the database changes where that is in WAL mode, was at rest, and lies
        in a directory in which this user may not write: SQLite takes it for immutable then. Raises
        ``UnreadableDatabase``, or what sqlite3 raises.
        """
        return _views[-1].open(self.path) if _views else _open_readable(self.path)[0]


def sqlite_snapshot(path: str | os.PathLike[str]) -> SqliteSnapshot:
    """Read the database at ``path`` as it was when the run began; outside a run, as it is.

    Made once, beside the functions that use it; ``with snapshot.connect() as db:`` gives a read-only
    ``sqlite3.Connection``. The file is looked at when it is read, not before. Raises ``DeclarationError``.
    """
    return SqliteSnapshot(path)


@contextmanager
def one_view(directory: Path) -> Iterator[None]:
    """For a run: until the block ends, this process and what it forks see every database as it is now.

    ``directory`` must not exist; the copies are made in it, readable for this user only, and removed with it. A
    database that cannot be copied raises ``UnreadableDatabase`` where it is asked for, so that only the items that
    need it fail; one that nobody has declared yet is copied when it is asked for first. Not for a process that
    serves requests: they would be served from the copy too.
    """
    directory.mkdir(mode=0o700)
    view = _View(directory.absolute())  # an item may change the working directory
    _views.append(view)
    try:
        for snapshot in sorted(_declared, key=lambda snapshot: snapshot.path):
            with contextlib.suppress(UnreadableDatabase):
                view.copy_of(snapshot.path)
        yield
    finally:
        _views.remove(view)
        view.close()
        shutil.rmtree(view.directory, ignore_errors=True)


def current_view() -> Path | None:
    """The directory of the run's copies, for workers that are not forked; ``None`` outside a run."""
    return _views[-1].directory if _views else None


def join_view(directory: Path) -> None:
    """See every database as the run with this ``directory`` does, as long as this process lives."""
    _views.append(_View(directory))


class _View:
    """The copies of one run. Workers inherit it by fork, or join it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._failed: dict[Path, str] = {}
        # By process too: a connection that came over fork belongs to the parent, and is neither used nor closed.
        self._idle: dict[tuple[int, Path], list[sqlite3.Connection]] = {}

    def open(self, path: Path) -> sqlite3.Connection:
        # Nothing changes the copy, so SQLite needs neither locks nor a look at the file for each transaction.
        return _open(self.copy_of(path), "mode=ro&immutable=1")

    def take(self, path: Path) -> sqlite3.Connection:
        idle = self._idle.get((os.getpid(), path))
        # Threads may race for the last one: list.pop is atomic, looking first would not be.
        with contextlib.suppress(IndexError):
            if idle is not None:
                return idle.pop()
        return self.open(path)

    def give_back(self, path: Path, connection: sqlite3.Connection) -> None:
        idle = self._idle.setdefault((os.getpid(), path), [])
        if len(idle) >= _KEPT:
            connection.close()
            return
        connection.rollback()
        connection.row_factory = None
        connection.text_factory = str
        idle.append(connection)

    def copy_of(self, path: Path) -> Path:
        """Where the copy of ``path`` is, made now if there is none. What failed once fails at once."""
        real = path.resolve()
        if real in self._failed:
            raise UnreadableDatabase(path, self._failed[real])
        name = hashlib.sha256(os.fsencode(real)).hexdigest()[:32]
        copy = self.directory / f"{name}.db"
        if copy.exists():
            return copy
        try:
            with (self.directory / f"{name}.lock").open("wb") as lock:
                # Another worker may be making it. Without locks (ENOLCK) two workers make a copy each.
                with contextlib.suppress(OSError):
                    fcntl.flock(lock, fcntl.LOCK_EX)
                if not copy.exists():
                    unfinished = copy.with_suffix(f".{os.getpid()}-{threading.get_ident()}.new")
                    unfinished.unlink(missing_ok=True)
                    _copy(real, unfinished)
                    unfinished.rename(copy)
        except UnreadableDatabase as error:
            self._failed[real] = error.problem
            raise
        except (sqlite3.Error, OSError) as error:
            self._failed[real] = _explain(error)
            raise UnreadableDatabase(path, self._failed[real]) from error
        return copy

    def close(self) -> None:
        for (pid, _), idle in self._idle.items():
            if pid == os.getpid():
                for connection in idle:
                    connection.close()


def _open(path: Path, query: str, lock_seconds: float = 5.0) -> sqlite3.Connection:
    # SQLite's own locks hold between threads, and a kept connection may come to another thread than the last one's.
    connection = sqlite3.connect(f"{path.as_uri()}?{query}", uri=True, timeout=lock_seconds, check_same_thread=False)
    try:
        # Beside mode=ro for temporary tables, which would still be there for the next item.
        connection.execute("PRAGMA query_only=1")
    except BaseException:
        connection.close()
        raise
    return connection


def _open_readable(path: Path, lock_seconds: float = 5.0) -> tuple[sqlite3.Connection, _State | None]:
    """A connection to the live file, and ``None``; or one that takes it for immutable, and what it was at that moment.

    The latter where SQLite would need a file of its own beside a database in WAL mode, for which it has no right, and
    nobody has the database open: everything is in the file itself then. Raises ``UnreadableDatabase``.
    """
    try:
        connection = _open(path, "mode=ro", lock_seconds)
        try:
            connection.execute("PRAGMA schema_version").fetchone()
        except BaseException:
            connection.close()
            raise
        return connection, None
    except sqlite3.OperationalError as error:
        if not error.sqlite_errorname.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN")) or not _is_wal(path):
            raise
        state = _state(path)
        log = Path(f"{path.resolve()}-wal")
        if log.exists() and log.stat().st_size:
            raise UnreadableDatabase(
                path,
                f"its last changes are in {log}, and this user may not write in {log.parent}, which SQLite needs for"
                " reading them; let the owner of the database open and close it once, or run the batch as that user",
            ) from error
    return _open(path, "mode=ro&immutable=1", lock_seconds), state


@contextmanager
def _open_live(path: Path) -> Iterator[sqlite3.Connection]:
    connection, state = _open_readable(path)
    with closing(connection):
        yield connection
    if state is not None and state != _state(path):
        raise UnreadableDatabase(path, _CHANGED)


def _is_wal(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return (
                file.read(20)[18:] == b"\2\2"
            )  # "file format" of https://www.sqlite.org/fileformat.html#the_database_header
    except OSError:
        return False


def _state(path: Path) -> _State:
    state = path.stat()
    return state.st_ino, state.st_mtime_ns, state.st_ctime_ns, state.st_size


def _copy(source: Path, target: Path) -> None:
    """Copy the database as it is at one moment. Raises ``sqlite3.Error``, ``OSError`` or ``UnreadableDatabase``."""
    if not source.exists():
        raise OSError("there is no such file")  # SQLite says only that it cannot open it
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        live, state = _open_readable(source, LOCK_SECONDS)
        with closing(live):
            _back_up(live, target, deadline)
        if state is None or state == _state(source):
            return
        target.unlink()
        if time.monotonic() > deadline:
            raise OSError(_CHANGED)


def _back_up(live: sqlite3.Connection, target: Path, deadline: float) -> None:
    """All pages in one step: between two steps a write would make SQLite begin again, on a busy database for ever."""
    (pages,), (page_bytes,) = (live.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "page_size"))
    free = shutil.disk_usage(target.parent).free
    if free < pages * page_bytes + RESERVE_BYTES:
        raise OSError(
            f"a copy of {human_bytes(pages * page_bytes)} has no room in {target.parent.parent}, where"
            f" {human_bytes(free)} are free and {human_bytes(RESERVE_BYTES)} of them are kept free for others"
        )
    target.touch(mode=0o600, exist_ok=False)
    with closing(sqlite3.connect(target)) as copy:
        # It lives as long as the run: nothing has to be undone, or to survive a crash.
        copy.execute("PRAGMA journal_mode=OFF")
        copy.execute("PRAGMA synchronous=OFF")

        def go_on(status: int, remaining: int, total: int) -> None:
            if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) and time.monotonic() > deadline:
                raise sqlite3.OperationalError("database is locked")

        live.backup(copy, pages=-1, progress=go_on, sleep=0.05)


def _explain(error: sqlite3.Error | OSError) -> str:
    name = getattr(error, "sqlite_errorname", "")
    if name == "SQLITE_READONLY_ROLLBACK":
        return "its last writer was killed in the middle of a change; let a program that may write open it once"
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")) or str(error) == "database is locked":
        return f"another program kept it locked for {LOCK_SECONDS:g} s; put it into WAL mode, or let that program end"
    return str(error)


_declared: WeakSet[SqliteSnapshot] = WeakSet()
_views: list[_View] = []
