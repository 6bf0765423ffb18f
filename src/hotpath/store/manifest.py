"""The manifest: the index of one generation, as values and as a file.

The file is plain JSON that any language reads, laid out one item a line so that this module can read a large one
line by line: no step of it holds the interpreter for long. Its last line carries the SHA-256 of all bytes before,
so a manifest can be trusted on its own, also when the pointer that named it is gone.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from hotpath.errors import Corrupt, DeclarationError, NewerFormat
from hotpath.pages.codings import SUFFIXES
from hotpath.pages.policy import Policy, policy_of
from hotpath.pages.site_wide import SiteWide

FORMAT = 1

_END = b'],"sha256":"'

# What an item's line begins with: the key is the first field of ``encode_item``.
_KEY = b'{"key":"'
_ROUTE = b'","route":'
_STALE_SINCE = re.compile(rb'"stale_since":(\d+)')


@dataclass(frozen=True, slots=True)
class Representation:
    """One key in one content coding: its file below ``files/``, its length in bytes and its digest."""

    coding: str
    file: str
    length: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Item:
    """One key of a generation; ``representations[0]`` is always the identity coding.

    ``last_modified`` and ``stale_since`` are seconds since the epoch; ``metrics`` are facts for validation.
    """

    key: str
    policy: Policy
    representations: tuple[Representation, ...]
    last_modified: int
    stale_since: int | None = None
    metrics: Mapping[str, int] | None = None

    @property
    def identity(self) -> Representation:
        return self.representations[0]

    @property
    def digests(self) -> tuple[bytes, ...]:
        """The SHA-256 of each representation: two items with the same ones have the same bytes in the same codings."""
        return tuple(representation.sha256 for representation in self.representations)


@dataclass(frozen=True, slots=True)
class Head:
    """What a manifest says before its items.

    ``created`` is seconds since the epoch, ``parent`` the sequence before; ``codings`` are those that were tried, of
    which an item has the ones that made it smaller. ``site`` is what the site declares for all pages: ``None`` in what
    an import made, or a hotpath before this field.
    """

    sequence: int
    created: int
    parent: int | None
    codings: tuple[str, ...]
    policies: tuple[Policy, ...]
    site: SiteWide | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """The index of one generation."""

    head: Head
    items: Mapping[str, Item] = field(repr=False)

    @property
    def sequence(self) -> int:
        return self.head.sequence


class Items(Mapping[str, Item]):
    """The items of a manifest by key, still as their lines: a line is a quarter of what its decoded item takes."""

    __slots__ = ("_head", "_lines", "_path")

    def __init__(self, head: Head, lines: Mapping[bytes, bytes], path: str) -> None:
        self._head = head
        self._lines = lines
        self._path = path

    def __getitem__(self, key: str) -> Item:
        return decode_item(self._head, self._lines[key.encode("ascii", "replace")], self._path)

    def __iter__(self) -> Iterator[str]:
        return (key.decode("ascii") for key in self._lines)

    def __len__(self) -> int:
        return len(self._lines)


def encode_head(head: Head) -> bytes:
    """The first line of the file."""
    facts: dict[str, Any] = {
        "format": FORMAT,
        "sequence": head.sequence,
        "created": head.created,
        "parent": head.parent,
        "codings": head.codings,
        "routes": head.policies,  # the fields of a policy have the names of the file
    }
    if head.site is not None:
        facts["site"] = head.site.facts()
    return orjson.dumps(facts)[:-1] + b',"items":[\n'


def encode_item(item: Item, policies: Sequence[Policy]) -> bytes:
    """One item's line, without comma and line end."""
    identity = item.identity
    facts: dict[str, Any] = {
        "key": item.key,
        "route": policies.index(item.policy),
        "file": identity.file,
        "bytes": identity.length,
        "sha256": identity.sha256.hex(),
        "last_modified": item.last_modified,
    }
    if len(item.representations) > 1:
        facts["codings"] = {
            other.coding: {"bytes": other.length, "sha256": other.sha256.hex()} for other in item.representations[1:]
        }
    if item.stale_since is not None:
        facts["stale_since"] = item.stale_since
    if item.metrics:
        facts["metrics"] = item.metrics
    # A copy: orjson takes a kilobyte and shrinks it in place, and the holes between 100,000 lines are no room for more.
    return bytes(memoryview(orjson.dumps(facts)))


def encode(head: Head, lines: Iterable[bytes]) -> Iterator[bytes]:
    """The file in pieces, from what ``encode_item`` made of each item; joined they are one JSON document."""
    digest = hashlib.sha256()
    line = encode_head(head)
    digest.update(line)
    yield line
    separator = b""
    for item in lines:
        line = separator + item
        separator = b",\n"
        digest.update(line)
        yield line
    digest.update(b"\n")
    yield b"\n" + _END + digest.hexdigest().encode("ascii") + b'"}\n'


def decode(data: bytes, path: str) -> Manifest:
    """Read a whole file. Raises ``Corrupt`` (with ``path``) unless every byte is as it was written."""
    head = decode_head(data, path)
    lines = {}
    for line in item_lines(data):
        decode_item(head, line, path)  # what cannot be read must show now, not when it is asked for
        key = key_of(line)
        if not key.isascii():
            raise Corrupt(f"an item of the manifest has a key that is not ASCII ({key[:60]!r})", path=path)
        lines[key] = line
    return Manifest(head, Items(head, lines, path))


def decode_head(data: bytes, path: str) -> Head:
    """The head of a file whose digest holds. Raises ``Corrupt`` (with ``path``) for any other."""
    end = data.rfind(_END)
    digest = hashlib.sha256(memoryview(data)[: max(end, 0)]).hexdigest()
    if end < 0 or data[end + len(_END) :] != digest.encode("ascii") + b'"}\n':
        raise Corrupt("the manifest is not as it was written (its own digest differs)", path=path)
    first = data[: data.find(b"\n")]
    try:
        facts = orjson.loads(first + b"]}")
        if facts["format"] != FORMAT:
            is_newer = isinstance(facts["format"], int) and facts["format"] > FORMAT
            raise (NewerFormat if is_newer else Corrupt)(
                f"the manifest has format {facts['format']!r}, this version of hotpath reads {FORMAT}",
                path=path,
                fix="upgrade hotpath, or build again with this version",
            )
        policies = tuple(map(policy_of, facts["routes"]))
        codings = tuple(facts["codings"])
        site = SiteWide.of_facts(facts["site"]) if "site" in facts else None
        return Head(facts["sequence"], facts["created"], facts["parent"], codings, policies, site)
    except (KeyError, TypeError, ValueError, AttributeError, DeclarationError) as error:
        raise Corrupt(f"the manifest's first line cannot be read ({error!r})", path=path) from error


def item_lines(data: bytes) -> Iterator[bytes]:
    """The item lines of a file, one a step, so that a caller can breathe between them."""
    start = data.find(b"\n") + 1
    stop = data.rfind(_END)
    while start < stop:
        end = data.find(b"\n", start)
        yield data[start:end]
        start = end + 1


def key_of(line: bytes) -> bytes:
    """The key of an item's line, found without decoding it: a key is ASCII and holds no quote (see ``keys``)."""
    return line[len(_KEY) : line.index(b'"', len(_KEY))]


def route_of(line: bytes) -> int:
    """The index of an item's policy, found in the same way: it is the second field."""
    start = line.index(_ROUTE, len(_KEY)) + len(_ROUTE)
    return int(line[start : line.index(b",", start)])


def stale_since_of(line: bytes) -> int | None:
    """``stale_since`` of an item's line, found in the same way: inside a JSON string its quotes would be escaped."""
    match = _STALE_SINCE.search(line)
    return int(match[1]) if match else None


def decode_item(head: Head, line: bytes, path: str) -> Item:
    """The item of one line."""
    try:
        facts = orjson.loads(line.removesuffix(b","))
        file = facts["file"]
        if file.startswith("/") or ".." in file.split("/"):
            raise Corrupt(f"an item of the manifest has a file outside of its generation ({file!r})", path=path)
        representations = [Representation("identity", file, facts["bytes"], bytes.fromhex(facts["sha256"]))]
        for coding, other in facts.get("codings", {}).items():
            representations.append(
                Representation(coding, file + SUFFIXES[coding], other["bytes"], bytes.fromhex(other["sha256"]))
            )
        return Item(
            facts["key"],
            head.policies[facts["route"]],
            tuple(representations),
            facts["last_modified"],
            facts.get("stale_since"),
            facts.get("metrics"),
        )
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise Corrupt(f"an item of the manifest cannot be read ({error!r})", path=path) from error
