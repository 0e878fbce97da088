"""What a run or a tuning leaves for others to read holds the names of a worker's environment, and no value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import wiring
import yaml
from ansible_playbook import ROOT

ROLE = ROOT / "roles/celery_worker"

SECRET = "postgres://app:not-to-be-seen@db/app"
WORKERS = [
    {"name": "w1", "queues": ["red"], "environment": {"DATABASE_URL": SECRET, "API_KEY": "not-to-be-seen"}},
    {"name": "w2", "queues": ["red"], "environment": None},
    {"name": "w3", "queues": ["red"], "concurrency": 2},
]
#: What the hosts are asked for, and git.
ASKED = {"load_host": {"cores": 2}, "load_repository": {}}
RECOMMENDED = {"options": {"prefetch_multiplier": 8}}


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what is handed to a run for its record, and what a tuning writes and shows for the inventory."""
    folder = tmp_path_factory.mktemp("secrets")
    (folder / "tune").mkdir()
    (folder / "tune/recommendation.json").write_text(json.dumps(RECOMMENDED))
    hosts: dict[str, dict[str, Any]] = {"one": {}}
    shown = wiring.play(
        folder,
        wiring.landscape(hosts, celery_worker_nodes=WORKERS, **ASKED),
        [
            {"copy": {"content": "{{ load_environment | to_nice_json }}", "dest": f"{folder}/environment.json"}},
            {"import_role": {"name": "tune", "tasks_from": "begin"}},
            {"import_role": {"name": "tune", "tasks_from": "report"}},
        ],
        "-v",
        ansible_facts={"processor_nproc": 2},
        tune_folder=f"{folder}/tune",
        tune_command=["echo"],
    )
    return {
        "record": (folder / "environment.json").read_text(),
        "for the inventory": (folder / "tune/workers.yml").read_text(),
        "shown": shown,
    }


@pytest.mark.parametrize("where", ["record", "for the inventory", "shown"])
def test_no_value_of_a_workers_environment_is_left_for_others(left: dict[str, str], where: str) -> None:
    """A password of the app's database reaches neither run.json, of which the report is made, nor a tuning's folder."""
    assert "DATABASE_URL" in left[where]
    assert "not-to-be-seen" not in left[where]


def test_the_record_names_what_a_workers_environment_sets(left: dict[str, str]) -> None:
    """All else of a worker is there as the inventory has it."""
    workers = json.loads(left["record"])["settings"]["workers"]
    assert workers == [
        {"name": "w1", "queues": ["red"], "environment": ["API_KEY", "DATABASE_URL"]},
        {"name": "w2", "queues": ["red"], "environment": []},
        {"name": "w3", "queues": ["red"], "concurrency": 2},
    ]


def test_a_tuning_says_that_values_are_left_out(left: dict[str, str]) -> None:
    """What is for the inventory would replace an environment by its names otherwise."""
    assert "leave it in the inventory as it is" in left["for the inventory"]
    assert left["for the inventory"].count("prefetch_multiplier: 8") == 3


def test_what_fails_while_workers_are_set_up_shows_no_value(tmp_path: Path) -> None:
    """The files that are made of a worker's entry cannot be written: it is named, its environment is not shown."""
    tasks = yaml.safe_load((ROLE / "tasks/configure.yml").read_text())
    writing = [
        task
        for task in tasks
        if "{{ __celery_worker_name }}" in task.get("ansible.builtin.template", {}).get("dest", "")
    ]
    assert len(writing) == 2
    for task in writing:
        file = task["ansible.builtin.template"]
        file |= {"src": str(ROLE / "templates" / file["src"]), "dest": f"{tmp_path}/nowhere/{Path(file['dest']).name}"}
        del task["notify"]
    validate = {"include_role": {"name": "celery_worker", "tasks_from": "validate.yml", "public": True}}
    # The filters of the templates, which Ansible loads with the play.
    filters = {"import_role": {"name": "systemd_unit"}, "when": False}
    limited = [{"memory_max": "1G", **worker} for worker in WORKERS]
    said = wiring.play(
        tmp_path,
        wiring.landscape({"one": {}}, celery_worker_nodes=limited),
        [validate, {"block": writing[:1], "rescue": writing[1:]}, filters],
        "-v",
        code=2,
        ansible_facts={"processor_nproc": 2},
        __celery_worker_inspection={"stdout": json.dumps({"digests": {"/opt/fibonacci/venv": "0"}})},
        systemd_unit_version={"stdout": "systemd 257 (257.1)"},
    )
    assert said.count("failed: [one] (item=w1)") == 2
    assert "does not exist" in said
    assert "not-to-be-seen" not in said


def test_passwords_and_a_virtual_host_of_any_signs_are_whole_in_a_url(tmp_path: Path) -> None:
    """As every library reads them: a URL would end in the middle of a password, and log its rest."""
    password, host = "Xk/7#q?w%41@:", "team/app"
    passwords = dict.fromkeys(["worker", "client", "monitor"], password)
    show = {"copy": {"content": "{{ broker_urls | to_json }}", "dest": f"{tmp_path}/urls.json"}}
    wiring.play(tmp_path, wiring.landscape({"one": {}}, broker_passwords=passwords, broker_vhost=host), [show])
    for user, address in json.loads((tmp_path / "urls.json").read_text()).items():
        url = urlsplit(address)
        assert (url.username, unquote(url.password or ""), url.hostname, url.port) == (
            user,
            password,
            "127.0.0.1",
            5672,
        )
        assert (unquote(url.path[1:]), url.query, url.fragment) == (host, "", "")


def test_no_password_of_the_landscape_is_in_the_record(tmp_path: Path) -> None:
    """Those of the broker's users and of Flower, which the wiring knows, are nowhere in what is handed to a run."""
    passwords = {user: f"not-to-be-seen-{user}" for user in ("worker", "client", "monitor")}
    wiring.play(
        tmp_path,
        wiring.landscape({"one": {}}, broker_passwords=passwords, flower_basic_auth_password="not-to-be-seen", **ASKED),
        [
            {
                "copy": {
                    "content": "{{ [load_environment, broker_urls] | to_nice_json }}",
                    "dest": f"{tmp_path}/environment.json",
                }
            }
        ],
    )
    record, urls = json.loads((tmp_path / "environment.json").read_text())
    # The control: they are in what the workers are told.
    assert "not-to-be-seen-worker" in urls["worker"]
    assert "not-to-be-seen" not in json.dumps(record)
