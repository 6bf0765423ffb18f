"""Settings from environment variables, so that no password stands in code or on a command line."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from hotpath.errors import DeclarationError


def read_settings(prefix: str, names: Sequence[str], environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The values of ``prefix…`` that are not empty, by the rest of the name.

    Raises ``DeclarationError`` for a name that is not among ``names``. It never shows a value.
    """
    given = {
        name.removeprefix(prefix): value.strip()
        for name, value in (os.environ if environ is None else environ).items()
        if name.startswith(prefix) and value.strip()
    }
    for name in given.keys() - set(names):
        known = ", ".join(prefix + known for known in names)
        raise DeclarationError(f"{prefix}{name} is no setting; there are {known}")
    return given
