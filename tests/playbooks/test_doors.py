"""What the doors say before they touch a host: these tests need no lab and no network."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_playbook import ROOT, run_playbook
from wiring import EXAMPLE, HERE

LOAD: list[tuple[str, str]] = [
    *(("load_tasks", value) for value in ("0", "-5", "many", "1.5", "")),
    *((f"load_{option}", "0") for option in ("threads", "processes", "confirm_window", "pyspy_seconds")),
    ("load_result_timeout", "-1"),
    ("load_rate", "fast"),
    ("load_scenario", "gone.yml"),
]
CAPACITY = ["capacity_seconds=0", "capacity_rounds=many", '{"capacity_worker_hosts": [0]}', "load_profile_cost=true"]
TUNE = ["tune_rounds=0", "tune_budget=-1", '{"tune_grid": {}}', '{"tune_grid": [1]}']
KINDS = {"all": {"task": "shop.tasks.invoice", "queue": "orders"}}
FAULTS: dict[str, Any] = {
    "unknown": [{"fault": name, "at": 1} for name in ("explode", "kill-worker", "deploy")],
    "store": [{"fault": "stop-result-store", "at": 1.5}],
    "few": [{"fault": "kill-worker", "at": 0}],
    "wrong": 5,
}
RUNS = ["", "latest", "latest,"]
TAKE_UP = ["load_take_up=again", "celery_release=celery31"]
#: Which tasks of a playbook's first play judge its options, where there are others.
JUDGING = {name: slice(2, 3) for name in ("run-load", "capacity")} | {
    name: slice(2) for name in ("resume-load", "dead-letters")
}
#: The tasks by which a playbook judges its options.
CHECKS = r"^(preflight : ([a-z-]+ \| )?)?(Assert that |Fail if |Validating arguments |Read it$)"


def given(option: str) -> dict[str, Any]:
    """Return the variables that `-e` takes from a text."""
    name, _, value = option.partition("=")
    found: dict[str, Any] = json.loads(option) if option.startswith("{") else {name: value}
    return found


def numbered(options: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return cases that are called by their place."""
    return {str(number): given for number, given in enumerate(options)}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that playbooks stand in as they do in the repository."""
    return tmp_path_factory.mktemp("doors")


@pytest.fixture(scope="module")
def checks(play_cases: Callable[..., Any], root: Path) -> dict[str, Any]:
    """What the checks at the beginning of some playbooks say, of a host for each option; the first one lets pass.

    They are played in one, over these hosts in the place of the one host that each has, in a landscape without a
    monitor.
    """
    folder = root / "playbooks"
    folder.mkdir()
    for shared in ("group_vars", "vars"):
        (folder / shared).symlink_to(ROOT / "playbooks" / shared)
    for name, faults in FAULTS.items():
        (folder / f"{name}.yml").write_text(json.dumps({"kinds": KINDS, "faults": faults}))
    loads: dict[str, dict[str, Any]] = {f"{name}-{number}": {name: value} for number, (name, value) in enumerate(LOAD)}
    loads["unprofiled"] = {"load_profile": "false", "load_profile_cost": "true"}
    loads["faults"] = {"load_scenario": str(folder / "unknown.yml")}
    loads["faults-and-profile-cost"] = {"load_scenario": str(folder / "few.yml"), "load_profile_cost": "true"}
    loads["faults-as-a-number"] = {"load_scenario": str(folder / "wrong.yml")}
    loads["faults-of-a-store"] = {"load_scenario": str(folder / "store.yml"), "results_set_up": "{{ false }}"}
    loads["unseen"] = {"load_screenshots": "true"}
    [searching] = yaml.safe_load((ROOT / "playbooks/capacity.yml").read_text())
    search = searching["vars"]
    cases: dict[str, dict[str, dict[str, Any]]] = {
        "run-load": {"0": {}, **loads},
        "capacity": numbered([search, *(search | given(option) for option in CAPACITY)]),
        "tune": numbered([{}, *map(given, TUNE), {"tune_resume": "no-such-tune"}]),
        "resume-load": numbered(
            [{"load_take_up": "repair"}, *({"load_take_up": "resume", **given(option)} for option in TAKE_UP)]
        ),
        "dead-letters": numbered([{"dead_letters_action": "list"}, {"dead_letters_action": "read"}]),
        "compare-runs": numbered({"compare_runs": runs} for runs in [*RUNS, f"no-such-run,{folder}"]),
    }
    plays = []
    for playbook, several in cases.items():
        # capacity.yml is run-load.yml with other variables.
        path = ROOT / "playbooks" / f"{'run-load' if playbook == 'capacity' else playbook}.yml"
        play = yaml.safe_load(path.read_text())[0]
        play["vars"] = {key: value for key, value in play.get("vars", {}).items() if key not in several["0"]}
        if playbook in {"resume-load", "dead-letters"}:
            assert play["hosts"] == "client[0]"
        tasks = play["tasks"][JUDGING.get(playbook, slice(None))]
        plays.append({**play, "hosts": f"{playbook}-*", "become": False, "tasks": tasks})
    (folder / "checks.json").write_text(json.dumps(plays))
    hosts = {
        f"{playbook}-{name}": {**EXAMPLE, **options}
        for playbook, several in cases.items()
        for name, options in several.items()
    }
    for number in range(len(cases["compare-runs"])):
        hosts[f"compare-runs-{number}"]["ansible_connection"] = "local"
    groups = {"client": list(hosts), **{name: ["other"] for name in ("workers", "broker", "results")}}
    known: dict[str, Any] = play_cases(folder / "checks.json", {**hosts, "other": {}}, groups=groups).cases
    for playbook in cases.keys() - {"compare-runs"}:
        assert known[f"{playbook}-0"].passed
        assert not known[f"{playbook}-0"].failed
    return known


@pytest.mark.parametrize(
    ("playbook", "option", "message"),
    [
        ("run-load", "load_tasks='0'", "load_tasks is '0'"),
        *(
            pytest.param(*case, marks=pytest.mark.thorough)
            for case in (
                ("capacity", CAPACITY[2], "and [0]. Searching"),
                ("tune", TUNE[3], "something to try: [1], []"),
                ("resume-load", TAKE_UP[1], "for the release celery31"),
                ("dead-letters", "dead_letters_action=read", "dead_letters_action is 'read'"),
                ("compare-runs", "compare_runs=latest", "compare_runs names 1"),
            )
        ),
        (
            "break-things",
            '{"fault": "deploy,none", "app_source": "git+https://git.example/shop@v1"}',
            (
                "The fault deploy changes a line of the app's source and deploys it, and app_source is "
                "git+https://git.example/shop@v1. Set app_source to the directory of the source, as in "
                "-e app_source=../shop, or leave the fault out: -e fault=none"
            ),
        ),
    ],
)
def test_an_option_of_the_command_line_ends_the_playbook_in_its_first_play(
    playbook: str, option: str, message: str
) -> None:
    """By its check, which is the first thing that is done."""
    done = run_playbook("-i", "inventory/vms", f"playbooks/{playbook}.yml", "-e", option)
    assert done.returncode != 0
    assert message in " ".join(done.stdout.split()).replace("''", "'")
    assert len(re.findall(r"^PLAY \[", done.stdout, re.MULTILINE)) == 1
    assert [
        task for task in re.findall(r"^TASK \[(.*?)\]", done.stdout, re.MULTILINE) if not re.match(CHECKS, task)
    ] == []


@pytest.mark.parametrize(
    "playbook",
    [
        "run-load",
        *(
            pytest.param(name, marks=pytest.mark.thorough)
            for name in ("capacity", "tune", "break-things", "resume-load")
        ),
    ],
)
def test_a_load_in_check_mode_is_refused(playbook: str) -> None:
    """With --check there is no load, and so nothing to go on with: the first play says so, and what to run instead."""
    done = run_playbook("-i", "inventory/lab-faults", f"playbooks/{playbook}.yml", "--check")
    assert done.returncode != 0
    assert "make site ARGS=--check" in " ".join(done.stdout.split())
    assert len(re.findall(r"^PLAY \[", done.stdout, re.MULTILINE)) == 1


@pytest.mark.parametrize(("option", "value"), LOAD)
def test_an_option_that_cannot_be_run_is_refused_by_name(checks: dict[str, Any], option: str, value: str) -> None:
    """An option that is zero, negative or no number is named before any host is touched."""
    said = checks[f"run-load-{option}-{LOAD.index((option, value))}"].refusal(CHECKS)
    assert f"{option} is '{value}'" in said


def test_a_scenario_that_is_not_there_is_told_with_its_path(checks: dict[str, Any], root: Path) -> None:
    """From the root of the repository, which is above the playbook."""
    said = checks[f"run-load-load_scenario-{LOAD.index(('load_scenario', 'gone.yml'))}"].refusal(CHECKS)
    assert said == (
        f"load_scenario is 'gone.yml', and {root}/gone.yml is no file: give one, such as docs/scenario.yml. Scenarios "
        f"take the client of celery5 (here it is taskmill)."
    )


def test_a_fault_of_a_scenario_that_there_is_not_is_told_with_those_that_there_are(checks: dict[str, Any]) -> None:
    """Before a message is published; a store that is somebody else's is not broken."""
    known = (
        "kill-worker, cut-worker-10, cut-worker-30, cut-worker-120, restart-worker, restart-workers, restart-broker, "
        "kill-broker, memory-alarm, disk-alarm"
    )
    what = "names faults that cannot be injected at a moment of a load"
    said = checks["run-load-faults"].refusal(CHECKS)
    assert said.endswith(
        f"/unknown.yml {what}: explode, deploy. Use one of {known}, restart-result-store, stop-result-store."
    )
    said = checks["run-load-faults-of-a-store"].refusal(CHECKS)
    alone = "the result store is one that site.yml has not set up, and is left alone."
    assert said.endswith(f"/store.yml {what}: stop-result-store. Use one of {known}; {alone}")


def test_what_is_wrong_in_a_scenario_is_told_with_its_place(checks: dict[str, Any]) -> None:
    """As taskmill says it, before any host is touched."""
    said = checks["run-load-faults-as-a-number"].refusal(CHECKS)
    assert said.startswith("taskmill: ")
    assert said.endswith("/wrong.yml: faults is 5: give a list of them, such as [{fault: kill-worker, at: 30}]")


def test_what_profiling_costs_is_not_told_of_a_load_with_faults(checks: dict[str, Any]) -> None:
    """Only one of the two loads would have them."""
    said = checks["run-load-faults-and-profile-cost"].refusal(CHECKS)
    assert "has faults, which are injected into one of them alone" in said


def test_the_cost_of_a_profile_that_is_not_made_is_refused(checks: dict[str, Any]) -> None:
    """Without cProfile there is no cost of it; both options are named before any host is touched."""
    assert "load_profile_cost is true, and load_profile is not" in checks["run-load-unprofiled"].refusal(CHECKS)


@pytest.mark.parametrize("runs", RUNS)
def test_comparing_needs_two_runs(checks: dict[str, Any], runs: str) -> None:
    """Fewer are refused with an example of the option."""
    assert "-e compare_runs=" in checks[f"compare-runs-{RUNS.index(runs)}"].refusal(CHECKS)


def test_comparing_says_which_run_is_not_there(checks: dict[str, Any]) -> None:
    """A name is looked for among the runs, a path is taken as it is; what taskmill says is passed on."""
    said = checks[f"compare-runs-{len(RUNS)}"].refusal(f"{CHECKS}|^Run taskmill compare$")
    assert "/runs/no-such-run'doesnotexist" in "".join(said.split())


def test_a_playbook_fits_a_screen() -> None:
    """Or says above its plays why it does not."""
    texts = {path.name: path.read_text() for path in (ROOT / "playbooks").glob("*.yml")}
    assert len(texts) > 10
    long = {name for name, text in texts.items() if len(text.splitlines()) > 60}
    assert [name for name in long if "More than a screen" not in texts[name].partition("- name")[0]] == []


@pytest.mark.parametrize("door", ["site.yml", "run-load.yml"])
def test_a_mistyped_inventory_does_not_end_green(door: str) -> None:
    """An inventory that is not there is an error, not an empty list of hosts."""
    done = run_playbook("-i", "inventory/labb", door)
    assert done.returncode != 0
    assert "inventory/labb" in done.stdout + done.stderr


def test_an_inventory_without_workers_is_refused_by_group(tmp_path: Path) -> None:
    """A landscape with a part missing is refused before anything is set up, by its group."""
    inventory = tmp_path / "hosts.yml"
    inventory.write_text("all: {children: {broker: {hosts: {b: }}, results: {hosts: {b: }}, client: {hosts: {b: }}}}")
    done = run_playbook("-i", str(inventory), "site.yml")
    assert done.returncode != 0
    assert "no host in the group 'workers'" in done.stdout
    assert "Set up the broker" not in done.stdout


def test_nothing_is_set_up_for_a_scenario_that_cannot_be_run(tmp_path: Path) -> None:
    """`make load` hands site.yml the options of the load, so minutes do not pass before it is told."""
    scenario, inventory = tmp_path / "load.yml", tmp_path / "hosts.json"
    scenario.write_text(json.dumps({"kinds": {"all": {**KINDS["all"], "wieght": 2}}}))
    parts = ("broker", "results", "workers", "client")
    inventory.write_text(json.dumps({"all": {"children": {part: {"hosts": {"a": {}}} for part in parts}}}))
    done = run_playbook("-i", inventory, "site.yml", "-e", f"load_scenario={scenario}")
    assert done.returncode != 0
    said = " ".join(done.stdout.split()).replace("''", "'")
    assert f"taskmill: {scenario}: kinds.all has no key 'wieght': the nearest is weight; known are task, queue" in said
    assert "Set up the broker" not in done.stdout


def test_several_hosts_where_one_is_used_are_refused(tmp_path: Path) -> None:
    """Two brokers make no cluster here, and two result stores are not parted: nothing is set up on either."""
    inventory = tmp_path / "hosts.json"
    children = {name: {"hosts": dict.fromkeys(["a", "b"])} for name in ("broker", "results", "workers", "client")}
    inventory.write_text(json.dumps({"all": {"children": children}}))
    done = run_playbook("-i", inventory, "site.yml")
    assert done.returncode != 0
    said = " ".join(done.stdout.split())
    for group in ("broker", "results"):
        assert (
            f"The inventory ({inventory}) has several hosts in the group '{group}' (a, b), of which only a would be "
            "used. Leave one there: brokers make no cluster here, and results have one store."
        ) in said.replace("''", "'")
    assert "Check that every host can carry its release" not in said


def test_real_machines_meet_nothing_of_the_lab() -> None:
    """With an inventory that has no lab hosts, no host is matched by the lab's play."""
    done = run_playbook("-i", "inventory/vms", "site.yml", "--list-hosts")
    assert done.returncode == 0
    assert "Could not match supplied host pattern" not in done.stdout + done.stderr


@pytest.mark.parametrize("option", CAPACITY)
def test_a_search_that_cannot_be_made_is_refused(checks: dict[str, Any], option: str) -> None:
    """Before any host is touched, with the options as they are."""
    said = checks[f"capacity-{CAPACITY.index(option) + 1}"].refusal(CHECKS)
    assert "capacity_seconds, capacity_budget and capacity_tolerance" in said


@pytest.mark.parametrize("options", TUNE)
def test_a_tuning_that_cannot_be_made_is_refused(checks: dict[str, Any], options: str) -> None:
    """Before any host is touched, with the options as they are."""
    assert "tune_rounds is a whole number" in checks[f"tune-{TUNE.index(options) + 1}"].refusal(CHECKS)


def test_a_tuning_that_was_not_begun_cannot_go_on(checks: dict[str, Any]) -> None:
    """A mistyped name is no new tuning."""
    assert "tune_resume is 'no-such-tune'" in checks[f"tune-{len(TUNE) + 1}"].refusal(CHECKS)


def test_pictures_without_a_monitor_are_refused(checks: dict[str, Any]) -> None:
    """`load_screenshots` in a landscape without Flower is refused before any host is touched."""
    assert "no host in the group 'monitor'" in checks["run-load-unseen"].refusal(CHECKS)


@pytest.mark.parametrize(
    ("playbook", "option"),
    [*(("resume-load", option) for option in TAKE_UP), ("dead-letters", "dead_letters_action=read")],
)
def test_what_cannot_be_done_with_a_run_or_letters_is_refused(
    checks: dict[str, Any], playbook: str, option: str
) -> None:
    """Another action, or a client that knows none of them, is named before any host is touched."""
    number = TAKE_UP.index(option) + 1 if playbook == "resume-load" else 1
    said = checks[f"{playbook}-{number}"].refusal(CHECKS)
    assert f"is '{option.partition('=')[2] if 'celery_release' not in option else 'resume'}', for the release" in said


def test_a_load_without_a_client_does_not_end_green(tmp_path: Path) -> None:
    """Its first plays have no host then; the group that is missing is named, and nothing is measured."""
    groups = {name: {"hosts": {"one": HERE}} for name in ("broker", "results", "workers")}
    (tmp_path / "hosts.json").write_text(json.dumps({"all": {"children": groups}}))
    done = run_playbook("-i", tmp_path / "hosts.json", "run-load.yml")
    assert done.returncode != 0
    assert "has no host in the group 'client'" in " ".join(done.stdout.split()).replace("''", "'")
    assert "measure-baseline" not in done.stdout


def test_what_is_done_on_this_machine_is_done_by_this_user(tmp_path: Path) -> None:
    """An inventory that reaches all its hosts by SSH and as root does not reach this machine so."""
    everywhere = {"ansible_become": True, "ansible_become_exe": "/nowhere/sudo", "ansible_connection": "ssh"}
    (tmp_path / "hosts.json").write_text(json.dumps({"all": {"hosts": {"one": {}}, "vars": everywhere}}))
    done = run_playbook("-i", tmp_path / "hosts.json", "playbooks/compare-runs.yml", "-e", "compare_runs=/no/a,/no/b")
    assert "/no/a" in done.stdout
    assert "does not exist" in " ".join(done.stdout.split())


def test_every_task_on_this_machine_says_that_it_is_this_user() -> None:
    """By a variable, which the inventory does not outrank, as it does the keyword `become`."""
    told, tasks, loops = {"ansible_become": False}.items(), 0, 0
    for file in [*ROOT.glob("roles/*/tasks/*.yml"), *ROOT.glob("playbooks/*.yml")]:
        todo = list(yaml.safe_load(file.read_text()) or [])
        while todo:
            task = todo.pop()
            todo += [inner for part in ("block", "rescue", "always", "tasks") for inner in task.get(part, [])]
            # This machine may be among what a loop goes through.
            if task.get("delegate_to") == "{{ item }}" and task["loop"] == "{{ break_where }}":
                loops += 1
                assert task["vars"] == {"ansible_become": "{{ break_as_root }}"}, (file, task["name"])
            if task.get("delegate_to") == "localhost":
                tasks += 1
                assert told <= task.get("vars", {}).items(), (file, task["name"])
            only_checks = all("preflight" in str(inner) for inner in task.get("tasks", []))
            if task.get("hosts") == "localhost" and not only_checks:
                assert task["vars_files"] == "vars/on-this-machine.yml", (file, task["name"])
            assert "connection" not in task, (file, task["name"])
    assert (tasks > 20, loops > 1) == (True, True)


@pytest.mark.parametrize(
    "playbook",
    ["run-load", *(pytest.param(name, marks=pytest.mark.thorough) for name in ("tune", "break-things"))],
)
def test_a_limit_that_leaves_out_the_client_is_refused(playbook: str, tmp_path: Path) -> None:
    """There would be no load; nothing is measured, and no worker is changed."""
    groups = {"broker": ["one"], "results": ["one"], "workers": ["two", "three"], "client": ["four"]}
    children = {name: {"hosts": dict.fromkeys(hosts, HERE)} for name, hosts in groups.items()}
    inventory = tmp_path / "hosts.json"
    inventory.write_text(json.dumps({"all": {"children": children}}))
    options = ("--limit", "localhost,workers", "-e", f"load_runs_directory={tmp_path}", "-e", "fault=kill-worker")
    done = run_playbook("-i", inventory, f"playbooks/{playbook}.yml", *options)
    assert done.returncode != 0
    assert "--limit leaves out four, which drives the load" in done.stdout
    begun = re.findall(r"TASK \[(.*?)\]", done.stdout)
    assert begun[-1] == "preflight : limit | Fail if the client that drives the load is left out"


def test_a_limit_that_leaves_out_a_host_of_a_fault_is_refused(tmp_path: Path) -> None:
    """It would be changed all the same; nothing is measured, and no host is touched."""
    groups = {"broker": ["one"], "results": ["one"], "workers": ["two", "three"], "client": ["four"]}
    children = {name: {"hosts": dict.fromkeys(hosts, HERE)} for name, hosts in groups.items()}
    inventory, scenario = tmp_path / "hosts.json", tmp_path / "load.yml"
    inventory.write_text(json.dumps({"all": {"children": children}}))
    faults = [{"fault": "kill-worker", "at": 1}, {"fault": "kill-broker", "at": 2}]
    scenario.write_text(json.dumps({"kinds": KINDS, "faults": faults}))
    done = run_playbook("-i", inventory, "run-load.yml", "--limit", "one,three,four", "-e", f"load_scenario={scenario}")
    assert done.returncode != 0
    said = " ".join(done.stdout.split())
    assert (
        f"--limit leaves out two, where {scenario} has faults injected: add it to the limit, or take the faults out."
        in said
    )
    begun = re.findall(r"TASK \[(.*?)\]", done.stdout)
    assert begun[-1] == "preflight : limit | Fail if a host of a fault is left out"
