"""The purgers that ``HOTPATH_PURGE_…`` variables configure; all of them are called."""

from __future__ import annotations

from collections.abc import Mapping

from hotpath.errors import DeclarationError
from hotpath.ops.environment import read_settings
from hotpath.ops.purge.providers import Bunny, Cloudflare, Fastly, PurgeWebhook, Varnish
from hotpath.ops.purge.purger import Purger
from hotpath.ops.secret import Secret

PREFIX = "HOTPATH_PURGE_"
NAMES = (
    *("CLOUDFLARE_ZONE", "CLOUDFLARE_TOKEN", "FASTLY_TOKEN", "FASTLY_SOFT", "BUNNY_KEY", "VARNISH"),
    *("WEBHOOK", "WEBHOOK_TOKEN"),
)

# Settings, each with the one that it needs.
_PAIRS = (
    ("CLOUDFLARE_ZONE", "CLOUDFLARE_TOKEN"),
    ("CLOUDFLARE_TOKEN", "CLOUDFLARE_ZONE"),
    ("FASTLY_SOFT", "FASTLY_TOKEN"),
    ("WEBHOOK_TOKEN", "WEBHOOK"),
)


def purgers_from_environment(environ: Mapping[str, str] | None = None) -> tuple[Purger, ...]:
    """One purger for each provider that the environment configures. Raises ``DeclarationError`` naming the variable."""
    given = read_settings(PREFIX, NAMES, environ)
    for name, needed in _PAIRS:
        if name in given and needed not in given:
            raise DeclarationError(f"{PREFIX}{name} needs {PREFIX}{needed} too")
    soft = given.get("FASTLY_SOFT", "1")
    if soft not in ("0", "1"):
        raise DeclarationError(f"{PREFIX}FASTLY_SOFT={soft!r}: write 1 (mark as stale) or 0 (remove)")
    purgers: list[Purger] = []
    if "CLOUDFLARE_ZONE" in given:
        purgers.append(Cloudflare(given["CLOUDFLARE_ZONE"], Secret(given["CLOUDFLARE_TOKEN"])))
    if "FASTLY_TOKEN" in given:
        purgers.append(Fastly(Secret(given["FASTLY_TOKEN"]), soft=soft == "1"))
    if "BUNNY_KEY" in given:
        purgers.append(Bunny(Secret(given["BUNNY_KEY"])))
    if "VARNISH" in given:
        purgers.append(Varnish(given["VARNISH"]))
    if "WEBHOOK" in given:
        token = Secret(given["WEBHOOK_TOKEN"]) if "WEBHOOK_TOKEN" in given else None
        purgers.append(PurgeWebhook(Secret(given["WEBHOOK"]), token))
    return tuple(purgers)
