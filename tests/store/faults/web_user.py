"""What a process of another user can do with a store: ``python -m tests.store.faults.web_user UID ROOT``.

Everything is done once before the user is changed, so that all modules are loaded: that user may not be able to see the
interpreter's home.
"""

from __future__ import annotations

import encodings.ascii  # noqa: F401  (a worker reads proc(5) with it)
import json
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from hotpath.batch.run import build
from hotpath.errors import StoreError
from hotpath.ops.status import lines, status
from hotpath.serving import reader_of
from hotpath.site import Hotpath
from hotpath.store.store import Store
from tests.store.faults.sites import Calls, get, site_of


def answers(root: Path) -> dict[str, object]:
    """What it serves, and what is wrong with the store in its eyes."""
    hot = site_of(Store(root))
    answer = get(hot, "/n")
    reader_of(hot).close()
    return {"status": answer.status, "body": answer.body.decode(), "degraded": reader_of(hot).loader.degraded}


def unreadable(root: Path) -> list[str]:
    """What of the store it cannot read, as nginx or another program would."""
    found: list[str] = []
    for directory, _, names in os.walk(root, onerror=lambda error: found.append(str(error.filename))):
        for path in (Path(directory, name) for name in names):
            try:
                path.read_bytes()
            except OSError:
                found.append(str(path))
    return found


def written(root: Path) -> list[str]:
    """What of the store it can change: each file and directory is tried in every way there is."""
    found: list[str] = []

    def attempt(what: str, path: Path, act: Callable[[], object]) -> None:
        try:
            act()
        except OSError:
            return
        found.append(f"{what} {path}")

    for path in [root, *root.rglob("*")]:
        attempt("chmod", path, partial(path.chmod, 0o777))
        attempt("utime", path, partial(os.utime, path))
        attempt("rename", path, partial(path.rename, f"{path}.moved"))
        if path.is_dir():
            attempt("mkdir in", path, (path / "new").mkdir)
            attempt("create in", path, (path / "new").touch)
        else:
            attempt("truncate", path, partial(os.truncate, path, path.stat().st_size))
            attempt("unlink", path, path.unlink)
    return found


def built(root: Path, ran: Calls) -> str:
    """What a build of its own says."""
    hot = Hotpath(root)

    @hot.route("/n")
    def page() -> dict[str, int]:
        ran.add()
        return {"by": os.geteuid()}

    try:
        return f"published {build(hot).published.generation}"
    except StoreError as error:
        return str(error)


def seen(root: Path) -> list[str]:
    """What ``hotpath status`` says."""
    return lines(status(Store(root)))


def edited(root: Path) -> list[str]:
    """The published files that it can open for writing, as an editor does."""
    found = []
    for path in [*root.glob("generations/**/*"), root / "CURRENT"]:
        if path.is_file():
            try:
                path.open("r+b").close()
            except PermissionError:
                continue
            found.append(str(path))
    return found


def main(uid: int, root: Path, *what: str) -> None:
    ran = Calls()
    acts: dict[str, Callable[[], object]] = {
        "answers": lambda: answers(root),
        "unreadable": lambda: unreadable(root),
        "written": lambda: written(root),
        "built": lambda: built(root, ran),
        "seen": lambda: seen(root),
        "edited": lambda: edited(root),
    }
    answers(root)
    built(root.parent / "warm-up", Calls())
    os.setgid(uid)
    os.setuid(uid)
    found = {name: acts[name]() for name in what}
    print(json.dumps({**found, "uid": os.geteuid(), "functions run": len(ran)}))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
