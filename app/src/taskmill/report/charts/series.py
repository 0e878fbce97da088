"""From single moments to what a chart shows: counts per second, percentiles over time, histograms.

Times are in seconds since the run's start. ``borders`` are those of ``n`` steps of time, so they are ``n + 1``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

#: The most points of a line.
POINTS = 400
#: Steps of a logarithmic histogram to each power of ten.
STEPS = 20


def edges(seconds: float, most: int = POINTS) -> NDArray[np.float64]:
    """Return the borders of equal steps from 0 to at least ``seconds``: 1, 2 or 5 times a power of ten wide."""
    least = max(seconds, 1e-3) / most
    power = 10.0 ** np.floor(np.log10(least))
    width = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least * (1 - 1e-9))
    # Finer than a tenth of a second there is nothing to see but single tasks.
    width = max(width, 0.1)
    borders: NDArray[np.float64] = np.arange(0, max(1.0, np.ceil(seconds / width)) + 1) * width
    return borders


def per_second(times: NDArray[np.float64], borders: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return for each step how many of the moments lie in it, per second."""
    return np.histogram(times, borders)[0] / np.diff(borders)


def backlog(published: NDArray[np.float64], done: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how many tasks are published and not done at each of the moments ``at``."""
    open_tasks = np.searchsorted(np.sort(published), at, "right") - np.searchsorted(np.sort(done), at, "right")
    return open_tasks.astype(np.float64)


def quantile_over_time(
    times: NDArray[np.float64], values: NDArray[np.float64], borders: NDArray[np.float64], quantile: float
) -> NDArray[np.float64]:
    """Return the quantile of the values whose times lie in each step; NaN for a step without any."""
    known = np.isfinite(times) & np.isfinite(values)
    times, values = times[known], values[known]
    order = np.lexsort((values, step := np.digitize(times, borders)))
    values, step = values[order], step[order]
    first = np.searchsorted(step, np.arange(1, len(borders)), "left")
    after = np.searchsorted(step, np.arange(1, len(borders)), "right")
    picked = first + np.floor((after - first) * quantile).astype(int)
    quantiles = np.full(len(borders) - 1, np.nan)
    filled = after > first
    quantiles[filled] = values[np.minimum(picked, after - 1)[filled]]
    return quantiles


def resample(
    times: NDArray[np.float64], values: NDArray[np.float64], borders: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the mean of the values in each step; a step without any is interpolated from those before and after it.

    Steps before the first value and after the last are NaN.
    """
    total = np.histogram(times, borders, weights=values)[0]
    number = np.histogram(times, borders)[0]
    filled = number > 0
    middle = (borders[1:] + borders[:-1]) / 2
    if not filled.any():
        return np.full(len(middle), np.nan)
    means = total[filled] / number[filled]
    resampled: NDArray[np.float64] = np.interp(middle, middle[filled], means, left=np.nan, right=np.nan)
    return resampled


def thinned(
    times: NDArray[np.float64], values: NDArray[np.float64], most: int = POINTS
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the points of a line, or of many points the highest and the lowest of each stretch: no peak is lost."""
    if len(times) <= 2 * most:
        return times, values
    kept = {0, len(times) - 1}
    for part in np.array_split(np.arange(len(times)), most):
        kept |= {int(part[values[part].argmin()]), int(part[values[part].argmax()])}
    chosen = np.array(sorted(kept))
    return times[chosen], values[chosen]


def log_histogram(
    samples: Sequence[NDArray[np.float64]],
) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]] | None:
    """Return the borders of one logarithmic scale for all samples, and for each sample the share of its values by step.

    Durations of 0 or less, which clocks that differ can make, count in the first step. ``None`` without any above 0.
    """
    known = [values[np.isfinite(values)] for values in samples]
    positive = [values[values > 0] for values in known if (values > 0).any()]
    if not positive:
        return None
    low = np.floor(np.log10(min(values.min() for values in positive)) * STEPS)
    high = np.ceil(np.log10(max(values.max() for values in positive)) * STEPS)
    # Below a microsecond there is only noise.
    low = max(low, -6 * STEPS)
    borders = 10.0 ** (np.arange(low, max(high, low + 1) + 1) / STEPS)
    shares = [
        np.histogram(np.clip(values, borders[0], borders[-1]), borders)[0] / max(1, len(values)) for values in known
    ]
    return borders, shares
