"""What ``taskmill inspect`` says of an app, and the inventory that it writes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import celery
import pytest
import yaml

import inspected_apps
from inspected_apps import Inspected, inspected
from services import SOURCE, wait_until

HERE = ".".join(map(str, sys.version_info[:3]))
HOSTS = ["--hosts", "broker=10.0.0.1 worker=10.0.0.2"]


@pytest.fixture
def inspect(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Inspected]:
    """Return what looks at an app in the environment of these tests."""
    for name in ("SECRET_KEY", "DJANGO_SETTINGS_MODULE", "SHOP_KEY", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX"):
        monkeypatch.delenv(name, raising=False)

    return inspected


def test_the_first_example_of_celerys_documentation(inspect: Callable[..., Inspected], tmp_path: Path) -> None:
    """Each fact has its place, and six lines of YAML are all that its inventory needs."""
    app = inspected_apps.write(tmp_path / "docs", inspected_apps.DOCS)
    done = inspect(app, "--inventory", str(tmp_path / "mine"), *HOSTS)
    assert done.error == "importing the app ...\n"
    text = f"""---
app_name: proj
app_source: {app}
app_tasks: {{proj.tasks.add: celery, proj.tasks.mul: celery}}
app_arguments: [1, 1]
broker_workers_declare: true
"""
    assert (tmp_path / "mine/group_vars/all/app.yml").read_text() == text
    lines = [" ".join(line.split()) for line in done.out.splitlines()]
    assert [line for line in lines if "─" not in line and line] == [
        "what is from",
        "app proj proj/celery.py:3",
        f"Celery {celery.__version__}, imported with Python {HERE} --python {sys.executable}",
        "requirements Celery, python-memcached and redis no file of the app's says any; taskmill's own",
        "task proj.tasks.add(x, y) to celery proj/tasks.py:4",
        "proj.tasks.mul(x, y) to celery proj/tasks.py:9",
        "proj.tasks.xsum(numbers) to celery proj/tasks.py:14",
        "queue celery Celery's default",
        "task serializer json Celery's default",
        "result serializer json Celery's default",
        "broker amqp; on the hosts, CELERY_BROKER_URL proj/celery.py:4",
        "result backend rpc; on the hosts, CELERY_RESULT_BACKEND proj/celery.py:5",
        "acknowledgement early Celery's default",
        "What will hurt:",
        "- no file says what the app needs: the hosts get Celery, python-memcached and redis alone",
        "write a requirements.txt beside the app, or give --requirements FILE",
        "- acknowledged before it runs, and lost with its worker: every task (Celery's default)",
        "set task_acks_late and task_reject_on_worker_lost to True",
        f"{tmp_path}/mine/group_vars/all/app.yml:",
        *text.splitlines(),
        "The load will call proj.tasks.add, proj.tasks.mul with [1, 1].",
        "Arguments and tasks of your own: --task NAME --args '[...]', or app_tasks and app_arguments in that file.",
        "Next:",
        f"make load INVENTORY={tmp_path}/mine TASKS=1000",
    ]


@pytest.mark.parametrize("given", ["tasks.py", "."], ids=["file", "directory"])
def test_a_single_module(inspect: Callable[..., Inspected], tmp_path: Path, given: str) -> None:
    """The module of Celery's first steps is copied as the one file that it is, or with its directory."""
    app = inspected_apps.write(tmp_path, inspected_apps.SINGLE) / given
    done = inspect(app, "--json")
    assert done.json["variables"] == {
        "app_name": "tasks",
        "app_source": str(app),
        "app_tasks": {"tasks.add": "celery"},
        "app_arguments": [1, 1],
        "broker_workers_declare": True,
    }
    assert ("task", "tasks.add(x, y) to celery", "tasks.py:5") in done.facts


def test_a_celery_object_apart_from_its_tasks(inspect: Callable[..., Inspected], tmp_path: Path) -> None:
    """The worker is given the module that imports it and the tasks; that it is no app of its own is seen."""
    app = inspected_apps.write(tmp_path / "stamping", inspected_apps.APART)
    done = inspect(app, "--json")
    assert done.facts[:2] == [
        ("app", "worker", "worker.py:2"),
        ("its Celery object", "config:app, which registers no task by itself", "config.py:3"),
    ]
    assert ("task", "tasks.add(x, y) to celery", "tasks.py:4") in done.facts
    assert [fact for fact in done.facts if fact[0] == "another app"] == []


@pytest.mark.parametrize("task", ["worker.task", "worker.task(acks_late=True)", "shared_task"])
def test_of_several_celery_objects_the_one_that_is_used_is_taken(
    inspect: Callable[..., Inspected], tmp_path: Path, task: str
) -> None:
    """Though another one stands before it in its file: tasks are registered with both, settings are not."""
    made = "from celery import Celery\nclient = Celery('client')\nworker = Celery('worker', include='shop.tasks')\n"
    tasks = f"from celery import shared_task\nfrom shop.celery import worker\n\n\n@{task}\ndef add(x):\n    return x\n"
    app = inspected_apps.write(tmp_path, {"shop/__init__.py": "", "shop/celery.py": made, "shop/tasks.py": tasks})
    facts = inspect(app, "--json").facts
    assert facts[0] == ("app", "shop.celery:worker", "shop/celery.py:3")
    assert ("another app", "shop.celery:client") in [fact[:2] for fact in facts]


def test_what_brings_the_tasks_is_told_where_it_does_not_import(
    inspect: Callable[..., Inspected], tmp_path: Path
) -> None:
    """And not that there are no tasks."""
    app = inspected_apps.write(tmp_path, inspected_apps.APART | {"help.py": "raise KeyError('ready')\n"})
    (app / "tasks.py").write_text("import help\n" + inspected_apps.APART["tasks.py"])
    error = inspect(app, "--json").error
    assert "the app cannot be imported (help.py:1)" in error
    assert "KeyError: 'ready'" in error


def test_a_package_is_copied_without_what_lies_beside_it(inspect: Callable[..., Inspected], tmp_path: Path) -> None:
    """Given the package itself, the directory that it is imported from is the one above."""
    app = inspected_apps.write(tmp_path, inspected_apps.DOCS) / "proj"
    variables = inspect(app, "--json").json["variables"]
    assert (variables["app_source"], variables["app_packages"]) == (str(tmp_path), ["proj"])


@pytest.mark.parametrize(("given", "name"), [("proj/celery.py", "proj"), ("proj/inner", "proj.inner.tasks")])
def test_what_lies_within_a_package_is_copied_with_it(
    inspect: Callable[..., Inspected], tmp_path: Path, given: str, name: str
) -> None:
    """Given a module or a package within a package, all of the outermost one is copied, and nothing beside it."""
    inner = {"proj/inner/__init__.py": "", "proj/inner/tasks.py": inspected_apps.SINGLE["tasks.py"]}
    inspected_apps.write(tmp_path, {**inspected_apps.DOCS, **inner})
    variables = inspect(tmp_path / given, "--json").json["variables"]
    assert (variables["app_name"], variables["app_source"], variables["app_packages"]) == (
        name,
        str(tmp_path),
        ["proj"],
    )


def test_values_as_celery_lets_apps_write_them(inspect: Callable[..., Inspected], tmp_path: Path) -> None:
    """1 for True, text for numbers and a timedelta for seconds are read as Celery reads them."""
    app = inspected_apps.write(
        tmp_path,
        {
            "tasks.py": """\
from datetime import timedelta

from celery import Celery

app = Celery("tasks", broker="amqp://")
app.conf.update(task_acks_late=1, task_routes={"tasks.add": {"queue": "sums", "priority": "5"}})


@app.task(ignore_result=0, soft_time_limit="30", default_retry_delay=timedelta(hours=1))
def add(x, y):
    return x + y
"""
        },
    )
    done = inspect(app, "--json")
    assert {
        ("task", "tasks.add(x, y) to sums, priority 5", "tasks.py:9"),
        ("queue", "sums", "tasks.py:6"),
        ("acknowledgement", "late", "tasks.py:6"),
        ("soft time limit", "30 s for tasks.add", "tasks.py:9"),
    } <= set(done.facts)
    what = (
        "a retry of tasks.add may wait 3600 s in a worker, unacknowledged: at the end of RabbitMQ's consumer_timeout "
        "(1800 s) it comes again"
    )
    assert (what, "tasks.py:9") in done.hurts


GEVENT = """\
from celery import Celery

app = Celery("tasks", broker="amqp://", backend="redis://localhost")
app.conf.worker_pool = "gevent"
# What is said of sharing
{}


@app.task
def add(x, y):
    return x + y
"""


@pytest.mark.parametrize(
    ("line", "hurts"), [("", True), ("app.conf.result_backend_thread_safe = True", False)], ids=["each", "shared"]
)
def test_greenlets_with_results_in_redis(
    inspect: Callable[..., Inspected], tmp_path: Path, line: str, *, hurts: bool
) -> None:
    """By the settings of the app as it is imported, of which Celery has no default for the second."""
    app = inspected_apps.write(tmp_path, {"tasks.py": GEVENT.format(line)})
    done = inspect(app, "--json")
    what = (
        "with the pool gevent, each task makes a result backend of its own, whose connections to Redis stay open",
        "tasks.py:4",
    )
    assert (what in done.hurts) is hurts
    assert len(done.hurts) > 0


def test_an_address_from_the_environment(inspect: Callable[..., Inspected], tmp_path: Path) -> None:
    """What was made up for a variable that is not there is not told as the app's own."""
    app = inspected_apps.write(
        tmp_path,
        {
            "tasks.py": """\
import os

from celery import Celery

app = Celery("tasks", broker=os.environ["BROKER"], backend=os.environ["RESULTS_URL"])


@app.task
def add(x, y):
    return x + y
"""
        },
    )
    assert {
        ("broker", "from the environment; on the hosts, CELERY_BROKER_URL", "tasks.py:5"),
        ("result backend", "from the environment; on the hosts, CELERY_RESULT_BACKEND", "tasks.py:5"),
    } <= set(inspect(app, "--json").facts)


@pytest.mark.parametrize("given", [[], ["--env", "AMQP_ADDRESS=amqp://u:hunter2@b/"]], ids=["made-up", "given"])
def test_an_address_of_the_cluster_is_no_secret(
    inspect: Callable[..., Inspected], tmp_path: Path, given: list[str]
) -> None:
    """The inventory gives it by the variable that has it, and nothing is asked of a vault."""
    source = """\
import os

from celery import Celery

app = Celery("tasks", broker=os.environ["NAME"], backend=os.environ["RESULT_BACKEND"])
OTHER_USE = os.environ.get("HOME")


@app.task
def add(x, y):
    return x + y
"""
    name = "AMQP_ADDRESS" if given else "BROKER_URL"
    app = inspected_apps.write(tmp_path / "app", {"tasks.py": source.replace("NAME", name)})
    done = inspect(app, "--inventory", str(tmp_path / "mine"), *HOSTS, *given)
    variables = yaml.safe_load((tmp_path / "mine/group_vars/all/app.yml").read_text())
    assert variables["app_environment"] == {
        name: "{{ celery_worker_broker_url }}",
        "RESULT_BACKEND": "{{ celery_worker_result_backend }}",
    }
    assert f"{name}: needed; the inventory gives it the cluster's own (broker)" in done.out
    assert "vault" not in done.out
    assert "hunter2" not in done.out
    assert "the import needs" not in done.out


def test_what_stands_deep_in_a_repository(inspect: Callable[..., Inspected], tmp_path: Path) -> None:
    """Requirements above the app are its own; a backend that comes from the environment is no kind of its own."""
    made = "Celery(backend=os.environ.get('CELERY_RESULT_BACKEND', 'redis://'))"
    source = f"import os\nfrom celery import Celery\napp = {made}\n"
    tasks = "\n\n@app.task(acks_late=True)\ndef add(x):\n    return x\n"
    files = {"services/jobs/requirements.txt": "celery\n", "services/jobs/src/worker.py": source + tasks}
    facts = {fact[0]: fact[1:] for fact in inspect(inspected_apps.write(tmp_path, files), "--json").facts}
    assert facts["requirements"][1] == "services/jobs/requirements.txt"
    assert facts["result backend"] == (
        "from the environment; on the hosts, CELERY_RESULT_BACKEND",
        "services/jobs/src/worker.py:3",
    )
    assert facts["acknowledgement"] == ("late", "services/jobs/src/worker.py:6")


def test_a_secret_is_not_taken_for_an_address_of_the_cluster(inspect: Callable[..., Inspected], tmp_path: Path) -> None:
    """A store that the app uses itself is called otherwise; its address comes from the vault, whatever else has it."""
    source = "import os\nfrom celery import Celery\napp = Celery(broker=os.environ['CACHE_URL'])\n"
    source += "KEY = os.environ['KEY']\n\n\n@app.task\ndef add(x):\n    return x\n"
    app = inspected_apps.write(tmp_path, {"tasks.py": source})
    assert inspect(app, "--json").json["variables"]["app_environment"] == {
        "CACHE_URL": "{{ vault_cache_url }}",
        "KEY": "{{ vault_key }}",
    }


def test_settings_of_pydantic(inspect: Callable[..., Inspected], tmp_path: Path) -> None:
    """Those without a default are needed, by the names that pydantic reads; the rest of the environment is not."""
    app = inspected_apps.write(tmp_path, inspected_apps.PYDANTIC)
    values = {"BROKER_ADDRESS": "amqp://broker/", "SHOP_BROKER_ADDRESS": "a", "shop_store": "s", "API_KEY": "k"}
    done = inspect(app, "--json", *(f"--env={name}={value}" for name, value in values.items()))
    assert [fact[1:] for fact in done.facts if fact[0] == "environment"] == [
        ("BROKER_ADDRESS: needed; the inventory gives it the cluster's own (broker)", "shop/settings.py:6"),
        ("NOBODY: read, and done without", "shop/settings.py:17"),
        ("SHOP_BROKER_ADDRESS: needed", "shop/settings.py"),
        ("SHOP_STORE: needed", "shop/settings.py:11"),
        ("API_KEY: needed", "shop/settings.py:12"),
        ("SHOP_RETRIES: read, and done without", "shop/settings.py:13"),
    ]
    assert done.json["variables"]["app_environment"] == {
        "API_KEY": "{{ vault_api_key }}",
        "BROKER_ADDRESS": "{{ celery_worker_broker_url }}",
        "SHOP_BROKER_ADDRESS": "{{ vault_shop_broker_address }}",
        "SHOP_STORE": "{{ vault_shop_store }}",
    }


def test_settings_of_pydantic_that_are_not_given(inspect: Callable[..., Inspected], tmp_path: Path) -> None:
    """They are named as options of the command; pydantic's own text names the fields alone."""
    app = inspected_apps.write(tmp_path, inspected_apps.PYDANTIC)
    done = inspect(app, "--env=BROKER_ADDRESS=amqp://broker/", "--env=API_KEY=k")
    options = "--env SHOP_BROKER_ADDRESS=... --env SHOP_STORE=..."
    assert "Field required" in done.error
    assert done.error.removesuffix("importing the app ...\n").splitlines()[-2:] == [
        "  its settings (pydantic) have no value for what is named above",
        f"  not in the environment: SHOP_BROKER_ADDRESS, SHOP_STORE; give what they should be: {options}",
    ]


def test_settings_of_pydantic_1(inspect: Callable[..., Inspected], tmp_path: Path) -> None:
    """Which pydantic 2 has, too; their variables are named alike."""
    source = """\
from celery import Celery
from pydantic.v1 import BaseSettings, Field


class Settings(BaseSettings):
    store: str
    token: str = Field(env="API_TOKEN")
    retries: int = 3

    class Config:
        env_prefix = "shop_"


settings = Settings()
app = Celery()


@app.task
def add(x, y):
    return x + y
"""
    app = inspected_apps.write(tmp_path, {"tasks.py": source})
    missing = "not in the environment: SHOP_STORE, API_TOKEN; give what they should be: --env SHOP_STORE=... --env API"
    assert missing in inspect(app, "--json").error
    facts = inspect(app, "--json", "--env=SHOP_STORE=s", "--env=API_TOKEN=t").facts
    assert [fact[1:] for fact in facts if fact[0] == "environment"] == [
        ("SHOP_STORE: needed", "tasks.py:6"),
        ("API_TOKEN: needed", "tasks.py:7"),
        ("SHOP_RETRIES: read, and done without", "tasks.py:8"),
    ]


def test_an_app_that_copies_the_environment_needs_none_of_it(inspect: Callable[..., Inspected], tmp_path: Path) -> None:
    """What it reads by itself afterwards is still seen."""
    copies = ("dict(os.environ)", "{**os.environ}", "os.environ.copy()", "list(os.environ.items())", "list(os.environ)")
    source = "import os\n" + "".join(f"{text}\n" for text in copies) + "KEY = os.environ['SHOP_KEY']\n"
    app = inspected_apps.write(tmp_path, {"tasks.py": source + inspected_apps.SINGLE["tasks.py"]})
    done = inspect(app, "--json")
    assert [fact for fact in done.facts if fact[0] == "environment"] == [
        ("environment", "SHOP_KEY: needed", f"tasks.py:{len(copies) + 2}")
    ]


def test_each_other_app_is_told_once(inspect: Callable[..., Inspected], tmp_path: Path) -> None:
    """By a name that is its own, and never the one that was looked at."""
    source = "from celery import Celery\nif True:\n    app = Celery()\nelse:\n    app = Celery()\n"
    source += "second = Celery()\n\n\n@app.task\ndef add(x):\n    return x\n"
    app = inspected_apps.write(tmp_path, {"tasks.py": source, "other.py": source})
    told = {}
    for options in ([], ["--app", "tasks"], ["--app", "tasks:second"]):
        facts = inspect(app, "--json", *options).facts
        told[" ".join(options)] = [
            (name, place.partition(";")[0]) for kind, name, place in facts if kind == "another app"
        ]
    others = [("other", "other.py:3"), ("other:second", "other.py:6")]
    assert told[""] == told["--app tasks"] == [("tasks:second", "tasks.py:6"), *others]
    assert told["--app tasks:second"] == [("tasks", "tasks.py:3"), *others]


def test_a_django_project(inspect: Callable[..., Inspected], tmp_path: Path) -> None:
    """Its apps' tasks are found, its settings have their lines, and a secret that it needs is asked of the vault."""
    app = inspected_apps.write(tmp_path, inspected_apps.DJANGO)
    done = inspect(app, "--json")
    assert done.json["variables"] == {
        "app_name": "mysite",
        "app_source": str(app),
        "app_tasks": {"demoapp.tasks.rename_widget": "celery"},
        "app_arguments": [1, "text"],
        "broker_workers_declare": True,
        "app_beat": True,
        "app_environment": {"SECRET_KEY": "{{ vault_secret_key }}"},
    }
    assert {
        ("app", "mysite", "mysite/celery.py:7"),
        ("task", "demoapp.tasks.rename_widget(widget_id, name) to celery", "demoapp/tasks.py:11"),
        ("broker", "redis; on the hosts, CELERY_BROKER_URL", "mysite/settings.py:7"),
        ("time limit", "1800 s", "mysite/settings.py:8"),
        ("beat", "demoapp.tasks.count_widgets: 60.0", "entry count"),
        ("environment", "SECRET_KEY: needed", "mysite/settings.py:3"),
        ("environment", "DATABASE: read, and done without", "mysite/settings.py:6"),
    } <= set(done.facts)
    both = "demoapp.tasks.count_widgets, demoapp.tasks.rename_widget"
    assert done.hurts == [
        ("no file says what the app needs: the hosts get Celery, python-memcached and redis alone", ""),
        ("the import needs SECRET_KEY in the environment", "mysite/settings.py:3"),
        ("beat sends demoapp.tasks.renamed, which is not registered", "entry gone"),
        (f"a stopping worker is killed after 300 s, and these may take 1800 s: {both}", "demoapp/tasks.py:6"),
        ("acknowledged before it runs, and lost with its worker: every task", "Celery's default"),
        ("DEBUG is on: Django keeps every query in the worker's memory", "mysite/settings.py:4"),
    ]
    assert "hunter2" not in done.out


def test_a_secret_is_asked_for_before_the_load(inspect: Callable[..., Inspected], tmp_path: Path) -> None:
    """No value of the environment gets into the inventory, not one that was given either."""
    app = inspected_apps.write(tmp_path / "site", inspected_apps.DJANGO)
    mine = tmp_path / "mine"
    beside = Path(sys.executable).with_name("ansible-vault")
    # The hosts that run these tests, too, have no Ansible.
    program = str(beside) if beside.exists() else "ansible-vault"
    done = inspect(app, "--env", "SECRET_KEY=correct-horse", "--inventory", str(mine), *HOSTS)
    assert done.out.splitlines()[-3:] == [
        f"First give a value to vault_secret_key: {program} create {mine}/group_vars/all/vault.yml",
        "Next:",
        f"  make load INVENTORY={mine} TASKS=1000 ARGS=--ask-vault-pass",
    ]
    assert not [path for path in mine.rglob("*") if path.is_file() and "correct-horse" in path.read_text()]
    assert "correct-horse" not in done.out


def test_queues_exchanges_and_routes(inspect: Callable[..., Inspected], tmp_path: Path) -> None:
    """Each task's route is what Celery's router says; queues are declared with their arguments, exchanges allowed."""
    app = inspected_apps.write(tmp_path, inspected_apps.QUEUES)
    done = inspect(app, "--json")
    assert done.json["variables"] == {
        "app_name": "media.app",
        "app_source": str(app),
        "app_tasks": {"media.images.resize": "images"},
        "app_arguments": [1, 1],
        "app_queues": ["images", "mail"],
        "rabbitmq_queues": [
            {"name": "images", "arguments": {"x-max-priority": 10}},
            {"name": "mail", "arguments": {}},
        ],
        "broker_workers_declare": True,
        "broker_task_queues": "default|images|mail|media",
    }
    assert [fact for fact in done.facts if fact[0] in {"task", "queue", "routes"}] == [
        ("task", "media.images.lost() to no queue that is known, priority 5", "media/images.py:11"),
        ("task", "media.images.resize(width, height) to images, priority 5", "media/images.py:6"),
        ("task", "media.mail.count() to mail", "media/mail.py:9"),
        ("task", "media.mail.send(to, subject) to mail", "media/mail.py:4"),
        ("queue", "images x-max-priority=10 at exchange media", "media/app.py:14"),
        ("queue", "mail at exchange default, not declared by its workers", "media/app.py:14"),
        (
            "routes",
            "['by_name', {'media.images.*': {'exchange': 'media', 'routing_key': 'image.resize', 'priority': 5}}]",
            "media/app.py:21",
        ),
    ]
    early = "media.images.lost, media.mail.count, media.mail.send"
    again = "unacknowledged: at the end of RabbitMQ's consumer_timeout (1800 s) it comes again"
    assert done.hurts[1:] == [
        ("ignore_result: of media.mail.send no result is kept", "media/mail.py:4"),
        ("no file says what the app needs: the hosts get Celery, python-memcached and redis alone", ""),
        (
            "media.images.lost goes to exchange 'nowhere' with routing key 'x', and from there to no queue",
            "media/app.py:21",
        ),
        (
            "no task's route leads to default, unused: the workers of the new inventory do not serve it",
            "media/app.py:14",
        ),
        (
            "the load gives arguments by their place, and leaves out what takes some by name alone: media.mail.send",
            "media/mail.py:4",
        ),
        ("a stopping worker is killed after 300 s, and these may take 400 s: media.images.resize", "media/images.py:6"),
        (f"a task waits 7200 s in a worker, {again}", "media/images.py:8"),
        (f"a task waits 3600 s in a worker, {again}", "media/images.py:13"),
        (f"a retry of media.images.resize may wait 7200 s in a worker, {again}", "media/images.py:6"),
        (f"acknowledged before it runs, and lost with its worker: {early}", "Celery's default"),
        (
            "pickle (task_serializer, accept_content): who can write to broker or result store runs code",
            "media/app.py:22",
        ),
    ]
    assert done.hurts[0] == ("the broker is fixed in the source", "media/app.py:24")


def test_quorum_queues_by_the_default_type(inspect: Callable[..., Inspected], tmp_path: Path) -> None:
    """A type for all queues, and priorities for all, are arguments of each."""
    app = inspected_apps.write(tmp_path, inspected_apps.SINGLE)
    (app / "tasks.py").open("a").write("app.conf.update(task_queue_max_priority=5, task_default_queue='jobs')\n")
    assert inspect(app, "--json").json["variables"]["rabbitmq_queues"] == [
        {"name": "jobs", "arguments": {"x-max-priority": 5}}
    ]
    (app / "tasks.py").open("a").write(
        "app.conf.update(task_queue_max_priority=None, task_default_queue_type='quorum')\n"
    )
    assert inspect(app, "--json").json["variables"]["rabbitmq_queues"] == [
        {"name": "jobs", "arguments": {"x-queue-type": "quorum"}}
    ]


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ("del os.environ['CELERY_RESULT_BACKEND']; app.conf.result_backend = 'disabled://'", "no result backend: no "),
        ("app.conf.broker_transport_options = {'visibility_timeout': 7200}", "visibility_timeout is 7200 s"),
        ("app.conf.update(task_acks_late=True, task_time_limit=4000)", "RabbitMQ's consumer_timeout is 1800 s"),
        ("app.conf.result_serializer = 'pickle'", "pickle (result_serializer)"),
        ("app.conf.worker_pool = 'eventlet'", "worker_pool is eventlet: by a setting alone, what waits in a task"),
        (
            "app.conf.task_routes = [lambda name, args, *_, **__: args[0]]",
            "the route of tasks.add is not known without",
        ),
    ],
)
def test_what_will_hurt(inspect: Callable[..., Inspected], tmp_path: Path, more: str, what: str) -> None:
    """Each thing that hurts is said."""
    app = inspected_apps.write(tmp_path, inspected_apps.SINGLE)
    (app / "tasks.py").open("a").write(f"import os\n{more}\n")
    done = inspect(app, "--json")
    assert [one for one, _ in done.hurts if one.startswith(what)], done.hurts


def test_an_app_that_acknowledges_late_is_not_blamed(inspect: Callable[..., Inspected], tmp_path: Path) -> None:
    """What is as it should be is no problem."""
    app = inspected_apps.write(tmp_path, {**inspected_apps.SINGLE, "requirements.txt": "celery\n"})
    (app / "tasks.py").open("a").write("app.conf.task_acks_late = True\n")
    assert inspect(app, "--json").hurts == []


def test_tasks_and_arguments_of_the_load(inspect: Callable[..., Inspected], tmp_path: Path) -> None:
    """The user says what is called with what."""
    app = inspected_apps.write(tmp_path, inspected_apps.DOCS)
    load = inspect(app, "--json", "--task", "proj.tasks.xsum", "--args", "[[1, 2]]").json["variables"]
    assert (load["app_tasks"], load["app_arguments"]) == ({"proj.tasks.xsum": "celery"}, [[1, 2]])
    done = inspect(app, "--task", "proj.tasks.xsun")
    assert done.error.startswith(
        "--task proj.tasks.xsun: the app registers no such task: the nearest is proj.tasks.xsum"
    )


def test_a_task_that_no_load_can_call_is_told(inspect: Callable[..., Inspected], tmp_path: Path) -> None:
    """What takes arguments by name alone is left out with a word, and refused where it is asked for."""
    app = inspected_apps.write(tmp_path, inspected_apps.SINGLE)
    (app / "tasks.py").open("a").write("\n@app.task\ndef send(to, *, subject):\n    return to\n")
    done = inspect(app, "--json")
    assert done.json["variables"]["app_tasks"] == {"tasks.add": "celery"}
    what = "the load gives arguments by their place, and leaves out what takes some by name alone: tasks.send"
    assert (what, "tasks.py:9") in done.hurts
    assert inspect(app, "--task", "tasks.send", "--args", '["a"]').error.startswith(
        "--task tasks.send takes subject by name alone, and a load gives arguments by their place: give a default "
        "there, or name another task"
    )


IMPORTS = {
    "dependency": (
        "import nowhere_at_all\n",
        "the app cannot be imported (tasks.py:1), with Python {python} and Celery {celery}; its last lines:",
        "ModuleNotFoundError: No module named 'nowhere_at_all'",
        "add what brings nowhere_at_all to the requirements ({interpreter}); if it is your own, give its directory",
    ),
    "library": (
        "raise ImportError('libpq.so.5: cannot open shared object file: No such file or directory')\n",
        "the app cannot be imported (tasks.py:1), with Python {python} and Celery {celery}; its last lines:",
        "ImportError: libpq.so.5: cannot open shared object file: No such file or directory",
        "the system library libpq.so.5 is missing: apt-get install libpq5 here; {packages} in the inventory",
    ),
    "syntax": (
        "def f(:\n",
        "no module in {app} has a Celery object at its top: give what celery --app takes, by --app MODULE:NAME",
    ),
    "exit": (
        "import sys; sys.exit('usage: tasks.py FILE')\n",
        "the app cannot be imported (tasks.py:1), with Python {python} and Celery {celery}; its last lines:",
        "SystemExit: usage: tasks.py FILE",
        'the app ends its process when it is imported: put that under if __name__ == "__main__"',
    ),
    "variable": (
        "import os; int(os.environ['SHOP_KEY'] + 'x')\n",
        "the app cannot be imported (tasks.py:1), with Python {python} and Celery {celery}; its last lines:",
        "ValueError: invalid literal for int() with base 10: '1x'",
        "celery --app NAME report has to work first, in the directory of the app",
        "not in the environment, and made up here: SHOP_KEY; give what they should be: --env SHOP_KEY=...",
    ),
    "killed": (
        "import os; print('going', flush=True); os.kill(os.getpid(), 11)\n",
        "the app in {app} ends its process by SIGSEGV when it is imported; its last lines:",
        "going",
        "a compiled package of its requirements is broken, or built for another Python",
    ),
    "ended": (
        "import os; print('going', flush=True); os._exit(3)\n",
        "the app in {app} ends its process with exit code 3 when it is imported; its last lines:",
        "going",
        "the app must not end the process (os._exit)",
    ),
}


@pytest.mark.parametrize("case", IMPORTS)
def test_an_app_that_does_not_import(inspect: Callable[..., Inspected], tmp_path: Path, case: str) -> None:
    """Its own last lines are said, and the likely mend."""
    before, *expected = IMPORTS[case]
    app = inspected_apps.write(tmp_path, inspected_apps.SINGLE)
    (app / "tasks.py").write_text(before + inspected_apps.SINGLE["tasks.py"])
    done = inspect(app, "--inventory", str(tmp_path / "mine"), *HOSTS)
    known: dict[str, Any] = {"python": HERE, "celery": celery.__version__, "interpreter": sys.executable, "app": app}
    known["packages"] = "on the hosts, app_system_packages: [libpq5]"
    said = done.error.removesuffix("importing the app ...\n").splitlines()
    first, *last = [line.format(**known) for line in expected]
    assert said[0] == first
    if last:
        end = [f"    {last[0]}", *(f"  {line}" for line in last[1:])]
        assert said[-len(end) :] == end
    assert not (tmp_path / "mine").exists()


def test_prints_and_warnings_at_import_do_no_harm(inspect: Callable[..., Inspected], tmp_path: Path) -> None:
    """What the app writes is its own affair."""
    app = inspected_apps.write(tmp_path, inspected_apps.SINGLE)
    noise = "import sys, warnings\nprint('{\"json\": 1}')\nwarnings.warn('old')\nsys.stderr.write('noise')\n"
    (app / "tasks.py").write_text(noise + inspected_apps.SINGLE["tasks.py"])
    done = inspect(app, "--json")
    assert done.json["variables"]["app_tasks"] == {"tasks.add": "celery"}
    assert done.error == "importing the app ...\n"


@pytest.mark.parametrize("session", [False, True], ids=["in-its-session", "in-another"])
def test_threads_of_the_app_do_not_keep_it(inspect: Callable[..., Inspected], tmp_path: Path, *, session: bool) -> None:
    """Neither a thread that never ends nor a child that outlives its parent is waited for; nothing of them is left."""
    app = inspected_apps.write(tmp_path, inspected_apps.SINGLE)
    child = (
        "import subprocess, threading, time\nchild = subprocess.Popen(['sleep', '600'], start_new_session=SESSION)\n"
    )
    child = child.replace("SESSION", str(session))
    child += "open('child', 'w').write(str(child.pid))\nthreading.Thread(target=time.sleep, args=(600,)).start()\n"
    (app / "tasks.py").write_text(child + inspected_apps.SINGLE["tasks.py"])
    assert inspect(app, "--json").code == 0
    wait_until(lambda: ended((app / "child").read_text()), 10, "child gone")


def ended(process: str) -> bool:
    """Return whether a process has ended; what only waits to be reaped has."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.thorough
def test_an_import_that_waits(inspect: Callable[..., Inspected], tmp_path: Path) -> None:
    """The time is up, where it stands is said, and its process has ended."""
    app = inspected_apps.write(tmp_path, inspected_apps.SINGLE)
    waits = "import os, time\nopen('pid', 'w').write(str(os.getpid()))\nprint('going')\ntime.sleep(600)\n"
    (app / "tasks.py").write_text(waits + inspected_apps.SINGLE["tasks.py"])
    assert inspect(app, "--timeout", "10").error.removesuffix("importing the app ...\n") == (
        f"the app in {app} is not imported within 10 s; its last lines:\n    going\n"
        f"  it stands at {app}/tasks.py:4: do not wait at import, or give it more by --timeout SECONDS"
    )
    assert ended((app / "pid").read_text())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM end the app's process and delete what was made; nothing is written."""
    app = inspected_apps.write(tmp_path / "app", inspected_apps.SINGLE)
    waits = "import os, time\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(600)\n"
    (app / "tasks.py").write_text(waits + inspected_apps.SINGLE["tasks.py"])
    (tmp_path / "tmp").mkdir()
    command = [sys.executable, "-m", "taskmill", "inspect", str(app), "--python", sys.executable]
    command += ["--inventory", str(tmp_path / "mine"), *HOSTS]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "TMPDIR": str(tmp_path / "tmp")}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: (app / "pid").exists() and (app / "pid").read_text() != "", 60, "import begun")
    process.send_signal(number)
    _, said = process.communicate(timeout=120)
    assert (process.returncode, said) == (130, "importing the app ...\ntaskmill: stopped; nothing was written\n")
    assert ended((app / "pid").read_text())
    assert not (tmp_path / "mine").exists()
    assert list((tmp_path / "tmp").iterdir()) == []


def test_nothing_is_left_in_the_apps_directory(inspect: Callable[..., Inspected], tmp_path: Path) -> None:
    """The app's directory is as it was."""
    app = inspected_apps.write(tmp_path, inspected_apps.DOCS)
    inspect(app)
    assert sorted(str(path.relative_to(app)) for path in app.rglob("*") if path.is_file()) == sorted(
        inspected_apps.DOCS
    )


def test_an_inventory_is_not_overwritten(inspect: Callable[..., Inspected], tmp_path: Path) -> None:
    """What is there stays, and is named before the app is imported."""
    app = inspected_apps.write(tmp_path / "app", inspected_apps.SINGLE)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "hosts.yml").write_text("mine")
    done = inspect(app, "--inventory", str(tmp_path / "mine"), *HOSTS)
    assert done.error == (
        f"{tmp_path}/mine has hosts.yml already, and nothing was changed: "
        f"give another directory, or delete what is there"
    )
    assert [path.read_text() for path in (tmp_path / "mine").rglob("*")] == ["mine"]


def test_the_hosts_of_another_inventory(inspect: Callable[..., Inspected], tmp_path: Path) -> None:
    """A lab's inventory is copied with all that makes its hosts, and without its secrets."""
    app = inspected_apps.write(tmp_path / "app", inspected_apps.SINGLE)
    lab = {
        "hosts.yml": "all:\n",
        "group_vars/lab/lab.yml": "a: 1\n",
        ".secrets/broker": "secret",
        "host_vars/h.yml": "b: 1\n",
    }
    inspected_apps.write(tmp_path / "lab", lab)
    inspect(app, "--inventory", str(tmp_path / "mine"), "--like", str(tmp_path / "lab"))
    mine = {str(path.relative_to(tmp_path / "mine")) for path in (tmp_path / "mine").rglob("*") if path.is_file()}
    assert mine == {"hosts.yml", "group_vars/lab/lab.yml", "host_vars/h.yml", "group_vars/all/app.yml"}


@pytest.mark.thorough
def test_an_environment_is_made_from_the_requirements(tmp_path: Path) -> None:
    """pip installs what the app needs, the app is imported there, and the environment is gone; needs an index."""
    files = {**inspected_apps.SINGLE, "requirements.txt": f"celery=={celery.__version__}\n"}
    app = inspected_apps.write(tmp_path / "app", files)
    (tmp_path / "tmp").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "TMPDIR": str(tmp_path / "tmp")}
    command = [sys.executable, "-m", "taskmill", "inspect", str(app), "--inventory", str(tmp_path / "mine"), *HOSTS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=170, check=False)
    if "the index is not reached" in done.stderr:
        pytest.skip("no index is reached from this machine")
    assert done.returncode == 0, done.stderr
    variables = yaml.safe_load((tmp_path / "mine/group_vars/all/app.yml").read_text())
    assert variables["app_requirements"] == "{{ inventory_dir }}/requirements.txt"
    assert (tmp_path / "mine/requirements.txt").read_text() == (
        f"-r {app}/requirements.txt\n# Stores results in memcached.\npython-memcached==1.62\n"
    )
    assert list((tmp_path / "tmp").iterdir()) == []
