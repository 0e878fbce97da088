"""Which settings of the workers to try, and which to recommend: the half of ``playbooks/tune.yml`` that thinks.

A folder holds ``tune.json`` (``grid``: values by option, every combination of which is a point; ``points``: further
ones; ``rounds``; ``least_gain``) and ``measured/ROUND-POINT.json`` for each measurement, with ``rate`` (tasks a second)
or ``failed`` (why there is none). Point 0 has no options: the workers as the inventory has them.

The first round measures every point, each further one the default and the better half of the others (successive
halving; K. Jamieson and A. Talwalkar 2016), so that time goes where the choice is.
"""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from taskmill.model.errors import TaskmillError
from taskmill.model.run_folder import read_json, write_json
from taskmill.report.text import UNKNOWN, percent, rate

NAME = "tune.json"
MEASURED = "measured"
DEFAULT = 0

Options = dict[str, Any]


@dataclass(frozen=True)
class Point:
    """Options of the workers, in which they differ from the default, and what came of each round so far."""

    options: Options
    #: Tasks per second by round.
    rates: dict[int, float]
    #: Why a round came to nothing, by round.
    failures: dict[int, str]

    @property
    def name(self) -> str:
        """The options as text."""
        return ", ".join(f"{name} {json.dumps(value)}" for name, value in self.options.items()) or "as it is"

    def until(self, number: int) -> Point:
        """Return the point as it was after that round."""
        return Point(
            self.options,
            {one: value for one, value in self.rates.items() if one <= number},
            {one: reason for one, reason in self.failures.items() if one <= number},
        )

    @property
    def middle(self) -> float:
        """The median of its rates; 0 without any, or when it failed."""
        return median(self.rates.values()) if self.rates and not self.failures else 0.0

    @property
    def spread(self) -> tuple[float, float]:
        """The lowest and the highest of its rates."""
        return (min(self.rates.values()), max(self.rates.values())) if self.rates else (0.0, 0.0)


@dataclass(frozen=True)
class Recommendation:
    """The point to take, the default when no other is better, and why."""

    point: int
    reason: str


def combinations(grid: dict[str, list[Any]], further: list[Options]) -> list[Options]:
    """Return the options of every point: the default's, which are none, each combination, the further ones; each once.

    Raises ``ValueError`` for a grid of another shape.
    """
    if not isinstance(grid, dict) or not all(isinstance(values, list) and values for values in grid.values()):
        raise ValueError(
            "the grid has to be options, each with a list of values, such as {prefetch_multiplier: [1, 4]}"
        )
    if not isinstance(further, list) or not all(isinstance(options, dict) and options for options in further):
        raise ValueError("further points have to be a list of options with a value each, such as [{concurrency: 8}]")
    combined = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    points: list[Options] = [{}]
    for options in combined + further:
        if options not in points:
            points.append(options)
    return points


def survivors(points: list[Point], tried: list[int]) -> list[int]:
    """Return which of the points that a round tried go on: the default, and the better half of the others."""
    others = sorted((place for place in tried if points[place].middle), key=lambda place: -points[place].middle)
    others = [place for place in others if place != DEFAULT]
    return [DEFAULT, *sorted(others[: math.ceil(len(others) / 2)])]


def schedule(points: list[Point], rounds: int) -> tuple[int, list[int]]:
    """Return the round that is not over, from 1, and the points to be measured in it; none when all is done."""
    tried = list(range(len(points)))
    for number in range(1, rounds + 1):
        left = [place for place in tried if number not in points[place].rates | points[place].failures]
        if left:
            return number, left
        tried = survivors([point.until(number) for point in points], tried)
    return rounds, []


def recommend(points: list[Point], least_gain: float) -> Recommendation:
    """Return the fastest point whose slowest round was faster than the default's fastest, by at least that share.

    Of points that are not told apart from it in the same way, the one with the fewest options is taken.
    """
    default = points[DEFAULT]
    fit = [place for place, point in enumerate(points) if place != DEFAULT and point.middle and len(point.rates) > 1]
    if not default.middle or len(default.rates) < 2 or not fit:
        return Recommendation(
            DEFAULT, "nothing was measured twice beside the default, so nothing is known of the spread"
        )
    best = max(fit, key=lambda place: points[place].middle)
    gain = points[best].middle / default.middle - 1
    apart = [place for place in fit if points[place].spread[0] > default.spread[1]]
    enough = [place for place in apart if points[place].middle / default.middle - 1 >= least_gain]
    if not enough:
        return Recommendation(
            DEFAULT,
            f"the default is as good: the best other point ({points[best].name}) did {rate(points[best].middle)} "
            f"({between(points[best])}), {gain:+.1%}, the default {rate(default.middle)} ({between(default)})",
        )
    best = max(enough, key=lambda place: points[place].middle)
    alike = [place for place in enough if points[place].spread[1] >= points[best].spread[0]]
    chosen = min(alike, key=lambda place: (len(points[place].options), -points[place].middle))
    point = points[chosen]
    return Recommendation(
        chosen,
        f"it did {rate(point.middle)} ({between(point)}), {point.middle / default.middle - 1:+.1%}; the default "
        f"{rate(default.middle)} ({between(default)})",
    )


def between(point: Point) -> str:
    """Return a point's spread as text."""
    low, high = point.spread
    return f"{rate(low)} to {rate(high)} in {len(point.rates)} round{'s' if len(point.rates) > 1 else ''}"


def settings(folder: Path) -> dict[str, Any]:
    """Read ``tune.json``; raise ``TaskmillError`` when it is not there or says nothing that can be tried."""
    data = read_json(folder / NAME)
    if data is None:
        raise TaskmillError(f"{folder} holds no {NAME}: give the folder that playbooks/tune.yml named")
    return data


def read(folder: Path) -> list[Point]:
    """Return the points of a folder with what was measured; raise ``TaskmillError`` for a grid that is none."""
    data = settings(folder)
    try:
        points = [Point(options, {}, {}) for options in combinations(data["grid"], data["points"])]
    except (KeyError, ValueError) as error:
        raise TaskmillError(f"{folder / NAME} cannot be tried: {error}. Look at tune_grid and tune_points") from error
    for path in sorted((folder / MEASURED).glob("*.json")):
        found = read_json(path) or {}
        number, _, place = path.stem.partition("-")
        if "rate" in found:
            points[int(place)].rates[int(number)] = float(found["rate"])
        else:
            points[int(place)].failures[int(number)] = " ".join(str(found.get("failed")).split())
    return points


def next_points(folder: Path) -> list[dict[str, Any]]:
    """Return what is to be measured in the round that is not over: ``round``, ``point``, ``name`` and ``options``."""
    points = read(folder)
    number, places = schedule(points, int(settings(folder)["rounds"]))
    return [
        {"round": number, "point": place, "name": points[place].name, "options": points[place].options}
        for place in places
    ]


def conclude(folder: Path) -> dict[str, Any]:
    """Write ``recommendation.json`` and ``tune.md``, and return what the former holds."""
    points, data = read(folder), settings(folder)
    chosen = recommend(points, float(data["least_gain"]))
    left = schedule(points, int(data["rounds"]))[1]
    found = {
        "point": chosen.point,
        "options": points[chosen.point].options,
        "reason": chosen.reason,
        "complete": not left,
    }
    write_json(folder / "recommendation.json", found)
    (folder / "tune.md").write_text(text(points, chosen, complete=not left), encoding="utf-8")
    return found


def text(points: list[Point], chosen: Recommendation, *, complete: bool) -> str:
    """Return the table and the recommendation as Markdown, the fastest first."""
    default = points[DEFAULT].middle
    lines = ["# Settings of the workers", "", f"Recommended: {points[chosen.point].name}; {chosen.reason}.", ""]
    if not complete:
        lines += ["Not every round was measured: this is what was known by then.", ""]
    lines += [
        "| workers | tasks per second | lowest | highest | rounds | to the default |",
        "|---|---|---|---|---|---|",
    ]
    for point in sorted(points, key=lambda one: -one.middle):
        if point.failures:
            cells = [f"failed: {next(iter(point.failures.values()))}", *[UNKNOWN] * 2]
        elif point.rates:
            cells = [rate(value) for value in (point.middle, *point.spread)]
        else:
            cells = ["not measured", *[UNKNOWN] * 2]
        ratio = percent(point.middle / default) if default and point.middle else UNKNOWN
        lines.append(f"| {' | '.join([point.name, *cells, str(len(point.rates)), ratio])} |")
    return "\n".join(lines) + "\n"
