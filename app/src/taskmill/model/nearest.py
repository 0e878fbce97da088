"""The known name that is most like an unknown one, which may be a slip of the pen."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """Return in words which known name is the nearest, for a message; empty where none is like it."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"the nearest is {near[0]}" if near else ""
