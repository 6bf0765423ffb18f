"""Print the kill table of ``recover``: ``python -m tests.ops.kill_table``."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.ops.recovering import SCENARIOS, Bench, boundaries, forking


def main() -> None:
    """For each scenario and step: killed when, and whether the end state is that of a run that was not killed."""
    with forking() as killer, tempfile.TemporaryDirectory() as directory:
        for scenario in SCENARIOS:
            bench = Bench(killer, scenario, Path(directory, scenario.replace(" ", "-")))
            whole = bench.case()
            print(f"\n{scenario}: not killed: generation {whole.end['serving']} is served, PIN {whole.end['PIN']!r:.8}")
            print("| step | killed | second run | end state | third run |")
            print("|---|---|---|---|---|")
            for step, when, number, moment in boundaries(whole.first):
                found = bench.case(number, moment)
                same = {name for name in whole.end if found.end[name] != whole.end[name]} - {"checklist"}
                print(
                    f"| {step} | {when} | {'finished' if found.second.status == 0 else 'STOPPED'} |"
                    f" {'the same' if not same else f'OTHER {sorted(same)}'} |"
                    f" {'changed nothing' if found.untouched and not found.third.changed else 'CHANGED'} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
