"""The ``hotpath`` command: its sections, and how it ends with an error."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module

from hotpath.errors import HotpathError

try:
    import click
    import rich  # noqa: F401  (the progress bar; better said now than at the first build)
except ImportError as error:
    sys.exit(f"hotpath: the command needs {error.name}: pip install 'asgi-hotpath[cli]'")

from hotpath.cli.output import ReaderGone, complain, print_error
from hotpath.process.signals import describe, exit_code_of, interruptible

# The module of each command: a front that runs for months has only its own in memory, which saves some 4 MiB.
SECTIONS: Mapping[str, Mapping[str, str]] = {
    "Run": {
        **dict.fromkeys(("serve", "front", "reload", "pause", "resume"), "front"),
        "follow": "follow",
        **dict.fromkeys(("demo", "warm"), "run"),
    },
    "Build": {**dict.fromkeys(("build", "import"), "build"), "push": "follow"},
    "Look": {
        "status": "look",
        "dashboard": "dashboard",
        **dict.fromkeys(("explain", "check", "audit"), "look"),
        "logs": "logs",
        **dict.fromkeys(("load", "rehearse"), "rehearse"),
    },
    "Repair": dict.fromkeys(("recover", "verify", "rollback", "pin", "unpin", "approve", "prune"), "repair"),
    "Set up": {"init": "init", "render": "render", "alert": "run"},
}


class _Commands(Mapping[str, click.Command]):
    """All commands by name, each imported when it is asked for."""

    def __init__(self) -> None:
        self._modules = {name: module for section in SECTIONS.values() for name, module in section.items()}

    def __getitem__(self, name: str) -> click.Command:
        module = import_module(f"hotpath.cli.{self._modules[name]}")
        command: click.Command = getattr(module, "import_" if name == "import" else name)
        return command

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __len__(self) -> int:
        return len(self._modules)


class _Group(click.Group):
    """Lists its commands by section, and turns every error of ours into one line on stderr and its exit code."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section, names in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl([(name, self.commands[name].get_short_help_str(80)) for name in names])

    def invoke(self, context: click.Context) -> object:
        _open_what_is_closed()
        try:
            with interruptible():
                return super().invoke(context)
        except HotpathError as error:
            print_error(context, error)
            raise SystemExit(error.exit_code) from None
        except KeyboardInterrupt as interrupt:
            complain(f"hotpath: {describe(interrupt)}; 'hotpath status' says what is served")
            raise SystemExit(exit_code_of(interrupt)) from None
        except ReaderGone:
            # As a tool that SIGPIPE ends; what is left in the buffer must not raise at the interpreter's end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            raise SystemExit(128 + signal.SIGPIPE) from None
        except OSError as error:
            place = f"{error.filename}: " if error.filename is not None else ""
            complain(f"hotpath: {place}{error.strerror or error}")
            raise SystemExit(1) from None


def _open_what_is_closed() -> None:
    """A service may have no standard output: a pipe of ours would get its number, and all that is printed."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, "w" if descriptor else "r", encoding="utf-8", closefd=False))  # noqa: SIM115


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: hotpath demo; each 'hotpath COMMAND --help' has one too.",
)
@click.version_option(package_name="asgi-hotpath")
def main() -> None:
    """Keep a site's most important pages at 200 OK while the backend behind them leaks, restarts or dies.

    TARGET is module:attribute, the Hotpath object of your app (myapp.hot:hot). STORE is the path of its store.

    Exit codes: 0 done; 1 what was built or checked is bad, nothing was published; 2 usage; 69 the public site or the
    origin could not be reached, what was published stays; 75 busy, or another machine was first: try again.
    """


main.commands = _Commands()  # type: ignore[assignment] # click only reads it
