"""A small site in a directory of its own, and ways to run its batch and to ask it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from hotpath.asgi.middleware import HotpathMiddleware
from hotpath.errors import StoreError
from hotpath.pages.policy import Policy
from hotpath.serving import reader_of
from hotpath.site import Hotpath
from hotpath.store.pointer import Pointer
from hotpath.store.publish import Published, staging
from hotpath.store.store import Store
from hotpath.testing import Response, asgi_get

POLICY = Policy("/{page}", "application/json", "public, max-age=60", None, 3600)
APP_STATUS = 418

# ``hold`` makes the batch wait in the middle, so that something else can happen meanwhile.
MODULE = """
import os, pathlib, time
from hotpath import Hotpath

hot = Hotpath({root!r}, keep={keep})
here = pathlib.Path(__file__).parent

@hot.route("/n")
def n():
    (here / "running").touch()
    while (here / "hold").exists():
        time.sleep(0.01)
    return {{"made": time.time_ns(), "by": os.getpid()}}
"""


def write_module(directory: Path, root: Path, keep: int = 5) -> None:
    """``site:hot``, importable from ``directory``."""
    (directory / "nightly.py").write_text(MODULE.format(root=str(root), keep=keep))


def command(directory: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start the ``hotpath`` command."""
    return subprocess.Popen(
        [sys.executable, "-m", "hotpath", *arguments],
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )


def run(directory: Path, *arguments: str) -> tuple[int, str]:
    """Run the ``hotpath`` command; (exit code, all it said)."""
    process = command(directory, *arguments)
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert "Traceback" not in err, err
    return process.returncode, out + err


def await_true(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.005)


class Calls:
    """Counts calls of a function in whatever process the batch runs it: a file without a name, which children share."""

    def __init__(self) -> None:
        self._descriptor, name = tempfile.mkstemp()
        Path(name).unlink()

    def __del__(self) -> None:
        os.close(self._descriptor)

    def add(self) -> None:
        os.write(self._descriptor, b".")

    def __len__(self) -> int:
        return os.fstat(self._descriptor).st_size


def refusal(act: Callable[[], object]) -> StoreError | None:
    """What a writer is refused with, or ``None`` where it did its work."""
    try:
        act()
    except StoreError as error:
        return error
    return None


def published_numbers(store: Store) -> list[int]:
    """The number of every publish in the order of the history, which may only ever increase."""
    lines = map(orjson.loads, store.history_path.read_bytes().splitlines())
    numbers = [line["sequence"] for line in lines if line["event"] == "publish"]
    assert numbers == sorted(set(numbers))
    return numbers


def litter(store: Store) -> list[str]:
    """What is unfinished in a store: stages, trash, temporaries."""
    return sorted(path.name for path in store.root.iterdir() if path.name.startswith("."))


def publish(store: Store, **pages: bytes) -> Published:
    """One generation: ``publish(store, a=b"[1]")`` has the page /a."""
    with staging(store) as stage:
        for name, body in pages.items():
            stage.add(f"/{name}", f"{name}.json", body, POLICY)
        return stage.publish()


async def the_app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": APP_STATUS, "headers": []})
    await send({"type": "http.response.body", "body": b"the app"})


def edit(path: Path, data: bytes) -> None:
    """Write a file in place, as nobody does by accident with what is published."""
    if path.exists():
        path.chmod(path.stat().st_mode | 0o200)
    path.write_bytes(data)


def rewrite_manifest(store: Store, sequence: int, change: Callable[[bytes], bytes]) -> None:
    """A manifest with all its digests right, and the pointer to it, as only who owns the store can write it."""
    path = store.manifest_path(sequence)
    text, mark, _ = path.read_bytes().rpartition(b'],"sha256":"')
    text = change(text)
    edit(path, text + mark + hashlib.sha256(text).hexdigest().encode() + b'"}\n')
    edit(store.current_path, Pointer(sequence, hashlib.sha256(path.read_bytes()).digest()).encode())


def site_of(store: Store) -> Hotpath:
    """A process that serves this store; it looks again only when told (``reader_of(hot).refresh()``)."""
    hot = Hotpath(store.root, refresh=3600)
    hot.store.disk = store.disk
    reader_of(hot).refresh()
    return hot


def get(hot: Hotpath, target: str) -> Response:
    """What a client of that process gets."""
    return asyncio.run(asgi_get(HotpathMiddleware(the_app, hot=hot), target))
