"""Strict reading of Dictionary Structured Fields (RFC 9651 §4.2.2, which contains RFC 8941), in linear time."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Token:
    """A Token (§3.3.4), which is not the String of the same characters."""

    text: str


@dataclass(frozen=True, slots=True)
class OtherItem:
    """A value of a type that no cache directive has: Byte Sequence, Date, Display String or Inner List."""


Item = bool | int | float | str | Token | OtherItem

_OTHER: Final = OtherItem()
_KEY: Final = re.compile(r"[a-z*][a-z0-9_\-.*]*+")
_NUMBER: Final = re.compile(r"-?(?:(\d{1,12})\.(\d{1,3})|(\d{1,15}))(?![\d.])")
_STRING: Final = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*+)"')
_TOKEN: Final = re.compile(r"[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*+")
_BYTES: Final = re.compile(r":([A-Za-z0-9+/=]*+):")
_BOOLEAN: Final = re.compile(r"\?([01])")
_DATE: Final = re.compile(r"@-?\d{1,15}(?![\d.])")
_DISPLAY: Final = re.compile(r'%"((?:[ !#$&-~]|%[0-9a-f]{2})*+)"')
_SPACES: Final = re.compile(r" *+")
_OWS: Final = re.compile(r"[ \t]*+")


class _Malformed(Exception):
    """The field is no Dictionary; the whole of it does not count (§4.2)."""


class _Reader:
    """A position in the text of a field."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    @property
    def is_at_end(self) -> bool:
        return self.at >= len(self.text)

    def next_is(self, character: str) -> bool:
        return self.text.startswith(character, self.at)

    def take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        match = pattern.match(self.text, self.at)
        if match is not None:
            self.at = match.end()
        return match

    def need(self, pattern: re.Pattern[str]) -> re.Match[str]:
        match = self.take(pattern)
        if match is None:
            raise _Malformed
        return match

    def skip(self, character: str) -> bool:
        if not self.next_is(character):
            return False
        self.at += 1
        return True


def parse_dictionary(values: Iterable[bytes]) -> dict[str, Item] | None:
    """The members of a Dictionary in the field lines ``values``, without parameters; ``None`` where it is malformed.

    Of a key that comes twice the last value counts, as §4.2.2 has it.
    """
    try:
        text = b", ".join(values).decode("ascii")
    except UnicodeDecodeError:
        return None
    reader = _Reader(text)
    try:
        return _dictionary(reader)
    except _Malformed:
        return None


def _dictionary(reader: _Reader) -> dict[str, Item]:
    members: dict[str, Item] = {}
    reader.take(_SPACES)
    while not reader.is_at_end:
        key = reader.need(_KEY).group()
        value: Item = True
        if reader.skip("="):
            value = _inner_list(reader) if reader.next_is("(") else _bare_item(reader)
        _parameters(reader)
        members.pop(key, None)
        members[key] = value
        reader.take(_OWS)
        if reader.is_at_end:
            break
        if not reader.skip(","):
            raise _Malformed
        reader.take(_OWS)
        if reader.is_at_end:
            raise _Malformed  # a comma that nothing follows
    return members


def _inner_list(reader: _Reader) -> OtherItem:
    reader.skip("(")
    while True:
        reader.take(_SPACES)
        if reader.skip(")"):
            return _OTHER
        _bare_item(reader)
        _parameters(reader)
        if not reader.next_is(" ") and not reader.next_is(")"):
            raise _Malformed


def _parameters(reader: _Reader) -> None:
    while reader.skip(";"):
        reader.take(_SPACES)
        reader.need(_KEY)
        if reader.skip("="):
            _bare_item(reader)


def _bare_item(reader: _Reader) -> Item:
    if number := reader.take(_NUMBER):
        return int(number.group()) if number.group(3) else float(number.group())
    if string := reader.take(_STRING):
        return string.group(1).replace('\\"', '"').replace("\\\\", "\\")
    if token := reader.take(_TOKEN):
        return Token(token.group())
    if boolean := reader.take(_BOOLEAN):
        return boolean.group(1) == "1"
    if sequence := reader.take(_BYTES):
        try:
            base64.b64decode(sequence.group(1), validate=True)
        except binascii.Error:
            raise _Malformed from None
        return _OTHER
    if reader.take(_DATE) or reader.take(_DISPLAY):
        return _OTHER
    raise _Malformed
