"""Where the app listens, and how one gets there."""

from __future__ import annotations

import asyncio
import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from hotpath.errors import DeclarationError
from hotpath.front.wire import Wire, is_reset


class Unreached(Exception):
    """Nobody took the connection, so nothing was sent.

    ``is_absent``: the app is not there. Otherwise it may be, and has too much to do to accept.
    """

    def __init__(self, reason: str, *, is_absent: bool = False) -> None:
        super().__init__(reason)
        self.is_absent = is_absent


@dataclass(frozen=True, slots=True)
class Address:
    """Where the app listens: ``host`` and ``port``, or the ``path`` of a Unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Address:
        """``http://127.0.0.1:8000`` or ``unix:/run/site.sock``. Raises ``DeclarationError`` for anything else."""
        advice = "write http://127.0.0.1:8000 or unix:/run/site.sock"
        if text.startswith("unix:"):
            path = text.removeprefix("unix:")
            path = path[2:] if path.startswith("///") else path
            if not path.startswith("/") or path.startswith("//") or "\0" in path:
                raise DeclarationError(f"{text!r}: the path of a Unix socket begins with /; {advice}")
            if len(path.encode()) > 107:  # sun_path, unix(7)
                raise DeclarationError(f"{text!r}: the path of a Unix socket has 107 bytes at most")
            return cls(path=path)
        try:
            parts = urlsplit(text)
            host, port = parts.hostname, parts.port
        except ValueError as problem:
            raise DeclarationError(f"{text!r}: {problem}; {advice}") from None
        if parts.scheme == "https":
            raise DeclarationError(f"{text!r}: the front speaks plain HTTP to the app; {advice}")
        if parts.scheme != "http" or not host or port == 0:
            raise DeclarationError(f"{text!r} is no address of an app; {advice}")
        if parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc:
            raise DeclarationError(f"{text!r}: only host and port, targets are passed on as they come; {advice}")
        return cls(host=host, port=port or 80)

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"http://{self.authority}"

    @property
    def authority(self) -> str:
        """What a request without ``Host`` gets as one."""
        if self.path:
            return "localhost"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def shows_unread(self, problem: BaseException) -> bool:
        """Whether a connection to here that ended with ``problem`` shows that not all that was sent has been read."""
        return bool(self.path) and is_reset(problem)

    async def connect(self, seconds: float) -> Wire:
        """A new connection. Raises ``Unreached``."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(seconds):
                if self.path:
                    _, wire = await loop.create_unix_connection(
                        lambda: Wire(loop, is_local=True), sock=_connect_unix(self.path)
                    )
                else:
                    _, wire = await loop.create_connection(lambda: Wire(loop, is_local=False), self.host, self.port)
        except TimeoutError:
            raise Unreached(f"no answer to a connect within {seconds:g} s") from None
        except OSError as problem:
            # EAGAIN: the backlog of a Unix socket is full.
            is_absent = not isinstance(problem, BlockingIOError | TimeoutError)
            raise Unreached(problem.strerror or str(problem), is_absent=is_absent) from None
        if wire.is_looped:
            wire.abort()
            raise Unreached("nobody listens", is_absent=True)
        return wire


def _connect_unix(path: str) -> socket.socket:
    """A connected socket. A full backlog is EAGAIN here, which asyncio would take for a connect that goes on."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.connect(path)
    except OSError:
        sock.close()
        if not _is_socket(path):
            raise OSError(f"no socket at {path}") from None
        raise
    return sock


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(Path(path).stat().st_mode)
    except OSError:
        return False
