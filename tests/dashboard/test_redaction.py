"""What is secret is on no page."""

from __future__ import annotations

import pytest

from hotpath.dashboard.redaction import Redaction

ENVIRON = {
    "HOTPATH_ALERT_WEBHOOK": "https://hooks.example/T0/B0/abcdef",
    "HOTPATH_ALERT_SMTP_PASSWORD": "hunter2hunter2",
    "HOTPATH_ALERT_APPRISE": "tgram://12345/abc mailtos://me:pw@example.org",
    "HOTPATH_PURGE_FASTLY_TOKEN": "fastly-secret",
    "HOTPATH_ALERT_MAIL_TO": "me@example.org",
}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("not sent: https://hooks.example/T0/B0/abcdef said 500", "not sent: *** said 500"),
        ("login failed with hunter2hunter2", "login failed with ***"),
        ("tgram://12345/abc", "***"),
        ("Fastly-Key fastly-secret", "Fastly-Key ***"),
        ("postgresql://app:s3cret@db:5432/x refused", "postgresql://***@db:5432/x refused"),
        ("GET /x?api_key=12345&page=2", "GET /x?api_key=***&page=2"),
        ("Authorization: Bearer abcdefghijkl", "Authorization: Bearer ***"),
        ('{"password": "x1y2"}', '{"password": "***"}'),
        ("mail to me@example.org", "mail to me@example.org"),
        ("https://example.org/rankings/kospi", "https://example.org/rankings/kospi"),
    ],
)
def test_secrets_are_taken_out_and_the_rest_stays(text: str, shown: str) -> None:
    assert Redaction(ENVIRON).text(text) == shown


def test_it_reaches_into_whatever_holds_text() -> None:
    held = {"a": ["hunter2hunter2", 5, None], "b": {"fastly-secret": ("x",)}}
    assert Redaction(ENVIRON)(held) == {"a": ["***", 5, None], "b": {"***": ["x"]}}
