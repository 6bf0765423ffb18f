"""What the pointers of an origin hold, and which generation they name. No requests are made here.

``CURRENT`` is the only object that machines look at again and again: it says which ``PIN`` and ``BAD`` belong to it,
so a change of those is in force from the moment that ``CURRENT`` is replaced, and not before. Each content has a
``change`` that only grows: no content, and so no ETag made of it, comes back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from hotpath.errors import Corrupt
from hotpath.options import json_bytes
from hotpath.store.pointer import Pointer

FORMAT = 1

CURRENT = "CURRENT"
PIN = "PIN"
BAD = "BAD"
COPY = "COPY"

# Numbers of generations and of changes are below it: files have 18 digits for them.
MAX_NUMBER = 10**18

# Generations that CURRENT remembers: the longest way back for a rollback, at 85 bytes each in every look.
MAX_ACCEPTED = 50


@dataclass(frozen=True, slots=True)
class Pin:
    """The content of ``PIN``; ``pointer`` is ``None`` where nothing is pinned."""

    change: int = 0
    pointer: Pointer | None = None

    def moved(self, pointer: Pointer | None) -> Pin:
        return Pin(self.change + 1, pointer)

    def encode(self) -> bytes:
        return _encode(self.change, {"pin": _fact(self.pointer)})

    @classmethod
    def decode(cls, data: bytes) -> Pin:
        facts = _decode(data, PIN)
        try:
            return cls(facts["change"], None if facts["pin"] is None else _pointer(facts["pin"]))
        except (KeyError, TypeError, ValueError) as error:
            raise _unreadable(PIN, data) from error


@dataclass(frozen=True, slots=True)
class Bad:
    """The content of ``BAD``: the generations that nothing brings back, with the reason.

    ``rollback`` is what the last rollback went from and to: whoever finds it half done can finish it.
    """

    change: int = 0
    marks: Mapping[int, str] = field(default_factory=dict)
    rollback: tuple[int, int] | None = None

    def moved(self, marks: Mapping[int, str], rollback: tuple[int, int]) -> Bad:
        return Bad(self.change + 1, dict(marks), rollback)

    def encode(self) -> bytes:
        marks = {str(n): reason for n, reason in sorted(self.marks.items())}
        return _encode(self.change, {"bad": marks, "rollback": self.rollback})

    @classmethod
    def decode(cls, data: bytes) -> Bad:
        facts = _decode(data, BAD)
        try:
            marks = {_number(n): str(reason) for n, reason in facts["bad"].items()}
            rollback = facts["rollback"]
            return cls(facts["change"], marks, rollback and (_number(rollback[0]), _number(rollback[1])))
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise _unreadable(BAD, data) from error


@dataclass(frozen=True, slots=True)
class Current:
    """The content of ``CURRENT``.

    ``accepted`` are the generations that were current and are still kept, with the digests of their manifests;
    ``pin_change`` and ``bad_change`` say which contents of ``PIN`` and ``BAD`` are in force, 0: none was ever written.
    ``approved`` are those of them that a person has released, with the reason.
    ``pruning`` is when somebody began to remove objects that no manifest names (seconds since the epoch).
    """

    change: int
    pointer: Pointer
    accepted: Mapping[int, bytes]
    pin_change: int = 0
    bad_change: int = 0
    approved: Mapping[int, str] = field(default_factory=dict)
    pruning: int | None = None

    @classmethod
    def first(cls, pointer: Pointer, *, pin: Pin, bad: Bad) -> Current:
        return cls(1, pointer, {pointer.sequence: pointer.sha256}, pin.change, bad.change)

    def published(self, pointer: Pointer, reason: str | None = None) -> Current:
        """After a new generation; ``reason`` is that of an approval."""
        accepted = {**self.accepted, pointer.sequence: pointer.sha256}
        kept = dict(sorted(accepted.items())[-MAX_ACCEPTED:])
        approved = {**self.approved, pointer.sequence: reason} if reason is not None else self.approved
        return replace(self, change=self.change + 1, pointer=pointer, accepted=kept, approved=_among(kept, approved))

    def changed(self, pointer: Pointer, pin: Pin, bad: Bad) -> Current:
        """With what is in force from now on."""
        return replace(self, change=self.change + 1, pointer=pointer, pin_change=pin.change, bad_change=bad.change)

    def pruned(self, began: int | None, accepted: Mapping[int, bytes]) -> Current:
        """With the generations that stay; ``began`` is ``None`` when it is over."""
        approved = _among(accepted, self.approved)
        return replace(self, change=self.change + 1, pruning=began, accepted=dict(accepted), approved=approved)

    def encode(self) -> bytes:
        facts = {
            "current": _fact(self.pointer),
            "accepted": {str(n): sha256.hex() for n, sha256 in sorted(self.accepted.items())},
            "pin": self.pin_change,
            "bad": self.bad_change,
            "approved": {str(n): reason for n, reason in sorted(self.approved.items())},
            "pruning": self.pruning,
        }
        return _encode(self.change, facts)

    @classmethod
    def decode(cls, data: bytes) -> Current:
        facts = _decode(data, CURRENT)
        try:
            pointer = _pointer(facts["current"])
            accepted = {_number(n): bytes.fromhex(sha256) for n, sha256 in facts["accepted"].items()}
            changes = facts["change"], facts["pin"], facts["bad"]
            if accepted.get(pointer.sequence) != pointer.sha256 or {type(change) for change in changes} != {int}:
                raise ValueError("the current generation is not an accepted one")
            approved = {_number(n): str(reason) for n, reason in facts["approved"].items()}
            pruning = None if facts["pruning"] is None else _number(facts["pruning"])
            return cls(changes[0], pointer, accepted, changes[1], changes[2], approved, pruning)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _unreadable(CURRENT, data) from error


@dataclass(frozen=True, slots=True)
class Copier:
    """Somebody who copies pages: since when (seconds since the epoch), and of which generations."""

    since: int
    targets: tuple[Pointer, ...]


@dataclass(frozen=True, slots=True)
class Copy:
    """The content of ``COPY``: ``pages/`` is a copy of ``copied``, but for pages of what is being copied.

    ``copying`` has who copies, by a name of their own; one that was killed stays there until a later one is done.
    """

    change: int
    copied: Pointer | None = None
    copying: Mapping[str, Copier] = field(default_factory=dict)

    def entered(self, name: str, copier: Copier) -> Copy:
        return replace(self, change=self.change + 1, copying={**self.copying, name: copier})

    def finished(self, name: str, copied: Pointer, dead_before: float) -> Copy:
        """Without this copier, and without those that began so long ago that they cannot write any more."""
        left = {other: each for other, each in self.copying.items() if other != name and each.since > dead_before}
        return Copy(self.change + 1, copied, left)

    def encode(self) -> bytes:
        copying = {
            name: {"since": each.since, "targets": [_fact(target) for target in each.targets]}
            for name, each in sorted(self.copying.items())
        }
        return _encode(self.change, {"copied": _fact(self.copied), "copying": copying})

    @classmethod
    def decode(cls, data: bytes) -> Copy:
        facts = _decode(data, COPY)
        try:
            copying = {
                str(name): Copier(_number(each["since"]), tuple(map(_pointer, each["targets"])))
                for name, each in facts["copying"].items()
            }
            return cls(facts["change"], None if facts["copied"] is None else _pointer(facts["copied"]), copying)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _unreadable(COPY, data) from error


@dataclass(frozen=True, slots=True)
class OriginState:
    """The three pointers at one moment; ``current`` is ``None`` where nothing was published yet."""

    current: Current | None = None
    pin: Pin = Pin()
    bad: Bad = Bad()

    @property
    def is_in_force(self) -> bool:
        """Whether ``CURRENT`` names the ``PIN`` and ``BAD`` there are."""
        current = self.current
        return current is not None and (current.pin_change, current.bad_change) == (self.pin.change, self.bad.change)

    @property
    def is_rollback_half_done(self) -> bool:
        """Whether somebody was killed between ``BAD`` and ``CURRENT``."""
        return self.current is not None and self.current.bad_change != self.bad.change

    @property
    def highest(self) -> int:
        """The highest number that was ever accepted: a new generation is above it."""
        return max([*(self.current.accepted if self.current else ()), *self.bad.marks], default=0)

    @property
    def newest(self) -> int:
        """The highest number that was accepted and is not marked bad, 0 where there is none."""
        accepted = self.current.accepted if self.current else {}
        return max((n for n in accepted if n not in self.bad.marks), default=0)

    @property
    def chosen(self) -> Pointer | None:
        """The generation that all machines have to serve: the pinned one, else the current one.

        A current one that is marked bad is half a rollback: then the newest accepted one that is not.
        """
        if self.current is None:
            return None
        if self.pin.pointer is not None:
            return self.pin.pointer
        current = self.current.pointer
        if current.sequence not in self.bad.marks:
            return current
        good = [n for n in self.current.accepted if n not in self.bad.marks and n < current.sequence]
        return Pointer(max(good), self.current.accepted[max(good)]) if good else current


def _among(accepted: Mapping[int, bytes], reasons: Mapping[int, str]) -> dict[int, str]:
    return {n: reason for n, reason in reasons.items() if n in accepted}


def _encode(change: int, facts: Mapping[str, object]) -> bytes:
    return json_bytes({"hotpath": FORMAT, "change": change, **facts}) + b"\n"


def _decode(data: bytes, name: str) -> dict[str, Any]:
    try:
        facts = orjson.loads(data)
        if not isinstance(facts, dict) or type(facts["change"]) is not int or not 0 <= facts["change"] < MAX_NUMBER:
            raise TypeError
        form = facts["hotpath"]
    except (ValueError, KeyError, TypeError) as error:
        raise _unreadable(name, data) from error
    if form != FORMAT:
        raise Corrupt(
            f"has format {str(form)[:40]}, this version of hotpath reads {FORMAT}", path=name, fix="upgrade hotpath"
        )
    return facts


def _unreadable(name: str, data: bytes) -> Corrupt:
    return Corrupt(
        f"this is no pointer of hotpath ({data[:40]!r})",
        path=name,
        fix="give a bucket or a prefix that holds nothing else, or bring this object back from a backup",
    )


def _fact(pointer: Pointer | None) -> dict[str, object] | None:
    return None if pointer is None else {"sequence": pointer.sequence, "sha256": pointer.sha256.hex()}


def _number(value: Any) -> int:
    """Raises ``TypeError`` or ``ValueError`` for what is none, or could not be written again."""
    number = int(value)
    if not 0 <= number < MAX_NUMBER:
        raise ValueError("no number of a generation, or of seconds")
    return number


def _pointer(facts: object) -> Pointer:
    if not isinstance(facts, dict) or type(facts["sequence"]) is not int or not 0 < facts["sequence"] < MAX_NUMBER:
        raise ValueError("no pointer")
    sha256 = bytes.fromhex(facts["sha256"])
    if len(sha256) != 32:
        raise ValueError("no digest")
    return Pointer(facts["sequence"], sha256)
