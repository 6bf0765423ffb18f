"""Microseconds of one memory reading, and of what a worker says to the others, beside what the kernel needs for it.

    python -m benchmarks.guard_reading              15 rounds, some seconds
    python -m benchmarks.guard_reading --quick      5 rounds

Processor time of this thread. "the kernel alone" reads the same files through open descriptors and looks at nothing; a
ratio is to that, in the same round. "by hand" opens and splits the files each time; psutil gives the size of the
process and of the machine, and knows no group. A round in which the kernel alone was slow is discarded.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import psutil

from benchmarks.harness import machine, print_facts, print_table, write_json
from benchmarks.timing import SLOW, Figure
from hotpath.guard.cgroups import find_groups
from hotpath.guard.memory import MemoryReader
from hotpath.guard.worker_slots import WorkerSlots
from hotpath.testing import FakeClock

FLOOR = "the kernel alone"
ATTEMPTS = 5
BATCH = 200
READINGS = 10_000

Call = Callable[[], object]


def files() -> list[Path]:
    """What one reading reads here: the machine, the process, and the group where there is one."""
    found = [Path("/proc/meminfo"), Path("/proc/self/statm")]
    membership = Path("/proc/self/cgroup")
    for group in find_groups(Path("/"), membership.read_bytes(), membership).groups[:1]:
        found += [group.usage.path, group.stat.path]
    return found


def cases(stack: ExitStack, directory: Path) -> dict[str, Call]:
    """Each thing that is measured, by name."""
    paths = files()
    descriptors = [os.open(path, os.O_RDONLY) for path in paths]
    for descriptor in descriptors:
        stack.callback(os.close, descriptor)
    still = MemoryReader(clock=FakeClock())
    clock = FakeClock()
    looking = MemoryReader(clock=clock)
    slots = WorkerSlots(directory / "slots")
    for reader in (still, looking):
        stack.callback(reader.close)
    stack.callback(slots.release)
    slots.take()
    process = psutil.Process()

    def kernel() -> None:
        for descriptor in descriptors:
            os.pread(descriptor, 16384, 0)

    def by_hand() -> None:
        for path in paths:
            dict(line.split()[:2] for line in path.read_text().splitlines() if " " in line)

    def read_and_look() -> None:
        clock.advance(1)
        looking.read()

    return {
        FLOOR: kernel,
        "read()": still.read,
        "read(), limits and group looked at again": read_and_look,
        "by hand": by_hand,
        "psutil, without the group": lambda: (process.memory_info(), psutil.virtual_memory()),
        "slots: beat()": lambda: slots.beat(state=0, unique_bytes=1, in_flight=1),
        "slots: workers(), one of them": slots.workers,
    }


def measure(measured: dict[str, Call], rounds: int) -> dict[str, list[float]]:
    """Microseconds of each case in each round that counts, cases in turn."""
    tried: list[dict[str, float]] = []
    for _ in range(rounds * ATTEMPTS):
        tried.append({name: _time(call) for name, call in measured.items()})
        floors = sorted(one[FLOOR] for one in tried)
        kept = [one for one in tried if one[FLOOR] <= floors[len(floors) // 10] * SLOW]
        if len(kept) >= rounds:
            break
    return {name: [one[name] for one in kept] for name in measured}


def _time(call: Call) -> float:
    started = time.thread_time_ns()
    for _ in range(BATCH):
        call()
    return (time.thread_time_ns() - started) / BATCH / 1000


def rows(found: dict[str, list[float]]) -> list[Sequence[object]]:
    """One line for each case: microseconds, and the ratio to the floor of the same round."""
    made: list[Sequence[object]] = []
    for name, taken in found.items():
        figure = Figure.of(taken)
        ratio = Figure.of(one / floor for one, floor in zip(taken, found[FLOOR], strict=True))
        made.append((name, figure.median, figure.low, figure.high, ratio.median, ratio.low, ratio.high))
    return made


def grown_descriptors() -> int:
    """How many more descriptors there are after many readings than after the first."""
    clock = FakeClock()
    reader = MemoryReader(clock=clock)
    reader.read()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(READINGS):
        clock.advance(0.25)
        reader.read()
    after = len(list(Path("/proc/self/fd").iterdir()))
    reader.close()
    return after - before


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="5 rounds")
    parser.add_argument("--rounds", type=int, help="rounds that have to count (default: 15, with --quick 5)")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hotpath-bench-")))
        found = measure(cases(stack, directory), options.rounds or (5 if options.quick else 15))
    print_facts(machine())
    print(f"{len(found[FLOOR])} rounds count; median, min and max of the rounds")
    print()
    print_table(("", "µs", "min", "max", "to the kernel", "min", "max"), rows(found))
    print()
    looking = Figure.of(found["read(), limits and group looked at again"]).median
    share, fastest = looking / 1e6, Figure.of(found["read()"]).median * 20 / 1e6
    print(f"share of a core: {share:.4%} at one reading a second, {fastest:.3%} at 20 a second")
    grown = grown_descriptors()
    print(f"descriptors: {grown} more after {READINGS:,} readings")
    write_json(
        options.json,
        {"microseconds": {name: asdict(Figure.of(taken)) for name, taken in found.items()}, "grown": grown},
    )


if __name__ == "__main__":
    main()
