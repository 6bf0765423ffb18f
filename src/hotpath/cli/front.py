"""The commands of the front: ``serve``, ``front``, and what is asked of a running one."""

from __future__ import annotations

import http.client
import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from hotpath.cli.output import say
from hotpath.errors import DeclarationError, HotpathError, TargetError
from hotpath.options import human_bytes, parse_bytes, parse_seconds
from hotpath.site import Hotpath

# A deploy may wait for an app that starts slowly, and then for its requests.
CONTROL_SECONDS = 300.0

_COMMON = (
    click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen."),
    click.option("--port", default=8000, show_default=True, help="Where to listen."),
    click.option("--reuse-port", is_flag=True, help="Several fronts listen on one port."),
    click.option("--admin", metavar="HOST:PORT", help="Metrics and health, for you alone: 127.0.0.1:9180"),
    click.option("--hold", default="15s", show_default=True, help="How long a request waits for an app that is down."),
    click.option("--in-flight", default=64, show_default=True, help="Requests in the app at a time."),
    click.option("--waiting", default=256, show_default=True, help="Requests that may wait; others get 503."),
    click.option("--trust", multiple=True, metavar="CIDR", help="Proxies whose X-Forwarded fields are true."),
    click.option("--connections", default=4096, show_default=True, help="Connections at a time."),
)


def _common(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_COMMON):
        command = option(command)
    return command


@click.command(epilog="Example: hotpath serve myapp:app --port 8000 --memory 900MiB")
@click.argument("app")
@click.option("--store", type=click.Path(path_type=Path), help="The store, where the app's Hotpath cannot be found.")
@click.option("--server", default="uvicorn", show_default=True, help="Or granian, gunicorn, hypercorn, a command.")
@click.option("--workers", default=1, show_default=True, help="Processes of the app.")
@click.option("--memory", help="What the app may use, so that the kernel never picks the front: 900MiB")
@click.option("--ready", metavar="PATH", help="200 here once a new version can be used; else that it listens.")
@click.option("--health", metavar="PATH", help="An app that does not answer here is ended and started again.")
@click.option("--health-timeout", default="10s", show_default=True, help="How long it has for that.")
@click.option("--drain", default="30s", show_default=True, help="How long requests in an old version may take.")
@click.option("--in-process", is_flag=True, help="No process of its own: the app's, with hot pages before ASGI.")
@_common
# Long since each of its options is a line.
def serve(
    app: str,
    store: Path | None,
    server: str,
    workers: int,
    memory: str | None,
    ready: str | None,
    health: str | None,
    health_timeout: str,
    drain: str,
    in_process: bool,
    **common: Any,
) -> None:
    """Run APP (module:attribute) behind a front that outlives it.

    Hot pages stay at 200 while the app restarts, hangs or is killed; other requests wait for it. SIGHUP or 'hotpath
    reload' starts the new code beside the old, and then changes over.
    """
    if in_process:
        _serve_in_process(app, workers, common["host"], common["port"])
    front = _loaded()
    hot, notes = _site_of(app, store)
    directory = front.directory_of(common["port"])
    drain_seconds = parse_seconds(drain, "--drain")
    options = front.AppOptions(
        app=app,
        directory=directory,
        server=server,
        workers=workers,
        memory_bytes=_memory_of(memory),
        ready=_path_of(ready, "--ready"),
        health=_path_of(health, "--health"),
        health_seconds=parse_seconds(health_timeout, "--health-timeout"),
        drain_seconds=drain_seconds,
    )
    front.command_of(server, app, str(directory / "app-1.sock"), workers)  # wrong ones are refused before anything runs
    _run(front, hot, directory, common, f"the app {app}, run by {server.split(maxsplit=1)[0]}", notes, app=options)


@click.command(epilog="Example: hotpath front var/hot --to http://127.0.0.1:8001 --port 8000")
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--to", required=True, metavar="URL", help="The app: http://127.0.0.1:8001 or unix:/run/site.sock")
@_common
def front(store: Path, to: str, **common: Any) -> None:
    """Answer the hot pages of STORE before an app that something else runs.

    Everything else is passed on to the app, in whatever language it is; requests wait while it is down.
    """
    parts = _loaded()
    address = parts.Address.parse(to)
    hot = Hotpath(store)
    _run(parts, hot, parts.directory_of(common["port"]), common, f"the app at {address}", [], address=address)


@click.command(epilog="Example: hotpath reload --port 8000")
@click.option("--port", default=8000, show_default=True, help="Of the front.")
def reload(port: int) -> None:
    """Start the app's new code beside the old one, and change over."""
    _ask(port, "/reload")
    say("the new version has taken over")


@click.command(epilog="Example: hotpath pause --max 60s; migrate; hotpath resume")
@click.option("--port", default=8000, show_default=True, help="Of the front.")
@click.option("--max", "longest", default="60s", show_default=True, help="When it ends by itself.")
def pause(port: int, longest: str) -> None:
    """Let all but hot pages wait: a migration, another database."""
    seconds = parse_seconds(longest, "--max")
    _ask(port, f"/pause?seconds={seconds:g}")
    say(f"requests for the app wait now, for {seconds:g} s at most; 'hotpath resume' lets them pass")


@click.command(epilog="Example: hotpath resume")
@click.option("--port", default=8000, show_default=True, help="Of the front.")
def resume(port: int) -> None:
    """Let requests pass again."""
    _ask(port, "/resume")
    say("requests for the app pass again")


class _Parts:
    """The front's names, loaded by its commands alone: they need the extra."""

    def __init__(self) -> None:
        from hotpath.front.app_process import AppOptions
        from hotpath.front.listeners import directory_of, from_systemd, listen
        from hotpath.front.run import FrontOptions, run
        from hotpath.front.servers import command_of
        from hotpath.front.upstream import Address

        self.AppOptions, self.FrontOptions, self.Address = AppOptions, FrontOptions, Address
        self.directory_of, self.from_systemd, self.listen = directory_of, from_systemd, listen
        self.run, self.command_of = run, command_of


def _loaded() -> _Parts:
    try:
        return _Parts()
    except ImportError as error:
        raise DeclarationError(f"the front needs {error.name}: pip install 'asgi-hotpath[cli,front]'") from None


def _site_of(app: str, store: Path | None) -> tuple[Hotpath, list[str]]:
    """The site as the front sees it, and what is to say of it."""
    from hotpath.front.discovery import discover

    if store is not None:
        return Hotpath(store), []
    named = os.environ.get("HOTPATH_STORE")
    try:
        found = discover(app)
    except TargetError as error:
        if named is None:
            raise TargetError(app, f"{error.problem}\nmend that, or name the store with --store") from None
        return Hotpath(named), [f"{error}", "hot pages are served meanwhile; SIGHUP tries the app at once"]
    if found is None:
        if named is None:
            raise DeclarationError(
                f"{app}: no HotpathMiddleware is in this app; add it, or name the store with --store"
            )
        return Hotpath(named), []
    if found.has_bypass:
        raise DeclarationError(
            f"{app}: bypass= decides for each request, and a front cannot ask the app; leave bypass= out, or serve with"
            " --in-process"
        )
    return found.hot, []


def _memory_of(memory: str | None) -> int | None:
    if memory is None:
        return None
    import psutil

    limit, total = parse_bytes(memory, "--memory"), psutil.virtual_memory().total
    if limit > total:
        raise DeclarationError(f"--memory {memory}: this machine has {human_bytes(total)}; write less, and leave room")
    return limit


def _path_of(path: str | None, name: str) -> str | None:
    if path is not None and (not path.startswith("/") or not path.isascii() or not path.isprintable() or " " in path):
        raise DeclarationError(f"{name} {path!r}: write a path of the app, as {name} /healthz")
    return path


# Long since it says what it does.
def _run(
    parts: _Parts, hot: Hotpath, directory: Path, common: dict[str, Any], of: str, notes: list[str], **app: Any
) -> None:
    listeners = parts.from_systemd() or [parts.listen(common["host"], common["port"], reuse_port=common["reuse_port"])]
    admin = None
    if common["admin"] is not None:
        host, colon, port = common["admin"].rpartition(":")
        if not colon or not port.isdigit():
            raise DeclarationError(f"--admin {common['admin']}: write host and port, as 127.0.0.1:9180")
        admin = parts.listen(host.strip("[]"), int(port))
    options = parts.FrontOptions(
        hot=hot,
        directory=directory,
        admin=admin,
        hold_seconds=parse_seconds(common["hold"], "--hold"),
        in_flight=common["in_flight"],
        waiting=common["waiting"],
        trust=common["trust"],
        connections=common["connections"],
        **app,
    )

    def started() -> None:
        from hotpath.serving.reader import reader_of

        snapshot = reader_of(hot).loader.snapshot
        pages = f"{len(snapshot.pages)} hot pages of generation {snapshot.generation}"
        if snapshot.generation is None:
            pages = f"no hot page yet: {hot.store.root} has no generation, and is looked at until it has"
        looks = f"http://{_place(admin)}/metrics, /healthz, /readyz" if admin else "off; --admin 127.0.0.1:9180"
        deploys = f"'hotpath reload --port {common['port']}' deploys; " if "app" in app else ""
        lines = [
            f"hotpath serves {', '.join(map(_shown, listeners))}",
            f"  hot    {pages}, from {hot.store.root}",
            f"  cold   {of}; requests wait {common['hold']} while it is down",
            f"  admin  {looks}",
            f"  {deploys}Ctrl-C ends {'all of it' if deploys else 'it'}",
        ]
        for line in [*lines, *notes]:
            print(line, file=sys.stderr, flush=True)

    try:
        parts.run(options, listeners, started)
    finally:
        for listener in listeners:
            listener.close()


def _shown(listener: socket.socket) -> str:
    return f"unix:{listener.getsockname()}" if listener.family == socket.AF_UNIX else f"http://{_place(listener)}"


def _place(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _serve_in_process(app: str, workers: int, host: str, port: int) -> None:
    """Become uvicorn with our protocol."""
    command = [sys.executable, "-m", "uvicorn", app, "--http", "hotpath.front.protocol:HotpathProtocol"]
    command += ["--host", host, "--port", str(port)]
    os.execv(sys.executable, [*command, "--workers", str(workers)] if workers > 1 else command)


def _ask(port: int, target: str) -> None:
    """POST to the control socket of a front. Raises ``DeclarationError`` where there is none, or where it refuses."""
    parts = _loaded()
    path = parts.directory_of(port) / "control.sock"
    connection = _UnixConnection("localhost", timeout=CONTROL_SECONDS)
    connection.path = str(path)
    try:
        connection.request("POST", target)
        problem = json.loads(connection.getresponse().read())["problem"]
    except (OSError, ValueError, http.client.HTTPException):
        raise DeclarationError(f"no front of this user listens at port {port} ({path}); give its --port") from None
    finally:
        connection.close()
    if problem is not None:
        raise HotpathError(problem)


class _UnixConnection(http.client.HTTPConnection):
    """The standard library's client over a Unix socket."""

    path = ""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)
