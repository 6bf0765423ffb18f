"""The batch: run what is declared, turn it into bytes, publish all of it or nothing."""

from __future__ import annotations

import asyncio
import inspect
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from hotpath.errors import BuildFailed, ItemError
from hotpath.payload import encode_payload, is_json
from hotpath.publish import Published, staging
from hotpath.routes import PlannedItem
from hotpath.site import Hotpath


class Progress(Protocol):
    """Told of every item as it is done; for a progress bar, lines in cron, or nothing."""

    def start(self, total: int) -> None: ...

    def done(self, key: str, error: ItemError | None, length: int) -> None:
        """``length`` is the body in bytes, 0 where ``error`` says what went wrong."""

    def finish(self) -> None: ...


class Silent:
    """No progress at all."""

    def start(self, total: int) -> None:
        return None

    def done(self, key: str, error: ItemError | None, length: int) -> None:
        return None

    def finish(self) -> None:
        return None


@dataclass(frozen=True, slots=True)
class Report:
    """What a build did. ``seconds`` is wall time from the first function to the published pointer."""

    published: Published
    seconds: float

    def as_dict(self) -> dict[str, object]:
        """For ``--json``."""
        return {
            "generation": self.published.sequence,
            "items": self.published.items,
            "unchanged": self.published.unchanged,
            "bytes": self.published.bytes,
            "seconds": round(self.seconds, 3),
            "warnings": list(self.published.warnings),
        }


def build(hot: Hotpath, progress: Progress | None = None) -> Report:
    """Run every item of ``hot`` and publish the results as one generation.

    All items are run, also after one failed, so that one run names every failure. Raises ``DeclarationError`` before
    anything is run, ``BuildFailed`` when an item failed (nothing is published), ``StoreBusy`` and ``StoreError``.
    """
    progress = progress or Silent()
    planned = hot.plan()
    started = time.monotonic()
    failures: list[ItemError] = []
    with staging(hot.store) as stage, asyncio.Runner() as runner, _finishing(progress):
        progress.start(len(planned))
        for item in planned:
            try:
                body, metrics = _run(item, runner)
                stage.add(item.key, item.file, body, item.route.policy, metrics)
            except ItemError as error:
                failures.append(error)
                progress.done(item.key, error, 0)
            else:
                progress.done(item.key, None, len(body))
        if failures:
            raise BuildFailed(failures, len(planned))
        published = stage.publish()
    return Report(published, time.monotonic() - started)


@contextmanager
def _finishing(progress: Progress) -> Iterator[None]:
    """Leave the terminal in order, whatever ends the run."""
    try:
        yield
    finally:
        progress.finish()


def _run(item: PlannedItem, runner: asyncio.Runner) -> tuple[bytes, Mapping[str, int] | None]:
    """The body of one item. Whatever the function raises becomes an ``ItemError`` that names the item and the line."""
    route = item.route
    try:
        value = route.function(**item.arguments)
        if inspect.isawaitable(value):
            value = runner.run(_await(value))
        body = encode_payload(value, route.policy.media_type)
        return body, _count(value, item) if is_json(route.policy.media_type) else None
    except ItemError as error:
        raise ItemError(error.problem, key=item.key, where=error.where or route.where, path=error.path) from None
    except Exception as error:
        # Any function of the user's may raise anything; the run has to go on and say which item it was.
        where, line = _last_line(error)
        told = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise ItemError(f"{told} at {where}" + (f" ({line})" if line else ""), key=item.key, where=where) from error


async def _await(value: Any) -> Any:
    return await value


def _last_line(error: BaseException) -> tuple[str, str]:
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return "an unknown line", ""
    own = [frame for frame in frames if "site-packages" not in frame.filename and frame.filename != __file__]
    frame = (own or frames)[-1]
    return f"{frame.filename}:{frame.lineno}", (frame.line or "").strip()


def _count(value: Any, item: PlannedItem) -> Mapping[str, int] | None:
    """How many rows the payload has, where the route says where they are; and that no required field is null."""
    records = item.route.expects.records
    if records is None:
        return None
    rows = value.get(records) if isinstance(value, Mapping) else None
    if not isinstance(rows, list | tuple):
        found = sorted(map(str, value)) if isinstance(value, Mapping) else f"a {type(value).__name__}"
        raise ItemError(f"records={records!r} is no list in the payload, which has {found}", path=f"$.{records}")
    for index, row in enumerate(rows):
        for field in item.route.expects.required:
            if not isinstance(row, Mapping) or row.get(field) is None:
                path = f"$.{records}[{index}].{field}"
                raise ItemError(f"{path} is null or missing, and the route says required={field!r}", path=path)
    return {"rows": len(rows)}
