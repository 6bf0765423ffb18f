"""A firewall before the site lets the warming client pass by its user agent."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hotpath.errors import DeclarationError
from hotpath.ops.warm import warm
from tests.ops.local import Answered, Asked, Server


def firewall(asked: Asked) -> Answered:
    return Answered(200 if asked.headers["user-agent"] == "our check" else 403)


def test_the_user_agent_is_ours_to_choose() -> None:
    with Server(firewall) as server:
        (refused,) = warm([server.url + "/"], deadline_seconds=0.5)
        assert (refused.status, refused.is_warm) == (403, False)
        (page,) = warm([server.url + "/"], deadline_seconds=5, user_agent="our check")
        assert page.is_warm


@pytest.mark.slow
def test_the_command_takes_it_too() -> None:
    with Server(firewall) as server:
        command = [sys.executable, "-m", "hotpath", "warm", server.url + "/", "--deadline", "5s"]
        done = subprocess.run([*command, "--user-agent", "our check"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "1 of 1 warm")


@pytest.mark.parametrize("user_agent", ["", " ", "a\r\nb", "ü"])
def test_what_no_field_may_hold_is_refused(user_agent: str) -> None:
    with pytest.raises(DeclarationError, match="printable ASCII"):
        warm(["http://127.0.0.1:1/"], user_agent=user_agent)
