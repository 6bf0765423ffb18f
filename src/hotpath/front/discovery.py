"""What the front has to know of a site whose code it never imports: a process of its own reads it, once.

``python -m hotpath.front.discovery myapp:app`` imports the app, finds its ``HotpathMiddleware``, and writes one line of
JSON to descriptor 3: the store, how it is read, and the watched directories.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hotpath.errors import DeclarationError, TargetError
from hotpath.pages.keys import TRACKING
from hotpath.site import Hotpath

# An app may load much before it can be asked.
IMPORT_SECONDS: Final = 60.0
# Lines of a traceback that are shown.
SHOWN_LINES: Final = 6
# Layers of an app that are looked through.
_MAX_LAYERS: Final = 30


@dataclass(frozen=True, slots=True)
class Found:
    """The site as the front sees it. ``has_bypass``: the app decides for each request, which only it can."""

    hot: Hotpath
    has_bypass: bool


def discover(app: str, *, seconds: float = IMPORT_SECONDS) -> Found | None:
    """Ask a process that imports ``app``; ``None`` where the app has no ``HotpathMiddleware``.

    Raises ``TargetError`` with the end of the traceback where it cannot be imported.
    """
    read, write = os.pipe()
    command = [sys.executable, "-m", "hotpath.front.discovery", app, str(write)]
    with os.fdopen(read, "rb") as answer:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=(write,),
            start_new_session=True,
        )
        os.close(write)
        try:
            _, complaint = child.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise TargetError(app, f"importing it took longer than {seconds:g} s") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        data = answer.read()
    if not data:
        said = complaint.decode("utf-8", "replace").strip().splitlines()[-SHOWN_LINES:]
        raise TargetError(app, "it cannot be imported:\n  " + "\n  ".join(said or ["it ended without a word"]))
    facts = json.loads(data)
    return None if facts is None else Found(site_of(facts), facts["has_bypass"])


def facts_of(app: object) -> dict[str, Any] | None:
    """What ``discover`` sends, of the outermost ``HotpathMiddleware`` in an app."""
    middleware = _middleware_in(app)
    if middleware is None:
        return None
    hot: Hotpath = middleware["hot"]
    reading = hot.reading
    own = [*(reading.ignored.names - TRACKING.names)]
    own += [f"{prefix}*" for prefix in reading.ignored.prefixes if prefix not in TRACKING.prefixes]
    hosts = reading.hosts
    return {
        "root": str(hot.store.root),
        "has_bypass": middleware.get("bypass") is not None,
        "options": {
            "refresh": reading.refresh_seconds,
            "max_body_bytes": reading.max_body_bytes,
            "generation_header": reading.generation_header,
            "redirect_slashes": reading.redirect_slashes,
            "headers": dict(reading.headers),
            "ignore_query": sorted(own),
            "hosts": hosts
            and [name.decode("ascii") for name in (*hosts.names, *(b"*" + end for end in hosts.suffixes))],
        },
        "directories": [
            {
                "path": directory.path.text,
                "files": directory.files.text,
                "media_type": directory.policy.media_type,
                "headers": dict(directory.policy.headers),
                "fold_case": directory.policy.fold_case,
                "cache_control": directory.policy.cache_control,
                "cdn_cache_control": directory.policy.cdn_cache_control,
                "lifetime": directory.policy.lifetime_seconds,
            }
            for directory in hot.directories
        ],
    }


def site_of(facts: dict[str, Any]) -> Hotpath:
    """The site that these facts are of, without its functions."""
    hot = Hotpath(facts["root"], **facts["options"])
    for directory in facts["directories"]:
        hot.directory(directory.pop("path"), directory.pop("files"), **directory)
    return hot


def _middleware_in(app: object) -> dict[str, Any] | None:
    """The options of the outermost ``HotpathMiddleware``, wrapped around the app or added to it."""
    from hotpath.asgi.middleware import HotpathMiddleware

    layer: Any = app
    for _ in range(_MAX_LAYERS):
        if isinstance(layer, HotpathMiddleware):
            return {"hot": layer.hot, "bypass": layer.has_bypass or None}
        for added in getattr(layer, "user_middleware", ()):
            if added.cls is HotpathMiddleware:
                return dict(added.kwargs)
        layer = next((found for name in ("app", "_app", "application") if (found := getattr(layer, name, None))), None)
        if layer is None:
            return None
    return None


def import_app(target: str) -> object:
    """The object that ``module:attribute`` names; ``module:function()`` is called. Raises ``DeclarationError``."""
    module_name, colon, attributes = target.partition(":")
    if not colon or not module_name or not attributes:
        raise DeclarationError(f"{target!r}: write module:attribute, as for uvicorn: myapp:app")
    sys.path.insert(0, str(Path.cwd()))
    found: Any = importlib.import_module(module_name)
    for name in attributes.removesuffix("()").split("."):
        found = getattr(found, name)
    return found() if attributes.endswith("()") else found


def main() -> None:
    """In the process of its own."""
    target, descriptor = sys.argv[1], int(sys.argv[2])
    # Some libraries want a loop while they are imported.
    asyncio.set_event_loop(asyncio.new_event_loop())
    facts = facts_of(import_app(target))
    os.write(descriptor, json.dumps(facts).encode("ascii"))
    os._exit(0)  # threads that the app started, and what it registered for its end, are nobody's


if __name__ == "__main__":
    main()
