"""Plant a link, FIFO or second name in a store and run commands on it, in a process that may be stopped.

``python -m tests.store.faults.planting KIND DIRECTORY COMMAND…`` writes a line of JSON for each case before it is run,
and one with what came of it. A case that takes ten seconds ends the process with SIGALRM.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from hotpath.errors import Implausible, StoreError
from hotpath.ops.status import status
from hotpath.pages.policy import Policy
from hotpath.serving import reader_of
from hotpath.store.prune import prune
from hotpath.store.publish import staging
from hotpath.store.quarantine import approve
from hotpath.store.repair import repair
from hotpath.store.store import Store
from hotpath.store.verify import verify
from tests.store.faults.sites import get, site_of

SECONDS = 10
POLICY = Policy("/{page}", "application/json", "public", None, 3600)
TARGETS = ("/a", "/sub/b", "/same")
GENERATIONS = (1, 2, 3)
PUBLISHED, REJECTED, NEXT = 3, 4, 5

KINDS: dict[str, Callable[[Path, Path], object]] = {
    "link to a file": lambda path, outside: path.symlink_to(outside / "precious"),
    "link to nothing": lambda path, outside: path.symlink_to(outside / "new"),
    "link to a directory": lambda path, outside: path.symlink_to(outside / "tree"),
    "FIFO": lambda path, outside: os.mkfifo(path),
    "hard link": lambda path, outside: path.hardlink_to(outside / "precious"),
}

PLACES = (
    "lock",
    "CURRENT",
    "PIN",
    "BAD",
    "history.jsonl",
    ".new-CURRENT",
    ".new-PIN",
    ".new-BAD",
    ".new-current",
    ".new-repaired",
    ".trash-1",
    ".stage-{pid}",
    "current",
    "generations",
    "generations/2",
    "generations/3",
    "generations/5",
    "generations/3/manifest.json",
    "generations/3/files",
    "generations/3/files/a.json",
    "generations/3/files/sub",
    "quarantine",
    "quarantine/2",
    "quarantine/4",
    "quarantine/4/report.json",
)


def body(target: str, number: int) -> bytes:
    if target == "/same":  # so that a repair has where to take it from
        number = 0
    return b'{"page":"%s","n":%d}' % (target.encode(), number)


def publish(store: Store, number: int, problems: tuple[str, ...] = ()) -> list[str]:
    """All pages with this number; returns the warnings."""
    with staging(store) as stage:
        for target in TARGETS:
            stage.add(target, f"{target[1:]}.json", body(target, number), POLICY)
        return list(stage.publish((lambda manifest, previous: list(problems)) if problems else None).warnings)


def reject(store: Store, number: int) -> None:
    try:
        publish(store, number, ("half of the rows are missing",))
    except Implausible:
        return
    raise AssertionError("it was accepted")


def read(store: Store) -> None:
    """What a process that starts now answers: only bytes that were published for that page, or the app does."""
    hot = site_of(store)
    for target in TARGETS:
        answer = get(hot, target)
        good = {body(target, number) for number in (*GENERATIONS, REJECTED, NEXT, NEXT + 1)}
        assert answer.status == 418 or answer.body in good, answer
    reader_of(hot).close()


COMMANDS: dict[str, Callable[[Store], object]] = {
    "publish": lambda store: publish(store, NEXT),
    "put in quarantine": lambda store: reject(store, NEXT),
    "approve": lambda store: approve(store, REJECTED, "the market was closed"),
    "rollback": lambda store: store.rollback(),
    "rollback to 1": lambda store: store.rollback(to=1),
    "pin": lambda store: store.pin(2),
    "unpin": lambda store: store.unpin(),
    "prune": lambda store: prune(store, 1),
    "verify": verify,
    "repair": repair,
    "status": status,
    "read": read,
}


def prepare(directory: Path) -> None:
    """A store with three generations and one in quarantine, and precious things beside it."""
    store = Store(directory / "hot", keep=2)
    for number in GENERATIONS:
        publish(Store(store.root, keep=9), number)
    reject(store, REJECTED)
    outside = directory / "outside"
    tree = outside / "tree"
    (tree / "sub").mkdir(parents=True)
    (outside / "precious").write_text("precious")
    (outside / "precious").chmod(0o600)
    (tree / "a.json").write_text('"precious"')
    for number in range(10):
        (tree / str(number)).mkdir()
        (tree / str(number) / "precious").write_text("precious")


def state_of(outside: Path) -> list[tuple[str, int, bytes]]:
    """Every name outside of the store with its mode and bytes."""
    paths = sorted([outside, *outside.rglob("*")])
    return [(str(path), path.lstat().st_mode, path.read_bytes() if path.is_file() else b"") for path in paths]


def plant(root: Path, place: str, kind: str) -> None:
    path = root / place.format(pid=os.getpid())
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    KINDS[kind](path, root.parent / "outside")


def attempt(place: str, command: str, kind: str, prepared: Path, case: Path) -> dict[str, object]:
    """One command on a store with one thing planted: what it said, and whether anything outside is another."""
    shutil.rmtree(case, ignore_errors=True)
    shutil.copytree(prepared, case, symlinks=True)
    outside = case / "outside"
    plant(case / "hot", place, kind)
    before = state_of(outside)
    store = Store(case / "hot", keep=2)
    error, told, refused = "", "", False
    try:
        told = str(COMMANDS[command](store) or "")
    except Exception as caught:
        error, told, refused = type(caught).__name__, str(caught), isinstance(caught, StoreError)
    changed = sorted({name for name, *_ in set(before) ^ set(state_of(outside))})
    return {"error": error, "told": told, "refused": refused, "changed": changed}


def main(kind: str, directory: Path, *commands: str) -> None:
    prepared = directory / "prepared"
    prepared.mkdir()
    prepare(prepared)
    for place in PLACES:
        for command in commands:
            print(json.dumps({"place": place, "command": command}), flush=True)
            signal.alarm(SECONDS)
            print(json.dumps(attempt(place, command, kind, prepared, directory / "case")), flush=True)
            signal.alarm(0)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
