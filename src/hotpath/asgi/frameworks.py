"""What a framework does that a hot page has nothing of: with what an endpoint returns, and before it asks us."""

from __future__ import annotations

import dataclasses
import importlib
import re
from collections.abc import Iterable, Iterator
from typing import Any, get_args

from hotpath.pages.routes import Route
from hotpath.pages.site_wide import ReadOptions

# Maximum layers of middleware that are unwrapped.
MOST_LAYERS = 50


def held_back(app: object, routes: Iterable[Route]) -> Iterator[str]:
    """For each hot route whose function is an endpoint of ``app`` with a ``response_model``: that it is not applied.

    FastAPI leaves fields out and gives them other names by it. A hot page is what the function returns. And of
    Litestar, which asks its middleware after its router: that pages without a route of its own are lost.
    """
    if type(app).__module__.startswith("litestar.middleware."):
        yield (
            "Litestar asks its middleware after its router: a hot page without a route of Litestar's is a 404, and HEAD"
            " a 405; write app = HotpathMiddleware(Litestar(…), hot=hot) instead of middleware=[…]"
        )
    functions = {id(route.function): route for route in routes}
    for endpoint in _endpoints(app):
        route = functions.get(id(getattr(endpoint, "endpoint", None)))
        model = getattr(endpoint, "response_model", None)
        if route is not None and _has_fields(model):
            name = model if get_args(model) else getattr(model, "__name__", "")
            yield (
                f"{route.path.text}: response_model {name} of the endpoint is not applied to the hot page, which has"
                " all that the function returns; let the hot route have a function of its own that returns only that"
                f" ({route.where})"
            )


def passed_by(app: object, options: ReadOptions, *, has_bypass: bool) -> Iterator[str]:
    """For each middleware of ``app`` that a hot page never meets and that nothing is declared in place of: which."""
    yield from _passed_by_of_django(app, options, has_bypass=has_bypass)
    for kind in _middlewares(app):
        name = kind.__name__
        if options.hosts is None and "TrustedHost" in name:
            yield f"{name} of the app does not see requests for hot pages; write Hotpath(…, hosts=('example.org',))"
        elif not has_bypass and not options.headers and "HTTPSRedirect" in name:
            yield (
                f"{name} of the app does not see requests for hot pages; write"
                " HotpathMiddleware(…, bypass=lambda scope: scope['scheme'] == 'http'), or redirect in the proxy and"
                " declare Hotpath(…, headers={'Strict-Transport-Security': …})"
            )
        elif not options.headers and _ADDS_FIELDS.search(name):
            yield f"{name} of the app does not see hot pages; declare its fields with Hotpath(…, headers={{…}})"


# Starlette's ecosystem has no common name for what adds security fields; Django has one.
_ADDS_FIELDS = re.compile(
    r"csp|hsts|contentsecurity|secur(?:e|ity)headers?|helmet|talisman|xframe|^SecurityMiddleware", re.IGNORECASE
)


def _passed_by_of_django(app: object, options: ReadOptions, *, has_bypass: bool) -> Iterator[str]:
    """The same for Django, whose middleware is said in its settings."""
    if not type(app).__module__.startswith("django.core.handlers."):
        return
    settings = importlib.import_module("django.conf").settings
    hosts = [host for host in settings.ALLOWED_HOSTS if host != "*"]
    if options.hosts is None and hosts and "*" not in settings.ALLOWED_HOSTS:
        names = tuple("*" + host if host.startswith(".") else host for host in hosts)
        yield f"ALLOWED_HOSTS is not asked for hot pages; write Hotpath(…, hosts={names!r})"
    if not options.headers and (settings.SECURE_HSTS_SECONDS or (settings.SECURE_SSL_REDIRECT and not has_bypass)):
        yield (
            "SecurityMiddleware does not see hot pages; write Hotpath(…, headers={'Strict-Transport-Security': …}),"
            " and redirect to https in the proxy or with bypass="
        )


def _middlewares(app: object) -> Iterator[type]:
    """The classes of what stands around the app's own router, whether it is built already or only registered."""
    for _ in range(MOST_LAYERS):
        if app is None:
            return
        if not isinstance(app, type) and type(app).__name__.endswith("Middleware"):
            yield type(app)
        registered = getattr(app, "user_middleware", None)
        if isinstance(registered, list):
            yield from (kind for entry in registered if isinstance(kind := getattr(entry, "cls", None), type))
            return
        app = getattr(app, "app", None)


def _endpoints(app: object) -> Iterator[object]:
    for _ in range(MOST_LAYERS):
        routes = getattr(app, "routes", None)
        if isinstance(routes, list):
            yield from routes
            return
        app = getattr(app, "app", None)


def _has_fields(model: Any) -> bool:
    """Whether it says which fields there are: a pydantic model or a dataclass, or a list of them."""
    if hasattr(model, "model_fields") or dataclasses.is_dataclass(model):
        return True
    return any(map(_has_fields, get_args(model)))
