"""What the audit costs and says over code that nobody here wrote; and what a reading of a live process costs.

    python -m benchmarks.audit                                    the standard library
    python -m benchmarks.audit site-packages --only django flask  these projects of a folder
    python -m benchmarks.audit site-packages --sample 100 --seed 7   random findings, to be checked by hand

Seconds of CPU time. The peer is Python's own parser over the same files, project by project in the same run: what
cannot be had for less. A million lines have to take less than a minute.
"""

from __future__ import annotations

import argparse
import ast
import gc
import os
import random
import statistics
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness import machine, print_facts, print_table, write_json
from hotpath.audit import growth
from hotpath.audit.findings import Finding
from hotpath.audit.report import Audit, audit

CONTAINERS = 200_000


@dataclass(frozen=True, slots=True)
class Project:
    """One package or module, read by the audit and by the parser alone."""

    name: str
    report: Audit
    seconds: float
    parse_seconds: float


def run(root: Path, only: list[str]) -> Iterator[Project]:
    """Each package under ``root`` in turn; ``only`` these. Libraries that are copied into another are part of it."""
    for path in sorted(root.iterdir()):
        is_code = path.suffix == ".py" or (path.is_dir() and any(path.rglob("*.py")))
        if is_code and (not only or path.stem in only):
            parse_seconds, _ = timed(partial(parse, path))
            seconds, report = timed(partial(audit, [path]))
            yield Project(path.stem, report, seconds, parse_seconds)


def parse(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for file in [path] if path.is_file() else path.rglob("*.py"):
            if not {"tests", "test", "testing"} & set(file.relative_to(path).parts):
                with suppress(SyntaxError, ValueError, RecursionError):
                    ast.parse(file.read_bytes())


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.process_time()
    done = work()
    return time.process_time() - started, done


def print_projects(projects: list[Project]) -> dict[str, Any]:
    rows = [row(project.name, [project]) for project in projects if project.report.lines]
    total = row("all", projects)
    print_table(
        ["", "files", "lines", "findings", "notes", "per 10,000 lines", "s", "s/MLOC", "times parsing"], [*rows, total]
    )
    kinds = Counter(str(finding.pattern) for project in projects for finding in project.report.findings)
    print("; ".join(f"{kind} {number}" for kind, number in kinds.most_common()))
    for project in projects:
        for unread in project.report.unread:
            print(f"skipped: {project.name}: {Path(unread.path).name}: {unread.problem}")
    return {"lines": total[2], "findings": total[3], "per_10000_lines": total[5], "seconds_per_mloc": total[7]}


def row(name: str, projects: list[Project]) -> list[Any]:
    reports = [project.report for project in projects]
    lines, findings = sum(report.lines for report in reports), sum(len(report.findings) for report in reports)
    seconds, parsing = sum(project.seconds for project in projects), sum(project.parse_seconds for project in projects)
    return [
        name,
        sum(report.files for report in reports),
        lines,
        findings,
        sum(len(report.notes) for report in reports),
        f"{findings / lines * 10_000:.2f}",
        f"{seconds:.1f}",
        f"{seconds / lines * 1e6:.0f}",
        f"{seconds / parsing:.1f}" if parsing else "",
    ]


def print_sample(root: Path, projects: list[Project], count: int, seed: int, *, notes: bool) -> None:
    """A random sample of findings, each equally likely, whatever its project."""
    every: list[tuple[str, Finding]] = [
        (project.name, finding)
        for project in projects
        for finding in (project.report.notes if notes else project.report.findings)
    ]
    chosen = random.Random(seed).sample(every, min(count, len(every)))
    for number, (project, finding) in enumerate(
        sorted(chosen, key=lambda pair: (pair[0], pair[1].path, pair[1].line)), 1
    ):
        path = Path(finding.path).relative_to(root).as_posix()
        print(f"{number}. {project} | {path}:{finding.line} | {finding.pattern} | {finding.name} | {finding.grows_at}")
        print(f"    {finding.text}\n    {finding.why}")


def measure_growth(rounds: int) -> dict[str, Any]:
    """Two readings of a process with 200,000 containers, beside one full collection of the same."""
    crowd: list[object] = []
    for number in range(CONTAINERS // 4):
        crowd += [{"n": {}}, [number], {number}, {number: []}]
    leak: dict[int, int] = {}
    times: dict[str, list[float]] = {"gc.collect()": [], "growth()": [], "again()": []}
    for start in range(rounds):
        times["gc.collect()"].append(timed(gc.collect)[0])
        seconds, first = timed(growth)
        times["growth()"].append(seconds)
        leak.update((start * 1000 + number, number) for number in range(1000))
        seconds, second = timed(first.again)
        times["again()"].append(seconds)
    middle = {name: statistics.median(values) for name, values in times.items()}
    print(f"{second.containers:,} live containers, {rounds} rounds in turn; CPU seconds: median (min–max)")
    rows = [
        [
            name,
            f"{middle[name]:.3f} ({min(values):.3f}–{max(values):.3f})",
            f"{middle[name] / middle['gc.collect()']:.1f}",
        ]
        for name, values in times.items()
    ]
    print_table(["", "s", "times a collection"], rows)
    return middle


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", nargs="?", type=Path, default=Path(os.__file__).parent, help="a folder of packages")
    parser.add_argument("--only", nargs="*", default=[], help="names of packages in it")
    parser.add_argument("--sample", type=int, default=0, help="print so many findings by chance")
    parser.add_argument("--notes", action="store_true", help="sample among the notes instead")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5, help="of the readings")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print_facts({name: said for name, said in machine().items() if name in ("processor", "cores", "python", "date")})
    projects = list(run(options.root, options.only))
    if not projects:
        sys.exit(f"{options.root}: no packages there")
    figures = print_projects(projects)
    if options.sample:
        print_sample(options.root, projects, options.sample, options.seed, notes=options.notes)
    else:
        figures["growth"] = measure_growth(options.rounds)
    write_json(options.json, figures)


if __name__ == "__main__":
    main()
