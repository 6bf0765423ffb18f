"""What the workers of one service know of each other: one page of memory with a slot for each.

A worker writes its own slot and reads the others'. Nothing has to be tidied up: the slot of a worker that is gone is
known by its process id and start time, and the next one takes it. The page also holds the token that lets one worker
at a time leave to be started afresh.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import mmap
import os
import secrets
import stat
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from hotpath.errors import UnusableSlots
from hotpath.process import after_fork
from hotpath.process.lock import lock, unlock

# One page: 8 places for the token and 56 for workers, more than run on one machine.
PAGE_BYTES = 4096
SLOT_BYTES = 64
SLOTS = 56
_FIRST_SLOT = PAGE_BYTES - SLOTS * SLOT_BYTES

# Minimum time between two recycles: the others carry the load, and the fresh worker first has to show what it holds.
RECYCLE_APART_SECONDS = 60.0
# Minimum age of a wish to be recycled. All workers see the same pressure, but not at the same moment, and the largest
# is to leave first.
SETTLE_SECONDS = 2.0
# Age of a heartbeat after which a worker holds up nobody, however large it is. Guards beat once a second or more often.
SILENT_SECONDS = 15.0
# Maximum time that a worker keeps the token. It is gone after its drain (20 s) and replaced soon; one that cannot
# leave, or is not replaced, must not hold up the others for longer.
HOLD_SECONDS = 120.0
# Recycles older than this are asked for by nobody.
FORGET_SECONDS = 3600.0

_CRC = struct.Struct("<I")


class _Record:
    """Values at a fixed place, followed by their CRC.

    What is read while it is written is read again; what a dying process left half written, or what is damaged, counts
    as not there.
    """

    def __init__(self, layout: str, offset: int) -> None:
        self._struct = struct.Struct("<" + layout)
        self._offset = offset
        self.end = offset + self._struct.size + _CRC.size

    def write(self, page: mmap.mmap, base: int, *values: float) -> None:
        data = self._struct.pack(*values)
        page[base + self._offset : base + self.end] = data + _CRC.pack(zlib.crc32(data))

    def read(self, page: mmap.mmap, base: int) -> tuple[Any, ...] | None:
        for _ in range(3):
            stored = page[base + self._offset : base + self.end]
            data = stored[: -_CRC.size]
            if not any(stored):
                break
            if _CRC.pack(zlib.crc32(data)) == stored[-_CRC.size :]:
                return self._struct.unpack(data)
        return None

    def clear(self, page: mmap.mmap, base: int) -> None:
        page[base + self._offset : base + self.end] = bytes(self.end - self._offset)


_OWNER = _Record("QQ", 0)  # pid, start time
_BEAT = _Record("dQII", _OWNER.end)  # heartbeat, unique bytes, state, in flight
_WISH = _Record("d", _BEAT.end)  # since when it wants to be recycled
_HOLDER = _Record("QQd", 0)  # who has the token: pid, start time, since when
_GRANT_COUNT = 16
_GRANTS = _Record(f"{_GRANT_COUNT}d{_GRANT_COUNT}I", _HOLDER.end)  # the last grants: when, to which slot


def slots_path(key: str) -> Path:
    """Where the workers of one service meet: ``key`` is anything that they share and other services do not.

    In memory where there is ``/dev/shm``, else in the temporary directory. Processes that count their ids or their
    time differently, in another container or before the last start of the machine, get another file.
    """
    parts = [key, str(os.geteuid())]
    with contextlib.suppress(OSError):
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text("ascii"), str(Path("/proc/self/ns/pid").readlink())]
    memory = Path("/dev/shm")
    if os.access(memory, os.W_OK | os.X_OK):
        directory = memory
    else:
        import tempfile  # seldom needed, and as long to load as the rest of this module

        directory = Path(tempfile.gettempdir())
    name = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:24]
    return directory / f"hotpath-{name}.slots1"


def process_start(pid: int) -> int | None:
    """A number that no other process with this id has had, or ``None`` when there is no such process any more."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        if Path("/proc/self/stat").exists():
            return None
        with contextlib.suppress(psutil.Error):
            return int(psutil.Process(pid).create_time() * 1e6)
        return None
    # A zombie has ended, its parent only has not looked yet. Field 22 of proc(5), counted from the third.
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


@dataclass(frozen=True, slots=True)
class Worker:
    """One living worker, as it last said. ``state`` is the number that its guard gave; sizes are in bytes."""

    slot: int
    pid: int
    started: int
    heartbeat: float
    state: int
    unique_bytes: int
    in_flight: int
    wants_recycle_since: float | None


class WorkerSlots:
    """This process's view of the page that all workers of a service share.

    ``path`` comes from ``slots_path``. Where something is that is not a file of this user alone, which anybody may have
    put there, the workers meet at a random name beside it. ``clock`` has to be one for all processes, as the monotonic
    clock is.
    ``hold_seconds`` is how long the one whose turn it is keeps the others at most.
    Raises ``UnusableSlots`` where the page cannot be made or is somebody else's. Methods may be called from any
    thread; a forked child takes a slot of its own.
    """

    def __init__(
        self,
        path: Path,
        *,
        hold_seconds: float = HOLD_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        process_start: Callable[[int], int | None] = process_start,
        own_pid: Callable[[], int] = os.getpid,
    ) -> None:
        self.path = self._known = path
        self._hold_seconds = hold_seconds
        self._clock = clock
        self._own_pid = own_pid
        self._process_start = process_start
        self._descriptor = -1
        self._page: mmap.mmap | None = None
        self._slot: int | None = None
        self._lock = threading.Lock()
        self._open()
        after_fork.register(self)

    @property
    def slot(self) -> int | None:
        """The number that this worker has, if it has one."""
        return self._slot

    def take(self) -> int | None:
        """The slot of this process, a free one or a dead worker's if it has none yet; ``None`` when all are taken."""
        with self._locked() as page:
            return self._take(page)

    def beat(self, *, state: int, unique_bytes: int, in_flight: int) -> None:
        """Say how this worker is. Without a slot, take one first if there is one."""
        page = self._follow()
        if self._slot is None:
            self.take()
            page = self._follow()
        if self._slot is not None:
            _BEAT.write(page, _base(self._slot), self._clock(), unique_bytes, state, in_flight)

    def workers(self) -> tuple[Worker, ...]:
        """All that are alive, by slot."""
        return self._workers(self._follow())

    def want_recycle(self, wanted: bool) -> None:
        """Say that this worker should be started afresh, or no longer; the token is given back with the wish."""
        with self._locked() as page:
            if self._slot is None:
                return
            base = _base(self._slot)
            if not wanted:
                _WISH.clear(page, base)
                self._give_back(page)
            elif _WISH.read(page, base) is None:
                _WISH.write(page, base, self._clock())

    def try_recycle(self) -> bool:
        """Whether this worker may leave now: nobody else is leaving, the last one left a while ago and another is in
        its place, and of all that want to and have been heard of lately this one is the largest. Stays true until it
        has left or wants to no longer.
        """
        with self._locked() as page:
            now = self._clock()
            if self._slot is None:
                return False
            holder = _HOLDER.read(page, 0)
            if holder is not None and holder[:2] == self._identity:
                return True
            if holder is not None and self._lives(holder[0], holder[1]) and 0 <= now - holder[2] < self._hold_seconds:
                return False
            grants = self._grants(page)
            if any(0 <= now - at < RECYCLE_APART_SECONDS for at, _ in grants):
                return False
            if any(0 <= now - at < self._hold_seconds and self._worker(page, slot) is None for at, slot in grants):
                return False
            if not self._is_next(page, now):
                return False
            _HOLDER.write(page, 0, *self._identity, now)
            kept = [(now, self._slot), *grants][:_GRANT_COUNT]
            kept += [(float("-inf"), 0)] * (_GRANT_COUNT - len(kept))
            _GRANTS.write(page, 0, *(at for at, _ in kept), *(slot for _, slot in kept))
            return True

    def recycles(self, within_seconds: float, *, of_this_slot: bool = False) -> int:
        """How often the token was given in this time, also to workers that are gone; of the last 16 times."""
        page = self._follow()
        now = self._clock()
        return sum(
            0 <= now - at <= within_seconds and (slot == self._slot or not of_this_slot)
            for at, slot in self._grants(page)
        )

    def release(self) -> None:
        """Give slot and token back and let go of the page: at a clean end, where nobody has to find out that this
        process is gone. The last one takes the file away, unless somebody has left lately to be started afresh.
        """
        with self._locked() as page:
            if self._slot is not None:
                self._give_back(page)
                _OWNER.clear(page, _base(self._slot))
                self._slot = None
            now = self._clock()
            if not self._workers(page) and not any(0 <= now - at < FORGET_SECONDS for at, _ in self._grants(page)):
                with contextlib.suppress(OSError):
                    self.path.unlink()
        with self._lock:
            self.let_go()

    def let_go(self) -> None:
        """Close the file and give nothing back."""
        self._page = None  # not closed: another thread may be reading it
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def restart_after_fork(self) -> None:
        """Let go of the parent's file, and with it of its lock; the next call takes a slot of this process's own."""
        self._lock = threading.Lock()
        self.let_go()
        self._slot = None

    def _open(self) -> mmap.mmap:
        self.let_go()
        before, self.path = self.path, self._place()
        if before not in (self.path, self._known):
            with contextlib.suppress(OSError):
                before.unlink()  # a random name that all have left, since they meet at another one
        try:
            # Not waiting: opening a FIFO would, for good.
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(self.path, flags, 0o600)
            try:
                facts = os.fstat(descriptor)
                if not _is_ours(facts):
                    raise UnusableSlots(self.path, "is not a file of this user alone; somebody else has made it")
                # Written, not only made longer: on a full file system this fails, and a page that has no place would
                # end the process at its first use.
                if facts.st_size < PAGE_BYTES:
                    os.pwrite(descriptor, bytes(PAGE_BYTES - facts.st_size), facts.st_size)
                page = mmap.mmap(descriptor, PAGE_BYTES)
            except BaseException:
                os.close(descriptor)
                raise
        except OSError as error:
            raise UnusableSlots(self.path, f"cannot be used: {error.strerror or error}") from error
        self._page = page
        self._descriptor = descriptor
        self._file = (facts.st_dev, facts.st_ino)
        pid = self._own_pid()
        started = self._process_start(pid)
        if started is None:
            raise UnusableSlots(self.path, "this system does not say when this process began")
        self._identity = (pid, started)
        self._slot = None
        return page

    def _follow(self) -> mmap.mmap:
        """The page; when the file was taken away, the one where the others are now."""
        page = self._page
        if page is not None and self._is_there():
            return page
        with self._lock:
            return self._open()

    def _is_there(self) -> bool:
        try:
            facts = self.path.stat()
        except FileNotFoundError:
            return False
        except OSError:
            return True  # nobody else gets there either
        is_same = (facts.st_dev, facts.st_ino) == self._file and facts.st_size >= PAGE_BYTES
        return is_same and (self.path == self._known or self._place() == self.path)

    def _place(self) -> Path:
        """Where the workers meet: the name that all of them know, or else the first of their own names beside it.

        Two that make one at the same moment meet at the first of both with their next look.
        """
        if _is_free_or_ours(self._known):
            return self._known
        pattern = f"{glob.escape(self._known.stem)}-*{self._known.suffix}"
        ours = sorted(path for path in self._known.parent.glob(pattern) if _is_free_or_ours(path))
        return ours[0] if ours else self._known.with_stem(f"{self._known.stem}-{secrets.token_hex(8)}")

    @contextlib.contextmanager
    def _locked(self) -> Iterator[mmap.mmap]:
        """The page, with nobody else about to give slots or the token away."""
        self._follow()
        with self._lock:
            page = self._page if self._page is not None else self._open()
            try:
                lock(self._descriptor)
                if not self._is_there():  # the last worker has ended while this one waited
                    page = self._open()
                    lock(self._descriptor)
            except OSError as error:
                raise UnusableSlots(self.path, f"cannot be locked: {error.strerror or error}") from error
            try:
                yield page
            finally:
                unlock(self._descriptor)

    def _take(self, page: mmap.mmap) -> int | None:
        owners = [_OWNER.read(page, _base(slot)) for slot in range(SLOTS)]
        if self._identity in owners:
            self._slot = owners.index(self._identity)
            return self._slot
        # The lowest, so that the numbers stay as few as the workers: they are labels of metrics.
        free = (slot for slot, owner in enumerate(owners) if owner is None or not self._lives(*owner))
        self._slot = next(free, None)
        if self._slot is not None:
            base = _base(self._slot)
            _WISH.clear(page, base)
            _BEAT.write(page, base, self._clock(), 0, 0, 0)
            _OWNER.write(page, base, *self._identity)
        return self._slot

    def _lives(self, pid: int, started: int) -> bool:
        return self._process_start(pid) == started

    def _workers(self, page: mmap.mmap) -> tuple[Worker, ...]:
        workers = (self._worker(page, slot) for slot in range(SLOTS))
        return tuple(worker for worker in workers if worker is not None)

    def _worker(self, page: mmap.mmap, slot: int) -> Worker | None:
        owner = _OWNER.read(page, _base(slot))
        if owner is None or not self._lives(*owner):
            return None
        heartbeat, unique_bytes, state, in_flight = _BEAT.read(page, _base(slot)) or (float("-inf"), 0, 0, 0)
        (wish,) = _WISH.read(page, _base(slot)) or (None,)
        pid, started = owner
        return Worker(slot, pid, started, heartbeat, state, unique_bytes, in_flight, wish)

    def _is_next(self, page: mmap.mmap, now: float) -> bool:
        waiting = [worker for worker in self._workers(page) if worker.wants_recycle_since is not None]
        mine = next((worker for worker in waiting if worker.slot == self._slot), None)
        if mine is None or mine.wants_recycle_since is None or now - mine.wants_recycle_since < SETTLE_SECONDS:
            return False
        return not any(
            (worker.unique_bytes, -worker.slot) > (mine.unique_bytes, -mine.slot)
            for worker in waiting
            if now - worker.heartbeat <= SILENT_SECONDS
        )

    def _give_back(self, page: mmap.mmap) -> None:
        holder = _HOLDER.read(page, 0)
        if holder is not None and holder[:2] == self._identity:
            _HOLDER.clear(page, 0)

    def _grants(self, page: mmap.mmap) -> list[tuple[float, int]]:
        values = _GRANTS.read(page, 0) or ()
        return list(zip(values[:_GRANT_COUNT], values[_GRANT_COUNT:], strict=True))


def _is_ours(facts: os.stat_result) -> bool:
    """A file that only this user can have made, and nobody else can open; not one of another name, linked here."""
    is_private = facts.st_uid == os.geteuid() and not facts.st_mode & 0o077
    return stat.S_ISREG(facts.st_mode) and is_private and facts.st_nlink == 1


def _is_free_or_ours(path: Path) -> bool:
    try:
        return _is_ours(path.lstat())
    except OSError:
        return True


def _base(slot: int) -> int:
    return _FIRST_SLOT + slot * SLOT_BYTES
