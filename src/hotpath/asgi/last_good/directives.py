"""Cache directives, read strictly: ``Cache-Control`` (RFC 9111 §5.2) and ``CDN-Cache-Control`` (RFC 9213).

Nothing here raises, whatever the bytes are. Nonsense means the safe choice: a directive that forbids counts wherever
its name can be seen, and a time that makes no sense is no time at all.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from hotpath.asgi.last_good.structured import Token, parse_dictionary
from hotpath.types import Header

# RFC 9111 §1.2.2: what does not fit counts as this.
MAX_SECONDS: Final = 2**31

FORBIDDING: Final = frozenset(
    ("no-store", "private", "no-cache", "must-revalidate", "proxy-revalidate", "s-maxage", "must-understand")
)
_TIMES: Final = frozenset(("max-age", "s-maxage", "stale-if-error", "stale-while-revalidate", "max-stale", "min-fresh"))

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_QUOTED: Final = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*+"'
# One member of the list of §5.2, which may be empty, and the comma or the end behind it.
_MEMBER: Final = re.compile(
    rb"[ \t]*+(?:(" + _TOKEN + rb")(?:=(?:(" + _TOKEN + rb")|(" + _QUOTED + rb")))?)?[ \t]*+(?:,|\Z)"
)
_ESCAPED: Final = re.compile(rb"\\(.)", re.DOTALL)
_DIGITS: Final = re.compile(rb"[0-9]+")
_FAR_DIGITS: Final = 10

_NOTHING: Final[Mapping[str, int]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Directives:
    """``names`` are the directives that are there, ``seconds`` the times of those that have one.

    ``problems`` says what made no sense, for people. A time that makes no sense is 0, and so are two that differ.
    """

    names: frozenset[str] = frozenset()
    seconds: Mapping[str, int] = field(default_factory=lambda: _NOTHING)
    problems: tuple[str, ...] = ()

    def __contains__(self, name: object) -> bool:
        return name in self.names


@dataclass(frozen=True, slots=True)
class AnswerPolicy:
    """What an answer says of its own caching. ``uses_expires``: no targeted field takes the place of ``Expires``."""

    directives: Directives
    uses_expires: bool = True


def values_of(headers: Iterable[Header], name: bytes) -> list[bytes]:
    """The values of all field lines of this name, which is lower case."""
    return [value for key, value in headers if key == name]


def parse_cache_control(values: Iterable[bytes]) -> Directives:
    """The directives of the ``Cache-Control`` field lines ``values``."""
    text = b",".join(values)
    if not text:
        return Directives()
    names: set[str] = set()
    seconds: dict[str, int] = {}
    problems: list[str] = []
    at = 0
    while at < len(text):
        member = _MEMBER.match(text, at)
        if member is None:
            return _salvaged(text, names, seconds)
        at = member.end()
        raw_name, token, quoted = member.groups()
        if raw_name is None:
            continue
        name = raw_name.lower().decode("ascii")
        names.add(name)
        if name in _TIMES:
            value = token if quoted is None else _ESCAPED.sub(rb"\1", quoted[1:-1])
            _note_time(name, parse_delta(value), seconds, problems)
    return Directives(frozenset(names), seconds, tuple(problems))


def parse_targeted(values: Iterable[bytes]) -> Directives | None:
    """The directives of a targeted field (RFC 9213 §2.1). ``None`` for one that is malformed or empty."""
    members = parse_dictionary(values)
    if not members:
        return None
    seconds: dict[str, int] = {}
    problems: list[str] = []
    for name in _TIMES & members.keys():
        value = members[name]
        is_time = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        _note_time(name, min(int(str(value)), MAX_SECONDS) if is_time else None, seconds, problems)
    # A false value says that a directive is not there. Of those that forbid no one has a false form: they are.
    names = {name for name, value in members.items() if value is not False or name in FORBIDDING}
    problems += [f"{name} has a word for a value" for name in FORBIDDING & names if isinstance(members[name], Token)]
    return Directives(frozenset(names), seconds, tuple(problems))


def policy_of(headers: Iterable[Header]) -> AnswerPolicy:
    """The policy of an answer: of ``CDN-Cache-Control`` alone where that is valid (RFC 9213 §2.2).

    Beyond the RFC: one that neither gives a time nor says ``public`` lifts nothing that ``Cache-Control`` forbids.
    """
    general: list[bytes] = []
    targeted: list[bytes] = []
    for name, value in headers:
        if name == b"cache-control":
            general.append(value)
        elif name == b"cdn-cache-control":
            targeted.append(value)
    return _policy(tuple(general), tuple(targeted))


# Each answer is asked for its policy four times, and a site says the same few things in all of them.
@functools.lru_cache(maxsize=64)
def _policy(untargeted: tuple[bytes, ...], targeted: tuple[bytes, ...]) -> AnswerPolicy:
    general = parse_cache_control(untargeted)
    directives = parse_targeted(targeted) if targeted else None
    if directives is None:
        return AnswerPolicy(general)
    if not directives.names & {"max-age", "s-maxage", "public"}:
        names = directives.names | (general.names & FORBIDDING)
        directives = Directives(names, directives.seconds, directives.problems)
    return AnswerPolicy(directives, uses_expires=False)


def parse_delta(value: bytes | None) -> int | None:
    """delta-seconds (RFC 9111 §1.2.2), ``None`` for what is none."""
    if value is None or not _DIGITS.fullmatch(value):
        return None
    digits = value.lstrip(b"0")
    return min(int(digits or b"0"), MAX_SECONDS) if len(digits) <= _FAR_DIGITS else MAX_SECONDS


def _note_time(name: str, value: int | None, seconds: dict[str, int], problems: list[str]) -> None:
    if value is None:
        if name != "max-stale":  # which may come without a value (§5.2.1.2)
            problems.append(f"{name} has no whole number of seconds")
            seconds[name] = MAX_SECONDS if name == "min-fresh" else 0
    elif seconds.setdefault(name, value) != value:
        problems.append(f"{name} comes twice with different times")
        seconds[name] = MAX_SECONDS if name == "min-fresh" else 0


def _salvaged(text: bytes, names: set[str], seconds: dict[str, int]) -> Directives:
    """Of a field that is no list: each word that forbids, wherever it stands, and no time."""
    lowered = text.lower()
    names |= {name for name in FORBIDDING - {"must-understand"} if name.encode("ascii") in lowered}
    return Directives(
        frozenset(names - {"must-understand", "public"}),
        {"max-age": 0} | {name: 0 for name in _TIMES - {"max-age"} if name in seconds or name.encode() in lowered},
        ("Cache-Control is no list of directives",),
    )
