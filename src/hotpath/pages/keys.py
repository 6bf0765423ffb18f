"""Keys: what makes two requests ask for the same hot page.

A key is the canonical request target: the path with normalised percent-encoding (RFC 3986 §6.2.2) and, where the
route declares query parameters, those parameters sorted by name. Both sides make keys with the functions here, so a
page is found under exactly the name the batch gave it. A key is only ever looked up; no path on disk is made from one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from urllib.parse import quote, quote_from_bytes, unquote_to_bytes
from uuid import UUID

from hotpath.errors import DeclarationError

# Characters of a path segment that need no encoding beside the unreserved ones: sub-delims, ":" and "@"
# (RFC 3986 §3.3). Clients differ in whether they encode them (encodeURIComponent writes "+" as "%2B"), and inside a
# segment of a declared route both spellings name the same value, so the key holds one of them.
_SEGMENT_SAFE = "!$&'()*+,;=:@"

# A target that holds one of these is never hot: malformed escapes, NUL and backslash in any spelling, control bytes.
_NEVER_HOT = re.compile(rb"%(?![0-9A-Fa-f]{2})|%00|%5[Cc]|[\\\x00-\x20\x7f]")

# Paths, and queries, that are longer are never hot. Servers differ in what they let through: 64 KiB, some any length.
MAX_TARGET_BYTES = 8192

# Parameters in a query beyond which no key can have them: a route has a handful.
_MAX_PAIRS = 64

_DOT_SEGMENT = re.compile(r"/\.{1,2}(?:/|\Z)")

# What canonical_path has to look at: an escape, or a byte that has to be one.
_TO_ENCODE = re.compile(rb"%[0-9A-Fa-f]{2}|[^/A-Za-z0-9_.~" + re.escape(_SEGMENT_SAFE.encode()) + rb"-]")

# RFC 9112 §3.2.2: what a client sends to a proxy, and a server has to accept.
_ABSOLUTE_FORM = re.compile(rb"https?://([^/?#]+)", re.IGNORECASE)

# A path that is canonical as it stands, as most are: nothing in it to encode, and no segment that begins with a dot.
_CANONICAL = re.compile(rf"(?:/(?!\.)[A-Za-z0-9_.~{re.escape(_SEGMENT_SAFE)}-]+)+")

# Parameters that advertising and mail tools append to every link; they never choose the content of a page.
TRACKING_PARAMETERS = tuple(
    """
    utm_* gad_* gclid gclsrc dclid gbraid wbraid srsltid _ga _gl fbclid igsh igshid msclkid yclid ysclid ttclid twclid
    li_fat_id epik ScCid rdt_cid qclid irclickid mc_cid mc_eid mkt_tok vero_id _hsenc _hsmi __hstc __hssc __hsfp
    hsCtaTracking _kx _bta_tid _bta_c oly_anon_id oly_enc_id s_kwcid ef_id mtm_* pk_*
    """.split()
)


@dataclass(frozen=True, slots=True)
class Ignored:
    """Query parameters that never choose a page: ``names`` as they are, and those that begin with a prefix."""

    names: frozenset[str]
    prefixes: tuple[str, ...]

    @classmethod
    def of(cls, own: Iterable[str] = ()) -> Ignored:
        """The tracking parameters and a site's ``own``; ``ref_*`` stands for all that begin with ``ref_``."""
        names = [*TRACKING_PARAMETERS, *own]
        return cls(
            frozenset(name for name in names if not name.endswith("*")),
            tuple(name[:-1] for name in names if name.endswith("*")),
        )

    def covers(self, name: str) -> bool:
        """Whether the parameter is one of them."""
        return name in self.names or name.startswith(self.prefixes)


TRACKING = Ignored.of()

_FIELD = re.compile(r"\{([^{}]*)\}")
_UNSAFE_IN_VALUE = re.compile(r"[/\\\x00-\x1f\x7f\ud800-\udfff]")

# ext4, xfs, btrfs and apfs take 255 bytes a name; codings and temporary names need some of them.
MAX_VALUE_BYTES = 200


def canonical_path(raw: bytes, *, fold_case: bool = False) -> bytes | None:
    """The canonical form of a request path, or ``None`` when no hot page can have it.

    ``raw`` is the path as it came on the wire, of ``MAX_TARGET_BYTES`` at most. ``/a%2Fb`` stays apart from ``/a/b``;
    dot segments are not resolved but refused, since no client that means well sends them (RFC 3986 §5.2.4 lets clients
    remove them).
    """
    if len(raw) > MAX_TARGET_BYTES or not raw.startswith(b"/") or _NEVER_HOT.search(raw):
        return None
    path = _TO_ENCODE.sub(_encode, raw).decode("ascii")
    if _DOT_SEGMENT.search(path):
        return None
    if fold_case:
        path = "/".join(map(_fold, path.split("/")))
    return path.encode("ascii")


def _encode(found: re.Match[bytes]) -> bytes:
    return _ENCODED[found.group()]


# What each escape and each byte is in canonical form.
_ENCODED = {bytes((byte,)): quote_from_bytes(bytes((byte,)), _SEGMENT_SAFE).encode("ascii") for byte in range(256)}
_ENCODED |= {
    f"%{first}{second}".encode("ascii"): _ENCODED[bytes((int(first + second, 16),))]
    for first in "0123456789abcdefABCDEF"
    for second in "0123456789abcdefABCDEF"
}


def _fold(segment: str) -> str:
    if "%" not in segment:
        return segment.lower()
    text = unquote_to_bytes(segment).decode("utf-8", "surrogateescape").lower()
    return quote_from_bytes(text.encode("utf-8", "surrogateescape"), _SEGMENT_SAFE)


def split_absolute(target: bytes) -> tuple[bytes | None, bytes]:
    """The authority of a target in absolute-form (RFC 9112 §3.2.2), or ``None``, and the path."""
    if target.startswith(b"/"):
        return None, target
    found = _ABSOLUTE_FORM.match(target)
    return (found.group(1), target[found.end() :] or b"/") if found else (None, target)


def canonical_query(query: bytes, names: frozenset[str] = frozenset(), ignored: Ignored = TRACKING) -> bytes | None:
    """The part of a query string that belongs to the key: ``b""``, ``b"a=1&b=2"``, or ``None`` for a miss.

    ``names`` are the parameters the route declares. Those that are ``ignored`` are dropped; any other makes the request
    one that only the app can answer, and so do a query of more than ``MAX_TARGET_BYTES`` and very many parameters.
    ``a`` and ``a=`` are the same; repeated parameters are kept, in sorted order.
    """
    if len(query) > MAX_TARGET_BYTES:
        return None
    pairs: list[tuple[str, bytes]] = []
    for part in query.split(b"&"):
        if not part:
            continue
        name_bytes, _, value_bytes = part.replace(b"+", b" ").partition(b"=")
        name = unquote_to_bytes(name_bytes).decode("utf-8", "replace")
        if name in names:
            if len(pairs) == _MAX_PAIRS:
                return None
            pairs.append((name, unquote_to_bytes(value_bytes)))
        elif not ignored.covers(name):
            return None
    return _encode_query(pairs)


def _encode_query(pairs: Iterable[tuple[str, bytes]]) -> bytes:
    return "&".join(
        f"{quote(name, safe='')}={quote_from_bytes(value, safe='')}" for name, value in sorted(pairs)
    ).encode("ascii")


def strip_root_path(path: bytes, root_path: bytes) -> bytes:
    """``path`` below the mount point, cut at a segment boundary only: ``/api`` is no prefix of ``/apix``.

    Some servers put ``root_path`` into the path and some do not; a path that does not begin with it is left alone. The
    two are compared in canonical form, since a client may spell the mount point in its own way.
    """
    path = split_absolute(path)[1]
    canonical = canonical_path(path)
    prefix = canonical_path(root_path.rstrip(b"/"))
    if canonical is None or prefix is None or not canonical.startswith(prefix):
        return path
    rest = canonical[len(prefix) :]
    if rest.startswith(b"/"):
        return rest
    return path if rest else b"/"


def parameter_text(value: object) -> str:
    """The text of one parameter value, fit for one path segment and one file name.

    Raises ``ValueError`` that says what to write instead. Floats and booleans are refused because their text is a
    matter of taste (``1.0`` or ``1``, ``True`` or ``true``), and a key must not be.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | date | UUID):
        raise ValueError(
            f"{value!r} is a {type(value).__name__}; give a str, int, date or UUID (str(…) says which text)"
        )
    text = str(value)
    if not text:
        raise ValueError("the value is empty; leave the item out or give the page a route of its own")
    if text in (".", ".."):
        raise ValueError(f"{text!r} is a dot segment and would leave the directory; give another name")
    unsafe = _UNSAFE_IN_VALUE.search(text)
    if unsafe:
        raise ValueError(
            f"{text!r} holds {unsafe.group()!r}: a parameter is one path segment and one file name;"
            " replace the character (a slug) or split the route into more segments"
        )
    size = len(text.encode())
    if size > MAX_VALUE_BYTES:
        raise ValueError(f"the value is {size} bytes long, {MAX_VALUE_BYTES} are possible: {text[:40]!r}…; shorten it")
    return text


@dataclass(frozen=True, slots=True)
class Template:
    """Text with ``{fields}``, each standing for one segment or a part of one: ``/rankings/{market}/{metric}``."""

    text: str
    names: tuple[str, ...]
    _pattern: re.Pattern[str]

    @classmethod
    def parse(cls, text: str) -> Template:
        """Raises ``DeclarationError`` for text that is no template."""
        names: list[str] = []
        pattern = ""
        end = 0
        for field in _FIELD.finditer(text):
            name = field.group(1)
            if not name.isidentifier():
                hint = f"write {{{name.partition(':')[0]}}}" if ":" in name else "write {name}"
                raise DeclarationError(f"{text!r}: {{{name}}} is no parameter; {hint}, a field is always one segment")
            if name in names:
                raise DeclarationError(f"{text!r}: {{{name}}} stands twice; give the second another name")
            names.append(name)
            pattern += re.escape(text[end : field.start()]) + f"(?P<{name}>[^/]+)"
            end = field.end()
        literal_end = text[end:]
        if "{" in _FIELD.sub("", text) or "}" in _FIELD.sub("", text):
            raise DeclarationError(f"{text!r}: a brace has no partner; write {{name}}")
        return cls(text, tuple(names), re.compile(pattern + re.escape(literal_end)))

    def render(self, values: Mapping[str, str]) -> str:
        """The text with each field replaced; ``values`` holds at least ``names``."""
        return self.text.format_map(values)

    def match(self, text: str) -> dict[str, str] | None:
        """The values that would render to ``text``, or ``None``."""
        match = self._pattern.fullmatch(text)
        return match.groupdict() if match else None


def parse_path_template(text: str) -> Template:
    """A route's path. Raises ``DeclarationError`` that says what to write instead."""
    if not isinstance(text, str) or not text.startswith("/"):
        raise DeclarationError(f"{text!r}: a path starts with a slash; write {'/' + str(text)!r}")
    for sign, advice in (
        ("?", "query parameters are declared with query=(…)"),
        ("#", "a fragment never reaches a server"),
    ):
        if sign in text:
            raise DeclarationError(f"{text!r} holds {sign!r}: {advice}; write {text.partition(sign)[0]!r}")
    sample = _FIELD.sub("x", text)
    if _UNSAFE_IN_VALUE.search(sample.replace("/", "")) or any(part in (".", "..") for part in sample.split("/")):
        raise DeclarationError(f"{text!r}: dot segments, backslashes and control characters never reach a hot route")
    return Template.parse(text)


def parse_file_template(text: str) -> Template:
    """A file name inside a generation. Raises ``DeclarationError`` when it could leave the generation's directory."""
    sample = _FIELD.sub("x", text)
    parts = sample.split("/")
    if not text or any(part in ("", ".", "..") for part in parts) or _UNSAFE_IN_VALUE.search(sample.replace("/", "")):
        raise DeclarationError(
            f"file={text!r} could leave the generation's directory;"
            " write a relative name without '..', like 'rankings/{market}.json'"
        )
    return Template.parse(text)


def make_key(path: Template, query: Iterable[str], values: Mapping[str, str], *, fold_case: bool = False) -> str:
    """The key of one item: its path and, sorted, the declared query parameters that have a value."""
    text = path.render(values)
    encoded = text if _CANONICAL.fullmatch(text) else quote(text, safe="/" + _SEGMENT_SAFE)
    canonical = encoded
    if fold_case or encoded is not text:
        folded = canonical_path(encoded.encode("ascii"), fold_case=fold_case)
        if folded is None:  # two fields side by side can make a dot segment that neither is alone
            raise DeclarationError(f"{path.text!r} with {dict(values)} gives {encoded!r}, which no client may send")
        canonical = folded.decode("ascii")
    encoded_query = _encode_query((name, values[name].encode()) for name in query if name in values).decode("ascii")
    if max(len(canonical), len(encoded_query)) > MAX_TARGET_BYTES:
        raise DeclarationError(
            f"{path.text!r} gives a path or query of more than {MAX_TARGET_BYTES:,} bytes, which is never hot: "
            f"{canonical[:60]}…"
        )
    return f"{canonical}?{encoded_query}" if encoded_query else canonical


def matches_path(path: Template, canonical: str) -> bool:
    """Whether a canonical path has the shape of this route, whatever the values are."""
    text = unquote_to_bytes(canonical.replace("%2F", "\x00")).decode("utf-8", "replace")
    return path.match(text) is not None
