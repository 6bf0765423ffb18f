"""A real server in a real control group, ended by its pid."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import pytest

from hotpath.batch.run import build
from hotpath.guard.worker_slots import Worker, WorkerSlots, slots_path
from hotpath.site import Hotpath
from tests.guard.groups import Group
from tests.guard.load import Load
from tests.guard.waiting import wait_until

MIB = 1024 * 1024
START_SECONDS = 60.0
# Whatever comes at once here: a slow machine takes its time, and who waits goes on when it is there.
SOON_SECONDS = 30.0
APP = "tests.guard.app:application"
UVICORN = (
    *("uvicorn", APP, "--port", "{port}", "--workers", "{workers}"),
    *("--loop", "asyncio", "--log-level", "warning", "--no-access-log", "--timeout-keep-alive", "60"),
)
GUNICORN = (
    *("gunicorn", APP, "--bind", "127.0.0.1:{port}", "--workers", "{workers}", "--preload"),
    *("--worker-class", "asgi", "--log-level", "warning"),
)
HOT = tuple(f"/hot/{number}" for number in range(8))


@dataclass
class Rig:
    """A server that answers on ``port``."""

    process: subprocess.Popen[str]
    port: int
    group: Group
    log: Path

    def get(self, target: str, *, timeout: float = 30.0) -> Any:
        """The JSON that a target answers with. Raises ``OSError``, for a refusal too."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{target}", timeout=timeout) as answer:
            return json.load(answer)

    def status(self, target: str) -> int:
        """The status only."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{target}", timeout=30) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code

    def refusal(self, target: str) -> tuple[int, dict[str, str]]:
        """The status and the fields of an answer that is no 200."""
        with pytest.raises(urllib.error.HTTPError) as caught:
            self.get(target)
        with contextlib.closing(caught.value) as answer:
            return answer.code, {name.lower(): value for name, value in answer.headers.items()}

    def look(self) -> dict[str, Any]:
        """How the guard of one worker stands."""
        found: dict[str, Any] = self.get("/livez")
        return found

    def await_state(self, *states: str, seconds: float = SOON_SECONDS) -> float:
        """Wait for one of ``states``; after how many seconds it was there."""
        started = time.monotonic()
        while (found := self.look())["state"] not in states:
            assert time.monotonic() - started < seconds, f"not {states}: {found}\n{self.said()}"
            time.sleep(0.05)
        return time.monotonic() - started

    def await_sample(self) -> None:
        """Wait until the guard has looked at memory; before that it lets everybody in."""
        wait_until(lambda: self.look()["limit"] > 0, SOON_SECONDS, "nothing was read")

    def said(self) -> str:
        """The end of what the server wrote."""
        return self.log.read_text(errors="replace")[-6000:]

    def is_alive(self) -> bool:
        """Whether the process that was started still runs."""
        return self.process.poll() is None


class Watch:
    """Looks at a server and its group four times a second, from a thread: states, peak, and what was seen when."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        # Seconds since the start, state ("" where nothing answers), bytes that cannot be taken back.
        self.seen: list[tuple[float, str, int]] = []
        self.peak = 0
        self._stopping = threading.Event()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(30)

    def seconds_in(self) -> dict[str, float]:
        """How long each state was seen."""
        found: Counter[str] = Counter()
        for (begun, state, _), (ended, _, _) in pairwise(self.seen):
            found[state] += ended - begun  # type: ignore[assignment]
        return {state: round(seconds, 1) for state, seconds in found.items()}

    def _run(self) -> None:
        started = time.monotonic()
        while not self._stopping.wait(0.25):
            state, used = "", 0
            with contextlib.suppress(OSError, ValueError):
                found = self.rig.get("/livez", timeout=1)
                state, used = found.get("state", "no guard"), found.get("used", 0)
            used = used or self.rig.group.usage()
            self.peak = max(self.peak, used)
            self.seen.append((time.monotonic() - started, state, used))


def report(
    test: str, load: Load | None, watch: Watch | None, rig: Rig, *, guarded: bool = True, note: str = ""
) -> None:
    """A row of the table in docs/explanation/guard.md, where ``HOTPATH_GUARD_REPORT`` names a directory."""
    directory = os.environ.get("HOTPATH_GUARD_REPORT")
    if directory is None:
        return
    answers = load.answers if load is not None else {}
    row = {
        "test": test,
        "guarded": guarded,
        "kills": rig.group.oom_kills(),
        "hot": {str(code): n for (name, code), n in answers.items() if name == "hot"},
        "cold": {
            str(code): n
            for (name, code), n in Counter(
                {
                    (("cold", code)): sum(m for (other, c), m in answers.items() if other != "hot" and c == code)
                    for _, code in answers
                }
            ).items()
            if n
        },
        "broken": {f"{name} {kind}": n for (name, kind), n in (load.broken.items() if load is not None else ())},
        "states": watch.seconds_in() if watch is not None else {},
        "peak_mib": round(watch.peak / MIB) if watch is not None else None,
        "note": note,
    }
    suffix = "guarded" if guarded else "unguarded"
    Path(directory, f"{test}-{suffix}.json").write_text(json.dumps(row, indent=1))
    if watch is not None:
        Path(directory, f"{test}-{suffix}-seen.json").write_text(json.dumps(watch.seen))


def workers_of(root: Path) -> tuple[Worker, ...]:
    """The workers that share the slots of the server that ``served`` started with this directory."""
    return _slots(root).workers()


@functools.cache
def _slots(root: Path) -> WorkerSlots:
    return WorkerSlots(slots_path(str(Hotpath(root / "hot").store.root)))


@contextlib.contextmanager
def served(
    root: Path,
    group: Group,
    *,
    guard: dict[str, Any] | None,
    workers: int = 1,
    server: Sequence[str] = UVICORN,
    **settings: Any,
) -> Iterator[Rig]:
    """A server with the test app in a group; ``guard`` are the options of ``MemoryGuard``, ``None`` for none."""
    store = root / "hot"
    hot = Hotpath(store)
    hot.route("/hot/{n}", each=[{"n": str(number)} for number in range(len(HOT))])(lambda n: {"n": n, "x": "y" * 2000})
    if not store.exists():
        build(hot)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = root / f"server-{port}.log"
    command = [sys.executable, "-m", *(part.format(port=port, workers=workers) for part in server)]
    config = json.dumps({"store": str(store), "guard": guard, **settings})
    previous = os.environ.get("HOTPATH_GUARD_TEST")
    os.environ["HOTPATH_GUARD_TEST"] = config
    try:
        with log.open("w") as file:
            process = group.start(command, stdout=file, stderr=file)
    finally:
        if previous is None:
            del os.environ["HOTPATH_GUARD_TEST"]
        else:
            os.environ["HOTPATH_GUARD_TEST"] = previous
    rig = Rig(process, port, group, log)
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            assert process.poll() is None, f"the server ended: {rig.said()}"
            assert time.monotonic() < deadline, f"the server does not answer: {rig.said()}"
            with contextlib.suppress(OSError, ValueError):
                rig.look()
                break
            time.sleep(0.05)
        yield rig
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
        # pytest gives the directories of passed tests again, and what was recycled in one says nothing of the next.
        Path(slots_path(str(hot.store.root))).unlink(missing_ok=True)
