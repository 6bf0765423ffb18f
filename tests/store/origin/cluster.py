"""Machines that serve: a store, a follower and the read side of the site, each with its own way to a real engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import orjson

from hotpath.errors import Implausible, StoreBusy
from hotpath.pages.policy import Policy
from hotpath.serving.reader import reader_of
from hotpath.serving.rfc9110 import IDENTITY
from hotpath.serving.snapshot import Snapshot
from hotpath.site import Hotpath
from hotpath.store.origin import Follower, Look, Origin
from hotpath.store.publish import staging
from hotpath.store.store import Store

PAGES = 4


def publish(store: Store, mark: int, problem: str | None = None) -> int:
    """One generation of tiny pages, each of which says ``mark``; the last is the same in every generation.

    With ``problem`` it goes into quarantine. Waits for the store's own follower where that has the lock.
    """
    deadline = time.monotonic() + 15
    while True:
        try:
            return _publish(store, mark, problem)
        except StoreBusy:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _publish(store: Store, mark: int, problem: str | None) -> int:
    policy = Policy("/{page}", "application/octet-stream", "public", None, 3600)
    with staging(store) as stage:
        for number in range(PAGES):
            body = orjson.dumps({"page": number, "mark": mark})
            stage.add(f"/p{number}", f"p{number}.json", body, policy)
        stage.add("/same", "same.json", b'"always"', policy)
        try:
            return stage.publish(problems=[problem] if problem else []).generation
        except Implausible as error:
            return error.sequence


def mark_of(snapshot: Snapshot) -> int:
    """What all pages of a snapshot say. Fails where they do not say the same, or one is absent."""
    bodies = {key.decode(): page.variants[IDENTITY] for key, page in snapshot.pages.items()}
    assert sorted(bodies) == [*(f"/p{number}" for number in range(PAGES)), "/same"]
    marks = set()
    for key, answer in bodies.items():
        assert answer is not None
        if key != "/same":
            facts = orjson.loads(bytes(bytearray(answer.body)))
            assert facts["page"] == int(key[2:])
            marks.add(facts["mark"])
    assert len(marks) == 1, f"half a generation is served: {marks}"
    return int(marks.pop())


class Machine:
    """Follows and serves in threads of its own from ``start`` to ``stop``, and checks all that it serves meanwhile."""

    def __init__(self, root: Path, url: str, every: float = 0.2) -> None:
        self.store = Store(root)
        self.origin = Origin(url)
        self.follower = Follower(self.store, self.origin, every=every, name=root.name)
        self.hot = Hotpath(root, refresh=0.02)
        self.wakeup = threading.Event()
        self.marks: list[int] = []
        self.problems: list[str] = []
        self.errors = 0
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        reader_of(self.hot).start()
        for work in (self._follow, self._check):
            thread = threading.Thread(target=work, daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        self._stop.set()
        self.wakeup.set()
        for thread in self._threads:
            thread.join(90)
        reader_of(self.hot).close()

    def look(self) -> Look:
        """One look of a machine that was not started."""
        return self.follower.look()

    def files(self) -> dict[str, bytes]:
        """The files of what is served, by their names, after each digest was verified."""
        sequence = self.store.chosen_sequence()
        assert self.store.verify_generation(sequence) == []
        root = self.store.files_path(sequence)
        found = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        return {**found, "manifest.json": self.store.manifest_path(sequence).read_bytes()}

    def serves(self, mark: int, seconds: float = 30.0) -> bool:
        """Whether it comes to serve this mark in time."""
        return until(lambda: self.marks[-1:] == [mark], seconds)

    def _follow(self) -> None:
        try:
            self.follower.run(self._stop, self.wakeup)
        except Exception as error:  # a follower has to live
            self.problems.append(f"the follower died: {error!r}")

    def _check(self) -> None:
        reader, seen = reader_of(self.hot), None
        while not self._stop.is_set():
            snapshot = reader.snapshot
            if snapshot is not seen and snapshot.generation is not None:
                seen = snapshot
                try:
                    mark = mark_of(snapshot)
                    if self.marks[-1:] != [mark]:
                        self.marks.append(mark)
                except Exception as error:
                    self.problems.append(repr(error))
            time.sleep(0.005)


def until(condition: Callable[[], object], seconds: float = 30.0) -> bool:
    """Whether the condition comes true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
