"""The command lines of the servers that can run the app, each on a Unix socket."""

from __future__ import annotations

import re
import shlex
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from hotpath.errors import DeclarationError
from hotpath.options import parse_count

# Arguments after "python -m". Only the front can connect, so the servers that know X-Forwarded-* may believe them.
_SERVERS: Final[Mapping[str, str]] = {
    "uvicorn": "uvicorn --uds {socket} --forwarded-allow-ips * {app}",
    "granian": "granian --interface asgi --uds {socket} --workers {workers} {app}",
    "gunicorn": "gunicorn --bind unix:{socket} --workers {workers} --worker-class asgi --forwarded-allow-ips * {app}",
    "hypercorn": "hypercorn --bind unix:{socket} --workers {workers} {app}",
}

_PLACE: Final = re.compile(r"\{(?:socket|app|workers)\}")

_OURS: Final = (
    *("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"),
    "HOTPATH_ADMIN_TOKEN",
)


@dataclass(frozen=True, slots=True)
class ServerCommand:
    """How to start the app. ``death_signal`` is what its first process gets when the front dies."""

    words: tuple[str, ...]
    app: str
    workers: int
    death_signal: signal.Signals

    @classmethod
    def of(cls, server: str, app: str, workers: int = 1) -> ServerCommand:
        """``uvicorn``, ``granian``, ``gunicorn``, ``hypercorn``, or a command that names ``{socket}``.

        A command may name ``{app}`` and ``{workers}`` too. Raises ``DeclarationError``.
        """
        parse_count(workers, "--workers")
        known = _SERVERS.get(server)
        if known is None:
            words = _own(server)
        elif find_spec(server) is None:
            raise DeclarationError(f"--server {server}: it is not installed here; pip install {server}")
        else:
            words = [sys.executable, "-m", *known.split()]
            if server == "uvicorn" and workers > 1:
                words[-1:-1] = ["--workers", "{workers}"]
        # A first process that only looks after workers has to end them, which it cannot when it is killed.
        is_alone = server == "uvicorn" and workers == 1
        return cls(tuple(words), app, workers, signal.SIGKILL if is_alone else signal.SIGTERM)

    def at(self, socket: Path) -> list[str]:
        """The command that listens on ``socket``."""
        values = {"{socket}": str(socket), "{app}": self.app, "{workers}": str(self.workers)}
        return [_filled(word, values) for word in self.words]


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What a process of the site inherits: not what systemd has told this one, in whose name it would answer."""
    return {name: value for name, value in environ.items() if name not in _OURS}


def _own(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise DeclarationError(f"--server {command!r}: {error}") from None
    if not any("{socket}" in word for word in words):
        raise DeclarationError(
            f"--server {command!r}: write {', '.join(_SERVERS)}, or a command with {{socket}} where the path of the"
            " Unix socket goes: 'uvicorn --uds {socket} --http h11 {app}'"
        )
    return words


def _filled(word: str, values: Mapping[str, str]) -> str:
    return _PLACE.sub(lambda match: values.get(match[0], match[0]), word)
