"""Values of files that may have any shape, as the type that the report needs."""

from __future__ import annotations

from typing import Any

import numpy as np


def as_dict(value: Any) -> dict[str, Any]:
    """Return a dictionary, an empty one in place of anything else."""
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """Return a list, an empty one in place of anything else."""
    return value if isinstance(value, list) else []


def as_number(value: Any) -> float | None:
    """Return a finite number, ``None`` in place of anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value):
        return None
    return value


def as_integer(value: Any) -> int | None:
    """Return a number without its fraction, ``None`` in place of anything else."""
    number = as_number(value)
    return None if number is None else int(number)
