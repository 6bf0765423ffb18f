"""Bursts of 5xx and resets, and the restarts of the unit beside them."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

# Minutes without an error that end a burst.
GAP_MINUTES: Final = 5
JOURNAL_SECONDS: Final = 30.0
# A restart belongs to a burst when it is so many minutes before it or in it.
RESTART_MINUTES: Final = 3

# systemd's catalog of messages (sd-messages(3)): a process exited, the kernel's OOM killer struck, a unit has started.
_MESSAGES: Final = {
    "98e322203f7a4ed290d09fe03c09fe15": "its process ended",
    "fe6faa94e7774663a0da52717891d8ef": "killed, out of memory",
    "39f53479d3a045ac8e11786248231fbf": "started",
}


@dataclass(frozen=True, slots=True)
class Restart:
    """What systemd's journal says of the unit, at a minute since the epoch."""

    minute: int
    what: str


@dataclass(slots=True)
class Burst:
    """Errors that came together, from one minute to another: how many, by status and by crawler."""

    first_minute: int
    last_minute: int
    statuses: Counter[int] = field(default_factory=Counter)
    crawlers: Counter[str] = field(default_factory=Counter)
    restarts: list[str] = field(default_factory=list)

    @property
    def errors(self) -> int:
        """Requests that got no good answer."""
        return self.statuses.total()


def bursts(bad_minutes: Mapping[tuple[int, int, str], int], restarts: Sequence[Restart] = ()) -> list[Burst]:
    """By time. ``bad_minutes`` counts errors by minute, status and crawler (empty: none)."""
    found: list[Burst] = []
    for (minute, status, crawler), count in sorted(bad_minutes.items()):
        if not found or minute - found[-1].last_minute > GAP_MINUTES:
            found.append(Burst(minute, minute))
        burst = found[-1]
        burst.last_minute = minute
        burst.statuses[status] += count
        if crawler:
            burst.crawlers[crawler] += count
    for burst in found:
        burst.restarts = [
            restart.what
            for restart in restarts
            if burst.first_minute - RESTART_MINUTES <= restart.minute <= burst.last_minute
        ]
    return found


def restarts_of(unit: str, first_minute: int, last_minute: int) -> tuple[list[Restart], str | None]:
    """What the journal knows of the unit in that time; and why it knows nothing, where it could not be read."""
    command = ["journalctl", f"--unit={unit}", f"--since=@{first_minute * 60}", f"--until=@{last_minute * 60 + 60}"]
    try:
        done = subprocess.run(
            [*command, "--output=json", "--quiet", "--no-pager"],
            capture_output=True,
            timeout=JOURNAL_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return [], f"the journal cannot be read: {error}"
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        return [], f"the journal cannot be read: {said[-1] if said else f'exit status {done.returncode}'}"
    return parse_journal(done.stdout), None


def parse_journal(output: bytes) -> list[Restart]:
    """Restarts out of ``journalctl --output=json``; other entries, and lines that are none, are passed over."""
    restarts = []
    for line in output.splitlines():
        try:
            entry = json.loads(line)
            what = _MESSAGES.get(entry.get("MESSAGE_ID"))
            if what is not None:
                restarts.append(Restart(int(entry["__REALTIME_TIMESTAMP"]) // 60_000_000, what))
        except (ValueError, KeyError, AttributeError, TypeError):
            continue
    return restarts
