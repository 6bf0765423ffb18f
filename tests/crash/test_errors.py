"""A disk that reports an error ends the publish, which says what is current now; no sync is ever done twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.bench import Bench
from tests.crash.errors import wrong_errors
from tests.crash.scenarios import SCENARIOS


@pytest.mark.parametrize("whole", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["syncfs", "fsync of each"])
def test_an_error_at_any_operation_of_a_publish(
    whole: bool, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    count, wrong = wrong_errors(Bench(SCENARIOS["publish, old ones pruned"], tmp_path), whole=whole)
    record_property("cases", count)
    print(f"{count} errors, {len(wrong)} wrong")
    assert not wrong, "\n".join(wrong)
