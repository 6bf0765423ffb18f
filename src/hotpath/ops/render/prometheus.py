"""Scrape jobs, recording rules and alerts for Prometheus 2.42 and newer."""

from __future__ import annotations

from typing import Final

from hotpath.ops.render.facts import SiteFacts, head
from hotpath.ops.render.files import RenderedFile
from hotpath.ops.render.template import commented, fill

# What the front counts where a request got none of the app's answers.
_FAILURES: Final = ("bad_gateway", "broken", "refused", "timed_out")


def render(facts: SiteFacts) -> list[RenderedFile]:
    """A whole ``prometheus.yml``, and the rules."""
    notes = head(facts, "name", "port", "admin")
    if not facts.has_guard:
        notes += [
            "No MemoryGuard is in the app: the alerts of memory need one, and its MetricsApp at /metrics.",
        ]
    failed = " + ".join(f'rate(hotpath_front_requests_{name}_total{{job="{facts.name}"}}[5m])' for name in _FAILURES)
    values = {
        "head": commented(notes),
        "name": facts.name,
        "interval": facts.interval_seconds,
        "pending": facts.pending_seconds,
        "targets": "\n".join(_target(part, address) for part, address in _parts(facts).items()),
        "failed": failed,
    }
    return [
        RenderedFile("etc/prometheus/prometheus.yml", fill("prometheus/prometheus.yml", values)),
        RenderedFile(f"etc/prometheus/rules/{facts.name}.yml", fill("prometheus/rules.yml", values)),
    ]


def _parts(facts: SiteFacts) -> dict[str, str]:
    """Who has figures: the front of itself and the pages, the app of its memory."""
    app = {"app": f"127.0.0.1:{facts.port}"}
    if facts.layout == "none":
        return app
    return {"front": facts.admin, **(app if facts.has_guard else {})}


def _target(part: str, address: str) -> str:
    return f'      - targets: ["{address}"]\n        labels: {{part: {part}}}'
