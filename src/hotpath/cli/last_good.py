"""``hotpath explain --front``: whether a URL is hot or has a last good answer, and why not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, urlsplit

import orjson

from hotpath.asgi.last_good.deciding import decide
from hotpath.asgi.last_good.directives import Directives
from hotpath.cli.output import show
from hotpath.errors import DeclarationError
from hotpath.ops.http import Client, parse_url, request_target

SECONDS = 10.0


def explain_last_good(front: str, url: str, as_json: bool) -> None:
    """Print what the front's admin port says of ``url``, or what follows from the answer of a site. Exit code 1 where
    there is nothing to use while the app fails; a hot page needs no app.

    Raises ``DeclarationError`` and ``Unreachable``.
    """
    parse_url(front, "--front")
    if not url.startswith("/"):
        parse_url(url, "URL")
    report = _of_admin(front, url) or _of_site(front, url)
    show(report, _lines(url, report), as_json)
    if "hot" not in report and not any(answer["is_used_on_error"] for answer in report["answers"] if answer["is_kept"]):
        raise SystemExit(1)


def _of_admin(front: str, url: str) -> dict[str, Any] | None:
    """``None`` where ``front`` is no admin port."""
    with Client(front, timeout_seconds=SECONDS, shown=front) as client:
        reply = client.ask("GET", f"/last-good?url={quote(url, safe='')}")
    try:
        report = orjson.loads(reply.body)
    except orjson.JSONDecodeError:
        return None
    is_ours = reply.status == 200 and isinstance(report, dict) and isinstance(report.get("answers"), list)
    return report if is_ours else None


def _of_site(front: str, url: str) -> dict[str, Any]:
    """Worked out from the head of the answer that ``front`` gives now."""
    parts = urlsplit(url)
    if parts.netloc and parts.netloc != urlsplit(front).netloc:
        raise DeclarationError(f"--front {front}: it is no admin port of a front, and {url} is of another site")
    with Client(front, timeout_seconds=SECONDS, shown=front, max_bytes=0) as client:
        reply = client.ask("GET", request_target(url))
    headers = [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in reply.headers.items()]
    if reply.generation is not None and reply.generation.isdigit():
        return {"answers": [], "hot": {"key": request_target(url), "generation": int(reply.generation)}}
    decision = decide(reply.status, headers, Directives(), is_fresh_mode=False, is_framed=True)
    answer = {
        "url": url,
        "status": reply.status,
        "is_kept": decision.because is None,
        "is_used_on_error": decision.because is None,
        "because": decision.because or "it can stand in for an app that fails",
    }
    return {"answers": [answer], "because": f"worked out from the answer of {front}, which is no admin port"}


def _lines(url: str, report: dict[str, Any]) -> Iterable[str]:
    if "hot" in report:
        generation = report["hot"]["generation"]
        source = "a watched file" if generation is None else f"generation {generation}"
        yield f"{url} is hot: it is served from {source}, whether the app answers or not"
        return
    for answer in report["answers"]:
        if not answer["is_kept"]:
            yield f"{answer['url']} is not kept: {answer['because']}"
            continue
        use = "is used while the app fails" if answer["is_used_on_error"] else "is kept, and not used"
        yield f"{answer['url']} {use}: {answer['because']}"
        if "age" in answer:
            yield f"  status {answer['status']}, {answer['bytes']} bytes, age {answer['age']} s, ttl {answer['ttl']} s"
        if "last_answer_not_kept" in answer:
            yield f"  the last answer of the app was not kept: {answer['last_answer_not_kept']}"
    if "because" in report:
        yield f"  {report['because']}" if report["answers"] else f"{url} is not kept: {report['because']}"
    if "robots" in report:
        yield f"  {report['robots']}"
