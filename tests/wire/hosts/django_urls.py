"""The Django host's pages."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.urls import path


def cold(request: Any) -> Any:
    return HttpResponse("cold", content_type="text/plain")


def boom(request: Any) -> Any:
    raise RuntimeError("the app fails on purpose")


def posted(request: Any) -> Any:
    return HttpResponse("posted", content_type="text/plain")


urlpatterns = [path("cold", cold), path("boom", boom), path("hot", posted)]
