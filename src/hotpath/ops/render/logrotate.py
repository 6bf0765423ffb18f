"""/etc/logrotate.d, for what the crontab writes."""

from __future__ import annotations

from hotpath.ops.render.facts import SiteFacts, head
from hotpath.ops.render.files import RenderedFile
from hotpath.ops.render.template import commented, fill


def render(facts: SiteFacts) -> list[RenderedFile]:
    """One file."""
    text = fill("logrotate", {"head": commented(head(facts, "name")).rstrip("\n"), "name": facts.name})
    return [RenderedFile(f"etc/logrotate.d/{facts.name}", text)]
