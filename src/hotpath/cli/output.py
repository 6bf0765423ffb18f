"""What the commands share: their arguments, and how they print."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from hotpath.errors import BuildFailed, HotpathError, Implausible, PublicAnswerWrong
from hotpath.options import printable, to_json

# In the context that all commands share: whether --json was given, and whether an object was printed.
_WANTED, _PRINTED = "hotpath.json.wanted", "hotpath.json.printed"

# Names of the facts of an error, and their names for scripts.
_NAMES: dict[type[HotpathError], dict[str, str]] = {
    Implausible: {"sequence": "quarantined"},
    PublicAnswerWrong: {"sequence": "generation", "target": "rolled_back_to"},
}


def _note_json(context: click.Context, parameter: click.Parameter, value: bool) -> bool:
    context.meta[_WANTED] = value
    return value


JSON = click.option(
    "--json", "as_json", is_flag=True, is_eager=True, callback=_note_json, help="Print one JSON object, for scripts."
)
TARGET = click.argument("target")
STORE = click.argument("target", metavar="TARGET|STORE")

# Help of options that several commands have.
BASE_URL = "Scheme and host of the public site: https://example.org"
USER_AGENT = "User-Agent of the requests, for a firewall or rate limit to let pass."
EDGE = "A cache stands in front: its copies may be older."


class GivenPath(click.Path):
    """A path that is not empty: of an unset variable of the shell the working directory would be made."""

    def __init__(self, *, exists: bool = False, file_okay: bool = True) -> None:
        super().__init__(exists=exists, file_okay=file_okay, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("it is empty: is a variable of the shell not set?", param, ctx)
        return super().convert(value, param, ctx)


class ReaderGone(BrokenPipeError):
    """Whoever reads stdout has closed it: ``| head``."""


def say(*lines: str) -> None:
    """Lines on stdout, without what a terminal would obey. Raises ``ReaderGone``."""
    for line in lines:
        _print(printable(_as_called(line)))


def _print(text: str) -> None:
    try:
        click.echo(text)
    except BrokenPipeError as error:
        raise ReaderGone(*error.args) from None


def print_text(text: str) -> None:
    """The text of a file on stdout, byte for byte. Raises ``ReaderGone``."""
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
    except BrokenPipeError as error:
        raise ReaderGone(*error.args) from None


def complain(line: str) -> None:
    """A line on stderr; where nobody reads it any more, the exit code says it."""
    with suppress(OSError):
        click.echo(printable(_as_called(line)), err=True)


def _as_called(line: str) -> str:
    """The line with the commands in it as this user writes them, where that is not ``hotpath …``: Django's."""
    context = click.get_current_context(silent=True)
    called = context.find_root().obj if context is not None else None
    return str(called(line)) if callable(called) else line


def warn(warnings: Iterable[str]) -> None:
    """Warnings on stderr."""
    for warning in warnings:
        complain(f"warning: {warning}")


def show(value: object, lines: Iterable[str], as_json: bool) -> None:
    """``value`` as JSON, or else ``lines``, on stdout."""
    if as_json:
        print_json(value)
    else:
        say(*lines)


def print_json(value: object) -> None:
    """One object on stdout; a dataclass by the names of its fields, or as its ``as_dict`` says."""
    click.get_current_context().meta[_PRINTED] = True
    _print(_as_json(value))


def _as_json(value: object) -> str:
    """ASCII without controls; ``json`` itself leaves DEL as it is."""
    return json.dumps(
        value, default=lambda held: held.as_dict() if hasattr(held, "as_dict") else to_json(held)
    ).replace("\x7f", "\\u007f")


def print_error(context: click.Context, error: HotpathError) -> None:
    """One line on stderr; with ``--json`` the facts on stdout too, where the command has printed no object."""
    complain(f"hotpath: {error}")
    if context.meta.get(_WANTED) and not context.meta.get(_PRINTED):
        _print(_as_json(_facts(error)))


def _facts(error: HotpathError) -> dict[str, object]:
    names = _NAMES.get(type(error), {})
    facts: dict[str, object] = {
        "problem": str(error).partition("\n")[0],
        "kind": type(error).__name__,
        "exit_code": error.exit_code,
    }
    if isinstance(error, BuildFailed | Implausible):
        facts["generation"] = None
    for name, held in vars(error).items():
        value = str(held) if isinstance(held, Path) else held
        is_plain = value is None or isinstance(value, str | int | float)
        if is_plain or (isinstance(value, list | tuple) and all(isinstance(part, str) for part in value)):
            facts[names.get(name, name)] = value
    if isinstance(error, BuildFailed):
        from hotpath.batch.run import failure_facts, grouped_facts  # a front has no batch in memory

        facts["failures"] = [failure_facts(failure, ()) for failure in error.failures]
        facts["failure_groups"] = grouped_facts(error.failures)
    return facts
