"""WHAT can be rendered: one module for each, listed here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from hotpath.ops.render import caddy, cron, grafana, load, logrotate, nginx, prometheus, sitemap, systemd, varnish
from hotpath.ops.render.facts import SiteFacts
from hotpath.ops.render.files import RenderedFile


@dataclass(frozen=True, slots=True)
class What:
    """One WHAT: its line in the help, and the function that makes its files."""

    summary: str
    render: Callable[[SiteFacts], list[RenderedFile]]


WHATS: Final[Mapping[str, What]] = {
    "caddy": What("a Caddyfile: hot pages from the store, the app behind it", caddy.render),
    "cron": What("/etc/cron.d: the batch, the check and a line of memory", cron.render),
    "grafana": What("a dashboard, as JSON", grafana.render),
    "k6": What("a load script for k6", load.k6),
    "locust": What("a load script for Locust", load.locust),
    "logrotate": What("rotation of what the crontab writes", logrotate.render),
    "nginx": What("a site of nginx: hot pages from the store, the app and its last answers", nginx.render),
    "prometheus": What("scrape jobs, recording rules and alerts", prometheus.render),
    "sitemap": What("sitemap.xml of the hot pages that are HTML or PDF", sitemap.render),
    "systemd": What("units and timers: the site, the batch, the check, alerts", systemd.render),
    "varnish": What("VCL: copies of hot pages and of public answers, purged by key", varnish.render),
}
