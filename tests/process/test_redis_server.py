"""Addresses of Valkey and Redis in texts: never with what is secret in them."""

from __future__ import annotations

import pytest

from hotpath.errors import DeclarationError
from hotpath.process.redis_server import check_address, redacted


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("redis://me:geheim@127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("rediss://127.0.0.1/0?password=geheim", "rediss://127.0.0.1/0"),
        ("unix:///run/redis.sock?password=geheim", "unix:///run/redis.sock"),
        ("redis://me:ge/geheim@127.0.0.1:6379/0", "redis://…"),
        ("redis://me:geheim?x@127.0.0.1:6379/0", "redis://…"),
        ("redis://me:geheim#x@127.0.0.1:6379/0", "redis://…"),
        ("redis://127.0.0.1/0?password=a@geheim", "redis://…"),
        ("redis://me:geheim@[::1/0", "…"),
    ],
)
def test_what_is_shown_of_an_address(url: str, shown: str) -> None:
    assert redacted(url) == shown


@pytest.mark.parametrize("end", ["/", "?", "#", "/x?"])
def test_a_password_that_ends_the_host_is_not_in_the_error(end: str) -> None:
    with pytest.raises(DeclarationError) as refused:
        check_address(f"redis://me:geheim{end}geheim@127.0.0.1:6379/0", "a server of hints")
    assert "geheim" not in str(refused.value)
