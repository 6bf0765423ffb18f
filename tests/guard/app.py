"""What the fault tests serve: an app that leaks, blocks and allocates on request, with or without the guard before it.

``HOTPATH_GUARD_TEST`` is a JSON object: ``store``, ``guard`` (options of ``MemoryGuard``, null for none), ``levels``
and ``times`` of its thresholds, ``tree`` to take the kernel's files from, with ``budget_mib`` as the limit,
``ballast_mib`` to hold from the start, ``apart_seconds`` between two recycles, ``start_seconds`` that a worker takes
to start.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from hotpath.asgi.middleware import HotpathMiddleware
from hotpath.errors import HotpathError
from hotpath.guard import worker_slots
from hotpath.guard.guard import MemoryGuard
from hotpath.guard.memory import MemoryReader
from hotpath.guard.recycling import Recycle
from hotpath.guard.sampling import Sampling
from hotpath.guard.states import Level, Thresholds
from hotpath.metrics.app import MetricsApp
from hotpath.site import Hotpath
from tests.guard.fakes import FakeGuard

MIB = 1024 * 1024
SETTINGS: dict[str, Any] = json.loads(os.environ["HOTPATH_GUARD_TEST"])

# Touched, so that it is really used; what fork copies is shared.
held: list[bytearray] = [bytearray(b"x") * (SETTINGS.get("ballast_mib", 0) * MIB)]


def make_guard() -> MemoryGuard | None:
    options = SETTINGS["guard"]
    if options is None:
        return None
    worker_slots.RECYCLE_APART_SECONDS = SETTINGS.get("apart_seconds", worker_slots.RECYCLE_APART_SECONDS)
    numbers: dict[str, Any] = {name: Level(*four) for name, four in SETTINGS.get("levels", {}).items()}
    for name, kind in (("recycle", Recycle), ("sampling", Sampling)):
        if name in options:
            options = {**options, name: kind(**options[name])}
    options = {**options, "thresholds": Thresholds(**numbers, **SETTINGS.get("times", {}))}
    if "tree" in SETTINGS:
        budget = SETTINGS["budget_mib"] * MIB if "budget_mib" in SETTINGS else None
        return FakeGuard(MemoryReader(root=Path(SETTINGS["tree"]), budget=budget), **options)
    return MemoryGuard(**options)


guard = make_guard()
hot = Hotpath(SETTINGS["store"])
metrics = MetricsApp(guard=guard, hot=hot)


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await asyncio.sleep(SETTINGS.get("start_seconds", 0))
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["path"] == "/metrics":
        await metrics(scope, receive, send)
        return
    query = {name: float(values[0]) for name, values in parse_qs(scope["query_string"].decode()).items()}
    if scope["method"] == "POST" and not await receive_form(receive):
        return
    done = WORK.get(scope["path"], cold)(query)
    body = json.dumps(await done if inspect.isawaitable(done) else done).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def receive_form(receive: Any) -> bool:
    """Read a body as a framework does that parses it: pieces, the whole, what is made of it. Whether it was all."""
    pieces = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return False
        pieces.append(message.get("body", b""))
        if not message.get("more_body"):
            break
    whole = b"".join(pieces)
    if len(whole) > MIB:
        parsed = bytearray(whole)
        await asyncio.sleep(1)
        del parsed
    return True


def cold(_: dict[str, float]) -> object:
    return "cold"


def leak(query: dict[str, float]) -> object:
    held.append(bytearray(b"x") * int(query["mib"] * MIB))
    return "leaked"


def free(_: dict[str, float]) -> object:
    del held[1:]
    return "freed"


def block(query: dict[str, float]) -> object:
    """Python code in the event loop that gives nothing away but the interpreter's lock, as it is asked to."""
    until = time.monotonic() + query["seconds"]
    count = 0
    while time.monotonic() < until:
        count += 1
    return "blocked"


async def wait(query: dict[str, float]) -> object:
    await asyncio.sleep(query["seconds"])
    return "waited"


def allocate(query: dict[str, float]) -> object:
    """One request that takes very much, piece by piece, and would give it back."""
    taken = [bytearray(b"x") * MIB for _ in range(int(query["mib"]))]
    return len(taken)


def allocate_small(query: dict[str, float]) -> object:
    """The same in millions of small objects, which leave not a byte."""
    taken = [{"number": number} for number in range(int(query["count"]))]
    return len(taken)


def decoy(query: dict[str, float]) -> object:
    """Page cache that the kernel can take back: a file is written and read again."""
    path = Path(SETTINGS["store"], "decoy")
    with path.open("wb") as file:
        for _ in range(int(query["mib"])):
            file.write(b"x" * MIB)
            file.flush()
            os.fdatasync(file.fileno())  # what is not on disk yet cannot be taken back
    with path.open("rb") as file:
        while file.read(MIB):
            pass
    return "written"


def look(_: dict[str, float]) -> object:
    """How the guard of this worker stands."""
    if guard is None:
        return {"pid": os.getpid()}
    reading, outlook = guard.reading, guard.outlook
    return {
        "pid": os.getpid(),
        "state": guard.state.name,
        "age": guard.sample_age_seconds,
        "overdue": guard.position.overdue,
        "suppressed": guard.recycling.is_suppressed,
        "limit": reading.limit if reading else 0,
        "used": reading.unreclaimable if reading else 0,
        "usage": reading.usage if reading else 0,
        "share": outlook.share if outlook else 0.0,
        "problem": guard.problem,
        "transitions": [[a.name, b.name, why, n] for (a, b, why), n in guard.transitions.items()],
        "descriptors": len([*Path("/proc/self/fd").iterdir()]),
    }


WORK: dict[str, Callable[[dict[str, float]], Any]] = {
    "/leak": leak,
    "/free": free,
    "/block": block,
    "/wait": wait,
    "/allocate": allocate,
    "/allocate-small": allocate_small,
    "/decoy": decoy,
    "/livez": look,
}

try:
    application: Any = HotpathMiddleware(app, hot=hot, guard=guard)
except HotpathError as error:
    raise SystemExit(str(error)) from error
