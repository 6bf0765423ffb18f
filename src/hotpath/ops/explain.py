"""``hotpath explain TARGET URL``: which key, which file, which headers, and why not hot."""

from __future__ import annotations

import contextlib
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace
from urllib.parse import unquote_to_bytes, urlsplit

from hotpath.batch.reports import last_run
from hotpath.errors import StoreError
from hotpath.log import held_back
from hotpath.pages.keys import canonical_path, matches_path
from hotpath.serving.reader import reader_of
from hotpath.serving.resolver import OTHER_QUERY, UNREADABLE, Miss, find_key, resolve_page
from hotpath.site import Hotpath

_NO_OTHER = "no older generation has good bytes of this page: run 'hotpath verify --repair', or build again"


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a GET of a URL would get from this site's store at this moment."""

    url: str
    hot: bool
    reason: str
    key: str | None = None
    file: str | None = None
    route: str | None = None
    status: int | None = None
    headers: tuple[tuple[str, str], ...] = ()


def explain(hot: Hotpath, url: str, accept_encoding: str | None = None) -> Explanation:
    """Resolve ``url`` (a path, or a whole URL whose host does not matter) exactly as the middleware would."""
    parts = urlsplit(url)
    if parts.path[:1] not in ("", "/") or not url:
        return Explanation(url, False, f"a path begins with a slash; write '/{url}'")
    raw_path = (parts.path or "/").encode("utf-8", "surrogateescape")
    query = parts.query.encode("utf-8", "surrogateescape")
    reader = reader_of(hot)
    with held_back() as records:
        for _ in hot.directories:
            reader.refresh()  # a file has to be seen twice before it counts
        reader.refresh()
        if reader.snapshot.generation is None and not hot.directories:
            records.clear()  # the reason says it
    headers = [(b"accept-encoding", accept_encoding.encode("latin-1", "replace"))] if accept_encoding else []
    key = find_key(reader.snapshot, raw_path, query)
    if isinstance(key, Miss):
        lost = find_key(replace(reader.snapshot, keys=reader.loader.damaged), raw_path, query)
        damage = reader.loader.damaged.get(lost) if isinstance(lost, bytes) else None
        if isinstance(lost, bytes) and damage:
            return Explanation(url, False, f"{damage}, and {_NO_OTHER}", key=lost.decode("ascii"))
        return Explanation(url, False, _why_not(hot, raw_path, key))
    page = reader.load_page(key) if isinstance(key, bytes) else None
    answer = resolve_page(page, "GET", headers) if page is not None else key
    if isinstance(answer, bytes):
        damage = reader.loader.damaged.get(answer)
        reason = f"{damage}, and {_NO_OTHER}" if damage else UNREADABLE.reason
        return Explanation(url, False, reason, key=answer.decode("ascii"))
    fields = answer.headers + answer.freshness.headers
    shown = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in fields)
    if page is None:
        return Explanation(url, True, "the page has another slash at its end", status=answer.status, headers=shown)
    file = str(hot.store.files_path(page.generation) / page.file) if page.generation else page.file
    source = f"generation {page.generation}" if page.generation else "a watched file"
    damage = reader.loader.damaged.get(page.key.encode("ascii")) if page.generation else None
    if damage:
        source += f", since {damage}: run 'hotpath verify --repair'"
    return Explanation(url, True, f"served from {source}", page.key, file, page.policy.route, answer.status, shown)


# One function, since the reasons are asked for in the order in which a request meets them.
def _why_not(hot: Hotpath, raw_path: bytes, miss: Miss) -> str:
    reader = reader_of(hot)
    if reader.snapshot.generation is None and not hot.directories:
        return reader.loader.degraded or "nothing is published yet"
    reasons = [miss.reason]
    canonical = canonical_path(raw_path)
    if canonical is None:
        return "; ".join(reasons)
    text = canonical.decode("ascii")
    declared = next((r.path.text for r in hot.routes if matches_path(r.path, text)), None)
    watched = next((d for d in hot.directories if matches_path(d.path, text)), None)
    keys = reader.loader.keys
    other = canonical.rstrip(b"/") if canonical.endswith(b"/") else canonical + b"/"
    same = next((key for key in keys if key.lower() == canonical.lower() and key != canonical), None)
    if other in keys:
        reasons.append(f"{other.decode()} is hot, a slash at the end makes another key (redirect_slashes=True helps)")
    elif (composed := _in_another_form(canonical, keys)) is not None:
        reasons.append(
            f"{composed.decode()} is hot, and the same text in another Unicode normal form (NFC and NFD, as file names"
            " of macOS have it): link to that spelling, or build the other key too"
        )
    elif same is not None:
        reasons.append(f"{same.decode()} is hot, keys differ by case (fold_case=True makes them one)")
    elif miss is OTHER_QUERY:
        reasons.append("write query=('name',) where it makes another page, or leave it out of the link")
    elif declared is None and watched is not None:
        there = (
            f"{watched.path.text!r} is declared for the files {watched.files.text}, and there is no valid one for it"
        )
        reasons.append(watched.problem() or there)
    elif declared is not None and (problem := _failure(hot, text)) is not None:
        reasons.append(f"it failed in the last run, and the app answers for it: {problem}")
    elif declared is not None and declared not in reader.loader.built_routes and reader.loader.built_routes:
        reasons.append(
            f"{declared!r} is declared, and generation {reader.snapshot.generation} was built without it: run"
            " 'hotpath build TARGET' with the Hotpath object that declares it"
        )
    elif declared is not None:
        reasons.append(
            f"{declared!r} is declared and has no such item: is the value in each=, was the batch run since?"
        )
    elif not hot.routes and not hot.directories:
        reasons.append("nothing is known of what the site declares; name TARGET instead of STORE")
    else:
        known = ", ".join([repr(r.path.text) for r in hot.routes] + [repr(d.path.text) for d in hot.directories][:8])
        reasons.append(f"no declared route has this shape (declared: {known})")
    return "; ".join(reasons)


def _failure(hot: Hotpath, key: str) -> str | None:
    """Why the last run has not made the page; ``None`` also where this user may not read that."""
    with contextlib.suppress(StoreError, OSError):
        failures = (last_run(hot.store) or {}).get("failures") or ()
        return next((failure["problem"] for failure in failures if failure["key"] == key), None)
    return None


def _in_another_form(canonical: bytes, keys: Iterable[bytes]) -> bytes | None:
    """The key that reads the same where both are composed (UAX #15)."""
    if b"%" not in canonical:
        return None
    wanted = _composed(canonical)
    return next((key for key in keys if key != canonical and b"%" in key and _composed(key) == wanted), None)


def _composed(key: bytes) -> list[str]:
    return [unicodedata.normalize("NFC", unquote_to_bytes(part).decode("utf-8", "replace")) for part in key.split(b"/")]


def lines(explanation: Explanation) -> list[str]:
    """The explanation as a person reads it."""
    lines = [
        f"{explanation.url}: {'hot' if explanation.hot else 'not hot, the app answers'}",
        f"  {explanation.reason}",
    ]
    lines += [
        f"  {name:<7}{value}"
        for name, value in (("route", explanation.route), ("key", explanation.key), ("file", explanation.file))
        if value
    ]
    if explanation.status is not None:
        lines.append(f"  HTTP {explanation.status}")
    lines += [f"    {name}: {value}" for name, value in explanation.headers]
    return lines
