"""Status pages that run, and Chromium to look at them with."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
MISSING = "no Chromium; install it with: apt-get install chromium"
# Root has no sandbox for it; the shared memory of a container is small.
CHROMIUM_OPTIONS = ("--no-sandbox", "--disable-dev-shm-usage")
START_SECONDS = 60.0


@contextlib.contextmanager
def running(command: list[str], log: Path, environ: Mapping[str, str] | None = None, cwd: Path = ROOT) -> Iterator[int]:
    """A process, ended by its own id; gives that."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(ROOT), **(environ or {})},
        )
    try:
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(15)


@contextlib.contextmanager
def standalone(target: str, *options: str, cwd: Path = ROOT, environ: Mapping[str, str] | None = None) -> Iterator[str]:
    """``hotpath dashboard TARGET``; gives the address that it prints."""
    log = cwd / f"dashboard-{os.urandom(4).hex()}.log"
    command = [sys.executable, "-m", "hotpath", "dashboard", target, "--port", "0", *options]
    with running(command, log, environ, cwd):
        until = time.monotonic() + START_SECONDS
        while not (said := re.search(r"http://\S+", log.read_text("utf-8"))):
            assert time.monotonic() < until, log.read_text("utf-8")
            time.sleep(0.05)
        yield said[0]


@contextlib.contextmanager
def leaking(store: Path) -> Iterator[str]:
    """An app with a guard that leaks on request, with the status page mounted; gives its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "tests.dashboard.leaking_app:app", "--port", str(port)]
    log = store.parent / "leaking.log"
    with running([*command, "--log-level", "warning"], log, {"HOTPATH_LEAKING_STORE": str(store)}):
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                get(f"http://127.0.0.1:{port}/state")
                break
            except OSError:
                assert time.monotonic() < until, log.read_text("utf-8")
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"


def get(address: str) -> str:
    """The text of an answer. Raises ``OSError`` for any that is no 2xx."""
    with urllib.request.urlopen(address, timeout=30) as answer:
        return str(answer.read().decode())
