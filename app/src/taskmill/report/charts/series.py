"""From single moments to what a chart shows: counts per second, percentiles over time, histograms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from taskmill.model.arrays import Floats

#: Points of a line at most, and steps of a histogram to each power of ten.
POINTS = 400
STEPS = 20


def edges(seconds: float, most: int = POINTS) -> Floats:
    """Return the borders of equal steps from 0 to at least ``seconds``: 1, 2 or 5 times a power of ten wide."""
    least = max(seconds, 1e-3) / most
    power = 10.0 ** np.floor(np.log10(least))
    width = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least * (1 - 1e-9))
    # Finer than a tenth of a second there is nothing to see but single tasks.
    width = max(width, 0.1)
    borders: Floats = np.arange(0, max(1.0, np.ceil(seconds / width)) + 1) * width
    return borders


def per_second(times: Floats, borders: Floats) -> Floats:
    """Return how many of the moments lie in each step, per second."""
    return np.histogram(times, borders)[0] / np.diff(borders)


def backlog(posted: Floats, done: Floats, at: Floats) -> Floats:
    """Return how many tasks are posted and not done at each moment."""
    before = np.searchsorted(np.sort(posted), at, "right") - np.searchsorted(np.sort(done), at, "right")
    return before.astype(np.float64)


def quantile_over_time(times: Floats, values: Floats, borders: Floats, quantile: float) -> Floats:
    """Return the quantile of the values in each step of time; NaN for steps without any."""
    known = np.isfinite(times) & np.isfinite(values)
    times, values = times[known], values[known]
    order = np.lexsort((values, step := np.digitize(times, borders)))
    values, step = values[order], step[order]
    first = np.searchsorted(step, np.arange(1, len(borders)), "left")
    after = np.searchsorted(step, np.arange(1, len(borders)), "right")
    picked = first + np.floor((after - first) * quantile).astype(int)
    found = np.full(len(borders) - 1, np.nan)
    some = after > first
    found[some] = values[np.minimum(picked, after - 1)[some]]
    return found


def resample(times: Floats, values: Floats, borders: Floats) -> Floats:
    """Return the mean of the values in each step; a step without any takes those before and after it in a line."""
    total = np.histogram(times, borders, weights=values)[0]
    number = np.histogram(times, borders)[0]
    some = number > 0
    middle = (borders[1:] + borders[:-1]) / 2
    if not some.any():
        return np.full(len(middle), np.nan)
    found: Floats = np.interp(middle, middle[some], total[some] / number[some], left=np.nan, right=np.nan)
    return found


def thinned(times: Floats, values: Floats, most: int = POINTS) -> tuple[Floats, Floats]:
    """Return the points of a line, of many the highest and the lowest of each stretch, so that no peak is lost."""
    if len(times) <= 2 * most:
        return times, values
    kept = {0, len(times) - 1}
    for part in np.array_split(np.arange(len(times)), most):
        kept |= {int(part[values[part].argmin()]), int(part[values[part].argmax()])}
    chosen = np.array(sorted(kept))
    return times[chosen], values[chosen]


def log_histogram(kinds: Sequence[Floats]) -> tuple[Floats, list[Floats]] | None:
    """Return the borders of one logarithmic scale for all kinds, and the share of each kind's values by step.

    Times of nothing or less, which clocks that differ can make, count in the first step. ``None`` without values.
    """
    known = [values[np.isfinite(values)] for values in kinds]
    above = [values[values > 0] for values in known]
    if not any(len(values) for values in above):
        return None
    low = np.floor(np.log10(min(values.min() for values in above if len(values))) * STEPS)
    high = np.ceil(np.log10(max(values.max() for values in above if len(values))) * STEPS)
    # Below a microsecond there is only noise.
    low = max(low, -6 * STEPS)
    borders = 10.0 ** (np.arange(low, max(high, low + 1) + 1) / STEPS)
    shares = [
        np.histogram(np.clip(values, borders[0], borders[-1]), borders)[0] / max(1, len(values)) for values in known
    ]
    return borders, shares
