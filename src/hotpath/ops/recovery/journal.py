"""The journal of recoveries: ``recover.jsonl`` in the store's root, a line for each thing a recovery did.

Lines are added and never changed. The checklist that a person sees is read from here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from hotpath.options import json_bytes
from hotpath.store.locks import give_back, take
from hotpath.store.store import Store

BEGIN, DOING, DONE, SKIPPED, FAILED, END = "begin", "doing", "done", "skipped", "failed", "end"


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One line. ``recovery`` numbers the recoveries; ``step`` is empty in the lines that begin and end one.

    ``text`` is for people, ``next_step`` what to do about a failure, ``facts`` what a later run has to know.
    """

    time: int
    recovery: int
    state: str
    step: str = ""
    text: str = ""
    next_step: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


class Journal:
    """The journal of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def path(self) -> Path:
        return self._store.root / "recover.jsonl"

    def last(self) -> list[JournalEntry]:
        """The entries of the newest recovery, oldest first; a line that was torn by a kill is passed over."""
        try:
            lines = self._store.disk.read(self.path).splitlines()
        except FileNotFoundError:
            return []
        entries: list[JournalEntry] = []
        for line in lines:
            try:
                entries.append(JournalEntry(**orjson.loads(line)))
            except (orjson.JSONDecodeError, TypeError):
                continue
        return [entry for entry in entries if entry.recovery == entries[-1].recovery]

    def append(self, entry: JournalEntry) -> None:
        """Write one line, and have it on the disk before anything goes on. Raises ``StoreError``."""
        disk = self._store.disk
        with self._store.explained():
            disk.append(self.path, json_bytes(asdict(entry)) + b"\n")
            disk.sync_file(self.path)
            disk.sync_directory(self._store.root)

    @contextmanager
    def held(self) -> Iterator[None]:
        """One recovery at a time. Raises ``StoreBusy`` at once where another one runs."""
        disk = self._store.disk
        with self._store.explained():
            # Not the journal itself: whoever may read that could hold its lock.
            descriptor = take(disk, self._store.root / "recover.lock", self.path)
        try:
            yield
        finally:
            give_back(disk, descriptor)
