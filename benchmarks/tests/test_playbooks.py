"""The plays of benchmarks/: what they refuse, and which variables reach the plays of playbooks/."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import wiring
import yaml
from ansible_playbook import PROGRAM, ROOT, run_playbook

HERE = ROOT / "benchmarks"
SUBJECTS = yaml.safe_load((HERE / "inventory/lab/group_vars/all/subjects.yml").read_text())["benchmark_subjects"]


@pytest.mark.parametrize("door", ["task-queues", "releases"])
def test_every_playbook_checks_the_order_of_variables_first(door: str) -> None:
    """Its first task is the one that refuses another order."""
    first = yaml.safe_load((HERE / f"{door}.yml").read_text())[0]
    assert first["tasks"][0]["ansible.builtin.import_role"] == {"name": "preflight"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-e", "benchmark_rounds=0"], "benchmark_rounds is a whole number of at least 1 (here 0)"),
        (["-e", "benchmark_resume=no-such-folder"], "where it is given ('no-such-folder')"),
        (
            ["-e", '{"benchmark_without": ["post2017", "rq"]}'],
            "benchmark_without names post2017, which is no subject. Known",
        ),
        (["-e", '{"benchmark_subjects": []}'], "has a subject that benchmark_without does not leave out"),
        (
            ["-e", "peers_rounds=1", "-e", "peers_resume=x"],
            "peers_resume is now benchmark_resume, peers_rounds is now benchmark_rounds. Use",
        ),
        (["-i", "inventory/vms"], "does not say what to measure. Use -i benchmarks/inventory/lab"),
    ],
)
def test_what_cannot_be_measured_is_refused_first(options: list[str], message: str) -> None:
    """In the first play, with the options as they are; an old name with the new one."""
    inventory = [] if "-i" in options else ["-i", "benchmarks/inventory/lab"]
    done = run_playbook(*inventory, "benchmarks/task-queues.yml", *options, timeout=100)
    assert done.returncode != 0
    said = " ".join(done.stdout.split()).replace("''", "'").replace(f"{ROOT}/", "")
    assert message in said
    assert len(re.findall(r"^PLAY \[", done.stdout, re.MULTILINE)) == 1


@pytest.mark.parametrize(
    ("door", "message"),
    [
        ("task-queues", "has no group 'cluster_celery5' with one worker host and a client"),
        ("releases", "has no group 'cluster_celery31' with workers and a client"),
    ],
)
def test_an_inventory_without_both_releases_is_refused(door: str, message: str, tmp_path: Path) -> None:
    """By the group that has no hosts."""
    (tmp_path / "hosts.yml").write_text("all: {hosts: {one: }}")
    (tmp_path / "group_vars").symlink_to(HERE / "inventory/lab/group_vars")
    done = run_playbook("-i", tmp_path, f"benchmarks/{door}.yml", timeout=100)
    assert done.returncode != 0
    assert message in " ".join(done.stdout.split()).replace("''", "'")


def test_the_labs_hosts_have_what_every_lab_has() -> None:
    """By links to the product's lab: how they are reached, and the broker's memory."""
    command = [str(PROGRAM.with_name("ansible-inventory")), "-i", "benchmarks/inventory/lab", "--list"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    hosts = json.loads(done.stdout)["_meta"]["hostvars"]
    assert sorted(hosts) == ["broker1", "client1", "client2017", "worker1", "worker2017"]
    assert {host["ansible_user"] for host in hosts.values()} == {"root"}
    assert all(host["lab_host_lab_addresses"] for host in hosts.values())
    assert hosts["broker1"]["rabbitmq_memory_high_watermark"]
    assert hosts["worker2017"]["celery_release"] == "celery31"


@pytest.fixture(scope="module")
def landscape(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what a play of playbooks/ sees where the inventory says what to measure, on a host that is everything."""
    folder = tmp_path_factory.mktemp("landscape")
    (folder / "inventory").mkdir()
    (folder / "inventory/group_vars").symlink_to(HERE / "inventory/lab/group_vars")
    hosts = wiring.landscape({"one": {}})
    hosts["all"]["children"]["cluster_celery5"] = {"hosts": {"one": {}}}
    names = ["benchmark_workers", "rabbitmq_users", "firewall_services", "other_queues_names", "benchmark_clusters"]
    values = "{{ dict(names | zip(query('ansible.builtin.vars', *names))) | to_json }}"
    workers = wiring.worker_environments(
        folder,
        hosts,
        {"copy": {"content": values, "dest": f"{folder}/seen"}},
        names=names,
        # As task-queues.yml hands them on.
        celery_worker_nodes="{{ benchmark_workers }}",
        broker_further_users="{{ benchmark_broker_users }}",
        firewall_further="{{ benchmark_firewall }}",
    )
    return {**json.loads((folder / "seen").read_text()), "environments": workers}


def test_our_workers_share_the_cores_and_ask_for_batches(landscape: dict[str, Any]) -> None:
    """Two on CPython, two on PyPy; each loads what makes batches, and gets as many messages at once as the example."""
    workers = {worker["name"]: worker for worker in landscape["benchmark_workers"]}
    assert sorted(workers) == ["p1", "p2", "w1", "w2"]
    for name, worker in workers.items():
        environment = landscape["environments"][f"one.{name}"]
        assert worker["concurrency"] == 1
        assert environment["CELERY_WORKER_BATCH"] == "100"
        assert wiring.loaded(environment) >= {"batching", "read_ahead", "task_times", "dead_lettering"}
    assert [name for name, worker in workers.items() if worker.get("interpreter") == "pypy3"] == ["p1", "p2"]


def test_the_other_queues_get_a_user_and_a_port(landscape: dict[str, Any]) -> None:
    """Beside those of the cluster."""
    assert [user["name"] for user in landscape["rabbitmq_users"]] == ["worker", "client", "monitor", "other_queues"]
    assert "Redis" in {service["name"] for service in landscape["firewall_services"]}


def test_every_subject_has_its_module_and_its_requirements(landscape: dict[str, Any]) -> None:
    """By the name that the playbook gives to the role."""
    assert landscape["benchmark_clusters"] == ["cluster_celery5", "cluster_celery31"]
    assert landscape["other_queues_names"]
    for name in landscape["other_queues_names"]:
        assert (HERE / "src/other_queues" / f"{name}.py").is_file()
        assert (HERE / "requirements" / f"{name}.txt").is_file()
    modules = {subject["how"]["module"] for subject in SUBJECTS if "module" in subject["how"]}
    assert modules == set(landscape["other_queues_names"])


def test_nothing_else_in_the_repository_knows_this_folder() -> None:
    """But the list of the test suite's steps, the Makefile, and the configuration of the checks."""
    words = "other_queues|other-queues|benchmarks/|benchmark_|task-queues"
    folders = ["app", "roles", "playbooks", "plugins", "inventory", "molecule", "requirements"]
    done = subprocess.run(
        ["git", "-c", "safe.directory=*", "grep", "-lE", words, "--", *folders],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
