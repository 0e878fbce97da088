"""The workers after side_effect.yml, which changed one thing at a time and applied the role after each."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from testinfra.host import Host

PASSWORD = "not-to-be-seen"
WORKERS = ["w1", "w2"]
UNITS = "/etc/systemd/system"


def ask(host: Host, question: str) -> dict[str, Any]:
    """Return what every worker answers to `celery inspect QUESTION`, by the worker's name."""
    answer = host.check_output("as-worker celery --app=fibonacci inspect --json --timeout=5 %s", question)
    return {node.split("@")[0]: value for node, value in json.loads(answer).items()}


def step(host: Host, name: str) -> Any:
    """Return what side_effect.yml noted."""
    return json.loads(host.file(f"/root/steps/{name}.json").content_string)


def test_every_worker_answers_ping(host: Host) -> None:
    """Just the workers of the list answer."""
    assert ask(host, "ping") == {worker: {"ok": "pong"} for worker in WORKERS}


def test_every_worker_consumes_its_queues_and_no_other(host: Host) -> None:
    """Each has the three queues it was given."""
    answers = ask(host, "active_queues").items()
    queues = {worker: sorted(queue["name"] for queue in found) for worker, found in answers}
    assert queues == {worker: ["blue", "green", "red"] for worker in WORKERS}


def test_settings_reach_the_workers(host: Host) -> None:
    """Concurrency is the number of cores unless given; w2's prefetch is twice its concurrency."""
    cores = int(host.check_output("nproc"))
    stats = ask(host, "stats")
    assert [stats[worker]["pool"]["max-concurrency"] for worker in WORKERS] == [cores, cores]
    assert stats["w2"]["prefetch_count"] == 2 * cores


def test_a_worker_runs_on_the_interpreter_that_its_entry_names(host: Host) -> None:
    """w1 is in the app's own environment, w2 in one beside it, of the further interpreter."""
    environments = {}
    for worker in WORKERS:
        pid = host.check_output("systemctl show --property=MainPID --value %s", f"celery-worker@{worker}")
        programs = host.file(f"/proc/{pid}/cmdline").content_string.split("\0")[:2]
        assert programs[1].endswith("/bin/celery")
        environments[worker] = programs[1].removesuffix("/bin/celery")
    further = "python3.11" if host.system_info.codename == "bookworm" else "pypy3"
    assert environments == {"w1": "/opt/fibonacci/venv", "w2": f"/opt/fibonacci/venv-{further}"}
    kinds = [
        host.check_output(f"{at}/bin/python -c 'import platform; print(platform.python_implementation())'")
        for at in environments.values()
    ]
    assert kinds == ["CPython", "PyPy" if further == "pypy3" else "CPython"]


@pytest.mark.parametrize("queue", ["red", "green", "blue"])
def test_a_task_of_every_queue_comes_back_right(host: Host, queue: str) -> None:
    """A task published by the app itself is worked on, and its result is in memcached."""
    code = f"import fibonacci.celery; from fibonacci.tasks import {queue}; print({queue}.delay(15).get(timeout=20))"
    assert host.check_output("as-worker python -c %s", code) == "610"


def test_every_worker_has_loaded_the_module(host: Host) -> None:
    """The module's remote-control command answers, and it adds to each result when and where its task ran."""
    ask_all = (
        "from fibonacci.celery import app; "
        "print(app.control.broadcast('taskmill_clock', reply=True, timeout=5, limit=2))"
    )
    answer = host.check_output("as-worker python -c %s", ask_all)
    assert {worker for worker in WORKERS if f"'{worker}@" in answer} == set(WORKERS)
    call = (
        "from fibonacci.celery import app; from fibonacci.tasks import red; "
        "done = red.delay(15); done.get(timeout=20); "
        "print(app.backend.get(app.backend.get_key_for_task(done.id)))"
    )
    start, run, cpu, worker = json.loads(host.check_output("as-worker python -c %s", call))["taskmill"]
    assert abs(start - float(host.check_output("date +%s"))) < 60
    assert 0 < cpu <= run + 1000
    assert worker.split("@")[0] in WORKERS


def test_the_workers_run_as_their_user_without_a_capability(host: Host) -> None:
    """Main and pool processes alike."""
    processes = [process for process in host.process.filter(comm="celery") if "worker" in process.args]
    assert len(processes) >= 2 + 2 * int(host.check_output("nproc"))
    assert {process.user for process in processes} == {"celery"}
    for process in processes:
        status = host.file(f"/proc/{process.pid}/status").content_string
        assert re.search(r"CapBnd:\s+0{16}\nCapAmb:\s+0{16}\nNoNewPrivs:\s+1\n", status)


def test_the_password_is_for_the_workers_alone(host: Host) -> None:
    """It is in no process list and no property of the unit, and its file is closed to others."""
    assert PASSWORD not in host.check_output("ps -eww -o args")
    assert PASSWORD not in host.check_output("systemctl show 'celery-worker@*'")
    assert PASSWORD not in host.check_output("journalctl --no-pager -u 'celery-worker@*'")
    for worker in WORKERS:
        file = host.file(f"/etc/celery/{worker}.env")
        assert PASSWORD in file.content_string
        assert (file.user, file.group, file.mode) == ("root", "celery", 0o640)
    as_nobody = "setpriv --reuid=nobody --regid=nogroup --clear-groups cat /etc/celery/w1.env"
    assert host.run(as_nobody).rc == 1


@pytest.mark.parametrize("worker", WORKERS)
def test_the_environment_of_all_workers_reaches_each(host: Host, worker: str) -> None:
    """It is in the process, and its file is the one that the test above looks at."""
    pid = host.check_output("systemctl show --property=MainPID --value %s", f"celery-worker@{worker}")
    assert f"SCENARIO_KEY={PASSWORD}" in host.file(f"/proc/{pid}/environ").content_string.split("\0")


def test_what_the_app_may_write_to_is_made_for_its_user(host: Host) -> None:
    """It was not there; the workers' user has it for itself."""
    directory = host.file("/var/lib/scenario/cache")
    assert directory.is_directory
    assert (directory.user, directory.group, directory.mode) == ("celery", "celery", 0o750)


@pytest.mark.parametrize("worker", WORKERS)
def test_the_unit_is_enabled_and_hardened(host: Host, worker: str) -> None:
    """It starts at boot, systemd knows every directive, it rates the exposure at 3.0 at most."""
    unit = f"celery-worker@{worker}.service"
    assert host.service(unit).is_enabled
    verified = host.run("systemd-analyze verify %s", unit)
    assert (verified.rc, verified.stdout + verified.stderr) == (0, "")
    rating = host.check_output("systemd-analyze security --no-pager %s", unit)
    assert float(re.findall(r"Overall exposure level for \S+: ([\d.]+)", rating)[0]) <= 3.0


def test_the_function_is_timed_as_the_workers_run_it(host: Host) -> None:
    """By their user, with the environment of w1, without a privilege, unable to write; its argument as given."""
    timed = step(host, "timed")
    told = timed["value"]
    assert timed["expected"] == told
    assert told["argument"] == 'it\'s 100 % of "$HOME" \\ `id`'
    assert (told["user"], told["directory"]) == ("celery", "/opt/fibonacci/src")
    assert PASSWORD in told["broker"]
    assert (told["capabilities"], told["no_new_privileges"]) == ("0" * 16, "1")
    assert told["writable"] == []
    assert timed["seconds"] > 0


def test_timing_the_function_leaves_nothing(host: Host) -> None:
    """Neither its unit nor the script nor what it said."""
    assert host.check_output("find /run /tmp /var/tmp -name '*taskmill-baseline*' -o -name 'time_function.py'") == ""
    assert host.check_output("systemctl list-units --all --no-legend 'taskmill-baseline*'") == ""


def test_the_source_of_the_app_is_not_in_the_journal(host: Host) -> None:
    """The module that brings it says that it ran, and nothing of the archive."""
    said = host.check_output("journalctl --no-pager --output=cat --identifier=ansible-mirror_tree")
    assert "path=/opt/fibonacci/src" in said.split()
    assert set(re.findall(r"archive=(\S+)", said)) == {"NOT_LOGGING_PARAMETER"}


def test_a_changed_setting_restarts_that_worker_alone(host: Host) -> None:
    """When w2 and w3 changed, w1 went on as it was; when only w3 changed again, w2 did too."""
    setting, repair = step(host, "setting"), step(host, "repair")
    assert setting["after"][0] == setting["before"][0]
    assert setting["after"][1] not in (setting["before"][1], "0")
    assert repair["after"][:2] == repair["before"][:2]


def test_a_worker_that_cannot_start_fails_the_play_and_is_brought_back(host: Host) -> None:
    """The message names that worker alone, the app's own complaint and the log; once mended it runs."""
    said = step(host, "setting")["said"]
    assert said.startswith("The worker w3 does not answer: it has ended. systemd says ")
    assert "\nThe last lines of its log:\n" in said
    assert "'never'" in said.split("\nCelery says: ")[1].splitlines()[0]
    assert said.endswith("journalctl --unit=celery-worker@w3.service")
    assert PASSWORD not in said
    assert not {"w1", "w2"} & set(re.findall(r"\bw\d", said))
    assert step(host, "repair")["said"] == ""
    assert step(host, "repair")["after"][2] != "0"


def test_a_removed_worker_is_gone(host: Host) -> None:
    """w3 was stopped, and nothing of it is left but what the role has not written."""
    assert step(host, "source")["after"][2] == "0"
    assert host.check_output("find /etc/celery /etc/systemd -name '*w3*'") == f"{UNITS}/celery-worker@w3.service.d"
    assert "w3" not in host.check_output("systemctl list-units --all --no-legend 'celery-worker@*'")


@pytest.mark.parametrize("unit", ["celery-worker@w1", "celery-worker@w3", "celery-worker@"])
def test_what_an_administrator_said_of_a_unit_stays(host: Host, unit: str) -> None:
    """Drop-ins of one worker, of all of them, and of one that is gone; its limits, which the role wrote, went."""
    assert host.check_output("ls %s", f"{UNITS}/{unit}.service.d") == "override.conf"
    assert f"SAID_BY={unit}" in host.file(f"{UNITS}/{unit}.service.d/override.conf").content_string


@pytest.mark.parametrize("name", ["beat", "flower"])
def test_a_file_of_somebody_else_is_no_worker(host: Host, name: str) -> None:
    """It stays, also where it is a copy of a worker's; nobody tries to stop a worker of that name, or to start one."""
    assert host.file(f"/etc/celery/{name}.env").exists
    assert name not in host.check_output("systemctl list-units --all --no-legend 'celery-worker@*'")


def test_a_changed_source_restarts_every_worker_and_loses_no_task(host: Host) -> None:
    """Restart and removal fell into the middle of a load, which went on, and every task's result came, and right."""
    source = step(host, "source")
    assert source["said"] == ""
    assert not set(source["before"]) & set(source["after"])
    end = step(host, "at-end")
    assert end["right"] == end["posted"] > 400
