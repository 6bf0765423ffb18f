"""/etc/logrotate.d, for what the crontab writes."""

from __future__ import annotations

from hotpath.ops.render.facts import Facts, head
from hotpath.ops.render.files import File
from hotpath.ops.render.template import commented, fill


def render(facts: Facts) -> list[File]:
    """One file."""
    text = fill("logrotate", {"head": commented(head(facts, "name")).rstrip("\n"), "name": facts.name})
    return [File(f"etc/logrotate.d/{facts.name}", text)]
