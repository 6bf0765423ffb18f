"""What a site declares for all its pages and not for each route: a section of each manifest.

A process that reads the store, and never imports the site's code, answers by it as the middleware in the app does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from hotpath.pages.hosts import Hosts
from hotpath.pages.keys import TRACKING, Ignored, Template, parse_path_template
from hotpath.pages.policy import Policy, policy_of


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How a process reads: look at the store every ``refresh_seconds``, keep at most ``max_body_bytes`` of bodies.

    ``ignored`` are parameters that choose no page, ``headers`` fields of all pages, ``hosts`` those that are answered.
    """

    refresh_seconds: float
    max_body_bytes: int
    generation_header: bool
    redirect_slashes: bool
    ignored: Ignored = TRACKING
    headers: tuple[tuple[str, str], ...] = ()
    hosts: Hosts | None = None


@dataclass(frozen=True, slots=True)
class DeclaredFiles:
    """Files of another program: ``files`` is the template of their absolute names, ``path`` of their pages."""

    path: Template
    files: Template
    policy: Policy


@dataclass(frozen=True, slots=True)
class SiteWide:
    """The options of ``Hotpath(…)``, the directories, and whether the app's middleware has ``bypass=``.

    ``has_bypass`` is ``None`` where that was not known: the module that declares the pages does not make the app.
    """

    reading: ReadOptions
    directories: tuple[DeclaredFiles, ...] = ()
    has_bypass: bool | None = None

    def facts(self) -> dict[str, Any]:
        """As JSON has it; ``of_facts`` reads it."""
        reading = self.reading
        hosts = reading.hosts
        return {
            "refresh_seconds": reading.refresh_seconds,
            "max_body_bytes": reading.max_body_bytes,
            "generation_header": reading.generation_header,
            "redirect_slashes": reading.redirect_slashes,
            "ignore_query": [*sorted(reading.ignored.names), *(f"{prefix}*" for prefix in reading.ignored.prefixes)],
            "headers": reading.headers,
            "hosts": None
            if hosts is None
            else [*sorted(name.decode() for name in hosts.names), *(f"*{end.decode()}" for end in hosts.suffixes)],
            "directories": [
                {"path": files.path.text, "files": files.files.text, **asdict(files.policy)}
                for files in self.directories
            ],
            "bypass": self.has_bypass,
        }

    @classmethod
    def of_facts(cls, facts: Mapping[str, Any]) -> SiteWide:
        """Raises ``KeyError``, ``TypeError``, ``ValueError`` or ``DeclarationError`` for what ``facts`` never gives."""
        ignored, hosts = [str(name) for name in facts["ignore_query"]], facts["hosts"]
        reading = ReadOptions(
            float(facts["refresh_seconds"]),
            int(facts["max_body_bytes"]),
            _flag(facts["generation_header"]),
            _flag(facts["redirect_slashes"]),
            Ignored(
                frozenset(name for name in ignored if not name.endswith("*")),
                tuple(name[:-1] for name in ignored if name.endswith("*")),
            ),
            tuple((str(name), str(value)) for name, value in facts["headers"]),
            None if hosts is None else Hosts.parse(hosts),
        )
        return cls(
            reading,
            tuple(map(_files_of, facts["directories"])),
            None if facts["bypass"] is None else _flag(facts["bypass"]),
        )


def _files_of(facts: Mapping[str, Any]) -> DeclaredFiles:
    policy = {name: value for name, value in facts.items() if name not in ("path", "files")}
    return DeclaredFiles(parse_path_template(facts["path"]), Template.parse(facts["files"]), policy_of(policy))


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{value!r} is neither true nor false")
    return value
