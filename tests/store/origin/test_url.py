"""The URL of an origin: what it may say, what it may not hold, and nothing secret in any text."""

from __future__ import annotations

import pytest

from hotpath.errors import DeclarationError
from hotpath.store.origin import Origin
from hotpath.store.origin.url import OriginUrl
from tests.store.origin.fake import FakeObjects


@pytest.mark.parametrize(
    ("url", "shown", "prefix"),
    [
        ("s3://bucket/site", "s3://bucket/site", "site"),
        ("s3://bucket", "s3://bucket", ""),
        ("s3://bucket/", "s3://bucket", ""),
        ("s3://bucket//a//b//", "s3://bucket/a/b", "a/b"),
        ("gs://bucket/site/", "gs://bucket/site", "site"),
        ("az://account/container/site", "az://account/container/site", "container/site"),
        ("file:///srv/shared/", "file:///srv/shared", "srv/shared"),
        (
            "s3://bucket/site/?endpoint_url=https://s3.example.com:9000&region=eu-west-1",
            "s3://bucket/site?endpoint_url=https://s3.example.com:9000&region=eu-west-1",
            "site",
        ),
        (
            "s3://bucket/site?endpoint_url=http://127.0.0.1:8333&allow_http=true",
            "s3://bucket/site?endpoint_url=http://127.0.0.1:8333&allow_http=true",
            "site",
        ),
    ],
)
def test_what_it_says(url: str, shown: str, prefix: str) -> None:
    parsed = OriginUrl.parse(url)
    assert (str(parsed), parsed.prefix) == (shown, prefix)
    assert OriginUrl.parse(shown) == parsed


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIAEXAMPLE:geheim@bucket/site",
        "s3://geheim@bucket/site",
        "s3://bucket/site?access_key_id=geheim",
        "s3://bucket/site?aws_secret_access_key=geheim",
        "s3://bucket/site?session_token=geheim",
        "az://account/container?account_key=geheim",
        "az://account/container?sig=geheim&se=2030",
        "s3://bucket/site?endpoint_url=https://me:geheim@s3.example.com",
        "s3://bucket/site?endpoint_url=https://s3.example.com/?token=geheim",
        "s3://AKIAEXAMPLE:ge/geheim@bucket/site",
        "s3://AKIAEXAMPLE:ge?geheim@bucket/site",
        "s3://AKIAEXAMPLE:ge#geheim@bucket/site",
        "s3://bucket/site?endpoint_url=https://me:12/geheim@s3.example.com",
        "s3://bucket/site?endpoint_url=https://me:12%2Fgeheim%40s3.example.com",
        "s3://bucket/site?geheim",
        "s3://[geheim/site",
    ],
)
def test_a_secret_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(DeclarationError) as refused:
        OriginUrl.parse(url)
    assert "geheim" not in str(refused.value)
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://bucket/site", "begins with 'http://'"),
        ("/srv/shared", "begins with '://'"),
        ("", "write s3://bucket/site"),
        ("s3:///site", "names no bucket"),
        ("file://host/srv", "names no directory"),
        ("file:///", "names no directory"),
        ("s3://bucket/a/../b", "has '.', '..' or '#'"),
        ("s3://bucket/a#b", "has '.', '..' or '#'"),
        ("s3://bucket/a?regoin=eu", "'regoin'; there are: endpoint_url, region"),
        ("s3://bucket/a?allow_http=yes", "'allow_http'"),
        ("s3://bucket/a?endpoint_url=s3.example.com", "write endpoint_url=https://host:port"),
        ("s3://bucket/a?endpoint_url=http://s3.example.com", "add &allow_http=true"),
    ],
)
def test_what_it_may_not_say(url: str, problem: str) -> None:
    with pytest.raises(DeclarationError) as refused:
        OriginUrl.parse(url)
    assert problem in str(refused.value)


def test_an_origin_shows_itself_by_its_url() -> None:
    origin = Origin("s3://bucket/site/", objects=FakeObjects())
    assert (str(origin), repr(origin)) == ("s3://bucket/site", "Origin('s3://bucket/site')")
