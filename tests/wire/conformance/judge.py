"""Whether an answer is the one that its row asks for; the same whether it came by a call or over a socket."""

from __future__ import annotations

from hotpath.testing import Response
from tests.wire.conformance.cases import APP, PAGES, Case
from tests.wire.conformance.site import DECODE, Site, fill, tags_of, wire_faults


def page_of(case: Case) -> str:
    return case.page or (case.target if case.target in PAGES else case.target.partition("?")[0])


def check(case: Case, answer: Response, site: Site) -> None:
    """Status, fields, framing and body."""
    assert answer.status == case.status
    if case.status == APP:
        assert (answer.headers, answer.body) == ([(b"x-app", b"1")], b"app"), "the app's answer is touched"
        return
    assert wire_faults(case.method, answer) == []
    page = page_of(case)
    tags = tags_of(site.items[page]) if page in site.items else {}
    for name, value in case.expect.items():
        assert answer.header(name) == (None if value is None else fill(value, tags)), name
    if case.method == "HEAD":
        return
    if case.status in (304, 308, 406, 412, 416):
        assert answer.body == b""
        return
    require_body(case, answer, site, PAGES[page].body)


def require_body(case: Case, answer: Response, site: Site, identity: bytes) -> None:
    coding = answer.header("content-encoding") or "identity"
    if isinstance(case.body, tuple):
        start, stop = case.body
        assert coding == "identity"
        assert answer.body == identity[start : stop if stop >= 0 else len(identity)]
        last = (stop if stop >= 0 else len(identity)) - 1
        assert answer.header("content-range") == f"bytes {start}-{last}/{len(identity)}"
        return
    may_be_coded = any(line.startswith("Accept-Encoding:") for line in case.fields)
    expected = case.body or (coding if may_be_coded else "identity")
    if expected.startswith("smallest:"):
        sizes = {name: site.length(page_of(case), name) for name in expected.removeprefix("smallest:").split(",")}
        assert len(set(sizes.values())) == len(sizes), "the row says nothing when two are of one size"
        expected = min(sizes, key=lambda name: sizes[name])
    assert coding == expected
    assert DECODE[coding](answer.body) == identity
