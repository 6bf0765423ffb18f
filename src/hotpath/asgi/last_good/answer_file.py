"""The file of stored answers: lookups by whoever asks, writing by one thread, so that it never delays an answer.

A file that is full, locked, unreadable or overwritten costs stored answers and nothing else; each such problem is
logged once until it is over. Several processes may share the file.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from hotpath.asgi.last_good import answer_table as table
from hotpath.asgi.last_good.answer_queue import MAX_REMEMBERED, Operation, Queue, Recently, both, without_overwritten
from hotpath.asgi.last_good.answer_table import Asked, BrokenAnswer, ForeignFile
from hotpath.asgi.last_good.caching import Stored
from hotpath.errors import DeclarationError
from hotpath.log import Once, logger
from hotpath.options import human_bytes
from hotpath.process import after_fork
from hotpath.process.lock import lock, unlock

# Below it there is no room for a page beside the tables.
MIN_BYTES: Final = 1024 * 1024
# What of the limit is left to the log of SQLite beside the file.
_LOG_BYTES: Final = 16 * 1024 * 1024
# Answers that wait to be written; further ones are not kept.
MAX_QUEUED_BYTES: Final = 16 * 1024 * 1024
MAX_QUEUED: Final = 10_000
# The writing thread waits for more to write in one go.
GATHER_SECONDS: Final = 0.02
# How long a lookup waits for what was to be written before it, and for the file.
CATCH_UP_SECONDS: Final = 1.0
READ_BUSY_SECONDS: Final = 0.2
WRITE_BUSY_SECONDS: Final = 2.0
RETRY_SECONDS: Final = 5.0
CLOSE_SECONDS: Final = 5.0

# Their pages say something else than was written, or they are no database at all.
_BROKEN: Final = frozenset((sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB))

# Connections of a process before it forked: closing them here would be a word in the parent's file.
_parents: list[sqlite3.Connection] = []  # hotpath: bounded – one for each fork from a process with a file

Change = Callable[[Stored], Stored | None]
T = TypeVar("T")


@dataclass(slots=True)
class FileCounters:
    """What became of answers since the start."""

    stored: int = 0
    evicted: int = 0
    lost: int = 0


class _NotYet(Exception):
    """It did not work a moment ago."""


class AnswerFile:
    """Stored answers in the SQLite file ``path``, ``max_bytes`` at most; those not used for longest go first.

    Made with the first answer that is kept. Nothing here raises for a file that cannot be used.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        if max_bytes < MIN_BYTES:
            raise DeclarationError(f"{human_bytes(max_bytes)} for last good answers: give 1MiB or more")
        self.path = path
        self.max_bytes = max_bytes
        self.counters = FileCounters()
        self.used_bytes = 0
        log_bytes = min(_LOG_BYTES, max_bytes // 4)
        self._limit = max_bytes - log_bytes
        # The log holds a transaction, and what was there when that began.
        self._batch_bytes = log_bytes // 4
        self._max_answer_bytes = log_bytes // 2
        # Until writing works again.
        self._once = Once()
        self.restart_after_fork()
        after_fork.register(self)

    def restart_after_fork(self) -> None:
        """Have a queue, a thread and connections of this process's own."""
        _parents.extend(filter(None, (getattr(self, "_reader", None), getattr(self, "_writer", None))))
        self._reader: sqlite3.Connection | None = None
        self._writer: sqlite3.Connection | None = None
        self._read_lock = threading.Lock()
        self._queue = Queue()
        self._moved = threading.Condition()
        self._thread: threading.Thread | None = None
        self._recently = Recently()
        self._unfinished: dict[bytes | None, Operation] = {}
        # When answers of a URL, or of ``None`` for all, were removed last, on the monotonic clock.
        self._removals: OrderedDict[bytes | None, float] = OrderedDict()
        self._retry_at = 0.0

    # Reading, in any thread.

    def find(self, asked: Asked) -> Stored | None:
        """The stored answer that fits. Takes less than a millisecond as a rule, and may wait for a disk."""
        self._catch_up(asked.url)
        if None in self._unfinished or asked.url in self._unfinished:
            return None
        row = self._read(lambda connection: table.select(connection, asked))
        return None if row is None else row.stored

    def has_robots(self) -> bool:
        """Whether a ``robots.txt`` of any host is there."""
        self._catch_up(None)
        return bool(self._read(table.has_robots))

    def find_latest(self, url: bytes) -> Stored | None:
        """The most recent answer of a URL, for people: it may be another variant than a request would get."""
        self._catch_up(url)
        row = self._read(functools.partial(table.select_latest, url=url))
        return None if row is None else row.stored

    def urls_of(self, target: bytes) -> list[bytes]:
        """The URLs with an answer whose path and query are ``target``, on any host."""
        self._catch_up(None)
        return self._read(functools.partial(table.urls_of, target=target)) or []

    def measure(self) -> None:
        """Bring ``used_bytes`` up to date, which writing does too."""
        self.used_bytes = self._read(table.used_bytes) or 0

    def _read(self, question: Callable[[sqlite3.Connection], T]) -> T | None:
        with self._read_lock:
            try:
                if self._reader is None:
                    if not self.path.exists():
                        return None
                    self._reader = table.connect(self.path, READ_BUSY_SECONDS)
                return question(self._reader)
            except BrokenAnswer as broken:
                self._once.warn(f"{self.path}: a stored answer is not what was written, and is removed", "answer")
                self._submit(Operation(functools.partial(table.remove_rows, numbers=[broken.row]), url=None))
            except (sqlite3.Error, OSError, ForeignFile, ValueError) as problem:
                self._report(problem)
                _close(self._reader)
                self._reader = None
                if _is_broken(problem):
                    self._submit(Operation(_check, url=None))
            return None

    # Writing: these return at once.

    def is_repeated(self, asked: Asked, url: bytes, vary: bytes, content: int) -> bool:
        """Whether this answer was put some seconds ago, so that it needs no ``put``; it counts as put from now on."""
        return self._recently.is_repeated(url, (asked.key, table.variant_digest(vary, asked)), content)

    def put(self, asked: Asked, stored: Stored, vary: bytes, *, empty_replaces: bool) -> None:
        """Keep an answer."""
        url, size = asked.url, len(stored.body) + sum(len(name) + len(value) for name, value in stored.headers)
        size += table.OVERHEAD_BYTES
        if size > self._max_answer_bytes or not table.is_encodable(stored.headers):
            return
        slot = (asked.key, table.variant_digest(vary, asked))
        self._recently.forget(url, "removed")

        def run(connection: sqlite3.Connection) -> int:
            self.counters.evicted += table.make_room(connection, size, self._limit)
            is_kept = table.put(connection, asked, stored, vary, empty_replaces=empty_replaces)
            self.counters.stored += is_kept
            return int(is_kept)

        is_certain = empty_replaces or stored.status != 200 or bool(stored.body)
        self._submit(Operation(run, url, size=size, slot=slot, is_certain=is_certain))

    def change(self, asked: Asked, make: Change, *, is_always: bool) -> None:
        """Replace the fields of the stored answer that fits; it is removed where ``make`` gives ``None``."""
        change = ("changed", asked.key, tuple(asked.headers))
        if self._recently.is_repeated(asked.url, change) and not is_always:
            return
        self._recently.forget(asked.url)  # the same answer as before the change is one to write
        self._recently.is_repeated(asked.url, change)

        def run(connection: sqlite3.Connection) -> int:
            row = table.select_whole(connection, asked)
            if row is None:
                return 0
            changed = make(row.stored)
            if changed is None:
                return table.remove_rows(connection, [row.number])
            if changed != row.stored:
                table.change(connection, row, changed)
            return 1

        self._submit(Operation(run, asked.url))

    def touch(self, asked: Asked, now: float) -> None:
        """Note that the answer that fits was used."""
        if self._recently.is_repeated(asked.url, ("used", asked.key)):
            return

        def run(connection: sqlite3.Connection) -> int:
            row = table.select_whole(connection, asked)
            if row is not None:
                table.touch(connection, row.number, now)
            return 1

        self._submit(Operation(run, asked.url))

    def is_outdated(self, url: bytes, began: float) -> bool:
        """Whether answers of a URL were removed since ``began``, on the monotonic clock: an answer to a request of then
        may be what was to go.
        """
        return max(self._removals.get(url, began), self._removals.get(None, began)) > began

    def _note_removal(self, url: bytes | None) -> None:
        self._removals[url] = time.monotonic()
        self._removals.move_to_end(url)
        if len(self._removals) > MAX_REMEMBERED:
            self._removals.popitem(last=False)

    def remove(self, url: bytes) -> None:
        """Remove all answers of a URL. Done a moment ago, it is not done again."""
        self._note_removal(url)
        if not self._recently.is_repeated(url, "removed"):
            self.purge_url(url)
            self._recently.is_repeated(url, "removed")

    def purge_url(self, url: bytes) -> Future[int]:
        """Remove all answers of a URL; the future has their number."""
        return self._remove(lambda connection: table.remove_url(connection, url), url)

    def purge_tag(self, tag: bytes) -> Future[int]:
        """Remove all answers with a tag; the future has their number."""
        return self._remove(lambda connection: table.remove_tag(connection, tag), None)

    def _remove(self, run: Callable[[sqlite3.Connection], int], url: bytes | None) -> Future[int]:
        if url is None:
            self._recently.clear()
        else:
            self._recently.forget(url)
        self._note_removal(url)
        result: Future[int] = Future()
        self._submit(Operation(run, url, is_removal=True, result=result))
        return result

    def close(self, timeout_seconds: float = CLOSE_SECONDS) -> None:
        """Write what waits, and end the thread. A later answer starts it again."""
        thread = self._thread
        if thread is not None:
            with self._moved:
                self._queue.is_closing = True
                self._moved.notify_all()
            thread.join(timeout_seconds)
        with self._read_lock:
            _close(self._reader)
            self._reader = None

    def _submit(self, operation: Operation) -> None:
        with self._moved:
            queue = self._queue
            is_full = queue.size + operation.size > MAX_QUEUED_BYTES or len(queue.waiting) >= MAX_QUEUED
            if is_full and not operation.is_removal:
                self.counters.lost += 1
                self._recently.clear()
                return
            queue.add(operation)
            if self._thread is None:
                self._thread = threading.Thread(target=self._write, name="hotpath-last-good", daemon=True)
                self._thread.start()
            self._moved.notify_all()

    def _catch_up(self, url: bytes | None) -> None:
        """Wait until what is known about a URL, or about all, is written, for a moment."""
        with self._moved:
            queue = self._queue
            if queue.taken == queue.finished:
                return
            number = queue.taken if url is None else queue.number_of(url)
            if queue.finished < number:
                queue.is_hurried = True
                self._moved.notify_all()
                self._moved.wait_for(lambda: queue.finished >= number, CATCH_UP_SECONDS)

    # The writing thread.

    def _write(self) -> None:
        queue = self._queue
        while True:
            with self._moved:
                seconds = RETRY_SECONDS if self._unfinished else None
                self._moved.wait_for(lambda: queue.waiting or queue.is_closing, seconds)
                if not queue.waiting and queue.is_closing:
                    self._thread = None
                    _close(self._writer)
                    self._writer = None
                    return
                self._moved.wait_for(lambda: queue.is_hurried or queue.is_closing, GATHER_SECONDS)
                batch = queue.take_batch(self._batch_bytes)
            self._run(without_overwritten(batch))
            with self._moved:
                queue.finish(batch)
                self._moved.notify_all()

    def _run(self, batch: list[Operation]) -> None:
        """All of the batch or, where the file does not work, nothing; removals are tried again with the next."""
        pending = [*self._unfinished.values(), *batch]
        results: list[int] = []
        try:
            if self._writer is None:
                if time.monotonic() < self._retry_at:
                    raise _NotYet
                self._writer = self._open()
            self._writer.execute("BEGIN IMMEDIATE")
            results = [operation.run(self._writer) for operation in pending]
            self._writer.execute("COMMIT")
            self.used_bytes = table.used_bytes(self._writer)
        except Exception as problem:  # also what broken bytes lead to: the thread must go on
            self._failed(problem, batch)
        else:
            self._unfinished = {}
            self._once.clear()
        for operation, result in zip(pending, results or [0] * len(pending), strict=True):
            if operation.result is not None and results and not operation.result.done():
                operation.result.set_result(result)

    def _failed(self, problem: Exception, batch: list[Operation]) -> None:
        if not isinstance(problem, _NotYet):
            self._report(problem)
            self._retry_at = time.monotonic() + RETRY_SECONDS
        _close(self._writer)
        self._writer = None
        self._recently.clear()
        self.counters.lost += sum(not operation.is_removal for operation in batch)
        for operation in batch:
            if operation.is_removal:
                # Of a tag or of too many URLs: nothing is used until it is done.
                key = operation.url if len(self._unfinished) < MAX_QUEUED else None
                earlier = self._unfinished.get(key)
                self._unfinished[key] = operation if earlier is None else both(earlier, operation)
        if _is_broken(problem):
            try:
                self._set_aside()
            except (OSError, TimeoutError) as error:
                self._report(error)

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = self._lock()
        try:
            connection = table.connect(self.path, WRITE_BUSY_SECONDS)
        finally:
            os.close(descriptor)
        try:
            table.limit_log(connection, self._batch_bytes)
            table.shrink(connection, self._limit)
        except BaseException:
            connection.close()
            raise
        return connection

    def _lock(self) -> int:
        path = self.path.with_name(self.path.name + ".lock")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            lock(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _set_aside(self) -> None:
        """Move a broken file away, so that a new one is made. Who else has it open sees that it moved."""
        descriptor = self._lock()
        try:
            try:
                connection = table.connect(self.path, WRITE_BUSY_SECONDS)
                try:
                    _check(connection)
                finally:
                    connection.close()
            except sqlite3.Error as problem:
                if not _is_broken(problem):
                    return
            except ForeignFile:
                return
            else:
                return  # another process has made a new one
            for suffix in ("", "-wal", "-shm"):
                path = self.path.with_name(self.path.name + suffix)
                if path.exists():
                    path.replace(path.with_name(f"{self.path.name}.broken{suffix}"))
            self._retry_at = 0.0
            self._once.clear()
            logger.warning("hotpath: %s was broken and is moved to %s.broken: a new one begins", self.path, self.path)
        finally:
            unlock(descriptor)
            os.close(descriptor)

    def _report(self, problem: BaseException) -> None:
        kind = getattr(problem, "sqlite_errorname", type(problem).__name__)
        text = f"last good answers: {self.path} does not work, so none are kept until it does: {problem}"
        self._once.warn(text, kind)


def _check(connection: sqlite3.Connection) -> int:
    """Raise ``sqlite3.DatabaseError`` for a broken file."""
    (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if answer != "ok":
        error = sqlite3.DatabaseError(f"quick_check: {answer}")
        error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_CORRUPT, "SQLITE_CORRUPT"
        raise error
    return 1


def _is_broken(problem: BaseException) -> bool:
    return isinstance(problem, sqlite3.Error) and getattr(problem, "sqlite_errorcode", 0) & 0xFF in _BROKEN


def _close(connection: sqlite3.Connection | None) -> None:
    if connection is not None:
        with contextlib.suppress(sqlite3.Error):
            connection.close()
