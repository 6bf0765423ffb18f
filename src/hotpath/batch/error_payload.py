"""Tell an error that came with status 200 from a page: ``{"error": …}`` in place of what the page had."""

from __future__ import annotations

from collections.abc import Mapping

# Members of the error objects of RFC 9457, JSON:API, GraphQL, Google, Spring, FastAPI, Django REST framework, Flask and
# werkzeug, Express; without case, hyphens and underscores.
_ERRORS = frozenset({"error", "errors", "exception", "fault"})
# What pages have too: a search says "no results" beside an empty list.
_TEXTS = frozenset({"detail", "message", "msg", "reason"})
_FLAGS = frozenset({"status", "statuscode", "code", "errorcode", "success", "ok", "iserror"})
_BESIDE = frozenset(
    {"title", "type", "name", "description", "errordescription", "errormessage", "errortype", "instance", "path", "url"}
    | {
        "timestamp",
        "time",
        "requestid",
        "traceid",
        "trace",
        "stack",
        "meta",
        "jsonapi",
        "documentationurl",
        "help",
        "details",
    }
)
_OF_AN_ERROR = _ERRORS | _TEXTS | _FLAGS | _BESIDE

_BAD_WORDS = frozenset({"error", "fail", "failed", "failure", "ko", "exception", "unavailable", "timeout"})


def may_be_error(payload: object) -> bool:
    """Whether everything in ``payload`` (as JSON has it) is of an error, and something in it says that there was one.

    Beside an error, members that hold nothing (``null``, empty) are passed over: ``{"error": null, "data": …}`` is a
    page, and ``{"error": "timeout", "data": null}`` is none. A page may look so for ever, ``{"message": "hello"}``: see
    ``had_more``.
    """
    if not isinstance(payload, Mapping):
        return False
    held = _held(payload)
    if not held.keys() <= _OF_AN_ERROR:
        return False
    if any(_says_error(name, value) for name, value in held.items()):
        return True
    is_whole = all(_plain(name) in _OF_AN_ERROR for name, value in payload.items() if value is not None)
    return is_whole and any(name in _TEXTS for name in held)


def had_more(before: object) -> bool:
    """Whether the page was something else the night before: a list, or an object with other members."""
    if isinstance(before, Mapping):
        return not _held(before).keys() <= _OF_AN_ERROR
    return isinstance(before, list)


def _held(payload: Mapping[str, object]) -> dict[str, object]:
    return {_plain(name): value for name, value in payload.items() if value is not None and value not in ("", [], {})}


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def _says_error(name: str, value: object) -> bool:
    if name in ("success", "ok"):
        return value is False
    if name in _FLAGS:
        if isinstance(value, str):
            return value.lower() in _BAD_WORDS
        return value is True if isinstance(value, bool) else isinstance(value, int) and value >= 400
    return name in _ERRORS and value != 0  # False is 0 too
