"""Whether a paced load was steady: the backlog does not grow beyond noise while messages come in.

The backlog at a moment is what has been posted and is not done yet: messages in the queues, and those with a worker.
The depth of the queues alone would miss the latter, and with a large prefetch nearly all are there. Its trend over the
window is told from noise by the test of Mann and Kendall, its size by Sen's slope with the interval that belongs to the
test (H. B. Mann 1945; P. K. Sen 1968). Both take the values as independent. Depths that follow each other are not, so
the window is cut into batches, and the means of the batches are tested.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Share of the window at its start that is not looked at: the pool and the prefetch fill then.
WARMING = 0.25
#: Batches of the window, and looks at the backlog in each.
BATCHES = 12
LOOKS = 8
#: Quantile of the normal distribution for an interval of 95 %.
NORMAL = 1.96
#: A growth of less than this share of the rate is none that the search could tell from the next rate it tries.
NEGLIGIBLE = 0.01
#: Share of the rate that the client has to have posted.
OFFERED = 0.98

STEADY = "steady"
GROWING = "growing"
NOT_OFFERED = "not offered"


@dataclass(frozen=True)
class Slope:
    """Growth per second, with the ends of its interval of 95 %."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Verdict:
    """What a paced load of ``rate`` tasks per second came to: steady, growing, or not offered by the client."""

    state: str
    slope: Slope
    #: Messages that waited or were with a worker, on average over the last batch.
    backlog: float

    @property
    def steady(self) -> bool:
        """Whether the rate can be kept up."""
        return self.state == STEADY


def trend(times: NDArray[np.float64], values: NDArray[np.float64]) -> Slope:
    """Return Sen's slope and its interval of 95 %; raise ``ValueError`` for fewer than four values.

    It lies above 0 where the test of Mann and Kendall finds a rise; the variance is corrected for ties.
    """
    number = len(values)
    if number < 4:
        raise ValueError(f"a trend takes at least four values, not {number}")
    first, second = np.triu_indices(number, 1)
    slopes = np.sort((values[second] - values[first]) / (times[second] - times[first]))
    _, ties = np.unique(values, return_counts=True)
    tied = float((ties * (ties - 1) * (2 * ties + 5)).sum())
    deviation = math.sqrt((number * (number - 1) * (2 * number + 5) - tied) / 18)
    # Sen's ranks, with the one further outward that scipy.stats.theilslopes takes as well.
    below, above = (round((len(slopes) + side * NORMAL * deviation) / 2) for side in (-1, 1))
    return Slope(float(np.median(slopes)), float(slopes[max(below - 1, 0)]), float(slopes[min(above, len(slopes) - 1)]))


def backlog(posted: NDArray[np.float64], done: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how many of the messages were posted and not done at those moments; NaN in ``done`` is never done."""
    came = np.searchsorted(np.sort(posted), at, side="right")
    went = np.searchsorted(np.sort(done[np.isfinite(done)]), at, side="right")
    return (came - went).astype(float)


def judge(rate: float, posted: NDArray[np.float64], done: NDArray[np.float64]) -> Verdict:
    """Judge a load by when its messages were posted and done, in seconds.

    Raises ``ValueError`` when there are too few messages, or no moments, to tell anything from.
    """
    if len(posted) < BATCHES or not np.isfinite(done).any():
        raise ValueError(f"{len(posted)} messages, {int(np.isfinite(done).sum())} of them with a known end")
    start, end = float(posted.min()), float(posted.max())
    edges = np.linspace(start + WARMING * (end - start), end, BATCHES * LOOKS + 1)
    looks = backlog(posted, done, edges[1:]).reshape(BATCHES, LOOKS)
    means = looks.mean(axis=1)
    slope = trend(edges[1:].reshape(BATCHES, LOOKS).mean(axis=1), means)
    if (len(posted) - 1) / (end - start) < OFFERED * rate:
        state = NOT_OFFERED
    elif slope.low > 0 and slope.value > NEGLIGIBLE * rate:
        state = GROWING
    else:
        state = STEADY
    return Verdict(state, slope, float(means[-1]))


def ceiling(done: NDArray[np.float64]) -> float:
    """Return the rate at which the middle 80 % of the tasks were done: without the filling and the emptying of pools.

    Raises ``ValueError`` when fewer than ten ends are known, or all of them are one moment.
    """
    known = np.sort(done[np.isfinite(done)])
    first, last = len(known) // 10, len(known) - 1 - len(known) // 10
    if len(known) < 10 or known[last] <= known[first]:
        raise ValueError(f"the ends of {len(known)} tasks tell no rate")
    return float((last - first) / (known[last] - known[first]))
