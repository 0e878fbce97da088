"""Figures of a measurement, and how they are written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmark.folder import PARTS
from taskmill.report.text import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def finished(one: dict[str, Any]) -> float | None:
    """Return correct results per second, from the first message to the last result."""
    return one["correct"] / one["total_s"] if one["total_s"] > 0 else None


def published(one: dict[str, Any]) -> float | None:
    """Return tasks published per second."""
    return one["tasks"] / one["post_s"] if one["post_s"] > 0 else None


def cost(one: dict[str, Any]) -> float | None:
    """Return CPU seconds per task over all parts; ``None`` unless every part was measured."""
    return sum(one["cpu_s"][part] for part in PARTS) / one["tasks"] if set(PARTS) <= set(one["cpu_s"]) else None


def overhead(one: dict[str, Any]) -> float | None:
    """Return CPU seconds per task over all parts, less those of the function alone."""
    whole = cost(one)
    return whole - one["function_s"] if whole is not None and "function_s" in one else None


def plain(key: str) -> Callable[[dict[str, Any]], float | None]:
    """Return a figure that is a key of the measurement."""
    return lambda one: one.get(key)


def between(values: Sequence[float], write: Callable[[float], str]) -> str:
    """Write the lowest and the highest value."""
    return f"{write(min(values))} to {write(max(values))}" if values else UNKNOWN


def times(value: float) -> str:
    """Write a ratio."""
    return f"{value:.2f} x"


def milliseconds(value: float) -> str:
    """Write seconds as milliseconds."""
    return f"{1000 * value:.3f} ms"


def short(value: float) -> str:
    """Write seconds."""
    return f"{value:.1f} s"
