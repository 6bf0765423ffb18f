"""A dashboard for Grafana 9 and newer, of what Prometheus scraped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from hotpath.ops.render.escape import json_text
from hotpath.ops.render.facts import SiteFacts, head
from hotpath.ops.render.files import RenderedFile

_SOURCE: Final = {"type": "prometheus", "uid": "${source}"}
_WIDTH: Final = 24
_HEIGHTS: Final = {"stat": 4, "timeseries": 8}


@dataclass(frozen=True, slots=True)
class _Panel:
    """``queries`` are by legend; ``<job>`` stands for the site's label, ``<rate>`` for the window of a rate."""

    title: str
    unit: str
    queries: dict[str, str]
    kind: str = "timeseries"
    # The app's figures of its memory, or the front's; empty for those that each has.
    part: str = ""


_PANELS: Final = (
    _Panel("Generation", "none", {"generation": "max(hotpath_generation{<job>})"}, "stat"),
    _Panel("Its age", "s", {"age": "min(hotpath_generation_age_seconds{<job>})"}, "stat"),
    _Panel("Hot pages", "none", {"pages": "max(hotpath_items{<job>})"}, "stat"),
    _Panel("Past their lifetime", "none", {"stale": "max(hotpath_stale_items{<job>})"}, "stat"),
    _Panel("In quarantine", "none", {"generations": "max(hotpath_quarantined{<job>})"}, "stat"),
    _Panel("App is up", "bool_yes_no", {"up": "min(hotpath_front_app_up{<job>})"}, "stat", "front"),
    _Panel(
        "Hot answers by result",
        "reqps",
        {"{{result}}": "sum by (result) (rate(hotpath_hot_requests_total{<job>}[<rate>]))"},
    ),
    _Panel(
        "Busiest hot routes",
        "reqps",
        {"{{route}}": "topk(10, sum by (route) (rate(hotpath_hot_requests_total{<job>}[<rate>])))"},
    ),
    _Panel(
        "Answers of the app",
        "reqps",
        {"{{class}}": "sum by (class) (rate(hotpath_front_app_answers_total{<job>}[<rate>]))"},
        part="front",
    ),
    _Panel(
        "Time of the app to its head",
        "s",
        {
            f"p{percent}": f"histogram_quantile(0.{percent}, "
            "sum by (le) (rate(hotpath_front_app_seconds_bucket{<job>}[<rate>])))"
            for percent in (50, 99)
        },
        part="front",
    ),
    _Panel(
        "Requests that the app did not take",
        "reqps",
        {
            name: f"sum(rate(hotpath_front_requests_{name}_total{{<job>}}[<rate>]))"
            for name in ("held", "retried", "refused", "timed_out", "bad_gateway", "broken")
        },
        part="front",
    ),
    _Panel(
        "Requests in the app, and before it",
        "none",
        {name.replace("_", " "): f"sum(hotpath_front_{name}{{<job>}})" for name in ("in_flight", "waiting", "holding")},
        part="front",
    ),
    _Panel(
        "Restarts and deploys in an hour",
        "none",
        {
            name.replace("_", " "): f"sum(increase(hotpath_front_{name}_total{{<job>}}[1h]))"
            for name in ("app_restarts", "deploys", "failed_deploys")
        },
        part="front",
    ),
    _Panel("Connections", "none", {"{{where}}": "sum by (where) (hotpath_front_connections{<job>})"}, part="front"),
    _Panel(
        "Memory",
        "bytes",
        {
            name: f"max(hotpath_memory_{name}_bytes{{<job>}})"
            for name in ("usage", "unreclaimable", "headroom", "limit")
        },
        part="app",
    ),
    _Panel(
        "Time until memory ends",
        "s",
        {"seconds": "min(hotpath_memory_time_to_exhaustion_seconds{<job>})"},
        part="app",
    ),
    _Panel("State of the guard", "none", {"{{state}}": "max by (state) (hotpath_guard_state{<job>})"}, part="app"),
    _Panel(
        "Refused by the guard",
        "reqps",
        {"refused": "sum(rate(hotpath_requests_shed_total{<job>}[<rate>])) or vector(0)"},
        part="app",
    ),
    _Panel(
        "Memory of a worker", "bytes", {"{{slot}}": "max by (slot) (hotpath_worker_unique_bytes{<job>})"}, part="app"
    ),
    _Panel(
        "Event loop is late", "s", {"{{slot}}": "max by (slot) (hotpath_event_loop_lag_seconds{<job>})"}, part="app"
    ),
)


def render(facts: SiteFacts) -> list[RenderedFile]:
    """One file, to import or to provision from."""
    is_shown = {"": True, "front": facts.layout != "none", "app": facts.has_guard or facts.layout == "none"}
    panels = [panel for panel in _PANELS if is_shown[panel.part]]
    dashboard = {
        "title": f"{facts.name}: hot pages, the app, memory",
        "description": " ".join(head(facts, "name")),
        "uid": f"hotpath-{facts.name}"[:40],
        "tags": ["hotpath"],
        "schemaVersion": 37,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {
            "list": [{"name": "source", "label": "Data source", "type": "datasource", "query": "prometheus"}]
        },
        "panels": _placed(panels, f'job="{facts.name}"'),
    }
    return [RenderedFile(f"var/lib/grafana/dashboards/{facts.name}.json", json_text(dashboard))]


def _placed(panels: list[_Panel], job: str) -> list[dict[str, Any]]:
    placed = []
    x = y = 0
    for number, panel in enumerate(panels, start=1):
        width = 4 if panel.kind == "stat" else 12
        if x + width > _WIDTH or (number > 1 and panel.kind != panels[number - 2].kind):
            x, y = 0, y + _HEIGHTS[panels[number - 2].kind]
        targets = [
            {
                "refId": chr(ord("A") + index),
                "datasource": _SOURCE,
                "expr": query.replace("<job>", job).replace("<rate>", "$__rate_interval"),
                "legendFormat": legend,
            }
            for index, (legend, query) in enumerate(panel.queries.items())
        ]
        placed.append(
            {
                "id": number,
                "title": panel.title,
                "type": panel.kind,
                "datasource": _SOURCE,
                "gridPos": {"x": x, "y": y, "w": width, "h": _HEIGHTS[panel.kind]},
                "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
                "targets": targets,
            }
        )
        x += width
    return placed
