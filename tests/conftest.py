"""Settings for all tests."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# A busy machine is no failure, so no deadline. In CI the same examples every time: red means that the code changed.
_slow_machine = [HealthCheck.too_slow]
settings.register_profile("dev", deadline=None, suppress_health_check=_slow_machine)
settings.register_profile("ci", deadline=None, suppress_health_check=_slow_machine, derandomize=True, print_blob=True)
settings.register_profile("thorough", deadline=None, suppress_health_check=_slow_machine, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))
