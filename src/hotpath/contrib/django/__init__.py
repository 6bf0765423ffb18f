"""hotpath in a Django project: settings, hot pages declared in each app's ``hot.py``, ``manage.py hotpath``, checks.

Add ``"hotpath.contrib.django"`` to ``INSTALLED_APPS``, declare hot pages in a ``hot.py`` beside ``models.py`` with
``from hotpath.contrib.django import hot``, and let ``asgi.py`` take ``get_asgi_application`` from here.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from functools import cache
from typing import Any

from django.conf import settings
from django.core import mail
from django.core.asgi import get_asgi_application as get_django_application
from django.core.exceptions import ImproperlyConfigured
from django.db import close_old_connections, connections, reset_queries
from django.utils.module_loading import autodiscover_modules

from hotpath.asgi.access_log import Observer
from hotpath.asgi.middleware import HotpathMiddleware
from hotpath.batch.hooks import before_each_item
from hotpath.errors import DeclarationError
from hotpath.guard.guard import MemoryGuard
from hotpath.pages.routes import PlannedItem
from hotpath.site import Hotpath
from hotpath.types import Scope

PREFIX = "HOTPATH_"

# Each setting and the option of ``Hotpath`` that it is.
OPTIONS = {
    PREFIX + name.upper(): name
    for name in (
        *("keep", "max_body_bytes", "refresh", "lifetime", "cache_control", "cdn_cache_control"),
        *("redirect_slashes", "generation_header", "origin", "hints"),
    )
}
STORE = PREFIX + "STORE"

# The store of a project without the setting, below its BASE_DIR.
DEFAULT_DIRECTORY = "var/hot"


class DjangoHotpath(Hotpath):
    """The hot pages of a Django project, declared in the ``hot.py`` of its apps."""

    def plan(self) -> list[PlannedItem]:
        """Every item the batch has to build. Raises ``DeclarationError``, also where a ``hot.py`` fails."""
        discover_or_say()
        # Only this process has what settings.configure() says, and the databases of a test run.
        is_importable = getattr(settings, "SETTINGS_MODULE", None) and not hasattr(mail, "outbox")
        self.target = f"{__name__}.spawned:hot" if is_importable else ""
        planned = super().plan()
        # A connection that ``each=`` opened must not be shared by two processes, and with one the batch cannot fork.
        connections.close_all()
        return planned


# As before each request: an item gets no connection that the server has closed, or that is older than CONN_MAX_AGE.
before_each_item(close_old_connections)
before_each_item(reset_queries)


def discover() -> None:
    """Import the ``hot.py`` of every installed app, once."""
    autodiscover_modules("hot")


def discover_or_say() -> None:
    """The same; ``DeclarationError`` with the line where an import fails, which a batch can tell people."""
    try:
        discover()
    except (DeclarationError, ImproperlyConfigured):
        raise
    except Exception as error:  # a module may raise anything while it is imported
        frame = traceback.extract_tb(error.__traceback__)[-1]
        problem = f"a hot.py cannot be imported: {type(error).__name__}: {error}"
        raise DeclarationError(problem, where=f"{frame.filename}:{frame.lineno}") from error


@cache
def site() -> DjangoHotpath:
    """The one that the ``HOTPATH_`` settings describe. Raises ``ImproperlyConfigured``."""
    root = getattr(settings, STORE, None)
    if root is None:
        base = getattr(settings, "BASE_DIR", None)
        if base is None:
            raise ImproperlyConfigured(f"{STORE} is not set; write {STORE} = BASE_DIR / 'var' / 'hot' in the settings")
        root = f"{base}/{DEFAULT_DIRECTORY}"
    options = {option: getattr(settings, name) for name, option in OPTIONS.items() if hasattr(settings, name)}
    try:
        return DjangoHotpath(root, **options)
    except (DeclarationError, TypeError) as error:
        raise ImproperlyConfigured(f"{PREFIX}… in the settings: {error}") from error


def get_asgi_application(
    *,
    guard: MemoryGuard | None = None,
    bypass: Callable[[Scope], bool] | None = None,
    observe: Observer | None = None,
    follow: bool = False,
) -> HotpathMiddleware:
    """Django's application behind the hot pages; what ``asgi.py`` calls ``application``.

    The options are those of ``HotpathMiddleware``.
    """
    application = get_django_application()
    discover()
    return HotpathMiddleware(application, hot=site(), guard=guard, bypass=bypass, observe=observe, follow=follow)


def __getattr__(name: str) -> Any:
    # Made when it is first asked for: settings may not be ready when this module is imported.
    if name == "hot":
        return site()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
