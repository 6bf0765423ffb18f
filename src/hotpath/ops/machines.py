"""``hotpath status --origin``: what an origin names, and which machines serve it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hotpath.options import human_seconds
from hotpath.store.origin.follower import HEARTBEAT_SECONDS
from hotpath.store.origin.machines import MachineReport
from hotpath.store.origin.origin import Origin

# Machines report at least so often; one that has left out two is off, or does not reach the origin.
SILENT_SECONDS = 2 * HEARTBEAT_SECONDS


@dataclass(frozen=True, slots=True)
class MachineStatus:
    """A machine by its last report: ``age_seconds`` is how old that is, by the clocks of both.

    ``behind``: it served another generation then than the origin names now. ``silent``: it reports no more.
    """

    name: str
    generation: int | None
    age_seconds: int
    behind: bool
    silent: bool
    lag_seconds: float
    error: str | None


@dataclass(frozen=True, slots=True)
class OriginStatus:
    """An origin: the generation that all machines have to serve, whether it is pinned, what can be approved.

    ``site_copy`` is the generation that a CDN gets from the bucket, ``None`` where there is no copy.
    """

    origin: str
    generation: int | None
    pinned: bool
    quarantined: tuple[int, ...]
    machines: tuple[MachineStatus, ...]
    site_copy: int | None = None


def origin_status(origin: Origin) -> OriginStatus:
    """Ask the origin. Raises ``OriginError``."""
    state = origin.begin().state
    chosen = state.chosen.sequence if state.chosen is not None else None
    now = origin.clock()
    machines = tuple(_machine(report, chosen, now) for report in origin.machines())
    newest = state.current.pointer.sequence if state.current is not None else 0
    waiting = tuple(sequence for sequence in origin.quarantined() if sequence > newest)
    copy = origin.bucket.copy()[0]
    copied = copy.copied.sequence if copy is not None and copy.copied is not None else None
    return OriginStatus(str(origin), chosen, state.pin.pointer is not None, waiting, machines, copied)


def _machine(report: MachineReport, chosen: int | None, now: float) -> MachineStatus:
    age = max(0, int(now - report.time))
    return MachineStatus(
        report.name,
        report.generation,
        age,
        report.generation != chosen,
        age > SILENT_SECONDS,
        report.lag_seconds,
        report.error,
    )


def origin_lines(status: OriginStatus) -> Iterator[str]:
    """For people."""
    yield f"origin {status.origin}"
    pinned = ", pinned" if status.pinned else ""
    yield "nothing is published there yet" if status.generation is None else f"generation {status.generation}{pinned}"
    for sequence in status.quarantined:
        yield f"  {sequence} in quarantine; if it is right after all: 'hotpath approve TARGET {sequence} --reason …'"
    if status.site_copy is not None:
        is_behind = status.site_copy != status.generation
        yield f"site copy of generation {status.site_copy}" + (
            ", BEHIND: 'hotpath push TARGET --site-copy'" if is_behind else ""
        )
    if not status.machines:
        yield "no machine has reported that it follows: 'hotpath follow STORE --origin URL'"
    width = max((len(machine.name) for machine in status.machines), default=0)
    for machine in status.machines:
        marks = []
        if machine.silent:
            marks.append("SILENT")
        if machine.behind:
            marks.append("BEHIND" + (f" for {human_seconds(int(machine.lag_seconds))}" if machine.lag_seconds else ""))
        mark = ", ".join(marks) + (f": {machine.error}" if machine.error else "")
        served = "nothing" if machine.generation is None else machine.generation
        age = human_seconds(machine.age_seconds)
        yield f"  {machine.name:<{width}}  {served:>7}  reported {age:>7} ago  {mark}".rstrip()
