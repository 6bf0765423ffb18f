"""``hotpath init``: the files of one small machine, kept in a directory of the project, and how to install them."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import orjson

from hotpath.errors import DeclarationError, HotpathError
from hotpath.ops.render.facts import OPTIONS, SiteFacts, as_options
from hotpath.ops.render.files import RenderedFile, compare, write
from hotpath.ops.render.template import fill
from hotpath.ops.render.whats import WHATS
from hotpath.options import json_bytes, parse_bytes, printable

# Shares of the machine's memory; the rest is the kernel's, ssh's, the web server's and the database's.
APP_SHARE: Final = 0.45
BATCH_SHARE: Final = 0.25
# Sizes are rounded down to these, for people.
STEP: Final = 50 * 1024**2
LEAST_MEMORY: Final = 512 * 1024**2

# What was answered, and what was written, so that a second run asks less and overwrites nobody's work.
RECORD: Final = "hotpath-init.json"


class FilesChanged(HotpathError):
    """Files that would be written were changed since by somebody; ``paths`` are these."""

    def __init__(self, paths: Sequence[Path]) -> None:
        listed = ", ".join(map(str, paths))
        super().__init__(f"changed since they were written: {listed}; nothing was written, --force writes over them")
        self.paths = list(map(str, paths))


@dataclass(frozen=True, slots=True)
class Record:
    """``answers`` are the options of the last run, ``digests`` the SHA-256 of each file that it wrote."""

    answers: Mapping[str, Any]
    digests: Mapping[str, str]


def memory_shares(machine: int | str) -> tuple[int, int]:
    """Bytes of the app and of the batch on a machine with so much memory. Raises ``DeclarationError``."""
    total = parse_bytes(machine, "--machine-memory")
    if total < LEAST_MEMORY:
        raise DeclarationError(f"--machine-memory {machine}: a site, its batch and the system need 512MiB or more")
    app, batch = (int(total * share) // STEP * STEP for share in (APP_SHARE, BATCH_SHARE))
    return app, batch


def files_of(facts: SiteFacts, whats: Sequence[str]) -> list[RenderedFile]:
    """The files of every WHAT, and one for settings and passwords."""
    settings = {"name": facts.name, "mail": facts.mail or "me@example.org"}
    return [
        *(file for what in whats for file in WHATS[what].render(replace(facts, command=_command(facts, what)))),
        RenderedFile(f"{facts.name}.env", fill("settings.env", settings), 0o600),
    ]


def _command(facts: SiteFacts, what: str) -> str:
    """The command that makes the files of one WHAT alone: its options are more than those of ``hotpath init``."""
    words = [word for name in OPTIONS if facts.sources[name] == "option" for word in as_options(facts, name)]
    return printable(shlex.join(["hotpath", "render", what, facts.build_target, *words]))


def read_record(directory: Path) -> Record:
    """What the last run has left; an empty one where there was none."""
    try:
        held = orjson.loads((directory / RECORD).read_bytes())
        return Record(dict(held["answers"]), dict(held["digests"]))
    except FileNotFoundError:
        return Record({}, {})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DeclarationError(f"{directory / RECORD} cannot be read ({error}); remove it to begin anew") from None


def write_setup(
    files: Sequence[RenderedFile], directory: Path, answers: Mapping[str, Any], *, force: bool = False
) -> tuple[list[Path], list[Path]]:
    """Write what differs; the paths that were written, and those that were kept as somebody has changed them.

    A changed file is kept where there is nothing new for it. Raises ``FilesChanged`` where there is, unless ``force``:
    then all are written.
    """
    before = read_record(directory).digests
    digests = {file.path: hashlib.sha256(file.text.encode("utf-8", "surrogateescape")).hexdigest() for file in files}
    differing = {difference.path for difference in compare(files, directory)}
    changed = [file for file in files if directory / file.path in differing and _is_changed(directory, file, before)]
    kept = [] if force else [file for file in changed if digests[file.path] == before.get(file.path)]
    if not force and (conflicts := [directory / file.path for file in changed if file not in kept]):
        raise FilesChanged(conflicts)
    record = json_bytes({"answers": answers, "digests": digests}, option=orjson.OPT_INDENT_2).decode() + "\n"
    written = write([file for file in files if file not in kept], directory)
    write([RenderedFile(RECORD, record)], directory)
    return written, [directory / file.path for file in kept]


def _is_changed(directory: Path, file: RenderedFile, digests: Mapping[str, str]) -> bool:
    try:
        return hashlib.sha256((directory / file.path).read_bytes()).hexdigest() != digests.get(file.path)
    except FileNotFoundError:
        return False


def commands(facts: SiteFacts, directory: Path, whats: Sequence[str]) -> list[str]:
    """How to install it, as root, line by line; each may be run again."""
    place, name = shlex.quote(str(directory.absolute())), facts.name
    store, home = shlex.quote(str(facts.store)), shlex.quote(str(facts.directory))
    units = [f"{name}.socket", f"{name}.service", f"{name}-check.timer"]
    user, hotpath = facts.user, shlex.quote(str(facts.hotpath))
    lines = [
        f"id {user} || useradd --system --home-dir {home} {user}",
        f"test -e /etc/{name}.env || install -m 600 -o {facts.user} {place}/{name}.env /etc/{name}.env",
        f"cp -r --preserve=mode {place}/etc/. /etc/",
        f"install -d -o {user} {store}",
    ]
    if facts.target:
        units.append(f"{name}-build.timer")
        lines.append(f"(cd {home} && runuser -u {user} -- {hotpath} build {shlex.quote(facts.target)})")
    lines += ["systemctl daemon-reload", f"systemctl enable --now {' '.join(units)}"]
    if "nginx" in whats:
        lines.append("nginx -t && systemctl reload nginx")
    if "caddy" in whats:
        lines.append("caddy validate --config /etc/caddy/Caddyfile && systemctl reload caddy")
    if "prometheus" in whats:
        lines.append("promtool check config /etc/prometheus/prometheus.yml && systemctl reload prometheus")
    return [*lines, f"{hotpath} warm http://{facts.admin}/readyz"]
