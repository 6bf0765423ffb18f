"""Text of the user's inside other programs' files, by the rules of each. What a file cannot hold is refused."""

from __future__ import annotations

import json
import re
import shlex
from typing import Final
from xml.sax.saxutils import escape as xml_escape

from hotpath.errors import DeclarationError

_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f]")
# C escapes that systemd.syntax(7) names; any other control is written as \xNN.
_C_ESCAPES: Final = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\x0b": "\\v", "\x0c": "\\f", "\x07": "\\a", "\b": "\\b"}
_PLAIN: Final = re.compile(r"[A-Za-z0-9_./:@,=+~-]+")


def one_line(text: str, program: str) -> str:
    """``text`` unchanged. Raises ``DeclarationError`` where it has a control character, which the file cannot hold."""
    if found := _CONTROLS.search(text):
        raise DeclarationError(f"{text!r} has {found[0]!r}, which a file of {program} cannot hold; use another path")
    return text


def shell(text: str) -> str:
    """One word of a POSIX shell."""
    return shlex.quote(text)


def cron(command: str) -> str:
    """The command of a crontab line: ``%`` would begin the standard input, and a backslash escapes it or itself."""
    return re.sub(r"[\\%]", r"\\\g<0>", one_line(command, "cron"))


def systemd(text: str) -> str:
    """One word of a list of paths in a systemd unit, ``ReadWritePaths=``, or of tmpfiles.d(5): ``%`` is doubled.

    Quotes and backslashes are taken away there, and other escapes are not known: systemd reads ``\\n`` as ``n``.
    """
    return _systemd_word(one_line(text, "systemd"))


def systemd_argument(text: str) -> str:
    """An argument in ``ExecStart=``, which has the escapes of C: ``%`` and ``$`` are doubled (systemd.syntax(7))."""
    return _systemd_word(text).replace("$", "$$")


def _systemd_word(text: str) -> str:
    if _PLAIN.fullmatch(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return '"' + _CONTROLS.sub(lambda found: _C_ESCAPES.get(found[0], f"\\x{ord(found[0]):02x}"), escaped) + '"'


def systemd_line(text: str) -> str:
    """The rest of a line, where systemd removes no quotes: ``WorkingDirectory=``."""
    if text != text.strip() or text.endswith("\\"):
        raise DeclarationError(f"{text!r} begins or ends with a blank or a backslash, which systemd takes away")
    return one_line(text, "systemd").replace("%", "%%")


def nginx(text: str) -> str:
    """A string of nginx, quoted. ``$`` begins a variable and has no escape: refused."""
    if "$" in text:
        raise DeclarationError(f"{text!r} has '$', which begins a variable in every string of nginx; use another path")
    return '"' + one_line(text, "nginx").replace("\\", "\\\\").replace('"', '\\"') + '"'


def caddy(text: str) -> str:
    """A word of a Caddyfile, between backticks, where nothing is escaped and lines may end.

    Refused are backticks, braces, which begin placeholders, and what its file matcher reads as a pattern.
    """
    if found := re.search(r"[`{}*?\[\]\\\x00\r]", text):
        raise DeclarationError(f"{text!r} has {found[0]!r}, which a path of Caddy cannot hold; use another path")
    return f"`{text}`"


def vcl(text: str) -> str:
    """A string of VCL: a long string where it has a quotation mark, as VCL has no escapes in strings."""
    one_line(text, "Varnish")
    if '"' not in text:
        return f'"{text}"'
    if '"}' in text or text.endswith('"'):
        raise DeclarationError(f"{text!r} ends a long string of VCL; use another path")
    return '{"' + text + '"}'


def yaml(text: str) -> str:
    """A double-quoted scalar of YAML, which JSON's strings are."""
    return json.dumps(text)


def json_text(value: object) -> str:
    """JSON with a stable order and two spaces."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def xml(text: str) -> str:
    """Text of an XML element or attribute."""
    return xml_escape(one_line(text, "XML"), {'"': "&quot;"})
