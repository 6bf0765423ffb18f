"""How often the guard reads memory."""

from __future__ import annotations

from dataclasses import dataclass

from hotpath.errors import DeclarationError
from hotpath.options import parse_bytes, parse_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How often memory is read, and what of it counts as free. Raises ``DeclarationError``.

    Samples are between ``least_interval`` and ``most_interval`` seconds apart. ``fastest_growth`` is the most bytes a
    second that are expected: the less is left, the more often memory is read. ``floor`` bytes never count as free.
    """

    least_interval: float | str = 0.05
    most_interval: float | str = 1.0
    fastest_growth: int | str = "100MiB"
    floor: int | str = "8MiB"

    def __post_init__(self) -> None:
        if not self.least_seconds <= self.most_seconds <= 10:
            raise DeclarationError(
                f"least_interval={self.least_seconds:g} and most_interval={self.most_seconds:g} are seconds between two"
                " samples: 0.01 ≤ least ≤ most ≤ 10"
            )
        parse_bytes(self.fastest_growth, "fastest_growth")
        parse_bytes(self.floor, "floor")

    @property
    def least_seconds(self) -> float:
        """``least_interval`` as a number."""
        return parse_seconds(self.least_interval, "least_interval", least=0.01)

    @property
    def most_seconds(self) -> float:
        """``most_interval`` as a number."""
        return parse_seconds(self.most_interval, "most_interval", least=0.01)
