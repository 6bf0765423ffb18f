"""The numbers by which a night is compared with the nights before."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from hotpath.errors import DeclarationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The numbers of the comparison, each with its reason. Raises ``DeclarationError`` where one cannot be right."""

    # A count may fall by this part of what is expected. A sector of eleven is 9 %; a market's daily churn is below 1 %.
    share: float = 0.05
    # … or by so many robust standard deviations: 3 is 1 night in 740 for one number, and grows with how many are asked.
    sigmas: float = 3.0
    # … or by so many rows, but never more than a third: 10 rows that become 8 are no incident, 3 that become 1 are.
    floor_rows: float = 3.0
    # A size may fall by more: shorter text is no lost row.
    bytes_share: float = 0.20
    # Shares of all rows by which each may rise. A join that is off by one changes about 90 % of a text column and four
    # fifths of a numeric one; a wild night on a market moves few prices by half.
    nulls_share: float = 0.05
    jumped_share: float = 0.20
    changed_share: float = 0.30
    removed_share: float = 0.05
    repeated_share: float = 0.01
    common_share: float = 0.30
    # Pages with the bytes of the night before, as a share of all pages.
    unchanged_share: float = 0.60
    # Pages of a site that never loses any may not lose one; but one of two hundred holds no others back.
    gone_share: float = 0.005
    # How much older the source may be than it ever was on such a weekday. A night without news adds 24 h; a rebuild in
    # the afternoon must not look like one.
    late_seconds: int = 18 * 3600
    # A month: four of each weekday, and what was normal before is forgotten soon enough.
    window_days: int = 30
    # Two runs have no habit. From fourteen on a median is steady, and every weekday was there twice.
    cold_runs: int = 3
    robust_runs: int = 14
    weekday_runs: int = 4

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            if not (isinstance(value, int | float) and math.isfinite(value) and value >= 0):
                raise DeclarationError(f"{name}={value!r}: write a number that is not negative")
            if name.endswith("share") and value > 1:
                raise DeclarationError(f"{name}={value!r}: write a share from 0 to 1, 0.05 for 5 %")
        if not 1 <= self.cold_runs <= self.robust_runs or self.weekday_runs < 1 or self.window_days < 1:
            raise DeclarationError(
                f"cold_runs={self.cold_runs}, robust_runs={self.robust_runs}, weekday_runs={self.weekday_runs},"
                f" window_days={self.window_days}: write 1 ≤ cold_runs ≤ robust_runs, the others at least 1"
            )
