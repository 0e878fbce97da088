"""No result backend: the tasks of such an app store nothing, and :mod:`taskmill.results.acknowledged` counts them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskmill.results.store import BATCH

if TYPE_CHECKING:
    from collections.abc import Sequence


class Results:
    """Results that nobody keeps: ``disabled://``."""

    kind = "none"
    batch = BATCH

    def __init__(self, _url: str) -> None:
        """Take any address."""

    def __str__(self) -> str:
        """Return that there is none."""
        return "none"

    def get(self, _ids: Sequence[bytes]) -> dict[bytes, Any]:
        """Return nothing."""
        return {}

    def unreachable(self) -> list[str]:
        """Return no server."""
        return []

    def figures(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def preflight(self, _tasks: int, _each: int | None, _expect: Any) -> dict[str, Any]:
        """Return nothing: there is room for it."""
        return {}

    def takes(self, _stored: int) -> int:
        """Return that it takes nothing."""
        return 0

    def forget_redeliveries(self, _identifier: str) -> None:
        """Do nothing: without a store nothing is counted."""
