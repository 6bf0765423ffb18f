"""A thousand generations are published under load, one kept: every answer is whole, and the server does not grow."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hotpath.store.store import Store
from tests.store.crash import publisher

REPOSITORY = Path(__file__).resolve().parents[3]

SWAPS = 1000
CLIENTS = 6

# It takes half a minute; one that takes this long is stuck.
LONGEST_SECONDS = 600

# The server's descriptors are counted this many times in the run, and what it opens in passing is a file or two.
DESCRIPTORS_IN_PASSING = 4

# What 800 generations may add to a process that has seen 200: less than 10 KB each would be seen.
GROWTH_BYTES = 8 * 1024 * 1024


@dataclass
class Seen:
    """What the clients were answered: for each generation and key the digests of the bodies and the entity tags."""

    answers: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    pages: dict[tuple[int, str], set[tuple[str, str]]] = field(default_factory=lambda: defaultdict(set))


@dataclass(frozen=True)
class Sample:
    descriptors: int
    resident_bytes: int


def sample(pid: int) -> Sample:
    descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return Sample(descriptors, pages * os.sysconf("SC_PAGE_SIZE"))


@contextmanager
def serving(root: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """uvicorn in a process of its own, on a socket that is bound here."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        port = listener.getsockname()[1]
        descriptor = listener.fileno()
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.store.crash.swapped", str(root), str(descriptor)],
            cwd=REPOSITORY,
            pass_fds=[descriptor],
        )
        try:
            yield process, port
        finally:
            process.terminate()
            try:
                process.wait(20)
            finally:
                process.kill()


async def read(port: int, number: int, seen: Seen, ended: asyncio.Event) -> None:
    """One client: asks for one page after the other on one connection, as fast as it is answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    turn = number
    try:
        while not ended.is_set():
            key = publisher.KEYS[turn % len(publisher.KEYS)]
            turn += 1
            writer.write(f"GET {key} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            fields = {name.lower(): value for name, value in re.findall(r"^([^:\r\n]+): *([^\r\n]*)", head, re.M)}
            body = await reader.readexactly(int(fields["content-length"]))
            seen.answers += 1
            if head.split(" ", 2)[1] != "200":
                seen.errors[head.splitlines()[0]] += 1
                continue
            generation = int(fields["x-hotpath-generation"])
            seen.pages[generation, key].add((hashlib.sha256(body).hexdigest(), fields["etag"]))
    finally:
        writer.close()


async def swap_under_load(root: Path, port: int, pid: int) -> tuple[Seen, dict[int, dict[str, str]], list[Sample]]:
    """Publish, read and watch the server's process until all generations are published."""
    seen, published, samples = Seen(), {}, []
    ended = asyncio.Event()
    clients = [asyncio.create_task(read(port, number, seen, ended)) for number in range(CLIENTS)]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.store.crash.publisher", str(root), str(port), str(SWAPS)),
        cwd=REPOSITORY,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(LONGEST_SECONDS):
            async for line in process.stdout:
                generation, digests = json.loads(line)
                published[generation] = digests
                if len(published) % 20 == 0:
                    samples.append(sample(pid))
            assert await process.wait() == 0
            ended.set()
            await asyncio.gather(*clients)
    finally:
        if process.returncode is None:
            process.kill()
        for client in clients:
            client.cancel()
    return seen, published, samples


@pytest.mark.slow
def test_a_thousand_swaps_under_load(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    pytest.importorskip("uvicorn", reason="needs uvicorn")
    root = tmp_path / "hot"
    store = Store(root, keep=1)
    first, digests = publisher.publish(store)
    started = time.monotonic()
    with serving(root) as (server, port):
        seen, published, samples = asyncio.run(swap_under_load(root, port, server.pid))
        seconds = time.monotonic() - started
        published[first] = digests
        on_disk = store.sequences()
        newest = max(published)
        settled, last = samples[len(samples) // 5], samples[-1]

    generations = {generation for generation, _ in seen.pages}
    descriptors = [one.descriptors for one in samples]
    grown = (
        f"{min(descriptors)} to {max(descriptors)} descriptors; "
        f"{settled.resident_bytes / 2**20:.1f} MiB of memory after {SWAPS // 5} swaps, "
        f"{last.resident_bytes / 2**20:.1f} at the last"
    )
    record_property("cases", seen.answers)
    record_property("server", grown)
    told = f"{len(generations)} of them read, {seen.answers} answers in {seconds:.0f} s"
    print(f"{len(published)} generations, {told}, {grown}")
    assert seen.errors == Counter()
    assert len(published) == SWAPS + 1
    assert len(generations) > SWAPS / 2, "the clients have read most of them"
    wrong = [
        (generation, key)
        for (generation, key), answers in seen.pages.items()
        for digest, tag in answers
        if digest != published[generation][key] or tag != f'"{digest[:24]}"'
    ]
    assert wrong == [], "a body or a tag is not of the generation that the answer names"
    assert max(descriptors) - min(descriptors) <= DESCRIPTORS_IN_PASSING
    assert last.resident_bytes - settled.resident_bytes < GROWTH_BYTES
    assert newest in on_disk
    assert len(on_disk) <= 2, "beside the current one only the one that the server held when it was published"

    publisher.publish(store)
    assert store.sequences() == [newest + 1], "nobody holds one any more"
