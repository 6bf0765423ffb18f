"""What waits for a person, the most urgent first, each with the command that ends it. Values in, values out."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from hotpath.batch.reports import FAILED, QUARANTINED
from hotpath.dashboard.facts import GuardFacts, StatusFacts
from hotpath.options import counted, human_bytes, human_seconds

BAD: Final = "bad"
WARN: Final = "warn"
NOTE: Final = "note"
_ORDER: Final = (BAD, WARN, NOTE)

# A look that fails once is nothing that a person could do something about.
BEHIND_SECONDS: Final = 120


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing that waits. ``level`` is bad (visitors notice), warn (somebody has to act) or note."""

    level: str
    title: str
    details: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()


def notices(facts: StatusFacts) -> list[Notice]:
    """Everything that waits."""
    everything = [
        *_of_what_is_served(facts),
        *_of_the_origin(facts),
        *_of_the_app(facts),
        *_of_the_guard(facts),
        *_of_quarantine(facts),
        *_of_the_batch(facts),
        *_of_alerts(facts),
    ]
    return sorted(everything, key=lambda notice: _ORDER.index(notice.level))


def headline(facts: StatusFacts, waiting: list[Notice]) -> tuple[str, str]:
    """How it is in one sentence, and its level; without figures that change all the time."""
    levels = [notice.level for notice in waiting]
    if BAD in levels:
        return next(notice.title for notice in waiting if notice.level == BAD), BAD
    count = levels.count(WARN)
    if count:
        return f"Hot pages are up; {'one thing waits' if count == 1 else f'{count} things wait'} for you", WARN
    return "All is well: hot pages are up", "good"


def command(facts: StatusFacts, name: str, rest: str = "") -> str:
    """A command about this site, as it is typed into a shell."""
    needs_target = name in ("build", "recover")
    target = facts.target if facts.has_target or not needs_target else "TARGET"
    return " ".join(part for part in ("hotpath", name, shlex.quote(target), rest) if part)


def _of_what_is_served(facts: StatusFacts) -> Iterator[Notice]:
    store, live = facts.store, facts.live
    if store.serving is None and not (live is not None and live.pages):
        yield Notice(
            BAD,
            "No hot page is served",
            (store.degraded or "nothing is published here yet", "Every request goes to the app."),
            (command(facts, "build"),),
        )
        return
    degraded = store.degraded or (live.degraded if live is not None else None)
    if degraded:
        yield Notice(
            WARN,
            f"Degraded: generation {store.serving} is served in place of another",
            (degraded,),
            (command(facts, "verify", "--repair"), command(facts, "build")),
        )
    if store.damages:
        more = (f"and {len(store.damages) - 3:,} more",) if len(store.damages) > 3 else ()
        yield Notice(
            WARN,
            f"{counted(len(store.damages), 'file')} of the generation {'was' if len(store.damages) == 1 else 'were'}"
            " lost or changed",
            (*store.damages[:3], *more, "Its last good bytes are served where they are known."),
            (command(facts, "verify", "--repair"),),
        )
    if store.pinned is not None:
        newer = store.newest is not None and store.newest > store.pinned
        held = f"Generation {store.newest} is newer and waits behind it." if newer else "No newer one waits behind it."
        yield Notice(
            WARN if newer else NOTE, f"Generation {store.pinned} is pinned", (held,), (command(facts, "unpin"),)
        )


def _of_the_origin(facts: StatusFacts) -> Iterator[Notice]:
    origin = facts.store.origin
    if origin is None:
        return
    if origin.silent:
        since = f"Its last look at {origin.url} was {human_seconds(origin.age_seconds)} ago."
        yield Notice(WARN, "Nothing follows the origin any more", (since,), (command(facts, "follow"),))
    elif origin.error is not None and origin.lag_seconds >= BEHIND_SECONDS:
        behind = f"This machine is behind its origin for {human_seconds(origin.lag_seconds)}"
        yield Notice(WARN, behind, (origin.error,), (command(facts, "status", "--origin"),))
    elif origin.ahead:
        unsent = f"Generation {facts.store.serving} was not sent to the origin"
        yield Notice(WARN, unsent, (f"{origin.url} has {origin.generation}.",), (command(facts, "push"),))


def _of_quarantine(facts: StatusFacts) -> Iterator[Notice]:
    for held in facts.store.held_back[:1]:
        if held.can_be_approved:
            more = (f"and {len(held.problems) - 3} more, below",) if len(held.problems) > 3 else ()
            yield Notice(
                WARN,
                f"Generation {held.sequence} is in quarantine: it is not plausible",
                (*held.problems[:3], *more, "Visitors get the one before. If it is right after all, release it:"),
                (
                    command(facts, "approve", f"{held.sequence} --reason 'why it is right'"),
                    command(facts, "build"),
                ),
            )


def _of_the_batch(facts: StatusFacts) -> Iterator[Notice]:
    store = facts.store
    if store.open_recovery:
        yield Notice(WARN, "A recovery has not come to its end", (store.open_recovery,), (command(facts, "recover"),))
    last = store.runs[-1] if store.runs else None
    if last is not None and last.outcome == FAILED:
        yield Notice(
            WARN,
            f"The last batch failed: {last.failures} of {counted(last.total, 'item')}",
            (*last.problems[:2], *(f"{key}: {problem}" for key, problem in last.failed[:3])),
            (command(facts, "build", "--retry-failed"),),
        )
    elif last is not None and last.failures and last.outcome != QUARANTINED:
        yield Notice(
            NOTE,
            f"{counted(last.failures, 'item')} of the last batch failed and keep their last good bytes",
            tuple(f"{key}: {problem}" for key, problem in last.failed[:3]),
            (command(facts, "build", "--retry-failed"),),
        )
    # Not the one that is served: a pin keeps that old.
    made = max((each.created for each in store.generations if each.created and not each.bad), default=None)
    if made is not None and store.lifetime is not None:
        late = facts.at - made - store.lifetime
        if late > 0:
            yield Notice(
                WARN,
                f"The batch is late: the newest generation is {human_seconds(int(late) // 60 * 60)} past its lifetime",
                (f"{store.stale:,} of {counted(store.hot, 'page')} are stale; they are served, and say so.",),
                (command(facts, "build"),),
            )


def _of_the_guard(facts: StatusFacts) -> Iterator[Notice]:
    guard = facts.guard
    if guard is None:
        return
    if guard.state == "BLIND":
        yield Notice(
            WARN,
            "The memory guard is BLIND: memory cannot be read",
            (guard.problem or guard.reason, "Hot pages are answered; few cold requests at a time are let in."),
            ("cat /proc/self/cgroup",),
        )
    elif guard.state in ("SHED", "BRAKE", "DRAIN"):
        what = {
            "SHED": "cold requests are refused, the least important first",
            "BRAKE": "nearly all cold requests are refused",
            "DRAIN": "this worker finishes its requests and leaves for a fresh one",
        }[guard.state]
        yield Notice(WARN, f"Memory is short ({guard.state}): {what}", (_memory_of(guard),), ("hotpath audit .",))
    elif guard.state == "TRIM":
        yield Notice(NOTE, "Memory gets short (TRIM): caches shrink, nothing is refused", (_memory_of(guard),))
    if guard.is_suppressed:
        yield Notice(
            WARN,
            "Recycling workers does not help: something takes the memory from the start",
            (_memory_of(guard),),
            ("hotpath audit .",),
        )


def _memory_of(guard: GuardFacts) -> str:
    if guard.used is None or guard.limit is None or guard.share is None:
        return guard.problem or "nothing was read yet"
    text = f"{human_bytes(guard.used)} of {human_bytes(guard.limit)} in use ({guard.share:.0%})"
    if guard.seconds_left < 3600:
        text += f", at this growth the rest lasts {human_seconds(int(guard.seconds_left))}"
    return text + "."


def _of_the_app(facts: StatusFacts) -> Iterator[Notice]:
    app = facts.app
    if app is None:
        return
    if app.is_paused:
        yield Notice(
            WARN,
            "The app is paused: cold requests wait",
            (f"{counted(app.held, 'request')} waiting",),
            ("hotpath resume",),
        )
    elif not app.is_up:
        yield Notice(
            WARN,
            "The app is down: cold requests wait, hot pages are up",
            (f"{counted(app.held, 'request')} waiting; it was started again {app.restarts} times.",),
            ("hotpath reload",),
        )


def _of_alerts(facts: StatusFacts) -> Iterator[Notice]:
    for alert in facts.store.alerts[:10]:
        area = alert.kind.partition(".")[0]
        commands = {
            "build": (command(facts, "build", "--alert"),),
            "items": (command(facts, "build", "--retry-failed --alert"),),
            "pin": (command(facts, "unpin"),),
            "check": (command(facts, "check", f"--base-url {shlex.quote(alert.about or 'https://…')} --alert"),),
            "public": (command(facts, "check", f"--base-url {shlex.quote(alert.about or 'https://…')} --alert"),),
            "memory": ("hotpath audit .",),
        }.get(area, (command(facts, "status"),))
        since = human_seconds(max(0, int(facts.at) - alert.since))
        about = (f"about {alert.about}",) if alert.about else ()
        yield Notice(NOTE, f"An alert is open: {alert.kind}, since {since}", about, commands)
