"""The search for a cluster's highest steady rate, on clusters that are simulated, and once on a real one."""

from __future__ import annotations

import importlib
import io
import json
import re
import shutil
import signal
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import runs
from conftest import TASKS, Taskmill
from services import wait_until
from taskmill.capacity import measure, scale, steady
from taskmill.capacity.search import FIRST_GUESS, answer, search
from taskmill.cli import cli
from taskmill.model.errors import TaskmillError
from taskmill.model.plan import Plan, Route
from taskmill.model.run_folder import claimed, new_folder, write_json
from taskmill.progress import Quiet
from taskmill.report import text
from taskmill.session.probe import samples

PLAN = Plan(name="capacity", routes=(Route("any", "red"),), tasks=1, args=(20,), check=True, expect=6765)
SETTINGS = measure.Settings(seconds=20.0, tolerance=0.05, rounds=3, budget=1000.0)


def tried(limit: float, unpaced: float, rounds: int = 3, tolerance: float = 0.05) -> tuple[Any, list[float]]:
    """Search a cluster that is steady up to the limit; return what was found and the rates that were tried."""
    rates: list[float] = []
    while (found := search(unpaced, tolerance, rounds, [rate <= limit for rate in rates])).next is not None:
        rates.append(found.next)
        assert len(rates) < 60
    return found, rates


@pytest.mark.parametrize("limit", [300.0, 700.0, 899.0, 950.0, 1000.0, 2500.0])
def test_every_round_ends_within_the_tolerance_of_the_limit(limit: float) -> None:
    """Wherever the limit lies from the load without a pace, below it or far above."""
    found, _ = tried(limit, 1000.0)
    assert len(found.rounds) == 3
    for one in found.rounds:
        assert one.low <= limit < one.high <= one.low * 1.051


def test_the_answer_is_a_steady_rate_and_its_spread_holds_the_limit() -> None:
    """The median of the rounds' steady rates, between the least of them and the highest that was not."""
    found, rates = tried(850.0, 1000.0)
    best = answer(found)
    assert best is not None
    assert best.low <= best.rate <= 850.0 < best.high
    assert best.rate in rates


def test_a_round_is_short_once_the_limit_is_about_known() -> None:
    """The first guess is near, so that a whole search takes few loads."""
    _, rates = tried(860.0, 1000.0)
    assert len(rates) <= 15


def test_a_limit_far_from_the_guess_is_reached_by_longer_steps() -> None:
    """Steps of the tolerance alone would take a load for each 5 %."""
    _, rates = tried(2500.0, 1000.0, rounds=1)
    assert len(rates) <= 9


def test_later_rounds_try_other_rates() -> None:
    """Rounds that tried the same rates would not tell the spread."""
    _, rates = tried(850.0, 1000.0)
    assert len(set(rates)) == len(rates)


def test_a_search_in_progress_knows_its_bounds() -> None:
    """After one steady load there is an answer without an upper bound of its own."""
    found = search(1000.0, 0.05, 3, [True])
    best = answer(found)
    assert best is not None
    assert best.rate == best.low == best.high == FIRST_GUESS * 1000
    assert answer(search(1000.0, 0.05, 3, [False])) is None


def test_a_cluster_that_is_never_steady_is_an_error() -> None:
    """The search does not go down for ever, and says how far it went."""
    with pytest.raises(TaskmillError, match="no rate was steady"):
        tried(1.0, 1000.0)


def served(rate: float, limit: float, seconds: float, seed: int) -> tuple[Any, Any]:
    """Return when tasks were posted, and when one server that does so many per second, unevenly, was done with each."""
    generator = np.random.default_rng(seed)
    posted = np.arange(round(rate * seconds)) / rate
    takes = generator.gamma(4.0, 1 / (4.0 * limit), len(posted))
    done = np.empty(len(posted))
    free = 0.0
    for place, (came, needs) in enumerate(zip(posted, takes, strict=True)):
        free = max(free, came) + needs
        done[place] = free
    return posted, done


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(("share", "state"), [(0.5, steady.STEADY), (0.9, steady.STEADY), (1.1, steady.GROWING)])
def test_growth_is_told_from_noise(share: float, state: str, seed: int) -> None:
    """At nine tenths of what a server can do the backlog wavers; at eleven tenths it grows."""
    assert steady.judge(500 * share, *served(500 * share, 500.0, 20.0, seed)).state == state


def test_a_backlog_at_the_workers_counts_too() -> None:
    """No queue is looked at: a worker that takes everything at once and does not keep up is found out."""
    verdict = steady.judge(1000.0, *served(1000.0, 500.0, 10.0, 1))
    assert verdict.slope.value == pytest.approx(500.0, rel=0.1)
    assert verdict.backlog > 4000


def test_a_backlog_that_swings_is_noise() -> None:
    """Tasks that are done in heaps let it rise and fall; a slope that such swings leave is none."""
    posted = np.arange(2000) / 100
    verdict = steady.judge(100.0, posted, np.array([7.5, 13.5, 30.0])[np.searchsorted([7.5, 13.5], posted)])
    assert verdict.slope.value > 1.0
    assert verdict.steady


def test_what_fills_at_the_start_is_no_growth() -> None:
    """Pools and prefetch fill in the first quarter of a load, which is left out."""
    posted = np.arange(2000) / 100
    slope = steady.judge(100.0, posted, np.where(posted < 2.5, 2 * posted, posted + 2.5)).slope
    assert (slope.low, slope.high) == pytest.approx((0.0, 0.0), abs=0.5)


def test_a_backlog_that_stands_still_is_steady() -> None:
    """Tasks that each take long are no growth, however many are under way."""
    posted = np.arange(2000) / 100
    assert steady.judge(100.0, posted, posted + 3.0).steady


def test_a_client_that_does_not_keep_the_pace_is_told() -> None:
    """A rate that was not offered says nothing of the cluster."""
    posted = np.arange(2000) / 90
    assert steady.judge(100.0, posted, posted + 0.01).state == steady.NOT_OFFERED


def test_the_slope_and_its_interval_are_those_of_sen() -> None:
    """The figures that scipy.stats.theilslopes (1.17.1) gives for these values."""
    values = np.array([3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0, 5.0, 3.0, 5.0, 8.0])
    slope = steady.trend(np.arange(12.0), values)
    assert (slope.value, slope.low, slope.high) == pytest.approx((11 / 30, 0.0, 0.8))
    level = steady.trend(np.arange(8.0), np.zeros(8))
    assert (level.value, level.low, level.high) == (0.0, 0.0, 0.0)


def test_what_fills_and_empties_the_pools_is_no_part_of_the_ceiling() -> None:
    """A slow start and a straggler do not lower the rate of a load without a pace."""
    done = np.concatenate(([0.0], np.arange(1, 1000) / 100 + 5, [60.0]))
    assert steady.ceiling(done) == pytest.approx(100.0)


@dataclass
class Cluster:
    """A simulated one: does so many tasks per second, is asked as :mod:`taskmill.capacity.measure` asks a real one."""

    limit: float
    client: float = 1e9
    counts: dict[str, int] = field(default_factory=dict)
    plans: list[Plan] = field(default_factory=list)
    stop_after: int = 1000
    stop: threading.Event = field(default_factory=threading.Event)

    def __call__(self, plan: Plan, directory: Path) -> Path | None:
        """Leave what a load leaves."""
        self.plans.append(plan)
        if len(self.plans) > self.stop_after:
            self.stop.set()
            return None
        rate = min(plan.rate or 1e5, self.client)
        posted, done = served(rate, self.limit, plan.tasks / rate, len(self.plans))
        folder = new_folder(directory, plan.name)
        zeros = np.zeros(len(posted), dtype=int)
        np.savez(
            folder / "tasks.npz", due=posted, posted=posted, done=done, start=done - 1 / self.limit,
            run=np.full(len(posted), 1 / self.limit), cpu=np.full(len(posted), 1 / self.limit), queue=zeros,
            worker=zeros, outcome=zeros, queues=np.array(["red"]), workers=np.array(["w1@a"]),
        )  # fmt: skip
        write_json(folder / "run.json", self.record(float(done[-1]), rate))
        plan.save(folder)
        return folder

    def record(self, total: float, rate: float) -> dict[str, Any]:
        """Return what of a record is looked at."""
        return {
            "state": "complete", "problems": [f"{number} {name}" for name, number in self.counts.items()],
            "counts": {"lost": 0, "wrong": 0, "failed": 0} | self.counts, "seconds": {"total": total},
            "rates": {"posted_per_s": rate, "completed_per_s": 1.0}, "latency": {}, "client": {"late_s": 0.1},
            "workers": [{"name": "w1@a", "pool_size": 1}],
        }  # fmt: skip

    def search(self, tmp_path: Path, settings: measure.Settings = SETTINGS) -> tuple[measure.Search, int]:
        """Search it."""
        PLAN.save(tmp_path)
        one = measure.Search(tmp_path, PLAN, settings)
        return one, one.run(self, self.stop, Quiet(io.StringIO()))


def test_the_capacity_of_a_cluster_is_found_and_written_down(tmp_path: Path) -> None:
    """One number with its spread, as data and as Markdown, and every load with what it came to."""
    one, code = Cluster(400.0).search(tmp_path)
    assert code == 0
    kept = json.loads((tmp_path / "capacity.json").read_text())
    assert kept == json.loads(json.dumps(one.data))
    assert kept["state"] == "complete"
    assert kept["answer"]["low"] <= kept["answer"]["rate"] <= kept["answer"]["high"]
    assert kept["answer"]["rate"] == pytest.approx(400.0, rel=0.08)
    assert all((tmp_path / load["folder"] / "run.json").exists() for load in kept["loads"])
    document = (tmp_path / "capacity.md").read_text()
    assert f"{kept['answer']['rate']:,.0f}/s" in document
    assert document.count("-per-s`") == len(kept["loads"])


def test_the_load_without_a_pace_grows_until_it_lasts(tmp_path: Path) -> None:
    """It begins with few tasks, which may be slow ones, and ends with about as many as a load will have."""
    cluster = Cluster(400.0)
    cluster.search(tmp_path)
    unpaced = [plan.tasks for plan in cluster.plans if plan.rate is None]
    assert unpaced[0] == measure.START
    assert 400 * 20 / 2 <= unpaced[-1] <= 400 * 20 * 2


def test_no_load_is_begun_that_the_budget_has_no_room_for(tmp_path: Path) -> None:
    """The search ends with what it has, and the way to go on."""
    one, code = Cluster(400.0).search(tmp_path, measure.Settings(budget=measure.AROUND + 15))
    assert (code, one.data["state"], one.data["loads"]) == (3, "budget used up", [])
    assert "No steady rate was found" in (tmp_path / "capacity.md").read_text()


def test_what_was_interrupted_goes_on_and_comes_to_the_same_end(tmp_path: Path) -> None:
    """Loads that are done are not done again, and the rates are those of a search that was not interrupted."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole, _ = Cluster(400.0).search(tmp_path / "a")
    cluster = Cluster(400.0, stop_after=6)
    one, code = cluster.search(tmp_path / "b")
    assert (code, one.data["state"]) == (130, "interrupted")
    before = len(one.data["loads"])
    assert before > 0
    cluster.stop_after, cluster.stop = 1000, threading.Event()
    cluster.plans.pop()
    again = measure.Search.resume(tmp_path / "b", 2000.0)
    assert again.run(cluster, cluster.stop, Quiet(io.StringIO())) == 0
    assert [load["rate"] for load in again.data["loads"]] == [load["rate"] for load in whole.data["loads"]]
    assert again.data["settings"]["budget"] == 2000.0


@pytest.mark.parametrize("name", ["lost", "wrong", "failed"])
def test_a_result_that_is_not_right_ends_the_search(tmp_path: Path, name: str) -> None:
    """There is no capacity of a cluster that loses tasks; the load is named, and so is the fault."""
    with pytest.raises(measure.FaultsError, match=f"3 {name}.*unpaced") as raised:
        Cluster(400.0, counts={name: 3}).search(tmp_path)
    assert raised.value.exit_code == 1
    assert json.loads((tmp_path / "capacity.json").read_text())["state"] == "failed"


def test_tasks_too_slow_for_the_window_are_refused_with_a_window_that_is_right(tmp_path: Path) -> None:
    """A load of a dozen tasks tells nothing."""
    with pytest.raises(TaskmillError, match=r"--seconds 1[0-9][0-9] or more"):
        Cluster(0.5).search(tmp_path)


def test_the_client_is_named_when_it_cannot_post_faster(tmp_path: Path) -> None:
    """Then the answer is the client's, and more worker hosts bring nothing."""
    one, _ = Cluster(400.0, client=200.0).search(tmp_path)
    assert one.data["limit"]["part"] == "client"
    rates = {row["rate"] for row in one.data["extrapolation"]}
    assert rates == {one.data["answer"]["rate"]}


def found(limit: float, posted: float, hosts: int = 2) -> dict[str, Any]:
    """Return the data of a search that found so many per second on so many worker hosts."""
    return {"answer": {"rate": limit}, "unpaced": {"worker_hosts": hosts, "posted_per_s": posted}}


def test_more_worker_hosts_bring_more_up_to_the_lowest_ceiling() -> None:
    """In a straight line, then not at all."""
    ceilings = [scale.Ceiling("client", 9000.0, ""), scale.Ceiling("broker", 2500.0, "")]
    rows = scale.extrapolate(found(1000.0, 9000.0), "workers", ceilings, (4, 8))
    assert [(row["worker_hosts"], row["rate"], row["held_by"]) for row in rows] == [
        (2, 1000.0, "workers"),
        (4, 2000.0, "workers"),
        (8, 2500.0, "broker"),
    ]


def test_what_is_held_by_the_broker_does_not_grow_with_the_workers() -> None:
    """Where the workers wait for the broker, more of them wait."""
    rows = scale.extrapolate(found(1000.0, 9000.0), "broker", [], (4,))
    assert rows[1] == {"worker_hosts": 4, "rate": 1000.0, "held_by": "broker"}


@pytest.fixture
def sampled(tmp_path: Path) -> Path:
    """Return the folder of a search whose steady load was sampled on every host."""
    Cluster(400.0).search(tmp_path)
    data = json.loads((tmp_path / "capacity.json").read_text())
    load = min(data["loads"], key=lambda one: abs(one["rate"] - data["answer"]["rate"]))
    shutil.rmtree(tmp_path / load["folder"])
    runs.make(tmp_path / load["folder"])
    (tmp_path / load["folder"] / "hosts").rename(tmp_path / "hosts")
    return tmp_path


def test_samples_that_came_later_tell_what_holds_it_and_the_brokers_ceiling(sampled: Path) -> None:
    """`taskmill report` of the folder: each part's CPU per task, and cores that were not all in use."""
    done = CliRunner().invoke(cli, ["report", str(sampled)])
    assert done.exit_code == 0, done.output
    data = json.loads((sampled / "capacity.json").read_text())
    ceilings = {one["part"]: one["rate"] for one in data["ceilings"]}
    assert ceilings["broker"] == pytest.approx(runs.CORES / runs.UNITS["broker1"]["rabbitmq-server.service"], rel=0.02)
    assert data["limit"]["text"] in done.output
    assert "broker1, client1, worker1" in data["limit"]["text"]
    assert (sampled / "capacity.md").read_text().count("| broker |") == sum(
        row["held_by"] == "broker" for row in data["extrapolation"]
    )


@pytest.mark.parametrize(
    ("groups", "part"),
    [
        (["workers"], "workers"),
        (["broker", "results"], "broker"),
        (["workers", "broker"], "cores"),
        (["client"], "client"),
    ],
)
def test_cores_that_are_all_in_use_are_named_by_whose_they_are(sampled: Path, groups: list[str], part: str) -> None:
    """A machine of the workers alone, of the broker, or of both."""
    data = json.loads((sampled / "capacity.json").read_text())
    for load in data["loads"]:
        record = sampled / load["folder"] / "run.json"
        changed = json.loads(record.read_text())
        changed["environment"] = {"hosts": {"worker1": {"groups": groups, "boot_id": "a", "cores": runs.CORES}}}
        write_json(record, changed)
    for host in ("broker1", "client1"):
        (sampled / "hosts" / f"{host}.json").unlink()
    idle = re.sub(r'"(idle|iowait)": [0-9.]+', r'"\1": 1.0', (sampled / "hosts" / "worker1.json").read_text())
    (sampled / "hosts" / "worker1.json").write_text(idle)
    assert measure.conclude_again(sampled)["limit"]["part"] == part


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--n=5"], "Missing option '--task'"),
        ([TASKS[0], "--n=5", "--seconds=0"], "--seconds"),
        ([TASKS[0], "--n=5", "--rate=5"], "--rate"),
        ([TASKS[0], "--n=5", "--resume=.", "--budget=9"], "--task, --n cannot stand beside it"),
    ],
)
def test_options_that_make_no_search_are_refused(arguments: list[str], said: str) -> None:
    """Before anything is looked at."""
    done = CliRunner().invoke(cli, ["capacity", *arguments])
    assert done.exit_code == 2
    assert said in done.output


def test_every_kind_of_a_scenario_is_tried_before_a_search(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One that comes once in ten messages, too."""
    often, seldom = (f"{{task: a.{name}, queue: red, weight: {weight}}}" for name, weight in (("x", 9), ("y", 1)))
    (tmp_path / "mix.yml").write_text(f"kinds: {{often: {often}, seldom: {seldom}}}\n")
    tried: list[str] = []

    def try_tasks(plan: Plan, *_: Any) -> Any:
        tried.extend(sample.route.name for sample in samples(plan))
        raise TaskmillError("that was all")

    module = importlib.import_module("taskmill.cli.capacity")
    monkeypatch.setattr(module, "preflight", lambda *_: {"unstored": []})
    monkeypatch.setattr(module, "try_tasks", try_tasks)
    variables = {"CELERY_BROKER_URL": "amqp://127.0.0.1:1//", "CELERY_RESULT_BACKEND": "disabled://"}
    done = CliRunner().invoke(cli, ["capacity", f"--scenario={tmp_path / 'mix.yml'}"], env=variables)
    assert "that was all" in str(done.exception) + done.output
    assert tried == ["often", "seldom"]


def test_a_folder_without_a_search_cannot_be_resumed(taskmill: Taskmill, tmp_path: Path) -> None:
    """It is named."""
    done = taskmill("capacity", f"--resume={tmp_path}")
    assert done.code == 3
    assert f"{tmp_path} holds no search" in done.err


SEARCH = ("capacity", *TASKS, "--n=18", "--expect=2584", "--tolerance=0.5", "--rounds=1")


def interrupted(taskmill: Taskmill) -> tuple[Path, str]:
    """Begin a search, interrupt it at its first paced load, and return its folder and what it said.

    Until then no other command may work on the load.
    """
    process = taskmill.popen(*SEARCH, f"--runs-directory={taskmill.runs}", "--seconds=3")
    wait_until(lambda: any(taskmill.runs.glob("*/loads/*-per-s/ids/*.ids")), 60, "a paced load that is published")
    [load] = taskmill.runs.glob("*/loads/*-per-s")
    with pytest.raises(TaskmillError, match="another taskmill works on"), claimed(load):
        pass
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    return next(taskmill.runs.iterdir()), out


@pytest.mark.usefixtures("worker")
def test_a_search_that_is_interrupted_says_how_to_go_on(taskmill: Taskmill) -> None:
    """What it had found by then is kept."""
    folder, out = interrupted(taskmill)
    assert f"taskmill capacity --resume {folder}" in out
    data = json.loads((folder / "capacity.json").read_text())
    assert data["state"] == "interrupted"
    assert data["unpaced"]["pool_processes"] == 2


@pytest.mark.thorough
@pytest.mark.clock
@pytest.mark.timeout(240)
@pytest.mark.usefixtures("worker")
def test_the_capacity_of_a_real_cluster_is_found(taskmill: Taskmill) -> None:
    """A search that was interrupted goes on; at its end there is an answer, and what it rests on."""
    folder, _ = interrupted(taskmill)
    done = taskmill("capacity", f"--resume={folder}", "--budget=60", timeout=120)
    assert done.code == 0, done.out + done.err
    data = json.loads((folder / "capacity.json").read_text())
    assert data["answer"]["rate"] > 0
    assert data["unpaced"]["pool_processes"] == 2
    assert all(0 < load["busy"] <= 1.05 for load in data["loads"])
    assert f"This cluster does {text.rate(data['answer']['rate'])}" in done.out


@pytest.mark.thorough
@pytest.mark.usefixtures("worker")
def test_a_task_that_fails_ends_the_search_of_a_real_cluster(taskmill: Taskmill) -> None:
    """With the exit code of a run that has faults, and the folder that lists them."""
    done = taskmill("capacity", f"--runs-directory={taskmill.runs}", *TASKS, "--args", '["six"]', "--no-probe")
    assert done.code == 1
    assert "64 failed" in done.err
    assert "Traceback" not in done.err
