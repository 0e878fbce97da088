"""How the role celery_worker waits for its workers, and what it says of one that does not come up."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_playbook import ROOT, run_playbook

FILES = ROOT / "roles" / "celery_worker" / "files"
PARTS = ("worker_causes.py", "worker_secrets.py", "watch_workers.py")
#: As the role gives it to a host's Python.
PROGRAM = "\n\n".join((FILES / name).read_text() for name in PARTS)
ENVIRONMENT = {
    "CELERY_BROKER_URL": "amqp://worker:p%40ss-word@10.0.0.5:5672/shop",
    "CELERY_RESULT_BACKEND": "redis://:redis-word@10.0.0.6:6379/0",
    "CELERY_WORKER_VIRTUALENV": "/opt/shop/venv-pypy3",
    "STRIPE_API_KEY": "sk_live_1",
    "DATABASE_PASSWORD": "pw",
    "REGION": "eu",
}
RUNNING = {"ActiveState": "active", "SubState": "running", "MainPID": "7", "Result": "success", "ExecMainStatus": "0"}
ENDED = RUNNING | {
    "ActiveState": "activating",
    "SubState": "auto-restart",
    "Result": "exit-code",
    "ExecMainStatus": "1",
}
MISSING = ["Traceback (most recent call last):", "ModuleNotFoundError: No module named 'psycopg2'"]
NOWHERE = [
    (
        "[2026-11-30 11:00:35,693: ERROR/MainProcess] consumer: Cannot connect to amqp://worker:**@10.0.0.5:5672/shop: "
        "Connection.open: (530) NOT_ALLOWED - vhost shop not found."
    ),
]


class Host:
    """A host of made-up workers: by name, what systemd says of each in turn, its log, and whether it answers."""

    def __init__(
        self, states: dict[str, list[dict[str, str]]], logs: dict[str, list[str]], answering: set[str]
    ) -> None:
        """Have the functions of the program ask this host."""
        self.states, self.logs, self.answering = states, logs, answering
        self.now = 1000.0
        self.asked: list[list[str]] = []
        self.names: dict[str, Any] = {"__name__": "watch_workers"}
        exec(compile(PROGRAM, "watch_workers.py", "exec"), self.names)
        self.program: Any = SimpleNamespace(**self.names)
        self.names |= {
            "show": self.show,
            "output_of": self.output_of,
            "is_outdated": lambda _, state: state["ActiveState"] != "active",
            "process_environment": lambda _: ENVIRONMENT,
            "installed_environment": lambda _: ENVIRONMENT,
            "ping": lambda names, *_: (self.answering & set(names), []),
            "time": SimpleNamespace(time=lambda: self.now, sleep=self.sleep),
            "socket": SimpleNamespace(gethostname=lambda: "worker1"),
        }

    def show(self, name: str) -> dict[str, str]:
        """Return the next state of the worker, the last one for ever."""
        states = self.states[name]
        return states.pop(0) if len(states) > 1 else states[0]

    def output_of(self, command: list[str]) -> str:
        """Return the worker's log, or that of the invocation asked for."""
        self.asked.append(command)
        return "\n".join(next((log for name, log in self.logs.items() if name in " ".join(command)), []))

    def sleep(self, seconds: float) -> None:
        """Advance the clock."""
        self.now += seconds

    def wait(self) -> list[str]:
        """Return what is said of the workers that do not come up within a minute."""
        options = argparse.Namespace(
            names=list(self.states), app="proj", directory="/opt/shop/src", virtualenv="/opt/shop/venv", user="celery",
            seconds=60.0,
        )  # fmt: skip
        said = self.program.wait(options)
        assert isinstance(said, list)
        return said


def test_a_worker_that_has_ended_is_not_waited_for() -> None:
    """Its log is shown at once, with the cause, Celery's word for it and the next command; the others are not named."""
    host = Host({"w1": [RUNNING], "w2": [ENDED]}, {"w2": MISSING}, {"w1"})
    assert host.wait() == [
        (
            "The worker w2 does not answer: it has ended. "
            "systemd says activating (auto-restart), exit-code, status 1.\n"
            "Why: the app imports psycopg2, and no installed package has it. Add the package to the app's "
            "requirements; if it is the app's own, not all of its source was copied to /opt/shop/src.\n"
            "The last lines of its log:\n"
            "    Traceback (most recent call last):\n"
            "    ModuleNotFoundError: No module named 'psycopg2'\n"
            "Celery says: ModuleNotFoundError: No module named 'psycopg2'\n"
            "Next, on worker1: /opt/shop/venv-pypy3/bin/python -m pip list\n"
            "The whole log, on worker1: journalctl --unit=celery-worker@w2.service"
        )
    ]
    assert host.now == 1000.0


def test_the_others_have_a_moment_to_end_or_to_answer() -> None:
    """Those that have the same fault are told together; one that stops its tasks first is not waited for."""
    stopping = RUNNING | {"ActiveState": "deactivating", "SubState": "stop-sigterm"}
    host = Host({"w1": [stopping], "w2": [ENDED], "w3": [stopping, ENDED]}, {"w2": MISSING, "w3": MISSING}, set())
    assert [said.split(":")[0] for said in host.wait()] == [
        "The worker w2 does not answer",
        "The worker w3 does not answer",
    ]
    assert 1010.0 < host.now < 1011.0


def test_a_worker_that_tries_in_vain_is_not_waited_for() -> None:
    """It runs and will never answer."""
    host = Host({"w1": [RUNNING]}, {"w1": NOWHERE}, set())
    said = host.wait()
    assert said[0].startswith(
        "The worker w1 does not answer: it tries in vain. systemd says active (running).\n"
        "Why: the broker at 10.0.0.5:5672 has no virtual host shop."
    )
    assert host.now == 1000.0


def test_a_cause_that_systemd_alone_knows_is_told() -> None:
    """A worker without a word in its log."""
    ended = ENDED | {"Job": "", "ActiveState": "failed", "SubState": "failed", "ExecMainStatus": "217"}
    assert Host({"w1": [ended]}, {}, set()).wait() == [
        (
            "The worker w1 does not answer: it has ended. systemd says failed (failed), exit-code, status 217.\n"
            "Why: there is no user celery on this host, or no group of that name (celery_worker_user).\n"
            "Its log is empty.\n"
            "systemd says: ExecMainStatus=217\n"
            "Next, on worker1: getent passwd celery; getent group celery\n"
            "The whole log, on worker1: journalctl --unit=celery-worker@w1.service"
        )
    ]


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (MISSING, "the app imports psycopg2, and no installed package has it."),
        (["ValueError: never"], ""),
        (["ModuleNotFoundError: No module named 'proj.celery'"], "the module proj has no variable `app` or `celery`"),
        ([], "the module proj has no variable `app` or `celery`"),
    ],
    ids=["a known cause", "an unknown one", "no submodule", "no error"],
)
def test_an_error_that_celery_hides_is_told(error: list[str], why: str) -> None:
    """Where the app stands in the submodule `celery` of a package, Celery says only that it found no app."""
    hidden = ["Unable to load celery application.", "Module 'proj' has no attribute 'celery'"]
    host = Host({"w1": [ENDED]}, {"w1": hidden}, set())
    code: list[str] = []
    host.names["run_as_worker"] = lambda *given: code.append(given[0]) or ("", "\n".join(error))
    said = host.wait()[0]
    assert code == ["import proj.celery"]
    assert (f"\nWhy: {why}" in said) if why else ("Why:" not in said and "Celery says: ValueError: never" in said)


def test_a_worker_that_is_late_is_waited_for_as_long_as_was_asked() -> None:
    """It runs, and its log says nothing that is known."""
    host = Host({"w1": [RUNNING]}, {"w1": ["loading the model"]}, set())
    assert host.wait() == [
        (
            "The worker w1 does not answer: it is late. systemd says active (running).\n"
            "The last lines of its log:\n"
            "    loading the model\n"
            "Celery says: loading the model\n"
            "The whole log, on worker1: journalctl --unit=celery-worker@w1.service"
        )
    ]
    assert host.now > 1060.0


def test_a_worker_that_systemd_is_about_to_start_is_waited_for() -> None:
    """It had ended before it was to be restarted, and the restart is under way."""
    assert Host({"w1": [ENDED | {"Job": "12"}, RUNNING]}, {"w1": MISSING}, {"w1"}).wait() == []


@pytest.mark.parametrize(
    ("state", "matches"),
    [
        (ENDED | {"InvocationID": "0a"}, ["_SYSTEMD_INVOCATION_ID=0a", "+", "INVOCATION_ID=0a"]),
        (ENDED, ["--unit=celery-worker@w1.service"]),
    ],
    ids=["of its last process", "systemd before 232"],
)
def test_the_log_is_that_of_the_process_that_ended(state: dict[str, str], matches: list[str]) -> None:
    """Not of an earlier one that failed otherwise; and the journal has written it down before it is read."""
    host = Host({"w1": [state]}, {}, set())
    host.wait()
    assert [command[1:] for command in host.asked] == [
        ["--sync"],
        ["--no-pager", "--quiet", "--output=cat", "--lines=200", *matches],
    ]


def test_a_worker_that_answers_and_cannot_do_its_tasks_is_told() -> None:
    """What it complains of is no failure of the play."""
    line = "[2026-11-30 11:00:35,693: ERROR/MainProcess] Received unregistered task of type 'shop.pay'."
    host = Host({"w1": [RUNNING]}, {"w1": [line]}, {"w1"})
    options = argparse.Namespace(app="proj", directory="/opt/shop/src", virtualenv="/opt/shop/venv", user="celery")
    assert host.program.complaint("w1", RUNNING, 700.0, options) == (
        "The worker w1 answers, but: messages ask for the task shop.pay, which this worker does not know: the name is "
        "another one, or no module that the worker loads holds it (`imports`, `include` or autodiscover_tasks of the "
        "app).\n"
        f"Celery says: {line}\n"
        "Next, on worker1: runuser -u celery -- sh -c 'set -a; . /etc/celery/w1.env; cd /opt/shop/src; "
        "/opt/shop/venv-pypy3/bin/celery --app=proj inspect registered'"
    )
    assert "--since=@700" in host.asked[-1]
    host.logs["w1"] = NOWHERE
    assert host.program.complaint("w1", RUNNING, 700.0, options) == ""


def test_no_password_is_shown() -> None:
    """Neither those of the worker's URLs, as written or as read, nor secrets by name, nor those of any other URL."""
    leaks = [
        "amqp://worker:p%40ss-word@10.0.0.5:5672/shop",
        "password p@ss-word, redis-word",
        "key sk_live_1 in eu",
        "postgres://u:of-somebody-else@db/shop",
    ]
    said = Host({"w1": [ENDED]}, {"w1": leaks}, set()).wait()[0]
    assert [line.strip() for line in said.splitlines() if line.startswith("    ")] == [
        "amqp://worker:***@10.0.0.5:5672/shop",
        "password ***, ***",
        "key *** in eu",
        "postgres://u:***@db/shop",
    ]


@pytest.mark.parametrize(
    ("name", "value", "log", "shown"),
    [
        ("DB_PWD", "hunter22", "no hunter22", "no ***"),
        ("FERNET_KEYS", "k1k1,k2k2", "no k1k1,k2k2", "no ***"),
        (
            "SENTRY",
            "https://0a1b2c@sentry.example/1",
            "at https://0a1b2c@sentry.example",
            "at https://***@sentry.example",
        ),
        ("DB", "postgres://u:p@ss/w@db/x", "to postgres://u:p@ss/w@db/x, p@ss/w", "to postgres://u:***@db/x, ***"),
        ("DBS", "redis://:w1w1@a/0;redis://:w2w2@b/0", "w1w1 w2w2 a b", "*** *** a b"),
        ("DB", "amqp://worker@db/x", "The worker of db", "The worker of db"),
    ],
)
def test_a_secret_is_known_by_its_name_and_in_an_address(name: str, value: str, log: str, shown: str) -> None:
    """As apps have them: no more than the secret itself is left out."""
    program = Host({}, {}, set()).program
    assert program.mask(log, program.secrets({name: value})) == shown


def test_no_piece_of_a_password_is_shown() -> None:
    """What is long is masked before it is cut: of half a password nothing tells that it is one."""
    room = 400 - len("amqp://worker:")
    leaks = [
        "x" * (room - 8) + " amqp://worker:of-somebody-else@10.0.0.5/",
        "y" * (room + 10) + " sk_live_1",
    ]
    said = Host({"w1": [ENDED]}, {"w1": leaks}, set()).wait()[0]
    assert not re.search("worker:of|sk_l", said)


@pytest.mark.parametrize("interpreter", [sys.executable, "python2.7"])
def test_variables_need_not_be_ascii(interpreter: str, tmp_path: Path) -> None:
    """They are read from a worker's process and handed to another one, by the Pythons that hosts have."""
    if shutil.which(interpreter) is None or subprocess.run([interpreter, "-c", ""], check=False).returncode:
        pytest.skip(f"there is no {interpreter}")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").write_text('#!/bin/sh\nprintf %s "$WORD"\n')
    (tmp_path / "bin/python").chmod(0o755)
    code = (
        "import argparse, os, sys\n"
        "names = {'__name__': 'watch_workers'}\n"
        "exec(compile(sys.stdin.read(), 'watch_workers.py', 'exec'), names)\n"
        "names['become'] = lambda user: None\n"
        "found = names['process_environment'](os.getpid())\n"
        "options = argparse.Namespace(seconds=9, directory='/', user='nobody')\n"
        "said = names['run_as_worker']('', [], sys.argv[1], found, options)\n"
        "names['tell'](sys.stdout, [found['WORD']] + said)\n"
    )
    done = subprocess.run(
        [interpreter, "-c", code, tmp_path],
        input=PROGRAM.encode(),
        capture_output=True,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C", "WORD": "p\u00e4ss"},
        check=False,
    )
    assert (done.stdout.decode(), done.stderr) == ("p\u00e4ss\n\np\u00e4ss\n\n", b"")


def test_the_environment_file_is_read_as_systemd_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what the role has escaped, and the digest, which has no quotes."""
    (tmp_path / "w1.env").write_text('# A comment.\nKEY="a \\"b\\" \\$c \\\\ = d"\nEMPTY=""\nCELERY_WORKER_DIGEST=0f\n')
    program = Host({}, {}, set()).program
    names = program.installed_environment.__globals__
    monkeypatch.setitem(names, "open", lambda path, mode: (tmp_path / Path(path).name).open(mode))
    assert program.installed_environment("w1") == {
        "KEY": 'a "b" $c \\ = d',
        "EMPTY": "",
        "CELERY_WORKER_DIGEST": "0f",
    }
    assert program.installed_environment("w2") == {}


def test_ansible_shows_the_message_line_by_line(tmp_path: Path) -> None:
    """Colours, tabs, control characters and emoji of a log would make one escaped piece of it."""
    lines = ["\x1b[31mred\x1b[0m", "\tafter a tab ", "a bell \x07, a rocket \U0001f680, a café", ""]
    said = Host({"w1": [ENDED]}, {"w1": lines}, set()).wait()[0]
    (tmp_path / "said").write_text(said)
    (tmp_path / "play.yml").write_text(
        "- hosts: localhost\n  gather_facts: false\n  tasks:\n    - name: Fail\n      ansible.builtin.assert:\n"
        f"        that: false\n        fail_msg: \"{{{{ lookup('ansible.builtin.file', '{tmp_path}/said') }}}}\"\n"
    )
    done = run_playbook(
        "--inventory", "localhost,", "--connection", "local", tmp_path / "play.yml", ANSIBLE_STDOUT_CALLBACK="phases"
    )
    shown = [line.strip() for line in done.stdout.splitlines()]
    assert {"red", "after a tab", "a bell ?, a rocket ?, a café"} <= set(shown)
    assert "\\n" not in done.stdout


@pytest.mark.parametrize("interpreter", [sys.executable, "python2.7"])
def test_the_program_runs_on_the_pythons_that_hosts_have(interpreter: str, tmp_path: Path) -> None:
    """Both files on one stdin, as the role gives them: what is wrong comes on stderr, as UTF-8 in any locale."""
    if shutil.which(interpreter) is None or subprocess.run([interpreter, "-c", ""], check=False).returncode:
        pytest.skip(f"there is no {interpreter}")
    properties = "\n".join(f"{key}={value}" for key, value in ENDED.items())
    log = "ValueError: caf\u00e9\nModuleNotFoundError: No module named 'psycopg2'"
    for name, text in (("systemctl", properties), ("journalctl", log)):
        (tmp_path / name).write_text(f"#!/bin/sh\ncat <<'EOF'\n{text}\nEOF\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    options = ["--app=proj", "--directory=/nowhere", "--virtualenv=/nowhere", "--user=nobody", "--seconds=60"]
    done = subprocess.run(
        [interpreter, "-", "await", "w-of-no-host", *options],
        input=PROGRAM.encode(),
        capture_output=True,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "LC_ALL": "C"},
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, b"")
    said = done.stderr.decode()
    assert said.startswith("The worker w-of-no-host does not answer: it has ended.")
    assert "\n    ValueError: caf\u00e9\n" in said
    assert "\nCelery says: ModuleNotFoundError: No module named 'psycopg2'\n" in said


def test_the_page_has_every_cause() -> None:
    """docs/worker-does-not-start.md names just the causes that there are, and says how many libraries are known."""
    page = (ROOT / "docs" / "worker-does-not-start.md").read_text()
    program = Host({}, {}, set()).program
    rows = re.findall(r"^\| ([a-z][^|]*) \|", page, re.MULTILINE)
    assert sorted(row for row in rows if row != "cause") == sorted(cause.name for cause in program.CAUSES)
    assert f"named for {len(program.DEBIAN_PACKAGES)} libraries" in page


STARTING = RUNNING | {"ActiveState": "activating", "SubState": "start"}


def test_beat_is_up_once_its_unit_has_started() -> None:
    """It answers no ping, and none is sent."""
    assert Host({"celery-beat": [STARTING, STARTING, RUNNING]}, {}, set()).wait() == []


def test_a_beat_that_has_ended_is_told_as_a_worker_is() -> None:
    """With its own unit and environment file."""
    log = ['  File "<frozen os>", line 679, in __getitem__', "KeyError: 'SECRET_KEY'"]
    assert Host({"celery-beat": [ENDED]}, {"celery-beat": log}, set()).wait() == [
        (
            "Beat does not start: it has ended. systemd says activating (auto-restart), exit-code, status 1.\n"
            "Why: the app reads SECRET_KEY from the environment, and the worker has no such variable. Give it in "
            "app_environment, or in this worker's `environment` (celery_worker_nodes); a secret belongs into a vault.\n"
            "The last lines of its log:\n"
            '      File "<frozen os>", line 679, in __getitem__\n'
            "    KeyError: 'SECRET_KEY'\n"
            "Celery says: KeyError: 'SECRET_KEY'\n"
            "Next, on worker1: grep --only-matching '^[A-Za-z_]*=' /etc/celery/celery-beat.env\n"
            "The whole log, on worker1: journalctl --unit=celery-beat.service"
        )
    ]


def test_a_beat_that_tries_in_vain_is_not_waited_for() -> None:
    """Its unit is still starting."""
    host = Host({"celery-beat": [STARTING]}, {"celery-beat": NOWHERE}, set())
    assert host.wait()[0].startswith("Beat does not start: it tries in vain. systemd says activating (start).\nWhy: ")
    assert host.now == 1000.0
