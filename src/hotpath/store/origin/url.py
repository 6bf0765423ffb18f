"""The URL of an origin: ``s3://bucket/site?endpoint_url=https://…``. It never holds what is secret."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from hotpath.errors import DeclarationError

_EXAMPLE = "s3://bucket/site, gs://bucket/site, az://account/container/site or file:///directory"

# Names of the query, and those of obstore's configuration.
_OPTIONS = {
    "s3": {
        "endpoint_url": "endpoint",
        "region": "region",
        "virtual_hosted_style": "virtual_hosted_style_request",
    },
    "gs": {"endpoint_url": "base_url"},
    "az": {"endpoint_url": "endpoint"},
    "file": {},
}
_SECRETS = ("key", "secret", "token", "password", "credential", "sig")


@dataclass(frozen=True, slots=True)
class OriginUrl:
    """The parts of an origin's URL; ``str`` of it can be printed anywhere."""

    scheme: str
    bucket: str
    prefix: str
    options: Mapping[str, str]
    allow_http: bool

    @classmethod
    def parse(cls, url: str) -> OriginUrl:
        """Raises ``DeclarationError``; nothing that may be secret is in its text."""
        try:
            parts = urlsplit(url)
            query = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        except ValueError:
            raise DeclarationError(f"the URL of the origin cannot be read; write {_EXAMPLE}") from None
        # A key with a slash, '?' or '#' ends no host, so a name before '@' may be anywhere.
        if "@" in url or any(word in name.lower() for name in query for word in _SECRETS):
            raise DeclarationError(
                "the URL of the origin holds a key or a secret, which would be in logs and in the list of processes;"
                " take it out and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or what your provider reads"
            )
        if parts.scheme not in _OPTIONS:
            raise DeclarationError(f"the origin begins with {parts.scheme + '://'!r}; write {_EXAMPLE}")
        prefix = "/".join(part for part in parts.path.split("/") if part)
        is_file = parts.scheme == "file"
        if bool(parts.netloc) == is_file or (is_file and not prefix):
            raise DeclarationError(f"the origin names no {'directory' if is_file else 'bucket'}; write {_EXAMPLE}")
        if not {".", ".."}.isdisjoint(prefix.split("/")) or parts.fragment:
            raise DeclarationError(f"the path of the origin has '.', '..' or '#'; write {_EXAMPLE}")
        allow_http = query.pop("allow_http", "false")
        known = _OPTIONS[parts.scheme]
        unknown = [name for name in query if name not in known]
        if unknown or allow_http not in ("true", "false"):
            allowed = ", ".join([*known, "allow_http=true"])
            raise DeclarationError(
                f"the origin has the option {(unknown or ['allow_http'])[0]!r}; there are: {allowed}"
            )
        _check_endpoint(query.get("endpoint_url"), allow_http == "true")
        return cls(parts.scheme, parts.netloc, prefix, query, allow_http == "true")

    def require_fields(self) -> None:
        """Raise ``DeclarationError`` where objects have no header fields, which a copy of the site needs."""
        if self.scheme == "file":
            raise DeclarationError(
                f"{self}: a copy of the site has header fields, which files have not; use s3://…, gs://… or az://…"
            )

    @property
    def bare(self) -> str:
        """Without options."""
        return f"{self.scheme}://{self.bucket}/{self.prefix}".rstrip("/")

    def config(self) -> dict[str, Any]:
        """The options by obstore's names."""
        known = _OPTIONS[self.scheme]
        config: dict[str, Any] = {known[name]: value for name, value in self.options.items()}
        if "endpoint" in config and self.scheme == "s3":
            config.setdefault(
                "region", "us-east-1"
            )  # engines of one's own have no regions, and the signature needs one
        return config

    def __str__(self) -> str:
        options = {**self.options, **({"allow_http": "true"} if self.allow_http else {})}
        return self.bare + (f"?{urlencode(options, safe=':/')}" if options else "")


def _check_endpoint(endpoint: str | None, allow_http: bool) -> None:
    if endpoint is None:
        return
    try:
        parts = urlsplit(endpoint)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_url = False
    if not is_url:
        raise DeclarationError("endpoint_url of the origin is no URL; write endpoint_url=https://host:port")
    if "@" in endpoint or parts.query:
        raise DeclarationError("endpoint_url of the origin holds more than https://host:port; take the rest out")
    if parts.scheme == "http" and not allow_http:
        raise DeclarationError(
            f"endpoint_url={endpoint} has no TLS: anybody on the way can read and change pages;"
            " write https://…, or add &allow_http=true where the network between is yours alone"
        )
