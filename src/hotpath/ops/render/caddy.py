"""A Caddyfile for Caddy 2.5 and newer: hot pages from the store, the app behind it."""

from __future__ import annotations

from hotpath.ops.render.escape import caddy
from hotpath.ops.render.facts import SiteFacts, head
from hotpath.ops.render.files import RenderedFile
from hotpath.ops.render.hot_lines import hot_lines, tracking_pattern, trust_note
from hotpath.ops.render.template import commented, fill


def render(facts: SiteFacts) -> list[RenderedFile]:
    """The whole Caddyfile. It needs no hosts of the map's: a site of Caddy is for its own alone."""
    found = hot_lines(facts)
    var = facts.name.replace("-", "_").lower()
    tracking = f"(?:\\?(?:{tracking_pattern(facts)}(?:&|$))*)?"
    sets: list[dict[str, str]] = []
    rows = []
    for line in found.lines:
        fields = {"Content-Type": line.policy.media_type, **line.fields}
        if fields not in sets:
            sets.append(fields)
        dropped = "" if "\\?" in line.pattern else tracking
        rows.append(f"\t\t\t`~^(?:GET|HEAD) {line.pattern}{dropped}$` /{line.file} fields_{sets.index(fields)}")
    cookie = f"{{http.request.cookie.{facts.cookie}}}" if facts.cookie else ""
    values = {
        "head": commented([*head(facts, "name", "hosts", "port"), *trust_note(facts), *found.left_out_notes()]),
        "var": var,
        "port": facts.port,
        "addresses": _addresses(facts),
        "bind": _bind(facts),
        "source": cookie + "{http.request.method} {http.request.uri}",
        "lines": "\n".join(rows),
        "current": caddy(f"{facts.store}/current"),
        "fields": "\n".join(row for number, fields in enumerate(sets) for row in _fields(var, number, fields)),
        "trusted": f"\t\t\t\ttrusted_proxies {' '.join(facts.trust)}" if facts.trust else "",
    }
    return [RenderedFile("etc/caddy/Caddyfile", fill("Caddyfile", values))]


def _addresses(facts: SiteFacts) -> str:
    """With --listen plain HTTP there; else Caddy gets certificates for the hosts by itself."""
    if facts.listen is None:
        return ", ".join(facts.hosts)
    port = facts.listen.rpartition(":")[2]
    return ", ".join(f"http://{host}:{port}" for host in facts.hosts)


def _bind(facts: SiteFacts) -> str:
    host = (facts.listen or "").rpartition(":")[0].strip("[]")
    return f"\tbind {host}" if host else ""


def _fields(var: str, number: int, fields: dict[str, str]) -> list[str]:
    matcher = f"@{var}_fields_{number}"
    rows = [f"\t\t\t\t{name} `{value}`" for name, value in fields.items()]
    return [
        f"\t\t\t{matcher} vars {{{var}_fields}} fields_{number}",
        f"\t\t\theader {matcher} {{",
        *rows,
        # When the answer begins, so that Vary is not there twice.
        "\t\t\t\tdefer",
        "\t\t\t}",
    ]
