"""One cause is one line with a count, also where each item says its own id; two causes are two."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from hotpath.batch.failures import MAX_KEYS, FailureGroups
from hotpath.batch.reports import last_run
from hotpath.batch.run import build
from hotpath.cli.progress import PlainLines
from hotpath.errors import BuildFailed, ItemError
from hotpath.ops.alerts.message import details_of
from hotpath.site import Hotpath


def counts(*problems: str, keys: list[str] | None = None) -> list[int]:
    keys = keys or [f"/r/item{n}" for n in range(len(problems))]
    failures = [ItemError(problem, key=key, where="app.py:7") for problem, key in zip(problems, keys, strict=True)]
    return [group.count for group in FailureGroups(failures).groups()]


@pytest.mark.parametrize(
    "problems",
    [
        ("no data", "no data", "no data"),
        ("no data for 1", "no data for 22"),
        ("KeyError: 'item0'", "KeyError: 'item1'"),
        ("<Row object at 0x7f01ab>", "<Row object at 0x7fffab>"),
        ("request 0f8fad5b-d9cb-469f-a165-70867728950e", "request 7c9e6679-7425-40de-944b-e07fc1f90ae7"),
        ("digest 0a1b2c3d4e", "digest ffeeddcc00"),
        ("no stock item0 of /r/item0", "no stock item1 of /r/item1"),
    ],
)
def test_one_cause_is_one_group(problems: tuple[str, ...]) -> None:
    assert counts(*problems) == [len(problems)]


@pytest.mark.parametrize(
    "problems",
    [
        ("ValueError: no data", "TypeError: no data"),
        ("Client error '404 Not Found' for url", "Server error '500 Internal Server Error' for url"),
        ("HTTP 404", "HTTP 503"),
        ("status=404", "status=500"),
    ],
)
def test_two_causes_are_two(problems: tuple[str, ...]) -> None:
    assert counts(*problems) == [1, 1]


def test_another_line_of_code_is_another_cause() -> None:
    failures = [ItemError("no data", key=f"/{n}", where=f"app.py:{n}") for n in range(2)]
    assert [group.count for group in FailureGroups(failures).groups()] == [1, 1]


def test_keys_are_not_text() -> None:
    assert counts("no data for a b/ü", "no data for c+d", keys=["/r/a%20b%2F%C3%BC", "/r/c+d"]) == [2]
    assert counts("a [b", "a [c", keys=["/r/[b?x=(", "/r/[c?x=("]) == [2]


def test_a_line_names_the_first_some_others_and_how_many() -> None:
    failures = [ItemError("no data", key=f"/r/{n}") for n in range(84)]
    (group,) = FailureGroups(failures).groups()
    assert str(group) == "/r/0: no data (83 more like it: /r/1, /r/2, /r/3, /r/4, /r/5 …)"
    assert len(group.keys) == MAX_KEYS
    assert str(*FailureGroups(failures[:1]).groups()) == "/r/0: no data"


def test_84_equal_failures_are_one_line_of_the_log_the_alert_and_the_report(tmp_path: Path) -> None:
    hot = Hotpath(tmp_path)

    @hot.route("/r/{n}", each={"n": range(90)})
    def page(n: int) -> list[int]:
        if n < 84:
            raise ValueError(f"no data for stock {n}")
        return [n]

    log = io.StringIO()
    with pytest.raises(BuildFailed) as caught:
        build(hot, PlainLines(log, quiet=True))
    first, rest = log.getvalue().splitlines()
    assert first.startswith("FAILED /r/0: ValueError: no data for stock 0 at ")
    assert rest == "FAILED as /r/0: 83 more like it: /r/1, /r/2, /r/3, /r/4, /r/5 …"
    (detail,) = details_of(caught.value)
    assert detail.endswith("(83 more like it: /r/1, /r/2, /r/3, /r/4, /r/5 …)")
    run = last_run(hot.store)
    assert run is not None
    assert [(group["key"], group["count"]) for group in run["failure_groups"]] == [("/r/0", 84)]
    assert len(run["failures"]) == 84
