"""``manage.py hotpath build|status|rollback|…``: the ``hotpath`` command on this project's hot pages."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from copy import copy
from functools import partial
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

if TYPE_CHECKING:
    import click

TARGET = "hotpath.contrib.django:hot"


# A command of ours in a sentence, with what stands for its site there.
_CALLED = re.compile(
    r"(?<!manage\.py )\bhotpath (build|status|explain|check|recover|verify|rollback|pin|unpin|approve|prune)"
    r"( (?:TARGET\|STORE|TARGET|STORE|var/hot|myapp:hot|" + re.escape(TARGET) + r"))?(?![\w/])"
)


def as_called(text: str) -> str:
    """``text`` with the commands in it as they are written in a Django project."""
    return _CALLED.sub(r"python manage.py hotpath \1", text)


def _has_target(command: click.Command) -> bool:
    """Whether it works on a site; some work on something else."""
    return any(parameter.name == "target" for parameter in command.params)


def _of_this_project(command: click.Command) -> click.Command:
    """The command without its TARGET, which is this project."""
    if not _has_target(command) or command.callback is None:
        return command
    own = copy(command)
    own.params = [parameter for parameter in command.params if parameter.name != "target"]
    own.callback = partial(command.callback, target=TARGET)
    own.help = as_called((command.help or "").replace("of TARGET ", ""))
    own.epilog = as_called(command.epilog or "")
    return own


class Command(BaseCommand):
    """Everything after ``hotpath`` goes to the ``hotpath`` command, with this project as its TARGET."""

    help = "Build, publish and look after the hot pages: build, status, rollback, pin, unpin, approve, verify, …"

    def add_arguments(self, parser: CommandParser) -> None:
        """Take all there is: the ``hotpath`` command knows its own options."""
        parser.add_argument("action", nargs="?", help="build, status, rollback …; without one, all are listed")
        parser.add_argument("arguments", nargs=argparse.REMAINDER, help="as the hotpath command has them")

    def run_from_argv(self, argv: list[str]) -> None:
        """Pass the arguments on as they are; Django's own parser would take those it knows."""
        # These two it has followed before it looked for the command, and says so of every command.
        done = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        done.add_argument("--settings")
        done.add_argument("--pythonpath")
        self.run_hotpath(done.parse_known_args(argv[2:])[1])

    def handle(self, *args: Any, action: str | None = None, arguments: Sequence[str] = (), **options: Any) -> None:
        """For ``call_command("hotpath", "build", "--quiet")``."""
        status = self.run_hotpath([*filter(None, [action]), *arguments], leave=False)
        if status:
            raise CommandError(f"hotpath {action} ended with {status}", returncode=status)

    def run_hotpath(self, arguments: list[str], *, leave: bool = True) -> int:
        """Run the command; its exit code, where it does not ``leave`` with it."""
        from hotpath.cli.commands import main
        from hotpath.contrib.django.checks import check_settings

        command = main.commands.get(arguments[0]) if arguments else None
        if command is not None and _has_target(command):
            for message in check_settings():
                self.stderr.write(f"warning: {message.msg} {message.hint}")
        try:
            group = copy(main)
            group.commands = {name: _of_this_project(command) for name, command in main.commands.items()}
            group.main(arguments or ["--help"], prog_name="manage.py hotpath", standalone_mode=True, obj=as_called)
        except SystemExit as ended:
            if leave:
                sys.exit(ended.code)
            return int(ended.code or 0)
        return 0
