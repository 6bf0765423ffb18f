"""The listening sockets of the front: bound here, or handed over by systemd."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from hotpath.errors import HotpathError

# The kernel takes less where net.core.somaxconn says so.
BACKLOG: Final = 2048
# sd_listen_fds(3).
FIRST_DESCRIPTOR: Final = 3


class NoSocket(HotpathError):
    """There is no socket to listen on."""


def bind(host: str, port: int, *, reuse_port: bool = False, option: str = "--port") -> socket.socket:
    """A listening TCP socket. With ``reuse_port`` several processes may have one each.

    Raises ``NoSocket``, which names ``option`` where the port is in use.
    """
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        advice = {
            errno.EADDRINUSE: f"another process listens there; end it, or write another {option}",
            errno.EACCES: "ports below 1024 need root or AmbientCapabilities=CAP_NET_BIND_SERVICE",
            errno.EADDRNOTAVAIL: "this machine does not have that address; write --host 0.0.0.0 for all that it has",
        }.get(error.errno or 0, error.strerror or str(error))
        raise NoSocket(f"{where}: {advice}") from None
    return listener


def bind_unix(path: Path, mode: int = 0o666) -> socket.socket:
    """A listening Unix socket; a file that a dead process left there is replaced. Raises ``NoSocket``."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _take_away(path)
        listener.bind(str(path))
        path.chmod(mode)
        listener.listen(BACKLOG)
    except NoSocket:
        listener.close()
        raise
    except OSError as error:
        listener.close()
        raise NoSocket(f"{path}: {error.strerror or error}") from None
    return listener


def _take_away(path: Path) -> None:
    try:
        is_socket = stat.S_ISSOCK(path.lstat().st_mode)
    except FileNotFoundError:
        return
    if not is_socket:
        raise NoSocket(f"{path}: there is something else than a socket")
    with socket.socket(socket.AF_UNIX) as probe:
        if probe.connect_ex(str(path)) == 0:
            raise NoSocket(f"{path}: another process listens there")
    path.unlink()


def from_systemd(environ: Mapping[str, str] = os.environ, first: int = FIRST_DESCRIPTOR) -> list[socket.socket]:
    """The sockets that systemd listens on for this process; none where it gave none. Raises ``NoSocket``."""
    count = environ.get("LISTEN_FDS", "")
    if environ.get("LISTEN_PID") != str(os.getpid()) or not count.isdigit():
        return []
    listeners = []
    for descriptor in range(first, first + int(count)):
        try:
            listener = socket.socket(fileno=descriptor)
            is_listening = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError as error:
            raise NoSocket(f"descriptor {descriptor} of systemd is no socket ({error.strerror})") from None
        if not is_listening or listener.type != socket.SOCK_STREAM:
            listener.close()
            raise NoSocket(f"descriptor {descriptor} of systemd does not listen; write ListenStream= and Accept=no")
        os.set_inheritable(descriptor, False)
        listeners.append(listener)
    return listeners


def address_of(listener: socket.socket) -> str:
    """Where it listens, as people write it."""
    name = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return f"unix:{name}"
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"http://{host}:{name[1]}"
