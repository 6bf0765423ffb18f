"""Watched files under a real program that rewrites them in place all the time: never a body that was not whole."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hotpath.asgi.middleware import HotpathMiddleware
from hotpath.serving import reader_of
from hotpath.site import Hotpath
from hotpath.testing import asgi_get
from tests.store.faults.rewriter import number_of
from tests.store.faults.sites import APP_STATUS, await_true, the_app

REPOSITORY = Path(__file__).resolve().parents[2]

# A change shows within this time; what it takes besides is what this process did not get of the machine.
SHOWS_SECONDS = 2.0

# The writer rests often, so it takes a minute; one that takes this long is stuck.
LONGEST_SECONDS = 600.0
GZIP = [(b"accept-encoding", b"gzip")]


@dataclass
class Watch:
    """What was answered for one file: each change, with the times of the last look before it and the first with it."""

    seen: list[tuple[float, float, bytes | None]] = field(default_factory=list)

    def look(self, before: float, now: float, body: bytes | None) -> None:
        if not self.seen or self.seen[-1][2] != body:
            self.seen.append((before, now, body))

    def at(self, when: float) -> bytes | None:
        """The body that was answered at this time."""
        return next((body for _, now, body in reversed(self.seen) if now <= when), None)


async def watch(hot: Hotpath, names: list[str], writer: subprocess.Popen[str]) -> tuple[dict[str, Watch], list[float]]:
    """Ask for every file until the writer has ended; the answers, and the times at which all had been asked."""
    app = HotpathMiddleware(the_app, hot=hot)
    watches = {name: Watch() for name in names}
    looked: list[float] = [time.monotonic()]
    deadline = looked[0] + LONGEST_SECONDS
    while writer.poll() is None:
        assert time.monotonic() < deadline, "the writer is stuck"
        for name, watched in watches.items():
            answer = await asgi_get(app, f"/files/{name}", headers=GZIP if len(looked) % 2 else ())
            assert answer.status in (200, APP_STATUS)
            body = answer.body if answer.status == 200 else None
            if body is not None and answer.header("content-encoding") == "gzip":
                body = gzip.decompress(body)
            watched.look(looked[-1], time.monotonic(), body)
        looked.append(time.monotonic())
        await asyncio.sleep(0.03)
    return watches, looked


def slowest(looked: list[float], start: float, stop: float) -> float:
    """The longest time between two looks in this time."""
    times = [start, *(one for one in looked if start < one < stop), stop]
    return max(later - earlier for earlier, later in itertools.pairwise(times))


@dataclass
class Judgement:
    """What was found wrong, and how much was looked at."""

    wrong: list[str] = field(default_factory=list)
    rewrites: int = 0
    bodies: int = 0
    rests: int = 0
    excused: int = 0
    slowest_to_show: float = 0.0


def judge(log: list[dict[str, Any]], watches: dict[str, Watch], looked: list[float]) -> Judgement:
    """Every body is a version that was whole by then, they never go back, and each rest shows what it rests in."""
    found = Judgement()
    for name, watched in watches.items():
        lines = [line for line in log if line["file"] == name]
        done = {line["sha256"]: line for line in lines if "done" in line}
        excused = {line["sha256"] for line in lines if "paused" in line}
        found.rewrites += len(done)
        found.excused += len(excused)
        gone = [line["at"] for line in lines if line.get("rests") == "gone"]
        newest, last = 0, 0.0
        for _, when, body in watched.seen:
            if body is None:
                if not any(last < at < when for at in gone):
                    found.wrong.append(f"{name}: not answered, though it was gone for a moment only")
                continue
            last = when
            found.bodies += 1
            digest = hashlib.sha256(body).hexdigest()
            if digest not in done:
                if digest not in excused:
                    found.wrong.append(f"{name}: served what never was a whole version: {body[:60]!r}")
                continue
            if when < done[digest]["at"] - 0.05:  # the line is written a moment after the last byte
                found.wrong.append(f"{name}: served version {done[digest]['done']} before it was whole")
            if number_of(body) < newest:
                found.wrong.append(f"{name}: version {number_of(body)} after {newest}")
            newest = max(newest, number_of(body))
        whole: dict[str, Any] | None = None
        for line, after in zip(lines, [*lines[1:], lines[-1]], strict=True):
            if "done" in line:
                whole = line
            if "rests" not in line or whole is None:
                continue
            found.rests += 1
            start, stop = line["at"], after["at"]
            deadline = start + SHOWS_SECONDS + slowest(looked, start, stop)
            shown = watched.at(min(deadline, stop))
            if line["rests"] == "whole":
                if shown is None or hashlib.sha256(shown).hexdigest() != whole["sha256"]:
                    found.wrong.append(f"{name}: version {whole['done']} did not show within {deadline - start:.1f} s")
                else:
                    since = next(now for _, now, body in reversed(watched.seen) if body == shown)
                    found.slowest_to_show = max(found.slowest_to_show, since - start)
            elif line["rests"] == "gone":
                if shown is not None:
                    found.wrong.append(f"{name}: it is gone and still answered after {deadline - start:.1f} s")
            elif shown is None and watched.at(start) is not None:
                found.wrong.append(f"{name}: the last good bytes went when the file became {line['rests']}")
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "files", "rounds"), [("one", 20, 1), ("two", 80, 6)])
def test_nothing_but_whole_versions_is_ever_served(
    tmp_path: Path, seed: str, files: int, rounds: int, record_property: Callable[[str, object], None]
) -> None:
    directory = tmp_path / "data"
    directory.mkdir()
    hot = Hotpath(tmp_path / "hot")
    hot.directory("/files/{name}", directory / "{name}.json")
    names = [f"f{number}" for number in range(files)]
    arguments = [str(directory), seed, str(files), str(rounds)]
    log_path = tmp_path / "log"
    with (
        log_path.open("w") as output,
        subprocess.Popen(
            [sys.executable, "-m", "tests.store.faults.rewriter", *arguments],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=output,
            text=True,
        ) as writer,
    ):
        try:
            await_true(lambda: log_path.read_text().count("\n") == files)
            reader_of(hot).start()
            assert writer.stdin is not None
            writer.stdin.write("\n")
            writer.stdin.flush()
            watches, looked = asyncio.run(watch(hot, names, writer))
        finally:
            writer.kill()
            reader_of(hot).close()
    assert writer.returncode == 0
    log = [json.loads(line) for line in log_path.read_text().splitlines()]
    found = judge(log, watches, looked)
    record_property("cases", found.rewrites)
    print(found)
    assert not found.wrong, "\n".join(found.wrong)
    assert found.rewrites >= 4 * files * rounds
    assert found.rests == files * rounds
    assert found.bodies >= files * (1 + rounds / 3)
    assert found.excused < found.rewrites / 20, "the machine is too busy for this test to say anything"
