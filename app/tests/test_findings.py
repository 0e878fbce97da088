"""What the rules find in the figures of a run, and where its core-seconds went."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import runs
from taskmill.model.run_folder import write_json
from taskmill.report import call_tree as calls
from taskmill.report import cpu_breakdown as where
from taskmill.report import findings
from taskmill.report import metrics as facts
from taskmill.report import run_folder as folder
from taskmill.report.charts import series
from taskmill.report.metrics import Facts
from taskmill.samples import task_timings as timings
from taskmill.samples import unit_samples as units

#: A run on machines of its own in which nothing is to be found.
QUIET = Facts(
    tasks=20000, seconds=20.0, post_seconds=10.0, posted_per_s=2000.0, finished_per_s=1000.0,
    counts={"posted": 20000, "correct": 20000}, worker_busy=0.7, worker_cores=8, pool_processes=8,
    function_cpu=0.004, around_cpu=0.001, elsewhere_cpu=0.001, task_run=0.0045,
    shares={where.FUNCTION: 0.5, "broker": 0.1, where.REST: 0.01}, backlog_peak=1500.0, backlog_at=10.0,
    queue_p50={"red": 1.0, "blue": 1.0}, queue_p99={"red": 2.0, "blue": 2.0}, consumers={"red": 2, "blue": 2},
    executed={"w1": 10000, "w2": 10000}, pools={"w1": 4, "w2": 4}, collecting_after=0.1, tail_s=0.2, evicted=0,
    memory={"worker1": 0.4}, clock_error=0.001, profile_cost=0.01,
)  # fmt: skip


#: Rule, changes to the quiet run that make it speak, and what its figures then say.
CASES: list[tuple[str, dict[str, Any], list[str]]] = [
    ("bad_results", {"counts": {"posted": 20000, "lost": 3, "failed": 2}}, ["3 lost and 2 failed of 20,000"]),
    ("parked_tasks", {"parked": 2}, ["2 tasks parked"]),
    ("evictions", {"evicted": 1234, "result_store_bytes": 64e6}, ["1,234 values", "64 MB"]),
    ("out_of_memory", {"oom_kills": {"worker1": 2}}, ["2 processes on worker1"]),
    ("restarts", {"restarts": {"celery-worker@w1.service on worker1": 1}}, ["w1.service on worker1: 1 time"]),
    ("broker_alarms", {"alarms": ["memory", "memory"], "blocked_s": 4.0}, ["Alarms: memory.", "4 s"]),
    ("broker_alarms", {"blocked_s": 4.0}, ["blocked for 4 s"]),
    ("flow_control", {"flow_samples": 3}, ["3 samples", "2,000 tasks"]),
    ("overhead", {"worker_busy": 0.97, "function_cpu": 0.0002, "around_cpu": 0.0008}, ["97 %", "1 ms", "20 %"]),
    ("useful", {"worker_busy": 0.97}, ["97 %", "80 %", "4 ms"]),
    ("posting_outran", {"backlog_peak": 18000.0}, ["2,000 tasks", "1,000 finished", "18,000", "10 s"]),
    ("client_limit", {"post_seconds": 19.0}, ["95 %", "2,000", "1,500"]),
    ("unsustained_rate", {"rate": 1200.0, "backlog_peak": 4000.0}, ["1,200", "1,000", "4,000"]),
    ("client_stalled", {"rate": 1000.0, "late_s": 2.5}, ["2.5 s", "1,000 tasks"]),
    ("spare_cores", {"worker_busy": 0.3, "backlog_peak": 9000.0}, ["9,000", "30 % of 8", "8 pool processes"]),
    ("crowded_pool", {"pool_processes": 16, "worker_busy": 0.9, "task_run": 0.01}, ["16", "8 cores", "10 ms"]),
    ("shared_machine", {"beside_workers": ["broker1", "client1"]}, ["broker1 and client1 run", "1 ms", "4 ms"]),
    ("costly_broker", {"shares": {where.FUNCTION: 0.5, "broker": 0.25}}, ["25 %", "2 ms"]),
    ("costly_client", {"shares": {where.FUNCTION: 0.5, "client": 0.2}}, ["20 %"]),
    ("costly_result_store", {"shares": {where.FUNCTION: 0.5, "result store": 0.12}}, ["12 %"]),
    ("costly_sampling", {"shares": {where.FUNCTION: 0.5, "sampling": 0.04}}, ["4.0 %"]),
    ("costly_taken_by_the_hypervisor", {"shares": {where.FUNCTION: 0.5, where.STOLEN: 0.03}}, ["3.0 %"]),
    ("costly_monitor", {"shares": {where.FUNCTION: 0.5, "monitor": 0.05}}, ["5.0 %"]),
    ("fewer_consumers", {"consumers": {"red": 2, "blue": 1}, "queue_p50": {"red": 1.0, "blue": 3.0}}, ["3 s"]),
    ("uneven_workers", {"executed": {"w1": 18000, "w2": 2000}}, ["w1 executed 18,000", "w2 2,000"]),
    ("slow_collecting", {"collecting_after": 6.0}, ["6 s of 20 s"]),
    ("long_tail", {"tail_s": 5.0}, ["5 s of 20 s"]),
    ("duplicates", {"counts": {"duplicates": 7}}, ["7 executions"]),
    ("full_memory", {"memory": {"worker1": 0.97}}, ["97 % on worker1"]),
    ("inexact_clocks", {"clock_error": 0.5}, ["500 ms", "1 s"]),
    ("profile_cost", {"profile_cost": 0.12}, ["12 %"]),
    ("not_accounted", {"shares": {where.FUNCTION: 0.5, where.REST: 0.18}}, ["18 %"]),
    ("sustained_rate", {"rate": 1000.0}, ["1,000 tasks per second", "1,500"]),
]  # fmt: skip


def found(rule: str, **changes: Any) -> findings.Finding | None:
    """Return what one rule says of the quiet run with some figures changed; no other facts are looked at."""
    by_name = {one.__name__: one for one in findings.RULES}
    return by_name[rule](replace(QUIET, **changes))


def test_a_run_without_anything_to_say_has_no_findings() -> None:
    """Rules keep quiet when the figures are well."""
    assert findings.find(QUIET) == []


@pytest.mark.parametrize(("rule", "changes", "figures"), CASES)
def test_each_rule_speaks_when_it_applies_and_names_its_figures(
    rule: str, changes: dict[str, Any], figures: list[str]
) -> None:
    """A finding rests on the figures that it shows; without the change that made it, the rule keeps quiet."""
    assert found(rule) is None
    finding = found(rule, **changes)
    assert finding is not None
    assert [figure for figure in figures if figure not in finding.figures] == []
    assert finding.change or finding.kind == "good"
    assert finding in findings.find(replace(QUIET, **changes))


def test_no_rule_is_left_untested() -> None:
    """A new rule brings its case."""
    assert {rule.__name__ for rule in findings.RULES} == {rule for rule, _, _ in CASES}


def test_without_figures_no_rule_speaks() -> None:
    """A run of which nothing is known has no findings."""
    assert findings.find(Facts()) == []


def test_overhead_says_what_larger_tasks_would_do() -> None:
    """Ten calls of 0.2 ms in a message that costs 0.8 ms: 0.28 ms a call in place of 1 ms."""
    finding = found("overhead", worker_busy=0.97, function_cpu=0.0002, around_cpu=0.0008)
    assert finding is not None
    assert "3.6 times" in finding.change
    assert "about 3,571" in finding.change


def test_cores_that_others_kept_busy_are_not_laid_to_the_workers() -> None:
    """With half of the cores' time unaccounted for, that is the finding, and neither overhead nor work is."""
    shares = {where.FUNCTION: 0.1, where.REST: 0.5}
    for costs in ({"function_cpu": 0.0002, "around_cpu": 0.0008}, {}):
        limits = findings.find(replace(QUIET, worker_busy=0.99, shares=shares, **costs))  # type: ignore[arg-type]
        assert [finding.title for finding in limits if finding.kind == "limit"] == ["Something else took the cores."]


def test_what_is_broken_comes_first() -> None:
    """A fault stands before a limit, a limit before a note."""
    changes = {"evicted": 5, "worker_busy": 0.97, "flow_samples": 1, "rate": 1000.0}
    kinds = [finding.kind for finding in findings.find(replace(QUIET, **changes))]  # type: ignore[arg-type]
    assert kinds == sorted(kinds, key=findings.KINDS.index)
    assert {"fault", "limit", "note", "good"} <= set(kinds)


def test_facts_come_from_the_folder(tmp_path: Path) -> None:
    """The figures of a made-up run, measured again from its files."""
    run = folder.read(runs.make(tmp_path / "run"))
    known = facts.gather(run, where.split(run))
    assert known.function_cpu == pytest.approx(runs.FUNCTION)
    assert known.around_cpu == pytest.approx(0.0018 - runs.FUNCTION, rel=0.01)
    assert known.worker_busy == pytest.approx(0.89, abs=0.02)
    assert (known.worker_cores, known.pool_processes) == (4, 8)
    assert known.beside_workers == ["broker1", "client1"]
    assert known.backlog_peak == pytest.approx(18000, rel=0.02)
    assert known.flow_samples == 1
    assert known.profile_cost == pytest.approx(0.08)
    assert known.consumers == {"red": 2, "green": 2, "blue": 2}


def test_parts_are_measured_and_add_up_to_cores_times_seconds(tmp_path: Path) -> None:
    """Four cores for twenty seconds are eighty core-seconds, in parts of known size and a remainder."""
    split = where.split(folder.read(runs.make(tmp_path / "run")))
    assert split is not None
    assert (split.cores, split.total) == (4, 80.0)
    assert sum(part.core_seconds for part in split.parts) == pytest.approx(80.0)
    expected = {
        where.FUNCTION: 13.4, where.AROUND: 22.6, "broker": 12.0, "result store": 3.0, "client": 2.8, "monitor": 2.4,
        "sampling": 0.4,
    }  # fmt: skip
    assert {name: split.core_seconds(name) for name in expected} == pytest.approx(expected, rel=0.01)
    rest = 80 - sum(expected.values()) - 0.04 - (split.core_seconds(where.IDLE) or 0)
    assert split.core_seconds(where.REST) == pytest.approx(rest, abs=0.05)


def test_without_times_of_tasks_the_bare_function_stands_in_and_it_is_said(tmp_path: Path) -> None:
    """An app whose results carry no times."""
    split = where.split(folder.read(runs.make(tmp_path / "run", task_seconds={"run": None, "cpu": None})))
    assert split is not None
    assert split.parts[0].name == where.FUNCTION
    assert split.parts[0].core_seconds == pytest.approx(20000 * runs.FUNCTION)
    assert "bare function" in split.parts[0].source


def test_without_any_time_of_the_function_workers_are_one_part(tmp_path: Path) -> None:
    """What cannot be told apart is not."""
    made = runs.make(tmp_path / "run", task_seconds={"cpu": None}, environment={"function_seconds": None})
    split = where.split(folder.read(made))
    assert split is not None
    assert split.core_seconds("workers, the function included") == pytest.approx(36.0, rel=0.01)
    assert split.notes


def test_cores_of_machines_count_once_each(tmp_path: Path) -> None:
    """Three hosts with boots of their own are three machines."""
    hosts = runs.base_record(1, 1.0, 1.0)["environment"]["hosts"]
    apart = {name: host | {"boot_id": name} for name, host in hosts.items()}
    split = where.split(folder.read(runs.make(tmp_path / "run", environment={"hosts": apart})))
    assert split is not None
    assert split.cores == 12
    assert sum(part.share for part in split.parts) == pytest.approx(1.0)


def test_hosts_clock_is_reckoned_with_in_the_split(tmp_path: Path) -> None:
    """With a clock five seconds ahead, a service's use is taken from where the run was on that clock."""
    made = runs.make(tmp_path / "run")
    offset = {"broker1": {"offset_s": 5.0, "error_s": 0.001}}
    write_json(made / "hosts" / "clocks.json", {"client": "client1", "start": offset, "end": offset})
    split = where.split(folder.read(made))
    assert split is not None
    # The samples end three seconds after the run, so that a quarter of it less the rest is not in them.
    assert split.core_seconds("broker") == pytest.approx(12.0 * 15 / 20, rel=0.02)


def test_counter_of_a_restarted_unit_goes_on(tmp_path: Path) -> None:
    """What a unit used before its restart and after it both count; a vanished process's share does not."""
    path = tmp_path / "h.units.csv"
    lines = ["unix,unit,cpu_s,rss_bytes,processes", "0,a.service,10,1,1", "1,a.service,12,1,1", "2,a.service,0.5,1,1"]
    lines += ["3,a.service,1.5,1,1", "0,other,500,1,9", "1,other,300,1,8", "2,other,301,1,8", "1,late.service,0.25,1,1"]
    path.write_text("\n".join([*lines, "broken", "4,a.service,x,1,1", ""]))
    found_units = {unit.name: unit for unit in units.read(path, cores=4)}
    assert found_units["a.service"].cpu.tolist() == [0, 2, 2.5, 3.5]
    assert found_units["other"].cpu.tolist() == [0, 0, 1]
    assert found_units["late.service"].cpu.tolist() == [0.25]


def test_units_belong_to_parts_by_pattern() -> None:
    """taskmill knows no unit's name; the run's environment does."""
    assert units.part_of("celery-worker@w1.service", runs.PARTS) == "worker"
    assert units.part_of("cron.service", runs.PARTS) == units.OTHER


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
    tree = calls.from_profile(entries)
    assert tree is not None
    assert tree.value == 12.0
    first, second = tree.calls
    assert (first.calls[0].value, second.calls[0].value) == (3.0, 7.0)
    assert first.calls[0].calls[0].value == pytest.approx(2.4)
    assert second.calls[0].calls[0].value == pytest.approx(5.6)


def test_sampled_stacks_become_a_tree_without_what_is_too_small_to_see() -> None:
    """Counts of the same place add up; one sample in a thousand is left out."""
    tree = calls.from_stacks({("main (a/b.py:1)", "work (c/d.py:2)"): 600, ("main (a/b.py:1)",): 399, ("rare",): 1})
    assert [(call.name, call.value) for call in tree.calls] == [("main", 999)]
    assert tree.calls[0].calls[0].value == 600
    assert (tree.calls[0].group, tree.calls[0].place) == ("a", "a/b.py:1")


def test_times_of_workers_are_on_the_clients_clock(tmp_path: Path) -> None:
    """The workers' clocks are 0.02 s ahead; no task starts before it is posted."""
    times = timings.load(runs.make(tmp_path / "run"))
    assert times is not None
    assert float(times.queue_time().min()) > -0.002
    assert times.summary()["latency"]["max"] < 21
