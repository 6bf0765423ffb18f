"""Every template is filled in whole, and an empty value takes its line with it."""

from __future__ import annotations

import re
from importlib import resources

import pytest

from hotpath.ops.render.template import commented, fill


def test_a_line_with_an_empty_value_is_left_out() -> None:
    values = dict.fromkeys(("head", "name", "user", "mail", "build", "check_minute", "check_hour", "check"), "x")
    assert "\nx\n" in fill("cron", values)
    shorter = fill("cron", {**values, "build": ""})
    assert len(shorter.splitlines()) == len(fill("cron", values).splitlines()) - 1


def test_a_name_without_a_value_is_an_error() -> None:
    with pytest.raises(KeyError):
        fill("cron", {"head": ""})


def test_a_value_is_not_filled_in_itself() -> None:
    assert "<<user>>" in fill("logrotate", {"head": "# <<user>>", "name": "x"})


def test_names_in_templates_are_plain() -> None:
    templates = resources.files("hotpath.ops.render") / "templates"
    texts = [path.read_text() for path in templates.iterdir() if path.is_file()]
    assert texts
    assert not [text for text in texts if re.search(r"(?<!<)<<(?!<?[a-z_]+>>)", text)]


def test_comments_have_no_blanks_at_their_ends() -> None:
    assert commented(["a", "", "b"]) == "# a\n#\n# b"
    assert commented(["a"], "//") == "// a"
