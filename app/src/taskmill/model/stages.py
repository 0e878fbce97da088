"""The stages of a paced load: when each of its messages is due, in seconds from when the first stage begins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt


@dataclass(frozen=True)
class Stage:
    """``tasks`` that are due within ``seconds``, at a rate that goes from ``first`` to ``last`` in a straight line.

    In no time they are all due at once; no tasks are a pause. Rates are tasks per second.
    """

    tasks: int
    seconds: float = 0.0
    first: float = 0.0
    last: float = 0.0

    @classmethod
    def ramp(cls, first: float, last: float, seconds: float) -> Stage:
        """Return the stage in which the rate changes steadily; the same rate twice is held."""
        return cls(round((first + last) / 2 * seconds), seconds, first, last)

    def moments(self, places: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return when its messages at these places, from 0, are due: where so many are due by the rates until then."""
        if not self.seconds:
            return np.zeros(len(places))
        gain = (self.last - self.first) / self.seconds
        if not gain:
            return places / self.first
        root = np.sqrt(np.maximum(0.0, self.first**2 + 2 * gain * places))
        return np.minimum(self.seconds, (root - self.first) / gain)

    def __str__(self) -> str:
        """Return it in words."""
        if not self.tasks:
            return f"pause of {self.seconds:g} s"
        if not self.seconds:
            return f"{self.tasks:,} at once"
        rates = f"{self.first:g}" if self.first == self.last else f"{self.first:g} to {self.last:g}"
        return f"{rates}/s for {self.seconds:g} s"


def place(stages: Sequence[Stage], numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.intp]:
    """Return the places in ``stages`` of the messages that are due as these, counted from 0."""
    ends = np.cumsum([stage.tasks for stage in stages])
    return np.searchsorted(ends, numbers, side="right")


def moments(stages: Sequence[Stage], numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return when the messages that are due as these, counted from 0, are due."""
    due = np.zeros(len(numbers))
    of = place(stages, numbers)
    start, before = 0.0, 0
    for index, stage in enumerate(stages):
        mine = of == index
        due[mine] = start + stage.moments((numbers[mine] - before).astype(np.float64))
        start, before = start + stage.seconds, before + stage.tasks
    # What no stage has is due at the end of the last one.
    due[of == len(stages)] = start
    return due
