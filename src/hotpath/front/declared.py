"""What a site declares, asked of a short-lived process: the front itself never imports the site's code.

A manifest has the keys of a generation and the policy of each route. The options of ``Hotpath(…)`` that hold for all
pages, and the directories of files, are in the declaration only.
"""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

import orjson

from hotpath.asgi.middleware import HotpathMiddleware
from hotpath.errors import AppBroken, TargetError
from hotpath.front.servers import environment
from hotpath.options import to_json
from hotpath.pages.hosts import Hosts
from hotpath.pages.keys import Ignored, Template, parse_path_template
from hotpath.pages.policy import Policy
from hotpath.site import Directory, Hotpath, ReadOptions

# An app may read its models while it is imported.
ASK_SECONDS: Final = 120.0
# Of a traceback: the end, which says what it was.
TRACEBACK_LINES: Final = 12


def ask(target: str, environ: Mapping[str, str] = os.environ, seconds: float = ASK_SECONDS) -> Hotpath:
    """The hot pages of the site whose app (or ``Hotpath`` object) ``module:attribute`` names.

    Raises ``AppBroken`` with the end of what was printed where the import fails, else ``TargetError``.
    """
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as answer:
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "hotpath.front.declared", str(writing), target],
                env=environment(environ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=[writing],
                start_new_session=True,
            )
        finally:
            os.close(writing)
        try:
            _, printed = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise TargetError(target, f"importing it took more than {seconds:g} s; write --store") from None
        data = answer.read() if process.returncode == 0 else b""
    if not data:
        lines = printed.decode("utf-8", "replace").rstrip().splitlines()[-TRACEBACK_LINES:]
        raise AppBroken(target, "it cannot be imported:" + "".join(f"\n  {line}" for line in lines))
    facts = orjson.loads(data)
    if problem := facts.get("problem"):
        raise TargetError(target, problem)
    return _declared(facts)


def _declared(facts: Mapping[str, Any]) -> Hotpath:
    hot = Hotpath(facts["root"])
    reading = facts["reading"]
    hosts, ignored = reading.pop("hosts"), reading.pop("ignored")
    hot.reading = ReadOptions(
        **{**reading, "headers": _pairs(reading["headers"])},
        ignored=Ignored(frozenset(ignored["names"]), tuple(ignored["prefixes"])),
        hosts=None
        if hosts is None
        else Hosts(
            frozenset(name.encode() for name in hosts["names"]), tuple(end.encode() for end in hosts["suffixes"])
        ),
    )
    for directory in facts["directories"]:
        policy = directory["policy"]
        hot.directories.append(
            Directory(
                parse_path_template(directory["path"]),
                Template.parse(directory["files"]),
                Policy(**{**policy, "query": tuple(policy["query"]), "headers": _pairs(policy["headers"])}),
            )
        )
    return hot


def _pairs(listed: list[list[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in listed)


def facts_of(hot: Hotpath) -> dict[str, Any]:
    """What ``ask`` makes a ``Hotpath`` of."""
    hosts = hot.reading.hosts
    names = (
        {
            "names": sorted(name.decode() for name in hosts.names),
            "suffixes": [end.decode() for end in hosts.suffixes],
        }
        if hosts is not None
        else None
    )
    return {
        "root": str(hot.store.root.absolute()),
        "reading": {**to_json(hot.reading), "hosts": names, "headers": [list(pair) for pair in hot.reading.headers]},
        "directories": [
            {"path": directory.path.text, "files": directory.files.text, "policy": asdict(directory.policy)}
            for directory in hot.directories
        ],
    }


def _look(target: str) -> dict[str, Any]:
    """In the short-lived process: import, and see which hot pages there are."""
    from uvicorn.importer import ImportFromStringError, import_from_string

    try:
        value = import_from_string(target)
    except ImportFromStringError as error:
        return {"problem": str(error)}
    sites = (
        [value]
        if isinstance(value, Hotpath)
        else [held for held in gc.get_objects() if issubclass(type(held), Hotpath)]
    )
    if len(sites) != 1:
        count = "no Hotpath object" if not sites else f"{len(sites)} Hotpath objects"
        return {"problem": f"it has {count} in its modules; write --store with the path of the store"}
    if not isinstance(value, Hotpath) and any(map(_has_bypass, gc.get_objects())):
        return {
            "problem": "its HotpathMiddleware has bypass=, which the front cannot ask; write --store with the path of"
            " the store to answer hot pages without it, or --in-process"
        }
    return facts_of(sites[0])


def _has_bypass(held: object) -> bool:
    """Whether this is the middleware with that option, or what Starlette will make it of."""
    if type(held) is HotpathMiddleware:  # not isinstance(): of a lazy object that would make it
        return held.has_bypass
    is_waiting = type(held).__name__ == "Middleware" and getattr(held, "cls", None) is HotpathMiddleware
    return is_waiting and getattr(held, "kwargs", {}).get("bypass") is not None


def main() -> None:
    """Write what ``sys.argv[2]`` declares to the descriptor ``sys.argv[1]``, as JSON."""
    facts = orjson.dumps(_look(sys.argv[2]))
    with os.fdopen(int(sys.argv[1]), "wb") as answer:
        answer.write(facts)


if __name__ == "__main__":
    main()
