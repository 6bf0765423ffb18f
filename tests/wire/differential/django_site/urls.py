"""The cold pages of the Django site."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.urls import re_path

from tests.wire.differential.nginx_pages import cold


def anything(request: Any) -> Any:
    raw = request.scope["raw_path"].decode("ascii").partition("?")[0]
    fields = {name.lower(): value for name, value in request.headers.items()}
    found = cold(request.method, raw, request.META["QUERY_STRING"], fields)
    headers = dict(found.headers)
    if found.location:
        headers["Location"] = request.build_absolute_uri(found.location)
    return HttpResponse(found.body, status=found.status, headers=headers, content_type="text/plain")


urlpatterns = [re_path(r"^", anything)]
