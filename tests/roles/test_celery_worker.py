"""The role celery_worker without a host: what it refuses, and what it writes."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader

Render = Callable[[Path, dict[str, Any]], str]
Refused = Callable[[dict[str, Any]], tuple[Any, str]]

ROLE = Path(__file__).parents[2] / "roles" / "celery_worker"
INPUT: dict[str, Any] = {
    "celery_worker_app": "app",
    "celery_worker_directory": "/nowhere/src",
    "celery_worker_venv_path": "/nowhere/venv",
    "celery_worker_broker_url": "amqp://worker:not-to-be-seen@127.0.0.1/",
    "celery_worker_result_backend": "cache+memcached://127.0.0.1/",
    "celery_worker_known_queues": ["red", "green"],
}


def worker(**settings: Any) -> dict[str, Any]:
    """Return an entry of the worker list, right but for `settings`."""
    return {"name": "w1", "queues": ["red"], **settings}


BAD_WORKERS = [
    ([worker(queues=[])], ["'w1' has no queue", "one or more of: red, green"]),
    ([{"name": "w1"}], ["'w1' has no queue"]),
    ([worker(queues=["red", "blue"])], ["queue 'blue'", "Known queues: red, green"]),
    ([worker(), worker(), worker(name="w2")], ["2 workers are named 'w1'"]),
    ([worker(name="w 1")], ["'w 1' cannot name a systemd instance"]),
    ([worker(name="../etc")], ["'../etc' cannot name a systemd instance"]),
    ([worker(name="celery-beat")], ["a worker is named 'celery-beat', as beat's environment file is. Give it another"]),
    ([worker(concurrency=0)], ["'w1' has concurrency 0", "at least 1"]),
    ([worker(concurrency="many")], ["'concurrency'", "celery_worker_nodes"]),
    ([worker(prefetch_multiplier=-1)], ["'w1' has prefetch_multiplier -1"]),
    ([worker(loglevel="loud")], ["loglevel", "loud"]),
    ([worker(interpreter="/usr/bin/pypy3")], ["'w1' has interpreter '/usr/bin/pypy3'", "such as pypy3"]),
    ([worker(memory_max="lots")], ["'w1' has memory_max 'lots'"]),
    ([worker(environment={"A B": 1})], ["environment variable 'A B'"]),
    ([worker(environment={"A": "1\n2"})], ["environment variable 'A'"]),
    ([worker(environment={"A": None})], ["'w1' has the environment variable 'A', whose value is no text. Write it in"]),
    (
        [worker(queues=["red", "a b", "c,d"])],
        ["queue 'a b', which cannot be said", "queue 'c,d', which cannot be said"],
    ),
    ([worker(environment={"CELERY_BROKER_URL": "x"})], ["'w1' sets CELERY_BROKER_URL"]),
    ([worker(environment={"CELERY_BROKER_CA": "x"})], ["'w1' sets CELERY_BROKER_CA"]),
    ([worker(environment={"CELERY_WORKER_REDELIVERIES": 9})], ["'w1' sets CELERY_WORKER_REDELIVERIES"]),
    ([worker(pool="eventlet")], ["pool", "eventlet", "prefork, threads, gevent, solo"]),
    ([worker(pool="threads", batch=8)], ["'w1' has batch 8 and pool threads. Batches need the pool prefork"]),
    ([worker(pool="gevent")], ["'w1' has pool gevent and no concurrency. Say how many", "such as concurrency: 100"]),
    ([worker(pool="solo", concurrency=2)], ["'w1' has pool solo and concurrency 2. This pool runs one task at a time"]),
    ([worker(pool="threads", max_tasks_per_child=9)], ["'w1' has max_tasks_per_child and pool threads, which has no"]),
    ([worker(max_tasks_per_child=0)], ["'w1' has max_tasks_per_child 0. It needs at least 1"]),
    ([worker(autoscale=[4, 2], concurrency=3)], ["'w1' has autoscale and concurrency. Leave one of the two out."]),
    ([worker(autoscale=[4])], ["'w1' has autoscale [4]. Give the most and the fewest pool processes, in this order"]),
    ([worker(autoscale=[2, 4])], ["'w1' has autoscale [2, 4]. Give the most and the fewest pool processes"]),
    ([worker(autoscale=[0, 0])], ["'w1' has autoscale [0, 0]. Give the most and the fewest pool processes"]),
    ([worker(autoscale=[4, 2], pool="threads")], ["'w1' has autoscale and pool threads, which neither grows nor"]),
    ([worker(queues=[]), worker(name="-", concurrency=-1)], ["no queue", "'-' cannot name", "concurrency -1"]),
]
REQUIRED = ["celery_worker_broker_url", "celery_worker_nodes", "celery_worker_app"]
RIGHT = {**INPUT, "celery_worker_nodes": [worker()]}
NEVER = {**RIGHT, "celery_worker_max_redeliveries": 0}
NOWHERE = {**RIGHT, "celery_worker_include": ["/nowhere/features"]}


#: Inputs about all workers, and what is said of them.
BAD_INPUTS: list[tuple[dict[str, Any], str]] = [
    (
        {"celery_worker_environment": {"A B": "not-to-be-seen"}},
        "celery_worker_environment: every worker has the environment variable 'A B', whose name or value",
    ),
    (
        {"celery_worker_environment": {"KEY": "not-to-be-seen\n2"}},
        "celery_worker_environment: every worker has the environment variable 'KEY', whose name or value",
    ),
    (
        {"celery_worker_environment": {"CELERY_RESULT_BACKEND": "not-to-be-seen"}},
        "celery_worker_environment: every worker sets CELERY_RESULT_BACKEND in its environment, which this role sets.",
    ),
    *[
        (
            {"celery_worker_environment": {"KEY": value}},
            (
                "celery_worker_environment: every worker has the environment variable 'KEY', whose value is no text. "
                "Write it in quotes ('' for an empty one), or leave the variable out."
            ),
        )
        for value in (None, {"of": "not-to-be-seen"}, ["not-to-be-seen"])
    ],
    (
        {"celery_worker_environment": "KEY=not-to-be-seen"},
        (
            "celery_worker_environment: every worker has an environment that is no dictionary. Give NAME: value, one a "
            "line, or {} for none."
        ),
    ),
    (
        {"celery_worker_unit_options": {"UMask": ["0027\nUser=root"]}},
        "celery_worker_unit_options: UMask has a value that a unit's file cannot hold.",
    ),
    *[
        (
            {"celery_worker_writable_paths": [path]},
            (
                f"celery_worker_writable_paths: '{path}' is below /nowhere/src, where the next deployment removes what "
                "is not of the app's source. Use another place, such as /var/lib/NAME."
            ),
        )
        for path in ("/nowhere/src", "/nowhere/src/media")
    ],
    ({"celery_worker_writable_paths": ["/srv/o'neil"]}, "'/srv/o'neil' is no path that a unit's file can hold."),
    (
        {"celery_worker_unit_options": {"PrivateDevice": False}},
        "celery_worker_unit_options: PrivateDevice is no directive that confines the workers. These are: UMask,",
    ),
    (
        {"celery_worker_unit_options": {"MemoryMax": "1G"}},
        "celery_worker_unit_options: MemoryMax is no directive that confines the workers.",
    ),
    (
        {"celery_worker_unit_options": {"UMask": "0027\nUser=root"}},
        "celery_worker_unit_options: UMask has a value that a unit's file cannot hold.",
    ),
    (
        {"celery_worker_writable_paths": ["var/lib/shop"]},
        (
            "celery_worker_writable_paths: 'var/lib/shop' is no path that a unit's file can hold. Use one that begins "
            "with /"
        ),
    ),
    (
        {"celery_worker_writable_paths": ["/srv/a", "/home/shop/cache"]},
        (
            "celery_worker_writable_paths: /home/shop/cache is hidden from the workers by ProtectHome. Use another "
            "place, such as "
            "/var/lib/NAME, or set ProtectHome to false in celery_worker_unit_options."
        ),
    ),
]


def without(name: str) -> dict[str, Any]:
    """Return the right input but for one that is missing."""
    return {key: value for key, value in RIGHT.items() if key != name}


@pytest.fixture(scope="module")
def refused(play_inputs: Callable[..., Refused]) -> Refused:
    """What became of every bad input."""
    bad = [{**INPUT, "celery_worker_nodes": workers} for workers, _ in BAD_WORKERS]
    about_all = [{**RIGHT, **wrong} for wrong, _ in BAD_INPUTS]
    return play_inputs("celery_worker", RIGHT, [*bad, *about_all, NEVER, NOWHERE, *map(without, REQUIRED)])


@pytest.mark.parametrize(("workers", "messages"), BAD_WORKERS)
def test_bad_workers_are_refused_before_anything_is_touched(
    refused: Refused, workers: list[dict[str, Any]], messages: list[str]
) -> None:
    """The play fails in the validation, names the worker and the fault, and no task of the role has run."""
    case, output = refused({**INPUT, "celery_worker_nodes": workers})
    said = case.refusal()
    assert [message for message in messages if message not in said] == []
    assert "not-to-be-seen" not in output


@pytest.mark.parametrize(("wrong", "message"), BAD_INPUTS)
def test_bad_input_about_all_workers_is_refused(refused: Refused, wrong: dict[str, Any], message: str) -> None:
    """With the variable and what to give instead; no value of an environment is shown."""
    case, output = refused({**RIGHT, **wrong})
    assert message in case.refusal()
    assert "not-to-be-seen" not in output


def test_a_task_that_may_not_begin_at_all_is_refused(refused: Refused) -> None:
    """Zero redeliveries would park every task that comes again."""
    case, _ = refused(NEVER)
    assert "celery_worker_max_redeliveries: a redelivered task has to begin at least once" in case.refusal()


def test_a_package_that_there_is_not_is_refused(refused: Refused) -> None:
    """Before a worker is told to load it."""
    case, _ = refused(NOWHERE)
    assert "celery_worker_include: there is no /nowhere/features on the controller" in case.refusal()


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_input_is_named(refused: Refused, name: str) -> None:
    """A required input that is not set is named."""
    case, _ = refused(without(name))
    assert name in case.refusal()


def render_all(render: Render, folder: Path, template: str, *cases: tuple[dict[str, Any], dict[str, Any]]) -> list[str]:
    """Return a template of the role, rendered on a host with 6 cores for each case: a worker and further settings."""
    host = {
        "role_path": str(ROLE),
        "ansible_facts": {"processor_nproc": 6},
        "__celery_worker_installed": {"digests": {INPUT["celery_worker_venv_path"]: "0"}},
        "systemd_unit_version": {"stdout": "systemd 257 (257.1)"},
    }
    texts = [
        render(ROLE / "templates" / template, {**INPUT, **host, **settings, "item": entry}) for entry, settings in cases
    ]
    for number, text in enumerate(texts):
        (folder / f"rendered-{number}").write_text(text)
    return texts


def render_one(render: Render, folder: Path, template: str, entry: dict[str, Any], **settings: Any) -> str:
    """Return a template of the role, rendered for one worker."""
    return render_all(render, folder, template, (entry, settings))[0]


def sourced(folder: Path, number: int = 0) -> dict[str, str]:
    """Return what a shell reads from a rendered environment file."""
    done = subprocess.run(
        ["env", "-i", "sh", "-c", f"set -a; . {folder}/rendered-{number}; env -0"],
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(entry.split("=", 1) for entry in done.stdout.split("\0") if entry)


def test_a_worker_gets_the_hosts_cores_and_no_option_that_was_not_asked_for(render: Render, tmp_path: Path) -> None:
    """With a name and queues alone, concurrency is the number of cores and prefetch is left to the app."""
    render_one(render, tmp_path, "worker.env.j2", worker(queues=["red", "green"]))
    options = sourced(tmp_path)["CELERY_WORKER_OPTIONS"].split()
    assert options == ["--queues=red,green", "--concurrency=6", "--loglevel=warning", "--without-gossip", "--events"]


def test_every_setting_reaches_the_worker(render: Render, tmp_path: Path) -> None:
    """Options and further variables, with signs that a shell and systemd would take for their own."""
    odd = "a \"b\" $HOME `id` \\ 'c' #d"
    entry = worker(concurrency=3, prefetch_multiplier=0, loglevel="error", environment={"ODD": odd, "NUMBER": 5})
    render_one(render, tmp_path, "worker.env.j2", entry, celery_worker_task_events=False)
    variables = sourced(tmp_path)
    assert variables["CELERY_WORKER_OPTIONS"].split() == [
        "--queues=red",
        "--concurrency=3",
        "--loglevel=error",
        "--without-gossip",
        "--prefetch-multiplier=0",
    ]
    assert (variables["ODD"], variables["NUMBER"]) == (odd, "5")
    assert variables["CELERY_BROKER_URL"] == INPUT["celery_worker_broker_url"]


def test_a_worker_gets_the_environment_of_all_and_its_own(render: Render, tmp_path: Path) -> None:
    """Its own holds where both have a variable, and the role's own where there is none."""
    every = {"SECRET_KEY": "all's $ecret", "DEBUG": 0}
    cases = [(worker(), {"celery_worker_environment": every})]
    cases.append((worker(environment={"DEBUG": 1, "PYTHONPATH": "/srv"}), cases[0][1]))
    render_all(render, tmp_path, "worker.env.j2", *cases)
    first, second = sourced(tmp_path, 0), sourced(tmp_path, 1)
    assert (first["SECRET_KEY"], first["DEBUG"]) == ("all's $ecret", "0")
    assert (second["SECRET_KEY"], second["DEBUG"], second["PYTHONPATH"]) == ("all's $ecret", "1", "/srv")
    assert first["CELERY_BROKER_URL"] == second["CELERY_BROKER_URL"] == INPUT["celery_worker_broker_url"]
    assert first["CELERY_WORKER_DIGEST"] != second["CELERY_WORKER_DIGEST"]


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ({}, "--queues=red --concurrency=6"),
        (
            {"pool": "prefork", "max_tasks_per_child": 50},
            "--queues=red --concurrency=6 --pool=prefork --max-tasks-per-child=50",
        ),
        ({"pool": "gevent", "concurrency": 100}, "--queues=red --concurrency=100 --pool=gevent"),
        ({"pool": "threads"}, "--queues=red --concurrency=6 --pool=threads"),
        ({"pool": "solo"}, "--queues=red --concurrency=1 --pool=solo"),
        ({"autoscale": [10, 2]}, "--queues=red --autoscale=10,2"),
    ],
)
def test_a_worker_has_the_pool_that_its_entry_names(
    render: Render, tmp_path: Path, settings: dict[str, Any], options: str
) -> None:
    """With its size, or its bounds."""
    render_one(render, tmp_path, "worker.env.j2", worker(**settings))
    common = {"--loglevel=warning", "--without-gossip", "--events"}
    given = sourced(tmp_path)["CELERY_WORKER_OPTIONS"].split()
    assert [option for option in given if option not in common] == options.split()
    assert common <= set(given)


@pytest.mark.parametrize(
    ("workers", "packages", "without"),
    [
        ([worker(pool="gevent")], {"/nowhere/venv": ["celery"]}, ["/nowhere/venv"]),
        ([worker(pool="gevent")], {"/nowhere/venv": ["celery", "gevent"]}, []),
        ([worker(pool="gevent")], {"/nowhere/venv": []}, []),
        ([worker(), worker(pool="threads")], {"/nowhere/venv": ["celery"]}, []),
        (
            [worker(pool="gevent", interpreter="pypy3"), worker()],
            {"/nowhere/venv": ["celery"], "/nowhere/venv-pypy3": ["celery"]},
            ["/nowhere/venv-pypy3"],
        ),
    ],
)
def test_an_environment_without_gevent_is_named(
    resolve: Callable[[Any, dict[str, Any]], Any],
    workers: list[dict[str, Any]],
    packages: dict[str, list[str]],
    without: list[str],
) -> None:
    """That of the worker which asks for it; where nothing is installed yet, as in check mode, nothing is said."""
    own = DataLoader().load_from_file(str(ROLE / "vars/main.yml"), trusted_as_template=True)
    found = {"stdout": json.dumps({"packages": packages})}
    given = {**INPUT, "celery_worker_nodes": workers, "__celery_worker_inspection": found}
    assert resolve("{{ __celery_worker_without_gevent }}", own | given) == without


def test_one_directive_is_loosened_and_no_other(render: Render, tmp_path: Path) -> None:
    """By its YAML value or as systemd writes it; the others stay."""
    common = render_one(render, tmp_path, "celery-worker@.service.j2", {})
    options = {"PrivateDevices": False, "RestrictNamespaces": None, "SupplementaryGroups": ["video", "render"]}
    unit = render_one(render, tmp_path, "celery-worker@.service.j2", {}, celery_worker_unit_options=options)
    before, after = common.splitlines(), unit.splitlines()
    assert [line for line in after if line not in before] == [
        "PrivateDevices=no", "SupplementaryGroups=video", "SupplementaryGroups=render",
    ]  # fmt: skip
    assert [line for line in before if line not in after] == ["PrivateDevices=yes", "RestrictNamespaces=yes"]


def test_a_worker_checks_the_certificate_of_a_broker_with_tls(render: Render, tmp_path: Path) -> None:
    """The role's own module is loaded, first; without TLS there is none of it."""
    settings = {"celery_worker_broker_url": "amqps://worker:x@10.0.0.1/", "celery_worker_broker_ca": "/nowhere/ca.pem"}
    plain = [str(ROLE / "files" / "inspect_installed.py")]
    cases = [(worker(), {**settings, "celery_worker_include": plain}), (worker(), {"celery_worker_include": plain})]
    render_all(render, tmp_path, "worker.env.j2", *cases)
    with_tls, without = sourced(tmp_path, 0), sourced(tmp_path, 1)
    assert "--include=broker_tls,inspect_installed" in with_tls["CELERY_WORKER_OPTIONS"].split()
    assert with_tls["CELERY_BROKER_CA"] == "/etc/celery/broker-ca.pem"
    assert "--include=inspect_installed" in without["CELERY_WORKER_OPTIONS"].split()
    assert "CELERY_BROKER_CA" not in without


def test_a_worker_with_an_interpreter_of_its_own_has_its_environment(render: Render, tmp_path: Path) -> None:
    """The name of the interpreter is added to the app's environment; without one it is the app's."""
    installed = {"digests": {"/nowhere/venv": "0", "/nowhere/venv-pypy3": "1"}}
    cases = [(worker(), {}), (worker(interpreter="pypy3"), {"__celery_worker_installed": installed})]
    render_all(render, tmp_path, "worker.env.j2", *cases)
    environments = [sourced(tmp_path, number)["CELERY_WORKER_VIRTUALENV"] for number in range(2)]
    assert environments == ["/nowhere/venv", "/nowhere/venv-pypy3"]


def test_the_digest_changes_with_whatever_a_worker_runs_on(render: Render, tmp_path: Path) -> None:
    """Setting, limit, unit and code each change the digest; rendering the same again does not."""
    cases: list[tuple[dict[str, Any], dict[str, Any]]] = [
        (worker(), {}),
        (worker(concurrency=2), {}),
        (worker(memory_max="1G"), {}),
        (worker(), {"celery_worker_stop_timeout": 10}),
        (worker(), {"__celery_worker_installed": {"digests": {INPUT["celery_worker_venv_path"]: "1"}}}),
        (worker(), {}),
    ]
    render_all(render, tmp_path, "worker.env.j2", *cases)
    digests = [sourced(tmp_path, number)["CELERY_WORKER_DIGEST"] for number in range(len(cases))]
    assert len(set(digests)) == 5
    assert digests[0] == digests[5]


def test_the_digest_covers_every_file_of_a_package(render: Render, tmp_path: Path) -> None:
    """What a worker loads is the package of that name; what stands in it counts, and when it was written does not."""
    texts = {
        "one": {"__init__.py": "1", "below/deep.py": "2"},
        "another": {"__init__.py": "1", "below/deep.py": "3"},
        "renamed": {"__init__.py": "1", "below/deeper.py": "2"},
        "same": {"__init__.py": "1", "below/deep.py": "2", "__pycache__/deep.pyc": "4"},
    }
    cases = []
    for name, files in texts.items():
        for path, text in files.items():
            file = tmp_path / name / "features" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            os.utime(file, (len(cases), len(cases)))
        cases.append((worker(), {"celery_worker_include": [str(tmp_path / name / "features/")]}))
    render_all(render, tmp_path, "worker.env.j2", *cases)
    rendered = [sourced(tmp_path, number) for number in range(len(cases))]
    assert {environment["CELERY_WORKER_OPTIONS"].split()[-1] for environment in rendered} == {"--include=features"}
    assert {environment["PYTHONPATH"] for environment in rendered} == {"/usr/local/lib/celery-worker"}
    digests = [environment["CELERY_WORKER_DIGEST"] for environment in rendered]
    assert digests[0] == digests[3]
    assert len(set(digests)) == 3


def test_a_worker_may_have_a_memory_bound_of_its_own(render: Render, tmp_path: Path) -> None:
    """The role's bound stands in the unit, the worker's in a file that comes after it."""
    assert "\nMemoryMax=80%\n" in render_one(render, tmp_path, "celery-worker@.service.j2", {})
    unit = render_one(render, tmp_path, "celery-worker@.service.j2", {}, celery_worker_memory_max="2G")
    assert "\nMemoryMax=2G\n" in unit
    assert "\nMemoryMax=1G\n" in render_one(render, tmp_path, "limits.conf.j2", worker(memory_max="1G"))


def test_the_unit_names_what_the_app_may_write_to(render: Render, tmp_path: Path) -> None:
    """Everything is read-only but the given paths."""
    unit = render_one(
        render, tmp_path, "celery-worker@.service.j2", {}, celery_worker_writable_paths=["/srv/a", "/srv/b"]
    )
    assert re.findall(r"^(?:ProtectSystem|ReadWritePaths)=.*$", unit, re.MULTILINE) == [
        "ProtectSystem=strict",
        "ReadWritePaths=/srv/a",
        "ReadWritePaths=/srv/b",
    ]
