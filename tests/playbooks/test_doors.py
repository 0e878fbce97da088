"""What the doors say before they touch a host: these tests need no lab and no network."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def play(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ansible-playbook from the root, as the README says, not waiting for absent hosts."""
    return subprocess.run(
        ["ansible-playbook", *arguments],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_TIMEOUT": "2"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


KNOBS = ["load_tasks", "load_n", "load_threads", "load_processes", "load_window", "load_deadline", "load_pyspy_seconds"]


@pytest.mark.parametrize(
    ("knob", "value"),
    [("load_tasks", value) for value in ("0", "-5", "many", "1.5", "")]
    + [(knob, "0") for knob in KNOBS[1:]]
    + [("load_rate", "fast")],
)
def test_a_knob_that_cannot_be_run_is_refused_by_name(knob: str, value: str) -> None:
    """A knob that is zero, negative or no number is named before any host is touched."""
    done = play("-i", "inventory/vms", "run-load.yml", "-e", f"{knob}='{value}'")
    assert done.returncode != 0
    assert f"{knob} is '{value}'" in done.stdout
    assert "Run the function alone" not in done.stdout


def test_the_cost_of_a_profile_that_is_not_made_is_refused() -> None:
    """Without cProfile there is no cost of it; both knobs are named before any host is touched."""
    done = play("-i", "inventory/vms", "run-load.yml", "-e", "load_profile=false load_profile_cost=true")
    assert done.returncode != 0
    assert "load_profile_cost is true, and load_profile is not" in done.stdout
    assert "Run the function alone" not in done.stdout


@pytest.mark.parametrize("runs", ["", "latest", "latest,"])
def test_comparing_needs_two_runs(runs: str) -> None:
    """Fewer are refused with an example of the knob."""
    done = play("playbooks/compare.yml", "-e", f"compare_runs={runs}")
    assert done.returncode != 0
    assert "-e compare_runs=" in done.stdout


def test_comparing_says_which_run_is_not_there(tmp_path: Path) -> None:
    """A name is looked for among the runs, a path is taken as it is; what taskmill says is passed on."""
    done = play("playbooks/compare.yml", "-e", f"compare_runs=no-such-run,{tmp_path}")
    said = "".join(done.stdout.split())
    assert done.returncode != 0
    assert "/runs/no-such-run'doesnotexist" in said


@pytest.mark.parametrize("door", ["site.yml", "run-load.yml"])
def test_a_mistyped_inventory_does_not_end_green(door: str) -> None:
    """An inventory that is not there is an error, not an empty list of hosts."""
    done = play("-i", "inventory/labb", door)
    assert done.returncode != 0
    assert "inventory/labb" in done.stdout + done.stderr


def test_an_inventory_without_workers_is_refused_by_group(tmp_path: Path) -> None:
    """A landscape with a part missing is refused before anything is set up, by its group."""
    inventory = tmp_path / "hosts.yml"
    inventory.write_text("all: {children: {broker: {hosts: {b: }}, results: {hosts: {b: }}, client: {hosts: {b: }}}}")
    done = play("-i", str(inventory), "site.yml")
    assert done.returncode != 0
    assert "no host in the group 'workers'" in done.stdout
    assert "Set up the broker" not in done.stdout


def test_real_machines_meet_nothing_of_the_lab() -> None:
    """With an inventory that has no lab hosts, no host is matched by the lab's play."""
    done = play("-i", "inventory/vms", "site.yml", "--list-hosts")
    assert done.returncode == 0
    assert "Could not match supplied host pattern" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "knob", ["capacity_seconds=0", "capacity_rounds=many", '{"capacity_worker_hosts": [0]}', "load_profile_cost=true"]
)
def test_a_search_that_cannot_be_made_is_refused(knob: str) -> None:
    """Before any host is touched, with the knobs as they are."""
    done = play("-i", "inventory/vms", "playbooks/capacity.yml", "-e", knob)
    assert done.returncode != 0
    assert "capacity_seconds, capacity_budget and capacity_tolerance" in done.stdout
    assert "Look for a load that is under way" not in done.stdout


@pytest.mark.parametrize("knobs", ["tune_rounds=0", "tune_budget=-1", '{"tune_grid": {}}', '{"tune_grid": [1]}'])
def test_a_tuning_that_cannot_be_made_is_refused(knobs: str) -> None:
    """Before any host is touched, with the knobs as they are."""
    done = play("-i", "inventory/vms", "playbooks/tune.yml", "-e", knobs)
    assert done.returncode != 0
    assert "tune_rounds is a whole number" in done.stdout
    assert "Look for a load that is under way" not in done.stdout


def test_a_tuning_that_was_not_begun_cannot_go_on() -> None:
    """A mistyped name is no new tuning."""
    done = play("-i", "inventory/vms", "playbooks/tune.yml", "-e", "tune_resume=no-such-tune")
    assert done.returncode != 0
    assert "tune_resume is 'no-such-tune'" in done.stdout


def test_pictures_without_a_monitor_are_refused(tmp_path: Path) -> None:
    """`load_screenshots` in a landscape without Flower is refused before any host is touched."""
    inventory = tmp_path / "hosts.yml"
    groups = ", ".join(f"{group}: {{hosts: {{b: }}}}" for group in ("broker", "results", "workers", "client"))
    inventory.write_text(f"all: {{children: {{{groups}}}}}")
    done = play("-i", str(inventory), "run-load.yml", "-e", "load_screenshots=true")
    assert done.returncode != 0
    assert "no host in the group 'monitor'" in " ".join(done.stdout.split())
    assert "Look for a load that is under way" not in done.stdout


@pytest.mark.parametrize(
    ("playbook", "knob"),
    [("resume-load", "load_take_up=again"), ("resume-load", "stack=post2017"), ("dead-letters", "letters_action=read")],
)
def test_what_cannot_be_done_with_a_run_or_letters_is_refused(playbook: str, knob: str) -> None:
    """Another action, or a client that knows none of them, is named before any host is touched."""
    done = play("-i", "inventory/vms", f"playbooks/{playbook}.yml", "-e", knob)
    said = " ".join(done.stdout.split())
    assert done.returncode != 0
    assert f"is '{knob.partition('=')[2] if 'stack' not in knob else 'resume'}', for the stack" in said
    assert "Look for a load" not in said
    assert "Ask for them" not in said
