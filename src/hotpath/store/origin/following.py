"""A thread that follows an origin: one of all the processes that serve from a store, whichever is there."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from importlib.util import find_spec

from hotpath.errors import DeclarationError, HotpathError, StoreBusy
from hotpath.log import Once, logger
from hotpath.options import counted, human_bytes
from hotpath.process import after_fork
from hotpath.process.fork import LOCK_DESCRIPTORS
from hotpath.store.directories import prepare
from hotpath.store.follow_record import FollowRecord, read_record, write_record
from hotpath.store.locks import give_back, take
from hotpath.store.origin.follower import DEFAULT_EVERY_SECONDS, Follower, Look
from hotpath.store.origin.hints import Hints
from hotpath.store.origin.origin import Origin
from hotpath.store.origin.url import OriginUrl
from hotpath.store.sharing import HINTS, ORIGIN, Sharing
from hotpath.store.store import Store

LOCK = "follow.lock"

# Gets each line about what changed here, and whether it is a problem.
Report = Callable[[str, bool], object]


def log_line(text: str, is_problem: bool) -> None:
    """The ``Report`` of a process that serves: problems are warnings."""
    (logger.warning if is_problem else logger.info)("hotpath: %s", text)


def hints_of(sharing: Sharing) -> Hints | None:
    """The server of hints, ``None`` where there is none. Sites that share a server do not hear each other.

    Raises ``DeclarationError``.
    """
    if sharing.hints is None or sharing.origin is None:
        return None
    return Hints(sharing.hints, "hotpath:" + "%20".join(OriginUrl.parse(sharing.origin).bare.split()))


def origin_of(sharing: Sharing) -> Origin:
    """The origin. Raises ``DeclarationError`` where there is none, or it cannot be used."""
    if sharing.origin is None:
        raise DeclarationError(
            f"there is no origin to follow: write --origin s3://bucket/site, {ORIGIN}, or Hotpath(…, origin=…)"
            + (f"; {HINTS} alone says nothing" if sharing.hints else "")
        )
    return Origin(sharing.origin)


def _check(sharing: Sharing) -> None:
    """Raise ``DeclarationError`` where nothing can be followed.

    Without loading the libraries: of several workers one follows, and the others would have 10 MiB of them for nothing.
    """
    if sharing.origin is None or find_spec("obstore") is None:
        origin_of(sharing)
    if sharing.hints is not None and find_spec("redis") is None:
        hints_of(sharing)


class Witness:
    """Keeps the record of the looks of a follower, and says what changed: each problem once until it is over."""

    def __init__(self, follower: Follower, report: Report) -> None:
        self._follower = follower
        self._report = report
        self._once = Once()
        self._has_failed = False
        self._record = read_record(follower.store)

    def saw(self, look: Look) -> None:
        """One look was taken."""
        for text, is_problem in self._lines(look):
            self._report(text, is_problem)
        follower, before = self._follower, self._record
        behind_since = look.time - look.lag_seconds if look.lag_seconds or look.error else None
        if behind_since is not None and before is not None and before.origin == follower.origin.url:
            # A follower that was restarted meanwhile knows of no time before its own.
            behind_since = min(behind_since, before.behind_since or behind_since)
        self._record = FollowRecord(
            follower.origin.url,
            follower.name,
            look.time,
            follower.every,
            look.generation,
            look.origin_generation,
            behind_since,
            look.error,
            look.is_ahead,
        )
        try:
            write_record(follower.store, self._record)
            self._once.forget("record")
        except (OSError, HotpathError) as error:
            self._once.warn(f"'hotpath status' and metrics do not show what the follower saw: {error}", "record")

    def _lines(self, look: Look) -> list[tuple[str, bool]]:
        if look.error is not None:
            self._has_failed = True
            stays = "nothing is served" if look.generation is None else f"generation {look.generation} stays served"
            return [(f"{look.error} ({stays})", True)] if self._once.is_new(look.error) else []
        lines = []
        if self._has_failed and not look.is_busy:
            self._has_failed = False
            self._once.clear()
            lines.append(("the origin is followed again", False))
        if look.changed:
            lines.append((change_line(look), False))
        return lines


def change_line(look: Look) -> str:
    """What a look changed, for people."""
    fetched = f"{counted(look.blobs, 'file')} ({human_bytes(look.bytes)}) fetched, {look.linked} were here"
    return f"generation {look.generation} is served: {fetched}"


class Following:
    """Keeps ``store`` at the generation of its origin, by a thread of this process from ``start`` on.

    Of all processes of a store one does it, and where that ends another one goes on. What fails is a line by
    ``report`` and in the store's record; nothing is raised for it. Raises ``DeclarationError`` where ``sharing`` has no
    origin, or one that cannot be used.
    """

    def __init__(
        self,
        store: Store,
        sharing: Sharing,
        *,
        every: float = DEFAULT_EVERY_SECONDS,
        report: Report = log_line,
    ) -> None:
        _check(sharing)
        self.sharing = sharing
        self.every = every
        self._store = store
        self._report = report
        self._lock: int | None = None
        self._forget()
        after_fork.register(self)

    def restart_after_fork(self) -> None:
        """The child has no thread, and must not keep the parent's lock; it follows once it is started itself."""
        if self._lock is not None:
            LOCK_DESCRIPTORS.discard(self._lock)
            os.close(self._lock)
            self._lock = None
        self._forget()

    def _forget(self) -> None:
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stop, self._wakeup = threading.Event(), threading.Event()

    def start(self) -> None:
        """Follow from now on. Idempotent; nothing of it waits for the origin."""
        with self._starting:
            if self._thread is None:
                thread = threading.Thread(
                    target=self._run, args=(self._stop, self._wakeup), name="hotpath-follow", daemon=True
                )
                try:
                    thread.start()
                except RuntimeError as error:  # no more threads in this process: another one may have room
                    self._report(f"the origin is not followed here: {error}", True)
                    return
                self._thread = thread

    def stop(self, timeout_seconds: float = 0.0) -> bool:
        """Follow no more; whether the thread has ended within that time. A request may hold it for a minute."""
        self._stop.set()
        self._wakeup.set()
        if self._thread is not None:
            self._thread.join(timeout_seconds)
            return not self._thread.is_alive()
        return True

    def _run(self, stop: threading.Event, wakeup: threading.Event) -> None:
        once = Once()
        while not stop.is_set():
            try:
                self._follow(stop, wakeup)
            except StoreBusy:  # another process follows
                once.clear()
            except BaseException as error:  # the thread is all there is, and a panic of obstore is no Exception
                if once.is_new(str(error)):
                    self._report(f"the origin is not followed: {error or type(error).__name__}", True)
            stop.wait(self.every)

    def _follow(self, stop: threading.Event, wakeup: threading.Event) -> None:
        store = self._store
        with store.explained():
            prepare(store.disk, store.root, new=True)
            self._lock = take(store.disk, store.root / LOCK, store.root)
        hints = None
        try:
            follower = Follower(store, origin_of(self.sharing), every=self.every, name=self.sharing.name)
            hints = hints_of(self.sharing)
            if hints is not None:
                hints.subscribe(wakeup)
            follower.run(stop, wakeup, Witness(follower, self._report).saw)
        finally:
            if hints is not None:
                hints.close()
            give_back(store.disk, self._lock)
            self._lock = None
