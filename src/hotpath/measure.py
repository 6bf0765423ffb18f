"""What a payload holds, in numbers, and the rules that hold without looking at any other night."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hotpath.errors import ItemError

Metrics = Mapping[str, int]


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
    """The metrics of one payload. Raises ``ItemError`` that names the place where a rule is broken."""
    if records is None:
        return {}
    rows = payload.get(records) if isinstance(payload, Mapping) else None
    if not isinstance(rows, list):
        found = sorted(map(str, payload)) if isinstance(payload, Mapping) else f"a {type(payload).__name__}"
        raise ItemError(f"records={records!r} is no list in the payload, which has {found}", path=f"$.{records}")
    if len(rows) < min_rows:
        raise ItemError(
            f"$.{records} has {len(rows)} rows, expected at least {min_rows}"
            + ("; write min_rows=0 where none is right" if not rows else ""),
            path=f"$.{records}",
        )
    for index, row in enumerate(rows):
        for field in required:
            if not isinstance(row, Mapping) or row.get(field) is None:
                path = f"$.{records}[{index}].{field}"
                raise ItemError(f"{path} is null or missing, and the route says required={field!r}", path=path)
    return {"rows": len(rows)}
