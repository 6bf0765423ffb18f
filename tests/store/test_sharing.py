"""Which address of an origin and of hints holds, and that wrong ones are refused without what is secret in them."""

from __future__ import annotations

import pytest

from hotpath.errors import DeclarationError
from hotpath.site import Hotpath
from hotpath.store.sharing import Sharing

DECLARED = Sharing("s3://declared/site", "redis://declared/0")
ENVIRON = {"HOTPATH_ORIGIN": "s3://environment/site", "HOTPATH_HINTS": "redis://environment/0", "HOTPATH_NAME": "web-1"}


@pytest.mark.parametrize(
    ("option", "environ", "declared", "holds"),
    [
        ("s3://option/site", ENVIRON, DECLARED, "s3://option/site"),
        (None, ENVIRON, DECLARED, "s3://environment/site"),
        (None, {}, DECLARED, "s3://declared/site"),
        (None, {}, Sharing(), None),
        ("", {"HOTPATH_ORIGIN": ""}, DECLARED, "s3://declared/site"),
        ("off", ENVIRON, DECLARED, None),
        (None, {"HOTPATH_ORIGIN": "off"}, DECLARED, None),
        ("s3://option/site", {"HOTPATH_ORIGIN": "off"}, DECLARED, "s3://option/site"),
        (None, ENVIRON, Sharing("off"), "s3://environment/site"),
        (None, {}, Sharing("off"), None),
    ],
)
def test_an_option_wins_over_the_environment_and_that_over_the_declaration(
    option: str | None, environ: dict[str, str], declared: Sharing, holds: str | None
) -> None:
    assert declared.effective(option, environ=environ).origin == holds
    hints = option and option.replace("s3://option/site", "redis://option/0")
    expected = holds and holds.replace("s3://", "redis://").replace("/site", "/0")
    environ = {"HOTPATH_HINTS": environ["HOTPATH_ORIGIN"]} if environ.get("HOTPATH_ORIGIN") in ("", "off") else environ
    declared = Sharing(hints="off") if declared == Sharing("off") else declared
    assert declared.effective(None, hints, environ=environ).hints == expected


def test_the_name_of_the_machine_is_in_the_environment() -> None:
    assert DECLARED.effective(environ=ENVIRON).name == "web-1"
    assert DECLARED.effective(environ={}).name is None


def test_slashes_at_the_end_are_not_another_origin() -> None:
    assert Sharing("s3://bucket/site//").origin == Sharing("s3://bucket/site").origin == "s3://bucket/site"


@pytest.mark.parametrize(
    ("origin", "hints", "problem"),
    [
        ("bucket/site", None, "the origin begins with"),
        ("s3://", None, "names no bucket"),
        ("s3://bucket/site?endpoint_url=http://10.0.0.1:9000", None, "has no TLS"),
        ("s3://key:hush@bucket/site", None, "holds a key or a secret"),
        ("s3://bucket/site?aws_secret_access_key=hush", None, "holds a key or a secret"),
        (7, None, "origin=7: write its URL"),
        (None, "localhost:6379", "is no address of a server of hints"),
        (None, "redis://:hush@", "is no whole address of a server of hints"),
        (None, "redis://:hush@host:port/0", "is no whole address of a server of hints"),
        (None, "http://:hush@host/0", "is no address of a server of hints"),
        (None, 6379, "is no address of a server of hints"),
    ],
)
def test_a_wrong_address_fails_where_it_is_declared(origin: str | None, hints: str | None, problem: str) -> None:
    with pytest.raises(DeclarationError, match=problem) as failure:
        Hotpath("var/hot", origin=origin, hints=hints)
    assert "hush" not in str(failure.value)


def test_the_password_of_hints_is_not_shown() -> None:
    assert "hush" not in repr(Sharing("s3://bucket/site", "redis://:hush@host/0"))
