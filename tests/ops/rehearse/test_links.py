"""Links of a page: to the own site only, in HTML, sitemaps and JSON."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotpath.ops.rehearse.links import links


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'<a href="/a">', ["/a"]),
        (b"<a href='b?x=1&amp;y=2'>", ["/dir/b?x=1&y=2"]),
        (b"<img src=/c.png>", ["/c.png"]),
        (b'<a href="https://other.example/x">', []),
        (b'<a href="//other.example/x">', []),
        (b'<a href="http://own.example/x#y">', ["/x"]),
        (b"<loc>https://public.example/s</loc>", ["/s"]),
        (b'{"url": "/json/1", "text": "a / b"}', ["/json/1"]),
        (b'<a href="mailto:a@b"><a href="javascript:x()"><a href="#top">', ["/dir/page"]),
    ],
)
def test_links_are_of_this_site(body: bytes, expected: list[str]) -> None:
    assert list(links(body, "/dir/page", "own.example")) == expected


@given(st.binary(max_size=300))
def test_no_body_breaks_it(body: bytes) -> None:
    assert all(link.startswith("/") for link in links(b'<a href="' + body + b'">', "/", "own.example"))
