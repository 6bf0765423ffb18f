"""Segments that vary become a parameter; pages that a person made stay what they are; the tree is bounded."""

from __future__ import annotations

import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotpath.ops.traffic.templates import MAX_NODES, Templates


def count(paths: list[str]) -> dict[str, int]:
    templates = Templates()
    for path in paths:
        templates.tally(path.encode()).hits += 1
    return {path: tally.hits for path, tally in templates.items()}


def test_numbers_are_one_parameter_and_pages_stay() -> None:
    pages = ["/", "/about", "/prices", "/prices/today", "/terms"]
    found = count([f"/stocks/{number:06}" for number in range(500)] + pages)
    assert found == {"/stocks/{stock}": 500, **dict.fromkeys(pages, 1)}


def test_words_are_a_parameter_where_there_are_very_many() -> None:
    words = ["".join(random.Random(n).choices(string.ascii_lowercase, k=7)) for n in range(300)]
    assert count([f"/tags/{word}" for word in words]) == {"/tags/{tag}": 300}
    assert len(count([f"/{word}" for word in words[:40]])) == 40, "a site may have forty pages"


def test_files_of_one_kind_are_one_template() -> None:
    found = count([f"/images/{n}.png" for n in range(50)] + [f"/images/{n}.svg" for n in range(50)])
    assert found == {"/images/{image}.png": 50, "/images/{image}.svg": 50}


def test_what_stands_below_a_parameter_is_joined() -> None:
    found = count([f"/stocks/{n}/{page}" for n in range(40) for page in ("news", "prices")])
    assert found == {"/stocks/{stock}/news": 40, "/stocks/{stock}/prices": 40}


def test_two_parameters_have_two_names() -> None:
    found = count([f"/{a:04}/{b:04}" for a in range(30) for b in range(30)])
    ((path, hits),) = found.items()
    assert hits == 900
    first, second = path[1:].split("/")
    assert first != second
    assert all(name[1:-1].isidentifier() for name in (first, second))


@pytest.mark.slow
def test_any_nonsense_needs_bounded_memory_and_is_counted() -> None:
    source = random.Random(3)
    templates = Templates()
    for _ in range(100_000):
        path = "/".join("".join(source.choices(string.ascii_letters, k=3)) for _ in range(source.randrange(1, 6)))
        templates.tally(f"/{path}".encode()).hits += 1
    found = list(templates.items())
    assert sum(tally.hits for _, tally in found) == 100_000
    assert len(found) <= MAX_NODES * 2


@given(st.lists(st.text(max_size=12).map(lambda text: "/" + text), max_size=200))
def test_every_request_is_counted_once(paths: list[str]) -> None:
    assert sum(count(paths).values()) == len(paths)
