"""The command that serves the status page."""

from __future__ import annotations

import contextlib
import ipaddress
import secrets
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from hotpath.cli.output import STORE, say
from hotpath.cli.targets import load_site_or_store
from hotpath.errors import DeclarationError, HotpathError
from hotpath.front.listeners import address_of, bind
from hotpath.site import Hotpath

if TYPE_CHECKING:
    from hotpath.ops.traffic.report import LogReport

# Between two readings of the access logs: a million lines take some seconds.
LOG_SECONDS: Final = 300.0


@click.command(epilog="Example: hotpath dashboard var/hot --log /var/log/nginx/access.log")
@STORE
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; others need --token.")
@click.option("--port", default=9190, show_default=True, type=click.IntRange(0, 65535), help="Port to listen on.")
@click.option(
    "--token", "needs_token", is_flag=True, help="Ask for HOTPATH_DASHBOARD_TOKEN, or a new token that is printed."
)
@click.option("--allow-host", multiple=True, metavar="NAME", help="Another name that the page is asked for by.")
@click.option("--log", multiple=True, metavar="FILE", help="An access log, for what crawlers got; may be repeated.")
@click.option(
    "--memory-log", type=click.Path(path_type=Path), help="Memory over time; memory.csv in the store by default."
)
def dashboard(
    target: str,
    host: str,
    port: int,
    needs_token: bool,
    allow_host: tuple[str, ...],
    log: tuple[str, ...],
    memory_log: Path | None,
) -> None:
    """Serve one page that says how the site is.

    Hot pages and their age, memory over time, the last sixty runs, what waits for a person with the command that ends
    it. It changes nothing, and only this machine sees it, unless --token is given.
    """
    try:
        import uvicorn

        from hotpath.dashboard.access import Access, token_from_environment
        from hotpath.dashboard.app import Dashboard
    except ImportError as error:
        sys.exit(f"hotpath: the status page needs {error.name}: pip install 'asgi-hotpath[cli,server]'")
    token = token_from_environment()
    is_new = needs_token and token is None
    if is_new:
        token = secrets.token_urlsafe(24)
    if token is None and not _is_loopback(host):
        raise DeclarationError(f"--host {host}: others could see the page; give --token too, or use an SSH tunnel")
    site = load_site_or_store(target)
    hot = site if isinstance(site, Hotpath) else Hotpath(site.root)
    page = Dashboard(hot=hot, memory_log=memory_log, access=Access(token=token, hosts=allow_host))
    page.sources.target = target
    with contextlib.closing(bind(host, port)) as listener:
        if log:
            page.sources.log = _LogReader(log, [route.path.text for route in hot.routes] or None).now
        page.sources.facts()  # the reports of sixty nights are read once: now, and not by the first who looks
        config = uvicorn.Config(_only_the_root(page), log_config=None, access_log=False, lifespan="off", ws="none")
        say(f"the status page is at {address_of(listener)}/{f'?token={token}' if is_new else ''}", "Ctrl-C ends it")
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run([listener])


def _only_the_root(page: Any) -> Any:
    from starlette.applications import Starlette
    from starlette.routing import Route

    return Starlette(routes=[Route("/", page)])


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _LogReader:
    """Reads the access logs in a thread, again every few minutes."""

    def __init__(self, files: Sequence[str], declared: Sequence[str] | None) -> None:
        self._files = files
        self._declared = declared
        self._report: LogReport | None = None
        self._problem: str | None = "the access log is being read"
        threading.Thread(target=self._run, name="hotpath-logs", daemon=True).start()

    def now(self) -> tuple[LogReport | None, str | None]:
        """The newest report, and what is wrong."""
        return self._report, self._problem

    def _run(self) -> None:
        from hotpath.ops.traffic import logs

        while True:
            try:
                self._report, self._problem = logs.read(self._files, declared=self._declared), None
            except (HotpathError, OSError) as error:
                self._problem = f"the access log: {error}"
            threading.Event().wait(LOG_SECONDS)
