"""Plot fault 01 into docs/explanation/guard-leak.svg: memory and state over time, with the guard and without.

HOTPATH_GUARD_REPORT=/some/directory python -m pytest -m slow tests/guard/test_fault_01_leak.py
python tools/plot_leak.py /some/directory
"""

from __future__ import annotations

import argparse
import json
from itertools import groupby
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "explanation" / "guard-leak.svg"
LIMIT_MIB = 256
MIB = 1024 * 1024
COLOURS = {"NORMAL": "#ffffff", "TRIM": "#fff3c4", "SHED": "#ffd8a8", "BRAKE": "#ffb3b3"}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, help="where the test's report is")
    directory = parser.parse_args().directory
    guarded, unguarded = (
        json.loads((directory / f"01-{name}-seen.json").read_text("utf-8")) for name in ("guarded", "unguarded")
    )
    mpl.rcParams["svg.hashsalt"] = "hotpath"
    figure, axes = plt.subplots(figsize=(8, 3.6))
    for state, group in groupby(guarded, key=lambda one: one[1]):
        seen = list(group)
        axes.axvspan(seen[0][0], seen[-1][0] + 0.25, color=COLOURS.get(state, "#eeeeee"), lw=0)
        axes.text(seen[0][0] + 0.05, LIMIT_MIB * 1.04, state, fontsize=8, va="bottom")
    axes.plot([one[0] for one in guarded], [one[2] / MIB for one in guarded], label="with the guard", color="#1f5fa8")
    alive = [one for one in unguarded if one[1]]
    axes.plot(
        [one[0] for one in alive], [one[2] / MIB for one in alive], label="without: killed", color="#b03030", ls="--"
    )
    axes.plot([alive[-1][0]], [alive[-1][2] / MIB], marker="x", color="#b03030")
    axes.axhline(LIMIT_MIB, color="black", lw=0.8)
    axes.set(xlabel="seconds", ylabel="MiB that cannot be taken back", ylim=(0, LIMIT_MIB * 1.15), xlim=(0, None))
    axes.legend(loc="lower right")
    figure.tight_layout()
    figure.savefig(PICTURE, metadata={"Date": None})


if __name__ == "__main__":
    main()
