"""The questions of ``tests/wire/differential`` through each rendered program."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from hotpath.ops.render.facts import gather
from hotpath.pages.policy import Policy
from hotpath.store.publish import staging
from hotpath.store.store import Store
from hotpath.testing import FakeClock
from tests.ops.render.programs import served, two_ports
from tests.ops.render.web_differences import DIFFERENCES, REASONS, SOMETIMES
from tests.wire.differential.cases import CASES, MODIFIED, PAGES
from tests.wire.differential.test_nginx import ROOT, ask, difference, running


@pytest.mark.slow
@pytest.mark.parametrize("program", DIFFERENCES)
def test_the_same_answers_or_the_listed_differences(program: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    store = Store(tmp_path / "hot", clock=FakeClock(MODIFIED))
    with staging(store) as stage:
        for key, (file, media_type, body) in PAGES.items():
            stage.add(key, file, body, Policy(key, media_type, "public, max-age=60", None, 3600))
        stage.publish()
    for path in store.files_path(1).rglob("*"):
        os.utime(path, (MODIFIED, MODIFIED))
    app, front = two_ports()
    facts = gather(store, str(store.root), port=app, listen=f"127.0.0.1:{front}", hosts=("example.org",))
    environment = {**os.environ, "HOTPATH_TEST_STORE": str(store.root), "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}
    uvicorn = [sys.executable, "-m", "uvicorn", "--port", str(app), "--log-level", "error"]
    with (
        running([*uvicorn, "tests.wire.differential.app:application"], app, environment),
        served(program, facts, tmp_path, front),
    ):
        found = {case.shown: difference(ask(app, case), ask(front, case)) for case in CASES}
    listed = {shown: differs for shown, (differs, _) in DIFFERENCES[program].items()}
    for shown in SOMETIMES[program] & {shown for shown, differs in found.items() if not differs}:
        del listed[shown]
    assert {shown: differs for shown, differs in found.items() if differs} == listed


def test_every_difference_has_a_reason_and_every_reason_a_difference() -> None:
    assert {reason for found in DIFFERENCES.values() for _, reason in found.values()} == set(REASONS)
