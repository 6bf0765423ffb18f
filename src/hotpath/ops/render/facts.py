"""What is known of a site when files for it are rendered, and of each fact where it came from."""

from __future__ import annotations

import gc
import getpass
import ipaddress
import os
import pwd
import re
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import psutil

from hotpath.errors import DeclarationError, HotpathError
from hotpath.guard.guard import MemoryGuard
from hotpath.ops.check import public_base
from hotpath.options import parse_bytes, parse_whole_seconds
from hotpath.pages.policy import Policy
from hotpath.site import Hotpath
from hotpath.store.manifest import Manifest
from hotpath.store.sharing import OFF
from hotpath.store.store import Store

# known: of the site or this machine; option: given; default: assumed, to be checked by whoever installs it.
Source = Literal["known", "option", "default"]

# A batch at half past two: after most imports of the day before, and before the first crawlers of the morning.
BATCH_TIME: Final = "02:30"
PORT: Final = 8000
ADMIN: Final = "127.0.0.1:9180"
# Of a VPS with 2 GB, see docs/how-to/vps-2gb.md.
MEMORY: Final = "900MiB"
BATCH_MEMORY: Final = "500MiB"
HOST: Final = "example.org"
# How often Prometheus looks, and how long something is wrong before an alert: memory ends in minutes.
INTERVAL: Final = "15s"
PENDING: Final = "2m"

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,40}")
_TIME: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")
_USER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,31}")
_HOST: Final = re.compile(r"(\*\.)?[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")
_ADMIN: Final = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):(\d{1,5})")
_LISTEN: Final = re.compile(r"((\[[0-9a-fA-F:]+\]|[0-9.]+):)?\d{1,5}")
_COOKIE: Final = re.compile(r"[A-Za-z0-9_]+")
_APP: Final = re.compile(r"[A-Za-z_][\w.]*(:[A-Za-z_][\w.]*(\(\))?)?")
_MAIL: Final = re.compile(r"[A-Za-z0-9.!#$&'*+/=?^_`{|}~-]+@[A-Za-z0-9.-]+|[A-Za-z_][A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class RouteFacts:
    """One hot route: its declaration's ``path`` and ``file`` templates (``None`` of a store alone) and ``policy``.

    ``pages`` are those of the served generation.
    """

    path: str
    file: str | None
    policy: Policy
    pages: int


@dataclass(frozen=True, slots=True)
class SiteFacts:
    """All that templates are filled from. ``sources`` has each field's name.

    ``name`` is what units and files are called; ``app`` is the ASGI app, ``target`` the ``Hotpath`` object, ``None``
    where only a store was given. ``directory`` is where the app runs, ``hotpath`` the command's path. ``port`` is where
    the site listens on loopback, ``admin`` where the front has its figures. Sizes are bytes; ``batch_time`` is
    ``HH:MM`` in the machine's time zone. ``alerts`` says that ways to send them are set, ``has_guard`` that
    the app has a ``MemoryGuard``. ``manifest`` is of the served generation, ``None`` before the first build.
    ``command`` is how to render it again.
    """

    name: str
    target: str | None
    app: str
    store: Path
    directory: Path
    hotpath: Path
    user: str
    hosts: tuple[str, ...]
    base_url: str
    port: int
    admin: str
    memory_bytes: int
    batch_memory_bytes: int
    workers: int
    has_swap: bool
    batch_time: str
    mail: str | None
    alerts: bool
    has_guard: bool
    routes: tuple[RouteFacts, ...]
    manifest: Manifest | None
    site: Hotpath | None
    sources: Mapping[str, Source]
    # Of some files only: one unit and a socket (serve), two units (two), or the app without a front (none).
    layout: Literal["serve", "two", "none"] = "serve"
    logs: tuple[str, ...] = ()
    # Of web servers and monitoring only.
    listen: str | None = None
    trust: tuple[str, ...] = ()
    cookie: str | None = None
    certificate: tuple[str, str] | None = None
    interval_seconds: int = 15
    pending_seconds: int = 120
    command: str = field(default="hotpath render", compare=False)

    @property
    def build_target(self) -> str:
        """What ``check`` and ``status`` take: the TARGET, or the store's path."""
        return self.target or str(self.store)

    @property
    def origin(self) -> str | None:
        """The declared origin, by which several machines share generations."""
        declared = self.site.sharing.origin if self.site is not None else None
        return None if declared == OFF else declared

    def executable(self, name: str) -> Path:
        """Another program of the virtual environment that has hotpath."""
        return self.hotpath.parent / name


# Fields with the option that decides about each, and what it is; in the order in which files name them.
OPTIONS: Final[Mapping[str, tuple[str, str]]] = {
    "name": ("--name", "name of units and files"),
    "app": ("--app", "the ASGI app"),
    "directory": ("--directory", "directory that the app runs in"),
    "hotpath": ("--hotpath", "path of the command"),
    "user": ("--user", "user that the site runs as"),
    "hosts": ("--host", "host name of the site"),
    "base_url": ("--base-url", "address of the public site"),
    "port": ("--port", "port of the site on loopback"),
    "admin": ("--admin", "address of the front's metrics and health"),
    "memory_bytes": ("--memory", "memory of the app"),
    "batch_memory_bytes": ("--batch-memory", "memory of the batch"),
    "workers": ("--workers", "processes of the app"),
    "has_swap": ("--swap", "whether the machine has swap"),
    "batch_time": ("--batch-time", "when the batch runs"),
    "mail": ("--mail", "who gets mail of failures"),
    "alerts": ("--alert", "whether HOTPATH_ALERT_… are set in /etc/NAME.env"),
}


# One line a fact: long as there are many.
def gather(site: Hotpath | Store, target: str, **options: Any) -> SiteFacts:
    """Facts of a site or a store. ``options`` are the fields' values where they were given, ``None`` where not.

    Raises ``DeclarationError`` for a value that cannot be one.
    """
    sources: dict[str, Source] = {}

    def fact(name: str, *, known: Any = None, default: Any = None) -> Any:
        given = options.get(name)
        for value, source in ((given, "option"), (known, "known"), (default, "default")):
            if value is not None:
                sources[name] = source  # type: ignore[assignment]
                return value
        sources[name] = "default"
        return None

    hot = site if isinstance(site, Hotpath) else None
    store = hot.store if hot is not None else site
    assert isinstance(store, Store)
    directory = Path(fact("directory", known=Path.cwd() if hot else None, default=store.root.absolute().parent))
    hosts = options.get("hosts") or _hosts(hot) or ()
    _check_each("--host", hosts, _HOST, "a host name, as example.org or *.example.org")
    first = next((host for host in hosts if not host.startswith("*")), HOST)
    base_url = public_base(fact("base_url", default=f"https://{first}"))
    from_url = (urlsplit(base_url).hostname or HOST,) if options.get("base_url") else None
    manifest = _manifest(store)
    module = target.partition(":")[0] if hot else "app"
    facts = SiteFacts(
        name=fact("name", default=module.partition(".")[0].replace("_", "-") if hot else "site"),
        target=target if hot else None,
        app=fact("app", known=_app_beside(target) if hot else None, default=f"{module}:app"),
        store=store.root.absolute(),
        directory=directory.absolute(),
        hotpath=Path(fact("hotpath", known=_command(), default="/usr/bin/hotpath")).absolute(),
        user=fact("user", known=_owner(directory), default="site"),
        hosts=tuple(fact("hosts", known=_hosts(hot) or from_url, default=(HOST,))),
        base_url=base_url,
        port=fact("port", default=PORT),
        admin=fact("admin", default=ADMIN),
        memory_bytes=parse_bytes(fact("memory_bytes", default=MEMORY), "--memory"),
        batch_memory_bytes=parse_bytes(fact("batch_memory_bytes", default=BATCH_MEMORY), "--batch-memory"),
        workers=fact("workers", default=1),
        has_swap=bool(fact("has_swap", default=psutil.swap_memory().total > 0)),
        batch_time=fact("batch_time", default=BATCH_TIME),
        mail=fact("mail"),
        alerts=fact("alerts", default=False),
        has_guard=fact("has_guard", known=hot is not None and any(map(_is_guard, gc.get_objects()))),
        routes=_routes(hot, manifest),
        manifest=manifest,
        site=hot,
        sources=sources,
        layout=options.get("layout") or "serve",
        logs=tuple(options.get("logs") or ()),
        listen=fact("listen"),
        trust=tuple(map(network, options.get("trust") or ())),
        cookie=options.get("cookie"),
        certificate=options.get("certificate"),
        interval_seconds=parse_whole_seconds(options.get("interval") or INTERVAL, "--interval"),
        pending_seconds=parse_whole_seconds(options.get("pending") or PENDING, "--pending"),
        command=options.get("command") or "hotpath render",
    )
    _check(facts)
    return facts


def head(facts: SiteFacts, *names: str) -> list[str]:
    """What stands at the top of a file: how to make it again, and which of the facts in it are only assumed."""
    lines = [f"Made by '{facts.command}': run that again instead of changing this file."]
    assumed = [name for name in OPTIONS if name in names and facts.sources[name] == "default"]
    if assumed:
        lines.append("Assumed, since it cannot be known here; give the option where it is different:")
        for name in assumed:
            option, meaning = OPTIONS[name]
            lines.append(f"  {' '.join(as_options(facts, name)) or f'no {option}'}: {meaning}")
    return lines


def as_options(facts: SiteFacts, name: str) -> list[str]:
    """A fact as its option is written; empty where that is to leave it out."""
    value, option = getattr(facts, name), OPTIONS[name][0]
    if value is None or (name == "alerts" and not value):
        return []
    if isinstance(value, bool):
        return [option if value else option.replace("--", "--no-", 1)]
    if isinstance(value, tuple):
        return [word for each in value for word in (option, each)]
    return [option, f"{value // 1024**2}MiB" if name.endswith("_bytes") else str(value)]


def network(text: str) -> str:
    """A network or an address in its usual form. Raises ``DeclarationError``."""
    try:
        return str(ipaddress.ip_network(text))
    except ValueError as error:
        raise DeclarationError(f"--trust {text!r}: {error}; write a network, as 10.0.0.0/8") from None


def _check(facts: SiteFacts) -> None:
    for option, value, pattern, example in (
        ("--name", facts.name, _NAME, "letters, digits, - and _, as site"),
        ("--batch-time", facts.batch_time, _TIME, "a time of day, as 02:30"),
        ("--app", facts.app, _APP, "module:attribute, as myapp:app"),
        ("--user", facts.user, _USER, "the name of a user, as site"),
        ("--admin", facts.admin, _ADMIN, "an address and a port, as 127.0.0.1:9180"),
        ("--listen", facts.listen, _LISTEN, "a port, or an address and a port"),
        ("--cookie", facts.cookie, _COOKIE, "letters, digits and _"),
        ("--mail", facts.mail, _MAIL, "one address, as me@example.org"),
    ):
        _check_each(option, () if value is None else (value,), pattern, example)


def _check_each(option: str, values: Iterable[str], pattern: re.Pattern[str], example: str) -> None:
    for value in values:
        if not pattern.fullmatch(value):
            raise DeclarationError(f"{option} {value!r}: write {example}")


def _hosts(hot: Hotpath | None) -> tuple[str, ...] | None:
    hosts = hot.reading.hosts if hot is not None else None
    if hosts is None:
        return None
    names = sorted(name.decode("ascii") for name in hosts.names)
    return (*names, *sorted(f"*{end.decode('ascii')}" for end in hosts.suffixes)) or None


def _app_beside(target: str) -> str | None:
    """The app of the module that declares the site, by the names that servers' own examples have."""
    name = target.partition(":")[0]
    module = sys.modules.get(name)
    for attribute in ("app", "application", "asgi_app"):
        if callable(getattr(module, attribute, None)):
            return f"{name}:{attribute}"
    return None


def _is_guard(held: object) -> bool:
    return issubclass(type(held), MemoryGuard)  # not isinstance(): of a lazy object that would make it


def _command() -> str | None:
    """The ``hotpath`` of this virtual environment, not resolved: a link would lead out of it."""
    beside = Path(sys.executable).parent / "hotpath"
    return str(beside) if os.access(beside, os.X_OK) else shutil.which("hotpath")


def _owner(directory: Path) -> str | None:
    try:
        owner = pwd.getpwuid(directory.stat().st_uid).pw_name
    except (OSError, KeyError):
        owner = getpass.getuser()
    return None if owner == "root" else owner


def _manifest(store: Store) -> Manifest | None:
    try:
        return store.read_manifest(store.chosen_sequence())
    except (HotpathError, OSError):
        return None


def _routes(hot: Hotpath | None, manifest: Manifest | None) -> tuple[RouteFacts, ...]:
    counts: dict[str, int] = {}
    published: dict[str, Policy] = {}
    for key in manifest.items if manifest is not None else ():
        policy = manifest.items[key].policy  # type: ignore[union-attr]
        counts[policy.route] = counts.get(policy.route, 0) + 1
        published[policy.route] = policy
    declared = [
        RouteFacts(route.path.text, route.file.text, route.policy, counts.get(route.path.text, 0))
        for route in (hot.routes if hot is not None else ())
    ]
    names = {route.path for route in declared}
    rest = [RouteFacts(path, None, policy, counts[path]) for path, policy in published.items() if path not in names]
    return (*declared, *rest)
