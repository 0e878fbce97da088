"""How a load is started: the command that the role load_run makes of the options, in the wiring of the playbooks."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import wiring
import yaml
from ansible_playbook import ROOT, run_playbook

ROLE = ROOT / "roles/load_run"
BASELINE = {"stdout": json.dumps({"seconds": 0.001, "expected": 6765})}
NO_VALUE = {"stdout": json.dumps({"seconds": 0.5, "expected": None})}
OTHER_APP: dict[str, Any] = {"app_name": "shop.celery:app", "app_tasks": {"shop.tasks.total": "orders"}}
#: As a text: the comma within the second parts nothing.
THRESHOLDS = "completed_per_s>=500,waiting>9 for 5s, stop as failed, lost==0"
#: Options of each host, which is a client of its own.
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "paced": {"load_rate": "500", "load_thresholds": THRESHOLDS, "load_profile": "false"},
    "patient": {"load_result_timeout": "600", "load_probe": "false", "rabbitmq_consumer_timeout": 7200},
    "search": {"load_mode": "capacity", "capacity_worker_hosts": [2, 4]},
    "search_again": {"load_mode": "capacity", "capacity_resume": "/var/lib/taskmill/runs/before"},
    "taken_up": {"load_run_take_up": ["resume", "/var/lib/taskmill/runs/before"]},
    "of_another_app": {
        "app_tasks": {"shop.total": "orders"},
        "app_arguments": ["it's", 1.5],
        "app_minimal_headers": False,
        "load_options_further": ["--transient"],
    },
    "of_the_articles_release": {"celery_release": "celery31"},
    "of_a_scenario": {"load_scenario": str(ROOT / "docs/scenario.yml"), "load_options_further": ["--transient"]},
    "of_no_function": {**OTHER_APP, "cluster_workers": ["of_no_function"], "load_run_baseline": {"skipped": True}},
    "of_no_value": {
        **OTHER_APP,
        "app_function": "shop.tasks:total",
        "cluster_workers": ["of_no_value"],
        "load_run_baseline": NO_VALUE,
    },
    "of_the_value_none": {
        **OTHER_APP,
        "app_function": "shop.tasks:total",
        "app_expected": "shop.values:total",
        "cluster_workers": ["of_the_value_none"],
        "load_run_baseline": NO_VALUE,
    },
}
COMMON = [
    "--runs-directory=/var/lib/taskmill/runs", "--name=fibonacci", "--args=[20]", "--expect=6765",
    "--function-seconds=0.001", "--worker-cores=12", "--threads=10", "--processes=1", "--window=500",
    "--environment=/var/lib/taskmill/environment.json", "--lean",
]  # fmt: skip
ROUTES = [f"--task=fibonacci.tasks.{color}={color}" for color in ("red", "green", "blue")]


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Return what follows `taskmill` in the command that starts the load of each client, whose input was validated."""
    folder = tmp_path_factory.mktemp("commands")
    [start] = [
        task
        for task in yaml.safe_load((ROLE / "tasks/start.yml").read_text())
        if task["name"] == "start | Start the load"
    ]
    specs = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    wiring.play(
        folder,
        wiring.landscape(OPTIONS, load_run_baseline=BASELINE, load_run_worker_cores=12),
        [
            # For the role's defaults.
            {"include_role": {"name": "load_run", "tasks_from": "validate.yml", "public": True}},
            {"validate_argument_spec": {"argument_spec": specs}},
            {"copy": {"content": "{{ command | to_json }}", "dest": f"{folder}/{{{{ inventory_hostname }}}}"}},
        ],
        command=start["ansible.builtin.command"]["argv"],
        **start["vars"],
    )
    found: dict[str, list[str]] = {}
    for name in OPTIONS:
        words = json.loads((folder / name).read_text())
        assert words[:4] == ["systemd-run", "--unit=taskmill-load", "--remain-after-exit", "/usr/local/bin/taskmill"]
        found[name] = words[4:]
    return found


def test_a_load_gets_every_option_as_it_comes(commands: dict[str, list[str]]) -> None:
    """With the value of the function as it was measured on the first worker host."""
    assert commands["plain"] == ["run", *COMMON, *ROUTES, "--tasks=1000000", "--profile"]


def test_a_load_has_a_pace_and_thresholds_where_they_are_given(commands: dict[str, list[str]]) -> None:
    """Thresholds as a text with commas between; without a profile."""
    assert commands["paced"][-6:] == [
        "--tasks=1000000",
        "--rate=500",
        "--no-profile",
        "--require=completed_per_s>=500",
        "--require=waiting>9 for 5s, stop as failed",
        "--require=lost==0",
    ]


def test_the_articles_client_gets_no_option_that_it_does_not_have(commands: dict[str, list[str]]) -> None:
    """It always sends all headers."""
    assert commands["of_the_articles_release"] == ["run", *COMMON[:-1], *ROUTES, "--tasks=1000000", "--profile"]


def test_a_load_is_told_what_is_not_as_usual_of_its_patience(commands: dict[str, list[str]]) -> None:
    """Where the inventory says nothing, one of each task is tried, and the rest follows from that."""
    patience = ["--deadline=600", "--no-probe", "--consumer-timeout=7200"]
    assert commands["patient"] == ["run", *COMMON[:-1], *patience, "--lean", *ROUTES, "--tasks=1000000", "--profile"]


def test_a_search_gets_the_options_of_a_search(commands: dict[str, list[str]]) -> None:
    """And those of the load that it repeats, but no number of tasks."""
    assert commands["search"] == [
        "capacity", "--budget=900", *COMMON, *ROUTES, "--seconds=20", "--tolerance=0.05", "--rounds=3",
        "--worker-hosts=2", "--worker-hosts=4",
    ]  # fmt: skip


def test_what_goes_on_is_named_by_its_folder_alone(commands: dict[str, list[str]]) -> None:
    """A search has its options there, and a run its plan."""
    assert commands["search_again"] == ["capacity", "--budget=900", "--resume=/var/lib/taskmill/runs/before"]
    assert commands["taken_up"] == ["resume", "/var/lib/taskmill/runs/before"]


def test_a_load_of_another_app_is_of_its_tasks(commands: dict[str, list[str]]) -> None:
    """With its arguments as JSON, all headers, and further options behind all others of the load."""
    words = commands["of_another_app"]
    assert '--args=["it\'s", 1.5]' in words
    assert "--lean" not in words
    assert words[-4:] == ["--task=shop.total=orders", "--transient", "--tasks=1000000", "--profile"]


def test_a_scenario_says_what_is_published(commands: dict[str, list[str]]) -> None:
    """In place of the app's tasks, arguments and value, and of the function's time, which is of one task alone."""
    words = commands["of_a_scenario"]
    assert words == [
        "run", *COMMON[:2], "--scenario=/var/lib/taskmill/scenario/scenario.yml", *COMMON[5:], "--transient",
        "--tasks=1000000", "--profile",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("client", "known"),
    [
        ("of_no_function", []),
        ("of_no_value", ["--function-seconds=0.5"]),
        ("of_the_value_none", ["--expect=null", "--function-seconds=0.5"]),
    ],
)
def test_a_load_is_told_no_more_than_what_is_known(
    commands: dict[str, list[str]], client: str, known: list[str]
) -> None:
    """Without app_expected no value is compared, without app_function nothing is timed; its name is a folder's."""
    words = commands[client]
    assert [word for word in words if word.startswith(("--expect", "--function-seconds"))] == known
    assert words[2:4] == ["--name=shop", "--args=[]"]
    assert "--task=shop.tasks.total=orders" in words


def test_every_input_of_the_role_is_wired() -> None:
    """What an entry point reads comes from the wiring, or is set by an entry point before it."""
    texts = {path: path.read_text() for folder in ("tasks", "templates") for path in (ROLE / folder).iterdir()}
    read = {name for text in texts.values() for name in re.findall(r"\bload_run_\w+", text)}
    left = {
        name
        for text in texts.values()
        for name in re.findall(r"^ +(?:register: |)(load_run_\w+)(?:$|: )", text, re.MULTILINE)
    }
    wired = set(yaml.safe_load((ROOT / "playbooks/group_vars/all/load_run.yml").read_text()))
    defaults = set(yaml.safe_load((ROLE / "defaults/main.yml").read_text()))
    # What a playbook or another role says by itself.
    unwired = {"load_run_take_up", "load_run_follow_interval"}
    assert read - wired - left == unwired
    assert wired - read == set()
    assert defaults - wired == unwired
    assert left - wired == {
        "load_run_baseline", "load_run_boot", "load_run_changes", "load_run_clock_end", "load_run_clock_start",
        "load_run_outcome", "load_run_reported_dir", "load_run_revision",
    }  # fmt: skip


def test_what_an_entry_point_sets_is_what_the_wiring_hands_on(tmp_path: Path) -> None:
    """Every value of the wiring can be worked out where those before it have run."""
    clock = {"offset_s": 0.5, "error_s": 0.001}
    names = list(yaml.safe_load((ROOT / "playbooks/group_vars/all/load_run.yml").read_text()))
    wiring.play(
        tmp_path,
        wiring.landscape(
            {"one": {}},
            load_host={"cores": 2},
            load_repository={},
            load_run_baseline=BASELINE,
            load_run_outcome={"lines": ["taskmill", "run folder /var/lib/taskmill/runs/20260101T000000Z-x", "posted"]},
            load_run_clock_start=clock,
            load_run_clock_end=clock,
            # Of facts, which nobody has gathered.
            load_run_worker_cores=2,
            screenshots_pages=[],
        ),
        [
            {
                "copy": {
                    "content": "{{ dict(names | zip(query('ansible.builtin.vars', *names))) | to_json }}",
                    "dest": f"{tmp_path}/values",
                }
            }
        ],
        names=names,
    )
    values = json.loads((tmp_path / "values").read_text())
    assert values["load_run_dir_on_client"] == "/var/lib/taskmill/runs/20260101T000000Z-x"
    assert values["load_run_dir_on_controller"] == f"{tmp_path}/runs/20260101T000000Z-x"
    assert values["load_run_measured"] == {"seconds": 0.001, "expected": 6765}
    assert values["load_run_clocks"] == {
        "client": "one",
        **{at: {"one": {"offset_s": 0.0, "error_s": 0.0}} for at in ("start", "end")},
    }
    assert values["load_run_pyspy_workers"] == ["w1", "w2"]
    assert Path(values["load_run_baseline_program"]).is_file()


CLOCK = {"offset_s": 0.5, "error_s": 0.001}
#: What is known when an entry point has its turn in run-load.yml: each has what those before it have set, and no more.
MEASURED: dict[str, Any] = {"load_run_baseline": BASELINE, "load_host": {"cores": 2}}
BEFORE_LOAD: dict[str, Any] = {**MEASURED, "load_repository": {}}
LOADED = {
    **BEFORE_LOAD,
    "load_run_clock_start": CLOCK,
    "load_run_outcome": {
        "exit_code": 0,
        "result": "success",
        "lines": ["run folder /var/lib/taskmill/runs/20260101T000000Z-x"],
    },
}
TURNS: dict[str, dict[str, Any]] = {
    "describe-landscape": {},
    "prepare": {},
    "measure-baseline": {},
    "run-metadata": MEASURED,
    "run-unprofiled": BEFORE_LOAD,
    "start-pyspy": BEFORE_LOAD,
    "copy-scenario": BEFORE_LOAD,
    "main": BEFORE_LOAD,
    "meanwhile": BEFORE_LOAD,
    "follow": BEFORE_LOAD,
    "fetch": LOADED,
    "fetch-run": LOADED,
    "fetch-clocks": {**LOADED, "load_run_clock_end": CLOCK},
    "fetch-samples": LOADED,
    "fetch-pyspy": LOADED,
    "measure-profile-cost": LOADED,
    "report": LOADED,
}


def test_what_is_validated_is_known_at_that_time(tmp_path: Path) -> None:
    """Ansible works out every option of an entry point before its first task, in the wiring of the playbooks."""
    specs = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text())["argument_specs"]
    assert set(specs) == set(TURNS)
    hosts = {
        point: {"point": point, "cluster_client": point, "cluster_workers": [point], "load_hosts": [point], **known}
        for point, known in TURNS.items()
    }
    validate = {"validate_argument_spec": {"argument_spec": "{{ (specs | from_yaml)[point].options }}"}}
    # For the role's defaults.
    defaults = {"include_role": {"name": "load_run", "tasks_from": "validate.yml", "public": True}}
    # As text, in which nothing is taken for a template.
    said = wiring.play(
        tmp_path, wiring.landscape(hosts, load_run_worker_cores=2), [defaults, validate], specs=json.dumps(specs)
    )
    assert len(re.findall(r"^ok: \[[\w-]+\]$", said.partition("validate_argument_spec")[2], re.MULTILINE)) == len(TURNS)


@pytest.mark.parametrize("how", ["import_role", "include_role"])
def test_an_entry_point_with_a_hyphen_is_validated_before_its_tasks(tmp_path: Path, how: str) -> None:
    """A directory that nobody has named is refused by the name of its variable."""
    task = {
        how: {"name": "load_run", "tasks_from": "fetch-samples"},
        "vars": {"load_run_dir_on_controller": "/nowhere"},
    }
    book = tmp_path / "play.json"
    book.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": [task]}]))
    done = run_playbook("-i", "localhost,", book)
    assert done.returncode == 2
    assert "missing required arguments: load_run_samples_directory" in done.stdout + done.stderr
    assert "Read the samples" not in done.stdout
