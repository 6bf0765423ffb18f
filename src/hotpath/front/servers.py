"""The commands of the servers that run an app on a Unix socket."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from typing import Final

from hotpath.errors import DeclarationError


def _uvicorn(app: str, path: str, workers: int) -> list[str]:
    # Whoever connects to the socket is the front: its X-Forwarded fields are true.
    command = [sys.executable, "-m", "uvicorn", app, "--uds", path, "--forwarded-allow-ips", "*"]
    return [*command, "--workers", str(workers)] if workers > 1 else command


def _gunicorn(app: str, path: str, workers: int) -> list[str]:
    command = [sys.executable, "-m", "gunicorn", app, "--bind", f"unix:{path}", "--workers", str(workers)]
    return [*command, "--worker-class", "uvicorn_worker.UvicornWorker", "--forwarded-allow-ips", "*"]


def _hypercorn(app: str, path: str, workers: int) -> list[str]:
    return [sys.executable, "-m", "hypercorn", app, "--bind", f"unix:{path}", "--workers", str(workers)]


def _granian(app: str, path: str, workers: int) -> list[str]:
    return [sys.executable, "-m", "granian", "--interface", "asgi", "--uds", path, "--workers", str(workers), app]


SERVERS: Final[dict[str, Callable[[str, str, int], list[str]]]] = {
    "uvicorn": _uvicorn,
    "gunicorn": _gunicorn,
    "hypercorn": _hypercorn,
    "granian": _granian,
}


def command_of(server: str, app: str, path: str, workers: int) -> list[str]:
    """How to start ``app`` on the socket ``path``: one of ``SERVERS``, or a command line with ``{socket}`` in it.

    Raises ``DeclarationError``.
    """
    if server in SERVERS:
        return SERVERS[server](app, path, workers)
    try:
        words = shlex.split(server)
    except ValueError as error:
        raise DeclarationError(f"--server {server!r}: {error}") from None
    if not any("{socket}" in word for word in words):
        raise DeclarationError(
            f"--server {server!r}: write {', '.join(SERVERS)}, or a command that listens on {{socket}}:"
            " 'gunicorn wsgi:app --bind unix:{socket}'"
        )
    return [word.replace("{socket}", path).replace("{app}", app) for word in words]
