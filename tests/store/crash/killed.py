"""Run a scenario's command and kill it: a process that has all modules loaded forks one child for each kill.

``python -m tests.store.crash.killed`` reads a line of JSON for each (scenario, root, number, moment, planted bug) and
answers with the exit code of the child, which is negative for a signal.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.store.crash.operations import KillingDisk
from tests.store.crash.planted import planted
from tests.store.crash.scenarios import COMMANDS

REPOSITORY = Path(__file__).resolve().parents[3]

# A command takes milliseconds.
LONGEST_SECONDS = 60


@dataclass(frozen=True)
class Killer:
    """The forking process."""

    process: subprocess.Popen[str]
    requests: IO[str]
    answers: IO[str]

    def run(self, scenario: str, root: Path, number: int, moment: str, plant: str = "") -> int:
        """The exit status of the command as ``os.waitstatus_to_exitcode`` gives it: -9 is SIGKILL."""
        print(json.dumps([scenario, str(root), number, moment, plant]), file=self.requests, flush=True)
        line = self.answers.readline()
        assert line, "the forking process has ended"
        return int(line)


@contextmanager
def forking() -> Iterator[Killer]:
    process = subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process, process.stdin, process.stdout:
        yield Killer(process, process.stdin, process.stdout)
        process.stdin.close()


def _serve() -> None:
    for line in sys.stdin:
        name, root, number, moment, plant = json.loads(line)
        child = os.fork()
        if child == 0:
            signal.alarm(LONGEST_SECONDS)  # one that hangs ends by another signal than it should
            try:
                scenario = COMMANDS[name]
                disk = planted(plant, KillingDisk)(base=Path(root).parent, number=number, moment=moment)
                scenario.command(scenario.store(Path(root), disk))
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    _serve()
