"""Several machines: how soon a build is served everywhere, what is sent for it, and what the shared cache costs.

    python -m benchmarks.machines              everything; some minutes
    python -m benchmarks.machines --quick      fewer builds, 2,000 items in place of 100,000
    python -m benchmarks.machines --only cache

The store is SeaweedFS (HOTPATH_WEED, or weed on PATH), hints and values are in redis-server or valkey-server, all on
127.0.0.1. A machine is a directory and a follower in a thread of its own. What is absent is named, and left out.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks.harness import ROOT, Missing, machine, print_facts, print_table, write_json
from benchmarks.shared_cache import Figures, cache, percentile, print_cache, redis_server
from hotpath.pages.policy import Policy
from hotpath.store.origin import Follower, Origin
from hotpath.store.origin.hints import Hints
from hotpath.store.publish import staging
from hotpath.store.store import Store
from tests.caching.shared.conftest import SERVER as REDIS
from tests.simulation import followers
from tests.store.origin.engine import ABSENT, WEED, Engine
from tests.store.origin.proxy import Proxy

# The contract's figures.
MAX_HINTED_P99_MS = 300.0
MAX_NIGHT_SHARE = 0.011
MAX_FIRST_PULL_SECONDS = 60.0

MACHINES = 3
SHARES = ("p50", "p99")
# A process that serves looks at its store so often here; the default is 1 s, which would hide what is measured.
REFRESH_SECONDS = 0.05
SMALL_ITEMS = 300
# Of a site whose bytes are measured.
NIGHT_ITEMS, NIGHT_ITEM_BYTES = 2000, 5000
LARGE_ITEM_BYTES = 500


@contextlib.contextmanager
def engine(directory: Path) -> Iterator[Engine]:
    """SeaweedFS, its credentials in this process's environment. Raises ``Missing``."""
    if WEED is None:
        raise Missing(ABSENT)
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        importlib.metadata.version("obstore")
        running = Engine(directory / "weed")
        os.environ.update(running.environment)
        try:
            yield running
        finally:
            running.close()
        return
    raise Missing("obstore is not installed (pip install 'asgi-hotpath[s3]')")


def publish(store: Store, count: int, length: int, changed: int, salt: int) -> int:
    """A generation of ``count`` items, ``changed`` of them by ``salt``. Returns its bytes."""
    policy = Policy("/items/{number}", "application/octet-stream", "public, max-age=60", None, 3600)
    with staging(store) as stage:
        for number in range(count):
            seed = number + (salt * 1_000_003 if number < changed else 0)
            values = b",".join(b"%d" % ((seed * 7919 + place * 104729) % 99991) for place in range(length // 5))
            stage.add(f"/items/{number}", f"items/{number}.json", (b"%d:" % seed + values)[:length], policy)
        return stage.publish().bytes


# A machine: a follower, and a process that serves from its store. A line for each generation, with the times.
MACHINE = """
import json, sys, threading, time
from hotpath import Hotpath
from hotpath.serving.reader import reader_of
from hotpath.store.origin import Follower, Origin
from hotpath.store.origin.hints import Hints

options = json.loads(sys.argv[1])
stop, wakeup, stored = threading.Event(), threading.Event(), {}
hot = Hotpath(options["root"], refresh=options["refresh"])
follower = Follower(hot.store, Origin(options["url"]), every=options["every"], name=options["name"])
reader = reader_of(hot)
reader.start()
if options["hints"]:
    Hints(options["hints"]).subscribe(wakeup)
look = follower.look

def noting():
    began = time.time()
    seen = look()
    if seen.changed:
        stored[seen.generation] = began, time.time()
    return seen

follower.look = noting
threading.Thread(target=follower.run, args=(stop, wakeup), daemon=True).start()
served = None
while True:
    generation = reader.snapshot.generation
    if generation != served and generation in stored:
        served = generation
        print(json.dumps([generation, *stored[generation], time.time()]), flush=True)
    time.sleep(0.002)
"""


@contextlib.contextmanager
def following(directory: Path, url: str, every: float, hints: str | None) -> Iterator[list[subprocess.Popen[str]]]:
    """The machines, as processes."""
    with contextlib.ExitStack() as stack:
        started = []
        for number in range(MACHINES):
            options = {"root": str(directory / f"{number}"), "url": url, "every": every, "hints": hints}
            options |= {"name": f"machine{number}", "refresh": REFRESH_SECONDS}
            process = subprocess.Popen(
                [sys.executable, "-c", MACHINE, json.dumps(options)],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                cwd=ROOT,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            started.append(process)
        yield started


def propagation(builds: int, every: float, is_hinted: bool) -> Figures:
    """Milliseconds from the moment in which CURRENT moved until the last of three machines has it, and serves it."""
    with tempfile.TemporaryDirectory() as root, contextlib.ExitStack() as stack:
        directory = Path(root)
        running = stack.enter_context(engine(directory))
        hints = stack.enter_context(redis_server()).url if is_hinted else None
        store, origin = Store(directory / "builder"), Origin(running.url())
        announcer = Hints(hints) if hints else None
        publish(store, SMALL_ITEMS, 1000, 10, 0)
        origin.send(store)
        machines = stack.enter_context(following(directory, running.url(), every, hints))
        for each in machines:
            _line_of(each)
        rounds: dict[str, list[float]] = {name: [] for name in ("sending", "noticed", "waiting", "stored", "served")}
        for number in range(1, builds + 1):
            publish(store, SMALL_ITEMS, 1000, 10, number)
            before = time.time()
            origin.send(store)
            moved = time.time()
            if announcer is not None:
                announcer.announce()
            lines = [_line_of(each) for each in machines]
            rounds["sending"].append(moved - before)
            rounds["noticed"].append(max(began for _, began, *_ in lines) - moved)
            rounds["waiting"].append(max(served - moved - (stored - began) for _, began, stored, served in lines))
            rounds["stored"].append(max(stored for _, _, stored, _ in lines) - moved)
            rounds["served"].append(max(served for *_, served in lines) - moved)
            time.sleep(0.05 * (number % 7))  # not in step with the looks
        if announcer is not None:
            announcer.close()
    figures = {
        f"{name}_{label}_ms": round(percentile(seconds, share) * 1e3)
        for name, seconds in rounds.items()
        for label, share in (("p50", 0.5), ("p99", 0.99))
    }
    return {"builds": builds, "every": every, **figures}


def _line_of(process: subprocess.Popen[str]) -> list[float]:
    assert process.stdout is not None
    line: list[float] = json.loads(process.stdout.readline())
    return line


def night() -> Figures:
    """Bytes that a builder sends and a follower receives where 1 % of the items changed."""
    with tempfile.TemporaryDirectory() as root, contextlib.ExitStack() as stack:
        directory = Path(root)
        running = stack.enter_context(engine(directory))
        way = Proxy(running.port)
        stack.callback(way.close)
        store = Store(directory / "builder")
        follower = Follower(Store(directory / "machine"), Origin(running.url()), name="machine")
        total = publish(store, NIGHT_ITEMS, NIGHT_ITEM_BYTES, NIGHT_ITEMS // 100, 0)
        Origin(running.url()).send(store)
        follower.look()
        follower.origin = Origin(running.url())
        publish(store, NIGHT_ITEMS, NIGHT_ITEM_BYTES, NIGHT_ITEMS // 100, 1)
        sent = Origin(running.url(endpoint=way.endpoint)).send(store)
        sent_on_the_wire = sum(request.sent_bytes for request in way.requests)
        look = follower.look()
        manifest = store.manifest_path(sent.generation).stat().st_size
    return {
        "site_bytes": total,
        "sent_bytes": sent.bytes,
        "sent_on_the_wire_bytes": sent_on_the_wire,
        "manifest_bytes": manifest,
        "received_bytes": look.bytes,
        "linked": look.linked,
        "share": sent.bytes / total,
    }


def large(count: int) -> Figures:
    """Seconds to send a large site and to pull it into an empty store."""
    with tempfile.TemporaryDirectory() as root, contextlib.ExitStack() as stack:
        directory = Path(root)
        running = stack.enter_context(engine(directory))
        store, origin = Store(directory / "builder"), Origin(running.url())
        publish(store, count, LARGE_ITEM_BYTES, 0, 0)
        began = time.monotonic()
        origin.send(store)
        sent = time.monotonic() - began
        follower = Follower(Store(directory / "machine"), Origin(running.url()), name="machine")
        began, processor = time.monotonic(), time.process_time()
        look = follower.look()
        pulled, used = time.monotonic() - began, time.process_time() - processor
        assert look.error is None, look.error
        assert look.blobs == count
        began = time.monotonic()
        assert not follower.look().changed
        return {
            "items": count,
            "send_seconds": round(sent, 1),
            "pull_seconds": round(pulled, 1),
            "pull_cpu_seconds": round(used, 1),
            "look_ms": round((time.monotonic() - began) * 1e3, 1),
        }


def print_propagation(rows: dict[str, Figures]) -> None:
    """The table of ``propagation``."""
    steps = ("noticed", "waiting", "stored", "served")
    titles = (
        "last of 3 machines, ms",
        "builds",
        "send p50",
        *(f"{step} {share}" for step in steps for share in SHARES),
    )
    print_table(
        titles,
        [
            (
                name,
                row["builds"],
                row["sending_p50_ms"],
                *(row[f"{step}_{share}_ms"] for step in steps for share in SHARES),
            )
            for name, row in rows.items()
        ],
    )
    print(f"from the move of CURRENT; {SMALL_ITEMS} items, 10 of them new; noticed: the look begins; stored: on disk;")
    print(f"served: by a process with refresh={REFRESH_SECONDS:g}; waiting: that, without the look, which transfers")
    print(f"limits of waiting: by hints p99 {MAX_HINTED_P99_MS:.0f} ms, by polling the interval + 1 s")


def print_night(row: Figures) -> None:
    """The table of ``night``."""
    print_table(
        ("1 % changed", "bytes", "of the site"),
        [
            ("site", row["site_bytes"], "100 %"),
            ("sent", row["sent_bytes"], f"{row['share']:.2%} (limit {MAX_NIGHT_SHARE:.1%})"),
            ("manifest beside it", row["manifest_bytes"], f"{row['manifest_bytes'] / row['site_bytes']:.2%}"),
            ("all of it with HTTP", row["sent_on_the_wire_bytes"], ""),
            ("received by a machine", row["received_bytes"], f"{row['linked']:,} files linked"),
        ],
    )


def print_large(row: Figures) -> None:
    """The table of ``large``."""
    print_table(
        (f"{row['items']:,} items of {LARGE_ITEM_BYTES} bytes", "seconds", "limit"),
        [
            ("first send", row["send_seconds"], None),
            ("first pull", row["pull_seconds"], MAX_FIRST_PULL_SECONDS),
            ("of it processor time of the puller", row["pull_cpu_seconds"], None),
            ("a look where nothing is new, ms", row["look_ms"], None),
        ],
    )


def simulation(count: int) -> Figures:
    """What ``count`` followers ask and cost, by the real code on a clock of its own."""
    rows = {}
    for name, hints in (("hints", True), ("polling", False)):
        with tempfile.TemporaryDirectory() as root:
            case = followers.Case(followers=count, minutes=10, builds=1, hints=hints)
            rows[name] = followers.row(followers.simulate(case, Path(root)))
    return rows


def print_simulation(rows: Figures) -> None:
    """The table of ``simulation``."""
    print_table(followers.TITLES, list(rows.values()))
    print(followers.NOTES)


def measured(is_quick: bool, only: str | None) -> Figures:
    """Everything that can be measured here, printed as it comes."""
    builds = 20 if is_quick else 100
    steps: dict[str, tuple[Callable[[], Figures], Callable[[Figures], None]]] = {
        "propagation": (
            lambda: {
                "hints, every 10 s": propagation(builds, 10.0, True),
                "polling, every 1 s": propagation(builds // 4, 1.0, False),
            },
            print_propagation,
        ),
        "night": (night, print_night),
        "large": (lambda: large(2000 if is_quick else 100_000), print_large),
        "cache": (lambda: cache(3 if is_quick else 9, 2000 if is_quick else 5000), print_cache),
        "simulation": (lambda: simulation(100 if is_quick else 1000), print_simulation),
    }
    figures = {}
    for name, (measure, show) in steps.items():
        if only not in (None, name):
            continue
        try:
            figures[name] = measure()
        except Missing as error:
            print(f"{name}: left out, {error}\n")
            continue
        show(figures[name])
        print()
    return figures


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer builds and a small site")
    parser.add_argument("--only", choices=("propagation", "night", "large", "cache", "simulation"))
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args(arguments)
    print_facts(machine() | _versions())
    write_json(options.json, {"versions": _versions(), **measured(options.quick, options.only)})


def _versions() -> dict[str, str]:
    versions = {}
    for name in ("obstore", "redis"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    for name, command in (("SeaweedFS", [WEED, "version"]), ("server", [REDIS, "--version"])):
        if command[0] is not None:
            done = subprocess.run([*filter(None, command)], capture_output=True, text=True, check=False)
            versions[name] = " ".join(done.stdout.split()[1:4])
    return versions


if __name__ == "__main__":
    main()
