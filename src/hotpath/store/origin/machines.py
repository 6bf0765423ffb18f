"""What each machine says of itself at the origin: ``machines/NAME.json``."""

from __future__ import annotations

import re
from dataclasses import dataclass

import orjson

from hotpath.options import json_bytes, to_json
from hotpath.store.origin.bucket import Bucket

MACHINES = "machines/"

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
    name = _UNSAFE.sub("_", report.name)[:100] or "_"
    bucket.objects.put(f"{MACHINES}{name}.json", json_bytes(to_json(report)) + b"\n")


def read_reports(bucket: Bucket) -> list[MachineReport]:
    """The last report of each machine, by name; what cannot be read is passed over. Raises ``OriginError``."""
    reports = []
    for entry in bucket.objects.list(MACHINES):
        found = bucket.objects.get(entry.key)
        try:
            facts = orjson.loads(found.data) if found else {}
            reports.append(MachineReport(**facts))
        except (ValueError, TypeError):
            continue
    return sorted(reports, key=lambda report: report.name)
