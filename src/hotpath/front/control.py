"""``hotpath reload``, ``pause`` and ``resume``: where running fronts are, and how they are asked.

Each front has a directory of its own, which only its user may enter, with the sockets of the app and one for commands.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import orjson
import psutil

from hotpath.errors import DeclarationError, HotpathError

SOCKET: Final = "control.sock"
# unix(7): sun_path has 108 bytes with the final zero; the longest name here is "app-999999.sock".
MAX_PATH: Final = 107 - len("/app-999999.sock")


# How the names of files that say where an app's store is begin.
STORE_PREFIX: Final = "store-"


class NoFront(HotpathError):
    """There is no front to ask, or more than one."""


def base_directory(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the directories of this user's fronts are: in ``HOTPATH_RUN``, ``XDG_RUNTIME_DIR``, ``/run`` or ``/tmp``.

    Made where it is missing. Raises ``DeclarationError`` for one that others may write to.
    """
    own, session = environ.get("HOTPATH_RUN"), environ.get("XDG_RUNTIME_DIR")
    if own:
        base = Path(own).absolute()
    elif session:
        base = Path(session) / "hotpath"
    elif os.geteuid() == 0:
        base = Path("/run/hotpath")
    else:
        base = Path(tempfile.gettempdir()) / f"hotpath-{os.geteuid()}"
    try:
        base.mkdir(mode=0o700, exist_ok=True)
        state = base.lstat()
    except OSError as error:
        raise DeclarationError(f"{base}: {error.strerror}; set HOTPATH_RUN to a directory of your own") from None
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.geteuid() or state.st_mode & 0o022:
        raise DeclarationError(f"{base} can be changed by others; set HOTPATH_RUN to a directory of your own")
    return base


def make_directory(base: Path) -> Path:
    """A new directory of this process, 0700; those of processes that are gone are taken away."""
    for other in base.iterdir():
        pid = _pid_of(other)
        # Its number may be of another container, which has this directory too.
        if pid is not None and not psutil.pid_exists(pid) and not _answers(other / SOCKET):
            shutil.rmtree(other, ignore_errors=True)
    own = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=base))
    if len(os.fsencode(own)) > MAX_PATH:
        own.rmdir()
        raise DeclarationError(f"{base} is too long for a Unix socket; set HOTPATH_RUN to a shorter path")
    return own


def remember_store(base: Path, app: str, root: Path) -> None:
    """Note that the hot pages of ``app``, in this working directory, are in the store ``root``."""
    path = _store_note(base, app)
    new = path.with_suffix(f".{os.getpid()}")
    with contextlib.suppress(OSError):  # without it a later start asks the app, as this one did
        new.write_bytes(os.fsencode(root))
        new.replace(path)


def remembered_store(base: Path, app: str) -> Path | None:
    """What ``remember_store`` noted last; ``None`` where there is no such directory now."""
    try:
        root = Path(os.fsdecode(_store_note(base, app).read_bytes()))
    except OSError:
        return None
    return root if root.is_absolute() and root.is_dir() else None


def _store_note(base: Path, app: str) -> Path:
    name = hashlib.sha256(os.fsencode(Path.cwd()) + b"\0" + app.encode()).hexdigest()[:16]
    return base / f"{STORE_PREFIX}{name}"


def _pid_of(directory: Path) -> int | None:
    number, dash, _ = directory.name.partition("-")
    return int(number) if dash and number.isdigit() else None


def find(pid: int | None, base: Path | None = None) -> Path:
    """The command socket of the front with this process id, by default of the only one. Raises ``NoFront``."""
    base = base_directory() if base is None else base
    sockets = {_pid_of(path.parent): path for path in base.glob(f"*/{SOCKET}") if _answers(path)}
    running = {number: path for number, path in sockets.items() if number is not None}
    if pid is not None and pid not in running:
        raise NoFront(f"no front with process id {pid} runs as this user ({base})")
    if not running:
        raise NoFront(f"no front runs as this user ({base}; HOTPATH_RUN has to be the front's)")
    if pid is None and len(running) > 1:
        raise NoFront(f"several fronts run; write --pid with one of {', '.join(map(str, sorted(running)))}")
    return running[pid] if pid is not None else next(iter(running.values()))


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, seconds: float) -> None:
        super().__init__("localhost", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def command(path: Path, name: str, seconds: float = 600.0) -> str:
    """Ask for ``/reload``, ``/pause?seconds=30`` or ``/resume``; what the front says. Raises ``NoFront`` with that."""
    connection = _Connection(path, seconds)
    try:
        connection.request("POST", name)
        answer = connection.getresponse()
        message = str(orjson.loads(answer.read())["message"])
    except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
        raise NoFront(f"{path}: the front gave no answer ({error})") from None
    finally:
        connection.close()
    if answer.status != 200:
        raise NoFront(message)
    return message
