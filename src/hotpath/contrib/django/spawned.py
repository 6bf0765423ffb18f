"""The project's hot pages for a fresh interpreter: imported by its name alone, it sets Django up first."""

from __future__ import annotations

import django

django.setup()

from hotpath.contrib.django import discover, site  # noqa: E402  after the set-up

discover()
hot = site()
