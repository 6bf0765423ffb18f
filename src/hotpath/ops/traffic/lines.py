"""One line of an access log, in the formats that servers write.

Combined and common format (Apache, nginx, gunicorn), one JSON object a line (nginx by ``log_format``, Caddy,
``hotpath.asgi.AccessLog``), and uvicorn's own line, which has no time. A line is bytes: a log holds what clients sent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import orjson

# Longer lines are counted as bad: what is in them is an attack, or no log.
MAX_LINE_BYTES: Final = 64 * 1024


class Hit(NamedTuple):
    """One request. ``minute`` counts since the epoch in UTC, ``None`` where the line has no time.

    ``status`` is 0 where the connection was reset before an answer. ``seconds`` is ``None`` where the line has none.
    """

    minute: int | None
    address: bytes
    method: bytes
    target: bytes
    status: int
    size: int
    agent: bytes
    seconds: float | None


Parse = Callable[[bytes], Hit]

_MONTHS: Final = {
    name: number
    for number, name in enumerate(
        (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"), 1
    )
}
# Lines of one minute come together: what was worked out for the last minutes is kept.
_MAX_MINUTES: Final = 4096
_minutes: dict[bytes, int] = {}

# A quoted field may hold escaped quotes; where there are none, which is nearly always, the line is split at them.
_QUOTED = re.compile(rb'"((?:[^"\\]|\\.)*)"')
_UVICORN = re.compile(rb'^INFO:\s+(\S+?)(?::\d+)? - "([A-Z]+) (\S+) HTTP/[\d.]+" (\d{3})')


def combined(line: bytes) -> Hit:
    """``127.0.0.1 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 5831 "referer" "agent" 0.012``; common too.

    A last field that is a number is the time taken: in seconds with a point (nginx's ``$request_time``), else in
    microseconds (Apache's and gunicorn's ``%D``). Raises ``ValueError`` for anything else.
    """
    if b"\\" in line:
        head, rest = line.split(b'"', 1)
        parts = [head, *_unescaped(b'"' + rest)]
    else:
        parts = line.split(b'"')
    head, request, numbers = parts[0], parts[1], parts[2].split()
    opened = head.index(b"[")
    stamp = head[opened + 1 : opened + 27]
    minute = _minutes.get(stamp[:17] + stamp[20:])
    if minute is None:
        minute = _minute_of(stamp)
    method, target = _request(request)
    size = numbers[1] if len(numbers) > 1 else b"-"
    agent = parts[5] if len(parts) > 5 else b"-"
    last = parts[6].split() if len(parts) > 6 else numbers[2:]
    return Hit(
        minute,
        head[: head.index(b" ")],
        method,
        target,
        _status(numbers[0]),
        0 if size == b"-" else int(size),
        agent,
        _seconds(last[-1]) if last else None,
    )


def json_line(line: bytes) -> Hit:
    """One JSON object: nginx's by ``log_format … escape=json``, Caddy's, or ours. Raises ``ValueError``."""
    entry = orjson.loads(line)
    if not isinstance(entry, dict):
        raise ValueError("not an object")
    request = entry.get("request")
    if isinstance(request, Mapping):
        return _caddy(entry, request)
    if "microseconds" in entry and "result" in entry:
        return _ours(entry)
    return _nginx(entry)


def uvicorn(line: bytes) -> Hit:
    """``INFO:     127.0.0.1:53422 - "GET / HTTP/1.1" 200 OK``: no time, no size, no agent. Raises ``ValueError``."""
    match = _UVICORN.match(line)
    if match is None:
        raise ValueError("not a line of uvicorn's")
    address, method, target, status = match.groups()
    return Hit(None, address, method, target, int(status), 0, b"-", None)


FORMATS: Final[Mapping[str, Parse]] = {"combined": combined, "json": json_line, "uvicorn": uvicorn}


def parser_of(line: bytes) -> Parse | None:
    """Who can read such a line; ``None`` where nobody can."""
    for parse in FORMATS.values():
        try:
            parse(line)
        except (ValueError, IndexError, KeyError, TypeError):
            continue
        return parse
    return None


def _unescaped(quoted: bytes) -> list[bytes]:
    """Like ``split(b'"')`` for what holds escaped quotes."""
    parts: list[bytes] = []
    end = 0
    for match in _QUOTED.finditer(quoted):
        if parts:
            parts.append(quoted[end : match.start()])
        parts.append(match[1])
        end = match.end()
    return [*parts, quoted[end:]]


def _minute_of(stamp: bytes) -> int:
    """Minutes since the epoch of ``17/May/2015:10:05:03 +0000``."""
    day, month, year = int(stamp[0:2]), _MONTHS[stamp[3:6].title()], int(stamp[7:11])
    hour, minute, zone = int(stamp[12:14]), int(stamp[15:17]), stamp[21:26]
    at = int(datetime(year, month, day, hour, minute, tzinfo=UTC).timestamp()) // 60
    if zone:
        offset = int(zone[1:3]) * 60 + int(zone[3:5])
        at -= offset if zone[:1] == b"+" else -offset
    if len(_minutes) >= _MAX_MINUTES:
        _minutes.clear()
    _minutes[stamp[:17] + stamp[20:]] = at
    return at


def _request(request: bytes) -> tuple[bytes, bytes]:
    """Method and target; what is no request line (a TLS hello, nothing at all) is a target by itself."""
    first = request.find(b" ")
    last = request.rfind(b" ")
    if first <= 0:
        return b"-", request
    return request[:first], request[first + 1 : last] if last > first else request[first + 1 :]


def _status(text: bytes) -> int:
    status = int(text)
    # nginx writes 499 where the client went away, 444 and 000 where nothing was answered.
    if not (100 <= status <= 599 or status == 0):
        raise ValueError(f"status {status}")
    return status


def _seconds(text: bytes) -> float | None:
    try:
        return float(text) if b"." in text else int(text) / 1e6
    except ValueError:
        return None


def _bytes(value: object) -> bytes:
    return value.encode("utf-8", "replace") if isinstance(value, str) else b"-"


def _caddy(entry: Mapping[str, Any], request: Mapping[str, Any]) -> Hit:
    agents = (request.get("headers") or {}).get("User-Agent") or ["-"]
    address = request.get("client_ip") or request.get("remote_ip") or request["remote_addr"]
    return Hit(
        int(_epoch(entry["ts"]) // 60),
        _bytes(address),
        _bytes(request["method"]),
        _bytes(request["uri"]),
        _status(b"%d" % entry["status"]),
        int(entry.get("size") or 0),
        _bytes(agents[0]),
        float(entry["duration"]) if "duration" in entry else None,
    )


def _ours(entry: Mapping[str, Any]) -> Hit:
    return Hit(
        int(_epoch(entry["time"]) // 60),
        _bytes(entry.get("client")),
        _bytes(entry["method"]),
        _bytes(entry["path"]),
        int(entry["status"] or 0),
        int(entry.get("bytes") or 0),
        _bytes(entry.get("agent")),
        entry["microseconds"] / 1e6,
    )


def _nginx(entry: Mapping[str, Any]) -> Hit:
    if "request" in entry:
        method, target = _request(_bytes(entry["request"]))
    else:
        method, target = _bytes(entry.get("request_method") or entry["method"]), _bytes(_first(entry, _TARGETS))
    at = _first(entry, _TIMES)
    taken = entry.get("request_time")
    return Hit(
        int(_epoch(at) // 60) if at is not None else None,
        _bytes(_first(entry, _ADDRESSES)),
        method,
        target,
        _status(str(entry["status"]).encode()),
        int(_first(entry, _SIZES) or 0),
        _bytes(_first(entry, _AGENTS)),
        float(taken) if taken not in (None, "", "-") else None,
    )


_TARGETS: Final = ("request_uri", "uri", "path", "url")
_TIMES: Final = ("time_iso8601", "msec", "time", "timestamp", "time_local", "ts")
_ADDRESSES: Final = ("remote_addr", "client_ip", "remote_ip", "client")
_SIZES: Final = ("body_bytes_sent", "bytes_sent", "size", "bytes")
_AGENTS: Final = ("http_user_agent", "user_agent", "agent")


def _first(entry: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((entry[name] for name in names if entry.get(name) not in (None, "")), None)


def _epoch(value: object) -> float:
    """Seconds since the epoch of a number, of ISO 8601, or of the combined format's time."""
    if isinstance(value, int | float):
        return float(value)
    if not isinstance(value, str):
        raise ValueError(f"no time: {value!r}")
    if value[2:3] == "/":
        return _minute_of(value.encode()) * 60.0
    try:
        return float(value)
    except ValueError:
        at = datetime.fromisoformat(value)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
