"""Write the table of the guard's fault tests into docs/explanation/guard.md, from what the tests saw.

HOTPATH_GUARD_REPORT=/some/directory python -m pytest -m slow tests/guard
python tools/fault_table.py /some/directory
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "explanation" / "guard.md"
BEGIN = "<!-- written by tools/fault_table.py -->"
END = "<!-- end of what is written -->"
TITLES = {
    "01": "leak of 50 MiB/s, 256 MiB",
    "02": "150 MiB of page cache, 256 MiB",
    "03": "limit of the parent group, changed four times",
    "04": "loop blocked 3 s by Python code",
    "05": "60 s of BRAKE, 256 MiB, a leak of 10 MiB/s in the load",
    "06": "plateau, its load removed",
    "07": "square wave on a threshold, 60 s",
    "08": "4 workers leak together, 400 MiB",
    "09": "baseline above the threshold, 2 workers",
    "10": "4 forked workers share 100 MiB, 400 MiB",
    "11": "files empty, garbage, absurd, frozen (a fixture tree)",
    "12": "one request of 400 MiB, 256 MiB",
}
HEAD = ("", "kills", "hot", "others", "s in each state", "peak", "")


def cells(test: str, found: dict[str, Any]) -> list[str]:
    """One row; ``found`` is a report."""
    counts = (", ".join(f"{count} × {status}" for status, count in sorted(found[kind].items())) for kind in _KINDS)
    states = [(name, seconds) for name, seconds in found["states"].items() if name.isupper()]
    peak = f"{found['peak_mib']} MiB" if found["peak_mib"] is not None else "–"
    notes = [found["note"]] if found["note"] else []
    if broken := sum(found["broken"].values()):
        notes.append(f"{broken} connections broken")
    title = f"{test} {TITLES[test]}" + ("" if found["guarded"] else ", **without the guard**")
    spent = ", ".join(f"{name} {seconds:g}" for name, seconds in states)
    return [title, str(found["kills"]), *(one or "–" for one in counts), spent or "–", peak, "; ".join(notes)]


_KINDS = ("hot", "cold")


def table(directory: Path) -> str:
    """All rows. Raises ``FileNotFoundError`` where a test has left no report."""
    rows: list[list[str]] = [[*HEAD], ["---"] * len(HEAD)]
    for test in TITLES:
        rows.append(cells(test, json.loads((directory / f"{test}-guarded.json").read_text("utf-8"))))
        unguarded = directory / f"{test}-unguarded.json"
        if unguarded.exists():
            rows.append(cells(test, json.loads(unguarded.read_text("utf-8"))))
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def replaced(text: str, written: str) -> str:
    """The document with this table. Raises ``ValueError`` where it has no marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{DOCUMENT} needs {BEGIN} and {END}, each on a line")
    return f"{before}{BEGIN}\n\n{written}\n\n{END}{after}"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, help="where the tests' reports are")
    directory = parser.parse_args().directory
    DOCUMENT.write_text(replaced(DOCUMENT.read_text("utf-8"), table(directory)), "utf-8")


if __name__ == "__main__":
    main()
