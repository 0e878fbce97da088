"""Stages of a load: which message is due when, and what is recorded of each."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from taskmill.cli import cli
from taskmill.cli.smoke import smoke_plan
from taskmill.model import record, summary
from taskmill.model.plan import Plan, Route
from taskmill.model.stages import Stage, moments, place
from taskmill.publishing.pace import Pace
from taskmill.samples.task_timings import TaskTimings
from taskmill.session import record_times
from taskmill.workload import scenario

STAGES = (Stage.ramp(0, 20, 2), Stage.ramp(20, 20, 1), Stage(5), Stage(0, 3.0), Stage(4, 0.4, 10, 10))
PLAN = Plan("p", (Route("a", "red"),), 49, (), threads=3, processes=2, stages=STAGES, scenario="s.yml")


def test_messages_are_due_where_the_area_under_the_rates_has_reached_their_number() -> None:
    """A ramp from nothing, a rate that is held, a burst, a pause, and a number at a rate."""
    due = moments(STAGES, np.arange(49))
    assert [stage.tasks for stage in STAGES] == [20, 20, 5, 0, 4]
    assert due[:20] == pytest.approx([np.sqrt(number / 5) for number in range(20)])
    assert due[20:40] == pytest.approx([2 + number / 20 for number in range(20)])
    assert due[40:45].tolist() == [3.0] * 5
    assert due[45:] == pytest.approx([6.0, 6.1, 6.2, 6.3])
    assert moments(STAGES, np.array([49, 60])) == pytest.approx([6.4, 6.4])
    assert place(STAGES, np.array([0, 19, 20, 44, 45])).tolist() == [0, 0, 1, 2, 4]


@pytest.mark.parametrize("stage", [Stage.ramp(50, 5, 4), Stage.ramp(3, 3.3, 1.7), Stage.ramp(0, 7, 1)])
def test_a_ramp_stays_in_its_seconds_and_in_order(stage: Stage) -> None:
    """Whichever way it goes, and however its number of messages is rounded."""
    due = stage.moments(np.arange(stage.tasks, dtype=float))
    assert due[0] == 0
    assert (np.diff(due) > 0).all()
    assert due[-1] <= stage.seconds


@pytest.mark.parametrize("plan", [PLAN, replace(PLAN, stages=(), rate=7.0), replace(PLAN, tasks=30)])
def test_threads_take_turns_and_each_knows_what_is_due(plan: Plan) -> None:
    """All of them together have every moment of the load once, also of one that is cut short."""
    paces = [Pace.of(plan, thread, 100.0) for thread in range(len(plan.posters()))]
    found = []
    for pace, (_, count) in zip(paces, plan.posters(), strict=True):
        assert pace is not None
        found += [pace.moment(number) for number in range(count)]
        assert pace.due(99.999) == 0
        for number in range(count):
            assert pace.due(pace.moment(number)) > number
            assert pace.due(np.nextafter(pace.moment(number), 0)) <= number
    expected = moments(STAGES, np.arange(plan.tasks)) if plan.stages else np.arange(plan.tasks) / 7.0
    assert sorted(found) == pytest.approx((100 + expected).tolist())


def test_a_load_without_a_pace_has_none() -> None:
    """It is published as fast as the broker takes it; so is a smoke run of a load with stages."""
    assert Pace.of(replace(PLAN, stages=()), 0, 0.0) is None
    assert not smoke_plan(PLAN).paced


def test_stages_survive_the_plan_of_the_run_folder(tmp_path: Path) -> None:
    """So that a run that is taken up goes on by them."""
    PLAN.save(tmp_path)
    assert Plan.load(tmp_path).stages == STAGES


def written(folder: Path, stages: Any) -> Path:
    """Write a scenario with these stages."""
    path = folder / "load.yml"
    path.write_text(yaml.safe_dump({"stages": stages, "kinds": {"a": {"task": "a.b", "queue": "red"}}}))
    return path


def test_a_file_has_stages_of_each_form(tmp_path: Path) -> None:
    """In words as the record has them."""
    forms = [
        {"ramp": [0, 10], "seconds": 4},
        {"hold": 5, "seconds": 2},
        {"hold": 4, "count": 6},
        {"burst": 1000},
        {"pause": 3},
    ]
    due = scenario.read(written(tmp_path, forms)).due
    assert due == (Stage(20, 4, 0, 10), Stage(10, 2, 5, 5), Stage(6, 1.5, 4, 4), Stage(1000), Stage(0, 3))
    assert list(map(str, due)) == ["0 to 10/s for 4 s", "5/s for 2 s", "4/s for 1.5 s", "1,000 at once", "pause of 3 s"]


@pytest.mark.parametrize(
    ("stages", "wrong"),
    [
        ({"burst": 1}, "stages is {'burst': 1}: give a list of them, such as [{burst: 1000}]"),
        (
            [{"brust": 1}],
            "stages[0] has no key 'brust': the nearest is burst; known are ramp, hold, burst, pause, seconds, count",
        ),
        ([{"burst": 1}, {"hold": 5}], f"stages[1]: {scenario.STAGES}"),
        ([{"ramp": [1], "seconds": 2}], f"stages[0]: {scenario.STAGES}"),
        ([{"burst": 1, "pause": 2}], f"stages[0]: {scenario.STAGES}"),
        ([{"hold": 1, "count": 2, "seconds": 3}], f"stages[0]: {scenario.STAGES}"),
        ([{"hold": -1, "seconds": 2}], "stages[0].hold: expected `float` > 0.0"),
        ([{"ramp": [1, -2], "seconds": 2}], "stages[0].ramp[1]: expected `float` >= 0.0"),
        ([{"ramp": [1, float("inf")], "seconds": 2}], "stages[0]: give numbers that are finite"),
        (
            [{"hold": 0.1, "seconds": 2}],
            "stages[0]: not one task is due in it: raise the rate or the seconds, or say pause",
        ),
        ([{"pause": 1}], "stages has nothing but pauses"),
    ],
)
def test_a_stage_that_cannot_be_is_told_with_its_place(tmp_path: Path, stages: Any, wrong: str) -> None:
    """And with the forms that there are."""
    path = written(tmp_path, stages)
    with pytest.raises(ValueError, match=r"load\.yml") as refused:
        scenario.read(path)
    assert str(refused.value) == f"{path}: {wrong}"


def test_a_rate_beside_stages_is_refused(tmp_path: Path) -> None:
    """The stages say when messages are due."""
    refused = CliRunner().invoke(cli, ["run", "--scenario", str(written(tmp_path, [{"burst": 9}])), "--rate=5"])
    assert (refused.exit_code, refused.output.splitlines()[-1]) == (
        2,
        "Error: the scenario's stages say when tasks are due: --rate cannot stand beside them",
    )


def test_each_stage_has_how_late_it_was_sent_and_when_it_was_done() -> None:
    """So a slow client is told from a slow cluster; a stage that nothing is known of is left as it was planned."""
    nothing = np.zeros(4)
    due = np.array([100.0, 101.0, 102.0, 102.0])
    sent, begun, done = (np.add(due, more) for more in ([0, 0.1, 0.5, 0.7], [1, 1, 2, 6], [2, 2, 3, 7]))
    times = TaskTimings(
        due=due, posted=sent, start=begun, done=done, run=nothing + 1.0,
        cpu=nothing, queue=np.zeros(4, int), worker=np.zeros(4, int), outcome=np.zeros(4, int), queues=["red"],
        workers=["w1"], stage=np.array([0, 0, 1, 1]),
    )  # fmt: skip
    found = record.RunRecord(stages=[record.Stage(text="a"), record.Stage(text="b"), record.Stage(text="c")])
    record_times.add_times(found, times)
    assert [(one["late_s"], one["caught_up_s"]) for one in found.plain()["stages"][:2]] == [(0.1, 3.0), (0.7, 7.0)]
    assert found.plain()["stages"][1]["queue"]["max"] == 6.0
    assert found.plain()["stages"][2] == {"text": "c", "tasks": 0, "seconds": 0.0}
    assert found.latency.counted_from == "due"
    assert summary.by_stage(found) == [
        "    a: done 3 s after it began; at most 0.1 s late",
        "    b: done 7 s after it began; at most 0.7 s late",
    ]
