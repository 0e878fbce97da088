"""The inventories of the examples, without a host: what they set, and where their labs are."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.template import trust_as_template
from ansible_playbook import ROOT, run_playbook

from taskmill.model.plan import Plan
from taskmill.workload import scenario
from taskmill.workload.calls import Calls

EXAMPLES = sorted(path.parent for path in ROOT.glob("examples/*/inventory"))
PLACE = ("lab_host_bridge", "lab_host_subnet", "ansible_host")
WIRED = {
    name for path in (ROOT / "playbooks/group_vars/all").glob("*.yml") for name in yaml.safe_load(path.read_text())
}


def own_files(example: Path) -> list[Path]:
    """Return the files of an example's inventory that it does not share with the others."""
    found = (path for path in (example / "inventory").rglob("*.yml") if not path.is_symlink())
    return [path for path in found if ".secrets" not in path.parts]


@cache
def listed(inventory: Path) -> dict[str, Any]:
    """Return the groups of an inventory, and the variables of its hosts, as Ansible reads them."""
    program = Path(sys.executable).with_name("ansible-inventory")
    command = [program, "-i", inventory, "--list"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    groups: dict[str, Any] = json.loads(done.stdout)
    return groups


def test_there_are_examples() -> None:
    """The tests below would pass if none were found."""
    assert "django" in {example.name for example in EXAMPLES}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_says_little_and_nothing_that_nobody_reads(example: Path) -> None:
    """At most eight lines of its own, each a variable of the wiring."""
    lines = [line for path in own_files(example) for line in path.read_text().splitlines() if line != "---"]
    assert 0 < len([line for line in lines if not line.startswith("#")]) <= 8
    assert {name for path in own_files(example) for name in yaml.safe_load(path.read_text())} - WIRED == set()


def test_every_lab_has_a_place_of_its_own(resolve: Callable[[Any, dict[str, Any]], Any]) -> None:
    """So that the examples' labs, and the others, may be up beside each other."""
    inventories = [*(example / "inventory" for example in EXAMPLES), *ROOT.glob("inventory/lab*")]
    assert len(inventories) > len(EXAMPLES)
    bridges, subnets = set(), set()
    for inventory in inventories:
        every = listed(inventory)["_meta"]["hostvars"]
        addresses = set()
        for variables in every.values():
            known = {"inventory_dir": str(inventory)}
            known |= {name: trust_as_template(one) for name, one in variables.items() if isinstance(one, str)}
            place = resolve({name: known[name] for name in PLACE}, known)
            assert ip_address(place["ansible_host"]) in ip_network(place["lab_host_subnet"])
            addresses.add(place["ansible_host"])
        assert len(addresses) == len(every)
        bridges.add(place["lab_host_bridge"])
        subnets.add(place["lab_host_subnet"])
        # Linux takes no longer name of an interface.
        assert len(place["lab_host_bridge"]) <= 15
    assert len(bridges) == len(subnets) == len(inventories)


@pytest.mark.thorough
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_the_playbooks_take_an_example(example: Path) -> None:
    """As they take any inventory."""
    assert {"broker", "results", "workers", "client", "monitor", "lab"} <= set(listed(example / "inventory"))
    done = run_playbook("-i", example / "inventory", "site.yml", "--list-hosts")
    assert done.returncode == 0, done.stderr
    assert "worker1" in done.stdout


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_the_requirements_bring_what_the_result_store_needs(example: Path) -> None:
    """And nothing of the other store."""
    store = listed(example / "inventory")["_meta"]["hostvars"]["worker1"].get("result_store", "memcached")
    names = {line.partition("==")[0] for line in (example / "requirements.txt").read_text().splitlines()}
    assert names & {"python-memcached", "redis"} == {{"memcached": "python-memcached"}.get(store, store)}


def test_greenlets_share_one_result_backend_with_a_connection_for_each() -> None:
    """Each task would open connections to Redis, and leave them behind; or get none, and stay with its worker."""
    [worker] = listed(ROOT / "examples/gevent/inventory")["_meta"]["hostvars"]["worker1"]["celery_worker_nodes"]
    enough = f"app.conf.redis_max_connections > {worker['concurrency']}"
    code = f"from prices.celery import app; print(app.conf.result_backend_thread_safe and {enough})"
    place = {"PYTHONPATH": str(ROOT / "examples/gevent/src"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=place, capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_the_readme_has_the_commands(example: Path) -> None:
    """Those of this example and of no other."""
    readme = (example / "README.md").read_text()
    inventory = f"INVENTORY=examples/{example.name}/inventory"
    assert f"# make load {inventory} TASKS=1000\n" in readme
    assert f"# make load {inventory} SCENARIO=examples/{example.name}/scenario.yml TASKS=1000\n" in readme
    assert f"# make lab-down {inventory}\n" in readme


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_a_scenario_is_short_and_taken(example: Path) -> None:
    """At most fifteen lines; what it names beside it is there, and makes arguments and right results."""
    path = example / "scenario.yml"
    assert len(path.read_text().splitlines()) <= 15
    command = [sys.executable, "-m", "taskmill", "scenario", path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found = scenario.read(path)
    plan = Plan("p", found.routes, 20, (), seed=found.seed, scenario=path.name, directory=str(example))
    for kind in Calls(plan).kinds:
        assert kind.call(0) == kind.call(0)
        assert kind.right(0).how == kind.route.right.how.replace("function", "value")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_a_scenario_has_tasks_of_the_app_and_queues_that_are_declared(example: Path) -> None:
    """Each task is in the source under its name, and its queue is one of ``app_tasks``."""
    queues = listed(example / "inventory")["_meta"]["hostvars"]["worker1"]["app_tasks"].values()
    kinds = yaml.safe_load((example / "scenario.yml").read_text())["kinds"].values()
    assert len(kinds) > 1
    for kind in kinds:
        module, _, name = kind["task"].rpartition(".")
        source = example / "src" / f"{module.replace('.', '/')}.py"
        functions = [node for node in ast.parse(source.read_text()).body if isinstance(node, ast.FunctionDef)]
        assert [one.decorator_list != [] for one in functions if one.name == name] == [True]
        assert kind["queue"] in queues
