"""Disks that number every operation of a command, record it, and fail or end the process at a chosen one.

One call of a changing or syncing method of ``Disk`` is one operation; a tree that is removed is as many as it has
names. An operation that takes more than one system call can also be stopped in its middle: half of the bytes are
written, the directory is made but not yet readable by others.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from hotpath.store.disk import FILE_MODE, PRIVATE_MODE, Disk

SYNCS = frozenset({"sync_file", "sync_directory", "sync_tree"})
BEFORE, MIDDLE, AFTER = "before", "middle", "after"


@dataclass(frozen=True, slots=True)
class Operation:
    """One numbered operation; paths are relative to what was recorded. ``target`` is a path or the text of a link."""

    kind: str
    path: str
    target: str = ""
    data: bytes = b""
    failed: bool = False

    @property
    def has_middle(self) -> bool:
        return self.kind in {"write_new", "append", "overwrite", "make_directory"}

    def __str__(self) -> str:
        return " ".join(part for part in (self.kind, self.path, self.target) if part)


@dataclass
class NumberedDisk(Disk):
    """Records all operations below ``base``. Subclasses act in ``reach``, which is told each moment of each of them.

    ``syncs`` says whether a sync is carried out: what a process that is killed has written stays in the page cache, so
    only the time would differ. ``whole`` says whether a tree is synced in one operation, as syncfs(2) does it.
    ``looks`` numbers the operations that change nothing, too.
    """

    base: Path
    syncs: bool = False
    whole: bool = True
    looks: bool = False
    trace: list[Operation] = field(default_factory=list)
    # Methods of Disk that are loops over operations, and so none themselves.
    loops: ClassVar[frozenset[str]] = frozenset({"remove_tree", "sync_each", "read"})

    def reach(self, number: int, moment: str, operation: Operation) -> None:
        """An operation is about to be carried out, half done, or done."""

    def name(self, path: Path) -> str:
        name = os.fspath(path).removeprefix(f"{self.base}/")
        return name if name != os.fspath(self.base) else "."

    def _operate(
        self, operation: Operation, act: Callable[[], object], half: Callable[[], object] | None = None
    ) -> None:
        number = len(self.trace)
        self.trace.append(operation)
        try:
            self.reach(number, BEFORE, operation)
            if half is not None and self.halves(number):
                half()
                self.reach(number, MIDDLE, operation)
            elif self.syncs or operation.kind not in SYNCS:
                act()
        except OSError:
            self.trace[number] = Operation(operation.kind, operation.path, operation.target, operation.data, True)
            raise
        self.reach(number, AFTER, operation)

    def halves(self, number: int) -> bool:
        """Whether this operation stops in its middle; ``reach`` then has to end it."""
        return False

    def _look(self, kind: str, path: Path) -> None:
        self._operate(Operation(kind, self.name(path)), lambda: None)

    def make_directory(self, path: Path) -> None:
        self._operate(
            Operation("make_directory", self.name(path)),
            lambda: Disk.make_directory(self, path),
            lambda: path.mkdir(0o700),
        )

    def begin_directory(self, path: Path) -> None:
        self._operate(Operation("begin_directory", self.name(path)), lambda: Disk.begin_directory(self, path))

    def finish_directory(self, path: Path) -> None:
        self._operate(Operation("finish_directory", self.name(path)), lambda: Disk.finish_directory(self, path))

    def write_new(self, path: Path, data: bytes, mode: int = FILE_MODE) -> None:
        def half() -> None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            _write_half(os.open(path, flags, mode), data)

        operation = Operation("write_new", self.name(path), data=data)
        self._operate(operation, lambda: Disk.write_new(self, path, data, mode), half)

    def append(self, path: Path, data: bytes) -> None:
        def half() -> None:
            _write_half(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, PRIVATE_MODE), data)

        self._operate(Operation("append", self.name(path), data=data), lambda: Disk.append(self, path, data), half)

    def overwrite(self, descriptor: int, data: bytes) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        self._operate(
            Operation("overwrite", self.name(path), data=data),
            lambda: Disk.overwrite(self, descriptor, data),
            lambda: os.pwrite(descriptor, data[: len(data) // 2], 0),
        )

    def open_lock(self, path: Path) -> int:
        opened: list[int] = []
        self._operate(Operation("open_lock", self.name(path)), lambda: opened.append(Disk.open_lock(self, path)))
        return opened[0]

    def link(self, source: Path, target: Path) -> None:
        operation = Operation("link", self.name(source), self.name(target))
        self._operate(operation, lambda: Disk.link(self, source, target))

    def symlink(self, text: str, path: Path) -> None:
        self._operate(Operation("symlink", self.name(path), text), lambda: Disk.symlink(self, text, path))

    def rename(self, source: Path, target: Path) -> None:
        operation = Operation("rename", self.name(source), self.name(target))
        self._operate(operation, lambda: Disk.rename(self, source, target))

    def replace(self, source: Path, target: Path) -> None:
        operation = Operation("replace", self.name(source), self.name(target))
        self._operate(operation, lambda: Disk.replace(self, source, target))

    def unlink(self, path: Path) -> None:
        self._operate(Operation("unlink", self.name(path)), lambda: Disk.unlink(self, path))

    def remove_directory(self, path: Path) -> None:
        self._operate(Operation("remove_directory", self.name(path)), lambda: Disk.remove_directory(self, path))

    def sync_file(self, path: Path) -> None:
        self._operate(Operation("sync_file", self.name(path)), lambda: Disk.sync_file(self, path))

    def sync_directory(self, path: Path) -> None:
        self._operate(Operation("sync_directory", self.name(path)), lambda: Disk.sync_directory(self, path))

    def sync_tree(self, path: Path) -> None:
        if self.whole:
            self._operate(Operation("sync_tree", self.name(path)), lambda: Disk.sync_tree(self, path))
        else:
            self.sync_each(path)

    def open_regular(self, path: Path) -> int:
        if self.looks:
            self._look("open_regular", path)
        return super().open_regular(path)

    def try_lock(self, descriptor: int, *, shared: bool = False) -> bool:
        if self.looks:
            self._look("try_lock", Path(f"/proc/self/fd/{descriptor}").readlink())
        return super().try_lock(descriptor, shared=shared)


@dataclass
class KillingDisk(NumberedDisk):
    """Ends its own process with SIGKILL before, in the middle of or after operation ``number``."""

    number: int = -1
    moment: str = BEFORE

    def reach(self, number: int, moment: str, operation: Operation) -> None:
        if (number, moment) == (self.number, self.moment):
            os.kill(os.getpid(), signal.SIGKILL)

    def halves(self, number: int) -> bool:
        return (number, MIDDLE) == (self.number, self.moment)


@dataclass
class InterruptedDisk(NumberedDisk):
    """Ctrl-C before or after operation ``number``; what tidies up then is done."""

    number: int = -1
    moment: str = BEFORE

    def reach(self, number: int, moment: str, operation: Operation) -> None:
        if (number, moment) == (self.number, self.moment):
            raise KeyboardInterrupt


class Ended(BaseException):
    """Nothing more happens: as a kill, in a process that goes on."""


@dataclass
class EndedDisk(NumberedDisk):
    """Does nothing from operation ``number`` on, nor lets the command tidy up; ``trace`` has what was done."""

    number: int = -1

    def reach(self, number: int, moment: str, operation: Operation) -> None:
        if moment == BEFORE and number >= self.number:
            del self.trace[number:]
            raise Ended


@dataclass
class FailingDisk(NumberedDisk):
    """Fails operations with the error that ``errors`` has for their number, before anything of them is done.

    A number in ``late`` fails when it is done, one in ``torn`` after half of its bytes.
    """

    errors: Mapping[int, int] = field(default_factory=dict)
    late: Iterable[int] = ()
    torn: Iterable[int] = ()

    def reach(self, number: int, moment: str, operation: Operation) -> None:
        due = MIDDLE if number in self.torn else AFTER if number in self.late else BEFORE
        if number in self.errors and moment == due:
            self.trace[number] = Operation(operation.kind, operation.path, operation.target, operation.data, True)
            code = self.errors[number]
            raise OSError(code, os.strerror(code), str(self.base / operation.path))

    def halves(self, number: int) -> bool:
        return number in self.errors and number in self.torn


@dataclass
class WatchingDisk(NumberedDisk):
    """Calls ``watch`` before every operation."""

    watch: Callable[[int, Operation], None] = lambda number, operation: None

    def reach(self, number: int, moment: str, operation: Operation) -> None:
        if moment == BEFORE:
            self.watch(number, operation)


def _write_half(descriptor: int, data: bytes) -> None:
    try:
        os.write(descriptor, data[: len(data) // 2])
    finally:
        os.close(descriptor)
