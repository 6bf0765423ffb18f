"""Settings for all tests."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is no failure, so no deadline. In CI the same examples every time: red means that the code changed.
_slow_machine = [HealthCheck.too_slow]
settings.register_profile("dev", deadline=None, suppress_health_check=_slow_machine)
settings.register_profile("ci", deadline=None, suppress_health_check=_slow_machine, derandomize=True, print_blob=True)
settings.register_profile("thorough", deadline=None, suppress_health_check=_slow_machine, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))

# Fixtures that take seconds and serve many tests. Those tests go to one worker, so that the work is done once.
SHARED = {"servers", "prefixed_servers", "distributions"}

# Each brings a real server to a real memory limit, or times it: nothing may run beside it.
ALONE = ("tests/guard/test_fault_*.py", "tests/guard/test_trim_real.py")


@pytest.hookimpl(tryfirst=True)  # before pytest's own deselects by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test the marks that say beside which others it may run."""
    for item in items:
        for fixture in sorted(SHARED.intersection(getattr(item, "fixturenames", ())))[:1]:
            item.add_marker(pytest.mark.xdist_group(fixture))
        if item.get_closest_marker("slow") and any(item.path.match(pattern) for pattern in ALONE):
            item.add_marker(pytest.mark.serial)
