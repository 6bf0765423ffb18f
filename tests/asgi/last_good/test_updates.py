"""Which URLs an unsafe request makes invalid: its own, and those of the same origin that the answer names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotpath.asgi.last_good.updates import invalidated

OWN = b"http://example.org/make"


@pytest.mark.parametrize(
    ("location", "other"),
    [
        (b"/other", b"http://example.org/other"),
        (b"other?x=1#part", b"http://example.org/other?x=1"),
        (b"http://EXAMPLE.org:80/other", b"http://example.org/other"),
        (b"//example.org", b"http://example.org/"),
        (b"/make", None),
        (b"https://example.org/other", None),
        (b"http://example.com/other", None),
        (b"http://example.org:8080/other", None),
        (b"//evil.example/other", None),
        (b"http://user@example.org/other", None),
        (b"http://[bad/other", None),
        (b"\xff\x00", b"http://example.org/\xff\x00"),
    ],
)
def test_only_urls_of_the_same_origin(location: bytes, other: bytes | None) -> None:
    expected = [OWN] if other is None else [OWN, other]
    for name in (b"location", b"content-location"):
        assert invalidated("POST", 201, OWN + b"\nx-forwarded-proto: https", [(name, location)]) == expected


@given(st.binary(max_size=60))
def test_no_location_raises_or_leads_elsewhere(location: bytes) -> None:
    for url in invalidated("POST", 200, OWN, [(b"location", location)]):
        assert url.startswith(b"http://example.org/")
