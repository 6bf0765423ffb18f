"""For CI: is the request path slower than it was? Ratios to code that never changes, against a stored baseline.

    python -m benchmarks.regression             compare with baseline.json; exit 1 when something is slower
    python -m benchmarks.regression --update    measure and store

Nanoseconds differ from machine to machine, so nothing is compared in them: each figure is a ratio to the naive lookup,
or for misses to one more call around the app, of the same round in the same process. A figure counts as slower when its
median is more than ``ALLOWED`` above the baseline's *and* more than the scatter of both; it is then measured once more,
with twice the rounds, and has to be slower again. Where the machine changes its speed too often to measure, the whole
is tried again, ``--tries`` times in all.

Exit codes: 0 no slower, 1 slower, 2 usage, 75 could not tell: the machine was too noisy in every try.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.harness import print_table
from benchmarks.inprocess import Apps, make_apps, requests
from benchmarks.sample import COLD_PATH, HOST, PATH, browser_headers
from benchmarks.timing import Case, Rounds, TooNoisy, measure

BASELINE = Path(__file__).parent / "baseline.json"
ALLOWED = 0.15
ROUNDS = 9
TRIES = 3

# Half the width within which a median of rounds may lie by chance, in median absolute deviations: 1.4826 of them are
# one standard deviation, and a median scatters by 1.25 of those over the square root of the rounds; three times that.
SCATTER = 3 * 1.4826 * 1.2533

EXIT_NOISY = 75


@dataclass(frozen=True, slots=True)
class Mark:
    """A ratio: its median over the rounds, and how far that median may be off by chance."""

    median: float
    uncertainty: float

    @classmethod
    def of(cls, ratios: Sequence[float]) -> Mark:
        median = statistics.median(ratios)
        deviation = statistics.median(abs(ratio - median) for ratio in ratios)
        return cls(median, SCATTER * deviation / len(ratios) ** 0.5)


def is_slower(now: Mark, before: Mark) -> bool:
    """More than ``ALLOWED`` above the baseline, beyond what both may be off by chance."""
    return now.median - before.median > ALLOWED * before.median + now.uncertainty + before.uncertainty


def measured(apps: Apps, rounds: int) -> dict[str, Mark]:
    """Every figure."""
    cases = []
    for name, headers in requests(apps.etag).items():
        cases.append(Case(f"naive {name}", apps.naive, [PATH], headers))
        cases.append(Case(f"hotpath {name}", apps.hotpath, [PATH], headers))
    misses = {"miss": [HOST], "miss, 13 fields": browser_headers()}
    for name, headers in misses.items():
        cases.append(Case(f"wrapped {name}", apps.wrapped, [COLD_PATH], headers))
        cases.append(Case(f"hotpath {name}", apps.hotpath, [COLD_PATH], headers))
    found = measure(cases, rounds=rounds)
    marks = {f"hit, {name}": _mark(found, f"hotpath {name}", f"naive {name}") for name in requests(apps.etag)}
    return marks | {name: _mark(found, f"hotpath {name}", f"wrapped {name}") for name in misses}


def _mark(found: Rounds, name: str, base: str) -> Mark:
    pairs = zip(found.nanoseconds[name], found.nanoseconds[base], strict=True)
    return Mark.of([time / by_hand for time, by_hand in pairs])


def compare(
    baseline: Mapping[str, Mark], measure_again: Callable[[int], Mapping[str, Mark]], rounds: int = ROUNDS
) -> tuple[list[list[object]], list[str]]:
    """The table, and the figures that were slower twice."""
    now = measure_again(rounds)
    slower = [name for name in baseline if is_slower(now[name], baseline[name])]
    if slower:
        again = measure_again(2 * rounds)
        slower = [name for name in slower if is_slower(again[name], baseline[name])]
        now = again
    rows: list[list[object]] = [
        [
            name,
            before.median,
            now[name].median,
            now[name].median / before.median,
            now[name].uncertainty + before.uncertainty,
            "SLOWER" if name in slower else "",
        ]
        for name, before in baseline.items()
    ]
    return rows, slower


def python_version() -> str:
    """Interpreters differ in what is cheap, so a baseline belongs to one minor version."""
    return f"{platform.python_implementation()} {'.'.join(platform.python_version_tuple()[:2])}"


def read_baseline(path: Path) -> dict[str, Mark] | None:
    """The stored figures for this interpreter, ``None`` where there are none."""
    stored = json.loads(path.read_text()) if path.exists() else {}
    marks = stored.get(python_version())
    return {name: Mark(**mark) for name, mark in marks.items()} if marks else None


def write_baseline(path: Path, marks: Mapping[str, Mark]) -> None:
    """Store the figures for this interpreter beside those of others."""
    stored = json.loads(path.read_text()) if path.exists() else {}
    stored[python_version()] = {
        name: {part: round(value, 4) for part, value in asdict(mark).items()} for name, mark in marks.items()
    }
    path.write_text(json.dumps(stored, indent=2, sort_keys=True) + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true", help="store what is measured as the new baseline")
    parser.add_argument("--baseline", type=Path, default=BASELINE, help="the file of stored ratios (%(default)s)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="rounds that have to count (%(default)s)")
    parser.add_argument("--tries", type=int, default=TRIES, help="tries on a noisy machine (%(default)s)")
    options = parser.parse_args(arguments)
    if options.rounds < 1 or options.tries < 1:
        parser.error("--rounds and --tries are at least 1")
    baseline = read_baseline(options.baseline)
    if baseline is None and not options.update:
        print(f"{options.baseline} has nothing for {python_version()}; run with --update", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="hotpath-bench-") as directory:
        apps = make_apps(Path(directory, "hot"))
        for number in range(1, options.tries + 1):
            try:
                if baseline is None or options.update:
                    return store(options.baseline, measured(apps, 2 * options.rounds))
                return report(*compare(baseline, lambda rounds: measured(apps, rounds), options.rounds))
            except TooNoisy as error:
                print(f"could not tell (try {number} of {options.tries}): {error}", file=sys.stderr)
    return EXIT_NOISY


def store(path: Path, marks: Mapping[str, Mark]) -> int:
    """Write the baseline and say so. Returns the exit code."""
    write_baseline(path, marks)
    print(f"{path}: stored for {python_version()}")
    return 0


def report(rows: Sequence[Sequence[object]], slower: Sequence[str]) -> int:
    """Print the verdict. Returns the exit code."""
    print_table(("ratio", "baseline", "now", "change", "± chance", ""), rows)
    if slower:
        print(f"slower by more than {ALLOWED:.0%}, twice: {', '.join(slower)}", file=sys.stderr)
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
