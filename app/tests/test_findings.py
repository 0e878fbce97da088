"""What the rules find in the figures of a run, and where its core-seconds went."""

import pkgutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import runs
from taskmill.model.run_folder import write_json
from taskmill.report import call_tree, cpu_breakdown, findings, metrics, run_folder
from taskmill.report.charts import series
from taskmill.report.metrics import Metrics
from taskmill.samples import task_timings, unit_samples

#: A run on machines of its own in which nothing is to be found.
QUIET = Metrics(
    tasks=20000, seconds=20.0, publish_seconds=10.0, published_per_s=2000.0, finished_per_s=1000.0,
    counts={"posted": 20000, "correct": 20000}, worker_busy=0.7, worker_cores=8, pool_processes=8,
    function_cpu=0.004, overhead_cpu=0.001, other_cpu=0.001, task_duration=0.0045,
    shares={cpu_breakdown.FUNCTION: 0.5, "broker": 0.1, cpu_breakdown.UNACCOUNTED: 0.01}, backlog_peak=1500.0,
    backlog_peak_at=10.0,
    queue_p50={"red": 1.0, "blue": 1.0}, queue_p99={"red": 2.0, "blue": 2.0}, consumers={"red": 2, "blue": 2},
    executed={"w1": 10000, "w2": 10000}, pool_sizes={"w1": 4, "w2": 4}, collecting_after=0.1, tail_s=0.2, evicted=0,
    memory={"worker1": 0.4}, clock_error=0.001, profile_cost=0.01,
)  # fmt: skip


#: A rule, changes to the quiet run to which it applies, and what the evidence then says.
CASES: list[tuple[str, dict[str, Any], list[str]]] = [
    ("bad_results", {"counts": {"posted": 20000, "lost": 3, "failed": 2}}, ["3 lost and 2 failed of 20,000"]),
    ("parked_tasks", {"parked": 2}, ["2 tasks parked"]),
    ("unstored_results", {"acknowledged": 300, "acknowledged_from": "workers"}, ["300 tasks", "counted them"]),
    ("unstored_results", {"acknowledged": 1, "acknowledged_from": "queues"}, ["1 task.", "is not known"]),
    ("evictions", {"evicted": 1234, "result_store_bytes": 64e6}, ["1,234 values", "64 MB"]),
    ("out_of_memory", {"oom_kills": {"worker1": 2}}, ["2 processes on worker1"]),
    ("restarts", {"restarts": {"celery-worker@w1.service on worker1": 1}}, ["w1.service on worker1: 1 time"]),
    ("broker_alarms", {"alarms": ["memory", "memory"], "blocked_s": 4.0}, ["Alarms: memory.", "4 s"]),
    ("broker_alarms", {"blocked_s": 4.0}, ["blocked for 4 s"]),
    ("flow_control", {"flow_samples": 3}, ["3 samples", "2,000 tasks"]),
    ("overhead", {"worker_busy": 0.97, "function_cpu": 0.0002, "overhead_cpu": 0.0008}, ["97 %", "1 ms", "20 %"]),
    ("useful", {"worker_busy": 0.97}, ["97 %", "80 %", "4 ms"]),
    ("publishing_outran", {"backlog_peak": 18000.0}, ["2,000 tasks", "1,000 finished", "18,000", "10 s"]),
    ("client_limit", {"publish_seconds": 19.0}, ["95 %", "2,000", "1,500"]),
    ("unsustained_rate", {"rate": 1200.0, "backlog_peak": 4000.0}, ["1,200", "1,000", "4,000"]),
    ("client_stalled", {"late_s": 2.5, "late_at": "1,000 tasks per second"}, ["2.5 s", "1,000 tasks"]),
    ("spare_cores", {"worker_busy": 0.3, "backlog_peak": 9000.0}, ["9,000", "30 % of 8", "8 pool processes"]),
    ("crowded_pool", {"pool_processes": 16, "worker_busy": 0.9, "task_duration": 0.01}, ["16", "8 cores", "10 ms"]),
    ("shared_machine", {"hosts_beside_workers": ["broker1", "client1"]}, ["broker1 and client1 run", "1 ms", "4 ms"]),
    ("costly_broker", {"shares": {cpu_breakdown.FUNCTION: 0.5, "broker": 0.25}}, ["25 %", "2 ms"]),
    ("costly_client", {"shares": {cpu_breakdown.FUNCTION: 0.5, "client": 0.2}}, ["20 %"]),
    ("costly_result_store", {"shares": {cpu_breakdown.FUNCTION: 0.5, "result store": 0.12}}, ["12 %"]),
    ("costly_sampling", {"shares": {cpu_breakdown.FUNCTION: 0.5, "sampling": 0.04}}, ["4.0 %"]),
    (
        "costly_taken_by_the_hypervisor",
        {"shares": {cpu_breakdown.FUNCTION: 0.5, cpu_breakdown.STOLEN: 0.03}},
        ["3.0 %"],
    ),
    ("costly_monitor", {"shares": {cpu_breakdown.FUNCTION: 0.5, "monitor": 0.05}}, ["5.0 %"]),
    ("fewer_consumers", {"consumers": {"red": 2, "blue": 1}, "queue_p50": {"red": 1.0, "blue": 3.0}}, ["3 s"]),
    ("uneven_workers", {"executed": {"w1": 18000, "w2": 2000}}, ["w1 executed 18,000", "w2 2,000"]),
    ("slow_collecting", {"collecting_after": 6.0}, ["6 s of 20 s"]),
    ("long_tail", {"tail_s": 5.0}, ["5 s of 20 s"]),
    ("duplicates", {"counts": {"duplicates": 7}}, ["7 executions"]),
    ("full_memory", {"memory": {"worker1": 0.97}}, ["97 % on worker1"]),
    ("inexact_clocks", {"clock_error": 0.5}, ["500 ms", "1 s"]),
    ("profile_cost", {"profile_cost": 0.12}, ["12 %"]),
    ("untimed_function", {"function_timed": False}, ["there is no efficiency"]),
    ("unaccounted", {"shares": {cpu_breakdown.FUNCTION: 0.5, cpu_breakdown.UNACCOUNTED: 0.18}}, ["18 %"]),
    ("sustained_rate", {"rate": 1000.0}, ["1,000 tasks per second", "1,500"]),
]  # fmt: skip


def apply(rule: str, **changes: Any) -> findings.Finding | None:
    """Return the finding of one rule for the quiet run with some metrics changed."""
    by_name = {rule.__name__: rule for rule in findings.RULES}
    return by_name[rule](replace(QUIET, **changes))


def test_a_run_without_anything_to_say_has_no_findings() -> None:
    """Rules keep quiet when the figures are well."""
    assert findings.find(QUIET) == []


@pytest.mark.parametrize(("rule", "changes", "evidence"), CASES)
def test_each_rule_finds_what_it_is_for_and_shows_its_metrics(
    rule: str, changes: dict[str, Any], evidence: list[str]
) -> None:
    """A finding rests on the figures that it shows; without the change that made it, the rule keeps quiet."""
    assert apply(rule) is None
    finding = apply(rule, **changes)
    assert finding is not None
    assert [text for text in evidence if text not in finding.evidence] == []
    assert finding.advice or finding.kind == "good"
    assert finding in findings.find(replace(QUIET, **changes))


def test_no_rule_is_left_untested() -> None:
    """A new rule brings its case."""
    assert {rule.__name__ for rule in findings.RULES} == {rule for rule, _, _ in CASES}


def test_no_rule_is_left_out() -> None:
    """A rule that is written into a topic's module is applied."""
    modules = [getattr(findings, module.name) for module in pkgutil.iter_modules(findings.__path__)]
    written = {
        function
        for module in modules
        for function in vars(module).values()
        if callable(function) and getattr(function, "__annotations__", {}).get("return") == "Finding | None"
    }
    assert written == set(findings.RULES)


def test_without_metrics_there_are_no_findings() -> None:
    """A run of which nothing is known has no findings."""
    assert findings.find(Metrics()) == []


def test_overhead_says_what_larger_tasks_would_do() -> None:
    """Ten calls of 0.2 ms in a message that costs 0.8 ms: 0.28 ms a call in place of 1 ms."""
    finding = apply("overhead", worker_busy=0.97, function_cpu=0.0002, overhead_cpu=0.0008)
    assert finding is not None
    assert "3.6 times" in finding.advice
    assert "about 3,571" in finding.advice


def test_cores_that_others_kept_busy_are_not_laid_to_the_workers() -> None:
    """With half of the cores' time unaccounted for, that is the finding, and neither overhead nor work is."""
    shares = {cpu_breakdown.FUNCTION: 0.1, cpu_breakdown.UNACCOUNTED: 0.5}
    for costs in ({"function_cpu": 0.0002, "overhead_cpu": 0.0008}, {}):
        limits = findings.find(replace(QUIET, worker_busy=0.99, shares=shares, **costs))  # type: ignore[arg-type]
        assert [finding.title for finding in limits if finding.kind == "limit"] == ["Something else took the cores."]


PAUSE = {"text": "pause of 5 s", "tasks": 0, "seconds": 5.0}
BURST = {"text": "5,000 at once", "tasks": 5000, "seconds": 0.0, "late_s": 9.0}


@pytest.mark.parametrize(("between", "late"), [(PAUSE, (3.0, "200/s for 10 s")), (BURST, (0.02, "100/s for 5 s"))])
def test_of_stages_the_one_in_which_the_client_was_late_is_named(
    tmp_path: Path, between: dict[str, Any], late: tuple[float, str]
) -> None:
    """What is due at once is late by nature, and what follows that is, too."""
    first = {"text": "100/s for 5 s", "tasks": 500, "seconds": 5.0, "late_s": 0.02}
    last = {"text": "200/s for 10 s", "tasks": 2000, "seconds": 10.0, "late_s": 3.0}
    measured = metrics.measure(run_folder.read(runs.make(tmp_path / "run", stages=[first, between, last])), None)
    assert (measured.late_s, measured.late_at) == late
    told = apply("client_stalled", late_s=measured.late_s, late_at=measured.late_at)
    assert (told is not None) == (between is PAUSE)


def test_what_is_broken_comes_first() -> None:
    """A fault stands before a limit, a limit before a note."""
    changes = {"evicted": 5, "worker_busy": 0.97, "flow_samples": 1, "rate": 1000.0}
    kinds = [finding.kind for finding in findings.find(replace(QUIET, **changes))]  # type: ignore[arg-type]
    assert kinds == sorted(kinds, key=findings.KINDS.index)
    assert {"fault", "limit", "note", "good"} <= set(kinds)


def test_metrics_come_from_the_folder(tmp_path: Path) -> None:
    """The figures of a made-up run, measured again from its files."""
    run = run_folder.read(runs.make(tmp_path / "run"))
    measured = metrics.measure(run, cpu_breakdown.measure(run))
    assert measured.function_cpu == pytest.approx(runs.FUNCTION)
    assert measured.overhead_cpu == pytest.approx(0.0018 - runs.FUNCTION, rel=0.01)
    assert measured.worker_busy == pytest.approx(0.89, abs=0.02)
    assert (measured.worker_cores, measured.pool_processes) == (4, 8)
    assert measured.hosts_beside_workers == ["broker1", "client1"]
    assert measured.backlog_peak == pytest.approx(18000, rel=0.02)
    assert measured.flow_samples == 1
    assert measured.profile_cost == pytest.approx(0.08)
    assert measured.consumers == {"red": 2, "green": 2, "blue": 2}


def test_parts_are_measured_and_add_up_to_cores_times_seconds(tmp_path: Path) -> None:
    """Four cores for twenty seconds are eighty core-seconds, in parts of known size and a remainder."""
    breakdown = cpu_breakdown.measure(run_folder.read(runs.make(tmp_path / "run")))
    assert breakdown is not None
    assert (breakdown.cores, breakdown.total) == (4, 80.0)
    assert sum(part.core_seconds for part in breakdown.parts) == pytest.approx(80.0)
    expected = {
        cpu_breakdown.FUNCTION: 13.4, cpu_breakdown.OVERHEAD: 22.6, "broker": 12.0, "result store": 3.0,
        "client": 2.8, "monitor": 2.4, "sampling": 0.4,
    }  # fmt: skip
    assert {name: breakdown.core_seconds(name) for name in expected} == pytest.approx(expected, rel=0.01)
    rest = 80 - sum(expected.values()) - 0.04 - (breakdown.core_seconds(cpu_breakdown.IDLE) or 0)
    assert breakdown.core_seconds(cpu_breakdown.UNACCOUNTED) == pytest.approx(rest, abs=0.05)


def test_without_times_of_tasks_the_bare_function_stands_in_and_it_is_said(tmp_path: Path) -> None:
    """An app whose results carry no times."""
    breakdown = cpu_breakdown.measure(
        run_folder.read(runs.make(tmp_path / "run", task_seconds={"run": None, "cpu": None}))
    )
    assert breakdown is not None
    assert breakdown.parts[0].name == cpu_breakdown.FUNCTION
    assert breakdown.parts[0].core_seconds == pytest.approx(20000 * runs.FUNCTION)
    assert "bare function" in breakdown.parts[0].source


def test_without_any_time_of_the_function_workers_are_one_part(tmp_path: Path) -> None:
    """What cannot be told apart is not."""
    made = runs.make(tmp_path / "run", task_seconds={"cpu": None}, environment={"function_seconds": None})
    breakdown = cpu_breakdown.measure(run_folder.read(made))
    assert breakdown is not None
    assert breakdown.core_seconds("workers, the function included") == pytest.approx(36.0, rel=0.01)
    assert breakdown.notes


def test_cores_of_machines_count_once_each(tmp_path: Path) -> None:
    """Three hosts with boots of their own are three machines."""
    hosts = runs.base_record(1, 1.0, 1.0)["environment"]["hosts"]
    apart = {name: host | {"boot_id": name} for name, host in hosts.items()}
    breakdown = cpu_breakdown.measure(run_folder.read(runs.make(tmp_path / "run", environment={"hosts": apart})))
    assert breakdown is not None
    assert breakdown.cores == 12
    assert sum(part.share for part in breakdown.parts) == pytest.approx(1.0)


def test_hosts_clock_is_reckoned_with_in_the_split(tmp_path: Path) -> None:
    """With a clock five seconds ahead, a service's use is taken from where the run was on that clock."""
    made = runs.make(tmp_path / "run")
    offset = {"broker1": {"offset_s": 5.0, "error_s": 0.001}}
    write_json(made / "hosts" / "clocks.json", {"client": "client1", "start": offset, "end": offset})
    breakdown = cpu_breakdown.measure(run_folder.read(made))
    assert breakdown is not None
    # The samples end three seconds after the run, so that a quarter of it less the rest is not in them.
    assert breakdown.core_seconds("broker") == pytest.approx(12.0 * 15 / 20, rel=0.02)


def test_counter_of_a_restarted_unit_goes_on(tmp_path: Path) -> None:
    """What a unit used before its restart and after it both count; a vanished process's share does not."""
    path = tmp_path / "h.units.csv"
    lines = ["unix,unit,cpu_s,rss_bytes,processes", "0,a.service,10,1,1", "1,a.service,12,1,1", "2,a.service,0.5,1,1"]
    lines += ["3,a.service,1.5,1,1", "0,other,500,1,9", "1,other,300,1,8", "2,other,301,1,8", "1,late.service,0.25,1,1"]
    path.write_text("\n".join([*lines, "broken", "4,a.service,x,1,1", ""]))
    units = {unit.name: unit for unit in unit_samples.read(path, cores=4)}
    assert units["a.service"].cpu.tolist() == [0, 2, 2.5, 3.5]
    assert units["other"].cpu.tolist() == [0, 0, 1]
    assert units["late.service"].cpu.tolist() == [0.25]


def test_units_belong_to_parts_by_pattern() -> None:
    """taskmill knows no unit's name; the run's environment does."""
    assert unit_samples.part_of("celery-worker@w1.service", runs.PARTS) == "worker"
    assert unit_samples.part_of("cron.service", runs.PARTS) == unit_samples.OTHER


def test_steps_cover_the_run_in_round_numbers() -> None:
    """881 seconds in at most 400 steps are steps of five."""
    borders = series.edges(881.0)
    assert borders[1] == 5
    assert borders[-1] >= 881
    assert len(series.edges(0.0)) >= 2


def test_quantile_over_time_is_that_of_each_step() -> None:
    """Medians of two steps, and nothing for an empty one."""
    times = np.array([0.1, 0.2, 0.3, 2.5, 2.6, np.nan])
    values = np.array([3.0, 1.0, 2.0, 10.0, 20.0, 99.0])
    medians = series.quantile_over_time(times, values, np.arange(4.0), 0.5)
    assert medians[0] == 2.0
    assert np.isnan(medians[1])
    assert medians[2] == 20.0


def test_histogram_counts_every_value_once() -> None:
    """Shares add up to one, times of nothing and less included."""
    result = series.log_histogram([np.array([-1.0, 0.0, 0.001, 1.0, np.nan]), np.array([10.0])])
    assert result is not None
    assert [share.sum() for share in result[1]] == pytest.approx([1.0, 1.0])
    assert series.log_histogram([np.array([np.nan])]) is None


def test_thinning_keeps_peaks() -> None:
    """A single high sample among a hundred thousand stays."""
    values = np.zeros(100_000)
    values[54_321] = 7
    assert series.thinned(np.arange(100_000.0), values)[1].max() == 7


def test_call_tree_divides_a_functions_time_among_its_callers() -> None:
    """A function called by two gives each what it spent for it; recursion does not grow the tree."""
    a, b, shared, leaf = (("m.py", line, name) for line, name in enumerate("absl", 1))
    entries: Any = {
        a: (1, 1, 1.0, 4.0, {}),
        b: (1, 1, 1.0, 8.0, {}),
        shared: (4, 4, 2.0, 10.0, {a: (1, 1, 0.6, 3.0), b: (1, 1, 1.4, 7.0), shared: (2, 2, 0.0, 1.0)}),
        leaf: (4, 4, 8.0, 8.0, {shared: (4, 4, 8.0, 8.0)}),
    }
    tree = call_tree.from_profile(entries)
    assert tree is not None
    assert tree.value == 12.0
    first, second = tree.calls
    assert (first.calls[0].value, second.calls[0].value) == (3.0, 7.0)
    assert first.calls[0].calls[0].value == pytest.approx(2.4)
    assert second.calls[0].calls[0].value == pytest.approx(5.6)


def test_sampled_stacks_become_a_tree_without_what_is_too_small_to_see() -> None:
    """Counts of the same place add up; one sample in a thousand is left out."""
    tree = call_tree.from_stacks({("main (a/b.py:1)", "work (c/d.py:2)"): 600, ("main (a/b.py:1)",): 399, ("rare",): 1})
    assert [(call.name, call.value) for call in tree.calls] == [("main", 999)]
    assert tree.calls[0].calls[0].value == 600
    assert (tree.calls[0].package, tree.calls[0].place) == ("a", "a/b.py:1")


def test_times_of_workers_are_on_the_clients_clock(tmp_path: Path) -> None:
    """The workers' clocks are 0.02 s ahead; no task starts before it is posted."""
    times = task_timings.load(runs.make(tmp_path / "run"))
    assert times is not None
    assert float(times.queue_time().min()) > -0.002
    assert times.summary()["latency"]["max"] < 21
