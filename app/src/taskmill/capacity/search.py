"""Which rate to try next: a search that is told what each rate came to, and nothing else.

A round looks for a rate that was steady and one that was not, close beside each other: outward from a guess, in steps
that double, then by halves (of the logarithm) in between. A verdict near the limit is left to chance in part, so there
are several rounds, each from another guess beside what those before found: the difference between them is the spread.

The search is a generator, so what it has been told can be told once more: one that was interrupted goes on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from taskmill.model.errors import TaskmillError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

#: A guess is taken from an unpaced load, which is a little faster than any paced one that is steady.
FIRST_GUESS = 0.9
#: Below this share of the first guess the search gives up.
HOPELESS = 1 / 16
#: Rounds begin at different places of a step: the fractions of multiples of the golden ratio lie evenly.
GOLDEN = 0.618034


@dataclass(frozen=True)
class Bracket:
    """What a round found: the highest rate that was steady in it, and the lowest above it that was not.

    Either is ``None`` in a round that was cut short.
    """

    low: float | None
    high: float | None


@dataclass
class Found:
    """The rounds that are done, the one under way, and the rate to try next; ``None`` when the search is over."""

    rounds: list[Bracket]
    open: Bracket
    next: float | None


@dataclass(frozen=True)
class Answer:
    """The highest steady rate, and the rates between which it lies."""

    rate: float
    low: float
    high: float


def step(low: float | None, high: float | None, stride: float) -> float:
    """Return the rate to try between the bounds, or beyond the one that is known."""
    if low is None:
        assert high is not None
        return high / stride
    return low * stride if high is None else math.sqrt(low * high)


def one_round(guess: float, tolerance: float, least: float, bracket: list[Bracket]) -> Generator[float, bool, None]:
    """Yield rates, be told whether each was steady; ``bracket`` holds what is known at any time, last."""
    low: float | None = None
    high: float | None = None
    stride, rate = 1 + tolerance, guess
    while True:
        if (yield rate):
            low = rate
        else:
            high = rate
        bracket.append(Bracket(low, high))
        if low is not None and high is not None:
            if high / low <= 1 + tolerance * 1.001:
                return
        else:
            stride = 1 + (stride - 1) * 2
        rate = step(low, high, stride)
        if rate < least:
            raise TaskmillError(
                f"no rate was steady: the backlog grew even at {high:,.4g} tasks per second, and {guess:,.4g} had been "
                f"expected of this cluster. Its speed changes from one load to the next, or it does other work beside"
            )


def search(unpaced: float, tolerance: float, rounds: int, told: Iterable[bool]) -> Found:
    """Return where a search stands that has been told, in their order, whether the rates it asked for were steady.

    ``unpaced`` is the rate of a load without a pace, ``tolerance`` how far apart, as a share, the two rates of a round
    may lie. Raises ``TaskmillError`` when nothing was steady by far.
    """
    verdicts = iter(told)
    least = FIRST_GUESS * unpaced * HOPELESS
    done: list[Bracket] = []
    for number in range(rounds):
        guess = FIRST_GUESS * unpaced
        if done:
            shift = (number * GOLDEN) % 1
            guess = middle(done) * (1 + tolerance) ** (shift - 0.5)
        bracket = [Bracket(None, None)]
        tries = one_round(guess, tolerance, least, bracket)
        try:
            rate = next(tries)
            for steady in verdicts:
                rate = tries.send(steady)
        except StopIteration:
            done.append(bracket[-1])
            continue
        return Found(done, bracket[-1], rate)
    return Found(done, Bracket(None, None), None)


def middle(rounds: list[Bracket]) -> float:
    """Return the median of the highest steady rates."""
    return median(one.low for one in rounds if one.low is not None)


def answer(found: Found) -> Answer | None:
    """Return the answer: over the rounds, or of the only one so far; ``None`` while no rate was steady."""
    rounds = found.rounds or [found.open]
    lows = [one.low for one in rounds if one.low is not None]
    highs = [one.high for one in rounds if one.high is not None]
    if not lows:
        return None
    return Answer(median(lows), min(lows), max([*lows, *highs]))
