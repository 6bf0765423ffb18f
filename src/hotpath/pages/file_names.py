"""What the name of a file says: whether a file system takes it, and whether anybody means to publish it."""

from __future__ import annotations

import re

from hotpath.pages.codings import SUFFIXES

# NAME_MAX of ext4, xfs, btrfs, zfs and tmpfs, and PATH_MAX of Linux without its final NUL.
MAX_NAME_BYTES = 255
MAX_PATH_BYTES = 4095

PRECOMPRESSED = tuple(suffix for suffix in SUFFIXES.values() if suffix)

_SUFFIX_BYTES = max(map(len, SUFFIXES.values()))

# What editors (vim, emacs), patch(1), downloads, uploads, office programs, macOS and Windows leave beside other files.
_LEFT_BEHIND = re.compile(
    r".+~|#.+#|\.#.+|~\$.+|.+\.(?:sw[nop]|bak|old|orig|rej|tmp|temp|part|partial|filepart|crdownload)"
    r"|\._.+|\.ds_store|__macosx|(?:eh)?thumbs\.db|desktop\.ini",
    re.IGNORECASE,
)

# Environment files, private keys, password files and databases, which lie beside a site's files by mistake. Public keys
# (id_rsa.pub) are not among them; certificates may be in the same .pem file as their key.
_SECRET = re.compile(
    r".*\.env(?:\..+)?|.*\.(?:key|pem|p12|pfx|ppk|jks|keystore|kdbx|age)|id_(?:rsa|dsa|ecdsa|ed25519)(?:_sk)?"
    r"|.*\.(?:sqlite3?|db3?)(?:-(?:wal|shm|journal))?|htpasswd|pgpass|netrc|git-credentials",
    re.IGNORECASE,
)


def length_problem(file: str, *, prefix_bytes: int = 0, max_name_bytes: int = MAX_NAME_BYTES) -> str | None:
    """Why a file system would refuse the name of an item's file, below a directory of ``prefix_bytes``; else ``None``.

    Each part has ``max_name_bytes`` at most; the last one, and the whole path, leave room for the suffix of a coding.
    """
    encoded = file.encode("utf-8", "surrogateescape")
    *folders, last = encoded.split(b"/")
    for part, possible in [*((folder, max_name_bytes) for folder in folders), (last, max_name_bytes - _SUFFIX_BYTES)]:
        if len(part) > possible:
            kept = f" ({max_name_bytes} less {_SUFFIX_BYTES} for a coding)" if possible < max_name_bytes else ""
            start = part[:40].decode("utf-8", "replace")
            return f"the name {start!r}… in its file's path has {len(part):,} bytes, {possible:,} are possible{kept}"
    whole = prefix_bytes + len(encoded) + _SUFFIX_BYTES
    if whole > MAX_PATH_BYTES:
        return (
            f"the path of its file has {whole:,} bytes with the store's directory ({prefix_bytes:,}) and the suffix"
            f" of a coding, {MAX_PATH_BYTES:,} are possible: {file[:40]!r}…"
        )
    return None


def is_left_behind(name: str) -> bool:
    """Whether a name is that of a backup, a half-written file or a desktop's notes, packed or not."""
    return _LEFT_BEHIND.fullmatch(_unpacked(name)) is not None


def is_secret(name: str) -> bool:
    """Whether a name is usual for keys, passwords, environment files or databases, packed or not."""
    return _SECRET.fullmatch(_unpacked(name)) is not None


def _unpacked(name: str) -> str:
    packed = next((suffix for suffix in PRECOMPRESSED if name.endswith(suffix)), "")
    return name.removesuffix(packed)
