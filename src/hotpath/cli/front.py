"""``hotpath serve`` and ``hotpath front``, and the commands to a running one."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from hotpath.cli.origin import HINTS, origin_option
from hotpath.cli.output import complain, say, warn
from hotpath.errors import AppBroken, DeclarationError, HotpathError, TargetError
from hotpath.options import human_seconds, parse_bytes, parse_seconds
from hotpath.site import Hotpath
from hotpath.store.sharing import HINTS as HINTS_URL
from hotpath.store.sharing import ORIGIN, Sharing

# Options of 'hotpath serve' that need the app in a process of its own, or the front before it.
_OF_TWO_PROCESSES = (
    *("store", "server", "workers", "memory", "ready", "health", "health_timeout", "start_timeout"),
    *("hold", "in_flight", "waiting", "trust", "admin", "admin_token", "without_bypass", "access_log"),
)

# Between two looks for other signals.
SIGHUP_SECONDS = 0.5

_FRONT = (
    click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on."),
    click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="Port to listen on."),
    click.option("--uds", type=click.Path(path_type=Path), help="Unix socket to listen on instead."),
    click.option(
        "--systemd", is_flag=True, help="Listen on the sockets of a systemd .socket unit, and on nothing else."
    ),
    click.option("--reuse-port", is_flag=True, help="Let another front listen on the same port: SO_REUSEPORT."),
    click.option(
        "--connections", default=4096, show_default=True, type=click.IntRange(2), help="Open connections at most."
    ),
    click.option("--hold", default="15s", show_default=True, help="How long a request waits for an app that is down."),
    click.option(
        "--in-flight", default=64, show_default=True, type=click.IntRange(1), help="Requests in the app at most."
    ),
    click.option(
        "--waiting", default=256, show_default=True, type=click.IntRange(1), help="Requests that wait at most."
    ),
    click.option("--drain", default="30s", show_default=True, help="How long running requests may take at an end."),
    click.option("--trust", multiple=True, metavar="CIDR", help="Networks, or unix, whose X-Forwarded-* are believed."),
    click.option("--admin", metavar="HOST:PORT", help="Where /metrics and health are: 127.0.0.1:9180 or unix:/path."),
    click.option(
        "--admin-token", envvar="HOTPATH_ADMIN_TOKEN", metavar="TOKEN", help="What a purge shows; HOTPATH_ADMIN_TOKEN."
    ),
    click.option(
        "--last-good", default="256MiB", show_default=True, metavar="BYTES|off", help="Disk for last good answers."
    ),
    click.option(
        "--patience", default="5s", show_default=True, help="Without an answer for so long the last good one is given."
    ),
    click.option("--stale", default="7d", show_default=True, help="How long an answer may stand in for a failing app."),
    click.option(
        "--ignore-cookies", metavar="NAMES", help="Cookies that make no request personal: theme,_ga_*; else analytics'."
    ),
    click.option("--fresh", is_flag=True, help="Give fresh answers without asking the app: an ordinary shared cache."),
    click.option("--empty-replaces", is_flag=True, help="Keep an empty 200 in the place of a full one."),
    click.option("--without-bypass", is_flag=True, help="Answer hot pages though the app's middleware has bypass=."),
    origin_option("Serve what an origin has, as other machines do."),
    HINTS,
    click.option("--access-log", is_flag=True, help="Print a JSON line for each request, hot or not."),
)
_PID = click.option("--pid", type=int, help="Process id of the front, where several run.")


def _front_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_FRONT):
        command = option(command)
    return command


# Longer than functions should be, for its options.
@click.command(epilog="Example: hotpath serve myapp:app --port 80 --memory 900MiB --ready /readyz")
@click.argument("app")
@click.option(
    "--store", type=click.Path(path_type=Path), help="Path of the store; else HOTPATH_STORE, else APP is asked."
)
@click.option(
    "--server", default="uvicorn", show_default=True, help="granian, gunicorn, hypercorn, or COMMAND {socket}."
)
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1), help="Processes of that server.")
@click.option("--memory", help="Memory of the app: 900MiB. The kernel then kills the app and never the front.")
@click.option("--ready", metavar="PATH", help="Path of the app that is 2xx once it may get requests.")
@click.option("--health", metavar="PATH", default="/healthz", show_default=True, help="Path that any live app answers.")
@click.option(
    "--health-timeout", default="30s", show_default=True, help="Without an answer for so long it is replaced."
)
@click.option("--start-timeout", default="60s", show_default=True, help="How long the app may take to start.")
@click.option("--in-process", is_flag=True, help="The app in this same process: faster hits, and no page without it.")
@_front_options
def serve(
    app: str,
    store: Path | None,
    server: str,
    workers: int,
    memory: str | None,
    ready: str | None,
    health: str,
    health_timeout: str,
    start_timeout: str,
    in_process: bool,
    **front: Any,
) -> None:
    """Serve an app so that its hot pages outlive it.

    In place of 'uvicorn APP': the app runs as a child of this process, which answers the hot pages, starts the app
    again when it ends, and holds requests meanwhile. SIGHUP, or 'hotpath reload', deploys without a gap.
    """
    if in_process:
        _refuse_options_of_two_processes()
    run = _loaded()
    options = _options(run, front)
    _share(front)
    _log(options.access_log)
    if in_process:
        run.serve_in_process(_imported(app), _listeners(front), options)
        return
    for path, name in ((ready, "--ready"), (health, "--health")):
        if path is not None and not path.startswith("/"):
            raise DeclarationError(f"{name} {path}: write a path of the app, as in /healthz")
    from hotpath.front.group import check_limit
    from hotpath.front.servers import ServerCommand
    from hotpath.front.supervisor import Care

    care = Care(
        ready=ready,
        health=health,
        health_timeout=parse_seconds(health_timeout, "--health-timeout"),
        start_timeout=parse_seconds(start_timeout, "--start-timeout"),
        drain=options.drain,
        memory=None if memory is None else check_limit(parse_bytes(memory, "--memory")),
    )
    command = ServerCommand.of(server, app, workers)
    # The port first: what is wrong with it is known at once, and an app may take long to import.
    listeners = _listeners(front)
    run.serve(_checked(_site(app, store), front["without_bypass"]), listeners, run.App(app, command, care), options)


@click.command(epilog="Example: hotpath front var/hot --to http://127.0.0.1:9000 --port 80")
@click.argument("target", metavar="STORE|TARGET")
@click.option("--to", "to", required=True, metavar="URL", help="The app: http://127.0.0.1:9000 or unix:/run/site.sock.")
@_front_options
def front(target: str, to: str, **front: Any) -> None:
    """Answer hot pages before an app that something else runs.

    Everything that is not hot goes to the app, in whatever language it is; while it is down, requests wait. TARGET
    (module:attribute of the Hotpath object) is for a site of directories alone, which has no store.
    """
    run = _loaded()
    from hotpath.front.address import Address

    options = _options(run, front)
    _share(front)
    _log(options.access_log)
    address = Address.parse(to)
    listeners = _listeners(front)
    is_target = ":" in target and not Path(target).exists()
    hot = _asked(target) if is_target else Hotpath.of_store(Path(target).absolute())
    run.serve(_checked(hot, front["without_bypass"]), listeners, address, options)


@click.command(epilog="Example: hotpath reload --when quiet --log /var/log/nginx/access.log --max 12h")
@click.option(
    "--when", type=click.Choice(["now", "quiet"]), default="now", show_default=True, help="quiet: as --log has it."
)
@click.option("--log", "logs", multiple=True, metavar="FILE", help="Access log that says when few crawlers come.")
@click.option("--window", default="10m", show_default=True, help="With --when quiet: how long the deploy takes.")
@click.option("--max", "most", default="24h", show_default=True, help="With --when quiet: how long to wait at most.")
@_PID
def reload(when: str, logs: tuple[str, ...], window: str, most: str, pid: int | None) -> None:
    """Start the app's new code beside the old, and switch to it.

    With --when quiet it first waits for the next time at which few verified crawlers come. The exit code is 1 where
    the new code does not come up; the old one goes on then.
    """
    if (when == "quiet") != bool(logs):
        raise DeclarationError("write both: --when quiet, and --log with the access logs of the site")
    if logs:
        from hotpath.front import control

        control.find(pid)  # before a wait of hours
        _wait_for_quiet(logs, window, most)
    _command(pid, "/reload")


def _wait_for_quiet(logs: tuple[str, ...], window: str, most: str) -> None:
    from hotpath.ops.traffic.logs import summarize
    from hotpath.ops.traffic.quiet import minute_of_week, next_quiet

    minutes = max(1, round(parse_seconds(window, "--window") / 60))
    most_minutes = int(parse_seconds(most, "--max", least=0) // 60)
    warnings: list[str] = []
    summary = summarize(logs, warnings)
    warn(warnings)
    now = datetime.now(UTC)
    found = next_quiet(
        summary.minutes_of_week, summary.observed_minutes, minutes, now=minute_of_week(now), most=most_minutes
    )
    if found is None:
        raise DeclarationError(
            "no verified crawler is in this log, or it has no times: there is no quiet time to wait for"
        )
    wait, quiet = found
    expected = (
        f"{quiet.expected:g} crawler requests expected in {quiet.minutes} minutes, {quiet.average:g} in any other"
    )
    if not quiet.is_quiet:
        expected = f"no window within {most} is quiet, this one has the fewest: {expected}"
    if not wait:
        say(f"now: {expected}")
        return
    until = now.replace(second=0, microsecond=0) + timedelta(minutes=wait)
    say(f"waiting until {until.astimezone():%A %H:%M %Z} ({until:%H:%M} UTC), {human_seconds(60 * wait)}: {expected}")
    while (left := (until - datetime.now(UTC)).total_seconds()) > 0:
        time.sleep(min(left, 60.0))  # a machine that slept in between, or whose clock was set, is not late


@click.command(epilog="Example: hotpath pause --max 2m; ./migrate; hotpath resume")
@click.option("--max", "most", default="60s", show_default=True, help="When it ends by itself.")
@_PID
def pause(most: str, pid: int | None) -> None:
    """Hold every request that is not hot, for a migration or the like."""
    parse_seconds(most, "--max")
    _command(pid, f"/pause?seconds={quote(most)}")


@click.command(epilog="Example: hotpath resume")
@_PID
def resume(pid: int | None) -> None:
    """Let the requests go that 'hotpath pause' holds."""
    _command(pid, "/resume")


def _command(pid: int | None, name: str) -> None:
    from hotpath.front import control

    say(control.command(control.find(pid), name))


def _refuse_options_of_two_processes() -> None:
    context = click.get_current_context()
    given = [
        f"--{name.replace('_', '-')}"
        for name in _OF_TWO_PROCESSES
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    ]
    if given:
        advice = "; write app = HotpathMiddleware(app, hot=hot, observe=AccessLog())" if "--access-log" in given else ""
        raise DeclarationError(
            f"{', '.join(given)}: not with --in-process, where no other process is the app's{advice}"
        )


def _loaded() -> Any:
    """``hotpath.front.run``, whose libraries are an extra."""
    try:
        from hotpath.front import run
    except ImportError as error:
        sys.exit(f"hotpath: the front needs {error.name}: pip install 'asgi-hotpath[front]'")
    return run


def _options(run: Any, front: dict[str, Any]) -> Any:
    return run.FrontOptions(
        connections=front["connections"],
        hold=parse_seconds(front["hold"], "--hold"),
        in_flight=front["in_flight"],
        waiting=front["waiting"],
        drain=parse_seconds(front["drain"], "--drain"),
        trust=front["trust"],
        admin=None if front["admin"] is None else run.admin_address(front["admin"]),
        access_log=front["access_log"],
        shares_port=front["reuse_port"],
        last_good=_last_good(front),
    )


def _share(front: dict[str, Any]) -> None:
    """Let the options win over the environment, for this process and for the app that it starts."""
    Sharing(front["origin"], front["hints"])
    for name, address in ((ORIGIN, front["origin"]), (HINTS_URL, front["hints"])):
        if address:
            os.environ[name] = address


def _last_good(front: dict[str, Any]) -> Any:
    from hotpath.front.last_good import LastGoodOptions

    options = LastGoodOptions(
        max_bytes=_bytes_or_off(front["last_good"]),
        patience=parse_seconds(front["patience"], "--patience"),
        stale=parse_seconds(front["stale"], "--stale", least=0),
        is_fresh=front["fresh"],
        empty_replaces=front["empty_replaces"],
        token=front["admin_token"],
    )
    if front["ignore_cookies"] is None:
        return options
    names = tuple(name.strip() for name in front["ignore_cookies"].split(",") if name.strip())
    return replace(options, ignore_cookies=names)


def _bytes_or_off(text: str) -> int | None:
    try:
        return None if text == "off" else parse_bytes(text, "--last-good")
    except DeclarationError as error:
        raise DeclarationError(f"{error}; 'off' for none") from None


def _listeners(front: dict[str, Any]) -> list[socket.socket]:
    """As the options say; those of systemd go before. Raises ``NoSocket``."""
    from hotpath.front.listeners import NoSocket, bind, bind_unix, from_systemd

    if given := from_systemd():
        return given
    if front["systemd"]:
        raise NoSocket(
            "--systemd: systemd gave no socket; start it by a .socket unit of the same name (ListenStream=80), and not"
            " from a shell"
        )
    if front["uds"] is not None:
        return [bind_unix(front["uds"])]
    return [bind(front["host"], front["port"], reuse_port=front["reuse_port"])]


def _site(app: str, store: Path | None) -> Hotpath:
    """What is hot: by ``--store``, by the environment, or as the app declares it."""
    path = store or os.environ.get("HOTPATH_STORE")
    if path:
        return Hotpath.of_store(Path(path).absolute())
    from hotpath.front import control

    base = control.base_directory()
    # Blocked, so that a signal that comes before anybody waits for it does so too.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        while True:
            try:
                hot = _asked(app, is_app=True)
                control.remember_store(base, app, hot.store.root)
                return hot
            except AppBroken as broken:
                root = control.remembered_store(base, app)
                if root is not None:
                    complain(
                        f"hotpath: {broken}\nhotpath: hot pages are those of its store when it last started: {root}"
                    )
                    return _remembered(root)
                complain(
                    f"hotpath: {broken}\nhotpath: where its store is is not known until it can be imported; write"
                    " --store PATH, or HOTPATH_STORE=PATH, and hot pages are answered at once; SIGHUP tries again"
                )
                while signal.sigtimedwait({signal.SIGHUP}, SIGHUP_SECONDS) is None:
                    pass  # Ctrl-C ends it here
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})


def _remembered(root: Path) -> Hotpath:
    """The store of an app that cannot be asked; it follows what it did when it last started."""
    from hotpath.store.follow_record import read_record

    hot = Hotpath.of_store(root)
    record = read_record(hot.store)
    if record is not None:
        with contextlib.suppress(DeclarationError):  # a damaged record costs no page
            hot.sharing = Sharing(record.origin)
    return hot


def _checked(hot: Hotpath, without_bypass: bool) -> Hotpath:
    """``hot``, unless only the app knows which requests are for hot pages. Raises ``TargetError``."""
    from hotpath.serving.reader import reader_of

    if hot.follows_store:
        with contextlib.suppress(HotpathError, OSError):  # the door says so
            reader_of(hot).start()
    if hot.has_bypass and not without_bypass:
        raise TargetError(
            str(hot.store.root),
            "the app's HotpathMiddleware has bypass=, which the front cannot ask; write --without-bypass to answer hot"
            " pages without it, or 'hotpath serve --in-process'",
        )
    return hot


def _asked(target: str, *, is_app: bool = False) -> Hotpath:
    from hotpath.front.declared import ask

    return ask(target, is_app=is_app)


def _imported(app: str) -> Any:
    from uvicorn.importer import ImportFromStringError, import_from_string

    sys.path.insert(0, str(Path.cwd()))
    try:
        return import_from_string(app)
    except ImportFromStringError as error:
        raise TargetError(app, str(error)) from None
    except Exception as error:  # a module may raise anything while it is imported
        raise TargetError(app, f"importing it failed: {type(error).__name__}: {error}") from error


def _log(with_access: bool) -> None:
    """Lines of the front on stderr, those of requests on stdout; an app's own are not touched."""
    from hotpath.front.output import LineHandler

    lines = LineHandler()
    lines.setFormatter(logging.Formatter("%(message)s"))
    logging.getLogger("hotpath").addHandler(lines)
    if with_access:
        logger = logging.getLogger("hotpath.access")
        logger.addHandler(logging.StreamHandler(sys.stdout))
        logger.setLevel(logging.INFO)
        logger.propagate = False
