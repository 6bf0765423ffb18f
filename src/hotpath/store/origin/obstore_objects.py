"""``Objects`` over obstore: S3 and what speaks its protocol, Google Cloud Storage, Azure.

What an engine says comes as an exception with a long text. One clear line is made of it here; of the text only the
status and the code are used, since an engine may repeat the access key in it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from hotpath.errors import DeclarationError, OriginConflict, OriginError
from hotpath.store.origin.machines import MACHINES
from hotpath.store.origin.objects import UNCHANGED, Entry, Object, Unchanged
from hotpath.store.origin.url import OriginUrl

if TYPE_CHECKING:
    from obstore.store import ObjectStore

CONNECT_SECONDS = 5
# For a whole request: the manifest of 100,000 items is 30 MB.
REQUEST_SECONDS = 60

# An object is read into memory whole, and a front has 150 MB of it: what is larger than any of ours is not read at all.
# CURRENT of 50 generations has 5 KB, and the manifest of a million pages 300 MB.
MAX_POINTER_BYTES = 1 << 20
MAX_OBJECT_BYTES = 1 << 29

_Result = TypeVar("_Result")

_runtime_pid: int | None = None

_STATUS = re.compile(r"non-2xx status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,60})</Code>")
_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist")
_NO_CREDENTIALS = ("169.254.169.254", "metadata.google.internal", "CredentialsFile", "Missing credentials")

# What to do about a code of S3's protocol, a status, or obstore's own words.
_CREDENTIALS = "give other credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or those of your provider"
_CODES = {
    "InvalidAccessKeyId": ("the engine does not know this access key", _CREDENTIALS),
    "SignatureDoesNotMatch": ("the secret key is not that of the access key", _CREDENTIALS),
    "ExpiredToken": ("the credentials have expired", _CREDENTIALS),
    "InvalidToken": ("the session token is not valid", _CREDENTIALS),
    "RequestTimeTooSkewed": ("the clocks of this machine and of the engine differ too much", "set this one by NTP"),
    "AccessDenied": (
        "these credentials may not do this",
        "allow them GetObject, PutObject, DeleteObject and ListBucket on this prefix",
    ),
    "PermanentRedirect": ("the bucket is in another region", "add ?region=… to the URL, or set AWS_REGION"),
    "AuthorizationHeaderMalformed": ("the bucket is in another region", "add ?region=… to the URL, or set AWS_REGION"),
    "NotImplemented": (
        "the engine has no conditional writes",
        "use one that answers If-Match and If-None-Match on PUT, as S3, R2, MinIO, Ceph and SeaweedFS do",
    ),
}


class ObstoreObjects:
    """One bucket and prefix. No request is repeated here; each has a time limit.

    ``store`` takes the place of what the URL names, in tests.
    """

    def __init__(self, url: OriginUrl, store: ObjectStore | None = None) -> None:
        self.url = str(url)
        self._allow_http = url.allow_http
        self._obstore = _import_obstore()
        self._store = store or _open(url)

    def get(self, key: str) -> Object | None:
        found = self._get(key, None)
        assert found is not UNCHANGED  # no condition was given
        return found

    def get_if_changed(self, key: str, etag: str) -> Object | Unchanged | None:
        return self._get(key, etag)

    def _get(self, key: str, etag: str | None) -> Object | Unchanged | None:
        def get() -> Object | Unchanged | None:
            try:
                options = {"if_none_match": _version_of(etag)["e_tag"]} if etag else None
                result = self._obstore.get(self._store, key, options=options)
                self._require_fit(key, result.meta["size"])
                return Object(bytes(result.bytes()), _tag_of(result.meta))
            except self._obstore.exceptions.NotModifiedError:
                return UNCHANGED
            except FileNotFoundError as error:
                if any(word in str(error) for word in _NO_BUCKET):
                    raise
                return None

        return self._do("reading", key, get)

    def _require_fit(self, key: str, size: int) -> None:
        is_pointer = "/" not in key or key.startswith(MACHINES)
        most = MAX_POINTER_BYTES if is_pointer else MAX_OBJECT_BYTES
        if size > most:
            raise OriginError(
                f"the object has {size:,} bytes, and at most {most:,} are read",
                url=self.url,
                operation="reading",
                key=key,
                fix="look who put it there; 'hotpath verify TARGET --repair --origin' puts back what it can",
            )

    def put_new(self, key: str, data: bytes) -> str:
        return self._put("creating", key, data, "create")

    def put_if(self, key: str, data: bytes, etag: str) -> str:
        return self._put("replacing", key, data, _version_of(etag))

    def put(self, key: str, data: bytes, fields: Mapping[str, str] | None = None) -> None:
        self._put("writing", key, data, "overwrite", fields)

    def _put(self, operation: str, key: str, data: bytes, mode: Any, fields: Mapping[str, str] | None = None) -> str:
        # Not in parts: a condition holds for a whole object alone.
        return self._do(
            operation,
            key,
            lambda: _tag_of(
                self._obstore.put(
                    self._store, key, data, mode=mode, attributes=dict(fields) if fields else None, use_multipart=False
                )
            ),
        )

    def list(self, prefix: str) -> Iterator[Entry]:
        def entries() -> list[Entry]:
            return [
                Entry(meta["path"], meta["size"], meta["last_modified"].timestamp())
                for page in self._obstore.list(self._store, prefix.rstrip("/"))
                for meta in page
            ]

        return iter(self._do("listing", prefix, entries))

    def delete(self, keys: Sequence[str]) -> None:
        self._do("removing", keys[0], lambda: self._obstore.delete(self._store, [*keys]))

    def _do(self, operation: str, key: str, request: Callable[[], _Result]) -> _Result:
        self._require_own_runtime(operation, key)
        exceptions = self._obstore.exceptions
        try:
            return request()
        except (exceptions.AlreadyExistsError, exceptions.PreconditionError) as error:
            if any(word in str(error) for word in _NO_BUCKET):
                raise explained(str(error), self.url, operation, key, self._allow_http) from None
            status, code = facts_of(str(error))
            raise OriginConflict(
                "another machine was first",
                url=self.url,
                operation=operation,
                key=key,
                status=status,
                reason=code,
                fix="try again",
            ) from None
        except (exceptions.BaseError, OSError, NotImplementedError) as error:
            raise explained(str(error), self.url, operation, key, self._allow_http) from None

    def _require_own_runtime(self, operation: str, key: str) -> None:
        """obstore's threads are those of the process that made the first request: in a child a request never ends."""
        global _runtime_pid  # noqa: PLW0603  as obstore's own runtime is
        if _runtime_pid is None:
            _runtime_pid = os.getpid()
        if _runtime_pid != os.getpid():
            raise OriginError(
                f"process {_runtime_pid} has used obstore before it was forked, and it does not work in this one",
                url=self.url,
                operation=operation,
                key=key,
                fix="look at the origin in the workers alone, or start them with spawn",
            )


def explained(text: str, url: str, operation: str, key: str, allow_http: bool) -> OriginError:
    """The error for what obstore said."""
    status, code = facts_of(text)
    is_transient = False
    if any(word in text for word in _NO_BUCKET):
        problem, fix = "there is no such bucket", "make it, or correct its name in the URL"
    elif any(word in text for word in _NO_CREDENTIALS):
        status, code = None, None  # not the engine's
        problem, fix = (
            "no credentials were found in the environment, and this machine has none by its role",
            _CREDENTIALS,
        )
    elif code in _CODES:
        problem, fix = _CODES[code]
    elif status == 501:
        problem, fix = _CODES["NotImplemented"]
    elif status in (401, 403):
        problem, fix = _CODES["AccessDenied"]
    elif "BareRedirect" in text or status in (301, 307):
        problem, fix = _CODES["PermanentRedirect"]
    elif "builder error" in text and not allow_http:
        problem, fix = (
            "the endpoint has no TLS",
            "give one that begins with https://, or add allow_http=true to the URL",
        )
    elif status is not None:
        # 408, 429: as S3 and its proxies say SlowDown in other words.
        is_transient = status >= 500 or status in (408, 429)
        problem = f"the engine answered {status}" + (f" ({code})" if code else "")
        fix = "try again later" if is_transient else "see the engine's log"
    elif "kind: Timeout" in text:
        problem, fix, is_transient = "no answer in time", "see whether the engine runs and can be reached", True
    else:
        problem, fix, is_transient = (
            "the connection failed or ended early",
            "see whether the endpoint is right (https:// or http://) and the engine runs",
            True,
        )
    return OriginError(
        problem, url=url, operation=operation, key=key, status=status, reason=code, fix=fix, is_transient=is_transient
    )


def _tag_of(meta: Mapping[str, Any]) -> str:
    """ETag and version: Google's conditional PUT takes the version (a generation there), that of others the ETag."""
    return " ".join(filter(None, (meta["e_tag"], meta["version"])))


def _version_of(tag: str) -> dict[str, str]:
    e_tag, _, version = tag.partition(" ")
    return {"e_tag": e_tag, "version": version} if version else {"e_tag": e_tag}


def facts_of(text: str) -> tuple[int | None, str | None]:
    """The HTTP status and the engine's code, where there are any."""
    status, code = _STATUS.search(text), _CODE.search(text)
    return (int(status[1]) if status else None), (code[1] if code else None)


def _import_obstore() -> Any:
    try:
        import obstore
        import obstore.exceptions
    except ImportError:
        raise DeclarationError("an origin needs obstore: pip install 'asgi-hotpath[s3]'") from None
    return obstore


def _open(url: OriginUrl) -> ObjectStore:
    import obstore.store

    options: dict[str, Any] = {
        "client_options": {
            "allow_http": url.allow_http,
            "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
            "timeout": timedelta(seconds=REQUEST_SECONDS),
        },
        "retry_config": {"max_retries": 0},  # ``Retrying`` reads back what may have taken effect; obstore cannot
    }
    open_store: Any = obstore.store.from_url
    try:
        store: ObjectStore = open_store(url.bare, config=url.config(), **options)
    except (obstore.exceptions.BaseError, ValueError) as error:
        raise DeclarationError(f"{url}: {str(error).splitlines()[0]}") from None
    return store
