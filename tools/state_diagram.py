"""Draw the memory guard's states into docs/explanation/guard.md, from the table in hotpath/pressure.py.

python tools/state_diagram.py            write the part between the two marks
python tools/state_diagram.py --check    write nothing; 1 when the part is not what would be written
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hotpath.pressure import TABLE, State, Thresholds

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "explanation" / "guard.md"
BEGIN = "<!-- drawn by tools/state_diagram.py -->"
END = "<!-- end of what is drawn -->"


def arrows() -> dict[tuple[State, State], list[str]]:
    """Each arrow once, with all that leads along it."""
    found: dict[tuple[State, State], list[str]] = {}
    for row in TABLE:
        found.setdefault((row.source, row.target), []).append(row.text)
    return found


def draw() -> str:
    """The diagram, and the numbers of the three states, as Markdown."""
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> NORMAL"]
    for (source, target), texts in arrows().items():
        lines.append(f"    {source.name} --> {target.name}: {' or '.join(dict.fromkeys(texts))}")
    lines += ["    DRAIN --> [*]: finished, or out of time", "```", ""]
    lines += [
        "| state | enter at u | or before exhaustion | leave below u | for | in the end |",
        "|---|---|---|---|---|---|",
    ]
    thresholds = Thresholds()
    ends = {
        State.TRIM: "",
        State.SHED: f"DRAIN after {thresholds.shed_seconds:g} s that trimming did not help,"
        f" {thresholds.trimmed_seconds:g} s that it did not end",
        State.BRAKE: f"DRAIN after {thresholds.brake_seconds:g} s",
    }
    for state, level in zip(ends, thresholds.levels, strict=True):
        lines.append(
            f"| {state.name} | {level.enter:.2f} | {level.seconds_left:g} s | {level.leave:.2f} |"
            f" {level.dwell_seconds:g} s | {ends[state]} |"
        )
    return "\n".join(lines)


def replaced(text: str) -> str:
    """The document with what is drawn now. Raises ``ValueError`` where it has no marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{DOCUMENT} needs {BEGIN} and {END}, each on a line")
    return f"{before}{BEGIN}\n\n{draw()}\n\n{END}{after}"


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    text = DOCUMENT.read_text("utf-8")
    wanted = replaced(text)
    if not options.check:
        DOCUMENT.write_text(wanted, "utf-8")
    elif text != wanted:
        print(
            "docs/explanation/guard.md is not what the table says: run python tools/state_diagram.py", file=sys.stderr
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
