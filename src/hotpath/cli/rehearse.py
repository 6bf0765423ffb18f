"""The commands that rehearse an outage, and that put load on a server."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from hotpath.cli.output import JSON, complain, show
from hotpath.cli.targets import load as load_target
from hotpath.errors import DeclarationError
from hotpath.log import held_back
from hotpath.options import parse_bytes, parse_seconds
from hotpath.site import Hotpath


class _Machine:
    """Memory groups, and how a process joins one, as the front has them."""

    def __init__(self) -> None:
        from hotpath.front import group, launch

        self._groups = group.GroupMaker()
        self._launch = str(launch.__file__)

    @property
    def problem(self) -> str | None:
        return self._groups.problem

    def make(self, limit: int) -> Any:
        return self._groups.make(limit)

    def launch(self, made: Any) -> list[str]:
        joined = [str(made.joined)] if made is not None else []
        words = [self._launch, str(os.getpid()), str(int(signal.SIGKILL)), "0", *joined]
        return [sys.executable, "-I", "-S", *words, "--"]


@click.command(epilog="Example: hotpath rehearse myapp:app --memory 512MiB --log access.log")
@click.argument("app")
@click.option("--memory", required=True, help="What the site may take, app and front together: 512MiB.")
@click.option("--log", "logs", multiple=True, metavar="FILE", help="Access logs to replay; else the manifest's pages.")
@click.option("--days", default=30.0, show_default=True, help="Days of virtual time.")
@click.option("--seconds", default="2m", show_default=True, help="How long each of the three runs takes.")
@click.option("--requests", type=int, help="Requests of each run; else as many as the log has, 200 a second at most.")
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="KIND[@TIME]",
    help="leak, kill, block, slow, database or deploy; leak@2h is one every two virtual hours.  [default: leak]",
)
@click.option("--at-once", is_flag=True, help="The three runs at the same time, sharing the processor.")
@click.option("--timeout", default="20s", show_default=True, help="When a crawler gives a request up.")
@click.option("--host", help="Host of the requests, where the site answers for its own name only.")
@click.option("--store", type=click.Path(path_type=Path), help="Path of the store, where APP does not declare one.")
@click.option("--serve", default="", metavar="OPTIONS", help="Options of 'hotpath serve' for the third run.")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write a page with plots too.")
@JSON
# Longer than functions should be, for its options.
def rehearse(
    app: str,
    memory: str,
    logs: tuple[str, ...],
    days: float,
    seconds: str,
    requests: int | None,
    faults: tuple[str, ...],
    at_once: bool,
    timeout: str,
    host: str | None,
    store: Path | None,
    serve: str,
    html: Path | None,
    as_json: bool,
) -> None:
    """Replay the site's crawl while the app leaks and dies.

    Three runs under a real memory limit: the app alone; with middleware and guard; behind the front. Days pass in
    minutes. The exit code is 1 where a hot page failed behind the front, and 2 where nothing was proven.
    """
    for needed in ("uvicorn", "aiohttp"):
        if find_spec(needed) is None:
            sys.exit(f"hotpath: the rehearsal needs {needed}: pip install 'asgi-hotpath[front]'")
    from hotpath.ops.rehearse import page, table
    from hotpath.ops.rehearse.rehearsal import DEFAULT_FAULTS, RehearsalOptions
    from hotpath.ops.rehearse.rehearsal import rehearse as run

    options = RehearsalOptions(
        app=app,
        memory_bytes=_memory(memory),
        logs=logs,
        days=days,
        seconds=parse_seconds(seconds, "--seconds"),
        requests=requests,
        faults=faults or DEFAULT_FAULTS,
        at_once=at_once,
        timeout=parse_seconds(timeout, "--timeout"),
        host=host,
        serve_options=_words(serve),
    )
    hot = Hotpath(store.absolute()) if store is not None else _asked(app)
    tick = _tick if sys.stderr.isatty() else _quiet
    rehearsal = run(options, hot, _Machine(), knows_store=store is None, report=complain, tick=tick)
    if html is not None:
        html.write_text(page.html(rehearsal), encoding="utf-8")
    texts = {"table": table.rows(rehearsal), "summary": list(table.summary(rehearsal))}
    show({**rehearsal.as_dict(), **texts}, table.lines(rehearsal), as_json)
    if rehearsal.exit_code:
        raise SystemExit(rehearsal.exit_code)


@click.command(epilog="Example: hotpath load http://127.0.0.1:8000/ --rate 200 --p99 50ms")
@click.argument("sources", nargs=-1, required=True, metavar="URL…|TARGET")
@click.option("--url", metavar="BASE", help="Where a TARGET's hot pages are asked for: http://127.0.0.1:8000")
@click.option("--i-own-this-site", "is_own", is_flag=True, help="Allow --url to name another machine than this one.")
@click.option("--rate", type=float, help="Requests a second, instead of steps up to the knee.")
@click.option("--p99", metavar="TIME", help="The slowest hundredth may take so long: 50ms.")
@click.option("--errors", metavar="SHARE", help="So many may fail: 0.1%.")
@click.option("--step", default="5s", show_default=True, help="How long each rate is held.")
@click.option("--timeout", default="10s", show_default=True, help="When a request is given up.")
@JSON
def load(
    sources: tuple[str, ...],
    url: str | None,
    is_own: bool,
    rate: float | None,
    p99: str | None,
    errors: str | None,
    step: str,
    timeout: str,
    as_json: bool,
) -> None:
    """Load a server until it bends, and say what limits it.

    Requests are sent when they are due, however slow the answers are, and their times count from then. With TARGET
    the hot pages of its store are asked for at --url. The exit code is 1 where a threshold is passed.
    """
    from hotpath.ops.rehearse import load as loading

    options = loading.options_of(
        _urls(sources, url),
        may_leave=is_own and url is not None,
        p99=None if p99 is None else parse_seconds(p99, "--p99"),
        errors=None if errors is None else _share(errors),
        rate=_rate(rate),
        step_seconds=parse_seconds(step, "--step", least=0.1),
        timeout=parse_seconds(timeout, "--timeout"),
    )
    report = loading.load(options)
    show(report, loading.lines(report), as_json)
    if report.exit_code:
        raise SystemExit(report.exit_code)


def _urls(sources: Sequence[str], base: str | None) -> list[str]:
    """The URLs to ask: as given, or the hot pages of a TARGET at ``base``."""
    if all("://" in source for source in sources):
        if base is not None:
            return [f"{base.rstrip('/')}/{source.split('://', 1)[1].partition('/')[2]}" for source in sources]
        return [*sources]
    other = next(source for source in sources if "://" not in source)
    if len(sources) > 1:
        raise DeclarationError(f"{other}: this is no URL; write URLs, or one TARGET with --url")
    module, _, attribute = other.partition(":")
    if not module or not all(name.isidentifier() for name in attribute.split(".")):
        raise DeclarationError(
            f"{other}: this is neither a URL nor a TARGET; write http://127.0.0.1:8000/, or myapp:hot with"
            " --url http://127.0.0.1:8000"
        )
    if base is None:
        raise DeclarationError(f"{other}: write where it is served, --url http://127.0.0.1:8000")
    from hotpath.serving.reader import reader_of

    hot = load_target(sources[0])
    reader = reader_of(hot)
    with held_back() as records:
        reader.refresh()
        keys = [key.decode("ascii") for key in reader.loader.keys]
        if not keys:
            records.clear()
            why = reader.loader.degraded or f"{hot.store.root}; run 'hotpath build'"
            raise DeclarationError(f"no page is hot, write URLs or build first: {why}")
    return [base.rstrip("/") + key for key in keys]


def _asked(app: str) -> Hotpath:
    from hotpath.front.declared import ask

    return ask(app, is_app=True)


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise DeclarationError(f"--serve {text!r}: {error}") from None


def _memory(text: str) -> int:
    from hotpath.front.group import check_limit

    return check_limit(parse_bytes(text, "--memory"))


def _share(text: str) -> float:
    number = text.removesuffix("%")
    try:
        share = float(number) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise DeclarationError(f"--errors {text}: write a share, 0.1% or 0.001")
    return share


def _rate(rate: float | None) -> float | None:
    if rate is not None and not 0.1 <= rate <= 50_000:
        raise DeclarationError(f"--rate {rate:g}: write 0.1 to 50000 requests a second")
    return rate


def _tick(title: str, now: float, seconds: float) -> None:
    click.echo(f"\r{title}: {now:.0f} of {seconds:.0f} s ", err=True, nl=now >= seconds)


def _quiet(title: str, now: float, seconds: float) -> None:
    """Where nobody watches."""
