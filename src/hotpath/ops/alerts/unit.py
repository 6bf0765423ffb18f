"""A systemd unit that failed: what its journal said last."""

from __future__ import annotations

import subprocess
from typing import Final

LINES: Final = 20
JOURNAL_SECONDS: Final = 20.0


def last_lines(unit: str, seconds: float = JOURNAL_SECONDS) -> list[str]:
    """The last lines of the unit's journal, or one that says why it cannot be read."""
    command = ["journalctl", f"--unit={unit}", f"--lines={LINES}", "--output=cat", "--quiet", "--no-pager"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=seconds, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return [f"the journal cannot be read: {error}"]
    printed = done.stdout.decode("utf-8", "replace").splitlines()
    if done.returncode or not printed:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        return [f"the journal says nothing of it{': ' + said[-1] if said else ''}"]
    return printed
