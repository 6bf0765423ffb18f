"""The Django app: registers the system checks, and says when a process serves no hot page."""

from __future__ import annotations

import logging
from typing import Any

from django.apps import AppConfig
from django.core import checks
from django.core.signals import request_started

logger = logging.getLogger("hotpath")


class HotpathConfig(AppConfig):
    """``"hotpath.contrib.django"`` in ``INSTALLED_APPS``."""

    name = "hotpath.contrib.django"
    label = "hotpath"
    verbose_name = "hotpath"

    def ready(self) -> None:
        """Have ``manage.py check`` look at the set-up."""
        from hotpath.contrib.django.checks import check_setup

        checks.register(check_setup)
        request_started.connect(_tell_of_wsgi, dispatch_uid="hotpath")


def _tell_of_wsgi(sender: Any, **_: object) -> None:
    """Once a process: through WSGI everything works, slowly, and nothing else would show that no page is hot."""
    request_started.disconnect(sender=None, dispatch_uid="hotpath")
    if any(kind.__module__ == "django.core.handlers.wsgi" for kind in sender.__mro__):
        logger.warning(
            "hotpath: this process answers through WSGI, where hotpath serves no page: run asgi.py (uvicorn "
            "mysite.asgi:application, with your project for mysite), or let a web server in front serve the store"
        )
