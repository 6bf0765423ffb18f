"""A client under load: many connections that are kept alive, every answer and every broken connection counted."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

TIMEOUT_SECONDS = 15.0


@dataclass(frozen=True)
class Stream:
    """Requests for ``target``, ``per_second`` in all, on ``connections`` kept-alive connections."""

    name: str
    target: str
    per_second: float
    connections: int = 1
    method: str = "GET"
    body: bytes = b""


@dataclass
class Load:
    """Runs in a thread while the test does something else. ``answers`` counts (name, status).

    ``broken`` counts connections that were refused, reset, or closed before the answer was whole; ``headers`` has one
    refusal's fields a stream.
    """

    port: int
    streams: Sequence[Stream]
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    broken: Counter[tuple[str, str]] = field(default_factory=Counter)
    refusals: dict[str, dict[str, str]] = field(default_factory=dict)
    latencies: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def __enter__(self) -> Self:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Let every request that is under way end, and stop."""
        self._stopping.set()
        self._thread.join(TIMEOUT_SECONDS + 5)

    def count(self, name: str, status: int | None = None) -> int:
        """How many answers of a stream, with this status."""
        return sum(n for (stream, code), n in self.answers.items() if stream == name and status in (None, code))

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for stream in self.streams:
                for number in range(stream.connections):
                    group.create_task(self._connection(stream, number))

    async def _connection(self, stream: Stream, number: int) -> None:
        pause = stream.connections / stream.per_second
        due = time.monotonic() + pause * number / stream.connections
        reader: asyncio.StreamReader | None = None
        writer: asyncio.StreamWriter | None = None
        while not self._stopping.is_set():
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due = max(due + pause, time.monotonic() - 1)
            begun = time.monotonic()
            try:
                async with asyncio.timeout(TIMEOUT_SECONDS):
                    if reader is None or writer is None:
                        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    status, headers = await ask(reader, writer, stream)
            except (OSError, EOFError, TimeoutError) as error:
                kind = "closed" if isinstance(error, EOFError) else type(error).__name__
                self.broken[stream.name, kind] += 1
                if writer is not None:
                    writer.close()
                reader = writer = None
                continue
            self.answers[stream.name, status] += 1
            self.latencies[stream.name].append(time.monotonic() - begun)
            if status >= 400:
                self.refusals[stream.name] = headers
            if headers.get("connection") == "close":
                writer.close()
                reader = writer = None
        if writer is not None:
            writer.close()


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, stream: Stream) -> tuple[int, dict[str, str]]:
    """One request and its whole answer."""
    length = f"Content-Length: {len(stream.body)}\r\n" if stream.method == "POST" else ""
    head = f"{stream.method} {stream.target} HTTP/1.1\r\nHost: example.org\r\n{length}\r\n"
    writer.write(head.encode() + stream.body)
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:] if line)}
    await reader.readexactly(int(headers.get("content-length", "0")))
    return int(lines[0].split(" ")[1]), headers
