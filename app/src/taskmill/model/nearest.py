"""The known name that is most like an unknown one, which may be a slip of the pen."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def nearest(name: str, known: Iterable[str], then: str = "") -> str:
    """Return in words which known name is the nearest, for a message, and ``then`` behind it; the latter alone where
    none is like it.
    """
    near = difflib.get_close_matches(name, list(known), n=1)
    return "; ".join(filter(None, [f"the nearest is {near[0]}" if near else "", then]))
