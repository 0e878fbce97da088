"""What to measure next, and which figures are reached, from measurements that are made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmark.__main__ import main
from benchmark.folder import LARGER, PARTS, SIZES, SMALLER, left, read
from benchmark.outcome import keep as keep_measurement
from benchmark.outcome import outcome
from benchmark.table import conclude
from benchmark.verdicts import MISSED, NOT_MEASURED, REACHED, Verdict, verdicts
from taskmill.model.errors import TaskmillError
from taskmill.model.run_folder import write_json

ROLES = {
    "ours": "ours",
    "pypy": "fastest",
    "post": "article",
    "huey": "other queue",
    "rq": "other queue",
    "pool": "pool",
    "amqp": "ceiling",
}
#: Verdicts by the beginning of the figure's name.
TO_ARTICLE, TO_OTHERS, FAST = "tiny, to the article's stack", "tiny, to the best other queue", "heavy on the fastest"
POSTING, THREE, COST, GROWTH = "posting, one", "posting, three", "CPU per tiny", "CPU per task, a million"


def make(folder: Path, *workloads: str, rounds: int = 1, **changes: Any) -> Path:
    """Write a folder in which nothing was measured."""
    write_json(
        folder / "benchmark.json",
        {
            "rounds": rounds,
            "command": "make benchmark",
            "environment": {"cores": "4"},
            "subjects": [
                {"name": name, "title": name.upper(), "role": role, "settings": {"processes": "one | per core"}}
                | changes.get(name, {})
                for name, role in ROLES.items()
            ],
            "workloads": [{"name": name, "n": 10, "tasks": SIZES.get(name, 1000)} for name in workloads or ["tiny"]],
        },
    )
    return folder


def measure(folder: Path, name: str, rate: float, workload: str = "tiny", number: int = 1, **changes: Any) -> None:
    """Write a measurement of so many tasks per second, half of its time publishing."""
    tasks = changes.get("tasks", SIZES.get(workload, 1000))
    found = {"tasks": tasks, "correct": tasks, "wrong": 0, "lost": 0, "cpu_s": {}}
    keep(folder, name, found | {"post_s": tasks / rate / 2, "total_s": tasks / rate} | changes, workload, number)


def keep(folder: Path, name: str, found: dict[str, Any], workload: str = "tiny", number: int = 1) -> None:
    """Write the file of one measurement."""
    path = folder / "measured" / str(number) / workload / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, found)


def verdict(folder: Path, figure: str) -> Verdict:
    """Return the verdict on the figure whose name begins so."""
    (found,) = [one for one in verdicts(read(folder)) if one.figure.startswith(figure)]
    return found


def spent(*seconds: float) -> dict[str, float]:
    """Return CPU seconds of client, broker, workers and result store."""
    return dict(zip(PARTS, seconds, strict=True))


def test_subjects_take_turns_and_each_round_begins_with_another(tmp_path: Path) -> None:
    """So that what a machine does at one time weighs on all alike."""
    make(
        tmp_path,
        "tiny",
        "heavy",
        rounds=2,
        huey={"rounds": 1},
        rq={"workloads": ["heavy"]},
        post={"share": {"tiny": 0.009}},
    )
    entries = left(tmp_path)
    order = [one["subject"] for one in entries if (one["round"], one["workload"]) == (1, "tiny")]
    assert order == ["ours", "pypy", "post", "huey", "pool", "amqp"]
    again = [one["subject"] for one in entries if (one["round"], one["workload"]) == (2, "heavy")]
    assert again == ["pypy", "post", "rq", "pool", "amqp", "ours"]
    assert [one["tasks"] for one in entries[:4]] == [1000, 1000, 9, 1000]


def test_what_was_measured_or_failed_is_not_measured_again(tmp_path: Path) -> None:
    """A file that was cut short is."""
    make(tmp_path)
    measure(tmp_path, "ours", 100)
    keep(tmp_path, "rq", {"failed": "no end\n in 60 s"})
    keep(tmp_path, "huey", {})
    (tmp_path / "measured/1/tiny/huey.json").write_text('{"tasks": ')
    assert [one["subject"] for one in left(tmp_path)] == ["pypy", "post", "huey", "pool", "amqp"]


@pytest.mark.parametrize(("rates", "expected"), [((500, 100), REACHED), ((499, 100), MISSED)])
def test_a_figure_is_reached_from_its_goal_on(tmp_path: Path, rates: tuple[float, float], expected: str) -> None:
    """Five times the article's stack."""
    make(tmp_path)
    for name, rate in zip(("ours", "post"), rates, strict=True):
        measure(tmp_path, name, rate)
    assert verdict(tmp_path, TO_ARTICLE).verdict == expected


def test_medians_are_compared_and_the_extremes_are_said(tmp_path: Path) -> None:
    """One slow round does not decide, and is not hidden."""
    make(tmp_path, rounds=3)
    for number, (ours, post) in enumerate([(600, 100), (610, 90), (100, 110)], 1):
        measure(tmp_path, "ours", ours, number=number)
        measure(tmp_path, "post", post, number=number)
    found = verdict(tmp_path, TO_ARTICLE)
    assert (found.verdict, found.came, found.spread) == (REACHED, "6.00 x", "0.91 x to 6.78 x")


@pytest.mark.parametrize("key", ["wrong", "lost"])
def test_no_figure_is_reached_with_a_task_wrong_or_lost(tmp_path: Path, key: str) -> None:
    """However fast it was; the reason is said."""
    make(tmp_path)
    counts: dict[str, Any] = {"correct": 999, key: 1}
    measure(tmp_path, "ours", 9000, **counts)
    measure(tmp_path, "post", 100)
    found = verdict(tmp_path, TO_ARTICLE)
    assert (found.verdict, found.reason) == (MISSED, f"1 {key}")


def test_a_round_of_ours_that_failed_is_a_miss(tmp_path: Path) -> None:
    """Another round does not make up for it."""
    make(tmp_path, rounds=2)
    measure(tmp_path, "ours", 9000)
    keep(tmp_path, "ours", {"failed": "no end"}, number=2)
    measure(tmp_path, "post", 100)
    assert verdict(tmp_path, TO_ARTICLE) == Verdict(
        TO_ARTICLE, "at least 5.00 x", "90.00 x", "90.00 x to 90.00 x", MISSED, "failed: no end"
    )


def test_an_other_queue_is_as_fast_as_its_right_results(tmp_path: Path) -> None:
    """What it lost it has not done."""
    make(tmp_path)
    measure(tmp_path, "ours", 300)
    measure(tmp_path, "huey", 200, correct=500, lost=500)
    measure(tmp_path, "rq", 90)
    found = verdict(tmp_path, TO_OTHERS)
    assert (found.figure, found.came, found.verdict) == (f"{TO_OTHERS} (HUEY)", "3.00 x", REACHED)


def test_an_other_queue_that_was_not_tried_leaves_the_best_open(tmp_path: Path) -> None:
    """One that was tried and failed does not."""
    make(tmp_path)
    measure(tmp_path, "ours", 300)
    measure(tmp_path, "huey", 50)
    found = verdict(tmp_path, TO_OTHERS)
    assert (found.verdict, found.reason) == (NOT_MEASURED, "not tried: RQ")
    keep(tmp_path, "rq", {"failed": "no end"})
    assert verdict(tmp_path, TO_OTHERS).verdict == REACHED
    keep(tmp_path, "huey", {"failed": "no end"})
    assert verdict(tmp_path, TO_OTHERS).reason == "no other queue came to its end"


def test_the_fastest_interpreter_answers_for_itself(tmp_path: Path) -> None:
    """Not by what the default one did."""
    make(tmp_path, "heavy")
    measure(tmp_path, "pool", 100, "heavy")
    measure(tmp_path, "ours", 500, "heavy")
    assert verdict(tmp_path, FAST).verdict == NOT_MEASURED
    measure(tmp_path, "pypy", 400, "heavy")
    assert verdict(tmp_path, FAST).verdict == REACHED


@pytest.mark.parametrize(
    ("ours", "amqp", "expected"),
    [(10_000, None, REACHED), (9_999, None, NOT_MEASURED), (8_500, 10_000, REACHED), (8_400, 10_000, MISSED)],
)
def test_posting_reaches_its_rate_or_its_share_of_the_ceiling(
    tmp_path: Path, ours: float, amqp: float | None, expected: str
) -> None:
    """Below the rate nothing is known without the ceiling."""
    make(tmp_path, "posting-1")
    measure(tmp_path, "ours", ours / 2, "posting-1")
    if amqp:
        measure(tmp_path, "amqp", amqp / 2, "posting-1")
    assert verdict(tmp_path, POSTING).verdict == expected


@pytest.mark.parametrize(("rate", "expected"), [(2400, REACHED), (2390, MISSED)])
def test_posting_grows_with_processes(tmp_path: Path, rate: float, expected: str) -> None:
    """Three do most of three times what one does."""
    make(tmp_path, "posting-1", "posting-3")
    measure(tmp_path, "ours", 1000, "posting-1")
    measure(tmp_path, "ours", rate, "posting-3")
    assert verdict(tmp_path, THREE).verdict == expected


def test_the_cost_of_a_task_is_that_of_every_part_without_the_function(tmp_path: Path) -> None:
    """Where a part was not measured, nothing is known."""
    make(tmp_path)
    measure(tmp_path, "ours", 1000, cpu_s=spent(0.05, 0.1, 0.149, 0.008), function_s=8e-6)
    found = verdict(tmp_path, COST)
    assert (found.verdict, found.came) == (REACHED, "0.299 ms")
    measure(tmp_path, "ours", 1000, cpu_s=spent(0.05, 0.1, 0.151, 0.008), function_s=8e-6)
    assert verdict(tmp_path, COST).verdict == MISSED
    measure(tmp_path, "ours", 1000, cpu_s={"client": 0.05, "workers": 0.1}, function_s=8e-6)
    assert verdict(tmp_path, COST).verdict == NOT_MEASURED


@pytest.mark.parametrize(("large", "expected"), [(330, REACHED), (331, MISSED), (200, REACHED)])
def test_a_task_of_a_million_costs_little_more_than_one_of_fewer(tmp_path: Path, large: float, expected: str) -> None:
    """Less is no miss."""
    make(tmp_path, SMALLER, LARGER)
    measure(tmp_path, "ours", 1000, SMALLER, cpu_s=spent(30, 0, 0, 0))
    measure(tmp_path, "ours", 1000, LARGER, cpu_s=spent(0, 0, large, 0))
    assert verdict(tmp_path, GROWTH).verdict == expected


@pytest.mark.parametrize(
    ("figure", "key", "good", "bad"),
    [
        ("collecting a million", "fetch_s", 39.9, 40),
        ("collecting, after", "after_last_s", 10, 10.1),
        ("client's memory", "memory_bytes", 599e6, 600e6),
    ],
)
def test_a_million_is_bounded(tmp_path: Path, figure: str, key: str, good: float, bad: float) -> None:
    """In seconds and in memory; without the figure nothing is known."""
    make(tmp_path, LARGER)
    steps: list[tuple[dict[str, Any], str]] = [({}, NOT_MEASURED), ({key: good}, REACHED), ({key: bad}, MISSED)]
    for value, expected in steps:
        measure(tmp_path, "ours", 1000, LARGER, **value)
        assert verdict(tmp_path, figure).verdict == expected


def test_nothing_measured_reaches_nothing(tmp_path: Path) -> None:
    """And misses nothing; the page says that it is not complete."""
    table = conclude(make(tmp_path))
    assert {one["verdict"] for one in table["verdicts"]} == {NOT_MEASURED}
    assert table["complete"] is False
    assert "Not everything was measured" in (tmp_path / "benchmark.md").read_text()


def test_the_page_has_every_subject_the_fastest_first(tmp_path: Path) -> None:
    """With its losses and its failure; a cell keeps what would end it."""
    make(tmp_path, rounds=1)
    for place, name in enumerate(ROLES):
        measure(tmp_path, name, 100 * (place + 1), cpu_s=spent(1, 2, 3, 4))
    measure(tmp_path, "huey", 250, correct=400, lost=600, cpu_s=spent(1, 2, 3, 4))
    keep(tmp_path, "rq", {"failed": "no end\n in 60 s"})
    assert conclude(tmp_path)["complete"] is True
    page = (tmp_path / "benchmark.md").read_text()
    section = page.split("## tiny: fib(10)")[1].split("##")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")][1:]
    titles = [line.split(" | ")[0] for line in lines]
    assert titles == ["| AMQP", "| POOL", "| POST", "| PYPY", "| OURS", "| HUEY", "| RQ (failed: no end in 60 s)"]
    huey = lines[5].strip("| ").split(" | ")
    assert huey[1:5] + huey[6:] == [
        "1,000",
        "100/s",
        "100/s to 100/s",
        "1.00 x",
        "1.000 ms",
        "2.000 ms",
        "3.000 ms",
        "4.000 ms",
        "0",
        "600",
        "1",
    ]
    assert "| OURS | processes: one &#124; per core |" in page
    assert page.endswith("Again: `make benchmark`.\n")


@pytest.mark.parametrize(
    ("change", "message"),
    [({"tasks": 999}, "999 tasks, not 1,000"), ({"correct": 998}, "do not make up its 1,000 tasks")],
)
def test_a_measurement_that_does_not_fit_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    """Another size is another benchmark; counts that leave tasks out hide a loss."""
    make(tmp_path)
    measure(tmp_path, "ours", 100)
    measure(tmp_path, "ours", 100, **{"tasks": 1000} | change)
    with pytest.raises(TaskmillError, match=message):
        read(tmp_path)


def test_a_folder_that_is_no_benchmark_is_refused(tmp_path: Path) -> None:
    """Without the file, with a role that is none, with a size that its name denies."""
    with pytest.raises(TaskmillError, match=r"holds no benchmark\.json"):
        read(tmp_path)
    with pytest.raises(TaskmillError, match="no such role: friend"):
        read(make(tmp_path, huey={"role": "friend"}))
    make(tmp_path, LARGER)
    path = tmp_path / "benchmark.json"
    path.write_text(path.read_text().replace("1000000,", "1000,").replace('"tasks": 1000000', '"tasks": 1000'))
    with pytest.raises(TaskmillError, match="another size needs another name"):
        read(tmp_path)


def run_record(**changes: Any) -> dict[str, Any]:
    """Return what is looked at of a ``run.json``."""
    return {
        "counts": {"confirmed": 10, "correct": 8, "wrong": 1, "lost": 1},
        "workload": {"tasks": 10},
        "seconds": {"post": 0.5, "collect": 1.5, "total": 2.0},
        "client": {"cpu_seconds": 0.25, "peak_memory_bytes": 1000, "after_last_s": 0.125},
        "task_seconds": {"cpu": 0.05},
    } | changes


def heard(output: str, code: int = 0, error: str = "") -> dict[str, Any]:
    """Return what a playbook hears of a load between two looks at two hosts."""
    return {
        "output": output,
        "code": code,
        "error": error,
        "before": [{"rabbitmq-server.service": 10.0, "ssh.service": 3.0}, {"celery-worker@w1.service": 5.0}],
        "after": [
            {"rabbitmq-server.service": 11.0, "memcached.service": 0.5, "ssh.service": 9.0},
            {"celery-worker@w1.service": 7.0, "celery-worker@w2.service": 1.0},
        ],
    }


def test_a_run_is_kept_with_the_cpu_of_every_part(tmp_path: Path) -> None:
    """Counts, times and memory of the record; units by part, those of none left out; fetching by a second one."""
    make(tmp_path, tiny={}, rounds=1)
    (tmp_path / "benchmark.json").write_text((tmp_path / "benchmark.json").read_text().replace("1000", "10"))
    again = run_record(seconds={"post": 0.5, "collect": 0.75, "total": 9.0})
    output = f"{json.dumps(run_record())}\n{json.dumps(again, indent=2)}\n"
    keep_measurement(tmp_path, "measured/1/tiny/ours.json", heard(output, 1))
    assert json.loads((tmp_path / "measured/1/tiny/ours.json").read_text()) == {
        "tasks": 10,
        "correct": 8,
        "wrong": 1,
        "lost": 1,
        "post_s": 0.5,
        "total_s": 2.0,
        "cpu_s": {"client": 0.25, "broker": 1.0, "workers": 3.0, "results": 0.5},
        "memory_bytes": 1000,
        "function_s": 0.005,
        "after_last_s": 0.125,
        "fetch_s": 0.75,
        "exit_code": 1,
    }
    with pytest.raises(TaskmillError, match="was already"):
        keep_measurement(tmp_path, "measured/1/tiny/ours.json", heard(output))


def test_what_was_only_posted_counts_as_right_when_it_was_confirmed() -> None:
    """Nothing was fetched, and nothing is wrong."""
    record = run_record(
        counts={"confirmed": 9, "correct": 0, "wrong": 0, "lost": 0},
        seconds={"post": 0.5, "collect": 0.0, "total": 0.5},
        task_seconds={},
    )
    found = outcome([record])
    assert (found["correct"], found["wrong"], found["lost"]) == (9, 0, 1)
    assert "function_s" not in found


@pytest.mark.parametrize(
    ("output", "error"),
    [("", "no broker\n  there"), ("{", ""), ("[1]", ""), ('{"tasks": 1000}', ""), ('{"tasks": 5, "cpu_s": 1}', "")],
)
def test_a_load_that_left_no_record_is_kept_as_failed(tmp_path: Path, output: str, error: str) -> None:
    """With what it said, or else with what its output lacks."""
    make(tmp_path)
    found = keep_measurement(tmp_path, "measured/1/tiny/huey.json", heard(output, 3, error))
    assert found["exit_code"] == 3
    assert found["failed"] == "no broker there" if error else "cannot be read" in found["failed"]
    assert read(tmp_path).measurements["tiny", "huey"].failures == [found["failed"]]


def test_a_large_workload_may_have_fewer_rounds(tmp_path: Path) -> None:
    """Three rounds of the one, one of the other."""
    make(tmp_path, "tiny", "heavy", rounds=3)
    path = tmp_path / "benchmark.json"
    data = json.loads(path.read_text())
    data["workloads"][1]["rounds"] = 1
    path.write_text(json.dumps(data))
    turns = [turn["workload"] for turn in left(tmp_path) if turn["subject"] == "ours"]
    assert turns == ["tiny", "heavy", "tiny", "tiny"]


def test_a_folder_of_an_earlier_revision_can_be_resumed_and_concluded(tmp_path: Path) -> None:
    """Its subjects are called contenders, and two of the roles have other names."""
    make(tmp_path)
    path = tmp_path / "benchmark.json"
    text = path.read_text().replace('"subjects"', '"contenders"')
    path.write_text(text.replace('"other queue"', '"peer"').replace('"article"', '"post"'))
    measure(tmp_path, "ours", 500)
    measure(tmp_path, "post", 100)
    measure(tmp_path, "huey", 100)
    assert [one["subject"] for one in left(tmp_path)] == ["pypy", "rq", "pool", "amqp"]
    assert verdict(tmp_path, TO_ARTICLE).verdict == REACHED
    assert verdict(tmp_path, TO_OTHERS).reason == "not tried: RQ"


def test_the_command_says_what_is_left_keeps_it_and_writes_the_tables(tmp_path: Path) -> None:
    """As the playbook calls it."""
    make(tmp_path)
    runner = CliRunner()
    entries = json.loads(runner.invoke(main, ["left", str(tmp_path)]).output)
    outcome_of_load = {
        "tasks": 1000,
        "correct": 1000,
        "wrong": 0,
        "lost": 0,
        "post_s": 1.0,
        "total_s": 2.0,
        "cpu_s": 0.5,
    }
    command = ["keep", str(tmp_path), entries[0]["file"]]
    kept = runner.invoke(main, command, input=json.dumps(heard(json.dumps(outcome_of_load))))
    assert kept.output == "1,000 of 1,000 right, 2.00 s\n"
    assert len(json.loads(runner.invoke(main, ["left", str(tmp_path)]).output)) == len(entries) - 1
    assert runner.invoke(main, ["report", str(tmp_path)]).output == (tmp_path / "benchmark.md").read_text()
