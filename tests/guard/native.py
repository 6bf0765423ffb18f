"""What a native library does when memory runs out under RLIMIT_DATA: one per name, each in a process of its own.

python -m tests.guard.native         a line a library, as docs/explanation/guard.md has them
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import resource
import signal
import subprocess
import sys
from collections.abc import Callable

MIB = 1024 * 1024
ROOM = 64 * MIB
BEFORE = resource.getrlimit(resource.RLIMIT_DATA)


def _limit() -> None:
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
        mapped = int(file.read().split()[5]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (mapped + ROOM, hard))


def python_bytearray() -> None:
    """One large object."""
    _limit()
    bytearray(400 * MIB)


def python_small_objects() -> None:
    """Millions of small ones."""
    _limit()
    kept: list[dict[str, object]] = []
    while True:
        kept.append({"a": len(kept), "b": str(len(kept))})


def python_json() -> None:
    """A large text from the standard library."""
    import json

    value = ["x" * 1000] * 100_000
    _limit()
    json.dumps(value)


def orjson_dumps() -> None:
    """A large text from orjson."""
    import orjson

    value = ["x" * 1000] * 200_000
    _limit()
    orjson.dumps(value)


def orjson_loads() -> None:
    """A large document read by orjson."""
    import orjson

    data = b"[" + b",".join([b'{"a":[1,2,3],"b":"text"}'] * 1_000_000) + b"]"
    _limit()
    orjson.loads(data)


def numpy_zeros() -> None:
    """A large array."""
    numpy = importlib.import_module("numpy")
    _limit()
    numpy.ones(400 * MIB // 8)


def zlib_compress() -> None:
    """A large result of zlib."""
    import os
    import zlib

    data = os.urandom(100 * MIB)
    _limit()
    zlib.compress(data, 0)


def brotli_compress() -> None:
    """A large result of brotli."""
    import os

    import brotli  # type: ignore[import-untyped]

    data = os.urandom(100 * MIB)
    _limit()
    brotli.compress(data, quality=1)


def zstandard_compress() -> None:
    """A large result of zstandard."""
    import os

    import zstandard

    data = os.urandom(100 * MIB)
    _limit()
    zstandard.ZstdCompressor(level=1).compress(data)


def uvloop_write() -> None:
    """Data written to a peer that does not read, while memory runs out."""
    import uvloop  # type: ignore[import-untyped, unused-ignore]

    async def main() -> None:
        async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(60)

        server = await asyncio.start_server(hold, "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        _limit()
        while True:
            writer.write(bytearray(MIB))
            await asyncio.sleep(0)

    uvloop.run(main())


TRIALS: dict[str, tuple[str | None, Callable[[], None]]] = {
    "bytearray": (None, python_bytearray),
    "dicts": (None, python_small_objects),
    "json.dumps": (None, python_json),
    "zlib.compress": (None, zlib_compress),
    "orjson.dumps": ("orjson", orjson_dumps),
    "orjson.loads": ("orjson", orjson_loads),
    "numpy.ones": ("numpy", numpy_zeros),
    "brotli.compress": ("brotli", brotli_compress),
    "zstandard.compress": ("zstandard", zstandard_compress),
    "uvloop write": ("uvloop", uvloop_write),
}


def outcome(name: str) -> str:
    """``MemoryError``, another exception, the signal that ended it, or ``no error``."""
    package, _ = TRIALS[name]
    if package is not None and importlib.util.find_spec(package) is None:
        return "not installed"
    done = subprocess.run(
        [sys.executable, "-m", "tests.guard.native", name], capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode < 0:
        return f"killed by {signal.Signals(-done.returncode).name}"
    return done.stdout.strip() or f"ended with {done.returncode}"


def main() -> None:
    """Run one trial, or all."""
    if len(sys.argv) > 1:
        try:
            TRIALS[sys.argv[1]][1]()
        except BaseException as error:
            # What the trial holds is held by the error too, and to say its name takes memory.
            resource.setrlimit(resource.RLIMIT_DATA, BEFORE)
            print(type(error).__name__)
        else:
            print("no error")
        return
    for name, (package, _) in TRIALS.items():
        version = importlib.metadata.version(package) if package and importlib.util.find_spec(package) else ""
        print(f"| {name} | {version or sys.version.split()[0]} | {outcome(name)} |")


if __name__ == "__main__":
    main()
