"""Which figures reach their goals."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING

from benchmark.figures import between, cost, finished, milliseconds, overhead, plain, published, short, times
from benchmark.folder import (
    ARTICLE,
    CEILING,
    FASTEST,
    HEAVY,
    LARGER,
    MIDDLING,
    OTHER_QUEUE,
    OURS,
    POOL,
    POSTING,
    SMALLER,
    TINY,
    Benchmark,
    Measurements,
)
from taskmill.report.text import UNKNOWN, percent, rate, size

if TYPE_CHECKING:
    from collections.abc import Callable

REACHED, MISSED, NOT_MEASURED = "reached", "missed", "not measured"
#: How many times as fast three processes have to publish as one, to be near-linear: four fifths of three.
NEAR_LINEAR = 2.4


@dataclass(frozen=True)
class Verdict:
    """Whether a figure reaches its goal: both as text, what was measured, and the range over the rounds."""

    figure: str
    goal: str
    came: str
    spread: str
    verdict: str
    reason: str = ""


def verdicts(benchmark: Benchmark) -> list[Verdict]:
    """Return the verdict on every figure."""

    def ours(workload: str, role: str = OURS) -> Measurements:
        return benchmark.measured(role, workload)

    def rates(role: str, workload: str) -> list[float]:
        return benchmark.measured(role, workload).over(finished)

    larger = ours(LARGER)
    return [
        at_least("tiny, to the article's stack", 5, ours(TINY), rates(ARTICLE, TINY)),
        best_other_queue(benchmark, 3),
        at_least("middling, to a bare pool", 0.70, ours(MIDDLING), rates(POOL, MIDDLING), percent),
        at_least("middling, to the article's stack", 2.5, ours(MIDDLING), rates(ARTICLE, MIDDLING)),
        at_least("heavy, to a bare pool", 0.96, ours(HEAVY), rates(POOL, HEAVY), percent),
        at_least("heavy on the fastest interpreter, to a bare pool", 4, ours(HEAVY, FASTEST), rates(POOL, HEAVY)),
        posting(benchmark, 10_000, 0.85),
        ratio(
            "posting, three processes to one",
            NEAR_LINEAR,
            both(ours(POSTING[3]), ours(POSTING[1])),
            ours(POSTING[3]).over(published),
            ours(POSTING[1]).over(published),
            times,
        ),
        at_most("collecting a million results", 40, larger, larger.over(plain("fetch_s")), short, under=True),
        at_most("collecting, after the last task", 10, larger, larger.over(plain("after_last_s")), short),
        at_most(
            "CPU per tiny task, without the function", 0.30e-3, ours(TINY), ours(TINY).over(overhead), milliseconds
        ),
        growth(ours(SMALLER), larger),
        at_most(
            "client's memory at a million tasks", 600e6, larger, larger.over(plain("memory_bytes")), size, under=True
        ),
    ]


def at_least(
    figure: str, goal: float, mine: Measurements, theirs: list[float], write: Callable[[float], str] = times
) -> Verdict:
    """Return the verdict on the ratio of medians of finished tasks per second; the spread is that of the extremes."""
    return ratio(figure, goal, mine, mine.over(finished), theirs, write)


def ratio(
    figure: str, goal: float, mine: Measurements, ours: list[float], theirs: list[float], write: Callable[[float], str]
) -> Verdict:
    """Return the verdict on the ratio of medians, ours to theirs, which has to be at least ``goal``."""
    text = f"at least {write(goal)}"
    if not ours or not theirs or not min(theirs):
        return unmeasured(figure, text, mine)
    value = median(ours) / median(theirs)
    spread = f"{write(min(ours) / max(theirs))} to {write(max(ours) / min(theirs))}"
    return judged(figure, text, write(value), spread, mine, reached=value >= goal)


def at_most(
    figure: str,
    goal: float,
    mine: Measurements,
    values: list[float],
    write: Callable[[float], str],
    *,
    under: bool = False,
) -> Verdict:
    """Return the verdict on a median of ours that may be at most ``goal``, or has to be under it."""
    text = f"{'under' if under else 'at most'} {write(goal)}"
    if not values:
        return unmeasured(figure, text, mine)
    value = median(values)
    return judged(
        figure, text, write(value), between(values, write), mine, reached=value < goal if under else value <= goal
    )


def judged(figure: str, goal: str, came: str, spread: str, mine: Measurements, *, reached: bool) -> Verdict:
    """Return a verdict; a subject that lost tasks, or had wrong results, reaches no figure."""
    if not mine.whole:
        return Verdict(figure, goal, came, spread, MISSED, trouble(mine))
    return Verdict(figure, goal, came, spread, REACHED if reached else MISSED)


def unmeasured(figure: str, goal: str, mine: Measurements) -> Verdict:
    """Return the verdict where nothing was measured; what was tried and failed is missed."""
    if mine.failures:
        return Verdict(figure, goal, UNKNOWN, UNKNOWN, MISSED, trouble(mine))
    return Verdict(figure, goal, UNKNOWN, UNKNOWN, NOT_MEASURED)


def trouble(measurements: Measurements) -> str:
    """Return what went wrong in the measurements, as text."""
    troubles = [f"{measurements.count(key):,} {key}" for key in ("wrong", "lost") if measurements.count(key)]
    return "; ".join(troubles + [f"failed: {reason}" for reason in measurements.failures])


def both(one: Measurements, other: Measurements) -> Measurements:
    """Return the measurements of both, for a figure that compares them."""
    return Measurements(one.measured + other.measured, one.failures + other.failures)


def best_other_queue(benchmark: Benchmark, goal: float) -> Verdict:
    """Return the verdict on the fastest other queue; it stays open while one was not tried, not where one failed."""
    others = {
        subject.title: benchmark.measurements.get((TINY, subject.name), Measurements())
        for subject in benchmark.of(OTHER_QUEUE)
    }
    untried = [title for title, other in others.items() if not other.measured and not other.failures]
    values = {title: rates for title, other in others.items() if (rates := other.over(finished))}
    mine = benchmark.measured(OURS, TINY)
    if untried or not values:
        verdict = unmeasured("tiny, to the best other queue", f"at least {times(goal)}", mine)
        reason = f"not tried: {', '.join(untried)}" if untried else "no other queue came to its end"
        return Verdict(**asdict(verdict) | {"reason": verdict.reason or reason})
    best = max(values, key=lambda title: median(values[title]))
    return at_least(f"tiny, to the best other queue ({best})", goal, mine, values[best])


def posting(benchmark: Benchmark, goal: float, share: float) -> Verdict:
    """Return the verdict on publishing by one process: a rate, or a share of what bare py-amqp publishes."""
    mine, name = benchmark.measured(OURS, POSTING[1]), "posting, one process"
    values, ceiling = mine.over(published), benchmark.measured(CEILING, POSTING[1]).over(published)
    text = f"at least {rate(goal)}, or {percent(share)} of bare py-amqp"
    if not values:
        return unmeasured(name, text, mine)
    reached, came = median(values) >= goal, rate(median(values))
    if ceiling:
        part = median(values) / median(ceiling)
        reached, came = reached or part >= share, f"{came}, {percent(part)}"
    elif not reached:
        return unmeasured(name, text, mine)
    return judged(name, text, came, between(values, rate), mine, reached=reached)


def growth(smaller: Measurements, larger: Measurements) -> Verdict:
    """Return the verdict on the CPU per task at a million, to that at a hundred thousand tasks; less is no miss."""
    name, text, mine = "CPU per task, a million to a hundred thousand", f"at most {times(1.1)}", both(smaller, larger)
    ours, theirs = larger.over(cost), smaller.over(cost)
    if not ours or not theirs:
        return unmeasured(name, text, mine)
    value = median(ours) / median(theirs)
    spread = f"{times(min(ours) / max(theirs))} to {times(max(ours) / min(theirs))}"
    return judged(name, text, times(value), spread, mine, reached=value <= 1.1)
