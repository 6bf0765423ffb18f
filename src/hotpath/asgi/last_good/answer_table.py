"""Stored answers in an SQLite database: the schema, and what is asked of it. Each connection belongs to one thread."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Final, NamedTuple

from hotpath.asgi.last_good.caching import Stored, is_robots, is_worse, tags_of
from hotpath.asgi.last_good.requests import Cookies, variant_of
from hotpath.types import Header

# "hpLG": a database of another program is never written to and never moved away.
APPLICATION_ID: Final = 0x68704C47
VERSION: Final = 1
PAGE_BYTES: Final = 4096

# Lookups stay quick whatever an app does with Vary.
MAX_VARIES: Final = 8
MAX_VARIANTS: Final = 64
# Hosts whose robots.txt stays whatever else comes; anybody can make up names of hosts.
MAX_ROBOTS: Final = 64
# Of an answer beside its body and its fields: rows, indexes, and pages that are not full.
OVERHEAD_BYTES: Final = 2 * PAGE_BYTES
# Rows that are looked at together when there is no room.
_EVICT_ROWS: Final = 64

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS answers (
    id INTEGER PRIMARY KEY, key_digest BLOB NOT NULL, url_digest BLOB NOT NULL, key BLOB NOT NULL, vary BLOB NOT NULL,
    variant_digest BLOB NOT NULL, is_robots INTEGER NOT NULL, used REAL NOT NULL, status INTEGER NOT NULL,
    requested REAL NOT NULL, received REAL NOT NULL, is_invalid INTEGER NOT NULL, length INTEGER NOT NULL,
    body_digest BLOB NOT NULL, head_digest BLOB NOT NULL, headers BLOB NOT NULL, UNIQUE (key_digest, variant_digest));
CREATE INDEX IF NOT EXISTS answers_by_url ON answers (url_digest);
CREATE INDEX IF NOT EXISTS answers_by_use ON answers (is_robots, used);
CREATE TABLE IF NOT EXISTS bodies (
    id INTEGER PRIMARY KEY REFERENCES answers ON DELETE CASCADE, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS tags (
    tag BLOB NOT NULL, id INTEGER NOT NULL REFERENCES answers ON DELETE CASCADE, PRIMARY KEY (tag, id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS tags_by_id ON tags (id);
"""


class ForeignFile(Exception):
    """The file is a database of another program."""


class BrokenAnswer(Exception):
    """The bytes of a stored answer are not those that were written. ``row`` is where it is."""

    def __init__(self, row: int) -> None:
        super().__init__(f"row {row}")
        self.row = row


class Asked(NamedTuple):
    """What of a request selects a stored answer: its key, and the fields that ``Vary`` may name.

    ``variants`` is for ``variant_digest``: requests with the same fields may share it.
    """

    key: bytes
    headers: Sequence[Header]
    cookies: Cookies
    variants: dict[bytes, bytes]

    @property
    def url(self) -> bytes:
        """The URL in the key."""
        return self.key.partition(b"\n")[0]


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A stored answer and where it is."""

    number: int
    stored: Stored


def digest(data: bytes) -> bytes:
    """Of keys, variants and bodies: 256 bits, so that no two are confused."""
    return blake2b(data, digest_size=32).digest()


def connect(path: Path, busy_seconds: float) -> sqlite3.Connection:
    """A connection to the file, which is made where it is missing, for its owner alone.

    Raises ``sqlite3.Error``, ``OSError`` or ``ForeignFile``.
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, timeout=busy_seconds, isolation_level=None, check_same_thread=False)
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and (application, version) != (APPLICATION_ID, VERSION):
            raise ForeignFile(f"{path} is a database of another program or version")
        if not tables:
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        connection.execute("PRAGMA journal_mode=WAL")
        # After a power failure the last answers may be missing; the file is whole.
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA foreign_keys=ON")
        # KiB of pages in this process; the kernel has them too.
        connection.execute("PRAGMA cache_size=-256")
        if not tables:
            connection.execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA.split(";")[:-1]:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={VERSION}")
            connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection


def limit_log(connection: sqlite3.Connection, max_bytes: int) -> None:
    """Have the log beside the file written back to it when it has so many bytes, and cut off there."""
    connection.execute(f"PRAGMA wal_autocheckpoint={max(1, max_bytes // PAGE_BYTES)}")
    connection.execute(f"PRAGMA journal_size_limit={max_bytes}")


def select(connection: sqlite3.Connection, asked: Asked) -> StoredRow | None:
    """The most recent answer that fits (RFC 9111 §4.1). Raises ``BrokenAnswer`` and ``sqlite3.Error``."""
    key_digest = digest(asked.key)
    varies = connection.execute(
        "SELECT vary, max(received) AS latest FROM answers WHERE key_digest = ? GROUP BY vary"
        " ORDER BY latest DESC LIMIT ?",
        (key_digest, MAX_VARIES),
    ).fetchall()
    best: tuple[float, int] | None = None
    for vary, _ in varies:
        found = connection.execute(
            "SELECT received, id FROM answers WHERE key_digest = ? AND variant_digest = ? AND key = ?",
            (key_digest, variant_digest(vary, asked), asked.key),
        ).fetchone()
        if found is not None and (best is None or found > best):
            best = found
    return None if best is None else _load(connection, best[1])


def select_latest(connection: sqlite3.Connection, url: bytes) -> StoredRow | None:
    """The most recent answer of a URL, whatever its variant and the fields that route. Raises as ``select``."""
    latest = connection.execute(
        "SELECT id FROM answers WHERE url_digest = ? ORDER BY received DESC LIMIT 1", (digest(url),)
    ).fetchone()
    return None if latest is None else _load(connection, latest[0])


def select_whole(connection: sqlite3.Connection, asked: Asked) -> StoredRow | None:
    """``select`` for who may write: what is broken is removed."""
    try:
        return select(connection, asked)
    except BrokenAnswer as broken:
        remove_rows(connection, [broken.row])
        return None


def variant_digest(vary: bytes, asked: Asked) -> bytes:
    """Of the names in ``vary`` (with commas between) and of what the request has in these fields."""
    known = asked.variants.get(vary)
    if known is None:
        names = vary.split(b",") if vary else []
        known = digest(vary + b"\n" + variant_of(names, asked.headers, asked.cookies))
        if len(asked.variants) >= MAX_VARIES:
            asked.variants.clear()
        asked.variants[vary] = known
    return known


def _load(connection: sqlite3.Connection, number: int) -> StoredRow | None:
    row = connection.execute(
        "SELECT status, headers, body, requested, received, is_invalid, body_digest, head_digest"
        " FROM answers JOIN bodies USING (id) WHERE id = ?",
        (number,),
    ).fetchone()
    if row is None:
        return None
    status, headers, body, requested, received, is_invalid, body_digest, head_digest = row
    try:
        is_whole = digest(body) == body_digest and head_digest == _head_digest(
            status, headers, requested, received, is_invalid, body_digest
        )
    except (TypeError, ValueError):  # a broken row may have any type
        is_whole = False
    if not is_whole:
        raise BrokenAnswer(number)
    return StoredRow(number, Stored(status, _decoded(headers), body, requested, received, bool(is_invalid)))


def _head_digest(
    status: int, headers: bytes, requested: float, received: float, is_invalid: int, body_digest: bytes
) -> bytes:
    times = (float(requested), float(received))
    return digest(b"%d %r %r %d\n%b\n%b" % (status, *times, is_invalid, body_digest, headers))


def put(connection: sqlite3.Connection, asked: Asked, stored: Stored, vary: bytes, *, empty_replaces: bool) -> bool:
    """Store an answer in the place of the one of the same variant. False where that one is better."""
    key_digest, variant = digest(asked.key), variant_digest(vary, asked)
    old = connection.execute(
        "SELECT id, status, length FROM answers WHERE key_digest = ? AND variant_digest = ?", (key_digest, variant)
    ).fetchone()
    if old is not None:
        if not empty_replaces and is_worse(stored.status, len(stored.body), old[1], old[2]):
            return False
        remove_rows(connection, [old[0]])
    headers = _encoded(stored.headers)
    body_digest = digest(stored.body)
    head = (stored.status, stored.requested, stored.received, int(stored.is_invalid))
    number = connection.execute(
        "INSERT INTO answers (key_digest, url_digest, key, vary, variant_digest, is_robots, used, status, requested,"
        " received, is_invalid, length, body_digest, head_digest, headers) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        (
            *(key_digest, digest(asked.url), asked.key, vary, variant, int(is_robots(asked.key)), stored.received),
            *(*head, len(stored.body), body_digest),
            *(_head_digest(stored.status, headers, *head[1:], body_digest), headers),
        ),
    ).lastrowid
    connection.execute("INSERT INTO bodies (id, body) VALUES (?, ?)", (number, stored.body))
    tags = [(tag, number) for tag in tags_of(stored.headers)]
    connection.executemany("INSERT OR IGNORE INTO tags (tag, id) VALUES (?, ?)", tags)
    connection.execute(
        "DELETE FROM answers WHERE id IN (SELECT id FROM answers WHERE key_digest = ?"
        " ORDER BY used DESC LIMIT -1 OFFSET ?)",
        (key_digest, MAX_VARIANTS),
    )
    return True


def change(connection: sqlite3.Connection, row: StoredRow, stored: Stored) -> None:
    """Give a stored answer other fields and times; its body stays."""
    headers = _encoded(stored.headers)
    (body_digest,) = connection.execute("SELECT body_digest FROM answers WHERE id = ?", (row.number,)).fetchone()
    head = (stored.requested, stored.received, int(stored.is_invalid))
    connection.execute(
        "UPDATE answers SET headers = ?, requested = ?, received = ?, is_invalid = ?, head_digest = ?, used = ?"
        " WHERE id = ?",
        (
            headers,
            *head,
            _head_digest(stored.status, headers, *head, body_digest),
            stored.received,
            row.number,
        ),
    )
    connection.execute("DELETE FROM tags WHERE id = ?", (row.number,))
    tags = [(tag, row.number) for tag in tags_of(stored.headers)]
    connection.executemany("INSERT OR IGNORE INTO tags (tag, id) VALUES (?, ?)", tags)


def touch(connection: sqlite3.Connection, number: int, now: float) -> None:
    """Note that an answer was used."""
    connection.execute("UPDATE answers SET used = ? WHERE id = ?", (now, number))


def remove_rows(connection: sqlite3.Connection, numbers: Iterable[int]) -> int:
    """Remove answers; how many there were."""
    return sum(connection.execute("DELETE FROM answers WHERE id = ?", (number,)).rowcount for number in numbers)


def remove_url(connection: sqlite3.Connection, url: bytes) -> int:
    """Remove all answers of a URL; how many there were."""
    return connection.execute("DELETE FROM answers WHERE url_digest = ?", (digest(url),)).rowcount


def remove_tag(connection: sqlite3.Connection, tag: bytes) -> int:
    """Remove all answers with a tag; how many there were."""
    return connection.execute("DELETE FROM answers WHERE id IN (SELECT id FROM tags WHERE tag = ?)", (tag,)).rowcount


def has_robots(connection: sqlite3.Connection) -> bool:
    """Whether there is any ``robots.txt``."""
    return connection.execute("SELECT 1 FROM answers WHERE is_robots = 1 LIMIT 1").fetchone() is not None


def urls_of(connection: sqlite3.Connection, target: bytes) -> list[bytes]:
    """The URLs with an answer whose path and query are ``target``, on any host. Looks at all rows."""
    rows = connection.execute("SELECT DISTINCT key FROM answers WHERE instr(key, ?)", (target,))
    urls = {key.partition(b"\n")[0] for (key,) in rows}
    return sorted(url for url in urls if b"/" + url.split(b"/", 3)[3] == target)


def used_bytes(connection: sqlite3.Connection) -> int:
    """Bytes of the file that are in use."""
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    return int((pages - free) * size)


def make_room(connection: sqlite3.Connection, needed: int, max_bytes: int) -> int:
    """Remove the answers that were not used for the longest time until ``needed`` bytes fit; how many were removed."""
    removed = 0
    while (excess := used_bytes(connection) + needed - max_bytes) > 0:
        rows = connection.execute(
            "SELECT id, length FROM answers WHERE is_robots = 1 ORDER BY used DESC LIMIT ? OFFSET ?",
            (_EVICT_ROWS, MAX_ROBOTS),
        ).fetchall()
        rows += connection.execute(
            "SELECT id, length FROM answers WHERE is_robots = 0 ORDER BY used LIMIT ?", (_EVICT_ROWS,)
        ).fetchall()
        if not rows:
            break
        for number, length in rows:
            removed += remove_rows(connection, [number])
            excess -= length
            if excess <= 0:
                break
    return removed


def shrink(connection: sqlite3.Connection, max_bytes: int) -> None:
    """Give the disk back what a larger limit had before."""
    make_room(connection, 0, max_bytes)
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    if pages * size > max_bytes:
        connection.executescript("PRAGMA incremental_vacuum")  # execute() would stop after the first page


def is_encodable(headers: Iterable[Header]) -> bool:
    """Whether the fields can be stored: none has a line break."""
    return not any(b"\n" in name or b"\n" in value or b":" in name for name, value in headers)


def _encoded(headers: Iterable[Header]) -> bytes:
    return b"\n".join(b"%b:%b" % field for field in headers)


def _decoded(headers: bytes) -> tuple[Header, ...]:
    fields = [line.partition(b":") for line in headers.split(b"\n")] if headers else []
    return tuple((name, value) for name, _, value in fields)
