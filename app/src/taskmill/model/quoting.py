"""Words of others in a line: short enough, and the known one that is nearest."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Longest value or exception that a line quotes, in characters.
QUOTE = 500


def quote(value: Any, *, plain: bool = False) -> str:
    """Return a value short enough for a line."""
    words = value if plain else repr(value)
    return words if len(words) <= QUOTE else words[:QUOTE] + "…"


def nearest(word: str, known: Iterable[str]) -> str:
    """Return which known word is nearest, as the beginning of a sentence that goes on; empty where none is near."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"the nearest is {near[0]}; " if near else ""
