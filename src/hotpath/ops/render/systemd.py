"""Units, sockets and timers of systemd 252 and newer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hotpath.ops.render.escape import systemd, systemd_argument, systemd_line
from hotpath.ops.render.facts import SiteFacts, head
from hotpath.ops.render.files import RenderedFile
from hotpath.ops.render.template import commented, fill

UNITS: Final = "etc/systemd/system"
# The front's own share of the last wall around app and front.
FRONT_BYTES: Final = 200 * 1024**2
# When the check runs, after the batch began.
CHECK_MINUTES: Final = 30
_HOMES: Final = ("/home", "/root", "/run/user")
# "Executable name contains special characters": systemd takes these only in arguments.
_UNSAFE_PROGRAM: Final = re.compile(r"[\x00-\x1f\x7f\"'\\]")
_HIGH_WITH_SWAP: Final = 0.8

# The web server on the same machine says who the client is.
_TRUST = ("--trust", "127.0.0.1/32")


def render(facts: SiteFacts) -> list[RenderedFile]:
    """The site by ``facts.layout``, the batch, the check, the alert unit, and tmpfiles."""
    return [*_site(facts), *_nightly(facts)]


def check_time(facts: SiteFacts) -> str:
    """``HH:MM``, half an hour after the batch begins."""
    hours, minutes = map(int, facts.batch_time.split(":"))
    total = (hours * 60 + minutes + CHECK_MINUTES) % 1440
    return f"{total // 60:02}:{total % 60:02}"


def mebibytes(count: int) -> str:
    """As systemd reads it: ``900M``."""
    return f"{count // 1024**2}M"


def _site(facts: SiteFacts) -> list[RenderedFile]:
    if facts.layout == "none":
        app = _app(facts, "", ("--host", "127.0.0.1", "--port", str(facts.port)))
        return [app, *([_follow(facts)] if facts.origin else [])]
    socket = _file(facts, "site.socket", f"{facts.name}.socket", ("name", "port"), port=facts.port)
    if facts.layout == "serve":
        return [socket, _serve(facts)]
    app_socket = f"/run/{facts.name}-app/app.sock"
    front = ("front", facts.build_target, "--to", f"unix:{app_socket}", "--systemd", *_TRUST, "--admin", facts.admin)
    listen = ("--uds", app_socket, "--forwarded-allow-ips", "*")
    return [
        socket,
        _service(facts, "front.service", "", ("admin",), _exec(facts.hotpath, front)),
        _app(facts, "-app", listen),
    ]


def _serve(facts: SiteFacts) -> RenderedFile:
    # By its path, so that hot pages are there although the app cannot be imported when the front starts.
    store = ("--store", str(facts.store))
    workers = ("--workers", str(facts.workers)) if facts.workers > 1 else ()
    memory = f"{facts.memory_bytes // 1024**2}MiB"
    command = ("serve", facts.app, *store, "--systemd", *_TRUST, *workers, "--memory", memory)
    command += ("--admin", facts.admin)
    if facts.origin:  # a store alone does not say it
        command += ("--origin", facts.origin)
    values = {
        "memory_max": mebibytes(facts.memory_bytes + FRONT_BYTES),
        "protect_groups": "no",
        "groups_why": "the front makes one for the app",
    }
    names = ("app", "memory_bytes", "workers", "admin")
    return _service(facts, "serve.service", "", names, _exec(facts.hotpath, command), values)


def _app(facts: SiteFacts, suffix: str, listen: Sequence[str]) -> RenderedFile:
    lines = []
    if suffix:
        lines += ["# The socket of the app, which the front asks.", f"RuntimeDirectory={facts.name}{suffix}"]
        lines += ["# It stays while the app is replaced.", "RuntimeDirectoryPreserve=yes"]
    if facts.has_guard:
        lines += ["# The memory guard sends READY when it samples.", "Type=notify"]
        lines += ["# From each worker.", "NotifyAccess=all"]
        lines += ["# The event loop proves twice in this time that it runs.", "WatchdogSec=30"]
    else:
        lines += ["# Started is all that is known: a MemoryGuard would send READY and feed a watchdog.", "Type=exec"]
    options = ("--workers", str(facts.workers), "--timeout-graceful-shutdown", "20", "--no-access-log")
    command = _exec(facts.executable("uvicorn"), (facts.app, *listen, *options))
    values = {
        "type": "\n".join(lines),
        "oom_score": "500" if suffix else "-500",
        "oom_why": (
            "The kernel kills the app before the front, which holds its requests."
            if suffix
            else "When the whole machine runs out, the kernel kills other processes first."
        ),
    }
    names = ("app", "memory_bytes", "workers", *(() if suffix else ("port",)))
    return _service(facts, "app.service", suffix, names, command, values)


def _follow(facts: SiteFacts) -> RenderedFile:
    """What a front does in the other layouts."""
    command = ("follow", facts.build_target, "--origin", str(facts.origin))
    return _service(facts, "follow.service", "-follow", (), _exec(facts.hotpath, command))


def _nightly(facts: SiteFacts) -> list[RenderedFile]:
    alert = ("--alert",) if facts.alerts or facts.mail else ()
    files = []
    if facts.target:
        memory = f"{max(1, facts.batch_memory_bytes // 2 // 1024**2)}MiB"
        command = ("build", facts.target, "--memory", memory, "--timeout", "2m", "--quiet", *alert)
        names = ("batch_memory_bytes", "has_swap", "mail", "alerts")
        files += [
            _service(facts, "build.service", "-build", names, _exec(facts.hotpath, command), _batch_memory(facts)),
            _file(facts, "build.timer", f"{facts.name}-build.timer", ("name", "batch_time"), time=facts.batch_time),
        ]
    check = ("check", facts.build_target, "--base-url", facts.base_url, "--every-night", "--quiet", *alert)
    failed = _exec(facts.hotpath, ("alert", "failed")) + " %i"
    tmpfiles = {"head": _head(facts, ("name", "user")), "store": systemd(str(facts.store)), "user": facts.user}
    return [
        *files,
        _service(facts, "check.service", "-check", ("base_url", "mail", "alerts"), _exec(facts.hotpath, check)),
        _file(facts, "check.timer", f"{facts.name}-check.timer", ("name", "batch_time"), time=check_time(facts)),
        _service(facts, "alert.service", "-alert@", ("mail", "alerts"), failed),
        RenderedFile(f"etc/tmpfiles.d/{facts.name}.conf", fill("systemd/tmpfiles.conf", tmpfiles)),
    ]


def _batch_memory(facts: SiteFacts) -> dict[str, str]:
    if facts.has_swap:
        return {
            "memory": mebibytes(facts.batch_memory_bytes),
            "high": mebibytes(int(facts.batch_memory_bytes * _HIGH_WITH_SWAP)),
            "high_why": "There is swap: from here on the kernel swaps the batch out and slows it, before it kills.",
            "swap": "infinity",
            "swap_why": "The batch may be swapped out: it has time.",
        }
    return {
        "memory": mebibytes(facts.batch_memory_bytes),
        "high": "infinity",
        "high_why": "No throttling: there is no swap, so a batch above it would stall and never end.",
        "swap": "0",
        "swap_why": "No swap, also where some is added later: give --swap then.",
    }


def _mail(facts: SiteFacts) -> str:
    """Settings for ``--mail``: the machine's own mail server."""
    if facts.mail is None:
        return ""
    settings = {"SMTP_HOST": "127.0.0.1", "SMTP_TLS": "none", "MAIL_FROM": f"{facts.name}@localhost"}
    words = " ".join(f"HOTPATH_ALERT_{name}={value}" for name, value in settings.items())
    return (
        f"# Mail by the server of this machine; the file below comes first, with SMTP_TLS=starttls for another one.\n"
        f"Environment={words} {systemd(f'HOTPATH_ALERT_MAIL_TO={facts.mail}')}"
    )


def _service(
    facts: SiteFacts,
    template: str,
    suffix: str,
    names: Sequence[str],
    command: str,
    values: Mapping[str, str] | None = None,
) -> RenderedFile:
    paths = list(dict.fromkeys((facts.directory, facts.store)))
    in_home = any(path.is_relative_to(home) for path in (*paths, facts.hotpath) for home in _HOMES)
    all_values = {
        "exec": command,
        "user": facts.user,
        "directory": systemd_line(str(facts.directory)),
        "memory": mebibytes(facts.memory_bytes),
        "tasks": 200 + 100 * facts.workers,
        "writable": " ".join(systemd(f"-{path}") for path in paths),
        "protect_home": "read-only" if in_home else "yes",
        "protect_groups": "yes",
        "groups_why": "none to make",
        "mail": _mail(facts),
        **(values or {}),
    }
    all_values["hardening"] = fill("systemd/hardening.conf", all_values).rstrip("\n")
    known = ("name", "user", "directory", "hotpath", *names)
    return _file(facts, template, f"{facts.name}{suffix}.service", known, **all_values)


def _file(facts: SiteFacts, template: str, name: str, names: Sequence[str], **values: Any) -> RenderedFile:
    text = fill(f"systemd/{template}", {"head": _head(facts, names), "name": facts.name, **values})
    return RenderedFile(f"{UNITS}/{name}", text)


def _head(facts: SiteFacts, names: Sequence[str]) -> str:
    return commented(head(facts, *names)).rstrip("\n")


def _exec(program: Path, arguments: Sequence[str]) -> str:
    words = [systemd_argument(str(argument)) for argument in (program, *arguments)]
    if _UNSAFE_PROGRAM.search(str(program)):
        return " ".join(["/bin/sh -c", systemd_argument('exec "$0" "$@"'), *words])
    # systemd expands no variable in the program's own path.
    return " ".join([systemd(str(program)), *words[1:]])
