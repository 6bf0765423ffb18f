"""``--site-copy`` where it cannot work says so before anything is built."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from hotpath.cli.commands import main
from hotpath.errors import DeclarationError
from hotpath.site import Hotpath

SITE = 'from hotpath import Hotpath\nhot = Hotpath("hot")\nhot.route("/a")(lambda: [1])\n'


@pytest.mark.parametrize("command", ["build", "push"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "--site-copy keeps pages at an origin, and there is none; give --origin s3://bucket/site"),
        (("--origin", "file:///tmp/share"), "which files have not; use s3://…, gs://… or az://…"),
    ],
)
def test_it_needs_a_bucket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, options: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HOTPATH_ORIGIN", raising=False)
    (tmp_path / "copied_site.py").write_text(SITE)
    monkeypatch.syspath_prepend(tmp_path)
    result = CliRunner().invoke(main, [command, "copied_site:hot", "--site-copy", *options])
    assert result.exit_code == 2
    assert message in result.output
    assert not (tmp_path / "hot" / "CURRENT").exists()


def test_a_declaration_that_cannot_work_is_refused() -> None:
    with pytest.raises(DeclarationError, match="which files have not"):
        Hotpath("hot", origin="file:///tmp/share", site_copy=True)


def test_a_declaration_without_an_origin_waits_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOTPATH_ORIGIN", raising=False)
    assert Hotpath("hot", site_copy=True).sharing.effective().site_copy
    monkeypatch.setenv("HOTPATH_ORIGIN", "s3://bucket/site")
    assert Hotpath("hot", site_copy=True).sharing.effective().origin == "s3://bucket/site"
