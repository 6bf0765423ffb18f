"""VCL for Varnish 7: copies of hot pages that outlive the app, and of what the app says is public."""

from __future__ import annotations

from typing import Final

from hotpath.ops.render.facts import SiteFacts, head
from hotpath.ops.render.files import RenderedFile
from hotpath.ops.render.hot_lines import hot_lines, tracking_pattern, trust_note
from hotpath.ops.render.systemd import UNITS
from hotpath.ops.render.template import commented, fill

_LISTEN: Final = "6081"
# Of the route patterns, where a site has none: no target begins so.
_NOTHING: Final = "none"


def render(facts: SiteFacts) -> list[RenderedFile]:
    """The VCL, and what has Debian's unit use it."""
    found = hot_lines(facts)
    var = facts.name.replace("-", "_").lower()
    listen = facts.listen or _LISTEN
    values = {
        "head": commented([*head(facts, "name", "port"), *trust_note(facts)]),
        "var": var,
        "port": facts.port,
        "trusted_acl": _trusted_acl(facts, var),
        "forwarded": _forwarded(facts, var),
        "cookie": _cookie(facts),
        "tracking": tracking_pattern(facts).replace("[^&]*)?", "[^&]*+)?+"),
        "hot": "|".join(dict.fromkeys(line.pattern for line in found.lines)) or _NOTHING,
    }
    unit = {
        "head": commented(head(facts, "name")),
        "name": facts.name,
        "listen": listen if ":" in listen else f":{listen}",
    }
    return [
        RenderedFile(f"etc/varnish/{facts.name}.vcl", fill("varnish/site.vcl", values)),
        RenderedFile(f"{UNITS}/varnish.service.d/{facts.name}.conf", fill("varnish/varnish.conf", unit)),
    ]


def _trusted_acl(facts: SiteFacts, var: str) -> str:
    if not facts.trust:
        return ""
    nets = [f'    "{address}"/{bits};' for address, _, bits in (net.partition("/") for net in facts.trust)]
    return "\n" + "\n".join(["# Who knows the client's address.", f"acl {var}_trusted {{", *nets, "}"]) + "\n"


def _forwarded(facts: SiteFacts, var: str) -> str:
    rows = [
        "set req.http.X-Forwarded-For = client.ip;",
        "set req.http.X-Forwarded-Host = req.http.Host;",
        'set req.http.X-Forwarded-Proto = "http";',
    ]
    if not facts.trust:
        return "\n".join(f"        {row}" for row in rows)
    inner = [f"            {row}" for row in rows]
    return "\n".join([f"        if (client.ip !~ {var}_trusted) {{", *inner, "        }"])


def _cookie(facts: SiteFacts) -> str:
    if not facts.cookie:
        return ""
    return f'    if (req.http.Cookie ~ "(?:^|;) *{facts.cookie}=.") {{\n        return (pass);\n    }}'
