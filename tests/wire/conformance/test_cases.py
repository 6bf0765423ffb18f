"""Every row of ``cases.py`` through the middleware and through the decision below it, and that no line is forgotten."""

from __future__ import annotations

import ast
import asyncio
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from hotpath.pages.keys import strip_root_path
from hotpath.serving import reader_of
from hotpath.serving.resolver import Miss, resolve
from hotpath.serving.snapshot import Answer
from hotpath.testing import Response
from tests.wire.conformance.cases import APP, CASES, LINES, Case
from tests.wire.conformance.judge import check, page_of
from tests.wire.conformance.site import Site, ask, make_scope, parse_fields, tags_of

# For one head of the largest size that servers let through, on a busy machine. A server that answers slower than this
# is one that a single client can hold up; quadratic work on 64 KiB takes minutes.
SECONDS_FOR_ANY_HEAD = 0.5


def answer_to(case: Case, site: Site) -> Response:
    item = site.items.get(page_of(case))
    headers = parse_fields(case.fields, tags_of(item) if item else {})
    return asyncio.run(ask(site.app, make_scope(case.method, case.target, headers, case.scope)))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_row(case: Case, sites: Mapping[str, Site]) -> None:
    site = sites[case.site]
    answer = answer_to(case, site)
    check(case, answer, site)


# A door in a server's protocol class always has the bytes of the path.
WITH_RAW_PATH = [case for case in CASES if make_scope(case.method, case.target, [], case.scope).get("raw_path")]


@pytest.mark.parametrize("case", WITH_RAW_PATH, ids=lambda case: case.id)
def test_the_decision_below_asgi_is_the_same(case: Case, sites: Mapping[str, Site]) -> None:
    """A door in a server's protocol class asks with raw bytes: same answer, without a scope."""
    site = sites[case.site]
    scope = make_scope(case.method, case.target, [], case.scope)
    item = site.items.get(page_of(case))
    headers = parse_fields(case.fields, tags_of(item) if item else {})
    root_path = (scope.get("root_path") or "").replace("%", "%25").replace(" ", "%20").encode("ascii")
    raw_path = strip_root_path(scope["raw_path"], root_path)
    found = resolve(reader_of(site.hot).snapshot, case.method, raw_path, scope["query_string"], headers)
    through = answer_to(case, site)
    if case.status == APP:
        assert isinstance(found, Miss)
        return
    assert isinstance(found, Answer)
    assert (found.status, found.headers + found.freshness.headers) == (through.status, through.headers)
    assert found.body == through.body


@pytest.mark.parametrize("case", [case for case in CASES if case.line == 22], ids=lambda case: case.id)
def test_an_unkeyed_field_gives_the_very_answer_of_none(case: Case, sites: Mapping[str, Site]) -> None:
    """RFC 9111 §4.1: what is not in Vary must not matter."""
    plain = Case(22, "9111 4.1", "nothing", case.target)
    if case.status == 200 and not case.expect:
        assert answer_to(case, sites["plain"]) == answer_to(plain, sites["plain"])


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if sum(map(len, case.fields)) + len(case.target) > 4096 or len(case.fields) > 500],
    ids=lambda case: case.id,
)
def test_a_large_head_is_answered_in_bounded_time(case: Case, sites: Mapping[str, Site]) -> None:
    """RFC 9110 §17.5: what a recipient does for a field must not grow faster than the field."""
    best = SECONDS_FOR_ANY_HEAD + 1
    for _ in range(3):  # the best of three: somebody else's burst on this machine is no fault
        before = time.perf_counter()
        answer_to(case, sites[case.site])
        best = min(best, time.perf_counter() - before)
        if best <= SECONDS_FOR_ANY_HEAD:
            return
    pytest.fail(f"{best:.2f} s")


def test_head_says_what_get_says(sites: Mapping[str, Site]) -> None:
    """§9.3.2: the same fields as GET, for every row that HEAD does not answer otherwise by rule (§14.2)."""
    count = 0
    for case in CASES:
        has_range = any(line.lower().startswith("range:") for line in case.fields)
        if case.method != "GET" or case.status == APP or has_range:
            continue
        site = sites[case.site]
        item = site.items.get(page_of(case))
        headers = parse_fields(case.fields, tags_of(item) if item else {})
        get = asyncio.run(ask(site.app, make_scope("GET", case.target, headers, case.scope)))
        head = asyncio.run(ask(site.app, make_scope("HEAD", case.target, headers, case.scope)))
        assert (head.status, head.headers, head.body) == (get.status, get.headers, b""), case.id
        count += 1
    assert count > 100


def test_the_rows_are_told_apart() -> None:
    ids = [case.id for case in CASES]
    assert sorted({name for name in ids if ids.count(name) > 1}) == []


def scenario_lines() -> set[int]:
    """The lines that a function of ``test_scenarios.py`` has in its name."""
    tree = ast.parse((Path(__file__).parent / "test_scenarios.py").read_text("utf-8"))
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    return {int(name.split("_")[2]) for name in names if name.startswith("test_line_")}


def test_every_line_has_a_test() -> None:
    """A line that loses its last test fails here."""
    assert sorted(LINES) == list(range(1, 40))
    covered = {case.line for case in CASES} | scenario_lines()
    assert covered == set(LINES)


def test_every_row_names_its_section() -> None:
    for case in CASES:
        document, _, section = case.section.rpartition(" ")
        assert document in ("", "3986", "9111", "9112", "9211", "9213") or case.section == "ASGI"
        assert section == "ASGI" or all(part.isdigit() for part in section.split("."))


def test_the_lines_stand_in_the_reference() -> None:
    text = (Path(__file__).parents[3] / "docs" / "reference" / "http.md").read_text("utf-8")
    for line in LINES:
        assert f"\n| {line} | " in text, f"docs/reference/http.md has no row for line {line}"
