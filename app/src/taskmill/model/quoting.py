"""Values of others, short enough for a line."""

from typing import Any

#: Longest value or exception that a line quotes, in characters.
QUOTE = 500


def quote(value: Any, *, plain: bool = False) -> str:
    """Return a value short enough for a line."""
    words = value if plain else repr(value)
    return words if len(words) <= QUOTE else words[:QUOTE] + "…"
