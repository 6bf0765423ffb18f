"""Which request matters how much."""

from __future__ import annotations

from typing import Any

import pytest

from hotpath.errors import DeclarationError
from hotpath.guard.priorities import Priorities, Priority
from tests.guard.fakes import http

P0, P1, P2, P3 = Priority


@pytest.mark.parametrize(
    ("method", "path", "priority"),
    [
        ("GET", "/livez", P0),
        ("HEAD", "/healthz", P0),
        ("GET", "/metrics", P0),
        ("GET", "/metrics/", P0),
        ("GET", "/robots.txt", P0),
        ("GET", "/.well-known/acme-challenge/token", P0),
        ("POST", "/robots.txt", P3),
        ("GET", "/readyz", P1),
        ("GET", "/livez/deep", P2),
        ("GET", "/", P2),
        ("OPTIONS", "/form", P2),
        ("POST", "/form", P3),
        ("DELETE", "/form", P3),
        ("PROPFIND", "/", P3),
    ],
)
def test_without_rules(method: str, path: str, priority: Priority) -> None:
    assert Priorities().of(http(path, method)) is priority


def test_patterns_go_before_the_defaults_the_first_that_matches() -> None:
    rules = Priorities({"POST /login": 1, "/login": 2, "/export/*": P3, "/export/small": 1, "/metrics": 2})
    found = [
        rules.of(http(path, method))
        for path, method in (
            ("/login", "POST"),
            ("/login", "PUT"),
            ("/export/big", "GET"),
            ("/export/small", "GET"),
            ("/metrics", "GET"),
            ("/exports", "GET"),
        )
    ]
    assert found == [P1, P2, P3, P3, P2, P2]


def test_a_function_and_where_it_has_no_opinion() -> None:
    def choose(scope: Any) -> int | None:
        return 3 if any(name == b"x-batch" for name, _ in scope["headers"]) else None

    rules = Priorities(choose)
    assert rules.of(http("/", "GET", (b"x-batch", b"1"))) is P3
    assert rules.of(http("/robots.txt")) is P0


def test_a_mount_point_is_no_part_of_the_path() -> None:
    assert Priorities().of(http("/api/livez", root_path="/api")) is P0
    assert Priorities().of(http("/apilivez", root_path="/api")) is P2


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({"export": 3}, "is no pattern"),
        ({"/a*/b": 3}, "is no pattern"),
        ({"post /a": 3}, "is no pattern"),
        ({3: "/a"}, "is no pattern"),
        ({"/a": 4}, "Priority.P0 to Priority.P3"),
        ({"/a": True}, "Priority.P0 to Priority.P3"),
        ([("/a", 1)], "a dict of patterns, or a function"),
    ],
)
def test_rules_that_cannot_work_are_refused(rules: Any, said: str) -> None:
    with pytest.raises(DeclarationError, match=said):
        Priorities(rules)
