"""Where the store of an app is and what it declares, asked of a short-lived process: the front never imports it."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from hotpath.asgi.middleware import HotpathMiddleware, has_bypass
from hotpath.errors import AppBroken, TargetError
from hotpath.front.servers import environment
from hotpath.pages.site_wide import SiteWide
from hotpath.site import Hotpath

# An app may read its models while it is imported.
ASK_SECONDS: Final = 120.0
# Of a traceback: the end, which says what it was.
TRACEBACK_LINES: Final = 12


def ask(
    target: str,
    environ: Mapping[str, str] = os.environ,
    seconds: float = ASK_SECONDS,
    *,
    is_app: bool = False,
) -> Hotpath:
    """The hot pages of the site whose app (or ``Hotpath`` object) ``module:attribute`` names.

    With ``is_app`` the target has to be the app. Raises ``AppBroken`` with the end of what was printed where the import
    fails, else ``TargetError``.
    """
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as answer:
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "hotpath.front.declared", str(writing), target, *(["app"] if is_app else [])],
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
            raise AppBroken(target, f"importing it took more than {seconds:g} s; write --store") from None
        data = answer.read() if process.returncode == 0 else b""
    if not data:
        lines = printed.decode("utf-8", "replace").rstrip().splitlines()[-TRACEBACK_LINES:]
        raise AppBroken(target, "it cannot be imported:" + "".join(f"\n  {line}" for line in lines))
    facts = orjson.loads(data)
    if problem := facts.get("problem"):
        raise TargetError(target, problem)
    hot = Hotpath(facts["root"], origin=facts["origin"], hints=facts["hints"])
    hot.apply(SiteWide.of_facts(facts["site"]))
    return hot


def _look(target: str, is_app: bool) -> dict[str, Any]:
    """In the short-lived process: import, and see which hot pages there are."""
    if ":" not in target:
        kind = "this is a directory, " if Path(target).is_dir() else ""
        return {"problem": f"{kind}expected module:attribute, the app: app:app"}
    from uvicorn.importer import ImportFromStringError, import_from_string

    try:
        value = import_from_string(target)
    except ImportFromStringError as error:
        return {"problem": str(error)}
    if is_app and not callable(value):
        return {"problem": f"this is a {type(value).__name__}, expected the app{_apps_beside(target)}"}
    sites = (
        [value]
        if isinstance(value, Hotpath)
        else [held for held in gc.get_objects() if issubclass(type(held), Hotpath)]
    )
    if len(sites) != 1:
        count = "no Hotpath object" if not sites else f"{len(sites)} Hotpath objects"
        return {"problem": f"it has {count} in its modules; write --store with the path of the store"}
    hot = sites[0]
    hot.has_bypass = has_bypass(hot)
    shared = {"origin": hot.sharing.origin, "hints": hot.sharing.hints}
    return {"root": str(hot.store.root.absolute()), "site": hot.site_wide().facts(), **shared}


def _apps_beside(target: str) -> str:
    module = target.partition(":")[0]
    names = [name for name, value in vars(sys.modules[module]).items() if isinstance(value, HotpathMiddleware)]
    return f"; write {module}:{names[0]}" if names else ""


def main() -> None:
    """Write what ``sys.argv[2]`` declares to the descriptor ``sys.argv[1]``, as JSON."""
    facts = orjson.dumps(_look(sys.argv[2], is_app=sys.argv[3:] == ["app"]))
    with os.fdopen(int(sys.argv[1]), "wb") as answer:
        answer.write(facts)


if __name__ == "__main__":
    main()
