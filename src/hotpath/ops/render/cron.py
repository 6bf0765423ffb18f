"""/etc/cron.d, for machines without timers of systemd."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from hotpath.errors import DeclarationError
from hotpath.ops.render import logrotate
from hotpath.ops.render.escape import cron
from hotpath.ops.render.facts import SiteFacts, head
from hotpath.ops.render.files import RenderedFile
from hotpath.ops.render.systemd import check_time
from hotpath.ops.render.template import commented, fill

# MAX_COMMAND of Debian's cron: a longer line is an error, and the whole file is ignored.
MAX_COMMAND: Final = 999


def render(facts: SiteFacts) -> list[RenderedFile]:
    """The crontab, and the rotation of the file that it writes."""
    names = ("name", "user", "directory", "hotpath", "base_url", "batch_memory_bytes", "batch_time", "mail", "alerts")
    alert = ("--alert",) if facts.alerts else ()
    minute, hour = _when(facts.batch_time)
    check_minute, check_hour = _when(check_time(facts))
    build = ""
    if facts.target:
        memory = f"{max(1, facts.batch_memory_bytes // 2 // 1024**2)}MiB"
        command = _command(facts, ("build", facts.target, "--memory", memory, "--timeout", "2m", "--quiet", *alert))
        build = f"{minute} {hour} * * *  {facts.user}  {command}"
    check = ("check", facts.build_target, "--base-url", facts.base_url, "--every-night", "--quiet", *alert)
    values = {
        "head": commented(head(facts, *names)).rstrip("\n"),
        "name": facts.name,
        "user": facts.user,
        "mail": facts.mail or "root",
        "build": build or "# (a store alone has no batch to run here)",
        "check": _command(facts, check),
        "check_minute": check_minute,
        "check_hour": check_hour,
    }
    # The rotation says how it is made by itself: its words are the same whichever WHAT writes it.
    own = replace(facts, command=facts.command.replace(" render cron ", " render logrotate ", 1))
    return [RenderedFile(f"etc/cron.d/{facts.name}", fill("cron", values)), *logrotate.render(own)]


def _when(time: str) -> tuple[str, str]:
    hour, minute = time.split(":")
    return str(int(minute)), str(int(hour))


def _command(facts: SiteFacts, arguments: Sequence[str]) -> str:
    settings = f"/etc/{facts.name}.env"
    words = shlex.join([str(facts.hotpath), *arguments])
    read = f"if [ -r {settings} ]; then set -a; . {settings}; set +a; fi"
    command = cron(f"{read}; cd {shlex.quote(str(facts.directory))} && {words}")
    if len(command.encode("utf-8", "surrogateescape")) > MAX_COMMAND:
        raise DeclarationError(
            f"a command of cron has at most {MAX_COMMAND} bytes, this one has more: use shorter paths"
        )
    return command
