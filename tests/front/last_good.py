"""``hotpath front --last-good`` as a process of its own before an origin of the tests."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.front.failing_origin import Origin
from tests.front.serving import Serving

PATIENCE = "0.8s"
READY = "hotpath: serving on"


def another_port() -> int:
    """A port that ``free_port`` never gives, so that one process can have both."""
    for port in range(16000 + os.getpid() % 3000, 20000):
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")


@contextlib.contextmanager
def origin() -> Iterator[Origin]:
    """An origin until the end of the block."""
    made = Origin().start()
    try:
        yield made
    finally:
        made.stop()


@contextlib.contextmanager
def front(
    site: Path, to: Origin, *options: str, environ: Mapping[str, str] | None = None, **more: Any
) -> Iterator[Serving]:
    """A front with last good answers before ``to``, once it accepts."""
    given = {"--last-good": "64MiB", "--patience": PATIENCE, "--hold": "1s", "--to": f"http://127.0.0.1:{to.port}"}
    for name in [name for name in given if name in options]:
        del given[name]
    words = [word for pair in given.items() for word in pair]
    made = Serving(site, "front", "store", "--port", "{port}", *words, *options, environ=environ, **more)
    try:
        made.wait_for(READY)
        yield made
    finally:
        made.stop()
