"""One item of a batch: from its function to measured bytes. Runs in the worker's process."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import hashlib
import inspect
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

from hotpath.batch.error_payload import had_more, may_be_error
from hotpath.batch.measure import measure
from hotpath.errors import ItemError
from hotpath.options import human_bytes
from hotpath.pages.codings import Coding, available, encode_all
from hotpath.pages.payload import Built, encode_payload, is_json
from hotpath.pages.routes import PlannedItem
from hotpath.store.manifest import Manifest


class ItemBuilder:
    """Called with an item, gives its body, its metrics, and its body in ``codings`` where it is new.

    ``files`` is where the generation ``previous`` has its files: what a row of it was is compared with what it is now.
    Without ``codings`` nothing is encoded here.
    """

    def __init__(
        self, previous: Manifest | None, files: Path | None, codings: tuple[Coding, ...] | None = None
    ) -> None:
        self._previous = previous
        self._files = files
        self._codings = codings
        self._runner: asyncio.Runner | None = None

    def __reduce__(self) -> tuple[Callable[..., ItemBuilder], tuple[object, ...]]:
        names = None if self._codings is None else tuple(coding.name for coding in self._codings)
        return _item_builder, (self._previous, self._files, names)

    def __call__(self, item: PlannedItem) -> Built:
        """Raises ``ItemError`` that names the item and the line, whatever the function raised."""
        route = item.route
        try:
            value = route.function(**item.arguments)
            if inspect.isawaitable(value):
                value = self._await(value)
            if isinstance(value, str | bytes):
                _require_size(len(value), item)  # before the whole of it is parsed
            body = encode_payload(value, route.policy.media_type)
            _require_size(len(body), item)
            metrics = self._measure(item, body) if is_json(route.policy.media_type) else None
            if route.expects.check is not None:
                _ask(route.expects.check, value)
            return Built(body, metrics, self._encode(item, body))
        except ItemError as error:
            raise ItemError(error.problem, key=item.key, where=error.where or route.where, path=error.path) from None
        except MemoryError:
            raise  # the worker says how much it was allowed
        except Exception as error:
            # Any function of the user's may raise anything; the run has to go on and say which item it was.
            where, line = _last_line(error)
            described = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            raise ItemError(
                f"{described} at {where}" + (f" ({line})" if line else ""), key=item.key, where=where
            ) from error

    def _encode(self, item: PlannedItem, body: bytes) -> Mapping[str, bytes] | None:
        if self._codings is None:
            return None
        before = self._previous.items.get(item.key) if self._previous else None
        if before is not None and before.identity.sha256 == hashlib.sha256(body).digest():
            return None  # its files are taken over
        return encode_all(body, item.route.policy.media_type, self._codings)

    def _await(self, value: Any) -> Any:
        if self._runner is None:
            self._runner = asyncio.Runner()
        # The runner's own context would carry what one item sets over to the next.
        return self._runner.run(_await(value), context=contextvars.copy_context())

    def _measure(self, item: PlannedItem, body: bytes) -> Mapping[str, int]:
        expects = item.route.expects
        # As a client will read it: a tuple is a list there, a dataclass an object.
        payload = orjson.loads(body)
        is_suspect = may_be_error(payload)
        before = self._before(item) if is_suspect or expects.records is not None else None
        metrics = measure(
            payload,
            records=expects.records,
            required=expects.required,
            row_key=expects.row_key,
            source_time=expects.source_time,
            min_rows=expects.min_rows,
            before=before,
        )
        return {**metrics, "error": 1} if is_suspect and had_more(before) else metrics

    def _before(self, item: PlannedItem) -> object | None:
        item_before = self._previous.items.get(item.key) if self._previous else None
        if item_before is None or self._files is None:
            return None
        with contextlib.suppress(OSError, ValueError):
            payload: object = orjson.loads((self._files / item_before.identity.file).read_bytes())
            return payload
        return None


def _item_builder(previous: Manifest | None, files: Path | None, codings: tuple[str, ...] | None) -> ItemBuilder:
    """One that came from another interpreter: the functions of its codings are this one's."""
    known = {coding.name: coding for coding in available()}
    return ItemBuilder(previous, files, None if codings is None else tuple(known[name] for name in codings))


def _require_size(length: int, item: PlannedItem) -> None:
    most = item.route.expects.max_bytes
    if length > most:
        raise ItemError(
            f"the body has {human_bytes(length)}, allowed are {human_bytes(most)}; make it smaller or write max_bytes="
        )


def _ask(check: Any, value: object) -> None:
    """Raise ``ItemError`` for what the user's own check has against a payload: text, False, or an exception."""
    answer = check(value)
    if answer is None or answer is True:
        return
    name = getattr(check, "__name__", "check")
    raise ItemError(f"{name} says {answer}" if answer is not False else f"{name} refuses the payload")


async def _await(value: Any) -> Any:
    return await value


def _last_line(error: BaseException) -> tuple[str, str]:
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return "an unknown line", ""
    own = [frame for frame in frames if "site-packages" not in frame.filename and frame.filename != __file__]
    frame = (own or frames)[-1]
    return f"{frame.filename}:{frame.lineno}", (frame.line or "").strip()
