"""System checks: what would leave a Django project without hot pages, said before anyone waits for them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.core.exceptions import ImproperlyConfigured

import hotpath.contrib.django as integration
from hotpath.asgi.frameworks import MOST_LAYERS
from hotpath.asgi.middleware import HotpathMiddleware
from hotpath.errors import DeclarationError


def check_setup(app_configs: Sequence[Any] | None, **options: Any) -> list[CheckMessage]:
    """Everything that can be seen without running a batch."""
    messages = check_settings()
    for entry in getattr(settings, "MIDDLEWARE", ()):
        if entry.startswith("hotpath."):
            messages.append(
                Error(
                    f"MIDDLEWARE has {entry!r}: hotpath stands in front of Django, not inside it.",
                    hint="Take it out, and let asgi.py call hotpath.contrib.django.get_asgi_application().",
                    id="hotpath.E002",
                )
            )
    try:
        integration.discover_or_say()
        hot = integration.site()
    except (ImproperlyConfigured, DeclarationError) as error:
        return [*messages, Error(str(error), id="hotpath.E003")]
    if not hot.routes and not hot.directories:
        messages.append(
            Warning(
                "No page is hot: no installed app has a hot.py that declares one.",
                hint="Write @hot.route('/path') above a function in hot.py beside models.py.",
                id="hotpath.W001",
            )
        )
    messages += _check_application()
    if sys.argv[1:2] == ["runserver"] and "daphne" not in settings.INSTALLED_APPS:
        messages.append(
            Warning(
                "runserver speaks WSGI and never asks asgi.py: no page is hot here.",
                hint="To see hot pages run 'uvicorn mysite.asgi:application --reload', with your project for mysite.",
                id="hotpath.W004",
            )
        )
    return messages


def check_settings() -> list[CheckMessage]:
    """What the settings alone show; said before each command too, which does not run Django's checks."""
    messages: list[CheckMessage] = []
    known = {integration.STORE, *integration.OPTIONS}
    for name in dir(settings):
        if name.startswith(integration.PREFIX) and name not in known:
            hint = f"There are {', '.join(sorted(known))}."
            messages.append(Error(f"{name} is no setting of hotpath.", hint=hint, id="hotpath.E001"))
    store = getattr(settings, integration.STORE, None)
    if isinstance(store, str | os.PathLike) and not Path(store).is_absolute():
        messages.append(
            Warning(
                f"{integration.STORE} = {os.fspath(store)!r} depends on the directory a process is started in.",
                hint=f"Write {integration.STORE} = BASE_DIR / {os.fspath(store)!r}.",
                id="hotpath.W002",
            )
        )
    return messages


def _check_application() -> list[CheckMessage]:
    """Whether the ASGI application of the project, as far as the settings say, has hotpath in front."""
    path = getattr(settings, "ASGI_APPLICATION", None)
    if not path:
        return []
    module, _, name = path.rpartition(".")
    try:
        application = getattr(import_module(module), name)
    except Exception as error:  # an asgi.py may fail in any way, and the check has to say which
        return [Error(f"ASGI_APPLICATION = {path!r} cannot be imported: {error!r}", id="hotpath.E004")]
    inner = application
    for _ in range(MOST_LAYERS):  # what stands outside of hotpath keeps what it wraps in ``app``
        if isinstance(inner, HotpathMiddleware):
            return []
        inner = getattr(inner, "app", None)
    return [
        Warning(
            f"ASGI_APPLICATION = {path!r} is a {type(application).__name__}: every page is Django's.",
            hint="Let asgi.py say: application = hotpath.contrib.django.get_asgi_application()",
            id="hotpath.W003",
        )
    ]
