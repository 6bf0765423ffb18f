"""What becomes markup, and what stays text."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotpath.dashboard.markup import Markup, table, tag, text


class Tags(HTMLParser):
    """The tags and the text of a document."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.text = ""
        self.feed(document)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, attrs))

    def handle_data(self, data: str) -> None:
        self.text += data


@given(st.text(st.characters(exclude_categories=()), max_size=200))
def test_whatever_text_is_given_no_tag_and_no_attribute_comes_of_it(value: str) -> None:
    made = Tags(tag("p", value, title=value))
    assert [(name, [key for key, _ in attrs]) for name, attrs in made.tags] == [("p", ["title"])]
    made_text = tag("p", value)
    made_text.encode("utf-8")
    assert "\u202e" not in made_text


def test_an_attribute_is_left_out_bare_or_named_as_html_has_it() -> None:
    assert (
        tag("p", class_="a b", data_x=1, hidden=True, role=None, open=False) == '<p class="a b" data-x="1" hidden></p>'
    )


@pytest.mark.parametrize(("children", "inside"), [((Markup("<b>"), "<b>"), "<b>&lt;b&gt;"), ((None, [1, ["x"]]), "1x")])
def test_markup_stays_and_text_is_escaped(children: tuple[object, ...], inside: str) -> None:
    assert tag("p", *children) == f"<p>{inside}</p>"  # type: ignore[arg-type]


def test_a_long_text_is_cut_and_says_so() -> None:
    assert text("A" * 10_000) == "A" * 600 + "… (9,400 more characters)"


def test_a_table_names_its_rows_and_can_be_scrolled_by_keyboard() -> None:
    made = table(["Key", "Bytes"], [["/a", "1"]], "Pages")
    assert '<th scope="row">/a</th><td>1</td>' in made
    assert made.startswith('<div class="scroll" tabindex="0" role="region" aria-label="Table: Pages">')
