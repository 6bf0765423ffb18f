"""What a framework does that a hot page has nothing of: with what an endpoint returns, and before it asks us."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, get_args

from hotpath.pages.routes import Route

# Middleware around middleware; more than anybody has.
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
