"""What a publish costs, beside writing the same bytes and one syncfs(2): time, memory, and what an unchanged one saves.

    python -m benchmarks.store             300 items of 4 KB in turns with the plain writes; 100,000 items of 2 KB
    python -m benchmarks.store --quick     without the 100,000

Items come from memory and are handed to the stage, so that only the store is measured and no function of a site. "one"
is a media type that is not compressed, "all" is JSON in every coding. The plain writes are the very files of the
generation, written without a look, and one syncfs.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.harness import machine, print_facts, print_table, write_json
from hotpath import Store
from hotpath.pages.policy import Policy
from hotpath.store.disk import FILE_MODE, Disk
from hotpath.store.publish import Published, staging

MEDIA_TYPES = {"one": "application/octet-stream", "all": "application/json"}
SMALL = (300, 4096)
LARGE = (100_000, 2048)


def bodies(count: int, length: int, salt: int) -> Iterator[tuple[str, bytes]]:
    """(number, body) of each item; another ``salt`` gives other bytes of the same length."""
    for number in range(count):
        row = b'{"code":%09d,"salt":%09d,"close":[' % (number, salt)
        values = b",".join(b"%d" % ((number * 7919 + place * 104729 + salt) % 99991) for place in range(length // 5))
        yield f"{number:06d}", (row + values)[: length - 2] + b"]}"


def publish(store: Store, items: Iterable[tuple[str, bytes]], codings: str) -> Published:
    """One generation of these items."""
    policy = Policy("/items/{number}", MEDIA_TYPES[codings], "public, max-age=60", None, 3600)
    with staging(store) as stage:
        for number, body in items:
            stage.add(f"/items/{number}", f"items/{number}.json", body, policy)
        return stage.publish()


def plain_writes(files: Path, target: Path) -> float:
    """Seconds to write all files of a generation anew and sync once."""
    data = {path.relative_to(files): path.read_bytes() for path in sorted(files.rglob("*")) if path.is_file()}
    disk = Disk()
    started = time.perf_counter()
    for name, content in data.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        disk.write_new(path, content)
    disk.sync_tree(target)
    return time.perf_counter() - started


def rounds_of(root: Path, codings: str, rounds: int) -> dict[str, Any]:
    """Plain writes, a publish where all changed, one where nothing did; in turn."""
    count, length = SMALL
    store = Store(root / codings, keep=2)
    publish(store, bodies(count, length, salt=0), codings)
    plain, changed, unchanged = [], [], []
    for salt in range(1, rounds + 1):
        items = list(bodies(count, length, salt))  # made before the clock runs: they are no work of the store
        started = time.perf_counter()
        sequence = publish(store, items, codings).generation
        changed.append(time.perf_counter() - started)
        scratch = root / f"plain-{codings}-{salt}"
        scratch.mkdir()
        plain.append(plain_writes(store.files_path(sequence), scratch))
        shutil.rmtree(scratch)
        started = time.perf_counter()
        published = publish(store, items, codings)
        unchanged.append(time.perf_counter() - started)
        assert published.unchanged == count
    ratios = [publish / write for publish, write in zip(changed, plain, strict=True)]
    return {
        "codings": codings,
        "plain_ms": statistics.median(plain) * 1e3,
        "publish_ms": statistics.median(changed) * 1e3,
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "unchanged_ms": statistics.median(unchanged) * 1e3,
    }


def bare_write(path: Path, data: bytes) -> None:
    """What ``Disk.write_new`` asks of the kernel, with nothing around it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
    try:
        os.write(descriptor, data)
        os.fchmod(descriptor, FILE_MODE)
    finally:
        os.close(descriptor)


def layer(rounds: int) -> dict[str, float]:
    """Processor time of one write through the layer of operations, and of the same calls without it; in turn.

    In memory where there is a file system of it: a disk's own work would hide half a microsecond.
    """
    with tempfile.TemporaryDirectory(dir=next(Path("/dev").glob("shm"), None)) as directory:
        return _layer(Path(directory), rounds)


def _layer(root: Path, rounds: int) -> dict[str, float]:
    count, length = 2000, SMALL[1]
    data = bytes(length)
    ways = {"bare": bare_write, "layer": Disk().write_new}
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, write in ways.items():
            directory = root / f"{name}-{number}"
            directory.mkdir()
            paths = [directory / str(place) for place in range(count)]
            started = time.process_time()
            for path in paths:
                write(path, data)
            spent[name].append((time.process_time() - started) / count * 1e6)
            shutil.rmtree(directory)
    ratios = [layer / bare for layer, bare in zip(spent["layer"], spent["bare"], strict=True)]
    return {
        **{f"{name}_us": statistics.median(times) for name, times in spent.items()},
        "ratio": statistics.median(ratios),
    }


def large(root: Path) -> dict[str, float]:
    """100,000 items in this process: seconds and peak memory, all new and all unchanged."""
    count, length = LARGE
    store = Store(root, keep=2)
    costs: dict[str, float] = {}
    for what in ("new", "unchanged"):
        before = _blocks_written()
        started = time.perf_counter()
        publish(store, bodies(count, length, salt=0), "one")
        costs[f"{what}_seconds"] = time.perf_counter() - started
        costs[f"{what}_written_mib"] = (_blocks_written() - before) / 2048
        costs[f"{what}_peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return costs


def _blocks_written() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_oublock


def child(root: Path) -> dict[str, float]:
    """``large`` in a new process, so that its peak is its own."""
    command = [sys.executable, "-m", "benchmarks.store", "--child", str(root)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    costs: dict[str, float] = json.loads(done.stdout)
    return costs


SMALL_COLUMNS: Mapping[str, str] = {
    "codings": "codings",
    "plain_ms": "writes + syncfs ms",
    "publish_ms": "publish ms",
    "ratio": "ratio",
    "ratio_min": "min",
    "ratio_max": "max",
    "unchanged_ms": "unchanged ms",
}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="What a publish costs.")
    parser.add_argument("--quick", action="store_true", help="300 items only")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--directory", type=Path, help="where to write (default: the temporary directory)")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(large(options.child)), flush=True)
        os._exit(0)
    print_facts(machine())
    with tempfile.TemporaryDirectory(prefix="hotpath-bench-", dir=options.directory) as directory:
        print(f"{SMALL[0]} items of {SMALL[1]:,} bytes, {options.rounds} rounds in turn, medians:")
        small = [rounds_of(Path(directory), codings, options.rounds) for codings in MEDIA_TYPES]
        print_table(list(SMALL_COLUMNS.values()), [[row[name] for name in SMALL_COLUMNS] for row in small])
        print("one write of 4,096 bytes in memory, processor time in µs:")
        cost = layer(options.rounds)
        print_table(["bare calls", "through the layer", "ratio"], [[cost["bare_us"], cost["layer_us"], cost["ratio"]]])
        figures: dict[str, Any] = {"small": small, "layer": cost}
        if not options.quick:
            figures["large"] = costs = child(Path(directory, "large"))
            print(f"{LARGE[0]:,} items of {LARGE[1]:,} bytes, one coding, in a process of its own:")
            rows = [
                [what, costs[f"{what}_seconds"], costs[f"{what}_peak_mib"], costs[f"{what}_written_mib"]]
                for what in ("new", "unchanged")
            ]
            print_table(["all items", "seconds", "peak MiB", "written MiB"], rows)
    write_json(options.json, figures)


if __name__ == "__main__":
    main()
