"""Text of the user's in other programs' files. That these programs read it so is in the tests of each."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from hotpath.errors import DeclarationError
from hotpath.ops.render import escape


@pytest.mark.parametrize(
    ("rule", "text", "expected"),
    [
        (escape.systemd, "/srv/site", "/srv/site"),
        (escape.systemd, "/a b", '"/a b"'),
        (escape.systemd, '/50% "of" \\it', '"/50%% \\"of\\" \\\\it"'),
        (escape.systemd_argument, "a\n%", '"a\\n%%"'),
        (escape.systemd, "/$HOME", '"/$HOME"'),
        (escape.systemd, "", '""'),
        (escape.systemd_argument, "\x01", '"\\x01"'),
        (escape.systemd_argument, "/$HOME", '"/$$HOME"'),
        (escape.systemd_line, '/a b%"', '/a b%%"'),
        (escape.cron, "date +%s", "date +\\%s"),
        (escape.cron, "a\\b\\%", "a\\\\b\\\\\\%"),
        (escape.nginx, 'a"b\\c', '"a\\"b\\\\c"'),
        (escape.caddy, "a 'b\"\n$c", "`a 'b\"\n$c`"),
        (escape.vcl, "a b", '"a b"'),
        (escape.vcl, 'a"b', '{"a"b"}'),
        (escape.yaml, 'a: "b"\n', '"a: \\"b\\"\\n"'),
        (escape.xml, 'a<b>&"', "a&lt;b&gt;&amp;&quot;"),
        (escape.shell, "a 'b'", "'a '\"'\"'b'\"'\"''"),
    ],
)
def test_it_is_written_by_the_rules(rule: Callable[[str], str], text: str, expected: str) -> None:
    assert rule(text) == expected


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (escape.systemd, "/a\nb"),
        (escape.systemd_line, "/a\nb"),
        (escape.systemd_line, "/a "),
        (escape.systemd_line, "/a\\"),
        (escape.cron, "a\nb"),
        (escape.nginx, "/$x"),
        (escape.nginx, "/a\nb"),
        (escape.caddy, "/a`b"),
        (escape.caddy, "/{a}"),
        (escape.caddy, "/a*"),
        (escape.caddy, "/a\\b"),
        (escape.vcl, "/a\nb"),
        (escape.vcl, 'a"}b'),
        (escape.xml, "\x01"),
    ],
)
def test_what_a_file_cannot_hold_is_refused_in_one_line(rule: Callable[[str], str], text: str) -> None:
    with pytest.raises(DeclarationError) as refused:
        rule(text)
    assert "\n" not in str(refused.value)


def test_json_is_stable() -> None:
    value = {"b": [1], "a": "ü"}
    assert json.loads(escape.json_text(value)) == value
    assert escape.json_text(value).endswith('"a": "ü"\n}\n')
