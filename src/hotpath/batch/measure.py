"""Measure a payload, and check the rules that need no other night."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from itertools import islice
from statistics import median
from typing import Any, TypeGuard

import orjson

from hotpath.batch.plausibility import PPM, Metrics
from hotpath.errors import ItemError

# Fields of a row that are measured; a row with more is seldom of a table.
MAX_FIELDS = 64

# Names of fields shown in an error.
MAX_NAMES = 12

# A text field that tells groups of rows apart, a sector or a country, has few values.
MAX_GROUPS = 100

# A number has jumped when it is this much of itself away from where it was …
JUMP_OF_ITSELF = 0.10
# … and this much of the distance that rows have from the middle of their column.
JUMP_OF_COLUMN = 0.5

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

    ``rows``; ``newest``, the latest ``source_time`` in seconds since the epoch; ``vanished:field``, how many rows the
    largest group had that is gone as a whole. The others are parts of a million of the rows: ``repeated`` rows;
    ``nulls:field``; ``common:field``, those with the value that most have, of the rows that were there before; and
    beside the same rows before ``removed``, ``changed:field`` for text that was another row's, ``jumped:field`` for
    numbers that are not near what they were.

    ``row_key`` tells which rows are the same; without it a required text field that is different in every row does.
    Raises ``ItemError`` with the place where a rule is broken.
    """
    if records is None:
        return {}
    rows = _rows(payload, records)
    _check(rows, records, min_rows, required, row_key, source_time)
    return _metrics(rows, _rows_before(before, records), records, required, row_key, source_time)


def _metrics(
    rows: Sequence[Row],
    old_rows: Sequence[Row],
    records: str,
    required: Sequence[str],
    row_key: str | None,
    source_time: str | None,
) -> Metrics:
    metrics = {"rows": len(rows)}
    if not rows:
        return metrics
    if source_time is not None:
        metrics["newest"] = _newest(rows, records, source_time)
    # By the rows before, where there are any: tonight's may be there twice.
    key = row_key or _guess_key(old_rows or rows, required)
    metrics["repeated"] = _repeated(rows, key) * PPM // len(rows)
    fields = _fields(rows, MAX_FIELDS)
    # A table that grows by one sector has a value that is more common than ever; of its old rows it has not.
    stayed = _that_stayed(rows, old_rows, key) or rows
    for name in fields:
        metrics[f"nulls:{name}"] = sum(row.get(name) is None for row in rows) * PPM // len(rows)
        metrics[f"common:{name}"] = _common([row.get(name) for row in stayed]) * PPM // len(stayed)
    if key is not None and old_rows:
        metrics |= _differences(rows, old_rows, key, fields)
    return metrics


def _check(
    rows: Sequence[Row],
    records: str,
    min_rows: int,
    required: Sequence[str],
    row_key: str | None,
    source_time: str | None,
) -> None:
    """Raise ``ItemError`` for what no night may have."""
    if len(rows) < min_rows:
        raise ItemError(
            f"$.{records} has {len(rows)} rows, expected at least {min_rows}"
            + ("; write min_rows=0 where none is right" if not rows else ""),
            path=f"$.{records}",
        )
    for name, option in (
        *((name, "required") for name in required),
        (row_key, "row_key"),
        (source_time, "source_time"),
    ):
        if name is not None:
            _require_known(rows, records, name, option)
    _require(rows, records, required)
    if row_key is not None:
        _require_keys(rows, records, row_key)


def _rows(payload: object, records: str) -> list[Row]:
    rows = payload.get(records) if isinstance(payload, Mapping) else None
    if not isinstance(rows, list):
        content = sorted(map(str, payload)) if isinstance(payload, Mapping) else f"a {type(payload).__name__}"
        raise ItemError(f"records={records!r} is no list in the payload, which has {content}", path=f"$.{records}")
    for index, row in enumerate(rows):
        if not isinstance(row, Mapping):
            path = f"$.{records}[{index}]"
            raise ItemError(f"{path} is a {type(row).__name__}, expected an object with fields", path=path)
    return rows


def _require_known(rows: Sequence[Row], records: str, name: str, option: str) -> None:
    """A field that no row has is a mistake in the declaration, or its column is gone: say what there is."""
    if rows and not any(name in row for row in rows):
        there = ", ".join(map(repr, _fields(rows, MAX_NAMES)))
        raise ItemError(
            f"no row of $.{records} has {name!r}, which the route calls {option}; they have {there or 'no fields'}",
            path=f"$.{records}",
        )


def _require(rows: Sequence[Row], records: str, required: Sequence[str]) -> None:
    for index, row in enumerate(rows):
        for name in required:
            if row.get(name) is None:
                path = f"$.{records}[{index}].{name}"
                raise ItemError(f"{path} is null or missing, and the route says required={name!r}", path=path)


def _require_keys(rows: Sequence[Row], records: str, row_key: str) -> None:
    seen: set[object] = set()
    for index, row in enumerate(rows):
        value = row.get(row_key)
        path = f"$.{records}[{index}].{row_key}"
        if not isinstance(value, str | int):
            raise ItemError(f"{path} is {value!r}; row_key={row_key!r} has to be text or a number", path=path)
        if value in seen:
            raise ItemError(f"{path} is {value!r}, as in a row before; row_key={row_key!r} tells rows apart", path=path)
        seen.add(value)


def _guess_key(rows: Sequence[Row], required: Sequence[str]) -> str | None:
    """The first required field that is text and different in every row."""
    for name in required:
        values = [row.get(name) for row in rows]
        if all(isinstance(value, str) for value in values) and len(set(values)) == len(values):
            return name
    return None


def _fields(rows: Sequence[Row], most: int) -> list[str]:
    return [*islice(dict.fromkeys(name for row in rows for name in row), most)]


def _rows_before(before: object, records: str) -> list[Row]:
    rows = before.get(records) if isinstance(before, Mapping) else None
    return [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []


def _repeated(rows: Sequence[Row], key: str | None) -> int:
    """How many rows were there before, by their key or, without one, as a whole."""
    if key is not None:
        values = [row.get(key) for row in rows]
        return len(values) - len({value for value in values if _is_key(value)}) if all(map(_is_key, values)) else 0
    return len(rows) - len({orjson.dumps(row, option=orjson.OPT_SORT_KEYS) for row in rows})


def _that_stayed(rows: Sequence[Row], old_rows: Sequence[Row], key: str | None) -> list[Row]:
    if key is None:
        return []
    known = {value for value in (row.get(key) for row in old_rows) if _is_key(value)}
    return [row for row in rows if _is_key(value := row.get(key)) and value in known]


def _common(values: Sequence[object]) -> int:
    """How many have the most common value, which may be null; lists and objects are not compared."""
    try:
        counts = Counter(values)
    except TypeError:
        counts = Counter(value for value in values if not isinstance(value, list | dict))
    return max(counts.values(), default=0)


def _newest(rows: Sequence[Row], records: str, source_time: str) -> int:
    newest = None
    for index, row in enumerate(rows):
        value = row.get(source_time)
        if value is not None:
            seconds = _seconds(value)
            if seconds is None:
                path = f"$.{records}[{index}].{source_time}"
                raise ItemError(
                    f"{path} is {value!r}, no time: write ISO 8601 or seconds (not milliseconds) since the epoch",
                    path=path,
                )
            newest = seconds if newest is None else max(newest, seconds)
    if newest is None:
        raise ItemError(
            f"{source_time!r} is null in every row of $.{records}, and the route calls it source_time",
            path=f"$.{records}",
        )
    return newest


# From here on seconds are the year 5138: it is milliseconds that were written.
_MILLISECONDS = 1e11


def _seconds(value: object) -> int | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return int(value) if abs(value) < _MILLISECONDS else None
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


def _differences(rows: Sequence[Row], old_rows: Sequence[Row], key: str, fields: Sequence[str]) -> dict[str, int]:
    """What became of the rows that were there before, and of their values."""
    old = {row[key]: row for row in old_rows if _is_key(row.get(key))}
    if not old:
        return {}
    new = {row[key]: row for row in rows if _is_key(row.get(key))}
    both = [(old[value], row) for value, row in new.items() if value in old]
    metrics = {"removed": (len(old) - len(both)) * PPM // len(old)}
    for name in fields:
        if name == key:
            continue
        was = [row.get(name) for row in old.values()]
        pairs = [(before.get(name), now.get(name)) for before, now in both]
        texts = [(a, b) for a, b in pairs if isinstance(a, str) and isinstance(b, str)]
        numbers = [(a, b) for a, b in pairs if _is_number(a) and _is_number(b)]
        if texts:
            # Of a join that is off by one, a value is that of another row; a new date or headline is nobody's before.
            known = {value for value in was if isinstance(value, str)}
            metrics[f"changed:{name}"] = sum(a != b and b in known for a, b in texts) * PPM // len(texts)
        if numbers:
            scale = JUMP_OF_COLUMN * _spread([value for value in was if _is_number(value)])
            metrics[f"jumped:{name}"] = sum(_has_jumped(a, b, scale) for a, b in numbers) * PPM // len(numbers)
        vanished = _vanished(was, [value for value in old if value not in new], old, name)
        if vanished is not None:
            metrics[f"vanished:{name}"] = vanished
    return metrics


def _vanished(was: Sequence[object], gone: Sequence[object], old: Mapping[object, Row], name: str) -> int | None:
    """The rows of the largest group of ``name`` of which every row is gone; ``None`` where it is no field of groups."""
    sizes = Counter(value for value in was if isinstance(value, str))
    if not sizes or len(sizes) > min(MAX_GROUPS, len(was) // 2 + 1):
        return None
    lost = Counter(value for value in (old[key].get(name) for key in gone) if isinstance(value, str))
    return max((size for value, size in lost.items() if size == sizes[value]), default=0)


def _is_key(value: object) -> TypeGuard[str | int]:
    return isinstance(value, str | int)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _spread(values: Sequence[float]) -> float:
    """How far the values of a column are from its middle, as the median."""
    middle = median(values)
    return median(abs(value - middle) for value in values)


def _has_jumped(a: float, b: float, scale: float) -> bool:
    """Another sign, less than half or more than twice; or far away for this column."""
    if a == b:
        return False
    if (a <= 0 <= b) or (b <= 0 <= a) or not 0.5 <= b / a <= 2:
        return True
    return abs(b - a) > max(scale, JUMP_OF_ITSELF * abs(a)) and scale > 0
