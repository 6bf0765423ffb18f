"""The sockets that a front listens on: its own, or systemd's (sd_listen_fds(3)); and the directory of a front."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from hotpath.errors import DeclarationError

_FIRST_FD: Final = 3
BACKLOG: Final = 2048
CONTROL: Final = "control.sock"


def from_systemd(environ: Mapping[str, str] = os.environ) -> list[socket.socket]:
    """The sockets that systemd gave to this process; none where it gave none. Raises ``DeclarationError``."""
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = environ.get("LISTEN_FDS", "0")
    sockets = []
    for descriptor in range(_FIRST_FD, _FIRST_FD + (int(count) if count.isdigit() else 0)):
        try:
            sockets.append(socket.socket(fileno=descriptor))
        except OSError as error:
            raise DeclarationError(f"systemd says that descriptor {descriptor} is a socket: {error}") from None
    return sockets


def listen(host: str, port: int, *, reuse_port: bool = False) -> socket.socket:
    """A listening socket. Raises ``DeclarationError`` where that cannot be."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind((host, port))
            sock.listen(BACKLOG)
        except BaseException:
            sock.close()
            raise
    except (OSError, OverflowError) as error:
        problem = getattr(error, "strerror", None) or str(error)
        raise DeclarationError(f"{host}:{port}: {problem}; choose another with --host and --port") from None
    return sock


def listen_unix(path: Path) -> socket.socket:
    """A listening socket that only this user can open; one that nobody listens on any more is replaced."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.stat().st_mode):
            with socket.socket(socket.AF_UNIX) as other:
                try:
                    other.connect(str(path))
                except OSError:
                    path.unlink()
                else:
                    raise DeclarationError(f"{path}: another front listens there")
    sock = socket.socket(socket.AF_UNIX)
    try:
        before = os.umask(0o177)
        try:
            sock.bind(str(path))
        finally:
            os.umask(before)
        sock.listen(16)
    except OSError as error:
        sock.close()
        raise DeclarationError(f"{path}: {error.strerror or error}") from None
    return sock


def directory_of(port: int, environ: Mapping[str, str] = os.environ) -> Path:
    """Where the front of this port has its sockets, for its user alone: made where it is not there.

    systemd's ``RuntimeDirectory=`` if there is one. Raises ``DeclarationError`` where it is somebody else's.
    """
    above = environ.get("RUNTIME_DIRECTORY") or environ.get("XDG_RUNTIME_DIR")
    place = Path(above) if above else Path(tempfile.gettempdir()) / f"hotpath-{os.geteuid()}"
    path = place / f"front-{port}"
    for directory in (place, path):
        with contextlib.suppress(FileExistsError):
            directory.mkdir(mode=0o700)
        found = directory.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise DeclarationError(f"{directory} is not a directory of this user; remove it, or set XDG_RUNTIME_DIR")
    path.chmod(0o700)
    return path
