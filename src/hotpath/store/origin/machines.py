"""What each machine says of itself at the origin: ``machines/NAME.json``."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import orjson

from hotpath.options import json_bytes, to_json
from hotpath.store.origin.bucket import Bucket

MACHINES = "machines/"

# Characters of a name or an error that are read, and the largest number: what lies beyond is not a machine's.
MAX_NAME = 100
MAX_TEXT = 1000
MAX_NUMBER = 10**18

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e]")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


@dataclass(frozen=True, slots=True)
class MachineReport:
    """One machine as it was at ``time``, seconds since the epoch by its own clock.

    ``generation`` is what it serves, ``origin_generation`` what it had to; ``lag_seconds`` is since when it is behind,
    ``error`` why.
    """

    name: str
    generation: int | None
    origin_generation: int | None
    lag_seconds: float
    error: str | None
    time: int


def write_report(bucket: Bucket, report: MachineReport) -> None:
    """Put a report in place of this machine's last one. Raises ``OriginError``."""
    name = _UNSAFE.sub("_", report.name)[:MAX_NAME] or "_"
    bucket.objects.put(f"{MACHINES}{name}.json", json_bytes(to_json(report)) + b"\n")


def read_reports(bucket: Bucket) -> list[MachineReport]:
    """The last report of each machine, by name; what cannot be read is passed over. Raises ``OriginError``."""
    reports = []
    for entry in bucket.objects.list(MACHINES):
        found = bucket.objects.get(entry.key)
        try:
            facts = orjson.loads(found.data) if found else {}
            reports.append(_checked(MachineReport(**facts)))
        except (ValueError, TypeError):
            continue
    return sorted(reports, key=lambda report: report.name)


def _checked(report: MachineReport) -> MachineReport:
    """Raises ``TypeError`` for what no machine writes: these texts and numbers come into terminals and metrics."""
    texts = (report.name, "" if report.error is None else report.error)
    generations = (report.generation, report.origin_generation)
    numbers = (report.time, report.lag_seconds, *(0 if n is None else n for n in generations))
    is_sound = all(isinstance(text, str) for text in texts) and all(isinstance(n, int | float) for n in numbers)
    if not is_sound or max(map(abs, numbers)) > MAX_NUMBER:
        raise TypeError("no report")
    name, error = (_CONTROLS.sub("?", text[:most]) for text, most in zip(texts, (MAX_NAME, MAX_TEXT), strict=True))
    return replace(report, name=name, error=error or None)
