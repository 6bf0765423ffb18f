"""``hotpath render``: files for the programs that stand around a site."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from hotpath.cli.output import print_text, say
from hotpath.cli.targets import load_site_or_store
from hotpath.errors import DeclarationError
from hotpath.ops.render.facts import gather
from hotpath.ops.render.files import RenderedFile, compare, write
from hotpath.ops.render.whats import WHATS
from hotpath.options import printable

_ROOT = click.Path(file_okay=False, path_type=Path)
# Where the result goes, which files do not say.
_NOT_SAID = frozenset({"to", "check", "force"})


def _whats(_: click.Context, __: click.Parameter, value: str) -> str:
    if value not in WHATS:
        raise click.BadParameter(f"{value!r} is none of: {', '.join(sorted(WHATS))}")
    return value


_HELP = """Make files for the programs around a site.

They are printed, or written with --to. What cannot be known is an option, and is said at the top of each file.

\b
WHAT is one of
""" + "\n".join(f"  {name:<11}{what.summary}" for name, what in sorted(WHATS.items()))


# Longer than functions should be, for its options.
@click.command(help=_HELP, epilog="Example: hotpath render systemd myapp:hot --to /")
@click.argument("what", callback=_whats)
@click.argument("target", metavar="TARGET|STORE")
@click.option("--to", type=_ROOT, help="Write the files below this root, '/' for where they belong.")
@click.option("--check", type=_ROOT, help="Compare what is installed below this root; 1 where it differs.")
@click.option("--name", help="Name of units and files.")
@click.option("--app", metavar="MODULE:APP", help="The ASGI app.")
@click.option("--directory", type=_ROOT, help="Directory that the app runs in.")
@click.option("--hotpath", type=click.Path(dir_okay=False), help="Path of the hotpath command there.")
@click.option("--user", help="User that the site runs as.")
@click.option("--host", "hosts", multiple=True, help="Host name of the site; may be given again.")
@click.option("--base-url", help="Address of the public site: https://example.org")
@click.option("--port", type=click.IntRange(1, 65535), help="Port of the site on loopback.")
@click.option("--admin", metavar="HOST:PORT", help="Address of the front's metrics and health.")
@click.option("--memory", "memory_bytes", help="Memory of the app: 900MiB.")
@click.option("--batch-memory", "batch_memory_bytes", help="Memory of the batch: 500MiB.")
@click.option("--workers", type=click.IntRange(1), help="Processes of the app.")
@click.option("--swap/--no-swap", "has_swap", default=None, help="Whether the machine has swap.")
@click.option("--batch-time", help="When the batch runs: 02:30, in the machine's time zone.")
@click.option("--mail", help="Who gets mail of failures, by the mail server of the machine.")
@click.option("--alert", "alerts", is_flag=True, default=None, help="Ways to send alerts are set in /etc/NAME.env.")
@click.option("--two-units", is_flag=True, help="systemd: the front and the app as units of their own.")
@click.option("--no-front", is_flag=True, help="systemd: the app alone, by uvicorn.")
@click.option("--listen", metavar="[HOST:]PORT", help="nginx, caddy, varnish: where it listens, without TLS.")
@click.option("--certificate", type=(str, str), metavar="FILE KEY", help="nginx: TLS, on port 443.")
@click.option(
    "--trust", multiple=True, metavar="CIDR", help="nginx, caddy, varnish: proxies whose X-Forwarded-* count."
)
@click.option("--cookie", help="nginx, caddy, varnish: requests with this cookie are the app's, as in bypass=.")
@click.option("--interval", help="prometheus: how often it looks; 15s.")
@click.option("--pending", help="prometheus: how long memory is short before an alert; 2m.")
@click.option("--log", "logs", multiple=True, metavar="FILE", help="k6, locust: access logs for the real mix.")
def render(what: str, target: str, to: Path | None, check: Path | None, **options: Any) -> None:
    if to is not None and check is not None:
        raise DeclarationError("--to writes, and --check compares: give one of them")
    files = WHATS[what].render(gather(load_site_or_store(target), target, **facts_of(options)))
    if check is not None:
        differences = compare(files, check)
        for difference in differences:
            say(f"{difference.path} {difference.problem}", *(f"    {line}" for line in difference.diff))
        if differences:
            raise SystemExit(1)
        say(*(f"{check / file.path} is as rendered" for file in files))
    elif to is not None:
        _say_written(files, write(files, to), to)
    else:
        print_text("\n".join(_printed(file, len(files) > 1) for file in files))


def facts_of(options: dict[str, Any]) -> dict[str, Any]:
    """What ``gather`` takes, of what click gives: an option that may be given again is empty when it is not."""
    given = {name: value for name, value in options.items() if value is not None and value != ()}
    two, none = given.pop("two_units", False), given.pop("no_front", False)
    if two and none:
        raise DeclarationError("--two-units has a front, and --no-front has none: give one of them")
    given["layout"] = "two" if two else "none" if none else "serve"
    given["command"] = _command()
    return given


def _command() -> str:
    """The command as it was given, without where its result goes: that changes nothing in it."""
    context = click.get_current_context()
    words = []
    for parameter in context.command.params:
        name = parameter.name or ""
        if name in _NOT_SAID or context.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
            continue
        value = context.params[name]
        if isinstance(parameter, click.Argument):
            words.append(str(value))
        elif value is True or value is False:
            words.append(parameter.opts[0] if value else parameter.secondary_opts[0])
        elif parameter.nargs > 1:
            words += [parameter.opts[0], *value]
        else:
            for each in value if isinstance(value, tuple) else (value,):
                words += [parameter.opts[0], str(each)]
    return printable(shlex.join(["hotpath", context.info_name or "", *words]).replace("\n", "\\n"))


def _printed(file: RenderedFile, with_name: bool) -> str:
    return f"# /{file.path}\n{file.text}" if with_name else file.text


def _say_written(files: list[RenderedFile], written: list[Path], root: Path) -> None:
    for file in files:
        path = root / file.path
        say(f"{path} {'written' if path in written else 'is as rendered'}")
