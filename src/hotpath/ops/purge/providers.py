"""Caches that can drop pages by URL: Cloudflare, Fastly, Bunny, Varnish, and any other by a webhook of yours.

Purging by surrogate key is not done: the pages would have to carry ``Surrogate-Key``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit

import orjson

from hotpath.errors import DeclarationError
from hotpath.ops.http import Reply, parse_url, request_target
from hotpath.ops.purge.purger import Call, CallLimits, Purged, batches, check_token, run_calls, said
from hotpath.ops.secret import Secret, shown

CLOUDFLARE_URL = "https://api.cloudflare.com/client/v4"
FASTLY_URL = "https://api.fastly.com"
BUNNY_URL = "https://api.bunny.net"

# Limit of every plan: 30 a call for years (but for Enterprise), 100 since 2025.
CLOUDFLARE_URLS_A_CALL = 30
WEBHOOK_URLS_A_CALL = 500

_ZONE = re.compile(r"[0-9a-f]{32}")
_JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Cloudflare:
    """A zone, and a token with the permission "Cache Purge" for it. Raises ``DeclarationError``.

    ``POST /zones/{zone}/purge_cache`` with the URLs as ``files`` ("Purge Cached Content by URL").
    """

    zone: str
    token: Secret
    base_url: str = CLOUDFLARE_URL
    limits: CallLimits = field(default=CallLimits(), repr=False)
    name = "cloudflare"

    def __post_init__(self) -> None:
        if not _ZONE.fullmatch(self.zone):
            raise DeclarationError(
                f"the Cloudflare zone {self.zone!r} is no zone ID; it has 32 characters, 0-9 and a-f"
            )
        check_token(self.token, "the Cloudflare token")
        parse_url(self.base_url, "base_url")

    def purge(self, urls: Sequence[str]) -> Purged:
        """Purge these URLs, 30 a call."""
        headers = {"Authorization": f"Bearer {self.token.reveal()}", **_JSON}
        target = f"{_prefix(self.base_url)}/zones/{self.zone}/purge_cache"
        calls = (
            Call(part, "POST", target, headers, orjson.dumps({"files": list(part)}))
            for part in batches(urls, CLOUDFLARE_URLS_A_CALL)
        )
        return run_calls(self.name, self.base_url, calls, _cloudflare_refusal, self.limits, [self.token])


def _cloudflare_refusal(reply: Reply) -> str | None:
    """Cloudflare says in the body whether it did it, and may say no with 200."""
    try:
        answer = orjson.loads(reply.body)
        taken = answer["success"] is True
        errors = "; ".join(f"{error['message']} (code {error['code']})" for error in answer.get("errors") or ())
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return f"{reply.status} without the JSON that Cloudflare answers"
    if taken and reply.status == 200:
        return None
    return f"{reply.status}: {errors or 'success is false, and no error is given'}"


@dataclass(frozen=True, slots=True)
class Fastly:
    """A token with the scope ``purge_select``. Raises ``DeclarationError``.

    ``POST /purge/{host}/{path}`` ("Purge a URL"), which is not rate-limited. ``soft`` marks the copies stale and does
    not remove them, so that Fastly can still answer with them when the origin is down (``stale-if-error``).
    """

    token: Secret
    soft: bool = True
    base_url: str = FASTLY_URL
    limits: CallLimits = field(default=CallLimits(), repr=False)
    name = "fastly"

    def __post_init__(self) -> None:
        check_token(self.token, "the Fastly token")
        parse_url(self.base_url, "base_url")

    def purge(self, urls: Sequence[str]) -> Purged:
        """Purge these URLs, one a call."""
        prefix = _prefix(self.base_url)
        headers = {"Fastly-Key": self.token.reveal(), "Accept": "application/json"}
        if self.soft:
            headers["Fastly-Soft-Purge"] = "1"
        calls = (
            Call([url], "POST", f"{prefix}/purge/{urlsplit(url).netloc}{request_target(url)}", headers) for url in urls
        )
        return run_calls(self.name, self.base_url, calls, _fastly_refusal, self.limits, [self.token])


def _fastly_refusal(reply: Reply) -> str | None:
    return None if reply.status == 200 else f"{reply.status}: {said(reply)}"


@dataclass(frozen=True, slots=True)
class Bunny:
    """The account's API key. Raises ``DeclarationError``.

    ``POST /purge?url=…`` ("Purge URL"): 120 at once, then 5 a second, 429 beyond that.
    """

    key: Secret
    base_url: str = BUNNY_URL
    limits: CallLimits = field(default=CallLimits(), repr=False)
    name = "bunny"

    def __post_init__(self) -> None:
        check_token(self.key, "the Bunny key")
        parse_url(self.base_url, "base_url")

    def purge(self, urls: Sequence[str]) -> Purged:
        """Purge these URLs, one a call."""
        prefix = _prefix(self.base_url)
        headers = {"AccessKey": self.key.reveal(), "Accept": "application/json"}
        calls = (Call([url], "POST", f"{prefix}/purge?{_bunny_query(url)}", headers) for url in urls)
        return run_calls(self.name, self.base_url, calls, _bunny_refusal, self.limits, [self.key])


def _bunny_query(url: str) -> str:
    query = {"url": url, "async": "false"}
    if urlsplit(url).path.endswith("/"):
        query["exactPath"] = "true"  # without it everything below is purged as well
    return urlencode(query)


def _bunny_refusal(reply: Reply) -> str | None:
    if reply.status in (200, 204):
        return None
    return f"{reply.status}: {'the key is refused' if reply.status == 401 else said(reply)}"


@dataclass(frozen=True, slots=True)
class Varnish:
    """A Varnish with the VCL of ``hotpath render varnish``, at ``base_url``. Raises ``DeclarationError``.

    ``PURGE`` of each URL with its host. The copies stay for when the site is down.
    """

    base_url: str
    limits: CallLimits = field(default=CallLimits(), repr=False)
    name = "varnish"

    def __post_init__(self) -> None:
        parse_url(self.base_url, "the address of Varnish")

    def purge(self, urls: Sequence[str]) -> Purged:
        """Purge these URLs, one a call."""
        calls = (Call([url], "PURGE", request_target(url), {"Host": urlsplit(url).netloc}) for url in urls)
        return run_calls(self.name, self.base_url, calls, _varnish_refusal, self.limits, [])


def _varnish_refusal(reply: Reply) -> str | None:
    return None if reply.status == 200 else f"{reply.status}: {said(reply)}"


@dataclass(frozen=True, slots=True)
class PurgeWebhook:
    """POST ``{"purge": [URL, …]}`` to ``url``; any 2xx says that it is done. ``token`` is sent as a bearer token.

    Raises ``DeclarationError``.
    """

    url: Secret
    token: Secret | None = None
    limits: CallLimits = field(default=CallLimits(), repr=False)

    def __post_init__(self) -> None:
        parse_url(self.url.reveal(), "the purge webhook", secret=True)
        if self.token is not None:
            check_token(self.token, "the token of the purge webhook")

    @property
    def name(self) -> str:
        return f"webhook {shown(self.url.reveal())}"

    def purge(self, urls: Sequence[str]) -> Purged:
        """Purge these URLs, 500 a call."""
        headers, url = dict(_JSON), self.url.reveal()
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token.reveal()}"
        calls = (
            Call(part, "POST", request_target(url), headers, orjson.dumps({"purge": list(part)}))
            for part in batches(urls, WEBHOOK_URLS_A_CALL)
        )
        secrets = [secret for secret in (self.url, self.token) if secret is not None]
        return run_calls(self.name, url, calls, _webhook_refusal, self.limits, secrets)


def _webhook_refusal(reply: Reply) -> str | None:
    return None if 200 <= reply.status < 300 else f"it answered {reply.status}"


def _prefix(base_url: str) -> str:
    return urlsplit(base_url).path.rstrip("/")
