"""What a manifest from elsewhere has to be before a machine takes it over.

Its digest says that it is what somebody sent, and nothing about who that was: another version of hotpath, a program of
somebody's own. This machine's servers trust the manifests on their disk, so what they could stumble over stays outside.
"""

from __future__ import annotations

import re

from hotpath.errors import DeclarationError
from hotpath.pages.policy import Policy, check_field_value, check_headers
from hotpath.store.manifest import Item, Manifest, Representation

# Canonical keys: ASCII that a JSON string holds as it is.
_KEY = re.compile(r"/[!#-\[\]-~]*")
_MAX_TIME = 253402300799  # the last second of the year 9999: dates of HTTP end there


def problem_of(manifest: Manifest) -> str | None:
    """What is wrong with a manifest, ``None`` where nothing is."""
    if not _is_time(manifest.head.created):
        return f"it was made at {manifest.head.created!r}, which is no time"
    lengths: dict[bytes, int] = {}
    for policy in manifest.head.policies:
        problem = _problem_of_policy(policy)
        if problem is not None:
            return problem
    for item in manifest.items.values():
        problem = _problem_of_item(item)
        if problem is not None:
            return problem
        for each in item.representations:
            if lengths.setdefault(each.sha256, each.length) != each.length:
                return f"one file has two lengths ({each.file[:80]!r})"
    return None


def _problem_of_policy(policy: Policy) -> str | None:
    texts = (policy.route, policy.media_type, policy.cache_control)
    if not all(isinstance(text, str) for text in texts) or not isinstance(policy.lifetime_seconds, int | float):
        return "a route has no texts or no number where they belong"
    try:
        check_field_value(policy.media_type, "media_type")
        check_field_value(policy.cache_control, "cache_control")
        check_field_value(policy.cdn_cache_control, "cdn_cache_control")
        check_headers(dict(policy.headers))
    except (DeclarationError, TypeError, ValueError) as error:
        return f"a route cannot be served ({error})"
    return None


def _problem_of_item(item: Item) -> str | None:
    if not isinstance(item.key, str) or not _KEY.fullmatch(item.key):
        return f"an item has the key {str(item.key)[:80]!r}, which no page can have"
    if not _is_time(item.last_modified) or not (item.stale_since is None or _is_time(item.stale_since)):
        return f"{item.key}: it was made at {item.last_modified!r} or is stale since {item.stale_since!r}"
    if not isinstance(item.metrics or {}, dict):
        return f"{item.key}: its metrics are no object"
    return next((problem for each in item.representations if (problem := _problem_of_file(each))), None)


def _problem_of_file(each: Representation) -> str | None:
    if "\0" in each.file or any(part in ("", ".", "..") for part in each.file.split("/")):
        return f"an item has the file {each.file[:80]!r}, which could leave its generation"
    if type(each.length) is not int or each.length < 0 or len(each.sha256) != 32:
        return f"an item has no length or no digest ({each.file[:80]!r})"
    return None


def _is_time(seconds: object) -> bool:
    return type(seconds) is int and 0 <= seconds <= _MAX_TIME
