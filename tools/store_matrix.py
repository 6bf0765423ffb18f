"""Write the figures of the store's fault matrix into docs/reference/fault-matrix.md, from what its tests counted.

python -m pytest -m "slow or not slow" -o junit_family=xunit1 --junitxml=build/store.xml \\
    tests/store/crash tests/store/faults tests/store/test_quarantine.py tests/process/test_fork.py \\
    tests/serving/test_watched_rewrites.py
python tools/store_matrix.py build/store.xml

A test that looks at many situations says how many with ``record_property("cases", …)``; any other is one. "Wrong" are
tests that failed. Tests that were skipped are named, since what was not tried says nothing.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "reference" / "fault-matrix.md"

# The first cell of a row, and the full names of its tests. What is in two belongs to the first.
ROWS = {
    "1": r"crash\.test_(kill|repair)\.",
    "1 + 2": r"crash\.test_power_loss\.test_a_kill_and_then",
    "2": r"crash\.test_power_loss\.test_a_power_loss_at_any",
    "3": r"crash\.test_power_loss\.test_a_power_loss_that_drops",
    "4": r"faults\.test_row_04",
    "5": r"crash\.test_errors\.",
    "6": r"faults\.test_row_06",
    "7": r"faults\.test_row_07",
    "8": r"faults\.test_row_08",
    "9": r"faults\.test_row_09",
    "10": r"faults\.test_row_10",
    "11": r"crash\.test_swaps\.",
    "12": r"faults\.test_row_12",
    "13": r"faults\.test_row_13",
    "14": r"faults\.test_row_14",
    "15": r"faults\.test_row_15",
    "16": r"(store\.test_quarantine|process\.test_fork)\.",
    "any": r"faults\.test_any_order\.",
    "files": r"serving\.test_watched_rewrites\.",
    "bugs": r"crash\.test_planted\.",
}
BY_COMMAND = "**Row 1, by command:**"
SERVER = "**Row 11** also watches the server:"
SKIPPED = "Skipped where this was measured:"


@dataclass(frozen=True)
class Case:
    """One test as it ended, with what it counted."""

    name: str
    seconds: float
    failed: bool
    skipped: bool
    counts: dict[str, str]

    @property
    def cases(self) -> int:
        return int(self.counts.get("cases", 1))


def read(path: Path) -> list[Case]:
    """Every test of a report of pytest."""
    cases = []
    for case in ET.parse(path).getroot().iter("testcase"):
        counts = {counted.get("name", ""): counted.get("value", "") for counted in case.iter("property")}
        failed = case.find("failure") is not None or case.find("error") is not None
        name = f"{case.get('classname')}.{case.get('name')}"
        cases.append(Case(name, float(case.get("time", 0)), failed, case.find("skipped") is not None, counts))
    return cases


def by_row(cases: Sequence[Case]) -> dict[str, list[Case]]:
    """The tests of each row. Raises ``ValueError`` where a row has none."""
    rows: dict[str, list[Case]] = {number: [] for number in ROWS}
    for case in cases:
        number = next((number for number, names in ROWS.items() if re.search(names, case.name)), None)
        if number is not None:
            rows[number].append(case)
    if empty := [number for number, row in rows.items() if not row]:
        raise ValueError(
            f"no test in the report for the rows {', '.join(empty)}; run all that the head of {__file__} names"
        )
    return rows


def figures(cases: Sequence[Case]) -> tuple[str, str, str]:
    """Cases, wrong ones and seconds of a row."""
    done = [case for case in cases if not case.skipped]
    count = f"{sum(case.cases for case in done):,}"
    if states := sum(int(case.counts.get("states", 0)) for case in done):
        count += f", {states:,} distinct states"
    seconds = sum(case.seconds for case in done)
    return count, str(sum(case.failed for case in done)), f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def rewritten(text: str, rows: dict[str, list[Case]]) -> str:
    """The document with these figures in its table and in the lines below. Raises ``ValueError`` where it has none."""
    kills = [(re.search(r"whole\[(.*)\]$", case.name), case.cases) for case in rows["1"]]
    skipped = {number: sum(case.skipped for case in cases) for number, cases in rows.items()}
    texts = {
        BY_COMMAND: "kills of " + ", ".join(f"{match[1]} {count}" for match, count in kills if match),
        SERVER: rows["11"][0].counts.get("server", "it did not end"),
        SKIPPED: ", ".join(f"{count} of row {number}" for number, count in skipped.items() if count) or "nothing",
    }
    left = {*ROWS, *texts}
    lines = text.split("\n")
    for place, line in enumerate(lines):
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) == 8 and cells[1] in left:
            lines[place] = "| " + " | ".join([*cells[1:4], *figures(rows[cells[1]])]) + " |"
            left.discard(cells[1])
        for start, what in texts.items():
            if line.startswith(start):
                lines[place] = f"{start} {what}."
                left.discard(start)
    if left:
        raise ValueError(f"{DOCUMENT} has no line for: {', '.join(sorted(left))}")
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path, help="what pytest wrote with --junitxml")
    rows = by_row(read(parser.parse_args().report))
    DOCUMENT.write_text(rewritten(DOCUMENT.read_text("utf-8"), rows), "utf-8")


if __name__ == "__main__":
    main()
