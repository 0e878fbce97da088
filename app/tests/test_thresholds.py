"""What a run has to reach."""

import pytest

from conftest import TASKS, Taskmill
from taskmill.model.thresholds import METRICS, Requirement, judge, unmet

RECORD = {
    "rates": {"completed_per_s": 500.0},
    "counts": {"lost": 0},
    "latency": {"queue": {"p99": 1.5}},
    "efficiency": None,
    "by_kind": {"small": {"lost": 0, "queue": {"p99": 4.0}}, "v1.2-x": {"wrong": 3}},
}


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("completed_per_s>=500", True),
        ("completed_per_s > 500", False),
        ("p99_queue_s<2", True),
        ("p99_queue_s<=1.5e0", True),
        ("lost==0", True),
        ("lost of small == 0", True),
        ("p99_queue_s of small>5", False),
        ("wrong of v1.2-x<=3", True),
        ("wrong of other<=3", False),
        # What the run does not have is not met, whatever the bound.
        ("efficiency<=1", False),
        ("p99_latency_s<60", False),
    ],
)
def test_a_requirement_is_judged_by_the_record(text: str, met: bool) -> None:
    """It is met just when the record has the metric and the comparison holds."""
    (judged,) = judge([Requirement.parse(text)], RECORD)
    assert judged["met"] is met
    assert len(unmet([judged])) == (not met)


def test_an_unknown_metric_lists_the_known_ones() -> None:
    """Nobody has to look them up."""
    with pytest.raises(ValueError, match="no metric 'speed'") as error:
        Requirement.parse("speed>1")
    assert all(metric in str(error.value) for metric in METRICS)


def test_a_requirement_of_a_kind_is_named_with_it() -> None:
    """As it is given, so that it can be read again; a kind has metrics of its own."""
    one = Requirement.parse(" p99_queue_s  of small < 5")
    assert str(one) == "p99_queue_s of small<5"
    assert Requirement.parse(str(one)) == one
    assert unmet(judge([Requirement.parse("p99_queue_s of small<1")], RECORD)) == [
        "not met: p99_queue_s of small<1 (p99_queue_s of small is 4)"
    ]
    with pytest.raises(ValueError, match="there is no metric 'total_s' of a kind; known are correct, lost, wrong"):
        Requirement.parse("total_s of small<5")


@pytest.mark.parametrize("text", ["", "lost", "lost=0", "lost=>0", "lost==", "lost==none", "lost==--1", ">=5"])
def test_what_is_no_requirement_is_refused(text: str) -> None:
    """The message shows the form."""
    with pytest.raises(ValueError, match=r"form METRIC OPERATOR NUMBER|is no number"):
        Requirement.parse(text)


@pytest.mark.usefixtures("worker")
def test_a_run_that_misses_what_is_required_ends_with_its_own_code(taskmill: Taskmill) -> None:
    """Exit code 5, the unmet one named with its value, also of a run that is checked later; met ones end with 0."""
    done = taskmill("run", *TASKS, "--tasks=60", "--n=5", "--require=lost==0", "--require=completed_per_s>=1e9")
    assert done.code == 5
    assert "taskmill: not met: completed_per_s>=1e+09 (completed_per_s is " in done.err
    assert "lost" not in done.err
    folder = str(taskmill.latest)
    assert taskmill("check", folder, "--require=lost==0", "--require=p99_queue_s<60").code == 0
    collected = taskmill("collect", folder)
    assert (collected.code, "completed_per_s>=1e+09" in collected.err) == (5, True)
    again = taskmill("check", folder, "--require=max_execution_s<0")
    assert (again.code, "not met: max_execution_s<0" in again.err) == (5, True)


def test_a_wrong_requirement_is_wrong_usage_before_anything_is_posted(taskmill: Taskmill) -> None:
    """Exit code 2 and no run folder."""
    done = taskmill("run", *TASKS, "--tasks=60", "--n=5", "--require=speed>1")
    assert (done.code, "completed_per_s" in done.err) == (2, True)
    assert not taskmill.runs.exists()
    assert taskmill("check", "/nowhere", "--require=lost==0").code == 2


def test_checking_what_is_no_run_says_so(taskmill: Taskmill) -> None:
    """A folder without a record has nothing to check."""
    taskmill.runs.mkdir()
    done = taskmill("check", str(taskmill.runs), "--require=lost==0")
    assert (done.code, "no run.json" in done.err) == (3, True)
