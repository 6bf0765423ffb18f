"""Load scripts for k6 and Locust."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from hotpath.ops.render.facts import SiteFacts, head
from hotpath.ops.render.files import RenderedFile
from hotpath.ops.render.mix import HOT_P99_MS, mix_of
from hotpath.ops.render.template import commented, fill


def k6(facts: SiteFacts) -> list[RenderedFile]:
    """``k6.js``."""
    return [RenderedFile("k6.js", fill("k6.js", _values(facts, "//")))]


def locust(facts: SiteFacts) -> list[RenderedFile]:
    """``locustfile.py``."""
    return [RenderedFile("locustfile.py", fill("locustfile", _values(facts, "#")))]


def _values(facts: SiteFacts, mark: str) -> dict[str, Any]:
    mix = mix_of(facts)
    # JSON of ASCII text, numbers and lists is JavaScript; of true and false it is no Python.
    routes = ",\n".join(f"    {json.dumps({**route, 'hot': int(route['hot'])})}" for route in mix.as_lists())  # type: ignore[call-overload]
    return {
        "head": commented(head(facts, "port", "base_url"), mark),
        "source": mix.source,
        "routes": routes,
        "rate": mix.rate,
        "port": facts.port,
        "host": json.dumps(urlsplit(facts.base_url).netloc),
        "hot_p_ms": HOT_P99_MS,
        "cold_p_ms": mix.cold_p95_ms,
    }
