"""What to measure next, and what to recommend, from measurements that are made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from taskmill.cli import cli
from taskmill.model.errors import TaskmillError
from taskmill.model.run_folder import write_json
from taskmill.tuning import grid as tune

GRID = {"nodes": [1, 2], "prefetch_multiplier": [1, 16]}


def make(folder: Path, rounds: int = 3, **changes: Any) -> Path:
    """Make a folder in which nothing is measured."""
    (folder / "measured").mkdir()
    write_json(
        folder / "tune.json", {"grid": GRID, "points": [{"batch": 8}], "rounds": rounds, "least_gain": 0.05} | changes
    )
    return folder


def measure(folder: Path, number: int, place: int, rate: float | None) -> None:
    """Keep a measurement; without a rate it failed."""
    write_json(
        folder / "measured" / f"{number}-{place}.json",
        {"failed": "it did\n not start"} if rate is None else {"rate": rate},
    )


def measured(*rates: list[float], **options: Any) -> list[tune.Point]:
    """Return points with these rates, the default first; further ones have as many options as their place says."""
    names = ["a", "b", "c", "d"]
    return [
        tune.Point(dict.fromkeys(names[:place], 1), dict(enumerate(values, 1)), options.get("failures", {}))
        for place, values in enumerate(rates)
    ]


def asked(folder: Path) -> list[tuple[int, int]]:
    """Return round and point of what `taskmill tune next` names."""
    done = CliRunner().invoke(cli, ["tune", "next", str(folder)])
    assert done.exit_code == 0, done.output
    return [(one["round"], one["point"]) for one in json.loads(done.output)]


def test_points_are_the_default_every_combination_and_the_further_ones() -> None:
    """Each once; the default has no options."""
    points = tune.combinations(GRID, [{"batch": 8}, {"nodes": 1, "prefetch_multiplier": 16}])
    assert points == [
        {},
        {"nodes": 1, "prefetch_multiplier": 1},
        {"nodes": 1, "prefetch_multiplier": 16},
        {"nodes": 2, "prefetch_multiplier": 1},
        {"nodes": 2, "prefetch_multiplier": 16},
        {"batch": 8},
    ]
    assert tune.combinations({}, [{"batch": 8}]) == [{}, {"batch": 8}]


@pytest.mark.parametrize("grid", [[], {"nodes": 2}, {"nodes": []}])
def test_a_grid_of_another_shape_is_refused(tmp_path: Path, grid: Any) -> None:
    """With the variables that say it."""
    with pytest.raises(TaskmillError, match="Look at tune_grid"):
        tune.read(make(tmp_path, grid=grid))


def test_each_round_measures_the_default_and_the_better_half_of_the_one_before(tmp_path: Path) -> None:
    """What a round measures stands when it begins: its own rates do not change it."""
    make(tmp_path)
    assert asked(tmp_path) == [(1, place) for place in range(6)]
    for place, rate in enumerate([100.0, 90.0, 120.0, 80.0, 130.0, 110.0]):
        measure(tmp_path, 1, place, rate)
    assert asked(tmp_path) == [(2, 0), (2, 2), (2, 4), (2, 5)]
    measure(tmp_path, 2, 2, 1.0)
    assert asked(tmp_path) == [(2, 0), (2, 4), (2, 5)]
    for place, rate in ((0, 100.0), (4, 131.0), (5, 112.0)):
        measure(tmp_path, 2, place, rate)
    assert asked(tmp_path) == [(3, 0), (3, 4), (3, 5)]
    for place in (0, 4, 5):
        measure(tmp_path, 3, place, 100.0)
    assert asked(tmp_path) == []


def test_a_point_that_failed_is_not_measured_again(tmp_path: Path) -> None:
    """It takes no other's place in the next round."""
    make(tmp_path, rounds=2, grid={}, points=[{"batch": 0}, {"batch": 8}])
    measure(tmp_path, 1, 0, 100.0)
    measure(tmp_path, 1, 1, None)
    measure(tmp_path, 1, 2, 50.0)
    assert asked(tmp_path) == [(2, 0), (2, 2)]


def test_the_fastest_is_recommended_when_it_is_apart_from_the_default() -> None:
    """Its slowest round was faster than the default's fastest."""
    assert tune.recommend(measured([100, 105, 95], [120, 125, 118], [90, 91, 92]), 0.05).point == 1


def test_a_difference_within_the_spread_is_none() -> None:
    """The default is as good, and both spreads are said."""
    found = tune.recommend(measured([100, 119, 95], [120, 130, 118]), 0.05)
    assert found.point == 0
    assert "the default is as good" in found.reason
    assert "118/s to 130/s in 3 rounds" in found.reason


def test_a_difference_that_is_too_small_to_matter_is_none() -> None:
    """However sure it is."""
    assert tune.recommend(measured([100.0, 100.1], [103.0, 103.1]), 0.05).point == 0
    assert tune.recommend(measured([100.0, 100.1], [103.0, 103.1]), 0.02).point == 1


def test_of_equals_the_one_with_the_fewest_options_is_taken() -> None:
    """A setting that brings nothing is not recommended beside one that does."""
    assert tune.recommend(measured([100, 101], [150, 160], [155, 162]), 0.05).point == 1
    assert tune.recommend(measured([100, 101], [130, 135], [155, 162]), 0.05).point == 2


@pytest.mark.parametrize(
    "points",
    [
        measured([100.0], [200.0]),
        measured([100.0, 101.0], [200.0]),
        measured([], [200.0, 201.0]),
        measured([100.0, 101.0], [200.0, 201.0], failures={2: "no"}),
    ],
)
def test_one_measurement_or_a_failure_is_no_ground_to_change(points: list[tune.Point]) -> None:
    """Without a second round nothing is known of the spread."""
    assert tune.recommend(points, 0.05).point == 0


def test_the_report_has_every_point_the_fastest_first(tmp_path: Path) -> None:
    """On the terminal, as Markdown and as data; what failed says why, in one line."""
    make(tmp_path, rounds=2, grid={}, points=[{"batch": 0}, {"batch": 8}])
    for number in (1, 2):
        measure(tmp_path, number, 0, 100.0 + number)
        measure(tmp_path, number, 2, 200.0 + number)
    measure(tmp_path, 1, 1, None)
    done = CliRunner().invoke(cli, ["tune", "report", str(tmp_path)])
    assert done.exit_code == 0
    assert done.output == (tmp_path / "tune.md").read_text()
    rows = [line for line in done.output.splitlines() if line.startswith("|")][2:]
    assert [row.split(" | ")[0] for row in rows] == ["| batch 8", "| as it is", "| batch 0"]
    assert "failed: it did not start" in rows[2]
    found = json.loads((tmp_path / "recommendation.json").read_text())
    assert (found["options"], found["complete"]) == ({"batch": 8}, True)


def test_a_report_before_the_end_says_so(tmp_path: Path) -> None:
    """The budget may end before the rounds do."""
    measure(make(tmp_path), 1, 0, 100.0)
    assert tune.conclude(tmp_path)["complete"] is False
    assert "Not every round was measured" in (tmp_path / "tune.md").read_text()


def test_a_folder_without_a_tuning_is_refused(tmp_path: Path) -> None:
    """It is named."""
    with pytest.raises(TaskmillError, match="holds no tune"):
        tune.conclude(tmp_path)
