"""``history.jsonl``: a line for each change of what is served, the oldest first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from hotpath.store.store import Store


def read_history(store: Store) -> Iterator[dict[str, Any]]:
    """Every event that can be read; lines torn by a kill or a full disk are passed over.

    Raises ``OSError`` or ``StoreError`` where the file cannot be read; none is an empty history.
    """
    try:
        lines = store.disk.read(store.history_path).splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        try:
            event = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(event, dict):
            yield event
