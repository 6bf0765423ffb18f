"""What a payload holds, in numbers, and the rules that hold without looking at any other night."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from itertools import islice
from typing import Any, TypeGuard

from hotpath.baseline import PPM, Metrics
from hotpath.errors import ItemError

# So many fields of a row are measured; more are seldom a table.
MAX_FIELDS = 64

Row = Mapping[str, Any]


def measure(
    payload: object,
    *,
    records: str | None,
    required: Sequence[str],
    row_key: str | None,
    source_time: str | None,
    min_rows: int,
    before: object | None,
) -> Metrics:
    """The metrics of one payload; ``before`` is that of the generation before, as JSON has it.

    ``rows``; for each field ``nulls:field``; beside the same rows before ``removed``, ``changed:field`` for text and
    ``jumped:field`` for numbers that halved or doubled. All of these are parts of a million of the rows. ``newest`` is
    the latest ``source_time`` in seconds since the epoch. Raises ``ItemError`` with the place where a rule is broken.
    """
    if records is None:
        return {}
    rows = _rows(payload, records)
    if len(rows) < min_rows:
        raise ItemError(
            f"$.{records} has {len(rows)} rows, expected at least {min_rows}"
            + ("; write min_rows=0 where none is right" if not rows else ""),
            path=f"$.{records}",
        )
    _require(rows, records, required)
    metrics = {"rows": len(rows)}
    if not rows:
        return metrics
    key = row_key or _guess_key(rows, required)
    keyed = _by_key(rows, records, key, is_declared=row_key is not None)
    fields = [*islice(dict.fromkeys(name for row in rows for name in row), MAX_FIELDS)]
    for name in fields:
        nulls = sum(row.get(name) is None for row in rows)
        metrics[f"nulls:{name}"] = nulls * PPM // len(rows)
    if source_time is not None:
        metrics["newest"] = _newest(rows, records, source_time)
    if key is not None and keyed:
        metrics |= _differences(keyed, before, records, key, fields)
    return metrics


def _rows(payload: object, records: str) -> list[Row]:
    rows = payload.get(records) if isinstance(payload, Mapping) else None
    if not isinstance(rows, list):
        found = sorted(map(str, payload)) if isinstance(payload, Mapping) else f"a {type(payload).__name__}"
        raise ItemError(f"records={records!r} is no list in the payload, which has {found}", path=f"$.{records}")
    for index, row in enumerate(rows):
        if not isinstance(row, Mapping):
            path = f"$.{records}[{index}]"
            raise ItemError(f"{path} is a {type(row).__name__}, expected an object with fields", path=path)
    return rows


def _require(rows: Sequence[Row], records: str, required: Sequence[str]) -> None:
    for index, row in enumerate(rows):
        for name in required:
            if row.get(name) is None:
                path = f"$.{records}[{index}].{name}"
                raise ItemError(f"{path} is null or missing, and the route says required={name!r}", path=path)


def _guess_key(rows: Sequence[Row], required: Sequence[str]) -> str | None:
    """The first required field that is text and different in every row."""
    for name in required:
        values = [row[name] for row in rows]
        if all(isinstance(value, str) for value in values) and len(set(values)) == len(values):
            return name
    return None


def _by_key(rows: Sequence[Row], records: str, key: str | None, *, is_declared: bool) -> dict[object, Row]:
    if key is None:
        return {}
    found: dict[object, Row] = {}
    for index, row in enumerate(rows):
        value = row.get(key)
        path = f"$.{records}[{index}].{key}"
        if not isinstance(value, str | int):
            if is_declared:
                raise ItemError(f"{path} is {value!r}; row_key={key!r} has to be text or a number", path=path)
            continue
        if value in found and is_declared:
            raise ItemError(f"{path} is {value!r}, as in a row before; row_key={key!r} tells rows apart", path=path)
        found[value] = row
    return found


def _newest(rows: Sequence[Row], records: str, source_time: str) -> int:
    newest = None
    for index, row in enumerate(rows):
        value = row.get(source_time)
        if value is not None:
            seconds = _seconds(value)
            if seconds is None:
                path = f"$.{records}[{index}].{source_time}"
                raise ItemError(f"{path} is {value!r}, no time: write ISO 8601 or seconds since the epoch", path=path)
            newest = seconds if newest is None else max(newest, seconds)
    if newest is None:
        raise ItemError(
            f"no row of $.{records} has {source_time!r}, which the route calls source_time", path=f"$.{records}"
        )
    return newest


def _seconds(value: object) -> int | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, str):
        try:
            if len(value) == len("2026-11-23"):
                day = date.fromisoformat(value)
                return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
            at = datetime.fromisoformat(value)
        except ValueError:
            return None
        return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp())
    return None


def _differences(
    keyed: Mapping[object, Row], before: object, records: str, key: str, fields: Sequence[str]
) -> dict[str, int]:
    """What became of the rows that were there before, and of their values."""
    old_rows = before.get(records) if isinstance(before, Mapping) else None
    if not isinstance(old_rows, list):
        return {}
    old = {row[key]: row for row in old_rows if isinstance(row, Mapping) and isinstance(row.get(key), str | int)}
    both = [(old[value], row) for value, row in keyed.items() if value in old]
    if not old:
        return {}
    found = {"removed": (len(old) - len(both)) * PPM // len(old)}
    if not both:
        return found
    for name in fields:
        if name == key:
            continue
        text = texts = jumped = numbers = 0
        for was, now in both:
            a, b = was.get(name), now.get(name)
            if isinstance(a, str) and isinstance(b, str):
                texts += 1
                text += a != b
            elif _is_number(a) and _is_number(b):
                numbers += 1
                jumped += _has_jumped(a, b)
        if texts:
            found[f"changed:{name}"] = text * PPM // texts
        if numbers:
            found[f"jumped:{name}"] = jumped * PPM // numbers
    return found


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _has_jumped(a: float, b: float) -> bool:
    """Another sign, less than half or more than twice."""
    if a * b <= 0:
        return a != b
    return not 0.5 <= b / a <= 2
