"""The Django app: registers the system checks."""

from __future__ import annotations

from django.apps import AppConfig
from django.core import checks


class HotpathConfig(AppConfig):
    """``"hotpath.contrib.django"`` in ``INSTALLED_APPS``."""

    name = "hotpath.contrib.django"
    label = "hotpath"
    verbose_name = "hotpath"

    def ready(self) -> None:
        """Have ``manage.py check`` look at the set-up."""
        from hotpath.contrib.django.checks import check_setup

        checks.register(check_setup)
