"""A disk that reports an error ends the publish, which says what is current now; no sync is ever done twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.store.crash.bench import Bench, quiet, seen
from tests.store.crash.errors import NEXT, wrong_errors
from tests.store.crash.operations import AFTER, BEFORE, InterruptedDisk
from tests.store.crash.scenarios import SCENARIOS, faults, litter, publish, served


def test_an_error_at_some_operations_of_a_publish(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    count, wrong = wrong_errors(Bench(SCENARIOS["publish, old ones pruned"], tmp_path), every=9)
    record_property("cases", 0)  # they are among those of the slow test
    assert count > 10
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("whole", [True, False], ids=["syncfs", "fsync of each"])
def test_an_error_at_any_operation_of_a_publish(
    whole: bool, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    count, wrong = wrong_errors(Bench(SCENARIOS["publish, old ones pruned"], tmp_path), whole=whole)
    record_property("cases", count)
    print(f"{count} errors, {len(wrong)} wrong")
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("moment", [BEFORE, AFTER])
def test_ctrl_c_at_any_operation_of_a_publish(
    moment: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """The process goes on, so what was begun has to be taken away, and the lock to be free."""
    bench = Bench(SCENARIOS["publish, old ones pruned"], tmp_path)
    record_property("cases", len(bench.trace))
    for number, operation in enumerate(bench.trace):
        root = bench.fresh()
        disk = InterruptedDisk(base=root.parent, number=number, moment=moment)
        with pytest.raises(KeyboardInterrupt):
            bench.scenario.command(bench.scenario.store(root, disk))
        assert seen(bench, root) == [], f"{moment} {number} {operation}"
        assert not list(root.glob(".stage-*")), f"{moment} {number} {operation}"
        store = bench.scenario.store(root, quiet(root.parent))
        publish(store, NEXT)
        assert (served(store), litter(store), faults(store)) == (NEXT, [], []), f"{moment} {number} {operation}"
